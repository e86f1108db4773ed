package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// leaveAs has Run do away with an entry's file.
func (o *Outbox) leaveAs(e *entry, how state, more *exit) {
	o.retire(e, how, more)
	o.leavers = append(o.leavers, e)
	o.cond.Broadcast()
}

// retire takes an entry out of the delivery: from here on it is neither sent nor edited.
func (o *Outbox) retire(e *entry, how state, more *exit) {
	o.leaveLane(e)
	o.wakeLane(e.lane)
	if how == withdrawn {
		o.unlinkKey(e) // its owner sees it no more
		e.noted = true // by its own line, or by the record of what replaces it
	} else if e.state != sent {
		o.unsettled++
	}
	e.state, e.exit = how, more
}

// setAside has an entry moved to failed/.
func (o *Outbox) setAside(e *entry, why failure) {
	why.Time, why.Attempts = time.Now().UTC(), max(int(e.attempts), 1)
	how := aside
	if e.tentative != nil && len(e.takers()) == 0 {
		how = rejected
	}
	o.leaveAs(e, how, &exit{why: why})
}

// removeAll has what leaves go from the disk, and keeps the journal small, until Run ends. What does not succeed is done
// again after a pause; entries are not sent again.
func (o *Outbox) removeAll() {
	for failures := 0; ; {
		ready, last := o.nextRemovals(failures > 0)
		err := o.remove(ready)
		if len(ready) > 0 || err != nil {
			o.diskOutcome(err)
		}
		if last && (err != nil || len(ready) == 0) {
			return
		}
		if failures++; err == nil {
			failures = 0
			continue
		}
		o.pause(o.backoff(failures))
	}
}

// nextRemovals waits for work on the disk, and takes the leavers whose files may go. While Run ends, a disk that fails is tried once more, when all else
// has ended: last.
func (o *Outbox) nextRemovals(failing bool) (ready []*entry, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if !failing || o.phase == sending || o.phase == lastRemoval {
			ready, o.leavers = removable(o.leavers)
			if last = o.phase == lastRemoval; last || len(ready) > 0 || o.journal.wasteful() != nil && o.moving == 0 { // see tidy
				return ready, last
			}
		}
		o.cond.Wait()
	}
}

// remove does work on the disk. What cannot be removed is noted, so that it is not sent again. If that is refused, too, nothing more is sent for now.
func (o *Outbox) remove(ready []*entry) error {
	stuck, err := o.removeFiles(ready)
	_, noteErr := o.note(stuck, (*entry).toNote)
	o.locked(func() {
		o.leavers = append(stuck, o.leavers...)
		o.refused = slices.ContainsFunc(stuck, func(e *entry) bool { return !e.noted && !e.hidden() })
		o.cond.Broadcast()
	})
	if len(ready) > len(stuck) && o.reserve.spent.Load() {
		o.reserve.make()
	}
	return errors.Join(err, noteErr, o.tidy())
}

// removable tells the leavers whose files may go from those that come behind what they replace.
// Protects: what an entry replaces must not be there, and be sent, when the record that says so is void.
func removable(leavers []*entry) (ready, later []*entry) {
	for _, e := range leavers {
		if e.replaces == nil {
			ready = append(ready, e)
		} else {
			later = append(later, e)
		}
	}
	return ready, later
}

// removeFiles has files go and tells of it. It gives back the entries for which it failed.
func (o *Outbox) removeFiles(batch []*entry) (stuck []*entry, err error) {
	if len(batch) == 0 {
		return nil, nil
	}
	if err := errors.Join(o.syncSources(batch), o.rememberLate(batch)); err != nil {
		return batch, err
	}
	var errs []error
	var gone []*entry
	for _, e := range batch {
		if err := o.removeFile(e); err != nil {
			errs, stuck = append(errs, err), append(stuck, e)
			continue
		}
		gone = append(gone, e)
	}
	// Protects: a file that comes back after a power cut would be sent again; and the journal may only
	// forget what cannot come back.
	if err := o.syncDir(); err != nil {
		return batch, errors.Join(append(errs, err)...)
	}
	for _, e := range gone {
		o.hasLeft(e)
	}
	return stuck, errors.Join(errs...)
}

// syncSources syncs the directories from which files came. Protects: on some file systems a renamed file has both names after a power cut until
// both directories are synced. Its removal from the outbox must not leave the other name, nor the record that tells of it go.
func (o *Outbox) syncSources(batch []*entry) error {
	var dirs []string
	o.locked(func() {
		for _, e := range batch {
			if e.from != "" {
				dirs = append(dirs, path.Dir(e.from))
			}
		}
	})
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if err := ignoreGone(o.opts.FS.SyncDir(dir)); err != nil {
			return err
		}
	}
	o.locked(func() {
		for _, e := range batch {
			e.from = ""
		}
	})
	return nil
}

// removeFile has one file go, as its state says, which no longer changes. It can be repeated.
func (o *Outbox) removeFile(e *entry) error {
	name := o.pathOf(e)
	switch {
	case e.state == aside:
		var r record
		o.locked(func() { r = o.recordOf(e) })
		return o.reserve.use(func() error { return o.storeAside(setAside{Format: format, record: r, Failure: e.exit.why}, name) })
	case e.hidden() && e.exit.to != "":
		return o.moveBack(name, e.exit.to)
	}
	return ignoreGone(o.opts.FS.Remove(name))
}

