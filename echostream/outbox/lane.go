package outbox

import (
	"slices"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// lane is a sequence of entries whose order is kept.
type lane struct {
	name    string
	entries []*waiting // nil where one has left before those in front of it
	base    uint64     // index of entries[0]; indexes never change
	streams []*stream  // one for each target it has had to do with
}

func (l *lane) end() uint64 { return l.base + uint64(len(l.entries)) }

func (l *lane) at(index uint64) *waiting { return l.entries[index-l.base] }

func (l *lane) add(e *waiting) {
	e.lane, e.index = l, l.end()
	l.entries = append(l.entries, e)
}

func (l *lane) remove(e *waiting) {
	l.entries[e.index-l.base] = nil
	n := 0
	for n < len(l.entries) && l.entries[n] == nil {
		n++
	}
	l.base += uint64(n)
	l.entries = l.entries[n:]
	if len(l.entries) == 0 {
		l.entries = nil
	}
}

// target is one that entries are sent to.
type target struct {
	name   string
	active bool

	ready []*stream // that have something to send, in their order
	busy  int       // calls of Send

	failures int  // calls in a row that failed, of all lanes
	blocked  bool // nothing is sent until a pause is over
	suffers  int  // streams that are in trouble
	trouble  retry.Trouble
}

// stream is the way of a lane to a target: one batch at a time, in order.
type stream struct {
	lane   *lane
	target *target
	pos    uint64 // everything before is settled for the target
	tried  uint64 // everything before was handed to Send once
	state  streamState

	failures int
}

type streamState uint8

const (
	idle   streamState = iota // nothing to send
	ready                     // in target.ready
	parked                    // its next entry is being prepared
	busy                      // in Send
	paused                    // after a failure
)

// stream finds or makes the lane's stream to t.
func (l *lane) stream(t *target) *stream {
	i := slices.IndexFunc(l.streams, func(s *stream) bool { return s.target == t })
	if i < 0 {
		i = len(l.streams)
		l.streams = append(l.streams, &stream{lane: l, target: t, pos: l.base})
	}
	return l.streams[i]
}

// wake puts a stream that waits for something to send, or for its being ready, in the target's queue.
func (s *stream) wake() {
	if s.state == idle || s.state == parked {
		s.makeReady()
	}
}

func (s *stream) makeReady() {
	s.state = ready
	if s.target.active {
		s.target.ready = append(s.target.ready, s)
	} else {
		s.state = idle
	}
}

// target finds or makes the target of a name.
func (o *Outbox) target(name string) *target {
	t := o.targets[name]
	if t == nil {
		t = &target{name: name}
		o.targets[name] = t
	}
	return t
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

// enqueue gives an entry whose file is durably in the outbox its place in its lane.
func (o *Outbox) enqueue(e *waiting, lane string) {
	e.state = queued
	l := o.laneOf(lane)
	l.add(e)
	if o.asked && o.settledForAll(e) { // an entry of before, sent to all targets but one that is gone
		o.complete(e)
		return
	}
	for _, t := range o.active {
		l.stream(t).wake()
	}
}

// complete takes an entry out of its lane: all targets have it, or will never take it.
func (o *Outbox) complete(e *waiting) {
	o.removeFromLane(e)
	e.state = completed
	o.unsettled++
	if refused := o.refusals[e]; len(refused) > 0 {
		o.setAside(e, failure{Reason: "refused by target " + refused[0].Target, Error: refused[0].Error})
		return
	}
	e.sent = true
	o.auditing.queue = append(o.auditing.queue, e)
	o.noting.queue = append(o.noting.queue, e)
}

func (o *Outbox) removeFromLane(e *waiting) {
	l := e.lane
	l.remove(e)
	o.forget(l)
}

// forget gives up a lane that has nothing to do: there may be as many as files, one for each name.
func (o *Outbox) forget(l *lane) {
	if len(l.entries) > 0 || o.lanes[l.name] != l ||
		slices.ContainsFunc(l.streams, func(s *stream) bool { return s.state == busy || s.state == paused }) {
		return
	}
	for _, s := range l.streams {
		if s.failures > 0 {
			s.target.suffers--
		}
	}
	delete(o.lanes, l.name)
}
