package drop

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// Start says how an upload begins.
type Start struct {
	// Offset is where the first byte goes, at most at the end of what is there; what stands behind it is cut off.
	// By default, the upload starts a new file.
	Offset int64
	// Append adds to the end of what is there; something must be. With an Offset, the Offset counts.
	Append bool
	// Declared is the size of the whole file as the client announced it, in bytes. By default (0 or less) it is
	// not known. A file that ends up smaller is not complete; a larger one is.
	Declared int64
	// Unread: the caller says after Commit whether the client has read the reply (see Upload.Read). By default, it counts as read.
	Unread bool
	// Confirm is asked right before the file is first sent, if Options.Delivered has Commit wait for that: an error has it taken back, and is that of
	// Commit. By default, nobody is asked.
	Confirm func() error
}

// Upload is a file that is being received. Its methods may be called concurrently, but a Write that runs while the
// Upload is ended may come too late.
type Upload struct {
	s         *Session
	d         *Drop
	path      string // below drop
	start     Start
	began     time.Time
	temporary bool // its name
	// superseded: another upload has taken this one's place.
	superseded atomic.Bool

	mu      sync.Mutex // before all others
	part    *part
	base    string // the id of the entry that this continues, suspended meanwhile; "": none
	err     error  // of a Write that failed
	ended   bool
	entry   outbox.Entry // after Commit
	awaited string       // the id of the entry whose delivery Commit waits for; "": of none
}

// Create begins an upload. Every Upload must be ended by Commit or Interrupt.
//
// What an Offset or Append continues is what Stat shows: the upload that was interrupted or is still open in another session,
// which is superseded; or, by a copy, a finished file, which is not sent meanwhile and which the longer version
// replaces. A file that is due cannot be continued (ErrDue), and with nothing there both are refused (ErrNoPartial): the file
// would be only its tail, of which a client that lost sight of its upload does not know.
func (s *Session) Create(name string, w Start) (u *Upload, err error) {
	err = s.do(name, s.pathBelow, func(p string) error {
		if s.d.opts.MaxSize >= 0 && max(w.Declared, w.Offset) > s.d.opts.MaxSize {
			return ErrTooLarge
		}
		if err := s.d.ready(); err != nil {
			return err
		}
		return s.withFolders(p, func() error { u, err = s.create(p, w); return err })
	})
	return u, err
}

func (s *Session) create(p string, w Start) (*Upload, error) {
	for {
		u := &Upload{s: s, d: s.d, path: p, start: w, began: time.Now(), temporary: s.temporary(p)}
		old, err := u.begin()
		if old != nil {
			var done bool
			if done, err = u.takeOver(old); !done && err == nil {
				continue // it has ended meanwhile
			}
		}
		if err != nil {
			return nil, err
		}
		s.d.used(p)
		if w.continues() {
			s.d.shown.continued(s.client(), p)
		} else {
			s.d.shown.replaced(p)
		}
		return u, nil
	}
}

// begin begins u, or returns the open upload that is to be continued.
func (u *Upload) begin() (old *Upload, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	old, fill, err := u.claim()
	if err == nil && fill != nil {
		// What takes as long as the file is large is done without the lock on its name.
		err = fill()
	}
	if err != nil {
		u.abandon()
	}
	return old, err
}

// abandon ends u after an error; u.mu is held.
func (u *Upload) abandon() {
	if !u.ended {
		u.ended = true
		u.discard()
	}
}

