package drop

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// Commit finishes the upload: when it returns nil, the file is durable and WILL be delivered (226). After an
// error it will not be; what can be resumed has been kept, as by Interrupt, and the Upload is ended all the same.
//
// The order of its steps, and what an error of each leaves:
//
//  1. The file's time is set, and its bytes and time are synced. An error: the kernel may have dropped bytes, so the file is
//     removed; it never had a name that anyone trusts. The same if the process is killed here: recovery clears partial/open.
//  2. It is renamed to its name in drop, under the lock. If a finished file of that name is being claimed, that ends first:
//     either the claim has taken the old file and both are delivered, or it has failed and the old file is replaced; never
//     is the Taker given the one and finds the other. A file that is still only replaced is not lost: the client
//     replaced it. An error: the file is still in partial and is removed; or it is in drop, and is then treated as in 3; or it
//     is gone, since another program or the next Drop has removed it, and what has its name then is left alone.
//  3. The directory is synced. Only now may the file be claimed, and 226 be said. An error: the file has its name, but
//     a power cut may take it back. No 226 means no delivery, so the file is removed again. Two things can go wrong:
//     if the removal fails, the entry is doomed: hidden from clients, never claimed, and its removal is tried again at every
//     rescan; only a restart makes it an ordinary file, complete in all its bytes. And if the file has replaced another finished
//     one, which was acknowledged and is not there any more, removing it would lose both: so it stays and
//     is delivered, which an ERROR says; the client sends it again, and it arrives twice rather than never.
func (u *Upload) Commit() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return named(u.name(), u.commit())
}

func (u *Upload) commit() error {
	d := u.d
	switch {
	case u.superseded.Load():
		if !u.ended {
			u.interrupt(ErrSuperseded)
		}
		return ErrSuperseded
	case u.ended:
		return fs.ErrClosed
	case u.err != nil:
		u.interrupt(u.err)
		return u.err
	case u.Size() < u.declared:
		err := fmt.Errorf("%w: %d bytes came, %d were declared", ErrIncomplete, u.Size(), u.declared)
		u.interrupt(err)
		return err
	}
	u.ended = true

	d.mu.Lock()
	stamp := d.stamp()
	d.mu.Unlock()
	fi, err := u.stamp(stamp)
	if err != nil {
		u.give()
		return err
	}
	e := &entry{path: u.path, user: u.s.u, remote: u.s.remote, size: u.Size(), mtime: fi.ModTime(), state: syncing}
	steps := commitSteps{
		FS:      d.fs,
		rename:  func() error { return u.place(e) },
		syncDir: func() error { return d.syncNames(path.Dir(u.path)) },
	}
	err = disk.Commit(steps, u.file, u.temp, path.Join(dropDir, u.path))
	switch {
	case err == nil:
		d.mu.Lock()
		e.received = time.Now()
		if !u.Ignored() {
			d.enqueue(e, e.received.Add(d.opts.Settle))
		}
		u.s.remember(e.path, e.memo)
		d.free(e)
		d.mu.Unlock()
		u.logger().Debug("upload finished", "ignored", u.Ignored())
	case u.placed:
		u.undo(e, err)
	default:
		u.give()
		if u.superseded.Load() {
			err = ErrSuperseded
		}
	}
	return err
}

// stamp sets the file's time, and describes the file then: a file system may keep times less exactly.
func (u *Upload) stamp(t time.Time) (fs.FileInfo, error) {
	if err := u.d.fs.Chtimes(u.temp, t); err != nil {
		return nil, err
	}
	return u.file.Stat()
}

// commitSteps is the volume as disk.Commit is to see it: it keeps the order of the steps, we do two
// of them with more care.
type commitSteps struct {
	disk.FS
	rename  func() error
	syncDir func() error
}

func (s commitSteps) Rename(_, _ string) error { return s.rename() }
func (s commitSteps) SyncDir(string) error     { return s.syncDir() }

// place renames the synced upload to its name in drop, where it is the busy entry e.
func (u *Upload) place(e *entry) error {
	d := u.d
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.files[u.path]
	for ; old != nil && old.busy(); old = d.files[u.path] {
		d.changed.Wait()
	}
	if d.open[u.path] != u {
		return ErrSuperseded
	}
	old, err := d.finished(u.path)
	if errors.Is(err, syscall.EISDIR) {
		err = fmt.Errorf("%w: it is a directory", fs.ErrExist)
	}
	if err != nil {
		return err
	}
	to := path.Join(dropDir, u.path)
	failed := d.fs.Rename(u.temp, to)
	if failed != nil && !u.arrived(e) {
		d.look(u.path) // whatever has become of what stands there
		return failed
	}
	u.placed = true
	e.replaced = old != nil
	if old := d.files[u.path]; old != nil { // also a doomed one
		u.logger().Info("a finished file was replaced before it was sent", "replacedBytes", old.size)
		d.forget(old)
	}
	u.leave()
	d.insert(e)
	d.ledger.move(inPartial, inDrop, e.size)
	if fi, err := d.fs.Lstat(to); err == nil {
		d.looksLike(e, fi)
	}
	return failed
}

// arrived tells whether a rename that failed was done all the same: the file has left partial and is in drop, as e. That it has
// left is not enough: it may have been removed, by another program or the next Drop, and then what stands in drop is
// another's, perhaps acknowledged. d.mu is held.
func (u *Upload) arrived(e *entry) bool {
	if fi, err := u.d.lstat(u.temp); fi != nil || err != nil {
		return false
	}
	fi, err := u.d.lstat(path.Join(dropDir, e.path))
	return err == nil && fi != nil && e.is(fi)
}

// undo takes back a file that has its name, which may not be durable.
func (u *Upload) undo(e *entry, cause error) {
	d := u.d
	log := u.logger().With("reason", named(u.name(), cause))
	dir := path.Dir(e.path)
	d.mu.Lock()
	if e.replaced {
		e.received = time.Now()
		if !u.Ignored() {
			d.enqueue(e, e.received.Add(d.opts.Settle))
		}
		d.free(e)
		d.mu.Unlock()
		log.Error("upload not acknowledged, but it has replaced a finished file and will be delivered")
		return
	}
	if fi, err := d.lstat(path.Join(dropDir, e.path)); err == nil && (fi == nil || !e.is(fi)) {
		e.again = true // another's stands there by now, which is not to be removed
		d.free(e)
		d.mu.Unlock()
		return
	}
	err := d.remove(e)
	if err != nil {
		e.state = doomed
		d.changed.Broadcast()
	}
	d.mu.Unlock()
	if err == nil {
		err = d.syncs.sync(path.Join(dropDir, dir))
	}
	if err != nil {
		log.Error("upload not acknowledged, but a restart may bring it back and deliver it", "trouble", named(u.name(), err))
	}
}
