package ftp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/ftp/internal/engine"
	"github.com/ftpnode/ftpnode/ftp/internal/evidence"
	"github.com/ftpnode/ftpnode/internal/guard"
)

const (
	maxLine      = 4000 // bytes of a command with its line end
	lineQueue    = 32   // commands that wait for the one under way, before the client's TCP has to
	writeTimeout = 30 * time.Second
	tlsRecord    = 22              // the first byte of a TLS handshake (RFC 8446, 5.1)
	lingerTime   = 2 * time.Second // for the client to read the last reply
)

// session is one control connection.
//
// Its goroutines: run answers lines, one at a time, and runs the transfers; read takes lines from the client for it, and answers what must not
// wait for the end of a transfer: ABOR and STAT. run waits for read.
type session struct {
	srv     *Server
	id      uint64
	log     *slog.Logger   // of what the client causes
	tcp     *evidence.Conn // as accepted
	remote  netip.Addr
	started time.Time

	writing sync.Mutex
	conn    net.Conn // tcp, or TLS over it; changed under writing

	came     chan struct{} // of 1: there is a line, or there will be no more
	room     chan struct{} // of 1: a line was taken
	secured  chan net.Conn // to read: go on with this after AUTH; nil: as before
	gone     chan struct{} // closed when the client has hung up
	done     chan struct{} // closed when the server has ended the session
	doneOnce sync.Once

	login, idle *time.Timer
	loggedIn    atomic.Bool

	mu       sync.Mutex
	lines    []string // from read, for run
	over     bool     // no more will come
	cur      *command // under way
	aborts   int      // ABORs to answer after the transfer
	data     *dataChannel
	outcome  outcome
	closing  bool // no more commands
	draining bool // closing after the command under way
	reason   string

	// Of run's goroutine.
	state
}

// state is what commands have set.
type state struct {
	secure      bool     // the control connection has TLS
	upgraded    net.Conn // by the AUTH under way
	protected   bool     // PROT P
	epsvAll     bool
	user        string // as in USER, until PASS
	claimed     string // as in the last USER
	sinceTLS    int    // commands since TLS began
	failures    int    // of logins
	early, junk int    // commands before the login; unknown ones in a row
	budget      budget
	account     *User
	files       Session         // of the account, or nil
	engine      *engine.Session // over files, or nil
	renaming    string          // RNFR; "" if there is none
	offset      int64           // REST
	declared    int64           // ALLO; -1 if it was not sent
	hidden      []string        // facts that OPTS MLST has left out
}

// command is one that is under way, from its line to its last reply.
type command struct {
	log       *slog.Logger // the session's, which another log-in changes
	verb, arg string
	offset    int64  // REST
	declared  int64  // ALLO; -1 if it was not sent
	name      string // made up for STOU

	// Guarded by session.mu.
	transfer bool  // under way
	err      error // why the session made it fail
	aborted  bool
	began    bool    // its file is open
	noted    bool    // session.outcome tells why it failed
	bytes    int64   // transferred
	waits    bool    // an upload: its name is a temporary one
	upload   *upload // that was committed: its reply acknowledges it
	done     chan struct{}
}

func newSession(srv *Server, conn net.Conn, remote netip.Addr) *session {
	tcp := srv.witness.Watch(conn)
	s := &session{
		srv:     srv,
		id:      srv.lastID.Add(1),
		tcp:     tcp,
		conn:    tcp,
		remote:  remote,
		started: time.Now(),
		came:    make(chan struct{}, 1),
		room:    make(chan struct{}, 1),
		secured: make(chan net.Conn, 1),
		gone:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	s.declared = -1
	s.log = s.clientLog()
	return s
}

// clientLog is the log before a log-in.
func (s *session) clientLog() *slog.Logger {
	return s.srv.lines.Logger(guard.Network(s.remote)).With("session", s.id, "remote", s.remote)
}

// run serves the client until either side ends the session and all its goroutines have ended.
func (s *session) run() {
	s.log.Debug("session started")
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.log.Debug("session ended", "reason", s.reason, "duration", time.Since(s.started).Round(time.Millisecond))
	}()
	defer s.report()
	defer s.tcp.Close()

	s.login = time.AfterFunc(s.srv.opts.LoginTimeout, func() { s.bye(true, 421, "Too long without a login; goodbye.") })
	defer s.login.Stop()
	s.idle = time.AfterFunc(s.srv.opts.IdleTimeout, func() {
		s.bye(false, 421, fmt.Sprintf("Timeout: idle for %v; goodbye.", s.srv.opts.IdleTimeout))
	})
	defer s.idle.Stop()

	if s.srv.opts.TLS == TLSImplicit {
		if err := s.startTLS(); err != nil {
			s.kill("TLS handshake: " + err.Error())
			return
		}
		s.protected = true
	}
	s.send(reply(220, s.srv.opts.Banner))

	var reading sync.WaitGroup
	reading.Go(s.read)
	s.commands()
	s.closeData()
	if s.files != nil {
		s.engine.Close()
		s.files.Close()
	}
	s.stop("the session's commands ended")
	reading.Wait()
}

