package node_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/awsenv"
	"github.com/ftpnode/ftpnode/internal/logtest"
	"github.com/ftpnode/ftpnode/internal/outagetest"
)

// noteConfig is the config of a node that takes notes: a device sends "NAME LENGTH" and the bytes, and reads "ok" when they are in the outbox, or
// what went wrong. While no definition is known it reads "later".
type noteConfig struct {
	Greeting string `json:"greeting"` // what a device reads first. By default, "hello"
}

func noteBridge() node.Bridge[noteConfig] {
	return node.Bridge[noteConfig]{
		Name: "notenode", MessageType: "echo.file",
		Address: func(getenv func(string) string) string { return getenv("NOTENODE_ADDR") },
		Schema:  `{"type": "object", "properties": {"greeting": {"type": "string", "maxLength": 20, "default": "hello", "examples": ["hi"]}}}`,
		Check: func(c *noteConfig, r *nodeconfig.Report) {
			if c.Greeting == "ok" {
				r.Reject("greeting", &c.Greeting, "a device would take it for a reply", "write another one")
			}
		},
		Serve: func(ctx context.Context, n *node.Node, c noteConfig) error {
			return takeNotes(ctx, n, c.Greeting, take)
		},
		Refuse: func(ctx context.Context, n *node.Node, c noteConfig) error { return takeNotes(ctx, n, "later", nil) },
		Compose: func(ctx context.Context, n *node.Node, _ noteConfig, e outbox.Entry, open func() (disk.File, error)) (node.Message, error) {
			m, err := (&echofile.Composer{Upload: n.Bulk(false).Upload, Now: n.Now}).Compose(ctx, e, open, echofile.Origin{})
			return node.Message(m), err
		},
	}
}

// takeNotes greets devices and, unless take is nil, takes one note of each.
func takeNotes(ctx context.Context, n *node.Node, greeting string, take func(*node.Node, string, io.Reader) error) error {
	listener, err := n.Listener()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	n.Log.Info("notes are taken", "address", listener.Addr(), "greeting", greeting)
	var devices sync.WaitGroup
	defer devices.Wait()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		n.Log.Debug("a device comes", "from", conn.RemoteAddr())
		devices.Go(func() {
			defer conn.Close()
			fmt.Fprintln(conn, greeting)
			var name string
			var length int64
			in := bufio.NewReader(conn)
			if _, err := fmt.Fscanf(in, "%s %d\n", &name, &length); err != nil || take == nil {
				return
			}
			if err := take(n, name, io.LimitReader(in, length)); err != nil {
				fmt.Fprintln(conn, err)
				return
			}
			fmt.Fprintln(conn, "ok")
		})
	}
}

// take puts a note into the outbox.
func take(n *node.Node, name string, content io.Reader) error {
	if err := disk.MkdirAll(n.Volume, "in", 0o750); err != nil {
		return err
	}
	item := outbox.Item{Path: path.Join("in", name), Name: name}
	f, err := n.Volume.OpenFile(item.Path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		f.Close()
		return err
	}
	item.File = f
	entries, errs := n.Outbox.Put(context.Background(), []outbox.Item{item})
	if errs[0] == nil {
		n.Log.Info("File accepted", "trackingId", entries[0].ID, "name", name)
	}
	return errs[0]
}

// outage runs a test with a node that works, in fake time. Its devices need no network.
func outage(t *testing.T, test func(*outagetest.Rig)) {
	outageOf(t, func(ctx context.Context) { <-ctx.Done() }, test)
}

// outageOf is outage with a bridge that serves until served returns.
func outageOf(t *testing.T, served func(context.Context), test func(*outagetest.Rig)) {
	outagetest.Run(t, outagetest.Bridge{
		Run: func(ctx context.Context, opts node.Options, serving func(*node.Node, func(string, int64) error)) error {
			b := noteBridge()
			b.Address, b.Refuse = nil, nil
			b.Serve = func(ctx context.Context, n *node.Node, _ noteConfig) error {
				serving(n, func(name string, size int64) error { return take(n, name, outagetest.Pattern(size)) })
				served(ctx)
				return nil
			}
			return node.Run(ctx, b, opts)
		},
	}, test)
}

// quick has everything tried often: tests wait for what comes of it.
var quick = node.Pace{
	FirstRetry: 10 * time.Millisecond, LastRetry: 100 * time.Millisecond, SlowRetry: 200 * time.Millisecond,
	Poll: 100 * time.Millisecond, PollIdle: 50 * time.Millisecond, Patience: 2 * time.Second,
}

const waitFor, tick = 30 * time.Second, 10 * time.Millisecond

