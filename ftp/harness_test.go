package ftp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/guard"
)

const patience = 20 * time.Second

// receiver is where the outbox sends, if a test runs it.
type receiver struct{ got chan string }

func (r receiver) Targets() []string { return []string{"receiver"} }

func (r receiver) Prepare(context.Context, outbox.Entry, func() (disk.File, error)) (any, error) {
	return nil, nil
}

func (r receiver) Send(_ context.Context, _ string, batch []outbox.Prepared) []error {
	for _, p := range batch {
		r.got <- p.Entry.Name
	}
	return make([]error, len(batch))
}

func (r receiver) Audit(_ context.Context, batch []outbox.Prepared) []error {
	return make([]error, len(batch))
}

// slowDisk syncs files when the gate is open.
type slowDisk struct {
	disk.FS
	gate chan struct{}
}

func (d slowDisk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	return slowFile{f, d.gate}, err
}

type slowFile struct {
	disk.File
	gate chan struct{}
}

func (f slowFile) Sync() error {
	<-f.gate
	return f.File.Sync()
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// node is a server under test on loopback, with one user "dock", password "pass", who may read, and "blind", who may not.
type node struct {
	*Server
	dir    string // the volume
	addr   string
	log    *syncBuffer
	drop   *drop.Drop
	box    *outbox.Outbox // does not run: what is finished stays in it
	got    chan string    // names, if it does
	cancel context.CancelFunc
	served chan error
}

// logger is of all that is said.
func (n *node) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start serves on the network address ("127.0.0.1:0" by default) with options that change may adjust.
func start(t testing.TB, change func(*Options, *drop.Options)) *node {
	t.Helper()
	n := &node{dir: t.TempDir(), log: &syncBuffer{}, served: make(chan error, 1)}
	volume, err := disk.Open(n.dir)
	require.NoError(t, err)
	log := n.logger()
	n.got = make(chan string, 10)
	n.box, err = outbox.Open(outbox.Options{FS: volume, Deliverer: receiver{n.got}, Log: log})
	require.NoError(t, err)
	files := drop.Options{FS: volume, Outbox: n.box, Log: log, Settle: time.Hour, MinFree: -1}
	files.Describe = func(drop.File) (string, json.RawMessage) { return "", nil }
	opts := Options{
		Users: []User{{Name: "dock", Password: "pass", Readable: true}, {Name: "blind", Password: "pass"}},
		Log:   log, Settle: time.Hour,
		guard: guard.Options{Delay: time.Millisecond},
	}
	if change != nil {
		change(&opts, &files)
	}
	n.drop, err = drop.Open(files)
	require.NoError(t, err)
	if opts.Backend == nil {
		files := newMaildrop(n.drop, nil)
		for _, u := range opts.Users {
			_, _ = files.user(u.Name) // its directory is there from the start, if it can be
		}
		opts.Backend = files
	}
	if opts.Listener == nil {
		opts.Listener, err = net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
	}
	if opts.TLS != "" && opts.CertificateFS == nil {
		opts.CertificateFS = volume
	}
	n.addr = opts.Listener.Addr().String()
	n.Server, err = New(opts)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.served <- n.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		n.Close()
		select {
		case err := <-n.served:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("Serve does not return")
		}
		require.NoError(t, n.box.Close())
		volume.Close()
		if t.Failed() {
			t.Log(n.log.String())
		}
	})
	return n
}

func (n *node) port() string {
	_, port, _ := net.SplitHostPort(n.addr)
	return port
}

func (n *node) url(name string) string { return fmt.Sprintf("ftp://dock:pass@%s/%s", n.addr, name) }

// folder is where a folder of dock stands, or a file of another program.
func (n *node) folder(name string) string { return filepath.Join(n.dir, "drop", "dock", name) }

// stored is where the newest version of a finished file of a user stands; "" if there is none.
func (n *node) stored(user, name string) string {
	e, ok := n.box.Lookup(user + "/" + name)
	if !ok {
		return ""
	}
	return filepath.Join(n.dir, e.Path)
}

// requireFile waits for nothing: after the client's 226 the file is there.
func (n *node) requireFile(t testing.TB, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(n.stored("dock", name))
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "%s has %d bytes, or others; expected %d", name, len(got), len(want))
}

func (n *node) requireNoFile(t testing.TB, name string) {
	t.Helper()
	require.Empty(t, n.stored("dock", name))
	require.NoFileExists(t, n.folder(name))
}

// sent reports whether the upload of that name is to be sent: its file is finished, and its reply counts as read. It waits for the verdict.
func (n *node) sent(t testing.TB, name string) (sent bool) {
	t.Helper()
	eventually(t, func() bool {
		for line := range strings.Lines(n.log.String()) {
			switch {
			case strings.Contains(line, `msg="the client has read the reply"`) && strings.Contains(line, " file="+name+" "):
				sent = true
				return true
			case strings.Contains(line, `msg="an acknowledged upload `) && strings.Contains(line, " file="+name+" "),
				strings.Contains(line, `msg="upload interrupted`) && strings.Contains(line, " name="+name+" "):
				return true
			}
		}
		return n.stored("dock", name) == "" && n.sessionCount() == 0 // it did not begin
	}, "what becomes of %s", name)
	return sent
}

