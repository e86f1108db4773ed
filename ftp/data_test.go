package ftp

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

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

// TestConnectAfter150 is a client that opens its data connection only when it has read 150.
func TestConnectAfter150(t *testing.T) {
	for _, mode := range []TLSMode{TLSOff, TLSRequired} {
		n := start(t, func(o *Options, _ *drop.Options) { o.TLS = mode })
		var c *client
		if mode == TLSOff {
			c = n.login(t)
		} else {
			c = n.loginTLS(t)
		}
		transfer := func(command, content string) string {
			t.Helper()
			addr := pasvAddr(t, c.do(227, "PASV"))
			c.do(150, command)
			var data net.Conn = c.data(addr.String())
			if mode != TLSOff {
				data = tls.Client(data, insecure())
			}
			if content != "" {
				_, err := io.WriteString(data, content)
				require.NoError(t, err)
				require.NoError(t, data.Close())
			}
			var got []byte
			if content == "" {
				var err error
				got, err = io.ReadAll(data)
				require.NoError(t, err)
			}
			c.expect(226)
			return string(got)
		}
		transfer("STOR x", "content")
		n.requireFile(t, "x", []byte("content"))
		require.Equal(t, "content", transfer("RETR x", ""))
		require.Equal(t, "x\r\n", transfer("NLST", ""))
		require.Contains(t, transfer("MLSD", ""), "; x\r\n")
	}
}

// TestActiveModeWithTLS: the client begins with TLS when it has read 150.
func TestActiveModeWithTLS(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.ActiveMode = true; o.TLS = TLSRequired })
	c := n.loginTLS(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c.do(200, "EPRT |1|127.0.0.1|%d|", portOf(t, l.Addr().String()))
	c.do(150, "STOR x")
	raw, err := l.Accept()
	require.NoError(t, err)
	data := tls.Client(raw, insecure())
	_, err = data.Write(noise(1000))
	require.NoError(t, err)
	require.NoError(t, data.Close())
	c.expect(226)
	n.requireFile(t, "x", noise(1000))
}

// TestDeadPortOfTheClient: a client that listens waits for the connection when it has read 150. So none comes before the connection is there.
func TestDeadPortOfTheClient(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.ActiveMode = true })
	c := n.login(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c.do(200, "EPRT |1|127.0.0.1|%d|", portOf(t, l.Addr().String()))
	require.NoError(t, l.Close())
	require.Contains(t, c.do(425, "STOR x"), "Failed to establish connection")
	c.store("x", []byte("x"))
}

// TestHalfClosed: a client that says no more than one command gets what it asked for, and an upload of its is not taken for a whole one.
func TestHalfClosed(t *testing.T) {
	for _, connect := range []string{"before", "after", "never"} {
		for command, codes := range map[string][]int{"NLST": {150, 226}, "STOR y": {150, 426}} {
			t.Run(command+" "+connect, func(t *testing.T) {
				n := start(t, nil)
				c := n.login(t)
				c.store("x", []byte("x"))
				addr := pasvAddr(t, c.do(227, "PASV")).String()
				var data *net.TCPConn
				if connect == "before" {
					data = c.data(addr)
				}
				c.send("%s", command)
				require.NoError(t, c.conn.(*net.TCPConn).CloseWrite())
				if connect == "after" {
					c.expect(150)
					codes = codes[1:]
					data = c.data(addr)
				}
				if connect == "never" {
					codes = []int{150, 426}
				} else {
					require.NoError(t, data.CloseWrite())
				}
				for _, code := range codes {
					c.expect(code)
				}
				if command == "NLST" && data != nil {
					got, err := io.ReadAll(data)
					require.NoError(t, err)
					require.Equal(t, "x\r\n", string(got))
				}
				n.requireNoFile(t, "y")
			})
		}
	}
}

// TestRefusedStranger: a client whose data connection was refused, since it came from another address, reads a 425 and no 150.
func TestRefusedStranger(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.StallTimeout = time.Second })
	c := n.login(t)
	addr := pasvAddr(t, c.do(227, "PASV"))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.2")}}
	stranger, err := d.Dial("tcp", addr.String())
	require.NoError(t, err)
	_, err = stranger.Read(make([]byte, 1))
	require.Error(t, err)
	require.Contains(t, c.do(425, "STOR x"), "Failed to establish connection")
	c.store("x", []byte("x"))
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
