package ftp

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

func withTLS(mode TLSMode) func(*Options, *drop.Options) {
	return func(o *Options, _ *drop.Options) { o.TLS = mode }
}

func insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
}

// secure goes on over TLS.
func (c *client) secure(config *tls.Config) (*client, *tls.Conn) {
	c.t.Helper()
	c.do(234, "AUTH TLS")
	conn := tls.Client(c.conn, config)
	require.NoError(c.t, conn.Handshake())
	return wrap(c.t, conn), conn
}

// loginTLS logs in over TLS, with data connections that are encrypted too.
func (n *node) loginTLS(t *testing.T) *client {
	t.Helper()
	c := n.dial(t)
	c.expect(220)
	s, _ := c.secure(insecure())
	s.login("dock", "pass")
	s.do(200, "PROT P")
	return s
}

func TestRequiredTLS(t *testing.T) {
	n := start(t, withTLS(TLSRequired))
	c := n.dial(t)
	c.expect(220)
	c.do(530, "USER dock")
	c.do(503, "PROT P")
	require.Contains(t, c.do(211, "FEAT"), "AUTH TLS")
	s, _ := c.secure(insecure())
	s.do(503, "AUTH TLS")
	s.login("dock", "pass")
	s.do(521, "STOR x")
	s.do(521, "LIST")
	for _, line := range []string{"a log-in without TLS was refused", "a transfer without TLS was refused"} {
		require.Equal(t, 1, strings.Count(n.log.String(), line), "%s, once in the session", line)
	}
	s.do(200, "PBSZ 0")
	s.do(534, "PROT C")
	s.do(536, "PROT S")
	s.do(200, "PROT P")
	s.do(533, "CCC")
	s.do(229, "EPSV")
}

// TestOldNamesOfAuth: AUTH SSL and TLS-P mean that data connections are encrypted, too, as in the drafts before RFC 4217
// and in vsftpd and ProFTPD. PROT C takes it back where it may.
func TestOldNamesOfAuth(t *testing.T) {
	t.Parallel()
	for name, protected := range map[string]bool{"SSL": true, "ssl": true, "TLS-P": true, "TLS": false, "TLS-C": false, "TLS  ": false} {
		t.Run(name, func(t *testing.T) {
			n := start(t, withTLS(TLSOptional))
			c := n.dial(t)
			c.expect(220)
			c.do(234, "AUTH %s", name)
			conn := tls.Client(c.conn, insecure())
			require.NoError(t, conn.Handshake())
			s := wrap(t, conn)
			s.login("dock", "pass")
			send := func(file string, protected bool) {
				t.Helper()
				var data net.Conn = s.passive()
				if protected {
					data = tls.Client(data, insecure())
				}
				s.send("STOR %s", file)
				s.expect(150)
				_, err := data.Write(noise(1000))
				require.NoError(t, err)
				require.NoError(t, data.Close())
				s.expect(226)
				n.requireFile(t, file, noise(1000))
			}
			send("a", protected)
			s.do(200, "PROT C")
			send("b", false)
			s.do(200, "PROT P")
			send("c", true)
		})
	}
}

func TestCommandsSentAlongWithAuth(t *testing.T) {
	n := start(t, withTLS(TLSOptional))
	c := n.dial(t)
	c.expect(220)
	c.send("AUTH TLS\r\nUSER dock\r\nPASS pass\r\nMKD injected")
	if line, err := c.text.ReadLine(); err == nil {
		require.Contains(t, line, "234")
		c.requireClosed()
	}
	n.requireNoFile(t, "injected")
}

func TestUserBeforeAuthIsForgotten(t *testing.T) {
	c := start(t, withTLS(TLSOptional)).dial(t)
	c.expect(220)
	c.do(331, "USER dock")
	s, _ := c.secure(insecure())
	s.do(503, "PASS pass")
	s.login("dock", "pass")
}

func TestHandshake(t *testing.T) {
	n := start(t, withTLS(TLSImplicit))
	handshake := func(config *tls.Config) (*tls.Conn, error) {
		conn, err := net.Dial("tcp", n.addr)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		c := tls.Client(conn, config)
		return c, c.Handshake()
	}
	for _, protocols := range [][]string{nil, {"ftp"}, {"h2", "ftp"}, {"http/1.1"}} {
		config := insecure()
		config.NextProtos = protocols
		c, err := handshake(config)
		require.NoError(t, err, protocols)
		wrap(t, c).expect(220)
		if len(protocols) > 0 && protocols[0] != "http/1.1" {
			require.Equal(t, "ftp", c.ConnectionState().NegotiatedProtocol)
		}
	}
	old := insecure()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	_, err := handshake(old)
	require.Error(t, err)
}

