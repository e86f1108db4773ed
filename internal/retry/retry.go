// Package retry is what goes on until it succeeds: when it tries again, and what it says meanwhile. Its pauses are measured
// by Go's monotonic clock, which nobody can set. That it stands still while the machine is suspended only makes a pause as
// much longer.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is how long to wait after so many failures in a row: it doubles from first to last, each shortened at
// random by up to half, so that nodes that failed together do not come back together.
func Backoff(failures int, first, last time.Duration) time.Duration {
	d := last
	if shift := max(failures-1, 0); shift < 30 && first < last>>shift {
		d = first << shift
	}
	return d - rand.N(d/2+1)
}

// Sleep waits, and reports whether ctx still lives.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
