package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/internal/program"
)

// tool is a client of others, of which only the exit code is known: curl or lftp.
type tool struct {
	name    string // its user, too
	host    string
	dir     string // for its files
	random  *rand.Rand
	ledger  *ledger
	command func(*tool, string, string) *exec.Cmd
}

func curl(t *tool, from, to string) *exec.Cmd {
	args := []string{"-q", "--silent", "--max-time", "20", "--user", t.name + ":" + password, "--upload-file", from}
	if t.random.IntN(3) == 0 {
		args = append(args, "--ssl-reqd", "--insecure")
	}
	if t.random.IntN(3) == 0 {
		args = append(args, "--disable-epsv")
	}
	return exec.Command("curl", append(args, "ftp://"+t.host+"/"+to)...)
}

func lftp(t *tool, from, to string) *exec.Cmd {
	script := fmt.Sprintf("debug -o %s -t 9; set net:max-retries 1; set net:timeout 15; set net:reconnect-interval-base 1; "+
		"set net:reconnect-interval-multiplier 1; set ftp:ssl-allow no; set cmd:fail-exit yes; "+
		"open -u %s,%s ftp://%s; put %s -o %s", filepath.Join(t.dir, "lftp.log"), t.name, password, t.host, from, to)
	cmd := exec.Command("lftp", "--norc", "-c", script)
	cmd.Env = append(os.Environ(), "HOME="+t.dir, "LFTP_HOME="+t.dir)
	return cmd
}

// run uploads one file after the other until stop is closed, and gives up when ctx ends.
func (t *tool) run(ctx context.Context, stop <-chan struct{}) {
	for number := 1; ctx.Err() == nil; number++ {
		select {
		case <-stop:
			return
		default:
		}
		if err := t.upload(ctx, number); err != nil {
			t.ledger.violate("%s cannot be run: %v", t.name, err)
			return
		}
	}
}

func (t *tool) upload(ctx context.Context, number int) error {
	name := fmt.Sprintf("%s-%06d.dat", t.name, number)
	size := t.random.IntN(8_000)
	if t.random.IntN(4) == 0 {
		size = 100_000 + t.random.IntN(600_000)
	}
	bytes := content(fmt.Sprintf("%s %d", name, t.random.Uint64()), size, t.random)
	f := t.ledger.add(&file{what: t.name + " upload", names: []string{name}}, bytes)
	local := filepath.Join(t.dir, name)
	if err := os.WriteFile(local, bytes, 0o600); err != nil {
		return err
	}
	defer os.Remove(local)
	defer t.noteShortened(f, bytes)
	for range tries {
		cmd := t.command(t, local, name)
		began := time.Now()
		if err := runOrKill(ctx, cmd); err != nil {
			return err
		}
		f.wholes++ // who knows
		if cmd.ProcessState.Success() {
			f.acked, f.from, f.to = true, began, time.Now()
			return nil
		}
		if ctx.Err() != nil || t.random.IntN(8) == 0 {
			break
		}
		pause(ctx, 20*time.Millisecond)
	}
	f.leftover = append(f.leftover, name)
	return nil
}

// noteShortened notes how often lftp has read 226 for an upload of a file more than once. When its connection was lost at the
// end of an upload, lftp 4.9 may end the data connection of its next try after a piece, by itself, read the 226 for that, and send
// the file once more. It was alive and said no ALLO: for the node such a piece is an upload as complete as any. So is the whole file that it sends
// again, by itself, when it loses its connection between the 226 and the reply to its MFMT.
func (t *tool) noteShortened(f *file, bytes []byte) {
	log, err := os.ReadFile(filepath.Join(t.dir, "lftp.log"))
	if err != nil {
		return // not lftp
	}
	if n := acknowledged(string(log), f.names[0]); n > 0 {
		f.content, f.pieces = bytes, n
		f.wholes = max(f.wholes, n)
	}
}

// acknowledged is how many uploads of name lftp has ended by itself, by its log, and has a 226 for, or no reply, or one that it comes too late.
func acknowledged(log, name string) (n int) {
	for command := range strings.SplitSeq(log, "---> ") {
		first, replies, _ := strings.Cut(command, "\n")
		_, ended, ok := strings.Cut(replies, " Ok to send data.\n")
		if first != "STOR "+name || !ok || !endedByItself.MatchString(ended) {
			continue
		}
		n++
	}
	return n
}

// endedByItself is what stands in lftp's log behind the 150: nothing has broken when it closes its data connection.
var endedByItself = regexp.MustCompile(`^.*---- Closing data socket\n.*(<--- (226|451) |\*\*\*\* Peer closed connection)`)

// runOrKill runs a command to its end, or kills it when ctx ends. The error says that it could not be started.
func runOrKill(ctx context.Context, cmd *exec.Cmd) error {
	program.OwnGroup(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	_ = cmd.Wait() // ProcessState tells
	return nil
}