// rig is a cloud with a node, which can be stopped and started on the same volume.
type rig struct {
	t      *testing.T
	cloud  *echotest.Cloud
	env    map[string]string
	log    *logtest.Buffer
	bridge node.Bridge[noteConfig]

	stop func() // the node that runs; nil if none does
}

func newRig(t *testing.T, opts echotest.Options) *rig {
	cloud := echotest.NewCloud(opts)
	t.Cleanup(cloud.Close)
	r := &rig{t: t, cloud: cloud, env: cloud.Environment(), log: &logtest.Buffer{}, bridge: noteBridge()}
	r.env["NOTENODE_DATA"] = t.TempDir()
	r.env["NOTENODE_ADDR"] = "127.0.0.1:0"
	t.Cleanup(func() {
		r.shutdown()
		r.log.Check(t, r.env["PASSWORD"])
	})
	return r
}

func (r *rig) dir() string { return r.env["NOTENODE_DATA"] }

func (r *rig) getenv(name string) string { return r.env[name] }

// options are those of the node.
func (r *rig) options() node.Options {
	return node.Options{Getenv: r.getenv, Stdout: r.log, Pace: quick, Client: echostream.Options{AWS: awsenv.Options(r.env)}}
}

// start runs the node and waits until it takes notes, or refuses them; the log begins anew.
func (r *rig) start() *rig {
	r.t.Helper()
	r.begin()
	r.log.Wait(r.t, "notes are taken")
	return r
}

// begin runs the node.
func (r *rig) begin() {
	require.Nil(r.t, r.stop, "it runs already")
	r.log.Reset()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, r.bridge, r.options()) }()
	r.stop = func() {
		cancel()
		select {
		case err := <-ended:
			assert.NoError(r.t, err)
		case <-time.After(waitFor):
			assert.Fail(r.t, "the node does not stop")
		}
	}
}

// shutdown stops the node, if it runs.
func (r *rig) shutdown() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// address is where notes were taken last.
func (r *rig) address() string {
	lines := r.log.Find("notes are taken")
	require.NotEmpty(r.t, lines)
	_, address, _ := strings.Cut(lines[len(lines)-1], "address=")
	return strings.Fields(address)[0]
}

// note hands a note over, and returns what the device reads.
func (r *rig) note(name, content string) (greeting, answer string) {
	r.t.Helper()
	conn, err := net.DialTimeout("tcp", r.address(), waitFor)
	require.NoError(r.t, err)
	defer conn.Close()
	require.NoError(r.t, conn.SetDeadline(time.Now().Add(waitFor)))
	fmt.Fprintf(conn, "%s %d\n%s", name, len(content), content)
	in := bufio.NewReader(conn)
	greeting, err = in.ReadString('\n')
	require.NoError(r.t, err)
	answer, _ = in.ReadString('\n')
	return strings.TrimSpace(greeting), strings.TrimSpace(answer)
}

// taken hands a note over, which the node takes.
func (r *rig) taken(name, content string) {
	r.t.Helper()
	_, answer := r.note(name, content)
	require.Equal(r.t, "ok", answer)
}

// refused wants notes not to be taken.
func (r *rig) refused() {
	r.t.Helper()
	greeting, answer := r.note("refused", "x")
	assert.Equal(r.t, "later", greeting)
	assert.Empty(r.t, answer)
}

// arrived waits for n messages on an edge.
func (r *rig) arrived(edge string, n int) []echotest.Received {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*waitFor)
	defer cancel()
	messages, err := r.cloud.WaitMessages(ctx, edge, n)
	require.NoError(r.t, err, "%s", r.log)
	return messages
}

// settled waits until the node has nothing left to deliver: then what has not arrived never will.
func (r *rig) settled(delivered int) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return len(r.log.Find("File delivered")) >= delivered }, waitFor, tick, "%s", r.log)
}

// names are those of an edge's messages, in order.
func (r *rig) names(edge string) (names []string) {
	for _, m := range r.cloud.Messages(edge) {
		f, err := r.cloud.Decode(r.t.Context(), m, io.Discard)
		require.NoError(r.t, err)
		names = append(names, f.Name)
	}
	return names
}

// healthcheck runs the program's health check, and returns what it says.
func (r *rig) healthcheck(dir, address string) (string, error) {
	var out bytes.Buffer
	err := node.Run(r.t.Context(), r.bridge, node.Options{
		Args: []string{"healthcheck"}, Stdout: &out,
		Getenv: func(name string) string {
			return map[string]string{"NOTENODE_DATA": dir, "NOTENODE_ADDR": address}[name]
		},
	})
	return out.String(), err
}