// read takes lines from the client until it hangs up or the session ends.
func (s *session) read() {
	defer s.lookOn()
	defer s.end()
	defer close(s.gone)
	defer s.recovered()
	r := bufio.NewReaderSize(s.conn, maxLine)
	// Lines that came long before they are looked at, while others waited, say nothing about a reply that went out meanwhile.
	old := uint64(0) // the bytes up to here came before
	var t telnet
	if first, _ := r.Peek(1); len(first) > 0 && first[0] == tlsRecord && s.srv.opts.TLS != TLSImplicit {
		s.faulty(faultImplicit, "", false)
	}
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			s.bye(true, 500, "The command is too long; goodbye.")
			s.linger(r)
			return
		case err != nil:
			s.hangUp(err)
			return
		}
		text := t.single(commandLine(line))
		verb, _ := parse(text)
		if s.tcp.Taken()-uint64(r.Buffered()) > old || verb == "ABOR" {
			s.tcp.Line(verb)
		}
		switch waited, ok := s.take(text); {
		case !ok:
			s.linger(r)
			return
		case waited:
			old = s.tcp.Arrived()
		}
		if verb == "AUTH" {
			// What came along with AUTH was not encrypted, and must not be taken for what comes after.
			if r.Buffered() > 0 && s.srv.tls != nil {
				s.kill("commands were sent along with AUTH")
				return
			}
			select {
			case conn := <-s.secured:
				if conn != nil { // else AUTH was refused, and what came along with it is still to be read
					r.Reset(conn)
				}
			case <-s.done:
				s.linger(s.tcp)
				return
			}
		}
	}
}

// take hands a line to run, or answers it if it must not wait for the transfer under way. ok is false if the session has ended before there was room for it.
func (s *session) take(line string) (waited, ok bool) {
	for ; ; waited = true {
		during, taken := s.offer(line)
		if during != nil {
			s.answerDuring(during, line)
		}
		if taken {
			return waited, true
		}
		select {
		case <-s.room:
		case <-s.done:
			return true, false
		}
	}
}

// offer puts a line behind those for run, if there is room. One that must not wait it leaves to the caller, with the transfer that it is about.
func (s *session) offer(line string) (during *command, taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c := s.cur; {
	case c != nil && c.transfer && s.urgent(c, line):
		return c, true
	case len(s.lines) >= lineQueue:
		return nil, false
	}
	s.lines = append(s.lines, line)
	signal(s.came)
	return nil, true
}

// urgent reports whether a line must not wait for the end of the transfer, and notes if it ends that: the transfer's own reply says how. The session is locked.
func (s *session) urgent(c *command, line string) bool {
	verb, arg := parse(line)
	if verb == "ABOR" {
		c.aborted = true
		s.aborts++
	}
	return verb == "ABOR" || verb == "STAT" && arg == ""
}

// answerDuring answers what is urgent.
func (s *session) answerDuring(c *command, line string) {
	verb, arg := parse(line)
	if verb == "ABOR" {
		s.note(c, verb, arg)
		s.closeData()
	} else {
		s.send(s.status(c))
	}
}

// end says that no more lines will come.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	signal(s.came)
}

// signal sets a channel of 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// hangUp notes that the client has gone.
func (s *session) hangUp(err error) {
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF):
		s.tcp.CloseNotified()
	case errors.As(err, &op) && distrusts(op): // some clients look at the certificate when TLS has begun
		s.faulty(faultUntrusted, err.Error(), false)
	}
	s.mu.Lock()
	if s.reason == "" {
		s.reason = "the client hung up"
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			s.reason += ": " + err.Error()
		}
	}
	s.mu.Unlock()
}

// lookOn reads on after the end of TLS: whether the TCP connection ends by FIN or by RST says whether the client has read a 226.
func (s *session) lookOn() {
	if s.tcp.Awaits() {
		s.linger(s.tcp)
	}
}

// linger reads what the client still sends, so that the kernel does not take the last reply back with a RST.
func (s *session) linger(r io.Reader) {
	s.tcp.SetReadDeadline(time.Now().Add(lingerTime))
	io.Copy(io.Discard, io.LimitReader(r, 1<<20))
}

// bye ends the session with a last reply; unless it is urgent, only between two commands.
func (s *session) bye(urgent bool, code int, text string) {
	s.mu.Lock()
	if s.closing || (!urgent && s.cur != nil) {
		s.mu.Unlock()
		return
	}
	s.close(text)
	// Before anyone can see that the session closes, and close the connection in front of the reply.
	s.writing.Lock()
	s.mu.Unlock()
	s.write(reply(code, text))
	s.writing.Unlock()
	s.endSoon()
}

// stop ends the session between two commands without a reply.
func (s *session) stop(reason string) {
	s.mu.Lock()
	s.close(reason)
	s.mu.Unlock()
	s.endSoon()
}

