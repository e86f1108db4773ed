package outbox

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"time"
)

// entry is a file in the outbox, as it is in memory. All of it is guarded by Outbox.mu; seq, id, lane's name, size, accepted and the
// checksum never change. There may be 200,000: the order of the fields leaves no gaps.
type entry struct {
	seq      uint64 // in the name of its file
	id       trackingID
	name     string
	key      string
	from     string // where Put found its file, until that directory is synced too
	meta     json.RawMessage
	size     int64
	accepted int64  // nanoseconds since 1970
	modified int64  // seconds since 1970, and modifiedNano: clients set any year
	place    uint64 // in the order

	modifiedNano int32
	checksum     uint32 // if summed
	suspended    uint32 // Suspend calls without their Resume
	attempts     uint32 // that failed
	bytes        uint32 // of its latest line
	round        uint32 // how often it was taken back from failed/
	unreadable   uint8  // attempts that failed because the disk cannot read it
	state        state
	summed       bool
	yield        bool // others of its lane pass it while it waits
	busy         bool // an Edit, a Withdraw or a Put that replaces it is under way
	inLane       bool
	noted        bool // sent, and the disk knows

	hold       *hold // nil: it does not wait
	lane       *lane
	prev, next *entry   // in the lane
	answers    *answers // nil: none
	tentative  *tentative
	replaces   *entry // leaves before this one does
	replacedBy *entry
	exit       *exit    // of one that leaves
	segment    *segment // where its latest line stands
}

// answers are what targets have said about an entry.
type answers struct {
	from    []*target // have acknowledged or refused it
	refused []Refusal
}

// hold is an entry's wait. It never changes.
type hold struct {
	wait  time.Duration // as it was asked for
	until time.Time     // its end; not used with Forever
}

// newHold starts a wait of d; nil: there is none.
func newHold(d time.Duration) *hold {
	switch {
	case d <= 0:
		return nil
	case d == Forever:
		return &hold{wait: d}
	}
	return &hold{d, time.Now().Add(d)}
}

// state is where an entry is on its way.
type state uint8

const (
	accepting state = iota // Put is not done with it
	waiting                // its owner may change it
	due                    // it may be sent
	sent                   // all targets have it, or refused it: its audit is to come
	// These leave: their file is to go.
	delivered // removed
	rejected  // removed: it was tentative, and no target will ever take it
	aside     // moved to failed/
	withdrawn // removed, or moved to where its owner wants it
	voided    // moved back: Put has given it up
	left
)

// exit is what else is known about an entry that leaves; nil of one that was delivered.
type exit struct {
	to  string  // withdrawn, voided: the path on the volume
	why failure // aside, rejected
}

// hidden reports whether nobody needs to know of e any more.
func (e *entry) hidden() bool { return e.state == withdrawn || e.state == voided }

// base is what the names of e's files begin with.
func (e *entry) base() string { return baseName(e.seq, e.id.String()) }

func (o *Outbox) pathOf(e *entry) string { return o.pathFor(e.seq, e.id.String()) }

func (o *Outbox) pathFor(seq uint64, id string) string {
	return o.opts.Dir + "/" + baseName(seq, id) + dataSuffix
}

// public is e as others see it.
func (o *Outbox) public(e *entry) Entry {
	id := e.id.String()
	public := Entry{
		ID: id, Name: e.name, Lane: e.lane.name, Key: e.key, Meta: e.meta, Path: o.pathFor(e.seq, id), Size: e.size,
		ModTime: e.modTime(), Checksum: e.sum(), Accepted: e.acceptedAt(), Due: e.state >= due, Yield: e.yield && e.state < due,
		Tentative: e.tentative != nil && !e.tentative.told,
	}
	if !public.Due && e.hold != nil {
		public.Until = e.hold.until
	}
	return public
}

