//go:build linux

package evidence

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	patience = 10 * time.Second // for what must happen
	never    = time.Hour        // a settle time that does not end
	code226  = "226 Received.\r\n"
)

// recorder is a Verdict that keeps what it was told.
type recorder struct {
	t    testing.TB
	told chan string
	n    atomic.Int32
	at   time.Time // set before told
}

func newRecorder(t testing.TB) *recorder {
	r := &recorder{t: t, told: make(chan string, 10)}
	t.Cleanup(func() { require.LessOrEqual(t, r.n.Load(), int32(1), "a verdict is final") })
	return r
}

func (r *recorder) tell(what string)          { r.n.Add(1); r.at = time.Now(); r.told <- what }
func (r *recorder) Read()                     { r.tell("read") }
func (r *recorder) Interrupted(reason string) { r.tell("interrupted: " + reason) }
func (r *recorder) Doubtful(reason string)    { r.tell("doubtful: " + reason) }

func (r *recorder) expect(what string) {
	r.t.Helper()
	select {
	case got := <-r.told:
		require.Equal(r.t, what, strings.SplitN(got, ":", 2)[0], got)
	case <-time.After(patience):
		require.Fail(r.t, "no verdict", "expected %s", what)
	}
}

func (r *recorder) open() {
	r.t.Helper()
	require.Zero(r.t, r.n.Load(), "there is a verdict already")
}

// peers are a client and the session that serves it, over loopback.
type peers struct {
	t      testing.TB
	w      *Witness
	raw    *net.TCPConn // the client's,
	client net.Conn     // and TLS over it, if there is any
	text   *bufio.Reader
	conn   *Conn
	server net.Conn // conn, or TLS over it
	lines  chan string
	done   chan struct{} // the session's reader has ended
	looks  atomic.Int64  // of the kernel at conn
	goOn   chan struct{} // lets the session's reader go on after a WAIT
}

var certificate = sync.OnceValue(func() *tls.Config {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}
})

// connect logs in: the client has read the greeting, and USER has arrived.
func connect(t testing.TB, secure bool, o Options) *peers {
	t.Helper()
	return connectTo(t, secure, New(o))
}

func connectTo(t testing.TB, secure bool, w *Witness) *peers {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	accepted, err := l.Accept()
	require.NoError(t, err)
	p := &peers{t: t, w: w, raw: dialled.(*net.TCPConn), client: dialled, lines: make(chan string, 100), done: make(chan struct{}), goOn: make(chan struct{})}
	p.conn = w.Watch(accepted)
	look := p.conn.look
	p.conn.look = func(c *net.TCPConn) status {
		st := look(c)
		if c == accepted {
			p.looks.Add(1)
		}
		return st
	}
	p.server = p.conn
	if secure {
		p.client = tls.Client(dialled, &tls.Config{InsecureSkipVerify: true})
		p.server = tls.Server(p.conn, certificate())
	}
	require.NoError(t, dialled.SetDeadline(time.Now().Add(patience)))
	p.text = bufio.NewReader(p.client)
	go p.serve()
	p.expect("220 Ready.")
	p.send("USER dock")
	p.arrives("USER")
	p.conn.LoggedIn("dock", netip.MustParseAddr("127.0.0.1"))
	t.Cleanup(func() { p.raw.Close(); p.conn.Conn.Close(); <-p.done })
	return p
}

// serve is a session's reader.
func (p *peers) serve() {
	defer close(p.done)
	io.WriteString(p.server, "220 Ready.\r\n")
	r := bufio.NewReader(p.server)
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			p.conn.CloseNotified()
		}
		if err != nil {
			break
		}
		verb, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		p.conn.Line(verb)
		p.lines <- verb
		if verb == "WAIT" {
			<-p.goOn
		}
	}
	if p.conn.Awaits() { // TLS has ended
		io.Copy(io.Discard, p.conn)
	}
}

