package evidence

import (
	"container/list"
	"log/slog"
	"net/netip"
	"sync"
)

const (
	maxClients   = 10_000 // remembered; those that were seen longest ago are forgotten
	brokenInARow = 3
)

// client is a user at an address.
type client struct {
	user string
	addr netip.Addr
}

// habits is what is remembered of clients, until the program ends. Its zero value, with a log, is ready.
type habits struct {
	log *slog.Logger

	mu    sync.Mutex
	of    map[client]*list.Element
	order list.List // of *habit, the last one that was seen first
}

type habit struct {
	client    client
	notifies  bool   // it has ended data with close_notify
	size      int64  // of the last upload without,
	sum       uint32 // and its checksum
	careless  bool   // it sends no close_notify for whole uploads
	broken    int    // uploads in a row
	truncated bool   // size and sum are set
}

// get is locked.
func (h *habits) get(c client) *habit {
	if e := h.of[c]; e != nil {
		h.order.MoveToFront(e)
		return e.Value.(*habit)
	}
	if h.of == nil {
		h.of = make(map[client]*list.Element)
	}
	if len(h.of) >= maxClients {
		last := h.order.Back()
		delete(h.of, last.Value.(*habit).client)
		h.order.Remove(last)
	}
	x := &habit{client: c}
	h.of[c] = h.order.PushFront(x)
	return x
}

// whole reports whether data that ended with or without close_notify counts as whole. Empty data proves no habit.
func (h *habits) whole(c client, closeNotify bool, size int64, sum uint32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.get(c)
	switch {
	case closeNotify:
		x.notifies = true
		return true
	case x.careless || !x.notifies:
		return true
	case x.truncated && size > 0 && x.size == size && x.sum == sum:
		x.careless = true
		return true
	}
	x.truncated, x.size, x.sum = true, size, sum
	return false
}

// read notes that the client has read a 226.
func (h *habits) read(c client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.get(c).broken = 0
}

// broke notes an upload that was interrupted or is doubtful by the way in which the client left.
func (h *habits) broke(c client) {
	h.mu.Lock()
	x := h.get(c)
	x.broken++
	warn := x.broken == brokenInARow
	h.mu.Unlock()
	if warn {
		h.log.Warn("a device leaves without having read the reply, so its uploads are taken as interrupted; if it always does that, set trustHangups for its user",
			"user", c.user, "remote", c.addr, "uploads", brokenInARow)
	}
}
