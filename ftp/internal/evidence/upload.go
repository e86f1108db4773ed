package evidence

import (
	"errors"
	"net"
	"time"
)

// What [Upload.Broken] and [Upload.EndTLS] say. The texts can be sent to clients.
var (
	ErrAborted       = errors.New("the client aborted it")
	ErrQuit          = errors.New("the client sent QUIT behind the data without waiting for the reply")
	ErrHungUp        = errors.New("the client hung up without waiting for the reply")
	ErrNoCloseNotify = errors.New("the TLS data connection did not end with close_notify as before")
)

// Upload is one upload, from its first byte to its 226. Its methods are called by the goroutine that transfers it.
type Upload struct {
	c *Conn

	// Guarded by c.mu.
	data    *net.TCPConn
	over    bool   // the data has ended
	gone    event  // quit behind the data, or abort
	quit    bool   // a QUIT came before the data ended,
	before  uint64 // when so much of it had arrived
	trusted bool
	counted bool // the habits know that it broke
}

// Upload begins an upload. There is one at a time on a connection; the next one ends it.
func (c *Conn) Upload() *Upload {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.upload = &Upload{c: c}
	return c.upload
}

// inFlight is how much data can still be under way from a client that has ended it: Linux's largest send buffer (tcp_wmem).
const inFlight = 4 << 20

// Data says which the data connection is, below TLS, as soon as there is one.
func (u *Upload) Data(conn net.Conn) {
	u.c.mu.Lock()
	defer u.c.mu.Unlock()
	u.data, _ = conn.(*net.TCPConn)
	if u.quit {
		u.before = u.received()
	}
}

// received is how many bytes of data have arrived. u.c is locked.
func (u *Upload) received() uint64 {
	if u.data == nil {
		return 0
	}
	return u.c.look(u.data).received
}

// Trust says that there is no question about the upload: it came from offset 0 with exactly the size that ALLO declared, or hang-ups of
// the user are trusted. Only an ABOR before its 226 interrupts it.
func (u *Upload) Trust() {
	u.c.mu.Lock()
	defer u.c.mu.Unlock()
	u.trusted = true
}

// DataEnded says that the data has ended, well as it seems.
func (u *Upload) DataEnded() {
	u.c.mu.Lock()
	defer u.c.mu.Unlock()
	u.over = true
	if u.quit && u.gone == looked && u.before > 0 && u.received()-u.before <= inFlight {
		u.gone = quit
	}
}

// EndTLS says how a TLS data connection ended that seemed to end well: with close_notify or not. size and sum (CRC-32C) are
// of what came by it. It returns ErrNoCloseNotify if the upload is to be taken as interrupted: the user and
// address have sent a close_notify before. If they send the same bytes again without one, they do not send any
// for whole uploads: that counts as whole from then on.
func (u *Upload) EndTLS(closeNotify bool, size int64, sum uint32) error {
	u.c.mu.Lock()
	client := u.c.client
	u.c.mu.Unlock()
	if u.c.w.habits.whole(client, closeNotify, size, sum) {
		return nil
	}
	return ErrNoCloseNotify
}

// left notes a QUIT or ABOR. u.c is locked.
//
// A QUIT that comes before the data is the habit of some devices, and means nothing. One that comes when data has arrived
// was sent behind it, unless more follows than can have been under way: the data waits in the client's
// buffers, and its QUIT overtakes it.
func (u *Upload) left(by event) {
	switch {
	case by == abort:
		u.gone = abort
	case u.gone != looked || u.quit:
	case u.over:
		u.gone = quit
	default:
		u.quit, u.before = true, u.received()
	}
}

// Broken says why the upload is interrupted by what was seen before its 226, or nil: ErrAborted, ErrQuit or ErrHungUp.
func (u *Upload) Broken() error {
	st := u.c.status()
	u.c.mu.Lock()
	err, first := u.broken(st)
	client := u.c.client
	u.c.mu.Unlock()
	if first {
		u.c.w.habits.broke(client)
	}
	return err
}

// broken also reports whether the habits have to be told. u.c is locked.
func (u *Upload) broken(st status) (err error, first bool) {
	switch {
	case u.gone == abort:
		return ErrAborted, false
	case u.trusted:
		return nil, false
	case u.gone == quit:
		err = ErrQuit
	case u.c.endedLocked(st):
		err = ErrHungUp
	default:
		return nil, false
	}
	first, u.counted = !u.counted, true
	return err, first
}

// End ends an upload that gets no 226.
func (u *Upload) End() {
	u.c.mu.Lock()
	defer u.c.mu.Unlock()
	if u.c.upload == u {
		u.c.upload = nil
	}
}

// Reply looks once more, and calls write: with nil it has to write the 226, and nothing behind it; with an error (see Broken) a
// reply that says so. In the second case, and if the 226 cannot be written, v is told Interrupted; otherwise its verdict follows,
// which may be before Reply returns.
func (u *Upload) Reply(v Verdict, write func(broken error)) {
	c := u.c
	sent := u.reply(v, write)
	if sent.broke {
		c.w.habits.broke(sent.client)
	}
	switch {
	case sent.waits:
		if c.w.ended() {
			c.giveUp()
		}
	case sent.err != nil:
		v.Interrupted(sent.err.Error())
	case u.trusted:
		c.w.habits.read(sent.client)
		v.Read()
	default:
		c.w.noCounter.Do(func() {
			c.w.opts.Log.Warn("this system does not count acknowledged bytes (tcpi_bytes_acked): " +
				"a client that dies between the end of its data and the reply is not recognized")
		})
		v.Read()
	}
}

// sent is what is known when a reply has been written.
type sent struct {
	client client
	err    error // the upload is interrupted
	broke  bool  // the habits have to be told
	waits  bool  // for a verdict
}

// reply is Reply without what is told.
func (u *Upload) reply(v Verdict, write func(error)) (s sent) {
	c := u.c
	c.replying.Lock()
	defer c.replying.Unlock()
	s.err = u.Broken()
	write(s.err)
	position, now, st := c.written.Load(), time.Now(), c.status()

	c.mu.Lock()
	defer c.mu.Unlock()
	c.upload = nil
	s.client = c.client
	switch {
	case s.err != nil:
		return s
	case u.trusted:
		if u.gone == abort {
			s.err = ErrAborted
		}
		return s
	case c.failure.Load() != nil:
		s.err, s.broke = ErrHungUp, true
		return s
	}
	// What arrived before replying was locked may have been noted since Broken. The kernel is not asked again: the client may have read the 226 and gone.
	if s.err, s.broke = u.broken(status{}); s.err != nil {
		return s
	}
	if s.waits = st.known && c.sample >= c.greeted.Load(); s.waits {
		c.pending = append(c.pending, &pending{verdict: v, position: position, at: now})
		c.since = now
		c.schedule(now)
	}
	return s
}
