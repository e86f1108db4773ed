package echotest

import (
	"container/heap"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	dedupWindow       = 5 * time.Minute
	retention         = 4 * 24 * time.Hour
	defaultVisibility = 30 * time.Second
)

// queue is an SQS FIFO queue with content-based deduplication.
type queue struct {
	cloud *Cloud
	url   string
	path  string
	log   *edgeLog

	// sending keeps the order of acceptance and that of OnMessage the same.
	sending sync.Mutex

	mu       sync.Mutex
	removed  bool
	sequence uint64
	dedups   map[string]*dedup
	recent   list.List         // of *dedup, the oldest first
	groups   map[string]*group // those that hold messages
	ready    list.List         // of *group: those with messages and none in flight
	flights  flightHeap        // messages in flight, the one that becomes visible first at the top
	handles  map[string]*queued
	attempts map[string]*attempt // by ReceiveRequestAttemptId: those that gave messages
	redrive  int                 // the maxReceiveCount, or 0
	waiting  int                 // messages in the queue, in flight or not
	changed  chan struct{}       // closed and replaced when a message may have become available
}

// dedup remembers an accepted message for the deduplication window.
type dedup struct {
	id       string
	at       time.Time
	accepted accepted
	received *Received
}

// attempt remembers what a ReceiveMessage gave, for one that is made again because its reply was lost.
type attempt struct {
	at       time.Time
	messages []*queued
	handles  []string
}

// accepted is what SQS tells of a message that it took.
type accepted struct {
	messageID string
	sequence  string
}

// group is the messages of one MessageGroupId, in order.
type group struct {
	id       string
	messages list.List // of *queued: all that are not deleted
	flying   int       // how many of them are in flight: the first ones
	ready    *list.Element
}

type queued struct {
	sqsMessage
	accepted
	sent     time.Time
	group    *group
	element  *list.Element
	handle   string // of the last receipt
	visible  time.Time
	flight   int // index in flights, or -1
	receives int
	first    time.Time // of the receipts
}

func newQueue(c *Cloud, url, path string, log *edgeLog) *queue {
	return &queue{
		cloud: c, url: url, path: path, log: log,
		dedups: make(map[string]*dedup), groups: make(map[string]*group), handles: make(map[string]*queued),
		attempts: make(map[string]*attempt), changed: make(chan struct{}),
	}
}

// remove ends the queue: those who wait for a message are told.
func (q *queue) remove() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.removed = true
	q.groups, q.handles, q.dedups, q.flights, q.attempts = nil, nil, nil, nil, nil
	q.ready.Init()
	q.recent.Init()
	q.wake()
}

// wake tells those who wait to look again. The caller holds q.mu.
func (q *queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// wakeQueues is called when the clock was moved.
func (c *Cloud) wakeQueues() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.edges {
		e.queue.mu.Lock()
		e.queue.wake()
		e.queue.mu.Unlock()
	}
}

// send takes a valid message, or recognises it as a duplicate: then it gives the one that was accepted.
func (q *queue) send(m sqsMessage) (accepted, *Received) {
	q.sending.Lock()
	defer q.sending.Unlock()
	now := q.cloud.clock.Now()
	id := m.dedupID
	if id == "" {
		sum := sha256.Sum256([]byte(m.body))
		id = hex.EncodeToString(sum[:])
	}
	q.mu.Lock()
	q.forget(now)
	if d, ok := q.dedups[id]; ok {
		q.mu.Unlock()
		q.cloud.duplicate(q.log, d.received)
		return d.accepted, d.received
	}
	q.sequence++
	a := accepted{messageID: randomID(), sequence: fmt.Sprintf("188%017d", q.sequence)}
	d := &dedup{id: id, at: now, accepted: a}
	if !q.removed {
		q.dedups[id] = d
		q.recent.PushBack(d)
		if !q.cloud.opts.DropBodies {
			q.enqueue(&queued{sqsMessage: m, accepted: a, sent: now, flight: -1})
		}
	}
	q.mu.Unlock()
	m.dedupID = id
	d.received = q.cloud.record(q.log, m, a, now)
	return a, d.received
}

// forget drops what has left the deduplication window.
func (q *queue) forget(now time.Time) {
	for e := q.recent.Front(); e != nil; e = q.recent.Front() {
		d := e.Value.(*dedup)
		if now.Sub(d.at) < dedupWindow {
			return
		}
		q.recent.Remove(e)
		delete(q.dedups, d.id)
	}
}

func (q *queue) enqueue(m *queued) {
	g := q.groups[m.groupID]
	if g == nil {
		g = &group{id: m.groupID}
		q.groups[m.groupID] = g
	}
	m.group = g
	m.element = g.messages.PushBack(m)
	q.waiting++
	if g.ready == nil && g.flying == 0 {
		g.ready = q.ready.PushBack(g)
		q.wake()
	}
}