// close makes the session take no more commands. The session is locked.
func (s *session) close(reason string) {
	s.closing = true
	if s.reason == "" {
		s.reason = reason
	}
}

// endSoon closes this end of the connection, and gives the client a moment to read the last reply and to
// close the other.
func (s *session) endSoon() {
	s.doneOnce.Do(func() { close(s.done) })
	s.tcp.SetDeadline(time.Now().Add(lingerTime))
	s.writing.Lock()
	defer s.writing.Unlock()
	for _, conn := range []net.Conn{s.conn, s.tcp} {
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			c.CloseWrite()
		}
	}
}

// kill ends the session at once; an upload under way is interrupted.
func (s *session) kill(reason string) {
	s.mu.Lock()
	s.close(reason)
	if s.cur != nil {
		s.cur.fail(errStopped)
	}
	s.mu.Unlock()
	s.doneOnce.Do(func() { close(s.done) })
	s.tcp.Close()
	s.closeData()
}

// drain ends the session now, or after the transfer under way.
func (s *session) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.bye(false, 421, "The server stops; goodbye.")
}

func (s *session) closeData() {
	s.mu.Lock()
	d := s.data
	s.mu.Unlock()
	if d != nil {
		d.cut()
	}
}

// startTLS makes the control connection a TLS one. No one else reads it meanwhile.
func (s *session) startTLS() error {
	conn := tls.Server(s.tcp, s.srv.tls)
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		s.handshakeFailed(conn, err)
		return err
	}
	s.writing.Lock()
	s.conn = conn
	s.writing.Unlock()
	s.secure = true
	return nil
}

// commands answers what the client sends, until it has gone or the session closes.
func (s *session) commands() {
	defer s.recovered()
	for s.open() {
		line, ok := s.receive()
		if !ok {
			return
		}
		s.dispatch(line)
	}
}

func (s *session) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closing
}

// receive waits for the next line.
func (s *session) receive() (string, bool) {
	for {
		line, ok, over := s.next()
		if ok || over {
			return line, ok
		}
		select {
		case <-s.done:
			return "", false
		case <-s.came:
		}
	}
}

// next takes the next line, if it is there. over says that none is there, and none will come.
func (s *session) next() (line string, ok, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lines) == 0 {
		return "", false, s.over
	}
	line = s.lines[0]
	s.lines = slices.Delete(s.lines, 0, 1)
	signal(s.room)
	return line, true, false
}

// transfer has the engine run a transfer, and waits for its end.
func (s *session) transfer(c *command, verb, arg string, open func() (net.Conn, error), done func(engine.Reply)) {
	for _, line := range s.beginTransfer(c) {
		s.answerDuring(c, line)
	}
	s.engine.Transfer(verb, arg, open, done)
	<-c.done // a listing ends in a goroutine of the engine's
	for range s.takeAborts() {
		if s.open() { // else the last reply has been sent
			s.send(reply(226, "ABOR successful."))
		}
	}
}

// beginTransfer returns what has come for the transfer before it began. From here on read answers that.
func (s *session) beginTransfer(c *command) (urgent []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.transfer = true
	s.lines = slices.DeleteFunc(s.lines, func(line string) bool {
		is := s.urgent(c, line)
		if is {
			urgent = append(urgent, line)
		}
		return is
	})
	return urgent
}

// takeAborts is how many ABORs are to be answered.
func (s *session) takeAborts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.aborts
	s.aborts = 0
	return n
}

// send writes to the client. An error is seen by read.
func (s *session) send(text string) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.write(text)
}

// write is send; writing is locked. The session may be locked before writing, never after it.
func (s *session) write(text string) {
	if !s.ending() {
		s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.tcp.Close()
	}
}

func (s *session) ending() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// begin makes a line the command under way; nil if the session is closing.
func (s *session) begin(verb, arg string) *command {
	c := &command{log: s.log, verb: verb, arg: arg, declared: -1, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil
	}
	s.cur = c
	return c
}

// finish ends the command under way, after its last reply.
func (s *session) finish(c *command) {
	s.mu.Lock()
	if s.cur != c {
		s.mu.Unlock()
		return
	}
	s.cur = nil
	draining := s.draining
	s.mu.Unlock()
	s.idle.Reset(s.srv.opts.IdleTimeout)
	close(c.done)
	if draining {
		s.bye(false, 421, "The server stops; goodbye.")
	}
}

// current is the command under way, or nil.
func (s *session) current() *command {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur
}

// fail notes why the command failed: the first reason stands. The session is locked.
func (c *command) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// failed notes why the command under way failed, and returns the reason.
func (s *session) failed(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.cur != nil {
		s.cur.fail(err)
	}
	return err
}

// recovered keeps a panic of ours from ending the program: it ends the session.
func (s *session) recovered() {
	if r := recover(); r != nil {
		s.log.Error("panic in a session", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		s.kill("panic")
	}
}
