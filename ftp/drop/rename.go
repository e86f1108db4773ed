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
	q, err := s.pathBelow(to)
	if err != nil {
		return named(to, err)
	}
	return s.do(from, s.pathBelow, func(p string) error {
		here, err := s.d.at(p)
		if err != nil {
			return err
		}
		rename := s.renameFile
		if here.dir != nil {
			rename = s.renameDir
		}
		return s.withFolders(q, func() error { return rename(p, q) })
	})
}

// undoRename renames the entry e, which was not sent, from q back to its temporary name.
func (s *Session) undoRename(e outbox.Entry, q string, why error) error {
	d := s.d
	defer d.names.lock(e.Key, q)()
	if err := d.box.Revert(e.ID); err != nil {
		return err
	}
	if newest, _ := d.box.Lookup(e.Key); newest.ID != e.ID {
		_ = d.box.Withdraw(e.ID, "") // the client has begun anew. If it fails, that is an older version, which nobody sees
		return nil
	}
	s.remember(e.Key, e)
	s.log.Warn("a file was not delivered; it has its temporary name again, and its client is told so", "trackingId", e.ID, "name", e.Name, "error", why)
	return nil
}

// renameFile renames the file p, and waits for its delivery if that is to be told of.
func (s *Session) renameFile(p, q string) error {
	return s.d.untilDelivered(func() (delivery, error) { return s.beginRename(p, q) })
}

// beginRename renames the file p.
func (s *Session) beginRename(p, q string) (delivery, error) {
	d := s.d
	defer d.names.lock(p, q)()
	here, err := d.at(p)
	if err != nil {
		return nil, err
	}
	there, err := d.at(q)
	if err != nil {
		return nil, err
	}
	switch {
	case here.dir != nil:
		return nil, syscall.EISDIR
	case here.kept != nil:
		return nil, ErrIncomplete
	case here.changeable():
		err = s.mayChange(p, here.entry)
	case here.found != nil:
	case here.open != nil:
		return nil, ErrIncomplete
	case here.waits:
		return nil, ErrDue
	default:
		return nil, fs.ErrNotExist
	}
	switch {
	case err != nil || p == q:
		return nil, err
	case there.dir != nil:
		return nil, fs.ErrExist
	}
	await, err := s.renameTo(here, p, q)
	if err != nil {
		return nil, err
	}
	d.used(q)
	if there.held() {
		// As an upload of a temporary name replaces the one before. If it fails, that is an older version, which nobody sees.
		_ = d.box.Withdraw(there.entry.ID, "")
	}
	return await, nil
}

// isAwaited reports whether a rename to q is answered when the file is delivered.
func (s *Session) isAwaited(q string) bool {
	return s.d.awaitsDelivery(s.temporary(q))
}

// renameTo renames what stands at p, an entry that is not due or a file of another program, to q.
func (s *Session) renameTo(here nameState, p, q string) (delivery, error) {
	d := s.d
	awaited := s.isAwaited(q)
	if awaited {
		if err := d.ready(); err != nil {
			return nil, err
		}
		if id, ok := s.sameSentBefore(here, q); ok {
			err := asDue(d.box.Withdraw(here.entry.ID, ""))
			s.forget(p)
			return s.delivery(id, q, nil), err
		}
	}
	// An interrupted upload of the new name is void, and must not come back for a client to resume it.
	if err := d.uploads.removeKept(q); err != nil {
		return nil, err
	}
	var e outbox.Entry
	var err error
	var undo func(error) error // not of what another program has put there
	if here.changeable() {
		e, err = s.editName(here.entry, q)
		undo = func(why error) error { return s.undoRename(here.entry, q, why) }
	} else {
		e, err = s.takeFound(p, q, false)
	}
	if err != nil || !awaited {
		return nil, err
	}
	return s.delivery(e.ID, q, undo), nil
}

// sameSentBefore finds the file that a client sends again, by a temporary name, since it was not told what became of it.
func (s *Session) sameSentBefore(here nameState, q string) (id string, ok bool) {
	if !here.changeable() || here.entry.Checksum == nil {
		return "", false
	}
	return s.d.box.Same(q, here.entry.Size, *here.entry.Checksum)
}

