//go:build world

package world

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	patience    = 2 * time.Minute
	settle      = time.Second
	stall       = 20 * time.Second
	nodeAddress = "10.78.0.1"
	parallel    = 8
)

var (
	runs = flag.Int("runs", 20, "how often each client does each thing")
	only = flag.String("situations", "", "the situations whose names contain this")
)

// situation is a network and a disk.
type situation struct {
	name   string
	sync   string
	rules  string // of iptables, in each namespace
	delays bool
}

const loss = "iptables -A INPUT -m statistic --mode random --probability 0.03 -j DROP\n"

// What can become of an upload.
const (
	before      = "interrupted before the 226"
	read        = "226, read: sent"
	interrupted = "226, interrupted: taken back"
	doubtful    = "226, doubtful: held"
	other       = "no verdict"
)

var outcomes = []string{before, read, interrupted, doubtful, other}

func TestWorld(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "\n| situation | client | %s | no 226 read |\n|---|---|---|---|---|---|---|---|\n", strings.Join(outcomes, " | "))
	for _, disk := range []string{"100us", "20ms"} {
		for _, s := range []situation{
			{name: "clean", sync: disk},
			{name: "3 % loss", sync: disk, rules: loss},
			{name: "50 ms on the control connection", sync: disk, delays: true},
		} {
			s.name += ", syncs in " + disk
			if !strings.Contains(s.name, *only) {
				continue
			}
			t.Run(s.name, func(t *testing.T) {
				for _, r := range s.count(t) {
					fmt.Fprintf(&table, "| %s | %s |", s.name, r.client)
					for _, o := range outcomes {
						fmt.Fprintf(&table, " %d |", r.became[o])
					}
					fmt.Fprintf(&table, " %d |\n", r.without226)
				}
			})
		}
	}
	t.Log(table.String())
}

// row is how often what became of a client's uploads.
type row struct {
	client     string
	became     map[string]int
	without226 int // whole uploads whose client read no 226
}

// count runs each client.
func (s situation) count(t *testing.T) (rows []row) {
	n := newNetwork(t, s)
	n.start(s.sync)
	for _, mode := range []string{"plain", "TLS"} {
		for _, end := range []string{"killed", "aborted", "source broke",
			"complete, QUIT", "complete, closed", "complete, exit", "complete, reset", "complete, holds"} {
			r := row{client: end + ", " + mode, became: make(map[string]int)}
			var mu sync.Mutex
			var names []string
			var running sync.WaitGroup
			slots := make(chan struct{}, parallel)
			for i := range *runs {
				name := fmt.Sprintf("%s-%d", strings.NewReplacer(", ", "-", " ", "-").Replace(r.client), i)
				slots <- struct{}{}
				running.Go(func() {
					defer func() { <-slots }()
					out, code := n.client(end, name, mode)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case code == 1: // the connection did not get so far: nothing was asked
						t.Log(name, out)
						return
					case code == 2:
						r.without226++
					}
					names = append(names, name)
				})
			}
			running.Wait()
			require.NotEmpty(t, names)
			for _, name := range names {
				r.became[n.outcome(name)]++
			}
			rows = append(rows, r)
			if strings.HasPrefix(s.name, "clean") {
				switch {
				case !strings.HasPrefix(end, "complete"):
					require.Zero(t, r.became[read], "%s: a piece was taken as whole", r.client)
				case end != "complete, reset":
					require.Equal(t, len(names), r.became[read], "%s: %v", r.client, r.became)
				}
			}
		}
	}
	return rows
}

// network is two namespaces and a wire.
type network struct {
	t      *testing.T
	prefix string

	mu     sync.Mutex
	became map[string]string
	news   *sync.Cond
	ready  chan struct{}
}

