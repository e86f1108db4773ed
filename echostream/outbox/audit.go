package outbox

import (
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// auditAll has audited what was sent to all targets, until Run ends.
func (o *Outbox) auditAll() {
	failures := 0
	for {
		batch := o.nextAudit(failures > 0)
		if len(batch) == 0 {
			return
		}
		line, failed := o.finishAudit(batch, o.callAudit(batch))
		line.To(o.opts.Log)
		if failures = inARow(failures, failed, len(batch)); failures > 0 {
			var unaudited []*entry
			o.locked(func() { unaudited = slices.Clone(o.unaudited) })
			if wrote, err := o.note(unaudited, (*entry).toNote); wrote { // if the disk refuses, it goes on: what leaves may be all that can make room
				o.diskOutcome(err)
			}
			o.pause(o.backoff(failures))
		}
	}
}

// nextAudit waits for entries to audit. None: Run ends, or has ended and the last audit failed.
func (o *Outbox) nextAudit(failing bool) []*entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.phase < lastAudit && (len(o.unaudited) == 0 || failing && o.phase == stopping) {
		o.cond.Wait()
	}
	if o.phase >= lastAudit && failing {
		return nil
	}
	n := min(len(o.unaudited), o.opts.AuditBatch)
	batch := o.unaudited[:n:n]
	if o.unaudited = o.unaudited[n:]; len(o.unaudited) == 0 {
		o.unaudited = nil
	}
	return batch
}

func (o *Outbox) callAudit(batch []*entry) []error {
	handed := make([]Prepared, len(batch))
	o.locked(func() {
		for i, e := range batch {
			var payload any
			if p := o.preps[e]; p != nil && p.isDone() {
				payload = p.payload
			}
			handed[i] = o.prepared(e, payload)
		}
	})
	errs := results("Audit", len(handed), func() []error { return o.opts.Deliverer.Audit(o.calls, handed) })
	for i, e := range batch {
		errs[i] = o.readable(e, errs[i], maxUnreadableAudit)
	}
	return errs
}

// finishAudit notes the results of an audit, and counts those that failed.
func (o *Outbox) finishAudit(batch []*entry, results []error) (line retry.Line, failed int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var last error
	for i, e := range batch {
		switch err := results[i]; {
		case err == nil:
			o.leaveAs(e, delivered, nil)
		case retry.IsPermanent(err):
			e.attempts++
			o.setAside(e, failure{Reason: "sent, but its audit record is refused", Error: err.Error()})
		default:
			e.attempts++
			o.unaudited = append(o.unaudited, e) // behind the others: it may be what fails
			failed++
			last = err
		}
	}
	o.cond.Broadcast() // somebody may await what was delivered
	if failed == 0 {
		return o.auditTrouble.Over(time.Now(), "Auditing works again"), 0
	}
	return o.auditTrouble.Hit(time.Now(), retry.LevelOf(last), "Auditing fails"+goesOn, last, "waiting", len(o.unaudited)), failed
}

// auditLate reports whether what was sent is to be noted, since its audit may be out for weeks, or have weeks to catch up with: nothing is to be held
// up, or sent a second time, because only its audit was missing. While the audit keeps up, an entry leaves at once.
func (o *Outbox) auditLate() bool {
	return o.auditTrouble.Failures() > 0 || len(o.unaudited) > o.opts.AuditBatch || o.unsettled > maxUnsettled/2
}

// note makes durable what came of sending those entries that it wants, which may be audited and leave meanwhile. It reports whether there were any.
func (o *Outbox) note(entries []*entry, want func(*entry) bool) (wrote bool, err error) {
	var written, sent []*entry
	var r *round[lines]
	o.locked(func() {
		for _, e := range entries {
			if !want(e) {
				continue
			}
			if written = append(written, e); e.toNote() {
				sent = append(sent, e)
			}
		}
		if len(written) > 0 {
			r = o.write(written...)
		}
	})
	if r == nil {
		return false, nil
	}
	// Protects: a target must not get an entry again because the node forgot that it had it, or because its audit was missing when the node ended.
	if err := o.journal.wait(r); err != nil {
		return true, err
	}
	o.locked(func() {
		for _, e := range sent {
			if e.toNote() {
				e.noted = true
				o.unsettled--
				o.discard(o.preps[e]) // the audit may be out for weeks
			}
		}
		o.cond.Broadcast()
	})
	return true, nil
}

// toNote reports whether e is on its way out and the disk does not know.
func (e *entry) toNote() bool { return !e.noted && e.state >= sent && e.state <= aside }