func (p *peers) send(command string) {
	p.t.Helper()
	_, err := io.WriteString(p.client, command+"\r\n")
	require.NoError(p.t, err)
}

func (p *peers) expect(line string) {
	p.t.Helper()
	got, err := p.text.ReadString('\n')
	require.NoError(p.t, err)
	require.Equal(p.t, line, strings.TrimRight(got, "\r\n"))
}

// arrives waits until the session has got the command.
func (p *peers) arrives(verb string) {
	p.t.Helper()
	select {
	case got := <-p.lines:
		require.Equal(p.t, verb, got)
	case <-time.After(patience):
		require.Fail(p.t, "the command did not arrive", verb)
	}
}

// seen does something that wakes the reader, and waits until that has asked the kernel.
func (p *peers) seen(do func()) {
	p.t.Helper()
	before := p.looks.Load()
	do()
	p.eventually(func() bool { return p.looks.Load() > before })
}

func (p *peers) eventually(condition func() bool) {
	p.t.Helper()
	require.Eventually(p.t, condition, patience, time.Millisecond)
}

// acked waits until the client's kernel has acknowledged all that was written.
func (p *peers) acked() {
	p.t.Helper()
	p.eventually(func() bool { return look(p.conn.tcp).acked >= p.conn.written.Load() })
}

// reply acknowledges an upload; before runs right before the 226 is written, when the last look is over.
func (p *peers) reply(before func()) *recorder {
	p.t.Helper()
	return p.finish(p.conn.Upload(), before)
}

func (p *peers) finish(u *Upload, before func()) *recorder {
	p.t.Helper()
	r := newRecorder(p.t)
	u.DataEnded()
	u.Reply(r, func(broken error) {
		require.NoError(p.t, broken)
		if before != nil {
			before()
		}
		io.WriteString(p.server, code226)
	})
	return r
}

// reset ends the client's connection by RST, whatever it has read.
func (p *peers) reset() {
	p.t.Helper()
	require.NoError(p.t, p.raw.SetLinger(0))
	require.NoError(p.t, p.raw.Close())
}

func modes(t *testing.T, test func(t *testing.T, secure bool)) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "plain", true: "TLS"}[secure], func(t *testing.T) {
			t.Parallel()
			test(t, secure)
		})
	}
}

