package echostream

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot counts the time that the machine was suspended too, which Go's monotonic clock (CLOCK_MONOTONIC) does not.
func sinceBoot() (time.Duration, bool) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}
