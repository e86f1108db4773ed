package outbox

import "log/slog"

// goesOn ends each line about something that keeps failing.
const goesOn = "; it is tried again until it succeeds"

// report is a line that is to be logged once no lock is held.
type report func(log *slog.Logger)

// report has something logged once o.mu, which is held, is free.
func (o *Outbox) report(r report) { o.reports = append(o.reports, r) }

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
