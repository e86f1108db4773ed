package drop

import (
	"fmt"
	"io/fs"
	"path"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// Rename renames a finished file that is not due, or a directory. When it returns nil, the new name is durable. A file that has
// the new name already is a version of it, and stays.
func (s *Session) Rename(from, to string) error {
	p, err := s.pathBelow(from)
	if err != nil {
		return named(from, err)
	}
	q, err := s.pathBelow(to)
	if err != nil {
		return named(to, err)
	}
	here, err := s.d.at(p)
	if err != nil {
		return named(from, err)
	}
	return named(from, s.again(q, func() error {
		if here.dir != nil {
			return s.renameDir(p, q)
		}
		return s.renameFile(p, q)
	}))
}

// renameFile renames the file p, and waits for its delivery if that is to be told of.
func (s *Session) renameFile(p, q string) error {
	ctx, cancel := s.d.patience()
	defer cancel()
	awaited, own, err := s.beginRename(p, q)
	if err != nil || awaited == "" {
		return err
	}
	var takeBack func(error) error
	if own.ID != "" {
		takeBack = func(why error) error { return s.undoRename(own, p, q, why) }
	}
	if err = s.d.await(ctx, awaited, takeBack); err != nil {
		s.forget(q)
	}
	return err
}

// undoRename gives the entry e, which was not sent, its temporary name p back.
func (s *Session) undoRename(e outbox.Entry, p, q string, why error) error {
	d := s.d
	defer d.names.lock(p, q)()
	if err := d.box.Revert(e.ID); err != nil {
		return err
	}
	if newest, _ := d.box.Lookup(p); newest.ID != e.ID {
		_ = d.box.Withdraw(e.ID, "") // the client has begun anew. If it fails, that is an older version, which nobody sees
		return nil
	}
	s.remember(p, e)
	d.log.Warn("a file was not delivered; it has its temporary name again, and its client is told so", "trackingId", e.ID, "user", s.u.name, "name", e.Name, "reason", why)
	return nil
}

// beginRename renames the file p. awaited is the id of the entry whose delivery is to be waited for, if any; own, as it was before, if the rename can be undone.
func (s *Session) beginRename(p, q string) (awaited string, own outbox.Entry, err error) {
	d := s.d
	defer d.names.lock(p, q)()
	here, err := d.at(p)
	if err != nil {
		return "", own, err
	}
	there, err := d.at(q)
	if err != nil {
		return "", own, err
	}
	switch {
	case here.dir != nil:
		return "", own, syscall.EISDIR
	case here.kept != nil:
		return "", own, ErrIncomplete
	case here.changeable():
		err = s.mayChange(p, here.entry)
	case here.found != nil:
	case here.open != nil:
		return "", own, ErrIncomplete
	case here.waits:
		return "", own, ErrDue
	default:
		return "", own, fs.ErrNotExist
	}
	switch {
	case err != nil || p == q:
		return "", own, err
	case there.dir != nil:
		return "", own, fs.ErrExist
	}
	e := here.entry
	ends := d.waits(ignored(d.opts.Ignore, s.rel(q))) // the temporary name, or that of a file of another program
	if ends {
		if err := d.ready(); err != nil {
			return "", own, err
		}
		if id, ok := s.sameRenamed(here, q); ok {
			return id, own, s.drop(p, e)
		}
	}
	// An interrupted upload of the new name is void, and must not come back for a client to resume it.
	if err := d.uploads.void(q); err != nil {
		return "", own, err
	}
	if here.changeable() {
		own = e
		e, err = s.renameEntry(e, q)
	} else {
		e, err = s.takeFound(p, q, nil)
	}
	if err != nil {
		return "", own, err
	}
	s.forget(p)
	s.remember(q, e)
	d.used(q)
	if there.held() {
		// As an upload of a temporary name replaces the one before. If it fails, that is an older version, which nobody sees.
		_ = d.box.Withdraw(there.entry.ID, "")
	}
	if ends {
		awaited = e.ID
	}
	return awaited, own, nil
}

// sameRenamed finds the file that a client sends again, by a temporary name, since it was not told what became of it.
func (s *Session) sameRenamed(here standing, q string) (id string, ok bool) {
	if !here.changeable() || here.entry.Checksum == nil {
		return "", false
	}
	return s.d.box.Same(q, here.entry.Size, *here.entry.Checksum)
}

// drop withdraws the held entry e at p, as the same file was sent before.
func (s *Session) drop(p string, e outbox.Entry) error {
	if err := s.d.box.Withdraw(e.ID, ""); err != nil {
		return due(err)
	}
	s.forget(p)
	return nil
}

// renameEntry gives the entry e, which is not due, the path q.
func (s *Session) renameEntry(e outbox.Entry, q string) (outbox.Entry, error) {
	edit := s.edit(e, q)
	if err := s.d.box.Edit([]outbox.Edit{edit}, nil); err != nil {
		return e, due(err)
	}
	was := e.Name
	e.Name, e.Key = *edit.Name, *edit.Key
	if edit.Yield != nil {
		e.Yield = *edit.Yield
	}
	if edit.Last {
		s.d.accepted(s.u.name, s.remote, e)
	} else {
		s.d.log.Info("a finished file was renamed", "trackingId", e.ID, "user", s.u.name, "name", was, "to", e.Name, "remote", s.remote)
	}
	return e, nil
}

// edit is what makes the entry e that of the path q. One that was held counts as finished only now.
func (s *Session) edit(e outbox.Entry, q string) outbox.Edit {
	item := s.item(q)
	edit := outbox.Edit{ID: e.ID, Name: &item.Name, Lane: &item.Lane, Key: &item.Key}
	if e.Yield != item.Yield {
		edit.Wait, edit.Yield = &item.Wait, &item.Yield
	}
	if e.Yield && !item.Yield {
		edit.Meta, edit.Last = item.Meta, true
		if s.d.waits(item.Yield) {
			edit.Tentative = &outbox.Tentative{}
		}
	}
	return edit
}

// renameDir renames the directory p, with all that is in it, to q.
func (s *Session) renameDir(p, q string) error {
	d := s.d
	defer d.names.lockAll()()
	if err := s.mayMoveDir(p, q); err != nil || p == q {
		return err
	}
	var edits []outbox.Edit
	var released []outbox.Entry
	for _, e := range d.box.Below(p) {
		if e.Due {
			return fmt.Errorf("%w: a file in it is being delivered", ErrBusy)
		}
		edit := s.edit(e, q+e.Key[len(p):])
		edit.Tentative = nil // it goes with the directory
		edits = append(edits, edit)
		if edit.Last {
			e.Name, e.Key, e.Yield = *edit.Name, *edit.Key, false
			released = append(released, e)
		}
	}
	move := &outbox.Move{From: path.Join(dropDir, p), To: path.Join(dropDir, q)}
	if err := d.box.Edit(edits, move); err != nil {
		if due(err) == ErrDue {
			err = fmt.Errorf("%w: a file in it is being delivered", ErrBusy)
		}
		return err
	}
	d.index.move(p, q)
	d.folders.forget(q)
	d.used(q + "/")
	d.watcher.wakeUp()
	s.moved(p, q)
	for _, e := range released { // in the order in which they were finished
		d.accepted(s.u.name, s.remote, e)
	}
	return nil
}

// mayMoveDir says why the directory p cannot be renamed to q.
func (s *Session) mayMoveDir(p, q string) error {
	d := s.d
	here, err := d.at(p)
	switch {
	case err != nil:
		return err
	case here.dir == nil:
		return fs.ErrNotExist
	case p == q:
		return nil
	case below(q, p):
		return fmt.Errorf("%w: a directory cannot go into itself", ErrName)
	}
	if err := d.unused(p); err != nil {
		return err
	}
	there, err := d.at(q)
	switch {
	case err != nil:
		return err
	case there.dir != nil || there.found != nil || there.changeable():
		return fs.ErrExist
	case there.open != nil:
		return ErrBusy
	}
	// All names in it must still be allowed.
	names := d.index.below(p)
	for _, e := range d.box.Below(p) {
		names = append(names, e.Key)
	}
	for _, name := range names {
		if err := checkPath(s.rel(q + name[len(p):])); err != nil {
			return err
		}
	}
	return nil
}

// moved has the session know what it put below p by its new names.
func (s *Session) moved(p, q string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, name := range s.order {
		if below(name, p) {
			e := s.memos[name]
			delete(s.memos, name)
			s.order[i] = q + name[len(p):]
			s.memos[s.order[i]] = e
		}
	}
}

// item is an item for the outbox of a file at p that this session's client has finished now.
func (s *Session) item(p string) outbox.Item {
	return s.d.item(File{User: s.u.name, Name: s.rel(p), Received: time.Now(), RemoteAddr: s.remote}, p, ignored(s.d.opts.Ignore, s.rel(p)))
}