// claim makes u the upload to its name. fill does the rest.
func (u *Upload) claim() (old *Upload, fill func() error, err error) {
	d, p := u.d, u.path
	defer d.names.lock(p)()
	here, err := d.at(p)
	if err == nil && here.dir != nil {
		err = fmt.Errorf("%w: it is a directory", fs.ErrExist)
	}
	if err == nil {
		err = d.admit(p, here.adds(u.start), u.start.bytes())
	}
	switch {
	case err != nil:
		return nil, nil, err
	case !u.start.continues():
		return nil, nil, u.create(here)
	case here.uploading():
		return here.open, nil, nil
	case here.kept != nil:
		fill, err = u.resume(here.kept.Size())
	case (here.changeable() || here.found != nil) && d.awaitsDelivery(u.Temporary()):
		err = ErrDue // nothing replaces a file whose client waits for its delivery
	case here.changeable():
		fill, err = u.copy(here, here.entry)
	case here.found != nil:
		var e outbox.Entry
		if e, err = u.s.takeFound(p, p, true); err == nil {
			fill, err = u.copy(here, e)
			d.box.Resume(e.ID)
		}
	case here.waits:
		err = ErrDue
	default:
		err = ErrNoPartial
	}
	return nil, fill, err
}

// continues reports whether something must be there already.
func (w Start) continues() bool { return w.Offset > 0 || w.Append }

// bytes is how many will come at least.
func (w Start) bytes() int64 {
	if w.continues() {
		return 0 // some are there already
	}
	return w.Declared
}

// from says where the upload goes on in what is there.
func (w Start) from(size int64) (int64, error) {
	switch {
	case w.Offset <= 0:
		return size, nil
	case w.Offset > size:
		return 0, fmt.Errorf("%w: %d of %d bytes", ErrOffset, w.Offset, size)
	}
	return w.Offset, nil
}

// resumeAt says where u goes on in an unfinished upload of size bytes. What a client appends goes where it was told that the file ends, if
// no byte has come since; else behind the last one.
func (u *Upload) resumeAt(size int64) (int64, error) {
	w := u.start
	if told, ok := u.d.shown.of(u.s.client(), u.path); ok && w.Append && w.Offset <= 0 && told == shownSize(size) {
		return told, nil
	}
	return w.from(size)
}

// create makes the upload's file, empty. An upload of the name that is open or interrupted is void.
func (u *Upload) create(here nameState) (err error) {
	if u.part, err = u.d.uploads.newPart(u.path); err != nil {
		return err
	}
	u.d.uploads.register(u)
	if here.open == nil && here.kept == nil {
		return nil
	}
	return u.d.uploads.removeKept(u.path) // behind register: an open one is kept no more when u has its place
}

// copy begins with a copy of the entry e, which is not sent meanwhile.
func (u *Upload) copy(here nameState, e outbox.Entry) (fill func() error, err error) {
	size, err := u.start.from(e.Size)
	if err != nil {
		return nil, err
	}
	if err := u.d.box.Suspend(e.ID); err != nil {
		return nil, asDue(err)
	}
	u.base = e.ID
	from, err := u.d.box.OpenFile(e.ID)
	if err == nil {
		if err = u.create(here); err != nil {
			err = errors.Join(err, from.Close())
		}
	}
	if err != nil {
		return nil, err
	}
	return func() error {
		defer from.Close()
		n, err := io.Copy(writerFunc(u.write), io.LimitReader(from, size))
		if err == nil && n < size {
			err = io.ErrUnexpectedEOF
		}
		return err
	}, nil
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// resume continues the interrupted upload of size bytes.
func (u *Upload) resume(size int64) (fill func() error, err error) {
	offset, err := u.resumeAt(size)
	if err != nil {
		return nil, err
	}
	if u.part, err = u.d.uploads.reopenPart(u.path, size); err != nil {
		return nil, err
	}
	u.d.uploads.register(u)
	if err := u.part.syncReopened(); err != nil {
		// Nothing was written: it can go back.
		if ok, _ := u.d.uploads.keep(u); ok {
			u.ended = true
			err = errors.Join(err, u.part.close())
		}
		return nil, err
	}
	return func() error { return u.part.seek(offset) }, nil
}

// takeOver has u continue old, which another session (or this one) has open. It reports false if that has ended.
func (u *Upload) takeOver(old *Upload) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	offset, err := old.handOver(u)
	if err != nil || u.part == nil {
		return false, err
	}
	if !u.d.uploads.succeed(old, u) {
		// A third one came in between, which begins anew: the file is void.
		u.abandon()
		return false, nil
	}
	if err := u.part.seek(offset); err != nil {
		u.abandon()
		return false, err
	}
	return true, nil
}