// TestOldDevices know TLS 1.2 with RSA certificates only. CLIENTS.md names the oldest suite.
func TestOldDevices(t *testing.T) {
	n := start(t, withTLS(TLSRequired))
	config := insecure()
	config.MaxVersion = tls.VersionTLS12
	config.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}
	c := n.dial(t)
	c.expect(220)
	s, _ := c.secure(config)
	s.login("dock", "pass")
	s.do(200, "PROT P")
	for _, name := range []string{"a", "b"} {
		data := tls.Client(s.passive(), config)
		s.do(150, "STOR %s", name)
		_, err := data.Write(noise(1000))
		require.NoError(t, err)
		require.NoError(t, data.Close())
		s.expect(226)
		n.requireFile(t, name, noise(1000))
	}

	c = n.dial(t)
	c.expect(220)
	c.do(234, "AUTH TLS")
	config = config.Clone()
	config.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	require.Error(t, tls.Client(c.conn, config).Handshake(), "a suite without forward secrecy")
}

// TestDataConnectionsResume is what FileZilla and others do: the data connection resumes the TLS session of
// the control connection.
func TestDataConnectionsResume(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		n := start(t, withTLS(TLSRequired))
		config := insecure()
		config.ServerName = "node"
		config.MaxVersion = version
		c := n.dial(t)
		c.expect(220)
		s, _ := c.secure(config)
		s.login("dock", "pass")
		s.do(200, "PROT P")
		for _, name := range []string{"a", "b"} {
			data := tls.Client(s.passive(), config)
			s.send("STOR %s", name)
			s.expect(150)
			_, err := data.Write(noise(100_000))
			require.NoError(t, err)
			require.True(t, data.ConnectionState().DidResume)
			require.NoError(t, data.Close())
			s.expect(226)
			n.requireFile(t, name, noise(100_000))
		}
	}
}

// TestTicketsOfOthers: a ticket saves a handshake, it is no log-in. Whoever has one of another's session logs in as himself, and what
// he sends is his own.
func TestTicketsOfOthers(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			n := start(t, withTLS(TLSRequired))
			config := insecure()
			config.ServerName, config.MaxVersion = "node", version
			for i, user := range []string{"dock", "blind", "dock"} {
				c := n.dial(t)
				c.expect(220)
				s, conn := c.secure(config)
				require.Equal(t, i > 0, conn.ConnectionState().DidResume)
				s.do(530, "PWD")
				s.do(530, "STOR x")
				s.do(503, "PASS pass")
				s.do(331, "USER %s", user)
				s.do(530, "PASS wrong")
				s.login(user, "pass")
				s.do(200, "PROT P")
				name := fmt.Sprint("file-", i)
				data := tls.Client(s.passive(), config)
				s.send("STOR %s", name)
				s.expect(150)
				_, err := data.Write(noise(1000))
				require.NoError(t, err)
				require.True(t, data.ConnectionState().DidResume)
				require.NoError(t, data.Close())
				s.expect(226)
				require.NotEmpty(t, n.stored(user, name))
			}
		})
	}
}

// TestClientsThatDoNotRead close their data connection without having read anything from it, so that whatever the
// server has sent there resets it: nothing may.
func TestClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		n := start(t, withTLS(TLSRequired))
		c := n.dial(t)
		c.expect(220)
		config := insecure()
		config.MaxVersion = version
		config.ClientSessionCache = nil
		s, _ := c.secure(config)
		s.login("dock", "pass")
		s.do(200, "PROT P")
		for _, name := range []string{"a", "b", "c"} {
			data := tls.Client(s.passive(), config)
			s.send("STOR %s", name)
			s.expect(150)
			_, err := data.Write(noise(300_000))
			require.NoError(t, err)
			require.NoError(t, data.Close())
			s.expect(226)
			n.requireFile(t, name, noise(300_000))
		}
	}
}

// TestCloseNotify: a client that ended one data connection as TLS demands and not the next has died.
func TestCloseNotify(t *testing.T) {
	n := start(t, withTLS(TLSRequired))
	s := n.loginTLS(t)
	send := func(name string, notify bool, code int) {
		t.Helper()
		raw := s.passive()
		data := tls.Client(raw, insecure())
		s.send("STOR %s", name)
		s.expect(150)
		_, err := data.Write(noise(1000))
		require.NoError(t, err)
		if notify {
			require.NoError(t, data.CloseWrite())
		}
		raw.CloseWrite()
		s.expect(code)
	}
	send("never did", false, 226)
	send("does", true, 226)
	send("does not", false, 426)
	n.requireFile(t, "never did", noise(1000))
	n.requireFile(t, "does", noise(1000))
	n.requireNoFile(t, "does not")
}

