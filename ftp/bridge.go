package ftp

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"
)

// startLibrary gives the session a library server of its own, which serves one connection, the bridge.
//
// ftpserverlib: most of its callbacks do not say which session they are for (settings, passive
// listeners, TLS); a server for each session makes them say it. It can go when they take a ClientContext.
func (s *session) startLibrary() {
	library := ftpserver.NewFtpServer(&mainDriver{s})
	if err := library.Listen(); err != nil { // not possible: the settings are constant
		s.kill("library: " + err.Error())
		close(s.ended)
		return
	}
	library.Serve() // returns at once: the listener has one connection
}

// mainDriver is what the library asks about the session.
type mainDriver struct{ s *session }

var (
	_ ftpserver.MainDriver                        = (*mainDriver)(nil)
	_ ftpserver.MainDriverExtensionPassiveWrapper = (*mainDriver)(nil)
)

func (m *mainDriver) GetSettings() (*ftpserver.Settings, error) {
	return &ftpserver.Settings{
		Listener: &oneConnection{conn: &bridge{s: m.s}},
		// ftpserverlib: the default transfer type is ASCII, which changes bytes. This can go when neither is
		// the default.
		DefaultTransferType:    ftpserver.TransferTypeBinary,
		DisableASCIIConversion: true,
		// ftpserverlib: IdleTimeout cuts control connections during transfers, and there is no
		// other timer. All timers are the session's. It can go when the library has one for transfers, too.
		IdleTimeout: -1,
		// The session checks who connects, and dials itself (data.go).
		DisableActiveMode:    true,
		PasvConnectionsCheck: ftpserver.IPMatchDisabled,
		// The session strips LIST's options (files.go).
		DisableLISTArgs: true,
		DisableSite:     true,
		// HASH, COMB and MODE Z stay off: HASH ignores the directory, COMB deletes its sources before the
		// target is closed, MODE Z is unbounded.
	}, nil
}

func (m *mainDriver) ClientConnected(cc ftpserver.ClientContext) (string, error) {
	m.s.cc = cc
	return "ready", nil
}

func (m *mainDriver) ClientDisconnected(ftpserver.ClientContext) { close(m.s.ended) }

// AuthUser is called after the session has checked the password (login.go).
func (m *mainDriver) AuthUser(_ ftpserver.ClientContext, _, _ string) (ftpserver.ClientDriver, error) {
	if m.s.files == nil {
		return nil, errors.New("not logged in")
	}
	return &driver{m.s}, nil
}

func (m *mainDriver) GetTLSConfig() (*tls.Config, error) {
	return nil, errors.New("TLS is the session's")
}

// WrapPassiveListener puts the session's own data channel in place of the library's listener.
func (m *mainDriver) WrapPassiveListener(l net.Listener) (net.Listener, error) {
	return m.s.adoptListener(l)
}

// oneConnection is a listener with one connection to accept.
type oneConnection struct {
	mu   sync.Mutex
	conn net.Conn
}

func (l *oneConnection) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	conn := l.conn
	l.conn = nil
	if conn == nil {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed} // the form that the library takes for a closed listener
	}
	return conn, nil
}

func (l *oneConnection) Close() error   { return nil }
func (l *oneConnection) Addr() net.Addr { return &net.TCPAddr{} }

// bridge is the control connection as the library sees it: plain text, one command at a time.
type bridge struct {
	s       *session
	pending []byte // of a command, not read yet
	written []byte // of a reply line, not complete yet
	replies replyParser
	mu      sync.Mutex // of written and replies: transfers reply in their own goroutine
}

// Read gives the library the next command; it calls it in one goroutine.
func (b *bridge) Read(p []byte) (int, error) {
	if len(b.pending) == 0 {
		line, err := b.s.next()
		if err != nil {
			return 0, err
		}
		b.pending = append(b.pending[:0], line+"\r\n"...)
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	return n, nil
}

// Write takes the library's replies, in pieces. It never fails: a client that has gone is read's business.
func (b *bridge) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.written = append(b.written, p...)
	for {
		line, rest, ok := bytes.Cut(b.written, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		text := string(bytes.TrimRight(line, "\r"))
		b.written = append(b.written[:0], rest...)
		b.s.relay(b.replies.parse(text))
	}
}

func (b *bridge) Close() error                     { return nil }
func (b *bridge) LocalAddr() net.Addr              { return b.s.tcp.LocalAddr() }
func (b *bridge) RemoteAddr() net.Addr             { return b.s.tcp.RemoteAddr() }
func (b *bridge) SetDeadline(time.Time) error      { return nil }
func (b *bridge) SetReadDeadline(time.Time) error  { return nil }
func (b *bridge) SetWriteDeadline(time.Time) error { return nil }

// next is the next command for the library. It answers those that are the session's on the way.
func (s *session) next() (line string, err error) {
	defer func() {
		if r := recover(); r != nil {
			func() { defer s.recovered(); panic(r) }()
			err = io.EOF
		}
	}()
	for {
		if !s.waitForCommand() {
			return "", io.EOF
		}
		line, ok := s.receive()
		if !ok {
			return "", io.EOF
		}
		if pass := s.dispatch(line); pass != "" {
			return pass, nil
		}
	}
}

// waitForCommand waits until no command is under way. What must not wait is done meanwhile: ABOR and STAT.
func (s *session) waitForCommand() bool {
	c := s.current()
	if c == nil {
		return s.open()
	}
	lines := s.lines
	for {
		if len(s.backlog) >= lineQueue {
			lines = nil // the client's TCP waits
		}
		select {
		case <-c.done:
			for ; s.abortReplies > 0; s.abortReplies-- {
				s.send(reply(226, "ABOR successful."))
			}
			return s.open()
		case line, ok := <-lines:
			if !ok {
				lines = nil // gone: the transfer ends by itself
				continue
			}
			switch verb, arg := parse(line); {
			case verb == "ABOR":
				s.note(verb, arg)
				s.abort(c)
			case verb == "STAT" && arg == "":
				s.send(s.status(c))
			default:
				s.backlog = append(s.backlog, line)
			}
		}
	}
}

func (s *session) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closing
}

// receive waits for the next line.
func (s *session) receive() (string, bool) {
	if len(s.backlog) > 0 {
		line := s.backlog[0]
		s.backlog = s.backlog[1:]
		return line, true
	}
	select {
	case <-s.done:
		return "", false
	case line, ok := <-s.lines:
		return line, ok
	}
}

// abort makes the transfer end.
//
// ftpserverlib: its ABOR replies 426 also when the driver has already committed the file, and hangs
// while a data connection is awaited. Here the transfer's own reply says how it ended. It can go when ABOR
// waits for the driver's Close and replies by its result.
func (s *session) abort(c *command) {
	s.abortReplies++
	s.mu.Lock()
	c.aborted = true
	s.mu.Unlock()
	s.closeData()
}
