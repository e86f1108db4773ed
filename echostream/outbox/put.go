package outbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// syncFirst is the size, in bytes, above which a file is synced before it gets its number: a slow sync would hold up all that comes behind it.
const syncFirst = 1 << 20

// errClosed is the error of Put after Close.
var errClosed = errors.New("outbox: Put after Close")

// errUnfit is for items that can never be taken.
var errUnfit = errors.New("it cannot be taken")

// Put takes finished files into the outbox, in order, and returns for each its entry, or an error and then the file
// stands where it stood. Where one fails, the items behind it in its lane fail too, so that they can be tried again in order.
//
// When Put returns, the entries are durable: bytes, record and place. It syncs the file and the record, side by side; renames
// the file, and syncs the outbox. A record without its file is void, so it does not matter which of the first two
// a power cut keeps. If the last sync fails the file is moved back; should that fail too, which the log says, a restart may deliver it
// although Put has returned an error. Calls that come while others are under way make these steps together, when those have ended, so that
// a disk that hangs with one file holds up them all; between calls no order is promised, nor among the items of a call that a crash has cut short. The context is looked at only before anything is done.
func (o *Outbox) Put(ctx context.Context, items []Item) ([]Entry, []error) {
	p := &intake{arrivals: make([]arrival, len(items))}
	for i := range items {
		a := &p.arrivals[i]
		a.item = items[i]
		if a.err = cmp.Or(ctx.Err(), p.held(i)); a.err == nil {
			a.entry, a.err = o.inspect(a.item)
		}
		if a.err == nil && a.item.File != nil {
			if a.entry.size > syncFirst {
				a.err = a.sync()
			} else {
				disk.StartSync(a.item.File) // while the group before is under way
			}
		}
		p.note(i)
	}
	if group := o.number(p); group != nil {
		_ = o.intakes.wait(group) // each arrival has its own error
	}
	return o.accept(p.arrivals)
}

// intake is a call of Put.
type intake struct {
	arrivals []arrival
	round    *round[lines]  // of their records
	failed   map[string]int // by lane, the first item that could not be taken: what comes behind it must not overtake it
}

// held is an error for an item that must not overtake one that has failed.
func (p *intake) held(i int) error {
	if first, ok := p.failed[p.arrivals[i].item.Lane]; ok && first < i {
		return fmt.Errorf("not tried, as one before it failed: %w", p.arrivals[first].err)
	}
	return nil
}

// note takes in whether an item has failed.
func (p *intake) note(i int) {
	a := &p.arrivals[i]
	if a.err == nil || isGone(a.err) || errors.Is(a.err, errUnfit) { // those hold up nobody
		return
	}
	if first, ok := p.failed[a.item.Lane]; !ok || i < first {
		if p.failed == nil {
			p.failed = map[string]int{}
		}
		p.failed[a.item.Lane] = i
	}
}

// makeDurable takes the files of a group of calls in: one sync of the journal and one of the outbox serve them all.
func (o *Outbox) makeDurable(group *[]*intake) error {
	var syncs sync.WaitGroup
	for _, p := range *group {
		for i := range p.arrivals {
			if a := &p.arrivals[i]; a.recorded && a.item.File != nil && !a.synced {
				syncs.Go(func() { a.err = a.sync() })
			}
		}
	}
	journaled := make([]error, len(*group))
	for i, p := range *group {
		journaled[i] = o.journal.wait(p.round)
	}
	syncs.Wait()
	renamed := false
	for i, p := range *group {
		for j := range p.arrivals {
			a := &p.arrivals[j]
			if a.recorded {
				a.err = cmp.Or(a.err, journaled[i], p.held(j))
			}
			if a.err == nil {
				a.err = o.rename(a.item.Path, o.pathOf(a.entry))
				a.renamed = a.err == nil
			}
			p.note(j)
			renamed = renamed || a.renamed
		}
	}
	if !renamed {
		return nil
	}
	// Protects: an entry is acknowledged, and may be sent, only when a power cut cannot take its place away.
	err := o.syncDir()
	for _, p := range *group {
		for i := range p.arrivals {
			p.arrivals[i].err = cmp.Or(p.arrivals[i].err, err)
		}
	}
	return nil
}

