package echostream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ftpnode/ftpnode/internal/retry"
)

const (
	// attemptLife is how long the id of a ReceiveMessage is used again: SQS knows it for five minutes.
	attemptLife = 4 * time.Minute
	// maxDeletes is how often a delete is tried before the message is left to come again.
	maxDeletes = 8
	// handledLife is how long a message whose delete failed is known: SQS keeps none for longer.
	handledLife = 14 * 24 * time.Hour
)

// inbound receives from one edge.
//
// Its own goroutine polls and admits what comes; a goroutine for each group that has messages (a lane) hands them to the handler,
// as many at a time as there are slots; one deletes what was handled; one renews the visibility of what is held. They share the
// fields below mu. A message is held from its receipt until it was deleted, handed back, or left to come again.
type inbound struct {
	r      *receiver
	queue  *inQueue
	source atomic.Pointer[string]
	ctx    context.Context // ends when no more is to be received
	cancel context.CancelFunc
	before *inbound // of the same queue; it may still have handlers
	ended  chan struct{}

	slots chan struct{} // one for each handler that runs
	lanes sync.WaitGroup
	room  chan struct{} // there may be room for more
	acks  chan struct{} // there is something to delete

	mu        sync.Mutex
	held      map[string]*held         // by message id
	waiting   map[string][]*held       // by group, in order; a group is there as long as its lane runs
	done      []*held                  // handled, and to be deleted
	handled   map[string]time.Duration // by message id: handled, the delete failed; when
	failed    map[string]time.Duration // by message id: not handled, will come again; since when
	extend    extending
	undeleted retry.Trouble // deletes that failed for good
}

// extending is what is known about a node's right to renew the visibility of messages.
type extending int

const (
	extendUnknown extending = iota
	extendAllowed
	extendDenied
)

// held is a message that was received and that nobody else gets for now. Its fields are guarded by inbound.mu but for the message,
// which does not change.
type held struct {
	ReceivedMessage
	handle  string        // of the last receipt
	until   time.Duration // then it is visible again
	deletes int           // that failed
}

func (h *held) receipt() receipt { return receipt{h.ID, h.handle} }

func newInbound(ctx context.Context, r *receiver, queue, source string, before *inbound) *inbound {
	ctx, cancel := context.WithCancel(ctx)
	e := &inbound{
		r: r, queue: &inQueue{client: r.client, node: r.node.Load, url: queue}, ctx: ctx, cancel: cancel,
		before: before, ended: make(chan struct{}),
		slots: make(chan struct{}, r.opts.Concurrency), room: make(chan struct{}, 1), acks: make(chan struct{}, 1),
		held: map[string]*held{}, waiting: map[string][]*held{}, handled: map[string]time.Duration{}, failed: map[string]time.Duration{},
	}
	e.source.Store(&source)
	return e
}

func (e *inbound) sourceName() string { return *e.source.Load() }

// now is the time since some moment. It goes on while the machine sleeps, as a visibility timeout does, and nobody sets it.
func (e *inbound) now() time.Duration { return e.r.client.opts.Elapsed() }

// forgettable reports whether an edge has ended and knows of no message that is yet to be deleted.
func (e *inbound) forgettable() bool {
	select {
	case <-e.ended:
		return len(e.handled) == 0
	default:
		return false
	}
}

// run receives until ctx ends, and ends when nothing is held any more.
func (e *inbound) run() {
	defer close(e.ended)
	defer e.cancel()
	if e.before != nil {
		<-e.before.ended
		e.handled, e.before = e.before.handled, nil
	}
	var helpers sync.WaitGroup
	keeping, stopKeeping := context.WithCancel(e.r.calls)
	last := make(chan struct{})
	helpers.Go(func() { e.keep(keeping) })
	helpers.Go(func() { e.deleteHandled(e.r.calls, last) })
	e.poll()
	e.handBack(e.takeWaiting())
	e.lanes.Wait()
	close(last)
	stopKeeping()
	helpers.Wait()
}

// poll asks for messages as long as there is room for them.
func (e *inbound) poll() {
	var trouble retry.Trouble
	attempt, most, begun := "", 0, time.Duration(0)
	for e.waitForRoom() {
		if most == 0 || e.now()-begun > attemptLife {
			attempt, most, begun = NewTrackingID(), e.limit(), e.now()
		}
		messages, err := e.queue.receive(e.ctx, most, attempt, e.r.opts.Visibility)
		if err == nil {
			trouble.Over(time.Now(), "an edge can be received from again", "source", e.sourceName()).To(e.r.log)
			e.admit(messages)
			most = 0
			continue
		}
		// The reply may have been lost: the same attempt gives the same messages, which else would be hidden for a while.
		if e.ctx.Err() != nil {
			return
		}
		what, first, longest := "an edge cannot be received from", 500*time.Millisecond, 30*time.Second
		if errors.Is(err, ErrEdgeGone) {
			what, first, longest = "an edge is gone, or closed to this node", 30*time.Second, 5*time.Minute
			e.r.reread()
		}
		trouble.Hit(time.Now(), retry.LevelOf(err), what, err, "source", e.sourceName()).To(e.r.log)
		if !retry.Sleep(e.ctx, retry.Backoff(trouble.Failures(), first, longest)) {
			return
		}
	}
}

// waitForRoom waits until a handler is free; false when there will be no more polls.
func (e *inbound) waitForRoom() bool {
	for e.ctx.Err() == nil {
		e.mu.Lock()
		free := len(e.waiting) < e.r.opts.Concurrency && len(e.done) < 10*maxBatch
		e.mu.Unlock()
		full := e.r.audit.full()
		if free && full == nil {
			return true
		}
		select {
		case <-e.room:
		case <-full:
		case <-e.ctx.Done():
		}
	}
	return false
}

