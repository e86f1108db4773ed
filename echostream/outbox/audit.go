package outbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/ftpnode/ftpnode/internal/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// auditing is the state of the audit.
type auditing struct {
	queue    []*waiting
	busy     bool
	paused   bool
	failures int
	trouble  retry.Trouble
}

// startAuditing starts an audit of what is due.
func (o *Outbox) startAuditing(ctx context.Context) {
	a := &o.auditing
	if a.busy || a.paused || len(a.queue) == 0 || o.stopping && a.failures > 0 {
		return
	}
	n := min(len(a.queue), o.opts.AuditBatch)
	batch := a.queue[:n:n]
	if a.queue = a.queue[n:]; len(a.queue) == 0 {
		a.queue = nil
	}
	a.busy = true
	o.calls++
	go o.audit(ctx, batch)
}

// audit has a batch recorded, and notes durably that it was sent if that fails.
func (o *Outbox) audit(ctx context.Context, batch []*waiting) {
	handed := make([]Prepared, 0, len(batch))
	entries := make(map[*waiting]Entry, len(batch))
	var err error
	for _, e := range batch {
		var entry Entry
		if entry, err = o.known(e); err != nil {
			break
		}
		entries[e] = entry
		handed = append(handed, Prepared{Entry: entry, Payload: o.payload(e), Open: func() (disk.File, error) { return o.open(entry) }})
	}
	results := make([]error, len(batch))
	if err == nil {
		err = o.callAudit(ctx, handed)
		if isPermanent(err) && len(batch) > 1 {
			err = nil
			for i := range handed { // one of them spoils it for the others
				results[i] = o.callAudit(ctx, handed[i:i+1])
			}
		}
	}
	if err != nil {
		for i := range results {
			results[i] = err
		}
	}

	o.mu.Lock()
	var again []*waiting
	for i, e := range batch {
		switch {
		case results[i] == nil:
			o.leaving.delivered = append(o.leaving.delivered, e)
		case isPermanent(results[i]):
			e.retries++
			o.setAside(e, failure{Reason: "sent, but its audit record is refused", Error: results[i].Error()})
		default:
			e.retries++
			again = append(again, e)
			err = results[i]
		}
	}
	o.mu.Unlock()
	o.nudge() // what was audited can leave

	// Nothing is to be sent a second time because only its audit was missing.
	o.recordProgress(ctx, again, entries, completed)

	o.mu.Lock()
	defer o.nudge()
	defer o.mu.Unlock()
	a := &o.auditing
	a.busy = false
	o.calls--
	if len(again) == 0 {
		a.failures = 0
		o.report(a.trouble.Over(time.Now(), "Auditing works again").To)
		return
	}
	a.queue = append(again, a.queue...)
	a.failures++
	a.paused = true
	o.pauses.add(o.opts.backoff(a.failures), func() { a.paused = false })
	o.report(a.trouble.Hit(time.Now(), slog.LevelWarn, "Auditing fails"+goesOn, err, "waiting", len(a.queue)).To)
}

func (o *Outbox) payload(e *waiting) any {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.preparing.flights[e]; f != nil {
		return f.payload
	}
	return nil
}

func (o *Outbox) callAudit(ctx context.Context, batch []Prepared) error {
	return guard("Audit", func() error { return o.opts.Deliverer.Audit(ctx, batch) })
}
