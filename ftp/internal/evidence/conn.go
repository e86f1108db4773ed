package evidence

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How a client has ended its side.
type ending int

const (
	open  ending = iota
	fin          // in order: closed, half-closed, or killed with nothing unread
	reset        // by RST, without a FIN before
	lost         // the network gave up: nothing is known
)

// What makes the 226es that wait be looked at.
type event int

const (
	looked  event = iota // the timer, or the connection's end
	command              // one arrived
	quit                 // QUIT did
	abort                // ABOR did
)

// Conn is a control connection below TLS, if there is any: whatever is read and written goes through it. One
// goroutine reads it, and calls Line for each command before it reads on.
//
// No goroutine belongs to it: verdicts are given by Read, Line and Reply, and by a timer, which runs while a 226 waits.
type Conn struct {
	net.Conn
	w    *Witness
	tcp  *net.TCPConn // nil: not TCP
	look func(*net.TCPConn) status

	taken   atomic.Uint64 // raw bytes read
	written atomic.Uint64 // raw bytes
	greeted atomic.Uint64 // position of the end of the first write
	failure atomic.Value  // syscall.Errno of the first write that failed, 0 for other errors
	shut    atomic.Bool   // this side was closed for writing

	replying sync.Mutex // held while a 226 is written: what arrives meanwhile is judged when its position is known

	mu      sync.Mutex
	client  client
	upload  *Upload // under way: from its start to its 226
	pending []*pending
	sample  uint64 // acknowledged when something arrived last
	heard   time.Time
	end     ending
	timer   *time.Timer
	since   time.Time // what the timer's looks are counted from
	closing bool      // close when nothing is pending
	closed  bool
}

// pending is a 226 without a verdict.
type pending struct {
	verdict  Verdict
	position uint64 // of its end among the bytes written
	at       time.Time
}

// Watch returns c as one that is watched. Urgent data, with which clients send ABOR, is left in the stream
// (SO_OOBINLINE). A connection that is not a *net.TCPConn has no counter.
func (w *Witness) Watch(c net.Conn) *Conn {
	tcp, _ := c.(*net.TCPConn)
	if tcp != nil {
		inlineUrgent(tcp)
	}
	return &Conn{Conn: c, w: w, tcp: tcp, look: w.look}
}

// LoggedIn says whose the connection is: some of what a client does is remembered by its user and address.
func (c *Conn) LoggedIn(user string, addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client = client{user, addr}
}

// Read reads raw bytes. The counter is read first thing when it returns, unless nothing depends on it.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.taken.Add(uint64(n))
	var st status
	if err != nil || c.counts() {
		st = c.status()
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		c.arrived(st, err)
	}
	return n, err
}

// counts reports whether the counter may say something new: whether the greeting is acknowledged, or a 226 that what has just been read may
// have been sent behind.
func (c *Conn) counts() bool {
	if !c.mu.TryLock() {
		return true
	}
	defer c.mu.Unlock()
	return c.upload != nil || len(c.pending) > 0 || c.sample < c.greeted.Load()
}

// Taken is how many raw bytes were read.
func (c *Conn) Taken() uint64 { return c.taken.Load() }

// Arrived is how many raw bytes have arrived, read or not, as far as the kernel says.
func (c *Conn) Arrived() uint64 { return max(c.status().received, c.Taken()) }

// Write writes raw bytes.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	total := c.written.Add(uint64(n))
	c.greeted.CompareAndSwap(0, total)
	if err != nil {
		var errno syscall.Errno // 0 for a timeout
		errors.As(err, &errno)
		c.failure.CompareAndSwap(nil, errno)
	}
	return n, err
}

// CloseWrite ends this side of the connection.
func (c *Conn) CloseWrite() error {
	c.shut.Store(true)
	if c.tcp == nil {
		return nil
	}
	return c.tcp.CloseWrite()
}

// Close closes the connection. After a FIN that left a 226 without a verdict it only ends this side for writing, and
// the socket is kept until there is one: for [Options.Stall] at most.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.end == fin && len(c.pending) > 0 && !c.w.ended() {
		c.closing = true
		c.mu.Unlock()
		return c.CloseWrite()
	}
	c.closed = true
	c.mu.Unlock()
	return c.Conn.Close()
}

// Ended reports whether the client has ended its side of the connection, whether that has been read or not.
func (c *Conn) Ended() bool {
	st := c.status()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endedLocked(st)
}

// Awaits reports whether a 226 has no verdict yet. Then it is worth reading on when TLS has ended above a connection
// that has not.
func (c *Conn) Awaits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end == open && len(c.pending) > 0
}

func (c *Conn) endedLocked(st status) bool {
	return c.end != open || st.known && (st.state == stateCloseWait || st.state == stateClose)
}

// status asks the kernel.
func (c *Conn) status() status {
	if c.tcp == nil {
		return status{}
	}
	return c.look(c.tcp)
}

// Line notes that a command arrived. verb is in upper case.
func (c *Conn) Line(verb string) {
	c.mu.Lock()
	what := command
	switch verb {
	case "QUIT":
		what = quit
	case "ABOR":
		what = abort
	}
	if c.upload != nil && what != command {
		c.upload.left(what)
	}
	c.decide(what, status{})
}

