package drop

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// Write tells how an upload begins.
type Write struct {
	// Offset is where the first byte goes (REST), at most at the end of what is there; what stands behind it is cut off.
	// By default, a new file is begun.
	Offset int64
	// Append adds to the end of what is there (APPE); something must be. With an Offset, the Offset counts.
	Append bool
	// Declared is the size of the whole file as the client announced it (ALLO), in bytes. By default (0 or less) it is
	// not known. A file that ends up smaller is not complete; a larger one is, as ALLO only reserves.
	Declared int64
}

// Upload is a file that is being received. Its methods may be called concurrently, but a Write that runs while the
// Upload is ended may come too late.
type Upload struct {
	s        *Session
	d        *Drop
	path     string // below drop
	temp     string // where it stands in partial/open
	declared int64
	began    time.Time
	size     atomic.Int64
	// superseded: another upload has taken this one's place. Set with Drop.mu or mu held.
	superseded atomic.Bool

	mu     sync.Mutex // before Drop.mu
	file   disk.File
	err    error // of a Write or Sync that failed
	lost   bool  // a Sync failed: the kernel has dropped bytes, so that nothing of the file can be trusted
	ended  bool
	placed bool // it stands in drop
}

// Create begins an upload. Every Upload must be ended by Commit or Interrupt.
//
// What an Offset or Append continues is what Stat shows: a copy of the finished file, or the upload that was
// interrupted or is still open in another session, which is superseded. A file that is being delivered
// cannot be continued (ErrBusy), and with nothing there both are refused (ErrNoPartial): the file would be only its tail,
// of which a client that lost sight of its upload does not know.
func (s *Session) Create(name string, w Write) (*Upload, error) {
	p, err := s.pathBelow(name)
	if err != nil {
		return nil, named(name, err)
	}
	if s.d.opts.MaxSize >= 0 && max(w.Declared, w.Offset) > s.d.opts.MaxSize {
		return nil, named(name, ErrTooLarge)
	}
	for {
		u, old, err := s.begin(p, w)
		if old != nil && err == nil {
			// The other upload's lock comes before ours, so that it could not be taken in begin.
			u, err = s.takeOver(old, w)
		}
		if err != nil {
			return nil, named(name, err)
		}
		if u != nil {
			return u, nil
		}
	}
}

// begin begins an upload to p, or returns the open one that is to be continued.
func (s *Session) begin(p string, w Write) (u, old *Upload, err error) {
	d := s.d
	d.mu.Lock()
	e, err := d.finished(p)
	if errors.Is(err, syscall.EISDIR) {
		err = fmt.Errorf("%w: it is a directory", fs.ErrExist)
	}
	there := e != nil
	if err == nil && !there {
		_, there, err = d.partial(p)
	}
	if err == nil {
		bytes := w.Declared
		if w.Offset > 0 || w.Append {
			bytes = 0 // some are there already
		}
		files := 1
		if there {
			files = 0 // in the end: it takes the place of what is there
		}
		err = d.ledger.admit(p, files, bytes)
	}
	if err != nil {
		d.mu.Unlock()
		return nil, nil, err
	}
	// The steps unlock, and hold the new upload's own lock until it is ready to be written.
	if w.Offset <= 0 && !w.Append {
		u, err = s.beginNew(p, w)
		return u, nil, err
	}
	if e != nil {
		u, err = s.beginCopy(e, w)
		return u, nil, err
	}
	if old := d.open[p]; old != nil {
		d.mu.Unlock()
		return nil, old, nil
	}
	switch fi, err := d.keptAt(p); {
	case err != nil:
		d.mu.Unlock()
		return nil, nil, err
	case fi != nil:
		u, err = s.resume(p, fi.Size(), w)
		return u, nil, err
	case d.taken.get(p) != nil:
		d.mu.Unlock()
		return nil, nil, fmt.Errorf("%w: it is being delivered and cannot be continued", ErrBusy)
	}
	d.mu.Unlock()
	return nil, nil, ErrNoPartial
}

// newUpload takes the place of the upload to p that is open, if there is one; d.mu is held. The upload is locked.
func (s *Session) newUpload(p string, w Write) *Upload {
	d := s.d
	u := &Upload{s: s, d: d, path: p, temp: d.newTemp(), declared: w.Declared, began: time.Now()}
	u.mu.Lock()
	if old := d.open[p]; old != nil {
		old.superseded.Store(true)
	}
	d.open[p] = u
	return u
}

// beginNew begins an empty file. d.mu is held; it is released.
func (s *Session) beginNew(p string, w Write) (*Upload, error) {
	d := s.d
	removed, err := d.removeKept(p)
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	u := s.newUpload(p, w)
	err = u.create()
	d.mu.Unlock()
	if err == nil && removed {
		// Before the first write: else the old partial file could come back after a power cut, and a client would
		// resume this file on the other's bytes.
		err = d.syncs.sync(path.Dir(kept(p)))
	}
	return u.begun(err)
}