// TestVerdicts holds what a client can do from right before the 226 on, and what follows.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(p *peers)              // between the last look and the 226
		after  func(p *peers, r *recorder) // the 226
		want   string
	}{
		{name: "read, then closed", after: func(p *peers, _ *recorder) {
			p.expect("226 Received.")
			p.client.Close()
		}, want: "read"},
		{name: "read, then ended by close_notify, if there is TLS, and open until it is answered", after: func(p *peers, _ *recorder) {
			p.expect("226 Received.")
			if c, ok := p.client.(*tls.Conn); ok {
				require.NoError(p.t, c.CloseWrite())
			} else {
				p.raw.Close()
			}
		}, want: "read"},
		{name: "given up in order with the 226 unread", after: func(p *peers, _ *recorder) {
			p.acked()
			p.client.Close()
		}, want: "doubtful"},
		{name: "close_notify, if there is TLS, that crosses the 226, and then RST", before: func(p *peers) {
			if c, ok := p.client.(*tls.Conn); ok {
				p.seen(func() { require.NoError(p.t, c.CloseWrite()) })
			}
		}, after: func(p *peers, _ *recorder) { p.reset() }, want: "doubtful"},
		{name: "read, then half-closed", after: func(p *peers, _ *recorder) {
			p.expect("226 Received.")
			p.raw.CloseWrite()
		}, want: "read"},
		{name: "read, then killed", after: func(p *peers, _ *recorder) {
			p.expect("226 Received.")
			p.raw.Close()
		}, want: "read"},
		{name: "read, then QUIT and RST", after: func(p *peers, _ *recorder) {
			p.expect("226 Received.")
			p.send("QUIT")
			p.reset()
		}, want: "read"},
		{name: "read, then RST", after: func(p *peers, _ *recorder) {
			p.expect("226 Received.")
			p.acked()
			p.reset()
		}, want: "doubtful"},
		{name: "killed with the 226 unread", after: func(p *peers, _ *recorder) {
			p.acked()
			p.raw.Close()
		}, want: "doubtful"},
		{name: "RST at once", after: func(p *peers, _ *recorder) { p.reset() }, want: "doubtful"},
		{name: "RST that a write is told of", before: func(p *peers) {
			p.seen(func() { p.send("WAIT") })
		}, after: func(p *peers, r *recorder) {
			defer close(p.goOn)
			p.arrives("WAIT")
			p.acked()
			p.reset()
			p.eventually(func() bool { return look(p.conn.tcp).state == stateClose })
			_, err := io.WriteString(p.server, "200 I am here.\r\n")
			require.ErrorIs(p.t, err, syscall.ECONNRESET)
			r.open()
		}, want: "doubtful"},
		{name: "a FIN that crosses the 226, and then RST: killed", before: func(p *peers) {
			p.seen(func() { p.raw.Close() })
		}, want: "interrupted"},
		{name: "a FIN that crosses the 226, and then RST, that a write is told of", before: func(p *peers) {
			p.seen(func() { p.raw.Close() })
		}, after: func(p *peers, _ *recorder) {
			io.WriteString(p.server, "200 I am here.\r\n")
		}, want: "interrupted"},
		{name: "a half-close that crosses the 226", before: func(p *peers) {
			p.seen(func() { p.raw.CloseWrite() })
		}, after: func(p *peers, _ *recorder) {
			p.expect("226 Received.")
		}, want: "read"},
		{name: "QUIT that crosses the 226", before: func(p *peers) {
			p.seen(func() { p.send("QUIT") })
		}, want: "interrupted"},
		{name: "QUIT that is noted when the last look is over", before: func(p *peers) {
			p.conn.Line("QUIT")
		}, want: "interrupted"},
		{name: "QUIT after it was read", after: func(p *peers, _ *recorder) {
			p.expect("226 Received.")
			p.send("QUIT")
		}, want: "read"},
		{name: "ABOR that crosses the 226", before: func(p *peers) {
			p.seen(func() { p.send("ABOR") })
		}, want: "interrupted"},
		{name: "NOOP of another thread that crosses the 226", before: func(p *peers) {
			p.seen(func() { p.send("NOOP") })
		}, after: func(p *peers, r *recorder) {
			p.arrives("NOOP")
			r.open()
			p.expect("226 Received.")
			p.send("NOOP")
		}, want: "read"},
		{name: "NOOP that crosses the 226, then RST", before: func(p *peers) {
			p.seen(func() { p.send("NOOP") })
		}, after: func(p *peers, r *recorder) {
			p.arrives("NOOP")
			r.open()
			p.reset()
		}, want: "doubtful"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			modes(t, func(t *testing.T, secure bool) {
				p := connect(t, secure, Options{Settle: never, Stall: never})
				before := c.before
				r := p.reply(func() {
					if before != nil {
						before(p)
					}
				})
				if c.after != nil {
					c.after(p, r)
				}
				r.expect(c.want)
			})
		})
	}
}

// TestUrgentAbort sends the whole line as urgent data, as Python's and Ruby's libraries do.
func TestUrgentAbort(t *testing.T) {
	urgent := func(p *peers) {
		raw, err := p.raw.SyscallConn()
		require.NoError(p.t, err)
		require.NoError(p.t, raw.Control(func(fd uintptr) {
			require.NoError(p.t, unix.Sendto(int(fd), []byte("ABOR\r\n"), unix.MSG_OOB, nil))
		}))
	}
	t.Run("in the middle", func(t *testing.T) {
		p := connect(t, false, Options{})
		u := p.conn.Upload()
		require.NoError(t, u.Broken())
		urgent(p)
		p.arrives("ABOR")
		require.Equal(t, ErrAborted, u.Broken())
		u.Trust()
		require.Equal(t, ErrAborted, u.Broken(), "however much it is trusted")
	})
	t.Run("at the end", func(t *testing.T) {
		p := connect(t, false, Options{Settle: never})
		p.reply(func() { p.seen(func() { urgent(p) }) }).expect("interrupted")
	})
	t.Run("behind the end", func(t *testing.T) {
		p := connect(t, false, Options{Settle: never})
		r := p.reply(nil)
		p.expect("226 Received.")
		urgent(p)
		r.expect("read")
	})
}

