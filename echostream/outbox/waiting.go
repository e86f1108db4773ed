package outbox

import (
	"iter"
	"slices"
	"time"
)

// waiting is an entry in memory: only what is needed to know its turn. The rest is read
// from the journal when the turn comes, so that 100,000 of them stay small.
type waiting struct {
	key
	size     int64
	accepted int64 // nanoseconds since 1970
	at       location
	lane     *lane
	index    uint64 // in the lane
	prev     *waiting
	next     *waiting
	acked    []*target // have acknowledged it, or refused it (Outbox.refusals)
	retries  uint32
	round    uint16
	state    state
	sent     bool // all targets have it
	known    bool // sent, and the disk knows
	audited  bool // or its audit record is refused: it leaves
}

// state is where an entry is on its way.
type state uint8

const (
	arriving  state = iota // its rename is not durable yet
	queued                 // in its lane
	completed              // all targets have it or refused it: audit, then leaving
	left
)

// place notes where the latest line about the entry stands. Outbox.mu is held.
func (e *waiting) place(at location) {
	if e.state == left {
		return
	}
	if e.at.segment != nil {
		e.at.release()
	}
	e.at = at
	at.hold()
}

// leave forgets the line: the entry has left. Outbox.mu is held.
func (e *waiting) leave() {
	e.state = left
	if e.at.segment != nil {
		e.at.release()
	}
}

// list holds entries in the order in which they were accepted.
type list struct{ first, last *waiting }

func (l *list) add(e *waiting) {
	e.prev = l.last
	if l.last == nil {
		l.first = e
	} else {
		l.last.next = e
	}
	l.last = e
}

func (l *list) remove(e *waiting) {
	if e.prev == nil {
		l.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next = nil, nil
}

func (l *list) all() iter.Seq[*waiting] {
	return func(yield func(*waiting) bool) {
		for e := l.first; e != nil; e = e.next {
			if !yield(e) {
				return
			}
		}
	}
}

// entry reads all that is known of e.
func (o *Outbox) entry(e *waiting) (Entry, error) {
	for {
		o.mu.Lock()
		at := e.at
		o.mu.Unlock()
		r, err := o.journal.read(at)
		if err == nil {
			return r.entry(o.opts.Dir), nil
		}
		// Its segment may have been merged with others meanwhile.
		o.mu.Lock()
		moved := e.at != at
		o.mu.Unlock()
		if !moved {
			return Entry{}, err
		}
	}
}

// Entries lists what waits, in the order in which it was accepted. Entries that leave meanwhile may
// be missing. One whose record cannot be read is logged and left out.
func (o *Outbox) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		o.mu.Lock()
		all := make([]*waiting, 0, o.stats.Entries)
		for e := range o.waiting.all() {
			all = append(all, e)
		}
		o.mu.Unlock()
		for _, e := range all {
			entry, err := o.entry(e)
			if err != nil {
				o.mu.Lock()
				gone := e.state == left
				o.mu.Unlock()
				if !gone {
					o.opts.Log.Error("The record of a waiting file cannot be read", "trackingId", e.id.String(), "error", err)
				}
				continue
			}
			if !yield(entry) {
				return
			}
		}
	}
}

// line makes the journal's line for the state that e is in now. o.mu is held.
func (o *Outbox) line(e *waiting, entry Entry) ([]byte, error) {
	r := newRecord(e.seq, entry)
	r.progress = o.progress(e)
	return encodeLine(r)
}

func (o *Outbox) progress(e *waiting) progress {
	p := progress{Retries: int(e.retries), Sent: e.sent, Round: int(e.round), Refused: o.refusals[e]}
	for _, t := range e.acked {
		if !slices.ContainsFunc(p.Refused, func(r refusal) bool { return r.Target == t.name }) {
			p.Acked = append(p.Acked, t.name)
		}
	}
	return p
}

// merge adds what another line knows to have happened. A later round forgets the refusals of earlier ones.
func (o *Outbox) merge(e *waiting, p progress) {
	e.retries = max(e.retries, uint32(p.Retries))
	e.sent = e.sent || p.Sent
	for _, name := range p.Acked {
		o.settle(e, o.target(name))
	}
	round := uint16(p.Round)
	if round > e.round {
		for _, r := range o.refusals[e] {
			t := o.target(r.Target)
			e.acked = slices.DeleteFunc(e.acked, func(a *target) bool { return a == t })
		}
		delete(o.refusals, e)
		e.round = round
	}
	if round < e.round {
		return
	}
	for _, r := range p.Refused {
		if o.settle(e, o.target(r.Target)) {
			o.refusals[e] = append(o.refusals[e], r)
		}
	}
}

// settle notes that t needs e no more; false if that was known.
func (o *Outbox) settle(e *waiting, t *target) bool {
	if e.settledFor(t) {
		return false
	}
	e.acked = append(e.acked, t)
	return true
}

func (e *waiting) settledFor(t *target) bool { return slices.Contains(e.acked, t) }

// settledForAll tells whether e has nothing to do with the targets of now. It never is without any.
func (o *Outbox) settledForAll(e *waiting) bool {
	for _, t := range o.active {
		if !e.settledFor(t) {
			return false
		}
	}
	return len(o.active) > 0
}

func (e *waiting) acceptedAt() time.Time { return time.Unix(0, e.accepted) }
