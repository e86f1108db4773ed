package main

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// moment is what happens when the node is killed.
type moment string

const (
	anyTime   moment = "any time"
	starting  moment = "start"     // the process has begun to recover
	uploading moment = "upload"    // a client is in the middle of a file
	sent      moment = "sent"      // a client has sent all and waits for its 226
	replied   moment = "226"       // a client has just read its 226
	renaming  moment = "rename"    // a client waits for the reply to RNTO
	claimed   moment = "claim"     // the node has taken a file from drop into the outbox
	sending   moment = "send"      // a request has reached SQS, which has not looked at it yet
	accepted  moment = "accept"    // SQS has taken a message and has not replied
	audited   moment = "audit"     // the audit endpoint has taken a record and has not replied
	delivered moment = "delivered" // a file has left the outbox
)

// moments has each moment as often as it is worth.
var moments = []moment{
	anyTime, anyTime, anyTime, starting, starting, uploading, uploading, uploading, sent, sent, replied, replied, renaming,
	claimed, claimed, claimed, sending, sending, accepted, accepted, accepted, audited, audited, delivered, delivered,
}

// plan is when one kill comes.
type plan struct {
	at    moment
	skip  int           // how many times it is let pass
	after time.Duration // after the moment
	limit time.Duration // the kill comes then at the latest; of anyTime, just then
}

func newPlan(r *rand.Rand) plan {
	p := plan{at: moments[r.IntN(len(moments))], skip: r.IntN(5)}
	p.limit = 800*time.Millisecond + time.Duration(r.Int64N(int64(700*time.Millisecond)))
	switch p.at {
	case anyTime:
		p.limit = 100*time.Millisecond + time.Duration(r.Int64N(int64(1200*time.Millisecond)))
	case starting:
		p.skip, p.after = 0, time.Duration(r.Int64N(int64(200*time.Millisecond)))
	default:
		if r.IntN(2) == 0 {
			p.after = time.Duration(r.Int64N(int64(5 * time.Millisecond)))
		}
	}
	return p
}

// trigger pulls when the moment of a plan has come. Those to whom things happen call hit.
type trigger struct {
	mu   sync.Mutex
	plan plan
	pull func()

	// epoch is odd while the node's power is cut, and counts up when that begins and ends. What the world outside reads in
	// another epoch than its connection was made in has never come: see TestPowerCut.
	epoch atomic.Int64
}

// isCut reports whether the power is cut.
func (t *trigger) isCut() bool { return t.epoch.Load()%2 == 1 }

// arm sets the plan, and what is to be done when its moment comes: in the goroutine to which it happens, so that nothing else
// happens there before.
func (t *trigger) arm(p plan, pull func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plan, t.pull = p, pull
}

func (t *trigger) disarm() { t.arm(plan{}, nil) }

func (t *trigger) hit(m moment) {
	t.mu.Lock()
	if t.pull == nil || m != t.plan.at {
		t.mu.Unlock()
		return
	}
	if t.plan.skip > 0 {
		t.plan.skip--
		t.mu.Unlock()
		return
	}
	pull, after := t.pull, t.plan.after
	t.pull = nil
	t.mu.Unlock()
	if after == 0 {
		pull()
		return
	}
	time.AfterFunc(after, pull)
}
