package outbox

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// backoff is how long to wait after so many failures in a row: a random part of a bound that doubles, so that
// many nodes that lost the same cloud do not all come back to it in the same moment.
func (opts *Options) backoff(failures int) time.Duration {
	bound := opts.MaxBackoff
	if shift := max(failures-1, 0); opts.MinBackoff <= bound>>shift { // so that the shift does not overflow
		bound = opts.MinBackoff << shift
	}
	return 1 + rand.N(bound)
}

// pause is something that waits for a time.
type pause struct {
	due time.Time
	end func() // called with Outbox.mu held
}

// pauses holds all that wait, the first to end at the front.
type pauses struct{ heap pauseHeap }

func (p *pauses) add(d time.Duration, end func()) {
	heap.Push(&p.heap, pause{time.Now().Add(d), end})
}

// endDue ends the pauses whose time has come and tells when the next one's will, if there is one.
func (p *pauses) endDue(now time.Time) (next time.Time, ok bool) {
	for len(p.heap) > 0 && !p.heap[0].due.After(now) {
		heap.Pop(&p.heap).(pause).end()
	}
	if len(p.heap) == 0 {
		return time.Time{}, false
	}
	return p.heap[0].due, true
}

// endAll ends all pauses now.
func (p *pauses) endAll() {
	all := p.heap
	p.heap = nil
	for _, one := range all {
		one.end()
	}
}

type pauseHeap []pause

func (h pauseHeap) Len() int           { return len(h) }
func (h pauseHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h pauseHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *pauseHeap) Push(x any)        { *h = append(*h, x.(pause)) }
func (h *pauseHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = pause{}
	*h = (*h)[:last]
	return x
}