// TestBroken holds what is seen before the 226.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    func(p *peers, data *net.TCPConn)
		want  error
		trust error // if it is trusted
	}{
		{"nothing", func(*peers, *net.TCPConn) {}, nil, nil},
		{"QUIT behind a broken source", func(p *peers, data *net.TCPConn) {
			data.Close()
			p.send("QUIT")
			p.arrives("QUIT")
		}, ErrQuit, nil},
		{"QUIT that overtakes the data", func(p *peers, data *net.TCPConn) {
			p.send("QUIT")
			p.arrives("QUIT")
			data.Close()
		}, ErrQuit, nil},
		{"NOOP behind the data", func(p *peers, data *net.TCPConn) {
			data.Close()
			p.send("NOOP")
			p.arrives("NOOP")
		}, nil, nil},
		{"ABOR", func(p *peers, _ *net.TCPConn) {
			p.send("ABOR")
			p.arrives("ABOR")
		}, ErrAborted, ErrAborted},
		{"closed", func(p *peers, _ *net.TCPConn) { p.raw.Close() }, ErrHungUp, nil},
		{"half-closed", func(p *peers, _ *net.TCPConn) { p.raw.CloseWrite() }, ErrHungUp, nil},
		{"reset", func(p *peers, _ *net.TCPConn) { p.reset() }, ErrHungUp, nil},
	} {
		for _, trust := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, trusted %v", c.name, trust), func(t *testing.T) {
				modes(t, func(t *testing.T, secure bool) {
					p := connect(t, secure, Options{Settle: never, Stall: never})
					data, received := pair(t)
					_, err := data.Write(make([]byte, 100_000)) // most of it is still to be read when the data has ended
					require.NoError(t, err)
					p.eventually(func() bool { return look(received).received > 0 })
					u := p.conn.Upload()
					u.Data(received)
					want := c.want
					if trust {
						u.Trust()
						want = c.trust
					}
					c.do(p, data)
					if c.want == ErrHungUp {
						p.eventually(p.conn.Ended)
					}
					u.DataEnded()
					require.Equal(t, want, u.Broken())

					r := newRecorder(t)
					u.Reply(r, func(broken error) {
						require.Equal(t, want, broken)
						io.WriteString(p.server, code226)
					})
					switch {
					case want != nil:
						r.expect("interrupted")
					case trust:
						r.expect("read")
					default:
						r.open()
					}
				})
			})
		}
	}
	for name, more := range map[string]int{"little": 1000, "much": inFlight + 1000} {
		t.Run("QUIT in the middle, and "+name+" follows", func(t *testing.T) {
			p := connect(t, false, Options{Settle: never})
			data, received := pair(t)
			u := p.conn.Upload()
			u.Data(received)
			_, err := data.Write(make([]byte, 1000))
			require.NoError(t, err)
			p.eventually(func() bool { return look(received).received == 1000 })
			p.send("QUIT")
			p.arrives("QUIT")
			go func() {
				data.Write(make([]byte, more))
				data.Close()
			}()
			_, err = io.Copy(io.Discard, received)
			require.NoError(t, err)
			u.DataEnded()
			if name == "little" {
				require.Equal(t, ErrQuit, u.Broken())
			} else {
				require.NoError(t, u.Broken())
			}
		})
	}
	for name, sent := range map[string]int{"after": 0, "before": 1000} {
		t.Run("QUIT before the data connection is known; the data comes "+name, func(t *testing.T) {
			p := connect(t, false, Options{Settle: never})
			data, received := pair(t)
			u := p.conn.Upload()
			_, err := data.Write(make([]byte, sent))
			require.NoError(t, err)
			p.eventually(func() bool { return look(received).received == uint64(sent) })
			p.send("QUIT")
			p.arrives("QUIT")
			u.Data(received)
			_, err = data.Write(make([]byte, 1000))
			require.NoError(t, err)
			data.Close()
			_, err = io.Copy(io.Discard, received)
			require.NoError(t, err)
			u.DataEnded()
			if sent > 0 {
				require.Equal(t, ErrQuit, u.Broken())
			} else {
				require.NoError(t, u.Broken())
			}
		})
	}
	t.Run("QUIT that is pipelined before the upload begins", func(t *testing.T) {
		p := connect(t, false, Options{Settle: never})
		p.send("STOR x\r\nQUIT")
		p.arrives("STOR")
		p.arrives("QUIT")
		r := p.reply(nil)
		r.open()
		p.expect("226 Received.")
		p.raw.Close()
		r.expect("read")
	})
}