// requireInterrupted requires that the upload of that name is not sent, and that what came of it, at most so many bytes, can be resumed.
func (n *node) requireInterrupted(t testing.TB, name string, most int64) {
	t.Helper()
	require.False(t, n.sent(t, name))
	eventually(t, func() bool {
		list, err := n.drop.Interrupted()
		require.NoError(t, err)
		return n.drop.Usage().Waiting.Files == 0 && len(list) == 1 && list[0].Name == name && list[0].Size > 0 && list[0].Size <= most
	}, "%s can be resumed", name)
}

// sessions is how many there are.
func (n *node) sessionCount() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.Server.sessions)
}

func eventually(t testing.TB, condition func() bool, what string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, patience, 2*time.Millisecond, append([]any{what}, args...)...)
}

// client speaks the protocol line by line.
type client struct {
	t    testing.TB
	conn net.Conn
	text *textproto.Conn
}

func (n *node) dial(t testing.TB) *client {
	t.Helper()
	conn, err := net.Dial("tcp", n.addr)
	require.NoError(t, err)
	return wrap(t, conn)
}

func wrap(t testing.TB, conn net.Conn) *client {
	conn.SetDeadline(time.Now().Add(patience))
	c := &client{t: t, conn: conn, text: textproto.NewConn(conn)}
	t.Cleanup(func() { conn.Close() })
	return c
}

// connect reads the greeting and logs in.
func (n *node) login(t testing.TB) *client {
	t.Helper()
	c := n.dial(t)
	c.expect(220)
	c.login("dock", "pass")
	return c
}

func (c *client) login(user, password string) {
	c.t.Helper()
	c.do(331, "USER %s", user)
	c.do(230, "PASS %s", password)
}

func (c *client) send(format string, args ...any) {
	c.t.Helper()
	_, err := fmt.Fprintf(c.conn, format+"\r\n", args...)
	require.NoError(c.t, err)
}

// expect reads a reply with the code, and returns its text.
func (c *client) expect(code int) string {
	c.t.Helper()
	got, text, err := c.text.ReadResponse(code)
	require.NoError(c.t, err, "expected %d, got %d %s", code, got, text)
	return text
}

func (c *client) do(code int, format string, args ...any) string {
	c.t.Helper()
	c.send(format, args...)
	return c.expect(code)
}

// passive opens a data connection.
func (c *client) passive() *net.TCPConn {
	c.t.Helper()
	text := c.do(229, "EPSV")
	_, rest, _ := strings.Cut(text, "(|||")
	port, _, _ := strings.Cut(rest, "|")
	host, _, err := net.SplitHostPort(c.conn.RemoteAddr().String())
	require.NoError(c.t, err)
	return c.data(net.JoinHostPort(host, port))
}

func (c *client) data(addr string) *net.TCPConn {
	c.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: c.conn.LocalAddr().(*net.TCPAddr).IP}}
	conn, err := d.Dial("tcp", addr)
	require.NoError(c.t, err)
	conn.SetDeadline(time.Now().Add(patience))
	c.t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// store uploads and returns the reply's text.
func (c *client) store(name string, content []byte) string {
	c.t.Helper()
	return c.upload(226, "STOR "+name, content)
}

func (c *client) upload(code int, command string, content []byte) string {
	c.t.Helper()
	data := c.passive()
	c.do(150, "%s", command)
	_, err := data.Write(content)
	require.NoError(c.t, err)
	require.NoError(c.t, data.Close())
	return c.expect(code)
}

// arrived waits until all that was sent has arrived, also while a transfer is under way: STAT is answered meanwhile.
func (c *client) arrived() {
	c.t.Helper()
	c.send("STAT")
	for {
		code, _, err := c.text.ReadResponse(0)
		require.NoError(c.t, err)
		if code == 211 {
			return
		}
	}
}

// fetch is for RETR, LIST and their like.
func (c *client) fetch(command string, args ...any) string {
	c.t.Helper()
	data := c.passive()
	c.do(150, command, args...)
	var b bytes.Buffer
	_, err := b.ReadFrom(data)
	require.NoError(c.t, err)
	c.expect(226)
	return b.String()
}

// refused is for transfers that do not begin.
func (c *client) refused(code int, command string, args ...any) string {
	c.t.Helper()
	data := c.passive()
	defer data.Close()
	return c.do(code, command, args...)
}

// requireClosed waits for the server to hang up.
func (c *client) requireClosed() {
	c.t.Helper()
	_, err := c.text.ReadLine()
	require.Error(c.t, err)
}

// run runs an external program, which must be there, and returns its output.
func run(t testing.TB, dir, program string, args ...string) (string, error) {
	t.Helper()
	return runWith(t, dir, "", program, args...)
}

func runWith(t testing.TB, dir, input, program string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(program)
	require.NoError(t, err, "%s is needed for this test", program)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "HOME="+dir, "LC_ALL=C.UTF-8", "no_proxy=*")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// noise is n bytes that any conversion would change.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = "\r\n\x00\xff\n\r\x1a\r\r\nabcdefg"[(i*7+i/17)%17]
	}
	return b
}

func portOf(t testing.TB, addr string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	return n
}
