package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"
)

// ErrDue is the error for an entry that may be sent already, so that its owner can no longer change it.
var ErrDue = errors.New("the entry is due")

// Edit is a change of an entry that is not due. A nil field stays as it is.
type Edit struct {
	ID              string // the tracking id
	Name, Lane, Key *string
	Meta            json.RawMessage
	ModTime         *time.Time
	Wait            *time.Duration // from now; by default, it goes on
	Yield           *bool
	// Tentative says that nobody has been told yet of this Edit. It is durable only with the first attempt to send the entry. It goes with no Move.
	Tentative *Tentative
	// Last gives the entry the last place in the order. So does a Key that a later entry has: a renamed entry is the newest version.
	Last bool
}

// Move is a directory that an Edit renames on the volume.
type Move struct{ From, To string }

// Edit changes entries: all of them, durably, or none and then the error says why and the values stand. It wraps ErrDue, or fs.ErrNotExist for
// an entry that has left.
//
// The changes are one line of the journal. A Move is done when that line is durable, and durable itself when Edit returns; if a crash
// comes between, Open does it.
func (o *Outbox) Edit(edits []Edit, move *Move) error {
	entries, before, r, err := o.beginEdit(edits, move)
	if err != nil {
		return err
	}
	if err = o.journal.wait(r); err == nil && move != nil {
		err = o.move(*move)
	}
	o.locked(func() { r = o.endEdit(entries, before, move != nil, err) })
	// Protects: what is done with these directories from here on must not be taken for a Move that was cut short, and a change that has failed
	// must not be found by Open. If the disk refuses this line, the next one that it takes says it, or the header before it.
	_ = o.journal.wait(r)
	return err
}

func isWaiting(e *entry) bool { return e.state == waiting }

// claim finds entries that may be changed, and waits until nobody else changes them.
func (o *Outbox) claim(may func(*entry) bool, ids ...string) ([]*entry, error) {
	for {
		found, busy := make([]*entry, 0, len(ids)), false
		for _, id := range ids {
			k, _ := parseID(id)
			e := o.entries[k]
			switch {
			case e == nil || e.hidden() && !e.busy:
				return nil, fmt.Errorf("entry %s: %w", id, fs.ErrNotExist)
			case !may(e) && !e.busy:
				return nil, fmt.Errorf("entry %s: %w", id, ErrDue)
			case slices.Contains(found, e):
				return nil, fmt.Errorf("entry %s: it is there twice", id)
			}
			busy = busy || e.busy
			found = append(found, e)
		}
		if !busy {
			return found, nil
		}
		o.cond.Wait()
	}
}

// beginEdit makes the changes in memory and adds their line to the journal's next round, unless all are tentative. The entries are busy until endEdit;
// before are copies of them as they were.
func (o *Outbox) beginEdit(edits []Edit, move *Move) (entries []*entry, before []entry, r *round[lines], err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ids := make([]string, len(edits))
	for i, edit := range edits {
		if edit.Meta != nil && !json.Valid(edit.Meta) {
			return nil, nil, nil, fmt.Errorf("entry %s: Meta: expected a JSON value", edit.ID)
		}
		ids[i] = edit.ID
	}
	for move != nil && o.moving != 0 {
		o.cond.Wait()
	}
	if entries, err = o.claim(isWaiting, ids...); err != nil {
		return nil, nil, nil, err
	}
	before = make([]entry, len(entries))
	var line journalLine
	var written []*entry
	for i, e := range entries {
		before[i] = *e
		e.busy = true
		o.apply(e, edits[i])
		if e.tentative = newTentative(edits[i].Tentative); e.tentative != nil {
			e.tentative.before = &before[i]
			continue
		}
		written = append(written, e)
	}
	if move != nil {
		o.lastSeq++
		o.moving = o.lastSeq
		line.Move = &moveRecord{o.moving, []byte(move.From), []byte(move.To)}
	}
	if len(written) > 0 || move != nil {
		line.Late = o.forgetLate(written)
		r = o.writeTogether(&line, written)
	}
	return entries, before, r, nil
}

// apply makes one change in memory.
func (o *Outbox) apply(e *entry, edit Edit) {
	if edit.Name != nil {
		e.name = *edit.Name
	}
	if edit.Meta != nil {
		e.meta = edit.Meta
	}
	if edit.ModTime != nil {
		e.setModTime(*edit.ModTime)
	}
	if edit.Wait != nil {
		e.hold = newHold(*edit.Wait)
	}
	if edit.Yield != nil {
		e.yield = *edit.Yield
	}
	last := edit.Last
	if edit.Key != nil {
		newest := o.newest(*edit.Key)
		last = last || newest != nil && newest != e && newest.place > e.place
	}
	if last || edit.Key != nil {
		o.unlinkKey(e)
		if edit.Key != nil {
			e.key = *edit.Key
		}
		if last {
			o.lastSeq++
			o.replace(e, o.lastSeq, e.lane.name)
		}
		o.linkKey(e)
	}
	if edit.Lane != nil {
		o.replace(e, e.place, *edit.Lane)
	}
}