// pair is a data connection.
func pair(t testing.TB) (dialled, accepted *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	d, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	a, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { d.Close(); a.Close() })
	return d.(*net.TCPConn), a.(*net.TCPConn)
}

// TestCounterStartsAtZero holds what the positions are counted by.
func TestCounterStartsAtZero(t *testing.T) {
	dialled, accepted := pair(t)
	require.Equal(t, uint64(0), look(accepted).acked)
	require.Equal(t, uint64(1), look(dialled).acked, "the SYN")
	_, err := accepted.Write(make([]byte, 1000))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return look(accepted).acked == 1000 }, patience, time.Millisecond)
	require.NoError(t, accepted.CloseWrite())
	require.Eventually(t, func() bool { return look(accepted).acked == 1001 }, patience, time.Millisecond, "the FIN")
	require.NoError(t, dialled.SetLinger(0))
	require.NoError(t, dialled.Close())
	require.Eventually(t, func() bool { return look(accepted).state == stateClose }, patience, time.Millisecond)
	require.Equal(t, uint64(1001), look(accepted).acked, "it survives a RST")
}

// TestClientThatHolds keeps its connection and says nothing; its kernel acknowledges by itself.
func TestClientThatHolds(t *testing.T) {
	modes(t, func(t *testing.T, secure bool) {
		const settle = 120 * time.Millisecond
		p := connect(t, secure, Options{Settle: settle, Stall: never})
		var written time.Time
		r := p.reply(func() { written = time.Now() })
		r.expect("read")
		require.GreaterOrEqual(t, r.at.Sub(written), settle)

		// A reset after that proves nothing either way; it is too late.
		p.reset()
		<-p.done
	})
}

// TestNothingComes has a network that swallows everything.
func TestNothingComes(t *testing.T) {
	var frozen atomic.Bool
	var last atomic.Uint64
	w := New(Options{Stall: 100 * time.Millisecond})
	w.look = func(c *net.TCPConn) status {
		st := look(c)
		if frozen.Load() {
			st.acked = last.Load()
		} else {
			last.Store(st.acked)
		}
		return st
	}
	p := connectTo(t, false, w)
	var written time.Time
	r := p.reply(func() { frozen.Store(true); written = time.Now() })
	r.expect("read")
	require.GreaterOrEqual(t, r.at.Sub(written), w.opts.Stall, "the settle time is not enough: nothing was acknowledged")
}

// TestLateAcknowledgement comes when the settle time has long been over.
func TestLateAcknowledgement(t *testing.T) {
	var frozen atomic.Bool
	var last atomic.Uint64
	w := New(Options{Settle: time.Millisecond, Stall: never})
	w.look = func(c *net.TCPConn) status {
		st := look(c)
		if frozen.Load() {
			st.acked = last.Load()
		} else {
			last.Store(st.acked)
		}
		return st
	}
	p := connectTo(t, false, w)
	r := p.reply(func() { frozen.Store(true) })
	before := p.looks.Load()
	p.eventually(func() bool { return p.looks.Load() >= before+3 }) // with that of Reply
	r.open()
	frozen.Store(false)
	r.expect("read")
}

