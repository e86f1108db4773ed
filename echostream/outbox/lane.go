package outbox

import (
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// maxStreams is how many lanes are under way to a target at a time; the others wait their turn, behind lanes that are in trouble, too: more than a
// config has users, each with a lane.
const maxStreams = 128

// lane is a sequence of entries whose order is kept: those that are due, and those that hold others back until they are.
type lane struct {
	name        string
	first, last *entry
	streams     []*stream // one for each target that it has had to do with
	entries     int       // that are of this lane, in it or not
}

// targetID tells targets apart.
type targetID struct {
	name     string
	identity string // "": only its name is known
}

// same reports whether both are one: a target may have got another name, and another one its name.
func (t targetID) same(other targetID) bool {
	if t.identity == "" || other.identity == "" {
		return t.name == other.name
	}
	return t.identity == other.identity
}

// target is one that entries are sent to.
type target struct {
	targetID
	active       bool
	gate         gate
	streams      int       // that a goroutine runs
	ready        []*stream // that wait for one to end
	suffers      int       // streams that are in trouble
	acknowledged time.Time // when it acknowledged an entry last
	trouble      retry.Trouble
}

// stream is the way of a lane to a target: one batch at a time, in order. One goroutine runs it while there is something to do.
type stream struct {
	lane    *lane
	target  *target
	at      *entry    // no entry before it in the lane waits for the target; nil: none does
	tried   uint64    // the last place that was handed to Send
	running bool      // a goroutine runs it, or will
	failed  error     // the last attempt; then it counts in target.suffers
	nextTry time.Time // after that
}

// laneOf finds or makes a lane.
func (o *Outbox) laneOf(name string) *lane {
	l := o.lanes[name]
	if l == nil {
		l = &lane{name: name}
		o.lanes[name] = l
	}
	return l
}

// forgetLane gives up a lane without entries: there may be as many as names of files.
func (o *Outbox) forgetLane(l *lane) {
	if l.entries > 0 || o.lanes[l.name] != l || slices.ContainsFunc(l.streams, func(s *stream) bool { return s.running }) {
		return
	}
	for _, s := range l.streams {
		o.suffer(s, nil)
	}
	delete(o.lanes, l.name)
}

// target finds or makes a target.
func (o *Outbox) target(id targetID) *target {
	t := o.targets[id]
	if t == nil {
		t = &target{targetID: id, gate: gate{limit: o.opts.Workers, all: &o.sends}}
		o.targets[id] = t
	}
	return t
}

// stream finds or makes the lane's stream to t.
func (l *lane) stream(t *target) *stream {
	i := slices.IndexFunc(l.streams, func(s *stream) bool { return s.target == t })
	if i < 0 {
		i = len(l.streams)
		l.streams = append(l.streams, &stream{lane: l, target: t, at: l.first})
	}
	return l.streams[i]
}

// enterLane puts e where its place in the order is, among those that have not left.
func (o *Outbox) enterLane(e *entry) {
	if e.inLane {
		return
	}
	l := e.lane
	before := l.last
	for before != nil && before.place > e.place {
		before = before.prev
	}
	e.inLane, e.prev = true, before
	if before == nil {
		e.next, l.first = l.first, e
	} else {
		e.next, before.next = before.next, e
	}
	if e.next == nil {
		l.last = e
	} else {
		e.next.prev = e
	}
	for _, s := range l.streams {
		if s.at == nil || s.at.place > e.place {
			s.at = e
		}
	}
}

// leaveLane takes e out of its lane.
func (o *Outbox) leaveLane(e *entry) {
	if !e.inLane {
		return
	}
	l := e.lane
	for _, s := range l.streams {
		if s.at == e {
			s.at = e.next
		}
	}
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
	e.inLane, e.prev, e.next = false, nil, nil
}

// upcoming lists up to n entries that the stream may send now, in order: none that comes after one that is not due, or after
// one that failed and was not tried again.
func (s *stream) upcoming(n int) (entries []*entry) {
	for s.at != nil && s.at.settledFor(s.target) {
		s.at = s.at.next
	}
	for e := s.at; e != nil && len(entries) < n; e = e.next {
		if e.state != due || s.at.place <= s.tried && e.place > s.tried {
			break
		}
		if !e.settledFor(s.target) {
			entries = append(entries, e)
		}
	}
	return entries
}

// wakeLane has the lane's streams look for something to send.
func (o *Outbox) wakeLane(l *lane) {
	for _, t := range o.active {
		o.wake(l.stream(t))
	}
}

// wake starts a stream that has something to send, or tells it that there is more.
func (o *Outbox) wake(s *stream) {
	if s.running {
		o.cond.Broadcast() // it may gather
		return
	}
	if !s.target.active || o.phase != sending || len(s.upcoming(1)) == 0 {
		return
	}
	s.running = true
	s.target.ready = append(s.target.ready, s)
	o.startReady(s.target)
}

func (o *Outbox) startReady(t *target) {
	for t.streams < maxStreams && len(t.ready) > 0 {
		s := t.ready[0]
		t.ready = t.ready[1:]
		t.streams++
		o.streams.Add(1)
		go o.runStream(s)
	}
}

// endStream is the end of a stream's goroutine. It starts anew if there is something to do again.
func (o *Outbox) endStream(s *stream) {
	s.running = false
	s.target.streams--
	o.startReady(s.target)
	o.wake(s)
	o.forgetLane(s.lane)
	o.streams.Done()
}

// suffer notes why a stream's last attempt failed; nil: it did not.
func (o *Outbox) suffer(s *stream, err error) {
	if (s.failed != nil) != (err != nil) {
		if err != nil {
			s.target.suffers++
		} else {
			s.target.suffers--
		}
	}
	s.failed = err
}