func newNetwork(t *testing.T, s situation) *network {
	t.Helper()
	for _, tool := range []string{"ip", "iptables"} {
		_, err := exec.LookPath(tool)
		require.NoError(t, err, "%s is needed for this test", tool)
	}
	n := &network{t: t, prefix: fmt.Sprintf("ftpnode-world-%d-", os.Getpid()), became: make(map[string]string), ready: make(chan struct{})}
	n.news = sync.NewCond(&n.mu)
	for _, place := range []string{"node", "client"} {
		n.must("ip", "netns", "add", n.prefix+place)
		t.Cleanup(func() { n.must("ip", "netns", "delete", n.prefix+place) })
	}
	n.must("ip", "link", "add", "eth0", "netns", n.prefix+"node", "type", "veth", "peer", "name", "eth0", "netns", n.prefix+"client")
	for place, address := range map[string]string{"node": nodeAddress, "client": "10.78.0.2"} {
		script := "ip link set lo up\nip link set eth0 up\nip addr add " + address + "/24 dev eth0\n" + s.rules
		if s.delays && place == "node" {
			script += "iptables -A INPUT -p tcp --dport 2121 -j NFQUEUE --queue-num 1\niptables -A OUTPUT -p tcp --sport 2121 -j NFQUEUE --queue-num 1\n"
		}
		n.must("ip", "netns", "exec", n.prefix+place, "sh", "-ec", script)
	}
	if s.delays {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		failed := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
			f, err := os.Open("/var/run/netns/" + n.prefix + "node")
			if err == nil {
				defer f.Close()
				err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
			}
			if err == nil {
				err = delay(ctx, 1, 50*time.Millisecond)
			}
			failed <- err
		}()
		require.NoError(t, <-failed)
	}
	return n
}

func (n *network) must(program string, args ...string) {
	n.t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	require.NoError(n.t, err, "%s %q (it takes root): %s", program, args, out)
}

// command is this program in a role, in the namespace of that name.
func (n *network) command(as string, args ...string) *exec.Cmd {
	n.t.Helper()
	self, err := os.Executable()
	require.NoError(n.t, err)
	cmd := exec.Command("ip", append([]string{"netns", "exec", n.prefix + as, self}, args...)...)
	cmd.Env = append(os.Environ(), role+"="+as)
	return cmd
}

// start starts the node, which is killed when the test ends.
func (n *network) start(sync string) {
	n.t.Helper()
	cmd := n.command("node", n.t.TempDir(), sync)
	out, err := cmd.StdoutPipe()
	require.NoError(n.t, err)
	var failed bytes.Buffer
	cmd.Stderr = &failed
	require.NoError(n.t, cmd.Start())
	read := make(chan struct{})
	n.t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
	})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n.note(lines.Bytes())
		}
	}()
	select {
	case <-n.ready:
	case <-read:
		require.Fail(n.t, "the node ended", failed.String())
	case <-time.After(patience):
		require.Fail(n.t, "the node does not start")
	}
}

// note takes a line of the node's log.
func (n *network) note(line []byte) {
	var l struct{ Msg, File, Name string }
	if json.Unmarshal(line, &l) != nil {
		return
	}
	outcome, name := "", l.File
	switch l.Msg {
	case "ready":
		close(n.ready)
		return
	case "upload interrupted, kept for resuming", "upload interrupted before its first byte":
		outcome, name = before, l.Name
	case "the client has read the reply":
		outcome = read
	case "an acknowledged upload was interrupted":
		outcome = interrupted
	case "an acknowledged upload is in doubt":
		outcome = doubtful
	default:
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.became[name] = outcome
	n.news.Broadcast()
}

// outcome waits for what becomes of an upload.
func (n *network) outcome(name string) string {
	late := time.AfterFunc(2*stall, func() { n.news.Broadcast() })
	defer late.Stop()
	end := time.Now().Add(2 * stall)
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.became[name] == "" && time.Now().Before(end) {
		n.news.Wait()
	}
	if n.became[name] == "" {
		n.t.Log("no verdict: ", name, slices.Sorted(maps.Keys(n.became)))
		return other
	}
	return n.became[name]
}

// client runs a client to its end.
func (n *network) client(args ...string) (out string, code int) {
	cmd := n.command("client", args...)
	b, _ := cmd.CombinedOutput()
	return string(b), cmd.ProcessState.ExitCode()
}