// beginCopy begins with a copy of the finished file e. d.mu is held; it is released.
func (s *Session) beginCopy(e *entry, w Write) (*Upload, error) {
	d := s.d
	base := e.size
	if w.Offset > 0 {
		base = w.Offset
	}
	err := error(nil)
	switch {
	case e.busy():
		err = fmt.Errorf("%w: it is being delivered and cannot be continued", ErrBusy)
	case base > e.size:
		err = fmt.Errorf("%w: %d of %d bytes", ErrOffset, w.Offset, e.size)
	}
	var from disk.File
	if err == nil {
		from, err = d.openRead(e.path)
	}
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	defer from.Close()
	removed, err := d.removeKept(e.path)
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	u := s.newUpload(e.path, w)
	err = u.create()
	d.mu.Unlock()
	if err == nil && removed {
		err = d.syncs.sync(path.Dir(kept(u.path)))
	}
	if err == nil {
		var n int64
		if n, err = io.Copy(writerFunc(u.write), io.LimitReader(from, base)); err == nil && n < base {
			err = io.ErrUnexpectedEOF
		}
	}
	return u.begun(err)
}

// resume continues the interrupted upload to p, of size bytes. d.mu is held; it is released.
func (s *Session) resume(p string, size int64, w Write) (*Upload, error) {
	d := s.d
	offset, err := w.from(size)
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	u := s.newUpload(p, w)
	if err := d.fs.Rename(kept(p), u.temp); err != nil {
		u.ended = true
		delete(d.open, p)
		u.mu.Unlock()
		d.mu.Unlock()
		return nil, err
	}
	u.size.Store(size)
	d.mu.Unlock()

	// The rename is durable before the first write: bytes that are not synced never stand in kept.
	err = d.syncs.sync(openDir)
	if err == nil {
		u.file, err = d.fs.OpenFile(u.temp, os.O_RDWR, 0)
	}
	if err != nil {
		// Nothing was written: it can go back.
		u.ended = true
		u.mu.Unlock()
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.open[p] != u || d.keep(u) != nil {
			u.discard()
		}
		u.leave()
		return nil, err
	}
	return u.begun(u.seek(offset))
}

// takeOver continues the upload old that another session (or this one) has open. It returns nil if that has ended.
func (s *Session) takeOver(old *Upload, w Write) (*Upload, error) {
	d := s.d
	old.mu.Lock() // waits for its Write or Commit
	if old.ended || old.superseded.Load() {
		old.mu.Unlock()
		return nil, nil
	}
	if old.lost {
		old.ended = true
		old.give()
		old.mu.Unlock()
		return nil, nil
	}
	offset, err := w.from(old.Size())
	if err != nil {
		old.mu.Unlock()
		return nil, err
	}
	old.ended = true
	old.superseded.Store(true)
	u := &Upload{s: s, d: d, path: old.path, temp: old.temp, declared: w.Declared, began: old.began, file: old.file}
	u.size.Store(old.Size())
	u.mu.Lock()
	old.mu.Unlock()

	d.mu.Lock()
	if d.open[u.path] != old {
		// A third one came in between, which begins anew: the file is void.
		u.discard()
		d.mu.Unlock()
		u.ended = true
		u.mu.Unlock()
		return nil, nil
	}
	d.open[u.path] = u
	d.mu.Unlock()
	return u.begun(u.seek(offset))
}

// from says where the upload goes on in what is there.
func (w Write) from(size int64) (int64, error) {
	switch {
	case w.Offset <= 0:
		return size, nil
	case w.Offset > size:
		return 0, fmt.Errorf("%w: %d of %d bytes", ErrOffset, w.Offset, size)
	}
	return w.Offset, nil
}

