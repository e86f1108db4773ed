package ftp

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/ftpnode/ftpnode/ftp/internal/engine"
	"github.com/ftpnode/ftpnode/ftp/internal/evidence"
)

const bufferSize = 128 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// buffers are for copying uploads; larger ones than io.Copy's make fewer writes.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// upload is a file that a client sends. The engine copies into it by ReadFrom and calls End, whose error takes the place of
// the 226. End ends the backend's Upload in every case:
//
//   - something broke, or the client aborted: Interrupt with the reason;
//   - all seems well but the client has left: Interrupt too, unless there is no question (see truncated);
//   - else Commit, which makes the file durable, or refuses one that is shorter than declared.
//
// Whether the client is still there when the reply is sent, and has read it, is decided then (see acknowledge).
type upload struct {
	s        *session
	c        *command
	file     Upload
	evidence *evidence.Upload
	received int64
	sum      uint32 // CRC-32C of what was received, over TLS and of a declared size only

	name    string
	resumed bool
}

func (s *session) openUpload(name string, appending bool) (engine.Upload, error) {
	c := s.current()
	u := &upload{s: s, c: c, name: name, resumed: c.offset > 0 || appending}
	how := Start{Offset: c.offset, Append: appending, Confirm: u.left}
	if c.declared > 0 && s.srv.declarations.counts(s.declaration(c, name)) {
		how.Declared = c.declared // else Close finds out what it is worth
	}
	file, err := s.files.Create(name, how)
	if err != nil {
		if answer := (*Error)(nil); errors.As(err, &answer) && answer.Code == 452 {
			s.warn(faultFull, "upload refused: the node is full", "error", err)
		}
		return nil, err
	}
	u.file, u.evidence = file, s.tcp.Upload()
	s.begun(c)
	return u, nil
}

// declaredSize reports whether the upload has the very size that was declared: it is all there, whatever became of the client.
func (u *upload) declaredSize() bool { return !u.resumed && u.file.Size() == u.c.declared }

// ReadFrom copies what the client sends.
func (u *upload) ReadFrom(r io.Reader) (n int64, err error) {
	encrypted := false
	if conn := u.s.data.connection(); conn != nil {
		u.evidence.Data(conn.Conn)
		if encrypted = conn.tls != nil; encrypted {
			end := conn.readAhead()
			defer end()
			r = records{conn}
		}
	}
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		got, readErr := r.Read(buffer[:])
		if got > 0 {
			if _, err := u.file.Write(buffer[:got]); err != nil {
				return n, err
			}
			n += int64(got)
			u.received += int64(got)
			if encrypted || u.c.declared > 0 {
				u.sum = crc32.Update(u.sum, castagnoli, buffer[:got])
			}
			u.s.count(u.c, got)
		}
		if errors.Is(readErr, io.EOF) || (readErr != nil && u.declaredSize()) {
			return n, nil
		}
		if readErr != nil {
			return n, receiveError{readErr}
		}
	}
}

// receiveError is what a data connection was read with. It is the client's side that broke, whatever crypto/tls or the network calls it.
type receiveError struct{ error }

func (e receiveError) Unwrap() []error { return []error{engine.ErrBroken, e.error} }

// End ends the upload. transferred is why the transfer broke, or nil.
func (u *upload) End(transferred error) (err error) {
	u.evidence.DataEnded()
	defer func() {
		if err != nil {
			u.evidence.End()
		}
	}()
	reason := u.broken(transferred)
	if reason == nil {
		reason = u.truncated()
	}
	if reason == nil {
		reason = u.left()
	}
	if reason == nil {
		reason = u.short()
	}
	if reason != nil {
		if err := u.file.Interrupt(reason); err != nil {
			u.c.log.Warn("an interrupted upload could not be kept", "file", loggable(u.c.arg), "error", err)
		}
		return reason
	}
	if err := u.file.Commit(); err != nil {
		return err
	}
	u.s.mu.Lock()
	u.c.waits = u.file.Temporary()
	u.c.upload = u
	u.s.mu.Unlock()
	u.c.log.Debug("upload finished", "file", loggable(u.c.arg), "bytes", u.file.Size())
	return nil
}

// broken says why the transfer broke, or nil.
func (u *upload) broken(transferred error) error {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	switch {
	case u.c.aborted:
		return errAborted
	case u.c.err != nil:
		return u.c.err
	case errors.Is(transferred, os.ErrDeadlineExceeded) && u.s.data.connection() == nil:
		return hangupError("no data connection came")
	case errors.Is(transferred, os.ErrDeadlineExceeded):
		return hangupError(fmt.Sprintf("nothing came for %v; what came so far is kept and can be resumed", u.s.srv.opts.StallTimeout))
	default:
		return transferred
	}
}

const kept = "; the upload is kept and can be resumed"

// truncated says why data that seems to have ended well did not, or nil. It also finds out whether there is any question at all.
//
// TLS is no witness of the whole: a client that gives up in an orderly way (curl at its --max-time, one that
// sends ABOR) ends its data with close_notify as after the last byte. But one that did so before and does not now has died.
func (u *upload) truncated() error {
	if u.declaredSize() {
		u.evidence.Trust()
		return nil
	}
	if u.s.trustsHangups() {
		u.evidence.Trust()
	}
	conn := u.s.data.connection()
	if conn == nil || conn.tls == nil {
		return nil
	}
	if err := u.evidence.EndTLS(conn.endedByAlert(), u.received, u.sum); err != nil {
		return hangupError(err.Error() + kept)
	}
	return nil
}

// trustsHangups reports whether uploads are complete when their data ends, whatever became of the control connection.
func (s *session) trustsHangups() bool { return s.srv.opts.TrustHangups || s.account.TrustHangups }

// left says how the client left before its reply, or nil.
func (u *upload) left() error {
	switch err := u.evidence.Broken(); err {
	case nil:
		return nil
	case evidence.ErrAborted:
		return errAborted
	default:
		return hangupError(err.Error() + kept)
	}
}

// acknowledge sends the reply for an upload that was committed, the 226 as a rule. What the control connection shows from then on decides
// what becomes of the file.
func (s *session) acknowledge(c *command, code int, text string) {
	u := c.upload
	v := verdict{u}
	if code != 226 { // something failed behind the commit
		s.send(reply(code, text))
		u.evidence.End()
		v.Interrupted("the reply was not a 226")
		return
	}
	u.evidence.Reply(v, func(broken error) {
		code, text := code, text
		if broken != nil {
			code, text = refusal(c.verb, hangupError(broken.Error()))
		}
		s.send(reply(code, text))
	})
}

// verdict tells the drop, and the log, what became of a committed upload.
type verdict struct{ u *upload }

func (v verdict) Read() {
	v.log(slog.LevelDebug, "the client has read the reply", "")
	v.u.file.Read()
}

func (v verdict) Interrupted(reason string) {
	v.log(slog.LevelDebug, "an acknowledged upload was interrupted", reason)
	v.u.file.Interrupted(reason)
}

func (v verdict) Doubtful(reason string) {
	v.log(slog.LevelDebug, "an acknowledged upload is in doubt", reason)
	v.u.file.Doubtful(reason)
}

func (v verdict) log(level slog.Level, what, reason string) {
	v.u.c.log.Log(context.Background(), level, what, "file", loggable(v.u.c.arg), "reason", reason)
}
