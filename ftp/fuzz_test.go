package ftp

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// pipes is a listener whose connections need no ports.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
		return net.ErrClosed
	default:
		close(p.closed)
		return nil
	}
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	near, far := net.Pipe()
	p.conns <- far
	return near
}

// FuzzCommands sends any bytes as commands, before the login or after it, and holds what must be true of the
// replies whatever was sent: they are lines of FTP without control characters, the session ends, nothing
// panics, nothing outside the user's directory changes, and the next client is served.
func FuzzCommands(f *testing.F) {
	listener := newPipes()
	n := start(f, func(o *Options, d *drop.Options) {
		o.Listener = listener
		o.Users = []User{{Name: "dock", Password: "pass", Readable: true}}
		o.StallTimeout = 5 * time.Millisecond
		o.ActiveMode = true
		o.guard.Delay, o.guard.MaxDelay = 1, 1
		o.guard.Failures = 1 << 40
		o.guard.UserFailures = 1 << 40
		o.MaxConnectionsPerAddress = 200
		d.MaxDirs = 100
	})
	outside := func(t testing.TB) []string {
		names, err := filepath.Glob(filepath.Join(n.dir, "*"))
		require.NoError(t, err)
		more, err := filepath.Glob(filepath.Join(n.dir, "drop", "*"))
		require.NoError(t, err)
		return append(names, more...)
	}
	eventually(f, func() bool { _, err := os.Stat(n.folder("")); return err == nil }, "the user's directory is made")
	before := outside(f)
	first := regexp.MustCompile(`^[1-5]\d\d([ -]|$)`)
	f.Fuzz(func(t *testing.T, late bool, commands []byte) {
		conn := listener.dial()
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		go func() {
			if late {
				conn.Write([]byte("USER dock\r\nPASS pass\r\n"))
			}
			conn.Write(commands)
			conn.Write([]byte("\r\nQUIT\r\n"))
		}()
		replies := bufio.NewScanner(conn)
		replies.Buffer(nil, 1<<20)
		ended, inside := false, ""
		for !ended && replies.Scan() {
			line := replies.Text()
			require.False(t, strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }), "%q", line)
			if inside == "" {
				require.Regexp(t, first, line)
				if len(line) > 3 && line[3] == '-' {
					inside = line[:3] + " "
				}
			} else if strings.HasPrefix(line, inside) {
				inside = ""
			}
			ended = inside == "" && (strings.HasPrefix(line, "221") || strings.HasPrefix(line, "421") || strings.HasPrefix(line, "500 The command is too long"))
		}
		require.True(t, ended, "the session does not end: %v", replies.Err())
		conn.Close()
		require.NotContains(t, n.log.String(), "panic")
		require.Equal(t, before, outside(t))
		eventually(t, func() bool { return n.sessionCount() == 0 }, "the session ends")
		n.log.reset()
	})
}

func (b *syncBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}
