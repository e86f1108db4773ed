package drop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// The pauses after a Take that failed.
const (
	minRetry = 100 * time.Millisecond
	maxRetry = 30 * time.Second
)

// claimAll hands what is due to the Taker until ctx ends.
func (d *Drop) claimAll(ctx context.Context) {
	var trouble retry.Trouble
	for ctx.Err() == nil {
		batch, wait := d.pick()
		if len(batch) > 0 {
			err := d.claim(ctx, batch)
			switch {
			case err == nil:
				trouble.Over(time.Now(), "finished files can be handed over again").To(d.log)
				continue
			case ctx.Err() != nil:
				return
			}
			trouble.Hit(time.Now(), slog.LevelError, "finished files cannot be handed over, will try again", err).To(d.log)
			retry.Sleep(ctx, retryAfter(trouble.Failures())) // whatever else becomes due has to wait as well
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func retryAfter(failures int) time.Duration {
	return min(minRetry<<min(failures-1, 20), maxRetry)
}

// pick takes the entries that are due out of the queue, in order. With none due it says how long to wait.
func (d *Drop) pick() ([]*entry, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var batch []*entry
	for len(d.queue) > 0 && len(batch) < d.opts.Batch {
		e := d.queue[0]
		if wait := time.Until(e.due); wait > 0 {
			if len(batch) == 0 {
				return nil, wait
			}
			break
		}
		if e.busy() {
			break // being renamed: what is behind it waits; free wakes us up
		}
		seen := e.due
		if d.look(e.path); d.files[e.path] != e || e.place < 0 || !e.due.Equal(seen) {
			continue // gone, or changed and thus no longer due: an event got lost
		}
		d.dequeue(e)
		e.state = claiming
		batch = append(batch, e)
	}
	d.claiming = batch
	return batch, time.Hour // or until woken up
}

// claim hands over what pick gave. After an error, that is for all the files it could not hand over, they are
// in the queue again at their places.
func (d *Drop) claim(ctx context.Context, batch []*entry) error {
	batch = d.secure(batch)
	files := make([]File, len(batch))
	d.mu.Lock()
	for i, e := range batch {
		user, name := d.owner(e.user, e.path)
		files[i] = File{
			User: user, Name: name, Path: path.Join(dropDir, e.path),
			Size: e.size, ModTime: e.mtime, Received: e.received, RemoteAddr: e.remote,
		}
	}
	d.taking = true
	d.mu.Unlock()
	var ids []string
	var errs []error
	if len(files) > 0 {
		ids, errs = d.opts.Taker.Take(ctx, files)
		if len(ids) != len(files) || len(errs) != len(files) {
			panic(fmt.Sprintf("drop: Take returned %d ids and %d errors for %d files", len(ids), len(errs), len(files)))
		}
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	var failed error
	for i, e := range batch {
		if errs[i] == nil {
			d.took(e, ids[i], files[i])
		} else if err := d.refused(e, files[i], errs[i]); err != nil && failed == nil {
			failed = err
		}
	}
	d.taking = false
	clear(d.early)
	d.claiming = nil
	return failed
}

// secure syncs the files of other programs, as the Taker's rename is to find bytes that are on the disk, and returns those
// that may go on. Names need nothing here: a later rename of a file takes the earlier ones with it.
func (d *Drop) secure(batch []*entry) []*entry {
	secured := batch[:0:0]
	for _, e := range batch { // busy, so that nobody else changes them
		if !e.found {
			secured = append(secured, e)
			continue
		}
		switch err := d.syncFile(e.path); {
		case err == nil:
			secured = append(secured, e)
		case errors.Is(err, fs.ErrNotExist):
			d.mu.Lock()
			d.putBack(e)
			d.look(e.path)
			d.mu.Unlock()
		default:
			// The bytes that the kernel has dropped will not come again.
			d.park(e, "file of another program cannot be synced, and is left alone until it changes", err)
		}
	}
	return secured
}

func (d *Drop) syncFile(p string) error {
	f, err := d.fs.OpenFile(path.Join(dropDir, p), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// park leaves e alone until it changes.
func (d *Drop) park(e *entry, why string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free(e)
	user, name := d.owner(e.user, e.path)
	d.log.Error(why, "user", user, "name", name, "bytes", e.size, "reason", named(name, err))
}

// putBack puts e to its place in the queue; d.mu is held.
func (d *Drop) putBack(e *entry) {
	d.requeue(e)
	d.free(e)
}

// took notes that the Taker has e; d.mu is held.
func (d *Drop) took(e *entry, id string, f File) {
	delete(d.files, e.path)
	d.ledger.move(inDrop, inTaken, e.size)
	again := e.again
	d.changed.Broadcast()
	if d.early[id] {
		e.memo.gone = time.Now()
		d.ledger.add(inTaken, e.path, -1, -e.size)
	} else {
		d.taken.add(&taken{id: id, name: f.Name, path: e.path, size: e.size, mtime: e.mtime, memo: e.memo})
	}
	if again {
		d.look(e.path)
	}
	if e.found {
		d.foundTrouble.Over(time.Now(), "a file of another program could be handed over again").To(d.log)
	}
}

// refused notes that the Taker did not take e, and returns the error if others have to wait for it; d.mu is held.
func (d *Drop) refused(e *entry, f File, err error) error {
	log := d.log.With("user", f.User, "name", f.Name, "bytes", f.Size, "reason", err)
	switch {
	case isPermanent(err):
		d.free(e)
		log.Error("file cannot be handed over, and is left alone until it changes")
		return nil
	case errors.Is(err, fs.ErrNotExist) && d.vanished(e):
		log.Warn("file was taken away by another program")
		return nil
	case e.found && !isDiskTrouble(err) && !errors.Is(err, context.Canceled):
		d.free(e)
		if d.files[e.path] == e {
			d.enqueue(e, time.Now().Add(maxRetry))
		}
		d.foundTrouble.Hit(time.Now(), slog.LevelWarn, "file of another program cannot be handed over, will try again", err,
			"user", f.User, "name", f.Name, "bytes", f.Size).To(d.log)
		return nil
	}
	d.putBack(e)
	return fmt.Errorf("%q: %w", f.Name, err)
}

// vanished tells whether e's file is not there any more, and forgets it then; d.mu is held.
func (d *Drop) vanished(e *entry) bool {
	fi, err := d.lstat(path.Join(dropDir, e.path))
	if fi != nil || err != nil {
		return false
	}
	d.free(e)
	if d.files[e.path] == e {
		d.forget(e)
	}
	return true
}