// TestNoCounter runs on a system that does not count: only what is seen before the 226 counts.
func TestNoCounter(t *testing.T) {
	log := &strings.Builder{}
	w := New(Options{Settle: never, Log: slog.New(slog.NewTextHandler(log, nil))})
	w.look = func(c *net.TCPConn) status {
		st := look(c)
		st.acked = 0
		return st
	}
	for range 2 {
		p := connectTo(t, false, w)
		p.reply(func() { p.seen(func() { p.send("QUIT") }) }).expect("read")
	}
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log)
	require.Contains(t, log.String(), "tcpi_bytes_acked")

	p := connectTo(t, false, w)
	u := p.conn.Upload()
	p.raw.Close()
	p.eventually(func() bool { return u.Broken() == ErrHungUp })
}

// TestSeveral226 has two of them under way: what came in between acknowledges the first.
func TestSeveral226(t *testing.T) {
	modes(t, func(t *testing.T, secure bool) {
		p := connect(t, secure, Options{Settle: never, Stall: never})
		first := p.reply(nil)
		p.expect("226 Received.")
		p.acked()
		second := p.reply(func() { p.seen(func() { p.send("QUIT") }) })
		first.expect("read")
		second.expect("interrupted")
	})
}

// TestClosedByTheServer keeps the socket until a verdict is in, if the client's FIN left one open.
func TestClosedByTheServer(t *testing.T) {
	usable := func(p *peers) bool { return look(p.conn.tcp).known }
	t.Run("half-closed client", func(t *testing.T) {
		w := New(Options{Settle: never, Stall: never})
		var frozen atomic.Bool
		w.look = func(c *net.TCPConn) status {
			st := look(c)
			if frozen.Load() {
				st.acked = 15 // what the greeting and its line end had
			}
			return st
		}
		p := connectTo(t, false, w)
		r := p.reply(func() { frozen.Store(true); p.seen(func() { p.raw.CloseWrite() }) })
		p.eventually(func() bool { p.conn.mu.Lock(); defer p.conn.mu.Unlock(); return p.conn.end == fin })
		require.NoError(t, p.conn.Close())
		require.True(t, usable(p))
		r.open()
		rest, err := io.ReadAll(p.text)
		require.NoError(t, err)
		require.Equal(t, code226, string(rest), "the client sees the end")
		frozen.Store(false)
		r.expect("read")
		p.eventually(func() bool { return !usable(p) })
	})
	t.Run("nothing waits", func(t *testing.T) {
		p := connect(t, false, Options{})
		require.NoError(t, p.conn.Close())
		require.False(t, usable(p))
	})
	t.Run("the server stops", func(t *testing.T) {
		p := connect(t, false, Options{Settle: never, Stall: never})
		r := p.reply(nil)
		p.w.Close()
		r.expect("read")
		p.reply(nil).expect("read")
	})
	t.Run("the session is killed", func(t *testing.T) {
		p := connect(t, false, Options{Settle: never, Stall: 100 * time.Millisecond})
		r := p.reply(nil)
		require.NoError(t, p.conn.Close())
		r.expect("read")
	})
	t.Run("the session is killed before the 226", func(t *testing.T) {
		p := connect(t, false, Options{})
		p.reply(func() { p.conn.Close() }).expect("interrupted")
	})
}

// TestOtherConnections are watched by what is read from them.
func TestOtherConnections(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	c := New(Options{}).Watch(server)
	u := c.Upload()
	require.NoError(t, u.Broken())
	client.Close()
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.True(t, c.Ended())
	require.Equal(t, ErrHungUp, u.Broken())
	require.NoError(t, c.CloseWrite())
	require.NoError(t, c.Close())
}

