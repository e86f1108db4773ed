//go:build matrix

package matrix

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

var update = flag.Bool("update", false, "write the table of ftp/matrix/README.md instead of comparing it")

// client is a row: what it does in each cell, or why it cannot.
type client struct {
	name   string
	ascii  func([]byte) []byte // what it makes of a file before it sends it as ASCII; nil: nothing
	change func(*ftp.Options, *drop.Options)
	cells  map[string]func(*run)
	sent   map[string][]string // by cell: what it sends instead of what others do
	no     map[string]string   // by cell: the reason
	rest   string              // the reason for all other cells; empty: there are none
}

var clients = []*client{curl, lftp, ncftp, tnftp, inetutils, python, wput, filezilla, rclone, golang,
	windows, winscp, commander, camera, scanner, controller}

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "matrix")
	if err == nil {
		bigFile = filepath.Join(dir, "big.bin")
		err = os.WriteFile(bigFile, big, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	stopDisplay()
	os.RemoveAll(dir)
	os.Exit(code)
}

func TestMatrix(t *testing.T) {
	passed := &results{cells: map[string]bool{}}
	t.Run("clients", func(t *testing.T) {
		for _, cl := range clients {
			t.Run(cl.name, func(t *testing.T) {
				for _, c := range cells {
					action, reason := cl.cells[c.id], cl.reason(c.id)
					require.NotEqual(t, action == nil, reason == "", "%s needs either something to run, or a reason", c.id)
					if action == nil {
						continue
					}
					t.Run(c.id, func(t *testing.T) {
						t.Parallel()
						c.run(t, cl, action)
						passed.add(cl.name, c.id)
					})
				}
			})
		}
	})
	if t.Failed() {
		return // the table is of a run without a failure
	}
	checkTable(t, "table", table(t, passed))
}

func (cl *client) reason(cell string) string {
	if cl.cells[cell] != nil {
		return cl.no[cell]
	}
	return cmp.Or(cl.no[cell], cl.rest)
}

// results are the cells that have passed.
type results struct {
	mu    sync.Mutex
	cells map[string]bool
}

func (r *results) add(client, cell string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cells[client+"/"+cell] = true
}

// table is the result in Markdown: a row for each cell, and the reasons below.
func table(t *testing.T, passed *results) string {
	var b strings.Builder
	var notes []string
	numbers := map[string]int{}
	for _, part := range [][]*client{clients[:10], clients[10:]} {
		b.WriteString("| |")
		for _, cl := range part {
			b.WriteString(" " + cl.name + " |")
		}
		b.WriteString("\n|---|" + strings.Repeat(":---:|", len(part)) + "\n")
		for _, c := range cells {
			fmt.Fprintf(&b, "| %s |", c.title)
			for _, cl := range part {
				switch reason := cl.reason(c.id); {
				case passed.cells[cl.name+"/"+c.id]:
					b.WriteString(" ✓ |")
				case reason == notInDialogue:
					b.WriteString(" – |")
				default:
					if numbers[reason] == 0 {
						notes = append(notes, reason)
						numbers[reason] = len(notes)
					}
					fmt.Fprintf(&b, " n/a [%d] |", numbers[reason])
				}
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	for i, n := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, n)
	}
	return b.String()
}

const document = "README.md"

// checkTable compares a table with the one in the document, or puts it there.
func checkTable(t *testing.T, name, table string) {
	begin := "<!-- " + name + ": written by go test -tags matrix ./ftp/matrix -update -->\n"
	const end = "<!-- end of the table -->\n"
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "%s has no line %s", document, begin)
	old, after, ok := strings.Cut(rest, end)
	require.True(t, ok, "%s has no line %s", document, end)
	if *update {
		require.NoError(t, os.WriteFile(document, []byte(before+begin+table+end+after), 0o644))
		return
	}
	require.Equal(t, table, old, "run with -update and commit %s", document)
}

// exec runs a program that must be there, and must succeed. Its output is returned.
func (r *run) exec(input string, args ...string) string {
	r.t.Helper()
	cmd, out := r.command(input, args...)
	err := cmd.Run()
	require.NoError(r.t, err, "%s", out)
	return out.String()
}

func (r *run) command(input string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	r.t.Helper()
	path, err := exec.LookPath(args[0])
	require.NoError(r.t, err, "%s is needed for this test", args[0])
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	r.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Dir = r.dir
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "HOME="+r.dir, "LC_ALL=C.UTF-8", "no_proxy=*", "TERM=dumb")
	// With its children, which hold the output and the connections.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

// kill runs a program that uploads slowly, and kills it in mid-upload.
func (r *run) kill(input string, args ...string) {
	r.t.Helper()
	cmd, out := r.command(input, args...)
	require.NoError(r.t, cmd.Start())
	require.Eventually(r.t, func() bool { return r.node.drop.Usage().Partial.Bytes > 0 }, patience, time.Millisecond, "%v sends", args)
	require.NoError(r.t, cmd.Cancel())
	require.Error(r.t, cmd.Wait(), "%s", out)
	r.interrupted()
}

// interrupted waits until the server has seen that the upload will not go on.
func (r *run) interrupted() {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return strings.Contains(r.node.log.String(), "session ended") }, patience, time.Millisecond)
}

// url is a file's address, for clients that take one.
func (r *run) url(name string) string {
	return fmt.Sprintf("ftp://dock:pass@%s/%s", r.node.addr, name)
}

// waitForDelivery is for a client's shell: it returns when the file that the client has sent is delivered.
func (r *run) waitForDelivery() string {
	marker := filepath.Join(r.dir, "delivered")
	go func() {
		for r.t.Context().Err() == nil {
			if len(r.node.taker.got()) > 0 && r.node.drop.Usage().Waiting.Files == 0 {
				os.WriteFile(marker, nil, 0o644)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return "while ! test -e " + marker + "; do sleep 0.02; done"
}

// with is for a cell that takes one call of a helper.
func with[T any](helper func(*run, ...T) string, args ...T) func(*run) {
	return func(r *run) { helper(r, args...) }
}

// crlf is what clients make of line ends that send text as RFC 959 has it.
func crlf(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }
