package outbox

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"
)

// entry is a file in the outbox, as it is in memory. All of it is guarded by Outbox.mu; seq, id, lane's name, size, accepted and
// checksum never change.
type entry struct {
	seq      uint64 // in the name of its file
	id       trackingID
	name     string
	key      string
	from     string // where Put found its file, until that directory is synced too
	meta     json.RawMessage
	size     int64
	modTime  time.Time
	accepted time.Time
	checksum *uint32

	place     uint64 // in the order
	state     state
	wait      time.Duration // as it was asked for
	until     time.Time     // the end of wait; not used with Forever
	yield     bool          // others of its lane pass it while it waits
	suspended int           // Suspend calls without their Resume
	busy      bool          // an Edit, a Withdraw or a Put that replaces it is under way

	lane       *lane
	prev, next *entry // in the lane
	inLane     bool
	older      *entry // the version of the key before

	acked      []*target // have acknowledged or refused it
	refused    []refusal
	attempts   uint32 // that failed
	unreadable uint8  // attempts that failed because the disk cannot read it
	round      int    // how often it was taken back from failed/
	noted      bool   // sent, and the disk knows
	replaces   *entry // leaves before this one does
	replacedBy *entry
	prep       *preparation
	exit       *exit // how it leaves, if its state is leaving

	segment *segment // where its latest line stands
	bytes   int64    // of that line
}

// state is where an entry is on its way.
type state uint8

const (
	accepting state = iota // Put is not done with it
	waiting                // its owner may change it
	due                    // it may be sent
	sent                   // all targets have it, or refused it: audit, then leaving
	leaving                // its file is to go
	left
)

// exit is how an entry's file goes.
type exit struct {
	kind exitKind
	to   string  // withdrawn, voided: the path on the volume
	why  failure // setAside
}

type exitKind uint8

const (
	delivered exitKind = iota // removed
	withdrawn                 // removed, or moved if exit.to is not ""
	asideKind                 // moved to failed/
	voided                    // moved back: Put has given it up
)

// hidden reports whether nobody needs to know of e any more.
func (e *entry) hidden() bool {
	return e.state == leaving && (e.exit.kind == withdrawn || e.exit.kind == voided)
}

func baseOf(e *entry) string { return baseName(e.seq, e.id.String()) }

func (o *Outbox) pathOf(e *entry) string { return path.Join(o.opts.Dir, baseOf(e)+dataSuffix) }

// public is e as others see it.
func (o *Outbox) public(e *entry) Entry {
	public := Entry{
		ID: e.id.String(), Name: e.name, Lane: e.lane.name, Key: e.key, Meta: e.meta, Path: o.pathOf(e), Size: e.size,
		ModTime: e.modTime, Accepted: e.accepted, Due: e.state >= due, Yield: e.yield && e.state < due,
	}
	if !public.Due {
		public.Until = e.until
	}
	return public
}

// recordOf is all that is known about e.
func (o *Outbox) recordOf(e *entry) record {
	r := record{
		Seq: e.seq, ID: e.id.String(), Size: e.size, ModTime: jsonTime(e.modTime), Accepted: jsonTime(e.accepted), Meta: e.meta,
		From: e.from, Checksum: e.checksum, Sent: e.state == sent || e.state == leaving && e.exit.kind == delivered, Retries: int(e.attempts),
		Refused: e.refused, Round: e.round,
	}
	r.Name, r.NameBytes = textOrBytes(e.name)
	r.Lane, r.LaneBytes = textOrBytes(e.lane.name)
	r.Key, r.KeyBytes = textOrBytes(e.key)
	if e.place != e.seq {
		r.Place = e.place
	}
	if e.state < due {
		r.Yield = e.yield
		if r.Wait = e.wait; e.wait != Forever && e.wait > 0 {
			r.Until = jsonTime(e.until)
		}
	}
	if e.replaces != nil {
		r.Replaces = e.replaces.id.String()
	}
	if e.state == leaving && e.exit.kind == withdrawn {
		r.Withdrawn, r.To = true, e.exit.to
	}
	r.Void = e.state == leaving && e.exit.kind == voided
	for _, t := range e.acked {
		if !slices.ContainsFunc(r.Refused, func(r refusal) bool { return r.Target == t.name }) {
			r.Acked = append(r.Acked, t.name)
		}
	}
	return r
}

