package ftp

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/guard"
)

// attempts are those that a server has told of.
type attempts struct {
	mu  sync.Mutex
	all []Attempt
}

func (a *attempts) add(one Attempt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, one)
}

func (a *attempts) list() []Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all
}

// rawTLS is a handshake on a connection of its own; it does not matter how it ends.
func rawTLS(n *node, config *tls.Config) {
	conn, err := tls.Dial("tcp", n.addr, config)
	if err == nil {
		conn.Close()
	}
}

// TestAttempts makes each situation in which a device sends nothing, and looks at what is told about it.
func TestAttempts(t *testing.T) {
	oldTLS := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	mode := func(m TLSMode) func(*Options) { return func(o *Options) { o.TLS = m } }
	auth := func(t *testing.T, n *node) *client {
		c := n.dial(t)
		c.expect(220)
		c.do(234, "AUTH TLS")
		return c
	}
	for name, c := range map[string]struct {
		options func(*Options)
		try     func(*testing.T, *node)
		user    string
		tried   string
		advice  string // part of it
		warning string // the line, if it is one; by default an INFO line with what was tried
	}{
		"the passive port is not let through": {
			func(o *Options) { o.StallTimeout = time.Millisecond },
			func(t *testing.T, n *node) { c := n.login(t); c.do(229, "EPSV"); c.do(150, "STOR x"); c.expect(425) },
			"dock", "no data connection came", "ftp.passivePorts",
			"no data connection came: the passive port does not get through to this node",
		},
		"it is not, and the device gives up before its command": {
			nil,
			func(t *testing.T, n *node) { n.login(t).do(229, "EPSV") },
			"dock", "no data connection came", "ftp.publicAddress", "",
		},
		"it is not, and the device hangs up": {
			nil,
			func(t *testing.T, n *node) { c := n.login(t); c.do(229, "EPSV"); c.do(150, "STOR x") },
			"dock", "no data connection came", "ftp.passivePorts", "",
		},
		"it is not, and the device aborts": {
			nil,
			func(t *testing.T, n *node) {
				c := n.login(t)
				c.do(229, "EPSV")
				c.do(150, "STOR x")
				c.do(426, "ABOR")
				c.expect(226)
			},
			"dock", "no data connection came", "ftp.passivePorts", "",
		},
		"the device's port cannot be reached": {
			func(o *Options) { o.ActiveMode = true },
			func(t *testing.T, n *node) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(t, err)
				l.Close()
				c := n.login(t)
				c.do(200, "EPRT |1|127.0.0.1|%d|", portOf(t, l.Addr().String()))
				c.do(425, "STOR x")
			},
			"dock", "the data connection to the device could not be opened (active mode)", "passive mode", "",
		},
		"active mode": {
			nil,
			func(t *testing.T, n *node) { n.login(t).do(502, "PORT 127,0,0,1,200,200") },
			"dock", "active mode is off", "ftp.activeMode", "active mode was refused",
		},
		"TLS 1.1 after AUTH": {
			mode(TLSRequired),
			func(t *testing.T, n *node) { require.Error(t, tls.Client(auth(t, n).conn, oldTLS).Handshake()) },
			"", "TLS with a version before 1.2", "update the device", "",
		},
		"TLS 1.1 on the implicit port": {
			mode(TLSImplicit), func(_ *testing.T, n *node) { rawTLS(n, oldTLS) },
			"", "TLS with a version before 1.2", "ftp.tls", "",
		},
		"an untrusted certificate": {
			mode(TLSRequired),
			func(t *testing.T, n *node) {
				require.Error(t, tls.Client(auth(t, n).conn, &tls.Config{ServerName: "localhost"}).Handshake())
			},
			"", "TLS, but the device does not trust the certificate", "ftp.certificate", "",
		},
		"an untrusted certificate, TLS 1.2": {
			mode(TLSImplicit),
			func(_ *testing.T, n *node) {
				rawTLS(n, &tls.Config{ServerName: "localhost", MaxVersion: tls.VersionTLS12})
			},
			"", "TLS, but the device does not trust the certificate", "sha256", "",
		},
		"a certificate that is looked at when TLS has begun": {
			mode(TLSRequired),
			func(t *testing.T, n *node) { require.NoError(t, tls.Client(auth(t, n).conn, insecure()).Handshake()) },
			"", "TLS, but the device left before it sent a command", "does not trust", "",
		},
		"a handshake that breaks": {
			mode(TLSRequired), func(t *testing.T, n *node) { auth(t, n) },
			"", "TLS, but the handshake broke", "TLS 1.2", "",
		},
		"plain FTP on the implicit port": {
			mode(TLSImplicit), func(t *testing.T, n *node) { c := n.dial(t); c.send("USER dock"); c.text.ReadLine() },
			"", "plain FTP on a port for implicit TLS", "implicit FTPS", "",
		},
		"plain FTP that waits for a greeting on the implicit port": {
			func(o *Options) { o.TLS, o.silence = TLSImplicit, 1 },
			func(t *testing.T, n *node) { n.dial(t) },
			"", "plain FTP on a port for implicit TLS", "ftp.tls", "",
		},
		"implicit TLS on the plain port": {
			mode(TLSOptional), func(_ *testing.T, n *node) { rawTLS(n, insecure()) },
			"", "implicit TLS on a port for plain FTP and explicit TLS", "explicit FTPS", "",
		},
		"HTTP": {
			nil,
			func(t *testing.T, n *node) {
				c := n.dial(t)
				c.expect(220)
				c.send("GET / HTTP/1.1\r\nHost: plant\r\n")
			},
			"", "HTTP on the FTP port", "no web server", "",
		},
		"SSH": {
			nil, func(t *testing.T, n *node) { c := n.dial(t); c.expect(220); c.send("SSH-2.0-OpenSSH_9.6") },
			"", "SSH or SFTP on the FTP port", "SFTP is another protocol", "",
		},
		"SMTP": {
			nil, func(t *testing.T, n *node) { c := n.dial(t); c.expect(220); c.send("EHLO plant") },
			"", "SMTP on the FTP port", "FTP client", "",
		},
		"a log-in without TLS": {
			mode(TLSRequired),
			func(t *testing.T, n *node) { c := n.dial(t); c.expect(220); c.do(530, "USER dock") },
			"dock", "a log-in without TLS", "explicit FTPS", "a log-in without TLS was refused",
		},
		"a wrong password": {
			nil,
			func(t *testing.T, n *node) {
				c := n.dial(t)
				c.expect(220)
				c.do(331, "USER dick")
				c.do(530, "PASS pass")
			},
			"dick", "a log-in with a wrong name or password", "ftp.users", "login failed",
		},
		"nobody is known": {
			func(o *Options) { o.Users = nil },
			func(t *testing.T, n *node) { c := n.dial(t); c.expect(220); c.do(421, "USER dock") },
			"dock", "a log-in, though no user is known here", "ftp.users", "",
		},
		"a file that is refused": {
			nil, func(t *testing.T, n *node) { n.login(t).refused(550, "STOR nowhere/x") },
			"dock", "a transfer that was refused: STOR: 550 Could not create file: No such file or directory.", "", "a session ended without a transfer: a transfer that was refused",
		},
		"a listing that is aborted": {
			nil,
			func(t *testing.T, n *node) {
				c := n.login(t)
				for i := range 1000 { // more than the kernel takes
					c.do(257, "MKD %s", fmt.Sprint(i, strings.Repeat("x", 3900)))
				}
				data := c.passive()
				c.do(150, "LIST")
				_, err := data.Read(make([]byte, 1)) // it has begun
				require.NoError(t, err)
				c.do(426, "ABOR")
				c.expect(226)
			},
			"dock", "a transfer that broke: LIST: 426 Transfer aborted.", "", "a session ended without a transfer: a transfer that broke",
		},
		"a full node": {
			nil,
			func(t *testing.T, n *node) {
				c := n.login(t)
				n.opts.Backend.(*memory).refuse(&Error{Code: 452, Text: "Full."})
				c.refused(452, "STOR x")
			},
			"dock", "an upload, though the node is full", "files.spoolLimit", "upload refused: the node is full",
		},
		"an upload that breaks": {
			nil,
			func(t *testing.T, n *node) {
				c := n.login(t)
				data := c.passive()
				c.do(150, "STOR x")
				require.NoError(t, data.SetLinger(0))
				data.Close()
				c.expect(426)
			},
			"dock", "a transfer that broke: STOR: 426 Failure reading network stream; what came so far is kept and can be resumed.", "", "no line",
		},
		"too many connections": {
			func(o *Options) { o.MaxConnectionsPerAddress = 1 },
			func(t *testing.T, n *node) { n.dial(t).expect(220); n.dial(t).expect(421) },
			"", "a connection, which was refused: Too many connections from your address; try again later.", "", "connection refused",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := &attempts{}
			volume, err := disk.Open(t.TempDir())
			require.NoError(t, err)
			defer volume.Close()
			n := startOver(t, newMemory(), func(o *Options) {
				o.Attempted, o.CertificateFS = told.add, volume
				o.guard = guard.Options{Delay: time.Millisecond}
				if c.options != nil {
					c.options(o)
				}
			})
			t.Run("", func(t *testing.T) { c.try(t, n) }) // its end closes the connections
			eventually(t, func() bool { return n.sessionCount() == 0 && len(told.list()) > 0 }, "it is told")
			require.Len(t, told.list(), 1)
			got := told.list()[0]
			require.Contains(t, got.Advice, c.advice)
			got.Advice = ""
			require.Equal(t, Attempt{From: addrOf(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}), User: c.user, Tried: c.tried}, got)
			switch ended := `msg="a session ended without a transfer: `; c.warning {
			case "":
				require.Equal(t, 1, strings.Count(n.log.String(), "level=INFO "+ended+c.tried+`"`), n.log.String())
				require.Contains(t, n.log.String(), c.advice)
			case "no line":
				require.NotContains(t, n.log.String(), ended)
			default:
				require.Equal(t, 1, strings.Count(n.log.String(), c.warning), n.log.String())
				require.NotContains(t, strings.ReplaceAll(n.log.String(), c.warning, ""), ended)
			}
		})
	}
}