// create makes the upload's file; Drop.mu is held.
func (u *Upload) create() (err error) {
	u.file, err = u.d.fs.OpenFile(u.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if err == nil {
		u.d.ledger.add(inPartial, u.path, 1, 0)
	}
	return err
}

// seek makes offset the end, where the next write goes.
func (u *Upload) seek(offset int64) error {
	// In any case: a write that failed may have left something behind the end.
	if err := u.file.Truncate(offset); err != nil {
		return err
	}
	u.d.ledger.add(inPartial, "", 0, offset-u.size.Swap(offset))
	_, err := u.file.Seek(offset, io.SeekStart)
	return err
}

// begun ends the beginning: the upload is unlocked, or given up after an error.
func (u *Upload) begun(err error) (*Upload, error) {
	defer u.mu.Unlock()
	if err == nil {
		return u, nil
	}
	u.ended = true
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	u.discard()
	return nil, err
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Write adds p at the end. After an error the upload can only be ended, and Commit will fail.
func (u *Upload) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, err := u.write(p)
	if err != nil {
		err = named(u.name(), err)
	}
	return n, err
}

// write is Write; u.mu is held.
func (u *Upload) write(p []byte) (int, error) {
	switch {
	case u.superseded.Load():
		return 0, ErrSuperseded
	case u.ended:
		return 0, fs.ErrClosed
	case u.err != nil:
		return 0, u.err
	}
	n, err := u.writeBytes(p)
	u.err = err
	return n, err
}

func (u *Upload) writeBytes(p []byte) (int, error) {
	want := int64(len(p))
	if limit := u.d.opts.MaxSize; limit >= 0 && u.Size()+want > limit {
		return 0, fmt.Errorf("%w (%d bytes)", ErrTooLarge, limit)
	}
	if want == 0 {
		return 0, nil
	}
	if err := u.d.ledger.reserve(want); err != nil {
		return 0, err
	}
	n, err := u.file.Write(p)
	u.d.ledger.written(want, int64(n))
	u.size.Add(int64(n))
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// Sync makes durable what was written so far, so that Commit has less left to do. It promises nothing that Commit
// does not: it is for a caller who has to wait for something else anyway, and may run at the same time as any other method.
// A failed Sync is final: nothing of the file is kept, and Commit will fail.
func (u *Upload) Sync() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return named(u.name(), u.syncSoFar())
}

func (u *Upload) syncSoFar() error {
	switch {
	case u.superseded.Load():
		return ErrSuperseded
	case u.ended:
		return fs.ErrClosed
	case u.err != nil:
		return u.err
	}
	if err := u.file.Sync(); err != nil {
		u.err, u.lost = err, true
	}
	return u.err
}

// Size is how many bytes the file has by now, with those that were there before.
func (u *Upload) Size() int64 { return u.size.Load() }

// Ignored tells whether the file's name is a temporary one (see Options.Ignore): it is then kept after Commit, and not handed
// over until it has been renamed.
func (u *Upload) Ignored() bool { return ignored(u.d.opts.Ignore, u.name()) }

// name is the file's name as the client knows it.
func (u *Upload) name() string { return u.s.rel(u.path) }

func (u *Upload) logger() *slog.Logger {
	return u.d.log.With("user", u.s.u.name, "name", u.name(), "bytes", u.Size(), "remote", u.s.remote)
}

// Interrupt ends the upload unfinished: it is kept for resuming and never delivered. reason, for the log,
// says why (required). The error tells that it could not be kept; there is nothing more to do about it.
// On an Upload that has ended already it does nothing.
func (u *Upload) Interrupt(reason error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended {
		return nil
	}
	return named(u.name(), u.interrupt(reason))
}

// interrupt is Interrupt; u.mu is held, and the upload has not ended.
func (u *Upload) interrupt(reason error) error {
	u.ended = true
	log := u.logger().With("reason", cmp.Or(reason, errors.New("unknown")))
	if u.superseded.Load() {
		u.give()
		log.Info("upload superseded by a newer one")
		return nil
	}
	if u.Size() == 0 {
		u.give()
		log.Warn("upload interrupted before its first byte")
		return nil
	}
	if errors.Is(reason, ErrTooLarge) {
		u.give()
		log.Warn("upload refused, and not kept: it could not be resumed")
		return nil
	}
	if u.lost {
		u.give()
		log.Warn("upload interrupted, and not kept", "trouble", named(u.name(), u.err))
		return u.err
	}
	err := u.sync()
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	switch {
	case err == nil && u.d.open[u.path] == u:
		if err = u.d.keep(u); err != nil {
			u.discard()
		}
		u.leave()
	default:
		u.discard()
	}
	if err != nil {
		log.Warn("upload interrupted, and not kept", "trouble", named(u.name(), err))
		return err
	}
	log.Warn("upload interrupted, kept for resuming")
	return nil
}

// sync makes the bytes that were received durable, and closes the file.
func (u *Upload) sync() error {
	var err error
	if u.err != nil {
		// A write that failed may have left something behind what it said it wrote.
		err = u.file.Truncate(u.Size())
	}
	if err == nil {
		// If it fails the file is given up and never synced again: the kernel has dropped the bytes.
		err = u.file.Sync()
	}
	return errors.Join(err, u.file.Close())
}

// give gives the upload's file up.
func (u *Upload) give() {
	u.d.mu.Lock()
	defer u.d.mu.Unlock()
	u.discard()
}

// discard removes the upload's file; Drop.mu is held.
func (u *Upload) discard() {
	if u.file == nil && u.Size() == 0 {
		u.leave()
		return // it was never made
	}
	if u.file != nil {
		u.file.Close() // for nothing but its descriptor
	}
	if err := u.d.fs.Remove(u.temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It is in no one's way, and goes at the next start.
		u.logger().Warn("cannot remove a given-up upload", "reason", named(u.name(), err))
	}
	u.d.ledger.add(inPartial, u.path, -1, -u.Size())
	u.leave()
}

// leave gives the name free; Drop.mu is held.
func (u *Upload) leave() {
	if u.d.open[u.path] == u {
		delete(u.d.open, u.path)
	}
}
