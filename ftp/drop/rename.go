package drop

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"syscall"
	"time"

	"errors"
)

// Rename renames a finished file, replacing a finished file of the new name, or a directory. When it returns nil,
// the new name is durable.
func (s *Session) Rename(from, to string) error {
	p, err := s.pathBelow(from)
	if err != nil {
		return named(from, err)
	}
	q, err := s.pathBelow(to)
	if err != nil {
		return named(to, err)
	}
	d := s.d
	d.mu.Lock()
	e, err := d.finished(p)
	if errors.Is(err, syscall.EISDIR) {
		return named(from, s.renameDir(p, q)) // unlocks
	}
	if err == nil && e == nil {
		err = s.notRenamed(p)
	}
	if err != nil {
		d.mu.Unlock()
		return named(from, err)
	}
	if p == q {
		d.mu.Unlock()
		return nil
	}
	err = s.renameFile(e, q)
	d.mu.Unlock()
	if err != nil {
		return named(to, err)
	}

	err = d.syncNames(path.Dir(q))
	if err == nil {
		// A partial file of the new name is void, and must not come back for a client to resume it.
		err = d.voidKept(q)
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.renamed(e, p)
	return named(to, err)
}

// notRenamed says why p, which is no finished file, cannot be renamed; d.mu is held.
func (s *Session) notRenamed(p string) error {
	_, partial, err := s.d.partial(p)
	switch {
	case err != nil:
		return err
	case partial:
		return ErrIncomplete
	case s.d.taken.get(p) != nil:
		return fmt.Errorf("%w: it is being delivered", ErrBusy)
	}
	return fs.ErrNotExist
}

// renameFile gives e the path q, on the disk and in the index, and leaves it syncing; d.mu is held.
func (s *Session) renameFile(e *entry, q string) error {
	d, p := s.d, e.path
	if e.busy() {
		return ErrBusy
	}
	if err := d.inDirectory(q); err != nil {
		return err
	}
	replaced, err := d.finished(q)
	switch {
	case errors.Is(err, syscall.EISDIR):
		return fs.ErrExist
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case replaced != nil && replaced.busy():
		return ErrBusy
	}
	if err := d.fs.Rename(path.Join(dropDir, p), path.Join(dropDir, q)); err != nil {
		// Whatever has become of them, the index shall know it.
		d.look(p)
		d.look(q)
		return err
	}
	if replaced := d.files[q]; replaced != nil {
		d.log.Info("a finished file was replaced before it was sent", "user", s.u.name, "name", s.rel(q), "remote", s.remote,
			"bytes", e.size, "replacedBytes", replaced.size)
		d.forget(replaced)
	}
	delete(d.files, p)
	d.ledger.add(inDrop, p, -1, -e.size)
	e.path = q
	d.files[q] = e
	d.ledger.add(inDrop, q, 1, e.size)
	e.state = syncing
	if fi, err := d.fs.Lstat(path.Join(dropDir, q)); err == nil {
		d.looksLike(e, fi) // the change time has moved
	}
	if m := s.memos[p]; m != nil {
		delete(s.memos, p)
		s.remember(q, m)
	}
	return nil
}

// renamed decides when e, which had the path p, is due, and frees it; d.mu is held.
func (d *Drop) renamed(e *entry, p string) {
	was, is := d.ignored(e.user, p), d.ignored(e.user, e.path)
	switch {
	case e.state == doomed:
	case is:
		d.dequeue(e)
	case was:
		// Only now does it count as finished. The client may go on to set its time.
		e.received = time.Now()
		d.enqueue(e, e.received.Add(d.opts.Settle))
	}
	d.free(e)
}

// renameDir renames the directory p, with all that is in it, to q. d.mu is held; it is released.
func (s *Session) renameDir(p, q string) error {
	d := s.d
	err := s.moveDir(p, q)
	d.mu.Unlock()
	if err != nil || p == q {
		return err
	}
	return d.syncDirectories(q)
}

func (s *Session) moveDir(p, q string) error {
	d := s.d
	switch {
	case p == q:
		return nil
	case below(q, p):
		return fmt.Errorf("%w: a directory cannot go into itself", ErrName)
	}
	if err := d.unused(p); err != nil {
		return err
	}
	if err := s.fits(p, q); err != nil {
		return err
	}
	if err := d.inDirectory(q); err != nil {
		return err
	}
	if there, err := d.lstat(path.Join(dropDir, q)); err != nil {
		return err
	} else if there != nil {
		return fs.ErrExist
	}
	if d.open[q] != nil {
		return ErrBusy
	}
	if err := d.fs.Rename(path.Join(dropDir, p), path.Join(dropDir, q)); err != nil {
		return err
	}
	d.movedDir(p, q)
	return nil
}

// fits says whether all names in the directory p are still allowed when that is q; d.mu is held.
func (s *Session) fits(p, q string) error {
	check := func(inside string) error {
		if !below(inside, p) {
			return nil
		}
		return checkPath(s.rel(q + inside[len(p):]))
	}
	for dir := range s.d.dirs {
		if err := check(dir); err != nil {
			return err
		}
	}
	for file := range s.d.files {
		if err := check(file); err != nil {
			return err
		}
	}
	return nil
}

// movedDir makes the index follow a renamed directory; d.mu is held.
func (d *Drop) movedDir(p, q string) {
	var dirs []string
	for dir := range d.dirs {
		if below(dir, p) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		d.forgetDir(dir)
		d.noteDir(q + dir[len(p):])
	}
	var moved []*entry
	for _, e := range d.files {
		if below(e.path, p) {
			moved = append(moved, e)
		}
	}
	slices.SortFunc(moved, func(a, b *entry) int { return a.received.Compare(b.received) })
	for _, e := range moved {
		was := e.path
		delete(d.files, was)
		d.ledger.add(inDrop, was, -1, -e.size)
		e.path = q + was[len(p):]
		d.files[e.path] = e
		d.ledger.add(inDrop, e.path, 1, e.size)
		d.renamed(e, was)
	}
}
