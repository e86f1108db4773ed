package ftp

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/freeport"
)

// TestDefenceNoEscape tries all commands that take a name on all kinds of ways out of the user's directory: dots,
// absolute paths, another user's directory, and links that another program has planted.
func TestDefenceNoEscape(t *testing.T) {
	const secret = "the secret of someone else"
	n := start(t, func(o *Options, _ *drop.Options) { o.TrustHangups = true }) // quicker
	c := n.login(t)
	elsewhere := t.TempDir()
	for _, dir := range []string{elsewhere, n.dir, filepath.Join(n.dir, "drop", "blind")} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "target"), []byte(secret), 0o600))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o700))
	}
	require.NoError(t, os.Mkdir(n.folder("inside"), 0o700))
	for link, to := range map[string]string{
		"absolute": elsewhere, "relative": "../..", "user": "../blind", "root": "/", "inside/deep": "../../blind",
		"file": filepath.Join(elsewhere, "target"), "volume-file": "../../target", "dangling": filepath.Join(elsewhere, "new"), "loop": "loop",
	} {
		require.NoError(t, os.Symlink(to, n.folder(link)))
	}
	var names []string
	for _, dir := range []string{"..", "../..", "../blind", "/../blind", "//../../drop/blind", elsewhere, n.dir, "/etc", "absolute", "relative", "user", "root" + elsewhere, "inside/deep", "inside/../../blind", "./absolute/."} {
		for _, name := range []string{"", "/target", "/empty", "/new"} {
			names = append(names, dir+name)
		}
	}
	names = append(names, "file", "volume-file", "dangling", "loop", "/file", "inside/../file")

	before := snapshot(t, elsewhere, n.dir)
	for _, name := range names {
		for _, command := range []string{
			"SIZE", "MDTM", "MLST", "STAT", "DELE", "RMD", "MFMT 20200101000000", "SITE CHMOD 777", "SITE UTIME 20200101000000",
		} {
			c.send("%s %s", command, name)
			_, text, _ := c.text.ReadResponse(0)
			require.NotContains(t, text, secret, "%s %s", command, name)
		}
		for _, command := range []string{"RETR", "LIST", "NLST", "MLSD"} {
			c.requireNothingRead(command+" "+name, secret)
		}
		c.send("RNFR %s", name)
		if code, _, _ := c.text.ReadResponse(0); code == 350 {
			c.send("RNTO caught")
			c.text.ReadResponse(0)
		}
		c.send("CWD %s", name)
		if code, _, _ := c.text.ReadResponse(0); code == 250 {
			c.requireNothingRead("NLST", "target")
			c.requireNothingRead("RETR target", secret)
			c.do(250, "CWD /")
		}
	}
	require.Equal(t, before, snapshot(t, elsewhere, n.dir))

	// What makes something may make it below the user's directory, where /etc/new is a name as any other.
	for _, name := range names {
		for _, command := range []string{"MKD", "STOR", "APPE"} {
			c.tryUpload(command+" "+name, command != "MKD")
		}
		c.store("mine", []byte("mine"))
		c.do(350, "RNFR mine")
		c.send("RNTO %s", name)
		c.text.ReadResponse(0)
	}
	require.Equal(t, before, snapshot(t, elsewhere, n.dir))
	content, err := os.ReadFile(n.stored("dock", "mine"))
	if err == nil {
		require.Equal(t, "mine", string(content))
	}
}

// requireNothingRead runs a transfer to the client, which must not show the text.
func (c *client) requireNothingRead(command, text string) {
	c.t.Helper()
	data := c.passive()
	defer data.Close()
	c.send("%s", command)
	code, reply, _ := c.text.ReadResponse(0)
	require.NotContains(c.t, reply, text)
	if code != 150 {
		return
	}
	got, err := io.ReadAll(data)
	require.NoError(c.t, err)
	require.NotContains(c.t, string(got), text, "%s", command)
	c.text.ReadResponse(0)
}

