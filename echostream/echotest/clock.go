package echotest

import (
	"sync"
	"time"
)

// maxSkew is how far a client's clock may be off.
const maxSkew = 5 * time.Minute

// Clock is the cloud's time: the machine's (or Options.Now's), moved by what a test says. It goes on running.
// Its methods may be called by several goroutines.
type Clock struct {
	base func() time.Time

	mu      sync.Mutex
	offset  time.Duration
	changed func() // called, without mu, after each move
}

func newClock(base func() time.Time, changed func()) *Clock {
	if base == nil {
		base = time.Now
	}
	return &Clock{base: base, changed: changed}
}

// Now is the cloud's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base().Add(c.offset)
}

// Advance moves the clock on (or back, if d is negative).
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	c.offset += d
	c.mu.Unlock()
	c.changed()
}

// Set makes it t now.
func (c *Clock) Set(t time.Time) {
	c.mu.Lock()
	c.offset = t.Sub(c.base())
	c.mu.Unlock()
	c.changed()
}

// agrees tells whether a client's time is right: by this clock, or by the machine's, since a test moves the one and
// not always the other.
func (c *Clock) agrees(t time.Time) bool {
	return t.Sub(c.Now()).Abs() <= maxSkew || time.Until(t).Abs() <= maxSkew
}
