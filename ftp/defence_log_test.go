package ftp

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/freeport"
	"github.com/ftpnode/ftpnode/internal/guard"
)

// TestDefenceNobodyWritesTheLog does each thing that is worth a line over and over: it is told once, and when the server ends how
// often it was.
func TestDefenceNobodyWritesTheLog(t *testing.T) {
	const times = 30
	greeted := func(t *testing.T, n *node) *client {
		c := n.dial(t)
		c.expect(220)
		return c
	}
	hangUp := func(c *client) { c.conn.Close() }
	for name, c := range map[string]struct {
		options func(*testing.T, *Options, *drop.Options)
		attack  func(*testing.T, *node)
		line    string // or none
	}{
		"log-in without TLS": {
			func(_ *testing.T, o *Options, _ *drop.Options) { o.TLS = TLSRequired },
			func(t *testing.T, n *node) { c := greeted(t, n); defer hangUp(c); c.do(530, "USER dock") },
			"a log-in without TLS was refused",
		},
		"transfer without TLS": {
			func(_ *testing.T, o *Options, _ *drop.Options) { o.TLS = TLSRequired },
			func(t *testing.T, n *node) {
				c := greeted(t, n)
				defer hangUp(c)
				s, _ := c.secure(insecure())
				s.login("dock", "pass")
				s.do(521, "STOR x")
			},
			"a transfer without TLS was refused",
		},
		"no TLS at all": {
			func(_ *testing.T, o *Options, _ *drop.Options) { o.TLS = TLSImplicit },
			func(t *testing.T, n *node) {
				c := n.dial(t)
				defer hangUp(c)
				c.send("USER dock")
				c.text.ReadLine()
			},
			"",
		},
		"wrong password": {
			nil,
			func(t *testing.T, n *node) {
				c := greeted(t, n)
				defer hangUp(c)
				c.do(331, "USER dock")
				c.do(530, "PASS wrong")
			},
			`msg="login failed"`,
		},
		"unknown names": {
			nil,
			func(t *testing.T, n *node) {
				c := greeted(t, n)
				defer hangUp(c)
				c.do(331, "USER %s", t.Name()+time.Now().String())
				c.do(530, "PASS wrong")
			},
			`msg="login failed"`,
		},
		"banned user": {
			func(_ *testing.T, o *Options, _ *drop.Options) { o.guard.UserFailures = 1 },
			func(t *testing.T, n *node) {
				n.guard.Failed("dock", true, addrOf(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}))
				c := greeted(t, n)
				defer hangUp(c)
				c.do(331, "USER dock")
				c.do(530, "PASS pass")
			},
			"login refused, though the password is right",
		},
		"banned address": {
			func(_ *testing.T, o *Options, _ *drop.Options) { o.guard.Failures = 1 },
			func(t *testing.T, n *node) {
				c := n.dial(t)
				defer hangUp(c)
				if line, _ := c.text.ReadLine(); strings.HasPrefix(line, "220") {
					c.do(331, "USER dock")
					c.do(421, "PASS wrong")
				}
			},
			"",
		},
		"too many connections": {
			func(_ *testing.T, o *Options, _ *drop.Options) { o.MaxConnectionsPerAddress = 1 },
			func(t *testing.T, n *node) {
				first, second := n.dial(t), n.dial(t)
				first.text.ReadLine()
				second.text.ReadLine()
				hangUp(first)
				hangUp(second)
			},
			"",
		},
		"nonsense": {
			nil,
			func(t *testing.T, n *node) {
				c := greeted(t, n)
				defer hangUp(c)
				for range maxEarly {
					c.send("\x00\xff%s", strings.Repeat("x", 100))
				}
				c.send("%s", strings.Repeat("x", maxLine+1))
			},
			"",
		},
		"directory in the way": {
			func(t *testing.T, o *Options, d *drop.Options) {
				o.Users = append(o.Users, User{Name: "lost", Password: "pass"})
				require.NoError(t, disk.MkdirAll(d.FS, "drop", 0o700))
				require.NoError(t, disk.WriteFile(d.FS, "drop/lost", nil, 0o600))
			},
			func(t *testing.T, n *node) {
				c := greeted(t, n)
				defer hangUp(c)
				c.do(331, "USER lost")
				c.do(550, "PASS pass")
			},
			"a user's directory cannot be opened",
		},
		"active mode": {
			nil,
			func(t *testing.T, n *node) { c := n.login(t); defer hangUp(c); c.do(502, "PORT 127,0,0,1,200,200") },
			"active mode was refused",
		},
		"somebody else's address": {
			func(_ *testing.T, o *Options, _ *drop.Options) { o.ActiveMode = true },
			func(t *testing.T, n *node) {
				c := n.login(t)
				defer hangUp(c)
				for range 10 {
					c.do(504, "PORT 192,0,2,1,200,200")
				}
			},
			"data connection to a foreign address or a low port refused",
		},
		"no port": {
			func(t *testing.T, o *Options, _ *drop.Options) {
				port := freeport.Range(t, 1)
				other, err := net.Listen("tcp", fmt.Sprint(":", port))
				require.NoError(t, err)
				t.Cleanup(func() { other.Close() })
				o.PassivePorts = PortRange{port, port}
			},
			func(t *testing.T, n *node) { c := n.login(t); defer hangUp(c); c.do(425, "EPSV") },
			`msg="no passive port"`,
		},
		"PASV over IPv6": {
			func(t *testing.T, o *Options, _ *drop.Options) {
				var err error
				o.Listener, err = net.Listen("tcp", "[::1]:0")
				require.NoError(t, err)
			},
			func(t *testing.T, n *node) { c := n.login(t); defer hangUp(c); c.do(425, "PASV") },
			"no address for PASV",
		},
		"no data connection": {
			func(_ *testing.T, o *Options, _ *drop.Options) { o.StallTimeout = 5 * time.Millisecond },
			func(t *testing.T, n *node) {
				c := n.login(t)
				defer hangUp(c)
				c.do(229, "EPSV")
				c.do(150, "LIST")
				c.expect(425)
			},
			"no data connection came: the passive port",
		},
		"no TLS on the data connection": {
			func(_ *testing.T, o *Options, _ *drop.Options) { o.TLS = TLSOptional },
			func(t *testing.T, n *node) {
				c := n.loginTLS(t)
				defer hangUp(c)
				data := c.passive()
				c.do(150, "LIST")
				data.Close()
				c.expect(425)
			},
			"TLS did not begin on a data connection",
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := &syncBuffer{}
			n := start(t, func(o *Options, d *drop.Options) {
				o.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))
				d.Log = slog.New(slog.DiscardHandler) // what it says is another matter
				o.guard = guard.Options{Failures: 1 << 20, UserFailures: 1 << 20, Delay: 1, MaxDelay: 1}
				if c.options != nil {
					c.options(t, o, d)
				}
			})
			first := n.dial(t)
			if n.opts.TLS != TLSImplicit {
				first.expect(220) // what Serve has to say at its start is said
			}
			hangUp(first)
			eventually(t, func() bool { return n.sessionCount() == 0 }, "it has ended")
			before := strings.Count(log.String(), "\n")
			for range times {
				c.attack(t, n)
			}
			require.LessOrEqual(t, strings.Count(log.String(), "\n"), before+1, log.String())
			n.cancel()
			require.NoError(t, <-n.served)
			n.served <- nil
			require.LessOrEqual(t, strings.Count(log.String(), "\n"), before+2, log.String())
			if c.line != "" {
				require.Equal(t, 2, strings.Count(log.String(), c.line), log.String())
				require.Contains(t, log.String(), " times=")
			}
		})
	}
}