// tryUpload runs a command that may be refused; if it is an upload that is not, it sends something.
func (c *client) tryUpload(command string, transfer bool) {
	c.t.Helper()
	if !transfer {
		c.send("%s", command)
		c.text.ReadResponse(0)
		return
	}
	data := c.passive()
	defer data.Close()
	c.send("%s", command)
	if code, _, _ := c.text.ReadResponse(0); code == 150 {
		data.Write([]byte("overwritten"))
		data.Close()
		c.text.ReadResponse(0)
	}
}

// snapshot is all that stands in the directories outside of dock's own, with content and times. What the server keeps of
// uploads that are not finished is its own.
func snapshot(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, dir := range dirs {
		require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if path == filepath.Join(dir, "drop", "dock") || path == filepath.Join(dir, "partial") || path == filepath.Join(dir, "outbox") {
				return filepath.SkipDir
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			found[path] = info.Mode().String()
			if info.Mode().IsRegular() {
				content, err := os.ReadFile(path)
				found[path] += fmt.Sprint(" ", info.ModTime(), " ", string(content))
				return err
			}
			return nil
		}))
	}
	return found
}

// values is a log that keeps what is logged before a handler quotes it.
type values struct {
	mu   sync.Mutex
	text []string
}

func (v *values) Enabled(context.Context, slog.Level) bool { return true }
func (v *values) WithGroup(string) slog.Handler            { return v }

func (v *values) WithAttrs(attrs []slog.Attr) slog.Handler {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range attrs {
		v.text = append(v.text, a.Value.String())
	}
	return v
}

func (v *values) Handle(_ context.Context, r slog.Record) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.text = append(v.text, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		v.text = append(v.text, a.Value.String())
		return true
	})
	return nil
}

func (v *values) all() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.Join(v.text, "\n")
}

// TestDefenceControlCharacters sends them in every command: they are neither echoed nor logged as they are, not even to a
// log that quotes nothing, and no file gets such a name.
func TestDefenceControlCharacters(t *testing.T) {
	log := &values{}
	n := start(t, func(o *Options, d *drop.Options) {
		o.Log = slog.New(log)
		d.Log = o.Log
		o.guard.Failures, o.guard.UserFailures = 1<<40, 1<<40
		o.guard.MaxDelay = 1
		o.StallTimeout = 50 * time.Millisecond
		o.TLS = TLSOptional
		o.MaxConnectionsPerAddress = 100
	})
	bad := []string{"\x00", "\x01", "\x07", "\x08", "\t", "\x0b", "\r", "\x1b[2J", "\x1b]0;owned\x07", "\x7f", "\r226 forged"}
	for verb := range n.verbs {
		if verb == "QUIT" || verb == "PASS" {
			continue
		}
		c := n.login(t)
		for _, b := range bad {
			for _, line := range []string{verb + " a" + b + "b", verb + " " + b, verb + b} {
				c.send("%s", line)
				_, text, err := c.text.ReadResponse(0)
				if err != nil && text == "" {
					require.NoError(t, err, "%q", line)
				}
				requirePlain(t, text, "the reply to %q", line)
			}
		}
		c.do(221, "QUIT")
	}
	for _, b := range bad {
		c := n.dial(t)
		c.expect(220)
		requirePlain(t, c.do(501, "USER do%sck", b), "USER")
		c.do(331, "USER dock")
		requirePlain(t, c.do(530, "PASS pa%sss", b), "PASS")
		requirePlain(t, c.do(500, "NO%sOP", b), "a verb")
	}
	requirePlain(t, log.all(), "the log")
	require.NotContains(t, log.all(), "forged\n")
	require.NoError(t, filepath.WalkDir(n.dir, func(path string, _ fs.DirEntry, err error) error {
		requirePlain(t, path, "a name")
		return err
	}))
}

// requirePlain allows line feeds only, which the tests join lines with.
func requirePlain(t *testing.T, text, what string, args ...any) {
	t.Helper()
	i := strings.IndexFunc(text, func(r rune) bool { return (r < ' ' && r != '\n') || r == 0x7f })
	if i >= 0 {
		require.Fail(t, "control characters in "+fmt.Sprintf(what, args...), "%q", text[max(0, i-100):min(len(text), i+100)])
	}
}