// arrival is an item on its way into the outbox.
type arrival struct {
	item     Item
	entry    *entry
	recorded bool // its line may be on the disk
	renamed  bool
	synced   bool // the item's File, which is closed then
	err      error
}

// sync syncs and closes the item's file, once.
func (a *arrival) sync() error {
	if a.item.File == nil || a.synced {
		return nil
	}
	a.synced = true
	// Protects: the bytes. Some file systems (NFS, FUSE) tell of a failed write only when the file is closed.
	return errors.Join(a.item.File.Sync(), a.item.File.Close())
}

// inspect makes an entry of an item.
func (o *Outbox) inspect(item Item) (*entry, error) {
	var info fs.FileInfo
	var err error
	if item.File != nil {
		info, err = item.File.Stat()
	} else {
		info, err = o.opts.FS.Lstat(item.Path)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is a %v, expected a regular file", errUnfit, info.Mode().Type())
	}
	e := &entry{
		name: item.Name, key: item.Key, from: item.Path, meta: item.Meta, size: info.Size(),
		accepted: time.Now().UnixNano(), id: trackingID(uuid.New()), yield: item.Yield,
		lane: &lane{name: item.Lane}, hold: newHold(item.Wait), tentative: newTentative(item.Tentative),
	}
	e.shareName()
	e.setModTime(cmp.Or(item.ModTime, info.ModTime()))
	e.setChecksum(item.Checksum)
	if item.Suspended {
		e.suspended = 1
	}
	if item.Tentative != nil && item.Replaces != "" {
		return e, fmt.Errorf("%w: a Tentative item Replaces %s", errUnfit, item.Replaces)
	}
	if len(item.Meta) > 0 && !json.Valid(item.Meta) {
		return e, fmt.Errorf("%w: Meta: expected a JSON value", errUnfit)
	}
	return e, nil
}