// recordOf is all that is known about e.
func (o *Outbox) recordOf(e *entry) record {
	if e.undecided() && e.tentative.before != nil {
		return o.recordOf(e.tentative.before)
	}
	r := record{
		Seq: e.seq, ID: e.id.String(), Size: e.size, ModTime: jsonTime(e.modTime()), Accepted: e.acceptedAt(), Meta: e.meta,
		From: e.from, Sent: e.state == sent || e.state == delivered, Void: e.state == voided, Retries: int(e.attempts),
		Refused: e.refused(), Round: int(e.round),
	}
	r.Acked, r.AckedBy = e.acked()
	r.Name, r.NameBytes = textOrBytes(e.name)
	r.Lane, r.LaneBytes = textOrBytes(e.lane.name)
	r.Key, r.KeyBytes = textOrBytes(e.key)
	if e.place != e.seq {
		r.Place = e.place
	}
	if e.state < due {
		r.Yield = e.yield
		if e.hold != nil {
			if r.Wait = e.hold.wait; r.Wait != Forever {
				r.Until = jsonTime(e.hold.until)
			}
		}
	}
	if e.summed {
		r.Checksum = &e.checksum
	}
	if e.replaces != nil {
		r.Replaces = e.replaces.id.String()
	}
	if e.state == withdrawn {
		r.Withdrawn, r.To = true, e.exit.to
	}
	if t := e.tentative; t != nil {
		r.Tentative, r.Attempted = true, t.attempted
	}
	return r
}

// restore makes e what a record says. A wait goes on where it was, but never longer than it was asked for: the clock may have
// been set since.
func (o *Outbox) restore(e *entry, r *record) {
	*e = entry{
		seq: e.seq, id: e.id, segment: e.segment, bytes: e.bytes,
		name: r.name(), key: r.key(), from: r.From, meta: r.Meta, size: r.Size,
		accepted: r.Accepted.UnixNano(), place: r.Place, state: waiting, yield: r.Yield, lane: o.laneOf(r.lane()),
		attempts: uint32(r.Retries), round: uint32(r.Round),
	}
	switch {
	case r.Void:
		e.state, e.exit = voided, &exit{to: r.From}
	case r.Withdrawn, r.Tentative && !r.Attempted: // nobody was told of it
		e.state, e.exit = withdrawn, &exit{to: r.To}
	case r.Sent:
		e.state, e.noted = sent, true
	}
	if r.Replaces != "" {
		id, _ := parseID(r.Replaces)
		e.replaces = o.entries[id]
	}
	if e.place == 0 {
		e.place = e.seq
	}
	e.setModTime(r.ModTime)
	e.setChecksum(r.Checksum)
	if r.Tentative {
		e.tentative = &tentative{attempted: true} // else it is taken back
	}
	if e.hold = newHold(r.Wait); e.hold != nil && r.Wait != Forever {
		now := time.Now()
		e.hold.until = now.Add(min(max(r.Until.Sub(now.Round(0)), 0), r.Wait))
	}
	for i, name := range r.Acked {
		t := targetID{name: name}
		if len(r.AckedBy) == len(r.Acked) {
			t.identity = r.AckedBy[i]
		}
		e.settle(o.target(t))
	}
	for _, refusal := range r.Refused {
		e.refuse(o.target(targetID{name: refusal.Target}), refusal.Error)
	}
	if e.key == "" && o.opts.KeyOf != nil {
		e.key = o.opts.KeyOf(o.public(e))
	}
	e.shareName()
}

// shareName keeps one string in memory where the key ends in the name.
func (e *entry) shareName() {
	if strings.HasSuffix(e.key, e.name) {
		e.name = e.key[len(e.key)-len(e.name):]
	}
}

// settle notes that t needs e no more.
func (e *entry) settle(t *target) {
	if e.answers == nil {
		e.answers = &answers{}
	}
	if !e.settledFor(t) {
		e.answers.from = append(e.answers.from, t)
	}
}

// refuse notes that t will never take e.
func (e *entry) refuse(t *target, why string) {
	e.settle(t)
	e.answers.refused = append(e.answers.refused, Refusal{t.name, why})
}