// TestDefenceNoBounce has a client ask the server to connect to others, who must not hear of it.
func TestDefenceNoBounce(t *testing.T) {
	victim, err := net.Listen("tcp", "127.0.0.9:0")
	require.NoError(t, err)
	defer victim.Close()
	called := make(chan struct{}, 1)
	go func() {
		if conn, err := victim.Accept(); err == nil {
			conn.Close()
			called <- struct{}{}
		}
	}()
	port := portOf(t, victim.Addr().String())
	commands := []string{
		fmt.Sprintf("PORT 127,0,0,9,%d,%d", port>>8, port&0xff), fmt.Sprintf("EPRT |1|127.0.0.9|%d|", port), fmt.Sprintf("EPRT |2|::ffff:127.0.0.9|%d|", port),
		"PORT 127,0,0,1,0,22", "EPRT |1|127.0.0.1|1023|", "PORT 127,0,0,1,0,0", "PORT 0,0,0,0,200,200", "EPRT |2|::|51400|", "PORT 255,255,255,255,200,200",
	}
	for _, active := range []bool{false, true} {
		n := start(t, func(o *Options, _ *drop.Options) {
			o.ActiveMode = active
			o.StallTimeout = 200 * time.Millisecond
		})
		c := n.login(t)
		for _, command := range commands {
			c.do(map[bool]int{false: 502, true: 504}[active], "%s", command)
			for _, transfer := range []string{"STOR x", "LIST", "RETR x"} {
				c.send("%s", transfer)
				code, _, _ := c.text.ReadResponse(0)
				require.GreaterOrEqual(t, code, 400, "%s after %s", transfer, command)
			}
		}
		c.do(200, "NOOP")
		n.requireNoFile(t, "x")
	}
	require.Empty(t, called)
}

// TestDefenceNoTheft has someone else come to the data ports first, for what is sent and for what is read.
func TestDefenceNoTheft(t *testing.T) {
	port := freeport.Range(t, 1)
	n := start(t, func(o *Options, _ *drop.Options) { o.PassivePorts = PortRange{port, port} })
	require.NoError(t, os.MkdirAll(n.folder(""), 0o700))
	require.NoError(t, os.WriteFile(n.folder("secret"), []byte("secret"), 0o600))
	steal := func(addr string) {
		thief, err := dialFrom("127.0.0.66", addr)
		require.NoError(t, err)
		defer thief.Close()
		thief.Write([]byte("forged"))
		got, _ := io.ReadAll(thief)
		require.Empty(t, got)
	}
	c := n.login(t)
	for i := range 20 {
		name := fmt.Sprint("file-", i)
		addr := pasvAddr(t, c.do(227, "PASV")).String()
		steal(addr)
		if i%2 == 0 { // also when the transfer already waits
			c.send("STOR %s", name)
			steal(addr)
		}
		data := c.data(addr)
		if i%2 == 1 {
			c.send("STOR %s", name)
		}
		c.expect(150)
		_, err := data.Write(noise(1000 + i))
		require.NoError(t, err)
		data.Close()
		c.expect(226)
		n.requireFile(t, name, noise(1000+i))

		addr = pasvAddr(t, c.do(227, "PASV")).String()
		c.send("RETR secret")
		steal(addr)
		data = c.data(addr)
		c.expect(150)
		got, err := io.ReadAll(data)
		require.NoError(t, err)
		require.Equal(t, "secret", string(got))
		c.expect(226)
	}
	// Somebody else's session has no right to the port, either.
	other := n.from(t, "127.0.0.66")
	other.expect(220)
	other.login("blind", "pass")
	addr := pasvAddr(t, c.do(227, "PASV")).String()
	require.Equal(t, addr, pasvAddr(t, other.do(227, "PASV")).String(), "they share it")
	theirs, mine := other.data(addr), c.data(addr)
	c.do(150, "STOR mine")
	other.do(150, "STOR theirs")
	_, err := mine.Write([]byte("mine"))
	require.NoError(t, err)
	_, err = theirs.Write([]byte("theirs"))
	require.NoError(t, err)
	mine.Close()
	theirs.Close()
	c.expect(226)
	other.expect(226)
	n.requireFile(t, "mine", []byte("mine"))
	got, err := os.ReadFile(n.stored("blind", "theirs"))
	require.NoError(t, err)
	require.Equal(t, "theirs", string(got))
}
