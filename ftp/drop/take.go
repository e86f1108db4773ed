package drop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// takeFound takes the file of another program at p, whose name is locked, into the outbox as q, for a client that wants to change
// it. It is not sent before the outbox's Resume, if it is suspended.
func (s *Session) takeFound(p, q string, suspended bool) (outbox.Entry, error) {
	d := s.d
	if err := d.syncFound(p); err != nil {
		return outbox.Entry{}, err
	}
	item := s.item(q, s.temporary(q))
	item.Path, item.Suspended = path.Join(dropDir, p), suspended
	e, err := d.putOne(item)
	if err != nil {
		return e, err
	}
	d.found.forget(p)
	s.forget(p)
	s.remember(q, e)
	d.accepted(s.u.name, s.remote, e)
	return e, nil
}

// syncFound makes the bytes of a file of another program durable.
func (d *Drop) syncFound(p string) error {
	f, err := d.fs.OpenFile(path.Join(dropDir, p), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// batchSize is how many files go into the outbox at once.
const batchSize = 256

// takeQuiet takes what has been quiet into the outbox. An error is about the volume as a whole. Files that cannot be taken are
// tried again later, and hold up no others.
func (w *watcher) takeQuiet(ctx context.Context) error {
	paths := w.d.found.quietFiles(w.d.temporary)
	var failed error
	for batch := range slices.Chunk(paths, batchSize) {
		if err := w.takeBatch(ctx, batch); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// takeBatch takes files, in order.
func (w *watcher) takeBatch(ctx context.Context, paths []string) error {
	d := w.d
	var synced []string
	var first error
	for _, p := range paths {
		// Without a lock: it may take long.
		if err := d.syncFound(p); err != nil {
			first = w.noteFailure(p, err, first)
			continue
		}
		synced = append(synced, p)
	}
	left, err := w.putBatch(ctx, synced)
	if len(left) > 1 {
		// An error may be that of another one, on which it had to wait.
		for _, p := range left {
			if left, e := w.putBatch(ctx, []string{p}); len(left) > 0 {
				first = w.noteFailure(p, e, first)
			}
		}
	} else if len(left) == 1 {
		first = w.noteFailure(left[0], err, first)
	}
	if first == nil && len(synced) > 0 {
		w.trouble.Over(time.Now(), "files of other programs can be taken again").To(d.log)
	}
	if isForNow(first) {
		return first
	}
	return nil
}

// putBatch puts files that are synced into the outbox. It returns those that could not be, and the first error.
func (w *watcher) putBatch(ctx context.Context, paths []string) (left []string, first error) {
	d := w.d
	defer d.names.lock(slices.Clone(paths)...)()
	var items []outbox.Item
	var files []File
	for _, p := range paths {
		since, ok := d.found.stillQuiet(p)
		if !ok {
			continue // gone, or changed meanwhile
		}
		user, name := d.users.owner(p)
		f := File{User: user, Name: name, Received: since}
		item := d.item(f, p, false)
		item.Path, item.Wait = path.Join(dropDir, p), 0
		items, files = append(items, item), append(files, f)
	}
	if len(items) == 0 {
		return nil, nil
	}
	entries, errs := d.box.Put(ctx, items)
	for i, e := range entries {
		if errs[i] != nil {
			left = append(left, items[i].Key)
			if first == nil {
				first = errs[i]
			}
			continue
		}
		d.found.forget(items[i].Key)
		d.accepted(files[i].User, files[i].RemoteAddr, e)
	}
	return left, first
}

// noteFailure notes that p could not be taken, and returns first, or err if that is nil.
func (w *watcher) noteFailure(p string, err, first error) error {
	d := w.d
	d.found.postpone(p)
	if errors.Is(err, fs.ErrNotExist) {
		d.found.refresh(p)
		return first // taken away by another program
	}
	user, name := d.users.owner(p)
	err = named(name, err)
	w.trouble.Hit(time.Now(), slog.LevelError, "file of another program cannot be taken, will try again", err, "user", user, "name", name).To(d.log)
	if first == nil {
		return fmt.Errorf("taking files of the drop directory: %w", err)
	}
	return first
}