// handOver moves u's file to another upload, unless u has ended.
func (u *Upload) handOver(to *Upload) (offset int64, err error) {
	u.mu.Lock() // waits for its Write or Commit
	defer u.mu.Unlock()
	if u.ended || u.superseded.Load() {
		return 0, nil
	}
	if offset, err = to.resumeAt(u.Size()); err != nil {
		return 0, err
	}
	u.ended = true
	u.superseded.Store(true)
	to.part, to.base, to.began = u.part, u.base, u.began
	return offset, nil
}

// Write adds p at the end. After an error the upload can only be ended, and Commit will fail.
func (u *Upload) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, err := u.write(p)
	return n, named(u.name(), err)
}

// write is Write; u.mu is held.
func (u *Upload) write(p []byte) (n int, err error) {
	if err := u.usable(); err != nil {
		return 0, err
	}
	n, u.err = u.part.write(p, u.d.opts.MaxSize)
	return n, u.err
}

// usable is nil while the upload can go on.
func (u *Upload) usable() error {
	switch {
	case u.superseded.Load():
		return ErrSuperseded
	case u.ended:
		return fs.ErrClosed
	}
	return u.err
}

// Size is how many bytes the file has by now, with those that were there before.
func (u *Upload) Size() int64 {
	if u.part == nil { // it could not be begun
		return 0
	}
	return u.part.size.Load()
}

// Temporary reports whether the file's name is a temporary one (see Options.Ignore): it is then held after Commit until it has been renamed.
func (u *Upload) Temporary() bool { return u.temporary }

// name is the file's name as the client knows it.
func (u *Upload) name() string { return u.s.rel(u.path) }

func (u *Upload) logger() *slog.Logger {
	return u.s.log.With("name", u.name(), "bytes", u.Size(), "remote", u.s.remote)
}

// Commit finishes the upload: when it returns nil, the file is durable in the outbox and WILL be delivered; with Options.Delivered it HAS
// been, unless its name is a temporary one. After an error it will not be, unless that is ErrNotDelivered, which says more; what can be resumed has been kept, as by Interrupt, and the Upload is ended all the same.
func (u *Upload) Commit() error { return named(u.name(), u.d.untilDelivered(u.commit)) }

func (u *Upload) commit() (delivery, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	// From here on no other upload can take this one's place.
	defer u.d.names.lock(u.path)()
	err := u.usable()
	if err == nil && u.Size() < u.start.Declared {
		err = fmt.Errorf("%w: %d bytes came, %d were declared", ErrIncomplete, u.Size(), u.start.Declared)
	}
	if err != nil {
		if !u.ended {
			_ = u.interrupt(err)
		}
		return nil, err
	}
	u.ended = true
	if id, ok := u.alreadySent(); ok {
		u.awaited = id
		u.s.remember(u.path, outbox.Entry{ID: id, Name: u.name(), Key: u.path, Size: u.Size(), ModTime: time.Now(), Due: true})
		u.logger().Info("the same file was sent before, and its sender was not told what became of it: it is not sent again", "trackingId", id)
		u.discard()
		return u.s.delivery(id, u.path, nil), nil
	}
	if err := u.put(); err != nil {
		u.discard()
		return nil, err
	}
	u.part.uncount()
	u.release()
	u.s.remember(u.path, u.entry)
	u.d.used(u.path)
	u.d.accepted(u.s.u.name, u.s.remote, u.entry)
	if u.awaited == "" {
		return nil, nil
	}
	return u.s.delivery(u.awaited, u.path, u.notDelivered), nil
}