// TestNoTLSOnTheDataConnection: clients that sent PROT P and do not begin TLS. Nothing of theirs is taken for a file.
func TestNoTLSOnTheDataConnection(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(data *net.TCPConn){
		"an empty file": func(*net.TCPConn) {},
		"plain data":    func(data *net.TCPConn) { _, _ = data.Write(noise(1000)) },
		"half a hello":  func(data *net.TCPConn) { _, _ = data.Write([]byte{22, 3, 1, 2, 0, 1}) },
		"a reset":       func(data *net.TCPConn) { _ = data.SetLinger(0) },
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, withTLS(TLSRequired))
			s := n.loginTLS(t)
			for _, command := range []string{"STOR x", "LIST"} {
				data := s.passive()
				s.do(150, command)
				send(data)
				require.NoError(t, data.Close())
				require.Contains(t, s.expect(425), "TLS did not begin")
			}
			n.requireNoFile(t, "x")
			data := s.passiveTLS()
			s.do(150, "STOR x")
			_, err := data.Write([]byte("x"))
			require.NoError(t, err)
			require.NoError(t, data.Close())
			s.expect(226)
			n.requireFile(t, "x", []byte("x"))
		})
	}
}

// TestTLSBeforeTheCommand is a client that sends its command only when TLS has begun on the data connection, as Python's asyncio has it, and
// one that connects, and begins with TLS after 150, later than a stalled transfer would be cut.
func TestTLSBeforeTheCommand(t *testing.T) {
	t.Parallel()
	n := start(t, func(o *Options, _ *drop.Options) { o.TLS = TLSRequired; o.StallTimeout = 2 * time.Second })
	s := n.loginTLS(t)
	for _, early := range []bool{true, false} {
		raw := s.passive()
		data := tls.Client(raw, insecure())
		if early {
			require.NoError(t, data.Handshake())
		} else {
			time.Sleep(2500 * time.Millisecond) // nothing is waited for: the client is slow
		}
		s.do(150, "STOR x")
		_, err := data.Write(noise(1000))
		require.NoError(t, err)
		require.NoError(t, data.Close())
		s.expect(226)
		n.requireFile(t, "x", noise(1000))
		s.do(250, "DELE x")
	}
	// One that begins nothing is cut, from the command on.
	raw := s.passive()
	s.do(150, "STOR x")
	require.Contains(t, s.expect(425), "TLS did not begin")
	raw.Close()
	// One that connects and goes leaves nothing behind.
	s.passive()
	s.do(221, "QUIT")
	eventually(t, func() bool { return n.sessionCount() == 0 }, "the session ends")
}

// TestCloseNotifyIsNoWitness: a client that gives up ends its data as TLS demands, and shows only then that it has.
func TestCloseNotifyIsNoWitness(t *testing.T) {
	for name, giveUp := range map[string]func(s *client){
		"ABOR": func(s *client) {
			s.send("ABOR")
			s.arrived()
		},
		"hang up":          func(s *client) { s.conn.Close() },
		"quit and hang up": func(s *client) { s.send("QUIT"); s.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			n := start(t, func(o *Options, d *drop.Options) { o.TLS = TLSRequired; d.FS = slowDisk{d.FS, gate} })
			s := n.loginTLS(t)
			data := tls.Client(s.passive(), insecure())
			s.send("STOR cut")
			s.expect(150)
			_, err := data.Write(noise(100_000))
			require.NoError(t, err)
			require.NoError(t, data.Close())
			const moments = 20 // for the server to see the end of the data, and to take it for a whole file
			for seen := 0; seen < moments; {
				if strings.Contains(s.do(211, "STAT"), "100,000 bytes so far") {
					seen++
				}
			}
			giveUp(s)
			close(gate)
			n.requireInterrupted(t, "cut", 100_000)
			s.conn.Close()
			eventually(t, func() bool { return n.sessionCount() == 0 }, "the session ends")
		})
	}
}

// heldConn keeps what is written when it is told to.
type heldConn struct {
	net.Conn
	holds bool
	held  []byte
}

