package echotest

import (
	"sync"
	"time"
)

// maxSkew is how far from the cloud's time a signature or a log-in's TIMESTAMP may be.
const maxSkew = 5 * time.Minute

// Clock is the cloud's time: the machine's (or Options.Now's), moved by what a test says. It goes on running. Every answer
// tells it in its Date header.
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

// agrees reports whether a client's time is right. As for AWS, it is this clock alone that counts.
func (c *Clock) agrees(t time.Time) bool { return t.Sub(c.Now()).Abs() <= maxSkew }
