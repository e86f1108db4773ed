package outbox

import (
	"log/slog"
	"time"
)

const (
	firstRepeat = time.Minute
	lastRepeat  = 24 * time.Hour
)

// trouble decides what is said about something that keeps failing: the first failure at once, then
// again after pauses that grow, with a count, and one line when it is over. Trouble that comes and goes
// does not start from the beginning each time, so weeks of it do not flood the log.
type trouble struct {
	what string // "Sending fails"
	over string // "Sending works again"

	active bool
	said   bool
	since  time.Time
	count  int
	next   time.Time // not said before
	pause  time.Duration
}

// report is a line that is to be logged once no lock is held.
type report func(log *slog.Logger)

// hit counts a failure. It returns nil if nothing is to be said.
func (t *trouble) hit(now time.Time, err error, args ...any) report {
	if !t.active {
		t.active, t.said, t.since, t.count = true, false, now, 0
		if now.Sub(t.next) > t.pause {
			t.pause = firstRepeat // it was well for longer than the last pause
		}
	}
	t.count++
	if now.Before(t.next) {
		return nil
	}
	t.said, t.next = true, now.Add(t.pause)
	t.pause = min(2*t.pause, lastRepeat)
	args = append(args, "error", err.Error(), "failures", t.count)
	if lasts := now.Sub(t.since).Round(time.Second); lasts > 0 {
		args = append(args, "since", lasts)
	}
	what := t.what
	return func(log *slog.Logger) { log.Warn(what+"; it is tried again until it succeeds", args...) }
}

// ended says that it succeeds again, if anybody was told that it did not.
func (t *trouble) ended(now time.Time, args ...any) report {
	if !t.active {
		return nil
	}
	t.active = false
	if !t.said {
		return nil
	}
	args = append(args, "failures", t.count, "lasted", now.Sub(t.since).Round(time.Millisecond))
	over := t.over
	return func(log *slog.Logger) { log.Info(over, args...) }
}

// report has something logged once o.mu, which is held, is free.
func (o *Outbox) report(r report) {
	if r != nil {
		o.reports = append(o.reports, r)
	}
}

// say logs what was reported. o.mu is not held.
func (o *Outbox) say() {
	o.mu.Lock()
	reports := o.reports
	o.reports = nil
	o.mu.Unlock()
	for _, r := range reports {
		r(o.opts.Log)
	}
}
