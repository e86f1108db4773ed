package outbox

import (
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// gate bounds how many calls of one kind run at a time. When all that were tried have failed, one at a time finds out
// whether it works again, after pauses that grow.
type gate struct {
	limit    int // as long as it works
	busy     int
	failures int // calls in a row
	until    time.Time
	all      *int // calls under way at all targets; nil: nobody counts them
}

// maxSends is how many calls of Send run at a time, but for one at each target: with as many edges as a node may have, all of which hang, their
// requests would not fit a container of 256 MiB.
const maxSends = 32

// room reports whether one call more does not make too many.
func (g *gate) room() bool { return g.all == nil || g.busy == 0 || *g.all < maxSends }

// take and giveBack begin and end a call.
func (g *gate) take()     { g.count(1) }
func (g *gate) giveBack() { g.count(-1) }

func (g *gate) count(n int) {
	g.busy += n
	if g.all != nil {
		*g.all += n
	}
}

func (g *gate) open() bool {
	limit := g.limit
	if g.failures >= g.limit {
		limit = 1
	}
	return g.busy < limit && !time.Now().Before(g.until)
}

// lets reports whether another call may begin. An urgent one waits for a place, and for no pause.
func (g *gate) lets(urgent bool) bool { return g.room() && (g.open() || urgent && g.busy < g.limit) }

// awaitGate waits until a call may begin, and reports false if Run ends before. o.mu is held.
func (o *Outbox) awaitGate(g *gate, urgent bool) bool {
	for o.phase == sending && !g.lets(urgent) {
		o.cond.Wait()
	}
	return o.phase == sending
}

// enter begins a call when the gate is open, and reports false if Run ends before.
func (o *Outbox) enter(g *gate) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.awaitGate(g, false) {
		return false
	}
	g.take()
	return true
}

// leave ends a call.
func (o *Outbox) leave(g *gate, worked bool) {
	g.giveBack()
	if worked {
		g.failures, g.until = 0, time.Time{}
	} else if g.failures++; g.failures >= g.limit {
		pause := o.backoff(g.failures - g.limit + 1)
		g.until = time.Now().Add(pause)
		time.AfterFunc(pause, func() { o.locked(o.cond.Broadcast) })
	}
	o.cond.Broadcast()
}

// backoff is how long to wait after so many failures in a row.
func (o *Outbox) backoff(failures int) time.Duration {
	return retry.Backoff(failures, o.opts.MinBackoff, o.opts.MaxBackoff)
}

// inARow counts the failures in a row of calls that take several entries: one of them that works has the count begin anew.
func inARow(before, failed, all int) int {
	switch failed {
	case 0:
		return 0
	case all:
		return before + 1
	}
	return 1
}

// pause waits for d, or until Wake, or the end of Run.
func (o *Outbox) pause(d time.Duration) { o.pauseUntil(d, func() bool { return false }) }

// pauseUntil ends, too, when done, called with the lock held, says so. It reports whether to go on: false when Run ends.
func (o *Outbox) pauseUntil(d time.Duration, done func() bool) bool {
	end := time.Now().Add(d)
	timer := time.AfterFunc(d, func() { o.locked(o.cond.Broadcast) })
	defer timer.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	for wakes := o.wakes; o.phase == sending && o.wakes == wakes && time.Now().Before(end) && !done(); {
		o.cond.Wait()
	}
	return o.phase == sending
}

// maxUnknownPause is the longest pause after an attempt whose outcome is not known. SQS knows a message again for five minutes, and
// several tries must fit into them.
const maxUnknownPause = 20 * time.Second

// locked calls do with the lock held.
func (o *Outbox) locked(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
}
