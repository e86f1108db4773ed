package ftp

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// from connects from another address of loopback.
func (n *node) from(t testing.TB, addr string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	conn, err := d.Dial("tcp", n.addr)
	require.NoError(t, err)
	return wrap(t, conn)
}

func TestConnectionLimits(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.MaxConnections = 3; o.MaxConnectionsPerAddress = 2 })
	a, b := n.login(t), n.login(t)
	c := n.dial(t)
	require.Contains(t, c.expect(421), "from your address")
	c.requireClosed()
	d := n.from(t, "127.0.0.2")
	d.expect(220)
	d.login("dock", "pass")
	require.Contains(t, n.from(t, "127.0.0.3").expect(421), "Too many connections;")
	a.do(221, "QUIT")
	a.conn.Close()
	eventually(t, func() bool { return n.sessionCount() == 2 }, "a place is free")
	e := n.from(t, "127.0.0.3")
	e.expect(220)
	b.do(200, "NOOP")
}

func TestThoseWhoOnlyWaitMakeRoom(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.MaxConnections = 2; o.MaxConnectionsPerAddress = 2 })
	a := n.login(t)
	lurker := n.dial(t)
	lurker.expect(220)
	n.mu.Lock()
	for s := range n.Server.sessions {
		s.started = time.Now().Add(-time.Minute)
	}
	n.mu.Unlock()
	n.from(t, "127.0.0.2").expect(220)
	lurker.requireClosed()
	a.do(200, "NOOP")
}

func TestLoginFailures(t *testing.T) {
	n := start(t, nil)
	c := n.dial(t)
	c.expect(220)
	var texts []string
	for _, user := range []string{"dock", "nobody"} {
		c.do(331, "USER %s", user)
		texts = append(texts, c.do(530, "PASS s3cret"))
	}
	require.Equal(t, texts[0], texts[1])
	c.do(331, "USER do\"ck")
	require.Contains(t, c.do(421, "PASS s3cret"), "Too many failed logins")
	c.requireClosed()
	log := n.log.String()
	require.Contains(t, log, `level=WARN msg="login failed" session=1 remote=127.0.0.1 user=dock failures=1`)
	require.Contains(t, log, `level=WARN msg="login failed" session=1 remote=127.0.0.1 failures=2 user=nobody`)
	require.NotContains(t, log, "s3cret")

	for !n.guard.Banned(addrOf(c.conn.LocalAddr())) {
		c := n.dial(t)
		c.expect(220)
		c.do(331, "USER dock")
		c.send("PASS s3cret")
		c.text.ReadLine()
		c.conn.Close()
	}
	require.Contains(t, n.dial(t).expect(421), "Too many failed logins")
	require.Contains(t, n.log.String(), `level=WARN msg="login failed; the address is banned for a while"`)
	other := n.from(t, "127.0.0.2")
	other.expect(220)
	other.login("dock", "pass")
}

func TestPasswordHash(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("pass"), bcrypt.MinCost)
	require.NoError(t, err)
	n := start(t, func(o *Options, _ *drop.Options) {
		o.Users = []User{{Name: "dock", PasswordHash: string(hash)}}
	})
	c := n.dial(t)
	c.expect(220)
	c.do(331, "USER dock")
	c.do(530, "PASS %s", hash)
	c.login("dock", "pass")
	c.store("x", []byte("x"))
	require.NotEmpty(t, n.stored("dock", "x"))
}

