package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	ftpserver "github.com/fclairamb/ftpserverlib"
)

// What a [Reply] says of a command that failed for another reason than an error of [Files].
var (
	ErrInternal = errors.New("internal error")              // something panicked
	ErrNoPort   = errors.New("no data connection possible") // now
	ErrNoData   = errors.New("no data connection")          // wraps the error with which it was to be opened
	ErrBroken   = errors.New("the data connection broke")
	errRefused  = errors.New("refused")
)

// Facts are those of MLST and MLSD, in their order.
var Facts = []string{"Type", "Size", "Modify"}

// Reply is how a command ended. Its words are the caller's.
type Reply struct {
	Code int    // if Err is nil
	Text string // if Err is nil: what SIZE and MDTM are answered
	Err  error  // why the command failed: the first error of Files, or one of the above, or an errno (EISDIR for SIZE, ENOTDIR for MLSD)
}

// Session runs the commands of one user who is logged in, one at a time.
type Session struct {
	files  Files
	hidden []string // facts
	dir    string   // the working directory

	// The library, from the first command that it runs on.
	conn  *conn // nil: none was
	cc    ftpserver.ClientContext
	ended chan struct{} // closed when it has

	mu  sync.Mutex
	run *run // under way; nil: none
}

// run is a command under way.
type run struct {
	verb string
	part func(code int, line string)
	open func() (net.Conn, error) // nil: not a listing
	done func(Reply)
	next *run // of EPSV: the listing

	mu       sync.Mutex
	err      error // the first one
	opened   bool  // open has returned a connection
	listener *listener
}

// New begins a session, at "/". It holds hardly any memory until a command is run by the library, and has no goroutine until then: most
// sessions only receive files.
func New(files Files) *Session { return &Session{files: files, dir: "/"} }

// startLibrary starts the library.
func (s *Session) startLibrary() {
	s.conn, s.ended = newConn(), make(chan struct{})
	s.conn.reply = s.replied
	greeted := make(chan Reply, 1)
	s.run = &run{done: func(r Reply) { greeted <- r }}
	library := ftpserver.NewFtpServer(&mainDriver{s})
	_ = library.Listen() // its settings are constant, and the listener is there
	_ = library.Serve()  // returns when that has no more connections
	<-greeted
	s.Do("PASS", "-", nil)
	s.cc.SetPath(s.dir)
}

// Close ends the session. No command is under way.
func (s *Session) Close() {
	if s.conn == nil {
		return
	}
	close(s.conn.commands)
	<-s.ended
}

// Dir is the working directory.
func (s *Session) Dir() string { return s.dir }

// SetDir changes it.
func (s *Session) SetDir(dir string) {
	s.dir = dir
	if s.conn != nil {
		s.cc.SetPath(dir)
	}
}

// Abs is the path that the commands make of a name.
func (s *Session) Abs(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(s.Dir(), name)
}

// Hide leaves facts out of MLST and MLSD.
func (s *Session) Hide(facts []string) { s.hidden = facts }

// Do runs a command that needs no data connection: SIZE, MDTM, MKD, RMD, DELE, MLST, or STAT of a path. part, if it is not nil, gets the lines of STAT and MLST.
func (s *Session) Do(verb, arg string, part func(code int, line string)) Reply {
	if verb == "MLST" && part != nil {
		part = s.named(arg, part)
	}
	ended := make(chan Reply, 1)
	s.start(&run{verb: verb, part: part, done: func(r Reply) { ended <- r }}, arg)
	return <-ended
}

// named puts the name that was asked for into the entry of MLST.
func (s *Session) named(name string, part func(int, string)) func(int, string) {
	if name == "" {
		name = s.Dir()
	}
	return func(code int, entry string) {
		facts, _, _ := strings.Cut(strings.TrimPrefix(entry, " "), " ")
		part(code, s.shown(facts+" "+name))
	}
}

// Transfer runs STOR, APPE or RETR, or begins LIST, NLST or MLSD. open is called for the data connection when the command has been
// accepted; done, when all has ended: the connection and what Files opened are closed. For a listing other goroutines call them, or this
// one does; for a file this one does before it returns.
func (s *Session) Transfer(verb, arg string, open func() (net.Conn, error), done func(Reply)) {
	name := s.Abs(arg)
	switch verb {
	case "STOR", "APPE":
		done(Reply{Err: s.receive(name, verb == "APPE", open)})
	case "RETR":
		done(Reply{Err: s.send(name, open)})
	default:
		s.list(&run{verb: verb, open: open, done: done}, arg)
	}
}

// list begins LIST, NLST or MLSD.
func (s *Session) list(r *run, arg string) {
	ready := make(chan Reply, 1)
	s.start(&run{verb: "EPSV", next: r, done: func(r Reply) { ready <- r }}, "")
	if got := <-ready; got.Err != nil {
		r.done(Reply{Err: ErrNoPort})
		return
	}
	s.start(r, arg)
}