// limit is how many messages to take at a time. One, as long as it is not known that they can be kept hidden for as long as they
// have to wait for their turn; and one while a message of this edge fails: those behind it in its group would be received with
// it each time, and so would run out of receives with it.
func (e *inbound) limit() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for id, since := range e.failed {
		if now-since > 3*e.r.opts.Visibility+longPoll {
			delete(e.failed, id) // it has not come again: somebody set it aside
		}
	}
	for id, since := range e.handled {
		if now-since > handledLife {
			delete(e.handled, id)
		}
	}
	if e.extend != extendAllowed || len(e.failed) > 0 {
		return 1
	}
	return maxBatch
}

// admit takes what was received.
func (e *inbound) admit(messages []types.Message) {
	until, messageType := e.now()+e.r.opts.Visibility, ""
	if t := e.r.node.Load().ReceiveMessageType; t != nil {
		messageType = t.Name
	}
	var fresh []*held
	e.mu.Lock()
	for _, m := range messages {
		h := &held{ReceivedMessage: receivedMessage(m, e.sourceName(), messageType), until: until}
		if m.ReceiptHandle != nil {
			h.handle = *m.ReceiptHandle
		}
		if before := e.held[h.ID]; before != nil {
			before.handle, before.until = h.handle, until // it came again under way
			continue
		}
		e.held[h.ID] = h
		if _, ok := e.handled[h.ID]; ok {
			delete(e.handled, h.ID)
			e.r.log.Debug("a message that was handled comes again, deleting it", "source", h.Source, "trackingId", h.TrackingID)
			e.acknowledge(h)
			continue
		}
		fresh = append(fresh, h)
	}
	unknown := e.extend == extendUnknown
	e.mu.Unlock()
	if unknown && len(fresh) > 0 {
		e.renew(e.r.calls, fresh)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range fresh {
		lane, running := e.waiting[h.Group]
		e.waiting[h.Group] = append(lane, h)
		if !running {
			e.lanes.Go(func() { e.lane(h.Group) })
		}
	}
}

// lane hands the messages of a group to the handler, in order, until there are no more or one fails.
func (e *inbound) lane(group string) {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-e.ctx.Done():
		return // takeWaiting takes them
	}
	for h := e.next(group); h != nil; h = e.next(group) {
		if !e.handle(h) {
			e.drop(group, h)
			return
		}
	}
}

// next takes the next message of a group. The lane ends with nil.
func (e *inbound) next(group string) *held {
	e.mu.Lock()
	defer e.mu.Unlock()
	lane := e.waiting[group]
	if len(lane) > 0 && e.now() >= lane[0].until {
		// It is visible again, and those behind it may be: they come again.
		for _, h := range lane {
			delete(e.held, h.ID)
		}
		lane = nil
	}
	if len(lane) == 0 {
		e.endLaneLocked(group)
		return nil
	}
	e.waiting[group] = lane[1:]
	return lane[0]
}

func (e *inbound) endLaneLocked(group string) {
	delete(e.waiting, group)
	signal(e.room)
}

// drop ends a lane whose message h failed: h stays hidden for the rest of its time, those behind it are handed back.
func (e *inbound) drop(group string, h *held) {
	e.mu.Lock()
	rest := e.waiting[group]
	for _, other := range rest {
		delete(e.held, other.ID)
	}
	delete(e.held, h.ID)
	e.failed[h.ID] = e.now()
	e.endLaneLocked(group)
	e.mu.Unlock()
	if e.r.handling.Err() != nil {
		rest = slices.Concat([]*held{h}, rest) // the end made it fail
	}
	e.handBack(rest)
}

// takeWaiting takes what no handler has begun, when there will be no more.
func (e *inbound) takeWaiting() []*held {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*held
	for group, lane := range e.waiting {
		all = append(all, lane...)
		e.waiting[group] = nil
	}
	for _, h := range all {
		delete(e.held, h.ID)
	}
	return all
}

// handBack makes messages visible at once, the last first, so that none comes before one that is ahead of it.
func (e *inbound) handBack(messages []*held) {
	slices.Reverse(messages)
	for batch := range slices.Chunk(messages, maxBatch) {
		if e.mayExtend() == extendDenied {
			return
		}
		e.hide(e.r.calls, batch, 0)
	}
}

// handle reports whether a message is done with. What fails again and again is said with the first, second, fourth, eighth ...
// time.
func (e *inbound) handle(h *held) bool {
	m := h.ReceivedMessage
	log := e.r.log.With("source", m.Source, "trackingId", m.TrackingID, "receives", m.Receives)
	say := m.Receives&(m.Receives-1) == 0
	err := e.r.handle(m)
	permanent := IsPermanent(err)
	aside := false
	if permanent && e.r.opts.SetAside != nil {
		hook := e.r.setAside(m, err)
		if aside = hook == nil; aside {
			log.Error("a message was set aside", "error", err)
		} else if say {
			log.Error("a message could not be set aside", "error", hook, "refused", err)
		}
	}
	switch {
	case err == nil:
		e.r.audit.add(m)
	case aside:
	case e.r.handling.Err() != nil:
		log.Info("a message was not finished before the end, it comes again", "error", err)
		return false
	case say && permanent:
		log.Error("a message was refused for good; it blocks its group until the edge's maxReceiveCount sets it aside", "error", err)
		return false
	case say:
		log.Warn("a message failed, it comes again and its group waits", "error", err)
		return false
	default:
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.failed, h.ID)
	e.acknowledge(h)
	return true
}

// acknowledge has a message deleted. The caller holds e.mu.
func (e *inbound) acknowledge(h *held) {
	e.done = append(e.done, h)
	signal(e.acks)
}

// signal wakes the goroutine that waits at c, or lets it not wait the next time.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
