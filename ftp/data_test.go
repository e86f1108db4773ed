package ftp

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/freeport"
)

// pasvAddr reads the address in a reply to PASV.
func pasvAddr(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	_, rest, _ := strings.Cut(text, "(")
	inner, _, _ := strings.Cut(rest, ")")
	a, err := parsePort(inner)
	require.NoError(t, err, text)
	return a
}

func TestPasvAddress(t *testing.T) {
	port := freeport.Range(t, 1)
	for public, want := range map[string]string{"": "127.0.0.1", "192.0.2.10": "192.0.2.10", "localhost": "127.0.0.1"} {
		t.Run(public, func(t *testing.T) {
			n := start(t, func(o *Options, _ *drop.Options) {
				o.PublicAddress = public
				o.PassivePorts = PortRange{port, port}
			})
			got := pasvAddr(t, n.login(t).do(227, "PASV"))
			require.Equal(t, fmt.Sprintf("%s:%d", want, port), got.String())
		})
	}
	n := start(t, func(o *Options, _ *drop.Options) { o.PublicAddress = "no-such-host.invalid" })
	require.Contains(t, n.login(t).do(425, "PASV"), "EPSV")
}

func TestIPv6(t *testing.T) {
	port := freeport.Range(t, 1)
	n := start(t, func(o *Options, _ *drop.Options) {
		var err error
		o.Listener, err = net.Listen("tcp", "[::1]:0")
		require.NoError(t, err)
		o.PassivePorts = PortRange{port, port}
		o.ActiveMode = true
	})
	c := n.login(t)
	c.store("x", noise(1000))
	n.requireFile(t, "x", noise(1000))
	c.do(425, "PASV")
	c.do(522, "EPSV 1")
	c.do(229, "EPSV 2")
	l, err := net.Listen("tcp", "[::1]:0")
	require.NoError(t, err)
	defer l.Close()
	c.do(200, "EPRT |2|::1|%d|", portOf(t, l.Addr().String()))
	c.active(l, "STOR y", []byte("y"))
	n.requireFile(t, "y", []byte("y"))
}

// active sends content over a connection that the server opens.
func (c *client) active(l net.Listener, command string, content []byte) {
	c.t.Helper()
	c.send("%s", command)
	data, err := l.Accept()
	require.NoError(c.t, err)
	c.expect(150)
	_, err = data.Write(content)
	require.NoError(c.t, err)
	data.Close()
	c.expect(226)
}

func TestActiveMode(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.ActiveMode = true })
	c := n.login(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	port := portOf(t, l.Addr().String())
	c.do(200, "PORT 127,0,0,1,%d,%d", port>>8, port&0xff)
	c.active(l, "STOR x", noise(1000))
	n.requireFile(t, "x", noise(1000))
	c.do(200, "EPRT |1|127.0.0.1|%d|", port)
	c.active(l, "STOR y", noise(1000))
	n.requireFile(t, "y", noise(1000))

	for _, command := range []string{
		"PORT 127,0,0,2,200,200", "PORT 192,0,2,1,200,200", "PORT 127,0,0,1,0,25", "PORT 127,0,0,1,3,255",
		"EPRT |1|127.0.0.2|51400|", "EPRT |1|127.0.0.1|1023|", "EPRT |2|::1|51400|",
	} {
		c.do(504, "%s", command)
	}
	for _, command := range []string{"PORT", "PORT 1,2,3", "PORT 127,0,0,1,256,1", "PORT a", "EPRT", "EPRT |1|x|1|", "EPRT |1|127.0.0.1|99999|", "EPRT |2|127.0.0.1|51400|"} {
		c.do(501, "%s", command)
	}
}

func TestPassiveTheft(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		n := start(t, func(o *Options, _ *drop.Options) { o.AllowForeignDataAddress = allowed })
		c := n.login(t)
		addr := pasvAddr(t, c.do(227, "PASV"))
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}
		thief, err := d.Dial("tcp", addr.String())
		require.NoError(t, err)
		if allowed {
			c.do(150, "STOR x")
			_, err = thief.Write([]byte("x"))
			require.NoError(t, err)
			thief.Close()
			c.expect(226)
			continue
		}
		_, err = thief.Read(make([]byte, 1))
		require.Error(t, err)
		data := c.data(addr.String())
		c.do(150, "STOR x")
		_, err = data.Write([]byte("mine"))
		require.NoError(t, err)
		data.Close()
		c.expect(226)
		n.requireFile(t, "x", []byte("mine"))
	}
}

// TestFewPorts lets many clients of one address share one port, one after the other, and asks again without using it.
func TestFewPorts(t *testing.T) {
	port := freeport.Range(t, 1)
	n := start(t, func(o *Options, _ *drop.Options) { o.PassivePorts = PortRange{port, port} })
	a, b := n.login(t), n.login(t)
	a.do(229, "EPSV")
	require.Contains(t, b.do(425, "EPSV"), "No passive port is free")
	a.do(229, "EPSV")
	dataA := a.passive()
	a.do(150, "STOR a")
	dataB := b.passive() // the port is free as soon as a's connection is there
	b.do(150, "STOR b")
	for _, d := range []*net.TCPConn{dataA, dataB} {
		_, err := d.Write([]byte("x"))
		require.NoError(t, err)
		d.Close()
	}
	a.expect(226)
	b.expect(226)
}
