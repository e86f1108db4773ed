//go:build linux

package ftp

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// TestClientsThatLeaveBehindTheData holds who leaves before the 226 without ending the control connection.
func TestClientsThatLeaveBehindTheData(t *testing.T) {
	for name, leave := range map[string]func(c *client){
		"QUIT of a program whose source breaks": func(c *client) { c.send("QUIT") },
		"urgent ABOR":                           func(c *client) { c.urgent("ABOR") },
		"ABOR":                                  func(c *client) { c.send("ABOR") },
	} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			n := start(t, func(_ *Options, d *drop.Options) { d.FS = slowDisk{d.FS, gate} })
			c := n.login(t)
			data := c.passive()
			c.do(150, "STOR x")
			_, err := data.Write(noise(70_000))
			require.NoError(t, err)
			require.NoError(t, data.Close())
			leave(c)
			c.arrived()
			close(gate)
			require.False(t, n.sent(t, "x")) // an ABOR may come before the first byte was read
		})
	}
	t.Run("QUIT that is pipelined before the data", func(t *testing.T) {
		n := start(t, nil)
		c := n.login(t)
		data := c.passive()
		c.send("STOR x\r\nQUIT")
		c.expect(150)
		_, err := data.Write(noise(70_000))
		require.NoError(t, err)
		require.NoError(t, data.Close())
		c.expect(226)
		c.expect(221)
		n.requireFile(t, "x", noise(70_000))
	})
	t.Run("urgent ABOR in the middle", func(t *testing.T) {
		n := start(t, nil)
		c := n.login(t)
		data := c.passive()
		c.do(150, "STOR x")
		_, err := data.Write(noise(1000))
		require.NoError(t, err)
		c.urgent("ABOR")
		c.expect(426)
		c.expect(226)
		n.requireNoFile(t, "x")
	})
}

// TestVerdictsOfSessions holds that sessions watch what comes after the 226: plain, over TLS, and beyond the end of TLS.
func TestVerdictsOfSessions(t *testing.T) {
	const read, doubt = "the client has read the reply", "an acknowledged upload is in doubt"
	for name, c := range map[string]struct {
		end  func(c *client, raw *net.TCPConn)
		want string
	}{
		"command": {func(c *client, _ *net.TCPConn) { c.do(200, "NOOP") }, read},
		"QUIT":    {func(c *client, _ *net.TCPConn) { c.do(221, "QUIT") }, read},
		"closed":  {func(c *client, _ *net.TCPConn) { c.conn.Close() }, read},
		"killed":  {func(_ *client, raw *net.TCPConn) { raw.Close() }, read},
		"reset":   {func(_ *client, raw *net.TCPConn) { raw.SetLinger(0); raw.Close() }, doubt},
	} {
		for _, mode := range []TLSMode{TLSOff, TLSOptional} {
			t.Run(name+", TLS "+string(mode), func(t *testing.T) {
				n := start(t, func(o *Options, d *drop.Options) { o.TLS = mode; o.Settle = d.Settle })
				cl := n.dial(t)
				raw := cl.conn.(*net.TCPConn)
				cl.expect(220)
				if mode == TLSOptional {
					cl, _ = cl.secure(insecure())
				}
				cl.login("dock", "pass")
				cl.store("x", noise(1000))
				c.end(cl, raw)
				eventually(t, func() bool { return strings.Contains(n.log.String(), c.want) }, c.want)
			})
		}
	}
}

// TestDeviceThatComesBack holds that an upload in doubt goes when its device sends the whole file, if it was the beginning of it.
func TestDeviceThatComesBack(t *testing.T) {
	whole := noise(70_000)
	for name, c := range map[string]struct {
		doubtful []byte
		want     []int // sizes of what waits
	}{
		"a piece of it": {whole[:50_000], []int{70_000}},
		"another file":  {noise(50_001)[1:], []int{50_000, 70_000}},
		"the whole":     {whole, []int{70_000, 70_000}},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, nil)
			dying := n.login(t)
			dying.store("x", c.doubtful)
			require.NoError(t, dying.conn.(*net.TCPConn).SetLinger(0))
			require.NoError(t, dying.conn.Close())
			require.False(t, n.sent(t, "x"))
			eventually(t, func() bool { return strings.Contains(n.log.String(), "it is held for a while") }, "the upload is in doubt")

			again := n.login(t)
			again.store("x", whole)
			again.do(221, "QUIT")
			var sizes []int
			for e := range n.box.Entries() {
				sizes = append(sizes, int(e.Size))
			}
			require.ElementsMatch(t, c.want, sizes)
			n.requireFile(t, "x", whole)
		})
	}
}