// start hands the command to the library.
func (s *Session) start(r *run, arg string) {
	line := r.verb
	if arg != "" {
		line += " " + arg
	}
	if len(line) > maxLine || strings.ContainsAny(line, "\r\n") {
		r.done(Reply{Err: syscall.ENAMETOOLONG})
		return
	}
	if s.conn == nil {
		s.startLibrary()
	}
	s.mu.Lock()
	s.run = r
	s.mu.Unlock()
	select {
	case s.conn.commands <- line:
	case <-s.ended:
		r.done(Reply{Err: ErrInternal})
	}
}

func (s *Session) running() *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

// replied is called with each line that the library replies.
func (s *Session) replied(l line) {
	s.mu.Lock()
	r := s.run
	if l.kind == final {
		s.run = nil
	}
	s.mu.Unlock()
	switch {
	case r == nil: // not possible: each command has one reply
	case l.kind == part && r.part != nil:
		r.part(l.code, l.text)
	case l.kind == final:
		r.finish(Reply{Code: l.code, Text: l.text})
	}
}

// finish ends the command.
func (r *run) finish(reply Reply) {
	r.mu.Lock()
	err := r.err
	if err == nil && reply.Code >= 400 {
		err = r.refused(reply.Code)
	}
	listener := r.listener
	r.mu.Unlock()
	if listener != nil {
		_ = listener.Close() // if nobody has accepted from it
	}
	if err != nil {
		reply = Reply{Err: err}
	}
	r.done(reply)
}

// refused is what the library means by a code of its own. r is locked.
func (r *run) refused(code int) error {
	switch {
	case code == ftpserver.StatusSyntaxErrorNotRecognised:
		return ErrInternal
	case r.verb == "SIZE":
		return syscall.EISDIR
	case r.verb == "MLSD" && !r.opened:
		return syscall.ENOTDIR
	case r.open != nil:
		return ErrBroken
	}
	return fmt.Errorf("%w: %d", errRefused, code)
}

// failed notes the first error.
func (r *run) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// guarded runs an operation of Files for the library, which is told that it failed, and not why.
func (r *run) guarded(operation func() error) error {
	if err := guarded(operation); err != nil {
		r.failed(err)
		return errRefused
	}
	return nil
}

// guarded makes a panic an error.
func guarded(operation func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrInternal, p)
		}
	}()
	return operation()
}

// shown is an entry of MLST or MLSD without the hidden facts.
func (s *Session) shown(entry string) string {
	if len(s.hidden) == 0 {
		return entry
	}
	all, name, _ := strings.Cut(entry, " ")
	var b strings.Builder
	for fact := range strings.SplitAfterSeq(all, ";") {
		if key, _, _ := strings.Cut(fact, "="); !slices.Contains(s.hidden, key) {
			b.WriteString(fact)
		}
	}
	return b.String() + " " + name
}

// mainDriver is what the library asks about the session.
type mainDriver struct{ s *Session }

var (
	_ ftpserver.MainDriver                        = (*mainDriver)(nil)
	_ ftpserver.MainDriverExtensionPassiveWrapper = (*mainDriver)(nil)
)

func (m *mainDriver) GetSettings() (*ftpserver.Settings, error) {
	return &ftpserver.Settings{
		Listener:            &oneConnection{conn: m.s.conn},
		DefaultTransferType: ftpserver.TransferTypeBinary,
		DisableLISTArgs:     true,
	}, nil
}

func (m *mainDriver) ClientConnected(cc ftpserver.ClientContext) (string, error) {
	m.s.cc = cc
	return "ready", nil
}

func (m *mainDriver) ClientDisconnected(ftpserver.ClientContext) { close(m.s.ended) }

func (m *mainDriver) AuthUser(ftpserver.ClientContext, string, string) (ftpserver.ClientDriver, error) {
	return &driver{s: m.s}, nil
}

func (m *mainDriver) GetTLSConfig() (*tls.Config, error) { return nil, errRefused }

// WrapPassiveListener puts the transfer's own connection in place of the library's listener.
func (m *mainDriver) WrapPassiveListener(l net.Listener) (net.Listener, error) {
	r := m.s.running().next
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listener = &listener{Listener: l, s: m.s, run: r}
	return r.listener, nil
}

// oneConnection is a listener with one connection to accept.
type oneConnection struct{ conn *conn }

func (l *oneConnection) Accept() (net.Conn, error) {
	conn := l.conn
	l.conn = nil
	if conn == nil {
		return nil, io.EOF
	}
	return conn, nil
}

func (l *oneConnection) Close() error   { return nil }
func (l *oneConnection) Addr() net.Addr { return here }