func TestTimeBeforeLogin(t *testing.T) {
	t.Parallel()
	n := start(t, func(o *Options, _ *drop.Options) { o.LoginTimeout = 3 * time.Second })
	c := n.dial(t)
	c.expect(220)
	go func() { // slow-loris: a byte at a time
		for range 1000 {
			if _, err := c.conn.Write([]byte("U")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	require.Contains(t, c.expect(421), "without a login")
	c.requireClosed()
	d := n.login(t)
	eventually(t, func() bool { return n.sessionCount() == 1 }, "the first has ended")
	d.do(200, "NOOP")
}

func TestFloods(t *testing.T) {
	for name, c := range map[string]struct{ line, want string }{
		"a long line":            {strings.Repeat("A", 1<<20), "500"},
		"before the login":       {strings.Repeat("NOOP\r\n", 1000), "421 Too many commands"},
		"unknown, before":        {strings.Repeat("\x00\xff\r\n", 1000), "421 Too many"},
		"a line without its end": {"USER " + strings.Repeat("x", maxLine), "500"},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, nil)
			k := n.dial(t)
			k.expect(220)
			go k.conn.Write([]byte(c.line + "\r\n"))
			var all strings.Builder
			io.Copy(&all, io.LimitReader(k.text.R, 1<<20)) // until the server closes, or resets
			require.Contains(t, all.String(), c.want)
			n.login(t).do(200, "NOOP")
		})
	}
	t.Run("unknown commands", func(t *testing.T) {
		c := start(t, nil).login(t)
		for range maxJunk {
			c.do(500, "XYZZY")
		}
		c.do(421, "XYZZY")
		c.requireClosed()
	})
}

// TestAbandonedConnections opens many connections and leaves them in all states.
func TestAbandonedConnections(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.MaxConnections = 50; o.MaxConnectionsPerAddress = 40 })
	n.login(t).store("before", nil)
	eventually(t, func() bool { return n.sessionCount() == 1 }, "one is left")
	before := runtime.NumGoroutine()
	for i := range 600 {
		conn, err := net.Dial("tcp", n.addr)
		require.NoError(t, err)
		switch i % 4 {
		case 1:
			fmt.Fprintf(conn, "USER dock\r\nPASS pass\r\nEPSV\r\nSTOR x\r\n")
		case 2:
			fmt.Fprintf(conn, "USER dock\r\nPASS pa")
		case 3:
			conn.(*net.TCPConn).SetLinger(0)
		}
		conn.Close()
	}
	eventually(t, func() bool { return n.sessionCount() == 1 }, "sessions end")
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }, "goroutines end")
	other := n.from(t, "127.0.0.2")
	other.expect(220)
	other.login("dock", "pass")
	other.store("after", []byte("x"))
}

func TestStop(t *testing.T) {
	begin := func(t *testing.T, drain time.Duration) (n *node, idle, busy *client, data *net.TCPConn) {
		n = start(t, func(o *Options, _ *drop.Options) { o.Drain = drain })
		idle, busy = n.login(t), n.login(t)
		data = busy.passive()
		busy.do(150, "STOR x")
		_, err := data.Write([]byte("first "))
		require.NoError(t, err)
		n.cancel()
		require.Contains(t, idle.expect(421), "stops")
		idle.requireClosed()
		idle.conn.Close()
		return n, idle, busy, data
	}
	served := func(t *testing.T, n *node) {
		t.Helper()
		select {
		case err := <-n.served:
			require.NoError(t, err)
			n.served <- nil
		case <-time.After(patience):
			t.Fatal("Serve does not return")
		}
		require.Zero(t, n.sessionCount())
		_, err := n.opts.Listener.Accept() // dialling may meet another program that got the port since
		require.ErrorIs(t, err, net.ErrClosed)
	}
	t.Run("transfers end", func(t *testing.T) {
		n, _, busy, data := begin(t, time.Minute)
		_, err := data.Write([]byte("second"))
		require.NoError(t, err)
		data.Close()
		busy.expect(226)
		busy.expect(421)
		busy.requireClosed()
		busy.conn.Close()
		served(t, n)
		n.requireFile(t, "x", []byte("first second"))
	})
	t.Run("transfers are cut", func(t *testing.T) {
		n, _, _, _ := begin(t, 50*time.Millisecond)
		served(t, n)
		n.requireNoFile(t, "x")
		require.Contains(t, n.log.String(), "the server stops")
	})
	t.Run("cut at once", func(t *testing.T) {
		n, _, _, _ := begin(t, time.Hour)
		require.NoError(t, n.Close())
		n.cancel()
		served(t, n)
		n.requireNoFile(t, "x")
	})
	t.Run("before it began", func(t *testing.T) {
		n := start(t, nil)
		n.cancel()
		served(t, n)
	})
}