// replace gives e another place in the order, or another lane. It holds back what is behind it there, as before.
func (o *Outbox) replace(e *entry, place uint64, lane string) {
	was := e.inLane
	o.leaveLane(e)
	e.place = place
	if e.lane.name != lane {
		old := e.lane
		e.lane = o.laneOf(lane)
		e.lane.entries++
		old.entries--
		o.forgetLane(old)
	}
	if was {
		o.enterLane(e)
	}
}

// endEdit ends a change: with an error the values of before stand. It returns the round of the lines that are still to be written.
func (o *Outbox) endEdit(entries []*entry, before []entry, move bool, err error) *round[lines] {
	for i, e := range entries {
		if err != nil {
			o.revert(e, &before[i])
		}
		e.busy = false
		o.place(e)
		o.placeOlder(e)
	}
	o.cond.Broadcast()
	if err == nil {
		entries = nil // their line is written
	}
	var line journalLine
	if move {
		o.moving, o.moved = 0, o.moving
		line.Moved = o.moved
	} else if err == nil {
		return o.write()
	}
	return o.writeTogether(&line, entries)
}

func (o *Outbox) revert(e, before *entry) {
	o.unlinkKey(e)
	e.name, e.key, e.meta, e.hold, e.yield = before.name, before.key, before.meta, before.hold, before.yield
	e.modified, e.modifiedNano = before.modified, before.modifiedNano
	e.tentative = before.tentative
	o.replace(e, before.place, before.lane.name)
	o.linkKey(e)
}

// move renames a directory, durably.
func (o *Outbox) move(m Move) error {
	if err := o.rename(m.From, m.To); err != nil {
		return err
	}
	for _, dir := range []string{path.Dir(m.To), path.Dir(m.From)} {
		// Protects: the rename, before the journal forgets that it is to be done.
		if err := o.opts.FS.SyncDir(dir); err != nil {
			return errors.Join(err, o.opts.FS.Rename(m.To, m.From))
		}
	}
	return nil
}

// Withdraw takes an entry that is not due, or is Tentative and was not attempted, out of the outbox, unsent and durably: its file is removed or, if to is not "", moved to that path on
// the volume, whose directory must be there. Errors are those of Edit; then nothing has changed. A file that cannot be
// removed or moved now is so by Run, or by the next Open.
func (o *Outbox) Withdraw(id, to string) error {
	e, r, err := o.beginWithdraw(id, to)
	if err != nil {
		return err
	}
	err = o.journal.wait(r)
	o.locked(func() {
		e.busy = false
		o.cond.Broadcast()
		if err == nil {
			o.retire(e, withdrawn, e.exit)
			return
		}
		e.state, e.exit = waiting, nil
		o.place(e)
		r = o.write(e)
	})
	if err != nil {
		_ = o.journal.wait(r) // see Edit
		return err
	}
	o.removeNow(e)
	return nil
}

// removeNow has the files of retired entries go. What does not go is left to Run.
func (o *Outbox) removeNow(retired ...*entry) {
	var ready, later []*entry
	o.locked(func() { ready, later = removable(retired) })
	stuck, err := o.removeFiles(ready)
	if err != nil {
		o.diskOutcome(err)
	}
	o.locked(func() {
		o.leavers = append(append(o.leavers, later...), stuck...)
		o.cond.Broadcast()
	})
}

func (o *Outbox) beginWithdraw(id, to string) (*entry, *round[lines], error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	found, err := o.claim(func(e *entry) bool { return e.state == waiting || e.state == due && e.undecided() }, id)
	if err != nil {
		return nil, nil, err
	}
	e := found[0]
	e.busy, e.state, e.exit = true, withdrawn, &exit{to: to}
	return e, o.write(e), nil
}

// Suspend keeps an entry that is not due from being sent until Resume was called as often. It is in memory only: a restart ends it. While
// the entry is suspended and its Wait is over, others of its lane pass it. Errors are those of Edit.
func (o *Outbox) Suspend(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	found, err := o.claim(isWaiting, id)
	if err == nil {
		found[0].suspended++
	}
	return err
}

// Resume ends a Suspend, or Item.Suspended. An entry that has left is no error.
func (o *Outbox) Resume(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k, _ := parseID(id)
	if e := o.entries[k]; e != nil && e.suspended > 0 {
		e.suspended--
		o.place(e)
	}
}
