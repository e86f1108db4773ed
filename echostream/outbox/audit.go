package outbox

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// auditing is the state of the audit.
type auditing struct {
	queue    []*waiting
	busy     bool
	paused   bool
	failures int // in a row
	trouble  retry.Trouble
}

// noting is the state of the notes that entries were sent, which are made while the audit is late: it may be out for weeks, or
// have weeks to catch up with, and nothing is to be held up, or sent a second time, because only its audit was
// missing. While the audit keeps up there are none, since an entry leaves at once.
type noting struct {
	queue    []*waiting // all that wait for their audit and are not noted
	busy     bool
	paused   bool
	failures int
}

// startAuditing starts an audit of what is due. What failed before is noted first; if the disk does not take
// the note, the audit is tried all the same, since entries that leave may be all that can make room on it.
func (o *Outbox) startAuditing(ctx context.Context) {
	a := &o.auditing
	if a.busy || a.paused || o.noting.busy || len(a.queue) == 0 || o.stopping && a.failures > 0 {
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

// audit has a batch recorded.
func (o *Outbox) audit(ctx context.Context, batch []*waiting) {
	results := o.auditEach(ctx, batch)

	o.mu.Lock()
	defer o.nudge() // what was audited can leave
	defer o.mu.Unlock()
	a := &o.auditing
	a.busy = false
	o.calls--
	var again []*waiting
	var err error
	for i, e := range batch {
		switch {
		case results[i] == nil:
			e.audited = true
			o.leaving.delivered = append(o.leaving.delivered, e)
		case isPermanent(results[i]):
			e.retries++
			e.audited = true
			o.setAside(e, failure{Reason: "sent, but its audit record is refused", Error: results[i].Error()})
		default:
			e.retries++
			again = append(again, e)
			err = results[i]
		}
	}
	o.noting.forgetAudited()
	if len(again) == 0 {
		a.failures = 0
		o.report(a.trouble.Over(time.Now(), "Auditing works again").To)
		return
	}
	a.queue = append(a.queue, again...) // behind the others: they may be what fails
	if len(again) == len(batch) {
		a.failures++
	} else {
		a.failures = 1
	}
	a.paused = true
	o.pauses.add(o.opts.backoff(a.failures), func() { a.paused = false })
	o.startNoting()
	o.report(a.trouble.Hit(time.Now(), slog.LevelWarn, "Auditing fails"+goesOn, err, "waiting", len(a.queue)).To)
}

// auditEach gives the result of each entry.
func (o *Outbox) auditEach(ctx context.Context, batch []*waiting) []error {
	results := make([]error, len(batch))
	var handed []Prepared
	var at []int // where in the batch they stand
	for i, e := range batch {
		entry, err := o.known(e)
		if err != nil {
			results[i] = err
			continue
		}
		handed = append(handed, Prepared{Entry: entry, Payload: o.payload(e), Open: func() (disk.File, error) { return o.open(entry) }})
		at = append(at, i)
	}
	if len(handed) == 0 {
		return results
	}
	for n, err := range o.callAudit(ctx, handed) {
		results[at[n]] = err
	}
	return results
}

func (o *Outbox) payload(e *waiting) any {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.preparing.flights[e]; f != nil {
		return f.payload
	}
	return nil
}

func (o *Outbox) callAudit(ctx context.Context, batch []Prepared) []error {
	return results("Audit", len(batch), func() []error { return o.opts.Deliverer.Audit(ctx, batch) })
}

// forgetAudited takes out what leaves: it needs no note.
func (n *noting) forgetAudited() {
	if n.queue = slices.DeleteFunc(n.queue, func(e *waiting) bool { return e.audited }); len(n.queue) == 0 {
		n.queue = nil
	}
}

// auditIsLate tells whether what is sent now would wait long for its audit, or what was sent has: then it is noted,
// well before maxUnsettled stops the sending.
func (o *Outbox) auditIsLate() bool {
	return o.auditing.failures > 0 || len(o.auditing.queue) > o.opts.AuditBatch || len(o.noting.queue) > maxUnsettled/2
}

// startNoting starts to note what is due.
func (o *Outbox) startNoting() {
	n := &o.noting
	if n.busy || n.paused || len(n.queue) == 0 || !o.auditIsLate() || o.stopping && n.failures > 0 {
		return
	}
	// There are more than that only when an edge was removed that many had waited for.
	count := min(len(n.queue), maxUnsettled)
	batch := n.queue[:count:count]
	if n.queue = n.queue[count:]; len(n.queue) == 0 {
		n.queue = nil
	}
	n.busy = true
	o.calls++
	go o.noteSent(batch)
}

// noteSent makes it durable that entries were sent. They may be audited and leave meanwhile.
func (o *Outbox) noteSent(batch []*waiting) {
	wrote, err := o.recordSent(batch)

	o.mu.Lock()
	defer o.nudge() // there is room for more to be sent
	defer o.mu.Unlock()
	n := &o.noting
	n.busy = false
	o.calls--
	if wrote || err != nil {
		o.report(o.leaving.outcome(err).To)
	}
	if err == nil {
		n.failures = 0
		return
	}
	for _, e := range batch {
		if !e.known && !e.audited {
			n.queue = append(n.queue, e)
		}
	}
	n.failures++
	n.paused = true
	o.pauses.add(o.opts.backoff(n.failures), func() { n.paused = false })
}

// recordSent records entries as sent, as many as can be, and tells whether that took a write. An error is that of the others.
func (o *Outbox) recordSent(batch []*waiting) (wrote bool, err error) {
	entries := make(map[*waiting]Entry, len(batch))
	var unread error
	for _, e := range batch {
		entry, err := o.known(e)
		if err == nil {
			entries[e] = entry
			continue
		}
		o.mu.Lock()
		if e.state == completed {
			unread = err
		}
		o.mu.Unlock()
	}
	o.mu.Lock()
	r, err := o.addProgress(batch, entries, func(e *waiting) bool { return e.state == completed && !e.known })
	o.mu.Unlock()
	if r != nil {
		// Protects: no target must get an entry again because its audit was missing when the node ended.
		err = o.journal.wait(r)
	}
	if err != nil {
		return r != nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for e := range entries {
		if e.state == completed && !e.known {
			e.known = true
			o.unsettled--
			o.drop(e) // the audit may be out for weeks
		}
	}
	return r != nil, unread
}