func (e *entry) settledFor(t *target) bool {
	return e.answers != nil && slices.ContainsFunc(e.answers.from, func(other *target) bool { return t.same(other.targetID) })
}

func (e *entry) refused() []Refusal {
	if e.answers == nil {
		return nil
	}
	return e.answers.refused
}

// settledForAll reports whether no active target waits for e. There must be one.
func (o *Outbox) settledForAll(e *entry) bool {
	for _, t := range o.active {
		if !e.settledFor(t) {
			return false
		}
	}
	return len(o.active) > 0
}

// isHeld reports whether e waits until its owner says more.
func (e *entry) isHeld() bool {
	return e.state == waiting && e.hold != nil && e.hold.wait == Forever
}

// waits reports whether e's time has not come.
func (e *entry) waits() bool {
	return e.hold != nil && (e.hold.wait == Forever || time.Now().Before(e.hold.until))
}

func (e *entry) acceptedAt() time.Time { return time.Unix(0, e.accepted).UTC() }

func (e *entry) modTime() time.Time { return time.Unix(e.modified, int64(e.modifiedNano)).UTC() }

func (e *entry) setModTime(t time.Time) { e.modified, e.modifiedNano = t.Unix(), int32(t.Nanosecond()) }

// sum is the checksum; nil: it is not known.
func (e *entry) sum() *uint32 {
	if !e.summed {
		return nil
	}
	sum := e.checksum
	return &sum
}

func (e *entry) setChecksum(sum *uint32) {
	if sum != nil {
		e.checksum, e.summed = *sum, true
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
		e.hold = nil
	}
	waits := e.waits()
	switch {
	case !waits && e.suspended == 0:
		e.state, e.hold = due, nil
		o.enterLane(e)
		if o.settledForAll(e) { // of an earlier life, sent to all targets but one that is gone
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
	if waits && e.hold.wait != Forever {
		time.AfterFunc(time.Until(e.hold.until), func() { o.locked(func() { o.place(e) }) })
	}
}

// placeOlder has the older versions of e's key go, which its coming may have made due.
func (o *Outbox) placeOlder(e *entry) {
	for old := o.older[e]; old != nil; old = o.older[old] {
		o.place(old)
	}
}

// newest is the last version of a key, or nil.
func (o *Outbox) newest(key string) *entry {
	dir, base := path.Split(key)
	return o.keys[dir][base]
}

// link makes e known by its id and, unless it is hidden, by its key.
func (o *Outbox) link(e *entry) {
	o.entries[e.id] = e
	o.bytes += e.size
	if !e.hidden() {
		o.linkKey(e)
	}
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
		o.setOlder(e, newest)
		o.keys[dir][base] = e
	} else {
		at := newest
		for o.older[at] != nil && o.older[at].place > e.place {
			at = o.older[at]
		}
		o.setOlder(e, o.older[at])
		o.setOlder(at, e)
	}
	u := o.usage[topOf(e.key)]
	u.files, u.bytes = u.files+1, u.bytes+e.size
	o.usage[topOf(e.key)] = u
}

// setOlder makes old, or nothing, the version of e's key before e.
func (o *Outbox) setOlder(e, old *entry) {
	if old == nil {
		delete(o.older, e)
	} else {
		o.older[e] = old
	}
}

// unlinkKey forgets e's key.
func (o *Outbox) unlinkKey(e *entry) {
	if e.key == "" {
		return
	}
	dir, base := path.Split(e.key)
	at := o.keys[dir][base]
	if at == e {
		if o.keys[dir][base] = o.older[e]; o.older[e] == nil {
			delete(o.keys[dir], base)
		}
		if len(o.keys[dir]) == 0 {
			delete(o.keys, dir)
		}
	} else {
		for ; at != nil && o.older[at] != e; at = o.older[at] {
		}
		if at == nil {
			return // it was not known by it
		}
		o.setOlder(at, o.older[e])
	}
	o.setOlder(e, nil)
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