func (c *heldConn) Write(p []byte) (int, error) {
	if !c.holds {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

// TestRecords: the server reads several records of TLS at a time. It does not wait for the rest of one to keep those before.
func TestRecords(t *testing.T) {
	const whole = 6 << 14 // bytes of the records in front of the last one
	n := start(t, withTLS(TLSRequired))
	s := n.loginTLS(t)
	conn := &heldConn{Conn: s.passive()}
	config := insecure()
	config.DynamicRecordSizingDisabled = true
	data := tls.Client(conn, config)
	s.send("STOR cut")
	s.expect(150)
	require.NoError(t, data.Handshake())
	conn.holds = true
	_, err := data.Write(noise(110_000))
	require.NoError(t, err)
	_, err = conn.Conn.Write(conn.held[:len(conn.held)-1])
	require.NoError(t, err)
	eventually(t, func() bool { return strings.Contains(s.do(211, "STAT"), "98,304 bytes so far") }, "%d bytes are kept", whole)
	require.NoError(t, conn.Conn.Close())
	require.Contains(t, s.expect(426), "Failure reading network stream")
	n.requireInterrupted(t, "cut", whole)
}

// TestBrokenTLS: data that ends as no client ends it is told as broken on the client's side, whatever crypto/tls calls it, and never as
// trouble of the server's.
func TestBrokenTLS(t *testing.T) {
	const header = 5 // bytes of a record (RFC 8446, 5.1)
	for name, end := range map[string]func(t *testing.T, raw *net.TCPConn, record []byte){
		"in mid-header": func(t *testing.T, raw *net.TCPConn, record []byte) { write(t, raw, record[:header-1]) },
		"in mid-record": func(t *testing.T, raw *net.TCPConn, record []byte) { write(t, raw, record[:len(record)-1]) },
		"a flipped bit": func(t *testing.T, raw *net.TCPConn, record []byte) {
			record[len(record)-1] ^= 1
			write(t, raw, record)
		},
		"no TLS": func(t *testing.T, raw *net.TCPConn, _ []byte) { write(t, raw, []byte("GET / HTTP/1.1\r\n\r\n")) },
		"records of nothing": func(t *testing.T, raw *net.TCPConn, _ []byte) {
			write(t, raw, bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 50))
		},
		"a reset": func(t *testing.T, raw *net.TCPConn, _ []byte) { require.NoError(t, raw.SetLinger(0)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, withTLS(TLSRequired))
			s := n.loginTLS(t)
			raw := s.passive()
			conn := &heldConn{Conn: raw}
			data := tls.Client(conn, insecure())
			s.do(150, "STOR cut")
			write(t, data, noise(1000))
			eventually(t, func() bool { return strings.Contains(s.do(211, "STAT"), "1,000 bytes so far") }, "the first record is there")
			conn.holds = true
			write(t, data, noise(1000))
			end(t, raw, conn.held)
			require.NoError(t, raw.Close())
			require.Equal(t, "Failure reading network stream; what came so far is kept and can be resumed.", s.expect(426))
			n.requireInterrupted(t, "cut", 1000)
		})
	}
}

func write(t *testing.T, to io.Writer, p []byte) {
	t.Helper()
	_, err := to.Write(p)
	require.NoError(t, err)
}

func TestDownloadsEndWithCloseNotify(t *testing.T) {
	n := start(t, withTLS(TLSImplicit))
	conn, err := tls.Dial("tcp", n.addr, insecure())
	require.NoError(t, err)
	s := wrap(t, conn)
	s.expect(220)
	s.login("dock", "pass")
	raw := s.passive()
	data := tls.Client(raw, insecure())
	s.send("LIST")
	s.expect(150)
	_, err = data.Read(make([]byte, 1))
	require.EqualError(t, err, "EOF")
	s.expect(226)
}

// TestRenegotiation: nobody may begin anew with TLS within a connection, which let others' commands in once (CVE-2009-3555).
func TestRenegotiation(t *testing.T) {
	n := start(t, withTLS(TLSRequired))
	path, err := exec.LookPath("openssl")
	require.NoError(t, err, "openssl is needed for this test")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out := &syncBuffer{}
	cmd := exec.CommandContext(ctx, path, "s_client", "-connect", n.addr, "-starttls", "ftp", "-tls1_2", "-crlf")
	cmd.Stdout, cmd.Stderr = out, out
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.WriteString(stdin, "USER dock\nPASS pass\n")
	require.NoError(t, err)
	eventually(t, func() bool { return strings.Contains(out.String(), "230 Login successful.") }, "openssl has logged in")
	_, err = io.WriteString(stdin, "R\n") // at the beginning of what it reads this is openssl's own command
	require.NoError(t, err)
	require.Error(t, cmd.Wait(), out.String())
	require.Contains(t, out.String(), "RENEGOTIATING")
	require.Contains(t, out.String(), "unexpected message")
	eventually(t, func() bool { return n.sessionCount() == 0 }, "the session has ended")
}