// number gives entries their places, and adds their records to the journal's next round, and the call to the next group; nil: it has nothing to take in.
func (o *Outbox) number(p *intake) *round[[]*intake] {
	o.mu.Lock()
	defer o.mu.Unlock()
	var entries []*entry
	for i := range p.arrivals {
		a := &p.arrivals[i]
		if a.err == nil && o.closed {
			a.err = errClosed
		}
		if a.err == nil && a.item.Replaces != "" {
			a.err = o.claimReplaced(a.entry, a.item.Replaces, entries)
		}
		if a.err != nil {
			continue
		}
		e := a.entry
		o.lastSeq++
		e.seq, e.place, a.recorded = o.lastSeq, o.lastSeq, true
		if e.hold != nil {
			e.hold = newHold(e.hold.wait) // the record has it from here on
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil
	}
	p.round = o.writeWith(lateLine(o.forgetLate(entries)), entries...)
	return o.intakes.add(func(group *[]*intake) { *group = append(*group, p) })
}

// claimReplaced keeps the entry that e replaces from being changed until the end of Put. before are the entries of this Put that have claimed theirs.
func (o *Outbox) claimReplaced(e *entry, id string, before []*entry) error {
	if slices.ContainsFunc(before, func(other *entry) bool { return other.replaces != nil && other.replaces.id.String() == id }) {
		return fmt.Errorf("%w: Replaces %s: an item before it does", errUnfit, id)
	}
	found, err := o.claim(isWaiting, id)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	e.replaces = found[0]
	e.replaces.busy, e.replaces.replacedBy = true, e
	return nil
}

// rename renames a file or directory. An error may be told of a rename that was done (NFS sends a request again when its reply was lost).
func (o *Outbox) rename(from, to string) error {
	err := o.opts.FS.Rename(from, to)
	if err != nil {
		_, fromErr := o.opts.FS.Lstat(from)
		_, toErr := o.opts.FS.Lstat(to)
		if isGone(fromErr) && toErr == nil {
			return nil
		}
	}
	return err
}

// accept ends a Put: what is durable are entries from now on, all at once; what failed never was one.
func (o *Outbox) accept(arrivals []arrival) ([]Entry, []error) {
	entries, errs := make([]Entry, len(arrivals)), make([]error, len(arrivals))
	var replacing, replaced []*entry
	o.locked(func() {
		for i := range arrivals {
			if e := arrivals[i].entry; arrivals[i].err == nil && o.take(e) {
				replacing, replaced = append(replacing, e), append(replaced, e.replaces)
			}
		}
		for i := range arrivals {
			if arrivals[i].err == nil {
				entries[i] = o.public(arrivals[i].entry)
			}
		}
	})
	if len(replaced) > 0 {
		o.removeNow(replaced...)
		o.locked(func() {
			for _, e := range replacing {
				e.busy = false
				o.place(e)
			}
			o.cond.Broadcast()
		})
	}
	var void []*arrival
	for i := range arrivals {
		a := &arrivals[i]
		if a.err == nil {
			continue
		}
		errs[i] = fmt.Errorf("taking %q into the outbox: %w", a.item.Name, a.err)
		if a.item.File != nil && !a.synced {
			a.item.File.Close() // it is given up
		}
		if a.recorded {
			a.renamed = a.renamed && !o.moveOut(a)
			void = append(void, a)
		}
	}
	if len(void) > 0 {
		o.giveUp(void)
	}
	return entries, errs
}

// take makes an entry of what is durable. It reports whether the entry replaces another, which is to be removed now; until then nobody changes the
// new one.
func (o *Outbox) take(e *entry) (replaces bool) {
	e.lane = o.laneOf(e.lane.name)
	e.lane.entries++
	e.state = waiting
	if e.hold != nil {
		e.hold = newHold(e.hold.wait) // its owner has it from now on: the disk may have taken its time
	}
	o.link(e)
	o.place(e)
	if replaces = e.replaces != nil; replaces {
		e.busy, e.replaces.busy = true, false
		o.retire(e.replaces, withdrawn, &exit{})
	}
	o.placeOlder(e)
	return replaces
}

// moveOut puts the file of an arrival that failed back to where it stood, and reports whether it could.
func (o *Outbox) moveOut(a *arrival) bool {
	if !a.renamed {
		return true
	}
	return o.putBack(a.entry, a.item.Path) == nil
}

// putBack puts a file that could not be made durable in the outbox back to where it stood.
func (o *Outbox) putBack(e *entry, from string) error {
	err := o.opts.FS.Rename(o.pathOf(e), from)
	if err != nil {
		o.opts.Log.Error("A file was not accepted, but a restart may deliver it", "trackingId", e.id.String(), "name", e.name, "error", err)
	}
	return err
}

// giveUp writes down that Put has given up. That is best effort, as the disk is in trouble: where the file is not in the outbox, that says
// the same. Where it is, Run moves it back.
func (o *Outbox) giveUp(void []*arrival) {
	var r *round[lines]
	o.locked(func() {
		entries := make([]*entry, len(void))
		for i, a := range void {
			e := a.entry
			entries[i] = e
			e.state, e.exit = voided, &exit{to: a.item.Path}
			if old := e.replaces; old != nil {
				old.busy, old.replacedBy, e.replaces = false, nil, nil
				o.place(old)
			}
		}
		r = o.write(entries...)
		o.cond.Broadcast()
	})
	_ = o.journal.wait(r)
	o.locked(func() {
		for _, a := range void {
			e := a.entry
			if a.renamed {
				o.link(e)
				o.unsettled++
				e.lane.entries++
				o.leavers = append(o.leavers, e)
				continue
			}
			e.state = left
			o.journal.place(e, nil, 0)
		}
		o.cond.Broadcast()
	})
}