func TestLooks(t *testing.T) {
	var at []time.Duration
	for age := time.Duration(0); len(at) < 7; {
		age += nextLook(age, 300*time.Millisecond)
		at = append(at, age)
	}
	const ms = time.Millisecond
	require.Equal(t, []time.Duration{50 * ms, 250 * ms, 300 * ms, 1000 * ms, 2000 * ms, 3000 * ms, 4000 * ms}, at)
}

// TestWarning names the setting when a device never waits for its replies.
func TestWarning(t *testing.T) {
	log := &strings.Builder{}
	w := New(Options{Settle: never, Log: slog.New(slog.NewTextHandler(log, nil))})
	warned := func() int { return strings.Count(log.String(), "trustHangups") }
	leave := func() {
		p := connectTo(t, false, w)
		u := p.conn.Upload()
		p.raw.Close()
		p.eventually(func() bool { return u.Broken() == ErrHungUp })
		u.Reply(newRecorder(t), func(error) {}) // looks again: the upload counts once
	}
	doubt := func() {
		p := connectTo(t, false, w)
		r := p.reply(nil)
		p.reset()
		r.expect("doubtful")
	}
	abort := func() {
		p := connectTo(t, false, w)
		p.reply(func() { p.seen(func() { p.send("ABOR") }) }).expect("interrupted")
	}
	read := func() {
		p := connectTo(t, false, w)
		r := p.reply(nil)
		p.expect("226 Received.")
		p.send("NOOP")
		r.expect("read")
	}
	leave()
	doubt()
	read()
	leave()
	doubt()
	abort()
	require.Zero(t, warned())
	leave()
	require.Equal(t, 1, warned(), log)
	require.Contains(t, log.String(), "user=dock")
	leave()
	require.Equal(t, 1, warned(), log)
}

func TestCloseNotify(t *testing.T) {
	type end struct {
		notify bool
		size   int64
		sum    uint32
		whole  bool
	}
	for name, ends := range map[string][]end{
		"never sent":           {{false, 1, 1, true}, {false, 2, 2, true}},
		"sent once":            {{true, 1, 1, true}, {false, 1, 1, false}, {true, 1, 1, true}},
		"the same again":       {{true, 1, 1, true}, {false, 5, 7, false}, {false, 5, 7, true}, {false, 6, 8, true}},
		"not the same":         {{true, 1, 1, true}, {false, 5, 7, false}, {false, 5, 8, false}, {false, 6, 8, false}, {false, 6, 8, true}},
		"nothing is no proof":  {{true, 1, 1, true}, {false, 0, 0, false}, {false, 0, 0, false}},
		"zero is no first one": {{true, 1, 1, true}, {false, 1, 0, false}},
	} {
		t.Run(name, func(t *testing.T) {
			c := New(Options{}).Watch(nil)
			c.LoggedIn("dock", netip.MustParseAddr("192.0.2.1"))
			for i, e := range ends {
				err := c.Upload().EndTLS(e.notify, e.size, e.sum)
				require.Equal(t, e.whole, err == nil, "%d: %v", i, err)
			}
			c.LoggedIn("dock", netip.MustParseAddr("192.0.2.2"))
			require.NoError(t, c.Upload().EndTLS(false, 3, 3), "another address has its own habits")
		})
	}
}

func TestHabitsAreBounded(t *testing.T) {
	var h habits
	first := client{"first", netip.Addr{}}
	h.whole(first, true, 1, 1)
	for i := range maxClients - 1 {
		h.read(client{fmt.Sprint(i), netip.Addr{}})
	}
	require.False(t, h.whole(first, false, 1, 1))
	for i := range 2 * maxClients {
		h.read(client{fmt.Sprint("other", i), netip.Addr{}})
	}
	require.Len(t, h.of, maxClients)
	require.Equal(t, maxClients, h.order.Len())
	require.True(t, h.whole(first, false, 1, 1), "it is forgotten")
}