// receive takes up to n messages: as many as there are of one group, then of the next; none of a group that has
// messages in flight. An attempt that is made again gets what it got, as long as nothing of it was touched. The channel
// is closed when it may be worth trying again, at retry at the latest if that is not zero.
func (q *queue) receive(n int, visibility time.Duration, attemptID string) (out []*queued, again <-chan struct{}, retry time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.cloud.clock.Now()
	q.land(now)
	if out = q.repeat(attemptID, visibility, now); len(out) > 0 {
		return out, nil, time.Time{}
	}
	for len(out) < n {
		front := q.ready.Front()
		if front == nil {
			break
		}
		g := front.Value.(*group)
		var next *list.Element
		for e := g.messages.Front(); e != nil && len(out) < n; e = next {
			next = e.Next()
			m := e.Value.(*queued)
			if now.Sub(m.sent) >= retention {
				q.drop(m)
				continue
			}
			if q.redrive > 0 && m.receives >= q.redrive {
				q.drop(m)
				q.cloud.deadLetter(q.log, m)
				continue
			}
			m.handle = randomSecret(48)
			m.visible = now.Add(visibility)
			m.receives++
			if m.receives == 1 {
				m.first = now
			}
			q.handles[m.handle] = m
			g.flying++
			heap.Push(&q.flights, m)
			out = append(out, m)
		}
		if g.ready != nil { // else nothing was left of it
			q.ready.Remove(front)
			g.ready = nil
		}
	}
	if len(q.flights) > 0 {
		retry = q.flights[0].visible
	}
	if attemptID != "" && len(out) > 0 {
		a := &attempt{at: now, messages: out}
		for _, m := range out {
			a.handles = append(a.handles, m.handle)
		}
		q.attempts[attemptID] = a
	}
	return out, q.changed, retry
}

// repeat gives the messages of an attempt again, and hides them anew.
func (q *queue) repeat(attemptID string, visibility time.Duration, now time.Time) []*queued {
	a := q.attempts[attemptID]
	if a == nil {
		return nil
	}
	if now.Sub(a.at) >= dedupWindow {
		delete(q.attempts, attemptID)
		return nil
	}
	for i, m := range a.messages {
		if q.handles[a.handles[i]] != m {
			return nil
		}
	}
	for _, m := range a.messages {
		m.visible = now.Add(visibility)
		heap.Fix(&q.flights, m.flight)
	}
	return a.messages
}

// touch ends the attempts that gave a message: it was deleted, or its visibility changed.
func (q *queue) touch(m *queued) {
	for id, a := range q.attempts {
		if slices.Contains(a.messages, m) {
			delete(q.attempts, id)
		}
	}
}

// land makes messages visible again whose time is up.
func (q *queue) land(now time.Time) {
	for len(q.flights) > 0 && !now.Before(q.flights[0].visible) {
		q.settle(heap.Pop(&q.flights).(*queued))
	}
}

// settle ends a message's flight; it is out of the heap already.
func (q *queue) settle(m *queued) {
	delete(q.handles, m.handle)
	g := m.group
	if g.flying--; g.flying == 0 && g.messages.Len() > 0 && g.ready == nil {
		g.ready = q.ready.PushBack(g)
		q.wake()
	}
}

// drop takes a message out of the queue.
func (q *queue) drop(m *queued) {
	m.group.messages.Remove(m.element)
	q.waiting--
	if m.group.messages.Len() == 0 {
		delete(q.groups, m.group.id)
		if m.group.ready != nil {
			q.ready.Remove(m.group.ready)
			m.group.ready = nil
		}
	}
}

// delete deletes a received message; false if the receipt handle is not, or no more, of a message in flight.
func (q *queue) delete(handle string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.land(q.cloud.clock.Now())
	m, ok := q.handles[handle]
	if !ok {
		return false
	}
	q.touch(m)
	heap.Remove(&q.flights, m.flight)
	q.drop(m)
	q.settle(m)
	return true
}

// changeVisibility makes a message in flight visible after d.
func (q *queue) changeVisibility(handle string, d time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.cloud.clock.Now()
	q.land(now)
	m, ok := q.handles[handle]
	if !ok {
		return false
	}
	q.touch(m)
	m.visible = now.Add(d)
	heap.Fix(&q.flights, m.flight)
	q.land(now)
	q.wake()
	return true
}

// counts tells how many messages wait and how many are in flight.
func (q *queue) counts() (visible, flying int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.land(q.cloud.clock.Now())
	return q.waiting - len(q.flights), len(q.flights)
}

// flightHeap orders messages in flight by when they become visible; within a group at the same time, by their order.
type flightHeap []*queued

func (h flightHeap) Len() int { return len(h) }
func (h flightHeap) Less(i, j int) bool {
	if h[i].visible.Equal(h[j].visible) {
		return h[i].sequence < h[j].sequence
	}
	return h[i].visible.Before(h[j].visible)
}
func (h flightHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].flight, h[j].flight = i, j
}

// Push implements heap.Interface.
func (h *flightHeap) Push(x any) {
	m := x.(*queued)
	m.flight = len(*h)
	*h = append(*h, m)
}

// Pop implements heap.Interface.
func (h *flightHeap) Pop() any {
	old := *h
	m := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	m.flight = -1
	return m
}
