//go:build world

package world

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	patience    = 2 * time.Minute
	settle      = time.Second
	stall       = 20 * time.Second
	nodeAddress = "10.78.0.1"

	relayAddress = "127.0.0.1"
	passivePort  = 30000 // the first
	passivePorts = 2 * parallel
	parallel     = 8
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
	relay  bool // docker-proxy stands between: it ends TCP, and answers for its client
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
	var situations []string
	cells := make(map[string][]string) // by client
	var clients []string
	for _, disk := range []string{"100us", "20ms"} {
		for _, s := range []situation{
			{name: "clean", sync: disk},
			{name: "3 % loss", sync: disk, rules: loss},
			{name: "50 ms on the control connection", sync: disk, delays: true},
			{name: "docker-proxy", sync: disk, relay: true},
		} {
			s.name += ", syncs in " + disk
			if !strings.Contains(s.name, *only) {
				continue
			}
			t.Run(s.name, func(t *testing.T) {
				situations = append(situations, s.name)
				for _, r := range s.count(t) {
					if cells[r.client] == nil {
						clients = append(clients, r.client)
					}
					var cell []string
					for _, o := range outcomes {
						cell = append(cell, fmt.Sprint(r.became[o]))
					}
					cells[r.client] = append(cells[r.client], strings.Join(cell, " "))
				}
			})
		}
	}
	var table strings.Builder
	fmt.Fprintf(&table, "\n%s\n\n| client | %s |\n|---%s|\n", strings.Join(outcomes, " · "), strings.Join(situations, " | "), strings.Repeat("|---", len(situations)))
	for _, client := range clients {
		fmt.Fprintf(&table, "| %s | %s |\n", client, strings.Join(cells[client], " | "))
	}
	t.Log(table.String())
}

// row is how often what became of a client's uploads.
type row struct {
	client string
	became map[string]int
}

// count runs each client.
func (s situation) count(t *testing.T) (rows []row) {
	n := newNetwork(t, s)
	n.start(s.sync)
	if s.relay {
		n.relay()
	}
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
					out, code := n.client(n.address, end, name, mode)
					mu.Lock()
					defer mu.Unlock()
					if code == 1 { // the connection did not get so far: nothing was asked
						t.Log(name, out)
						return
					}
					assert.NotEqual(t, 2, code, "%s was whole, and got no 226: %s", name, out)
					names = append(names, name)
				})
			}
			running.Wait()
			require.NotEmpty(t, names)
			for _, name := range names {
				r.became[n.outcome(name)]++
			}
			rows = append(rows, r)
			// Without a relay, who is killed never acknowledges the 226. Who breaks off in good order may have read it, when a packet
			// is lost or late.
			if end == "killed" && !s.relay || !strings.HasPrefix(end, "complete") && strings.HasPrefix(s.name, "clean") {
				assert.Zero(t, r.became[read], "%s: a piece was taken as whole", r.client)
			}
			if strings.HasPrefix(end, "complete") && (end != "complete, reset" || s.relay) {
				assert.Equal(t, len(names), r.became[read], "%s: %v", r.client, r.became)
			}
			assert.Zero(t, r.became[other], r.client)
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

	address string         // by which clients reach the node
	storing map[int]string // of note: the upload that a session has begun and not finished
}

func newNetwork(t *testing.T, s situation) *network {
	t.Helper()
	for _, tool := range []string{"ip", "iptables"} {
		_, err := exec.LookPath(tool)
		require.NoError(t, err, "%s is needed for this test", tool)
	}
	n := &network{t: t, prefix: fmt.Sprintf("ftpnode-world-%d-", os.Getpid()), became: make(map[string]string), ready: make(chan struct{}), address: nodeAddress, storing: make(map[int]string)}
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

// relay starts docker-proxy, as an engine does for each port that is published, until the test ends: clients reach the node by it.
func (n *network) relay() {
	n.t.Helper()
	for port := range passivePorts + 1 {
		port += passivePort
		if port == passivePort+passivePorts {
			port = 2121
		}
		ready, done, err := os.Pipe()
		require.NoError(n.t, err)
		cmd := exec.Command("ip", "netns", "exec", n.prefix+"client", "docker-proxy", "-proto", "tcp", "-host-ip", relayAddress, "-host-port", fmt.Sprint(port),
			"-container-ip", nodeAddress, "-container-port", fmt.Sprint(port))
		cmd.ExtraFiles = []*os.File{done}
		require.NoError(n.t, cmd.Start())
		n.t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		done.Close()
		said, err := io.ReadAll(io.LimitReader(ready, 2))
		require.NoError(n.t, err)
		require.Equal(n.t, "0\n", string(said), "docker-proxy is needed for this test, and serves port %d", port)
		ready.Close()
	}
	n.address = relayAddress
}

// note takes a line of the node's log.
func (n *network) note(line []byte) {
	var l struct {
		Msg, File, Name, Verb, Argument string
		Session                         int
	}
	if json.Unmarshal(line, &l) != nil {
		return
	}
	outcome, name := "", l.File
	switch l.Msg {
	case "ready":
		close(n.ready)
		return
	case "command":
		if l.Verb == "STOR" {
			n.storing[l.Session] = l.Argument
		}
		return
	case "upload finished": // a verdict follows
		delete(n.storing, l.Session)
		return
	case "session ended": // before its data connection was accepted, or with a line of its own
		name = n.storing[l.Session]
		if name == "" {
			return
		}
		outcome = before
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
