package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// Tentative is for an entry of which nobody has been told yet that it is accepted. It is due like any other, but until its first attempt it can
// be withdrawn, and Open removes it; from then on it is finished, whatever is restarted. The first attempt is durable before it is made.
// One that is refused for good by all targets is not set aside but removed. See Await.
type Tentative struct {
	// Confirm is asked right before the first attempt. After an error there is none: the entry stays until it is withdrawn. By default, nobody is asked.
	Confirm func() error
}

// tentative is what the outbox knows of a Tentative.
type tentative struct {
	confirm   func() error
	before    *entry // as it was before the Edit; nil: it came by Put
	attempted bool
	denied    error // by Confirm
	awaiters  int   // calls of Await
	told      bool  // that it was delivered
}

func newTentative(t *Tentative) *tentative {
	if t == nil {
		return nil
	}
	return &tentative{confirm: t.Confirm}
}

// undecided reports whether e is tentative and not attempted.
func (e *entry) undecided() bool { return e.tentative != nil && !e.tentative.attempted }

// The errors of Await, beside that of its context and of Confirm.
var (
	// ErrRefused says that the entry can never be delivered.
	ErrRefused = errors.New("it can never be delivered")
	// ErrStopped says that Run has ended.
	ErrStopped = errors.New("the outbox has stopped")
	// errWithdrawn is for an entry that its owner has taken out.
	errWithdrawn = fmt.Errorf("it was withdrawn: %w", fs.ErrNotExist)
)

// Await waits until an entry has left the outbox, and returns nil if it was delivered. ErrRefused says that it never will be; any other error that
// nothing more can be waited for, or was when ctx ended: then the entry stays, and can be withdrawn if it was not attempted. An entry is known for a
// minute after it has left, and one of which Same tells for as long as that.
func (o *Outbox) Await(ctx context.Context, id string) error {
	stop := context.AfterFunc(ctx, func() { o.locked(o.cond.Broadcast) })
	defer stop()
	var late *lateRecord
	var err error
	o.locked(func() { late, err = o.await(ctx, id) })
	if late != nil {
		return o.tellLate(*late)
	}
	return err
}

// tellLate forgets a record whose owner is told of it now.
func (o *Outbox) tellLate(l lateRecord) error {
	var r *round[lines]
	o.locked(func() { r = o.writeWith(lateLine([]lateRecord{lateOf(l.key())})) })
	// Protects: what was told of once is not told of again, in place of a new entry.
	err := o.journal.wait(r)
	o.locked(func() {
		if err == nil && o.late[l.key()].ID == l.ID {
			delete(o.late, l.key())
			id, _ := parseID(l.ID)
			o.noteLeft(id, nil)
		}
	})
	return err
}

// await is Await but for entries that have left long ago: of these it returns what is known.
func (o *Outbox) await(ctx context.Context, id string) (*lateRecord, error) {
	k, _ := parseID(id)
	e := o.entries[k]
	if e != nil && e.tentative != nil {
		t := e.tentative
		t.awaiters++
		defer func() { t.awaiters-- }()
	}
	for {
		e = o.entries[k]
		switch {
		case e == nil:
			return o.outcome(k)
		case e.state == delivered:
			if e.tentative != nil {
				e.tentative.told = true
			}
			return nil, nil
		case e.tentative != nil && e.tentative.denied != nil:
			return nil, e.tentative.denied
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case o.running != nil && (o.phase == idle || o.phase > sending && e.undecided()):
			return nil, ErrStopped
		}
		o.cond.Wait()
	}
}

// outcome is what became of an entry that has left.
func (o *Outbox) outcome(id trackingID) (*lateRecord, error) {
	for _, l := range o.late {
		if l.ID == id.String() {
			return &l, nil
		}
	}
	for _, l := range slices.Backward(o.lefts) {
		if l.id == id {
			return nil, l.err
		}
	}
	return nil, fmt.Errorf("entry %s: %w", id, fs.ErrNotExist)
}

// Same finds the entry that an owner of a key who was told nothing of it sends again: the newest of the key, if it is Tentative, was attempted, and
// has this size and checksum; or one that was delivered within the last hour while nobody awaited it. Await tells what becomes of it.
func (o *Outbox) Same(key string, size int64, checksum uint32) (id string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e := o.newest(key); e != nil {
		same := e.tentative != nil && e.tentative.attempted && !e.tentative.told && e.size == size && e.summed && e.checksum == checksum
		return e.id.String(), same
	}
	l, ok := o.late[key]
	return l.ID, ok && l.Size == size && l.Checksum == checksum && l.isFresh()
}

// Revert undoes the Tentative Edit of an entry that was not attempted. Errors are those of Edit.
func (o *Outbox) Revert(id string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	found, err := o.claim(func(e *entry) bool { return e.state <= due && e.undecided() && e.tentative.before != nil }, id)
	if err != nil {
		return err
	}
	e, before := found[0], found[0].tentative.before
	if e.tentative.denied != nil {
		e.suspended--
	}
	e.state = waiting
	o.leaveLane(e)
	o.revert(e, before)
	o.place(e)
	o.wakeLane(e.lane)
	o.cond.Broadcast()
	return nil
}