// restore makes an entry of what the disk knows. A wait goes on where it was, but never longer than it was asked for: the clock may have
// been set since.
func (o *Outbox) restore(k key, r *record) *entry {
	e := &entry{
		seq: k.seq, id: k.id, name: r.name(), key: r.key(), from: r.From, meta: r.Meta, size: r.Size, modTime: r.ModTime, accepted: r.Accepted,
		checksum: r.Checksum, place: r.Place, state: waiting, wait: r.Wait, yield: r.Yield, lane: o.laneOf(r.lane()),
		attempts: uint32(r.Retries), refused: r.Refused, round: r.Round,
	}
	if e.place == 0 {
		e.place = e.seq
	}
	if e.wait > 0 && e.wait != Forever {
		now := time.Now()
		e.until = now.Add(min(max(r.Until.Sub(now.Round(0)), 0), e.wait))
	}
	for _, name := range r.Acked {
		e.settle(o.target(name))
	}
	for _, refusal := range r.Refused {
		e.settle(o.target(refusal.Target))
	}
	if e.key == "" && o.opts.KeyOf != nil {
		e.key = o.opts.KeyOf(o.public(e))
	}
	if strings.HasSuffix(e.key, e.name) {
		e.name = e.key[len(e.key)-len(e.name):] // one string in memory
	}
	return e
}

// settle notes that t needs e no more.
func (e *entry) settle(t *target) {
	if !e.settledFor(t) {
		e.acked = append(e.acked, t)
	}
}

func (e *entry) settledFor(t *target) bool { return slices.Contains(e.acked, t) }

// settledForAll reports whether no active target waits for e. There must be one.
func (o *Outbox) settledForAll(e *entry) bool {
	for _, t := range o.active {
		if !e.settledFor(t) {
			return false
		}
	}
	return len(o.active) > 0
}

// waits reports whether e's time has not come.
func (e *entry) waits() bool {
	return e.wait == Forever || e.wait > 0 && time.Now().Before(e.until)
}

// setWait starts a wait of d.
func (e *entry) setWait(d time.Duration) {
	e.wait, e.until = max(d, 0), time.Time{}
	if d > 0 && d != Forever {
		e.until = time.Now().Add(d)
	}
}

// place puts e where its wait, yield and suspensions say: in its lane or not, and due or not.
//
//	waits, and does not yield   in the lane: what is behind it waits too
//	waits, and yields           not in the lane
//	waits no more, suspended    not in the lane
//	waits no more               in the lane, and due for good
//
// One that neither yields nor is suspended waits no more when its key has a newer version.
func (o *Outbox) place(e *entry) {
	if e.state != waiting || e.busy {
		return
	}
	if e.key != "" && !e.yield && e.suspended == 0 && o.newest(e.key) != e {
		e.wait = 0
	}
	waits := e.waits()
	switch {
	case !waits && e.suspended == 0:
		e.state = due
		o.enterLane(e)
		if o.asked && o.settledForAll(e) { // of an earlier life, sent to all targets but one that is gone
			o.complete(e)
			return
		}
		o.wakeLane(e.lane)
	case waits && !e.yield:
		o.enterLane(e)
	default:
		o.leaveLane(e)
		o.wakeLane(e.lane) // what is behind it may go
	}
	if waits && e.wait != Forever {
		time.AfterFunc(time.Until(e.until), func() { o.locked(func() { o.place(e) }) })
	}
}

// placeOlder has the older versions of e's key go, which its coming may have made due.
func (o *Outbox) placeOlder(e *entry) {
	for old := e.older; old != nil; old = old.older {
		o.place(old)
	}
}

// newest is the last version of a key, or nil.
func (o *Outbox) newest(key string) *entry {
	dir, base := path.Split(key)
	return o.keys[dir][base]
}

// link makes e known by its id and key.
func (o *Outbox) link(e *entry) {
	o.entries[e.id] = e
	o.bytes += e.size
	o.linkKey(e)
}

func (o *Outbox) linkKey(e *entry) {
	if e.key == "" {
		return
	}
	dir, base := path.Split(e.key)
	if o.keys[dir] == nil {
		o.keys[dir] = map[string]*entry{}
	}
	newest := o.keys[dir][base]
	if newest == nil || newest.place < e.place {
		e.older = newest
		o.keys[dir][base] = e
	} else {
		at := newest
		for at.older != nil && at.older.place > e.place {
			at = at.older
		}
		e.older, at.older = at.older, e
	}
	u := o.usage[topOf(e.key)]
	u.files, u.bytes = u.files+1, u.bytes+e.size
	o.usage[topOf(e.key)] = u
}

// unlinkKey forgets e's key.
func (o *Outbox) unlinkKey(e *entry) {
	if e.key == "" {
		return
	}
	dir, base := path.Split(e.key)
	at := o.keys[dir][base]
	if at == e {
		if o.keys[dir][base] = e.older; e.older == nil {
			delete(o.keys[dir], base)
		}
		if len(o.keys[dir]) == 0 {
			delete(o.keys, dir)
		}
	} else {
		for ; at != nil && at.older != e; at = at.older {
		}
		if at == nil {
			return // it was not known by it
		}
		at.older = e.older
	}
	e.older = nil
	top := topOf(e.key)
	u := o.usage[top]
	if u.files, u.bytes = u.files-1, u.bytes-e.size; u.files == 0 {
		delete(o.usage, top)
		return
	}
	o.usage[top] = u
}

func topOf(key string) string {
	top, _, _ := strings.Cut(key, "/")
	return top
}