// moveBack moves a file to a path, durably, which must be free or its own. Where the path cannot be had, since its directory is gone or it is another's by
// now, the file goes: nobody waits for it.
func (o *Outbox) moveBack(name, to string) error {
	same, err := o.isSame(name, to)
	if isGone(err) {
		return ignoreNone(o.opts.FS.SyncDir(path.Dir(to))) // it was moved before, and perhaps only the sync has failed
	}
	if err != nil {
		return err
	}
	if !same {
		if _, err = o.opts.FS.Lstat(to); isGone(err) {
			err = o.opts.FS.Rename(name, to)
		} else if err == nil {
			err = fs.ErrNotExist
		}
	} else {
		err = o.opts.FS.Remove(name)
	}
	if ignoreNone(err) != nil {
		return err
	}
	if err != nil {
		return ignoreGone(o.opts.FS.Remove(name))
	}
	// Protects: the file, which has no name in the outbox any more.
	return o.opts.FS.SyncDir(path.Dir(to))
}

// isSame reports whether two names are of one file.
func (o *Outbox) isSame(a, b string) (bool, error) {
	if b == "" {
		return false, nil
	}
	second, err := o.opts.FS.Lstat(b)
	if err != nil {
		return false, ignoreNone(err)
	}
	first, err := o.opts.FS.Lstat(a)
	if err != nil {
		return false, err
	}
	return disk.SameFile(first, second), nil
}

// outcome is nil for an entry that was delivered.
func (e *entry) outcome() error {
	switch {
	case e.state == delivered:
		return nil
	case e.hidden():
		return errWithdrawn
	case e.exit.why.damaged:
		return fmt.Errorf("%s: %s", e.exit.why.Reason, e.exit.why.Error)
	}
	return fmt.Errorf("%w: %s: %s", ErrRefused, e.exit.why.Reason, e.exit.why.Error)
}

// hasLeft forgets an entry whose file is durably gone, and tells of it.
func (o *Outbox) hasLeft(e *entry) {
	var entry Entry
	var how state
	var takers []string
	o.locked(func() {
		entry, how = o.public(e), e.state
		takers, _ = e.acked()
		o.forget(e)
	})
	switch how {
	case delivered:
		o.opts.Log.Info("File delivered", "trackingId", entry.ID, "name", entry.Name, "bytes", entry.Size,
			"attempts", e.attempts+1, "waited", time.Since(entry.Accepted).Round(time.Millisecond))
		o.opts.Gone(entry, Delivered)
	case aside:
		why := e.exit.why
		o.opts.Log.Error("File cannot be delivered and was set aside", "trackingId", entry.ID, "name", entry.Name,
			"bytes", entry.Size, "file", path.Join(o.opts.FailedDir, path.Base(entry.Path)), "reason", why.Reason, "error", why.Error, "attempts", why.Attempts,
			"takenBy", takers)
		o.opts.Gone(entry, Failed)
	case rejected:
		why := e.exit.why
		o.opts.Log.Error("File cannot be delivered and is not kept; its sender was told so, or was told nothing", "trackingId", entry.ID, "name", entry.Name,
			"bytes", entry.Size, "reason", why.Reason, "error", why.Error, "attempts", why.Attempts)
		o.opts.Gone(entry, Failed)
	}
}

// forget takes an entry out of memory.
func (o *Outbox) forget(e *entry) {
	if !e.noted {
		o.unsettled--
	}
	if !e.hidden() {
		o.unlinkKey(e)
	}
	if e.state == aside {
		o.failed++
	}
	o.noteLeft(e.id, e.outcome())
	e.state = left
	o.discard(o.preps[e])
	delete(o.entries, e.id)
	o.bytes -= e.size
	o.journal.place(e, nil, 0)
	e.lane.entries--
	o.forgetLane(e.lane)
	if e.replacedBy != nil {
		e.replacedBy.replaces, e.replacedBy = nil, nil
	}
	o.cond.Broadcast() // what replaced it may leave
}

// storeAside moves a file and its record to failed/: the record first, so that a file there always has one. It can be repeated.
func (o *Outbox) storeAside(r setAside, name string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	base := path.Join(o.opts.FailedDir, baseName(r.Seq, r.ID))
	// Protects: the file's name and why it failed, which stand nowhere else once the journal forgets it.
	if err := disk.WriteFile(o.opts.FS, base+recordSuffix, append(data, '\n'), 0o600); err != nil {
		return err
	}
	// That it is gone is no error: it was moved before and only the sync failed, or somebody
	// took it out of the outbox.
	if err := ignoreGone(o.opts.FS.Rename(name, base+dataSuffix)); err != nil {
		return err
	}
	// Protects: the move. If it came undone after the journal forgot the entry, the file would
	// stand in the outbox with no record.
	return o.opts.FS.SyncDir(o.opts.FailedDir)
}

// tidy keeps the journal small: it writes the few records anew that keep an old segment, and removes segments in which nothing lives.
func (o *Outbox) tidy() error {
	var movers []*entry
	o.locked(func() {
		if s := o.journal.wasteful(); s != nil && o.moving == 0 {
			for _, e := range o.entries {
				if e.segment == s {
					movers = append(movers, e)
				}
			}
		}
	})
	var err error
	for chunk := range slices.Chunk(movers, 1000) {
		var r *round[lines]
		o.locked(func() {
			chunk = slices.DeleteFunc(chunk, func(e *entry) bool { return e.state == left })
			r = o.write(chunk...)
		})
		if err = o.journal.wait(r); err != nil {
			break
		}
	}
	var dead []*segment
	o.locked(func() {
		if o.moving == 0 { // the line that tells of the move may be the last in its segment
			dead = o.journal.takeDead()
		}
	})
	return errors.Join(err, o.journal.remove(dead))
}

// syncDir makes the names in the outbox durable, together with all who want it at this moment.
func (o *Outbox) syncDir() error { return o.dirSync.wait(o.dirSync.add(nil)) }

func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}

// ignoreNone is nil for an error that says that a path names nothing.
func ignoreNone(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return ignoreGone(err)
}