// TestNothingIsToldOfSessionsThatWork: and neither of those that try nothing.
func TestNothingIsToldOfSessionsThatWork(t *testing.T) {
	told := &attempts{}
	n := startOver(t, newMemory(), func(o *Options) { o.Attempted = told.add })
	t.Run("", func(t *testing.T) {
		n.dial(t).do(220, "QUIT") // the greeting
		c := n.login(t)
		c.refused(550, "STOR nowhere/x")
		c.store("x", []byte("x"))
		c.do(229, "EPSV")
		c.do(221, "QUIT")
		c = n.login(t)
		require.Equal(t, "x\r\n", c.fetch("NLST"))
		require.Equal(t, "x", c.fetch("RETR x"))
		c = n.login(t)
		c.fetch("LIST")
	})
	eventually(t, func() bool { return n.sessionCount() == 0 }, "they have ended")
	require.Empty(t, told.list())
	require.NotContains(t, n.log.String(), "without a transfer")
}

// TestFloodsOfAttempts are one line, and a number; each is told to Attempted.
func TestFloodsOfAttempts(t *testing.T) {
	const times = 30
	told := &attempts{}
	n := startOver(t, newMemory(), func(o *Options) { o.Attempted, o.MaxConnectionsPerAddress = told.add, times })
	for i := range times {
		t.Run("", func(t *testing.T) { c := n.dial(t); c.expect(220); c.send("GET /%d HTTP/1.1", i) })
	}
	eventually(t, func() bool { return len(told.list()) == times }, "each is told")
	require.Equal(t, 1, strings.Count(n.log.String(), "HTTP on the FTP port"))
	n.cancel()
	err := <-n.served
	n.served <- err
	require.NoError(t, err)
	require.Contains(t, n.log.String(), fmt.Sprint("times=", times-1))
}