// put puts the file into the outbox.
func (u *Upload) put() error {
	d := u.d
	var here nameState // whatever has become of the folder above: the file is delivered
	here.setEntry(d.box.Lookup(u.path))
	beginnings, err := u.settleDoubts()
	if err != nil {
		return err
	}
	item := u.s.item(u.path, u.temporary)
	item.Path, item.File, item.Checksum, item.Suspended = u.part.temp, u.part.file, &u.part.sum, u.start.Unread
	if d.awaitsDelivery(item.Yield) {
		item.Suspended, item.Tentative = false, &outbox.Tentative{Confirm: u.start.Confirm}
	}
	u.part.file = nil // Put closes it
	continued := here.changeable() && here.entry.ID == u.base
	if continued && !item.Yield {
		// What is left of the base's wait, or appends could hold up those behind it for ever; not of the longer one of a doubt, which passes no others.
		item.Wait = min(max(time.Until(here.entry.Until), 0), item.Wait)
	}
	if continued || here.held() {
		item.Replaces = here.entry.ID
	}
	if u.entry, err = d.putOne(item); err != nil {
		d.doubts.add(u.doubtKey(), beginnings...)
		return err
	}
	u.dropBeginnings(beginnings)
	if item.Tentative != nil {
		u.awaited = u.entry.ID
	}
	return nil
}

// takeBack takes the file out of the outbox again, after Commit, as the upload has proved to be interrupted: it can be
// resumed. ErrDue if it may have been sent.
func (u *Upload) takeBack(reason error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer u.d.names.lock(u.path)()
	if err := u.moveBack(); err != nil {
		return named(u.name(), asDue(err))
	}
	u.logger().Warn("upload was interrupted after all; it is taken back", "trackingId", u.entry.ID, "error", reason)
	return nil
}

func (u *Upload) moveBack() error {
	d := u.d
	open, old, err := d.uploads.at(u.path)
	if err != nil {
		return err
	}
	if newest, _ := d.box.Lookup(u.path); open != nil || old != nil || newest.ID != u.entry.ID {
		return d.box.Withdraw(u.entry.ID, "") // the client has begun anew
	}
	d.uploads.noteKept(u.path, u.entry.Size) // from here on its directory does not go for being empty
	to := kept(u.path)
	if err := d.uploads.makePlace(u.path); err != nil {
		to = "" // it cannot be resumed. What matters is that it is not sent: after a restart it would be
		u.logger().Warn("what is taken back of an upload cannot be kept", "trackingId", u.entry.ID, "error", named(u.name(), err))
	}
	err = d.box.Withdraw(u.entry.ID, to)
	if err != nil || to == "" {
		d.uploads.forgetKept(u.path)
		d.ledger.addPartial(u.path, -1, -u.entry.Size)
	}
	return err
}

// Interrupt ends the upload unfinished: it is kept for resuming and never delivered. reason, for the log,
// says why (required). The error says that it could not be kept; there is nothing more to do about it.
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
	defer u.discard() // what is not kept
	reason = cmp.Or(reason, errors.New("unknown"))
	log := u.logger().With("error", reason)
	switch {
	case u.superseded.Load():
		log.Info("upload superseded by a newer one")
		return nil
	case u.Size() == 0:
		log.Warn("upload interrupted before its first byte")
		return nil
	case errors.Is(reason, ErrTooLarge):
		log.Warn("upload refused, and not kept: it could not be resumed")
		return nil
	case u.base != "":
		log.Warn("upload interrupted, and not kept: the file that it was to continue stands")
		return nil
	}
	stays := false
	err := u.part.sync()
	if err == nil {
		stays, err = u.d.uploads.keep(u)
	}
	switch {
	case err != nil:
		u.logger().Warn("upload interrupted, and not kept", "error", fmt.Errorf("%w; the disk cannot keep it: %w", reason, named(u.name(), err)))
	case stays:
		log.Warn("upload interrupted, kept for resuming")
	}
	return err
}

// discard removes u's file, unless it is kept, and releases u.
func (u *Upload) discard() {
	if u.part != nil {
		if err := u.part.remove(); err != nil {
			// Harmless: the next Open removes it.
			u.logger().Warn("cannot remove a given-up upload", "error", named(u.name(), err))
		}
	}
	u.release()
}

// release removes u from the open uploads, and ends the suspension of what u was to continue.
func (u *Upload) release() {
	u.d.uploads.release(u)
	if u.base != "" {
		u.d.box.Resume(u.base)
	}
}