// closeWait is how long a client that has ended TLS has for ending TCP, before the server answers.
const closeWait = 250 * time.Millisecond

// CloseNotified is called when a read of the TLS above has ended in order, before anything is answered. If a 226 waits, it reads
// on for a moment: a client that has read the 226 and closes ends by FIN, one that gives up with the 226 unread by RST. The
// server's own close_notify would make it a RST in both cases. A client that waits for that lives: its close_notify counts like a command.
func (c *Conn) CloseNotified() {
	if !c.Awaits() {
		return
	}
	_ = c.SetReadDeadline(time.Now().Add(closeWait))
	_, _ = io.Copy(io.Discard, c)
	c.mu.Lock()
	if c.end != open {
		c.mu.Unlock()
		return
	}
	c.decide(command, status{})
}

// replied waits until no 226 is being written.
func (c *Conn) replied() {
	c.replying.Lock()
	defer c.replying.Unlock()
}

// arrived notes that a read returned, with what the counter said at that moment.
func (c *Conn) arrived(st status, err error) {
	c.replied()
	c.mu.Lock()
	c.sample = max(c.sample, st.acked)
	c.heard = time.Now()
	if err == nil || c.end != open {
		c.mu.Unlock()
		return
	}
	failure, failed := c.failure.Load().(syscall.Errno)
	switch {
	case errors.Is(err, io.EOF) && !(failed && failure == syscall.ECONNRESET):
		c.end = fin // also after EPIPE: a RST came, but behind a FIN
		c.since = c.heard
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		c.end = reset
	default:
		c.end = lost
	}
	c.decide(looked, st)
}

// tick is the timer's look.
func (c *Conn) tick() {
	st := c.status()
	c.mu.Lock()
	c.decide(looked, st)
}

// giveUp takes each 226 that waits as read.
func (c *Conn) giveUp() {
	c.mu.Lock()
	for _, p := range c.pending {
		p.at = time.Time{}
	}
	c.heard = time.Time{}
	c.decide(looked, status{})
}

// decide gives each 226 its verdict, if there is one by now. It is called locked, and unlocks.
func (c *Conn) decide(what event, st status) {
	if len(c.pending) == 0 && !c.closing {
		c.mu.Unlock()
		return
	}
	now := time.Now()
	acked := max(c.sample, st.acked)
	if what != looked {
		acked = c.sample // what the client's kernel had when it sent the command
	}
	var verdicts []func()
	c.pending = slices.DeleteFunc(c.pending, func(p *pending) bool {
		verdict := c.judge(p, what, st, acked, now)
		if verdict != nil {
			verdicts = append(verdicts, verdict)
		}
		return verdict != nil
	})
	c.schedule(now)
	closeNow := c.closing && len(c.pending) == 0 && !c.closed
	c.closed = c.closed || closeNow
	c.mu.Unlock()
	for _, verdict := range verdicts {
		verdict()
	}
	if closeNow {
		c.Conn.Close()
	}
}

// judge is the verdict about one 226, or nil. c is locked.
func (c *Conn) judge(p *pending, what event, st status, acked uint64, now time.Time) func() {
	quiet := now.Sub(p.at)
	if c.heard.After(p.at) {
		quiet = now.Sub(c.heard)
	}
	client := c.client
	broke := func(tell func(string), reason string) func() {
		return func() { c.w.habits.broke(client); tell(reason) }
	}
	switch covered := acked >= p.position; {
	case covered && (what != looked || c.end == fin),
		covered && c.end == open && st.known && st.state != stateClose && now.Sub(p.at) >= c.w.opts.Settle,
		quiet >= c.w.opts.Stall:
		return func() { c.w.habits.read(client); p.verdict.Read() }
	case what == abort:
		return func() { p.verdict.Interrupted(ErrAborted.Error()) }
	case what == quit:
		return broke(p.verdict.Interrupted, "the client sent QUIT before it could have read the reply")
	case c.end == fin && st.known && st.state == stateClose:
		return broke(p.verdict.Interrupted, "the client had gone when the reply came")
	case c.end == reset:
		return broke(p.verdict.Doubtful, "the client reset the connection; it may not have read the reply")
	}
	return nil
}

// looks are when to look again after the last 226, or after a FIN: a bare acknowledgement wakes nobody.
var looks = []time.Duration{50 * time.Millisecond, 250 * time.Millisecond, time.Second}

// schedule sets the timer to the next look, if a 226 waits. c is locked.
func (c *Conn) schedule(now time.Time) {
	c.w.await(c, len(c.pending) > 0)
	if len(c.pending) == 0 {
		if c.timer != nil {
			c.timer.Stop()
		}
		return
	}
	next := nextLook(now.Sub(c.since), c.w.opts.Settle)
	if c.timer == nil {
		c.timer = time.AfterFunc(next, c.tick)
	} else {
		c.timer.Reset(next)
	}
}

// nextLook is how long to wait for the next look at the age of a 226.
func nextLook(age, settle time.Duration) time.Duration {
	next := age.Truncate(time.Second) + time.Second
	for _, l := range append([]time.Duration{settle}, looks...) {
		if l > age {
			next = min(next, l)
		}
	}
	return next - age
}