// attempt makes it durable that the tentative entries of a batch are attempted, before they are. What may not be sent leaves the batch.
func (o *Outbox) attempt(b []*preparation) ([]*preparation, error) {
	b, first := o.beginAttempt(b)
	if len(first) == 0 {
		return b, nil
	}
	denied := make([]error, len(first))
	for i, e := range first {
		if confirm := e.tentative.confirm; confirm != nil {
			denied[i] = guard("Confirm", confirm)
		}
	}
	var r *round[lines]
	o.locked(func() {
		var confirmed []*entry
		for i, e := range first {
			if e.tentative.denied = denied[i]; denied[i] != nil {
				e.state = waiting
				e.suspended++
				continue
			}
			e.tentative.attempted = true
			confirmed = append(confirmed, e)
		}
		if len(confirmed) > 0 {
			r = o.writeWith(lateLine(o.forgetLate(confirmed)), confirmed...)
		}
	})
	var err error
	if r != nil {
		// Protects: an attempt that a restart does not know of would be taken back, and its owner would send it again, with another id.
		err = o.journal.wait(r)
		o.diskOutcome(err)
	}
	o.locked(func() {
		for i, e := range first {
			e.busy = false
			if denied[i] != nil {
				o.place(e)
			} else {
				e.tentative.attempted = err == nil
			}
		}
		b = o.leaveOut(b)
		o.cond.Broadcast()
	})
	return b, err
}

// beginAttempt waits until nobody else is about to attempt the batch's entries, and takes those for which this is the first attempt: they are busy.
func (o *Outbox) beginAttempt(b []*preparation) (_ []*preparation, first []*entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for slices.ContainsFunc(b, func(p *preparation) bool { return p.entry.busy && p.entry.state == due }) {
		o.cond.Wait()
	}
	b = o.leaveOut(b)
	for _, p := range b {
		if p.entry.undecided() {
			p.entry.busy = true
			first = append(first, p.entry)
		}
	}
	return b, first
}

// leaveOut leaves out of a batch what is not to be sent any more.
func (o *Outbox) leaveOut(b []*preparation) []*preparation {
	return slices.DeleteFunc(b, func(p *preparation) bool {
		if p.entry.state == due {
			return false
		}
		o.release([]*preparation{p})
		return true
	})
}

// takers are the targets that have acknowledged e.
func (e *entry) takers() (takers []*target) {
	if e.answers == nil {
		return nil
	}
	for _, t := range e.answers.from {
		if !slices.ContainsFunc(e.answers.refused, func(r Refusal) bool { return r.Target == t.name }) {
			takers = append(takers, t)
		}
	}
	return takers
}

// acked are the names and the identities of the targets that have acknowledged e.
func (e *entry) acked() (names, identities []string) {
	known := false
	for _, t := range e.takers() {
		names, identities = append(names, t.name), append(identities, t.identity)
		known = known || t.identity != ""
	}
	if !known {
		identities = nil
	}
	return names, identities
}

// lateFor is how long an entry that was delivered while nobody awaited it is known, and maxLate how many of them at most.
const (
	lateFor = time.Hour
	maxLate = 500
)

// lateRecord is an entry that was delivered while nobody awaited it; one without an id says that the key's is forgotten.
type lateRecord struct {
	Key      string    `json:"key,omitempty"`
	KeyBytes []byte    `json:"keyBytes,omitempty"`
	ID       string    `json:"id,omitempty"`
	Size     int64     `json:"size,omitempty"`
	Checksum uint32    `json:"crc32c,omitempty"`
	At       time.Time `json:"at,omitzero"`
}

func lateOf(key string) (l lateRecord) {
	l.Key, l.KeyBytes = textOrBytes(key)
	return l
}

func (l *lateRecord) key() string { return bytesOrText(l.Key, l.KeyBytes) }

func (l *lateRecord) isFresh() bool { return time.Since(l.At).Abs() < lateFor }

// noteLate takes over a record.
func (o *Outbox) noteLate(l lateRecord) {
	key := l.key()
	if l.ID == "" {
		delete(o.late, key)
		return
	}
	if o.late == nil {
		o.late = map[string]lateRecord{}
	}
	o.late[key] = l
}

// freshLate are the records that still count, oldest first.
func (o *Outbox) freshLate() (fresh []lateRecord) {
	for key, l := range o.late {
		if !l.isFresh() {
			delete(o.late, key)
			continue
		}
		fresh = append(fresh, l)
	}
	slices.SortFunc(fresh, func(a, b lateRecord) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	for len(fresh) > maxLate {
		delete(o.late, fresh[0].key())
		fresh = fresh[1:]
	}
	return fresh
}

// rememberLate makes durable which of the leaving entries were delivered while nobody awaited them.
func (o *Outbox) rememberLate(batch []*entry) error {
	var r *round[lines]
	o.locked(func() {
		var all []lateRecord
		for _, e := range batch {
			if e.state != delivered || e.tentative == nil || e.tentative.awaiters > 0 || e.tentative.told || e.key == "" || !e.summed || o.newest(e.key) != e {
				continue
			}
			l := lateOf(e.key)
			l.ID, l.Size, l.Checksum, l.At = e.id.String(), e.size, e.checksum, jsonTime(time.Now())
			o.noteLate(l)
			all = append(all, l)
		}
		if line := lateLine(all); line != nil {
			o.freshLate()
			r = o.writeWith(line)
		}
	})
	// Protects: its owner sends it again, and it must not be sent again.
	return o.journal.wait(r)
}

// forgetLate forgets, with the records of new entries, the late ones of their keys: they are not the newest any more. It returns what is to be written of it.
func (o *Outbox) forgetLate(entries []*entry) (forgotten []lateRecord) {
	for _, e := range entries {
		if _, ok := o.late[e.key]; ok {
			delete(o.late, e.key)
			forgotten = append(forgotten, lateOf(e.key))
		}
	}
	return forgotten
}

// lateLine is the line of late records, if there are any.
func lateLine(all []lateRecord) *journalLine {
	if len(all) == 0 {
		return nil
	}
	return &journalLine{Late: all}
}