// editName renames the entry e, which is not due, to q.
func (s *Session) editName(e outbox.Entry, q string) (outbox.Entry, error) {
	edit := s.edit(e, q)
	if err := s.d.box.Edit([]outbox.Edit{edit}, nil); err != nil {
		return e, asDue(err)
	}
	was, key := e.Name, e.Key
	e.Name, e.Key = *edit.Name, *edit.Key
	if edit.Yield != nil {
		e.Yield = *edit.Yield
	}
	if edit.Last {
		s.d.accepted(s.u.name, s.remote, e)
	} else {
		s.log.Info("a finished file was renamed", "trackingId", e.ID, "name", was, "to", e.Name, "remote", s.remote)
	}
	s.forget(key)
	s.remember(q, e)
	return e, nil
}

// edit is what makes the entry e that of the path q. One that was held counts as finished only now.
func (s *Session) edit(e outbox.Entry, q string) outbox.Edit {
	item := s.item(q, s.temporary(q))
	edit := outbox.Edit{ID: e.ID, Name: &item.Name, Lane: &item.Lane, Key: &item.Key}
	if e.Yield != item.Yield {
		edit.Wait, edit.Yield = &item.Wait, &item.Yield
	}
	if e.Yield && !item.Yield {
		edit.Meta, edit.Last = item.Meta, true
		if s.d.awaitsDelivery(item.Yield) {
			edit.Tentative = &outbox.Tentative{}
		}
	}
	return edit
}

// renameDir renames the directory p, with all that is in it, to q. Files whose temporary names this ends are delivered first, if that is to be told of: as
// long as one of them is not, the directory keeps its name, and the file too if it was not sent.
func (s *Session) renameDir(p, q string) error {
	ctx, cancel := s.d.deliveryTimeout()
	defer cancel()
	for {
		awaited, err := s.tryRenameDir(p, q)
		if err != nil {
			cancel() // what was renamed before is renamed back
		}
		for _, await := range awaited {
			if failed := await(ctx); err == nil {
				err = failed
			}
		}
		if err != nil || len(awaited) == 0 {
			return err
		}
	}
}

// tryRenameDir renames the directory p to q, or renames only files in it that are to be delivered first.
func (s *Session) tryRenameDir(p, q string) (awaited []delivery, err error) {
	d := s.d
	defer d.names.lockAll()()
	if err := s.mayMoveDir(p, q); err != nil || p == q {
		return nil, err
	}
	if awaited, err = s.renameAwaited(p, q); err != nil || len(awaited) > 0 {
		return awaited, err
	}
	return nil, s.moveDir(p, q)
}

// renameAwaited renames those files below p that are to be delivered before the directory is renamed to q. Such files of an attempt before this one
// that are under way are awaited, too.
func (s *Session) renameAwaited(p, q string) (awaited []delivery, err error) {
	for _, e := range s.d.box.Below(q) {
		if e.Tentative {
			awaited = append(awaited, s.delivery(e.ID, e.Key, nil))
		}
	}
	for _, e := range s.d.box.Below(p) {
		to := q + e.Key[len(p):]
		if !held(e) || !s.isAwaited(to) {
			continue
		}
		await, err := s.renameTo(nameState{entry: e, waits: true}, e.Key, to)
		if err != nil {
			return awaited, err
		}
		awaited = append(awaited, await)
	}
	return awaited, nil
}

// moveDir renames the directory p, with all that is in it, to q.
func (s *Session) moveDir(p, q string) error {
	d := s.d
	var edits []outbox.Edit
	var released []outbox.Entry
	for _, e := range d.box.Below(p) {
		if e.Due || e.Tentative {
			return fmt.Errorf("%w: a file in it is being delivered", ErrBusy)
		}
		edit := s.edit(e, q+e.Key[len(p):])
		edits = append(edits, edit)
		if edit.Last {
			e.Name, e.Key, e.Yield = *edit.Name, *edit.Key, false
			released = append(released, e)
		}
	}
	if err := d.uploads.void(q); err != nil {
		return err
	}
	move := &outbox.Move{From: path.Join(dropDir, p), To: path.Join(dropDir, q)}
	if err := d.box.Edit(edits, move); err != nil {
		if asDue(err) == ErrDue {
			err = fmt.Errorf("%w: a file in it is being delivered", ErrBusy)
		}
		return err
	}
	d.found.move(p, q)
	d.tree.move(p, q)
	d.traces.forget(q)
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
	names := append(d.tree.below(p), d.found.below(p)...)
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
func (s *Session) item(p string, temporary bool) outbox.Item {
	return s.d.item(File{User: s.u.name, Name: s.rel(p), Received: time.Now(), RemoteAddr: s.remote}, p, temporary)
}

// temporary reports whether the name of p is a temporary one (see Options.Ignore).
func (s *Session) temporary(p string) bool { return ignored(s.d.opts.Ignore, s.rel(p)) }
