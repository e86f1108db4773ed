package ftp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"

	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/ftp/internal/hangup"
)

const (
	// hangupWatch is how long the control connection is watched after the end of the data connection. When
	// a client is killed its kernel ends both within a few milliseconds; one that gives up does as soon. It is counted in looks and not by the
	// clock: on a busy machine each look comes late, as does a dying client's next step.
	hangupWatch = 100 * time.Millisecond
	hangupTick  = 2 * time.Millisecond

	bufferSize = 64 << 10
)

// buffers are for copying uploads; larger ones than io.Copy's make fewer writes.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// upload is a file that a client sends. The library copies into it, tells TransferError if that broke, and
// calls Close, whose error takes the place of the 226. Close ends the drop.Upload in every case:
//
//   - something broke, or the client aborted: Interrupt with the reason;
//   - all seems well but the client has hung up: Interrupt too, unless hang-ups are trusted;
//   - else Commit, which makes the file durable, or refuses one that is shorter than declared.
type upload struct {
	s    *session
	c    *command
	file *drop.Upload
	err  error // why it broke
}

var (
	_ ftpserver.FileTransfer      = (*upload)(nil)
	_ ftpserver.FileTransferError = (*upload)(nil)
	_ io.ReaderFrom               = (*upload)(nil)
)

func (s *session) openUpload(name string, appending bool) (ftpserver.FileTransfer, error) {
	c := s.current()
	file, err := s.files.Create(name, drop.Write{Offset: c.offset, Append: appending, Declared: max(c.declared, 0)})
	if err != nil {
		return nil, err
	}
	return &upload{s: s, c: c, file: file}, nil
}

// ReadFrom copies what the client sends.
//
// ftpserverlib: a panic in Write would mean that Close is never called. It can go when Close is deferred there.
func (u *upload) ReadFrom(r io.Reader) (n int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			u.s.log.Error("panic in an upload", "panic", fmt.Sprint(p))
			err = errPanic
		}
		u.TransferError(err)
	}()
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		got, readErr := r.Read(buffer[:])
		if got > 0 {
			if _, err := u.file.Write(buffer[:got]); err != nil {
				return n, err
			}
			n += int64(got)
			u.s.count(u.c, got)
		}
		if errors.Is(readErr, io.EOF) {
			return n, nil
		}
		if readErr != nil {
			return n, readErr
		}
	}
}

// Write is called with nothing when the client sent nothing.
func (u *upload) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return 0, errUnsupported // io.Copy uses ReadFrom
}

func (u *upload) Read([]byte) (int, error)       { return 0, errUnsupported }
func (u *upload) Seek(int64, int) (int64, error) { return 0, errUnsupported }

// TransferError notes why the transfer broke; the first reason stands.
func (u *upload) TransferError(err error) {
	if u.err == nil {
		u.err = err
	}
}

// Close ends the upload.
func (u *upload) Close() error {
	return u.s.guarded(func() error {
		reason := u.broken()
		if reason == nil {
			reason = u.hungUp()
		}
		if reason == nil {
			reason = u.broken() // an ABOR may come right behind the end of the data
		}
		if reason != nil {
			if err := u.file.Interrupt(reason); err != nil {
				u.s.log.Warn("an interrupted upload could not be kept", "file", loggable(u.c.arg), "error", err)
			}
			return reason
		}
		if err := u.file.Commit(); err != nil {
			return err
		}
		u.s.mu.Lock()
		u.c.waits = u.file.Ignored()
		u.s.mu.Unlock()
		u.s.log.Debug("upload finished", "file", loggable(u.c.arg), "bytes", u.file.Size())
		return nil
	})
}

// broken says why the transfer broke, or nil.
func (u *upload) broken() error {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	switch {
	case u.c.aborted:
		return errAborted
	case u.c.err != nil:
		return u.c.err
	case errors.Is(u.err, os.ErrDeadlineExceeded) && u.s.data.connection() == nil:
		return hangupError("no data connection came")
	case errors.Is(u.err, os.ErrDeadlineExceeded):
		return hangupError(fmt.Sprintf("nothing came for %v; what came so far is kept and can be resumed", u.s.srv.opts.StallTimeout))
	default:
		return u.err
	}
}

// hungUp says why the client seems to have died or given up in the middle, or nil.
//
// When a client is killed, its kernel ends all its connections as if it had closed them. The data connection
// looks as after the last byte, but the control connection ends too; a client that lives waits there for the
// reply. TLS is no witness of the whole: one that gives up in an orderly way (curl at its --max-time, one that
// sends ABOR) ends its data with close_notify as after the last byte. But one that did so before and does not now has died.
func (u *upload) hungUp() error {
	const kept = "; the upload is kept and can be resumed"
	s := u.s
	if u.c.offset == 0 && u.file.Size() == u.c.declared {
		return nil // it is all there, whoever has died
	}
	if conn := s.data.connection(); conn != nil && conn.tls != nil {
		switch {
		case !conn.tls.ConnectionState().HandshakeComplete: // crypto/tls reports that as an ordinary end, too
			return hangupError("the data connection ended before TLS began" + kept)
		case conn.endedByAlert():
			s.closeNotify = true
		case s.closeNotify:
			return hangupError("the TLS data connection did not end with close_notify as before" + kept)
		}
	}
	if s.srv.opts.TrustHangups {
		return nil
	}
	gone := hangupError("the client hung up without waiting for the reply" + kept)
	if s.clientGone() {
		return gone
	}
	// The wait is used: there is less left for Commit to sync, which waits for this and finds its error.
	go func() { _ = u.file.Sync() }()
	for range hangupWatch / hangupTick {
		select {
		case <-s.gone:
			return gone
		case <-time.After(hangupTick):
			if s.clientGone() {
				return gone
			}
		}
	}
	return nil
}

// clientGone tells if the control connection has ended.
func (s *session) clientGone() bool {
	select {
	case <-s.gone:
		return true
	default:
	}
	tcp, ok := s.tcp.(*net.TCPConn)
	return ok && hangup.Detected(tcp)
}
