package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// maxUnsettled bounds how many entries may have been sent to all targets without the disk knowing: so
// many may be sent a second time, with the same tracking id, after a power cut.
const maxUnsettled = 500

// setTargets takes the targets of now over.
func (o *Outbox) setTargets(names []string) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	same := slices.EqualFunc(o.active, names, func(t *target, name string) bool { return t.name == name })
	first := !o.asked
	o.asked = true
	if same && !first {
		return
	}
	for _, t := range o.active {
		t.active = false
	}
	o.active = nil
	for _, name := range names {
		t := o.target(name)
		t.active = true
		o.active = append(o.active, t)
	}
	for _, t := range o.targets {
		if !t.active {
			for _, s := range t.ready {
				s.state = idle
			}
			t.ready = nil
		}
	}
	for e := o.waiting.first; e != nil; e = e.next {
		if e.state == queued && o.settledForAll(e) {
			o.complete(e)
		}
	}
	for _, l := range o.lanes {
		for _, t := range o.active {
			l.stream(t).wake()
		}
	}
	waiting := o.stats.Entries
	o.report(func(log *slog.Logger) {
		if len(names) == 0 {
			log.Warn("No targets: files are kept until there are some", "waiting", waiting)
		} else {
			log.Info("Sending to targets", "targets", names, "waiting", waiting)
		}
	})
}

// startSending starts what may be sent now.
func (o *Outbox) startSending(ctx context.Context) {
	for _, t := range o.active {
		limit := o.opts.Workers
		if t.failures >= limit {
			limit = 1 // one lane at a time finds out whether it works again
		}
		for len(t.ready) > 0 && t.busy < limit && !t.blocked && o.unsettled < maxUnsettled {
			s := t.ready[0]
			t.ready = t.ready[1:]
			if batch := o.collect(s); len(batch) > 0 {
				o.startBatch(ctx, s, batch)
			}
		}
	}
}

// collect finds the next batch of a stream, and has it and the one after it prepared. If there is none
// yet, the stream is left idle or parked.
func (o *Outbox) collect(s *stream) (batch []*waiting) {
	l, t := s.lane, s.target
	s.pos = max(s.pos, l.base)
	for s.pos < l.end() {
		if e := l.at(s.pos); e != nil && !e.settledFor(t) {
			break
		}
		s.pos++
	}
	end := l.end()
	if s.pos < s.tried {
		// What failed goes again before anything that comes after it.
		end = min(end, s.tried)
	}
	var (
		wanted int
		bytes  int64
		full   bool // nothing is added to the batch any more
		wait   bool // for the preparation of a small file
	)
	for i := s.pos; i < end && wanted < 2*o.opts.Batch; i++ {
		e := l.at(i)
		if e == nil || e.settledFor(t) {
			continue
		}
		wanted++
		f := o.want(e)
		if full {
			continue
		}
		switch {
		case f.state != prepared:
			full = true
			wait = sizeClass(e.size) == 0 && f.failures == 0 && (f.state == underway || !o.preparing.full)
		case len(batch) > 0 && bytes+f.weight > o.opts.BatchBytes:
			full = true
		default:
			batch = append(batch, e)
			bytes += f.weight
			full = len(batch) == o.opts.Batch
		}
	}
	switch {
	case wanted == 0:
		s.state = idle
		return nil
	case wait || len(batch) == 0:
		s.state = parked
		return nil
	}
	return batch
}

func (o *Outbox) startBatch(ctx context.Context, s *stream, batch []*waiting) {
	s.state = busy
	s.target.busy++
	s.tried = max(s.tried, batch[len(batch)-1].index+1)
	handed := make([]Prepared, len(batch))
	flights := make([]*flight, len(batch))
	for i, e := range batch {
		flights[i] = o.preparing.flights[e]
		flights[i].refs++
		handed[i] = o.prepared(flights[i])
	}
	o.calls++
	go o.send(ctx, s, batch, flights, handed)
}

func (o *Outbox) prepared(f *flight) Prepared {
	entry := f.entry
	return Prepared{Entry: entry, Payload: f.payload, Open: func() (disk.File, error) { return o.open(entry) }}
}

// send hands one batch to one target and sees to it that what came of it is durable before the
// stream goes on.
func (o *Outbox) send(ctx context.Context, s *stream, batch []*waiting, flights []*flight, handed []Prepared) {
	results := o.callSend(ctx, s.target.name, handed)
	stopped := ctx.Err() != nil

	o.mu.Lock()
	failed := o.apply(s, batch, flights, results)
	for i, e := range batch {
		o.release(e, flights[i])
	}
	o.mu.Unlock()
	o.nudge() // what is complete can leave

	entries := make(map[*waiting]Entry, len(batch))
	for i, e := range batch {
		if results[i] == nil || isPermanent(results[i]) {
			entries[e] = handed[i].Entry
		}
	}
	o.recordProgress(ctx, batch, entries)

	o.mu.Lock()
	o.finishBatch(s, failed, len(failed) == len(batch), stopped)
	o.mu.Unlock()
	o.nudge()
}

// sendError is a failed attempt.
type sendError struct {
	entry *waiting
	name  string
	err   error
}

// apply notes the results of a batch, and gives those that are to be tried again.
func (o *Outbox) apply(s *stream, batch []*waiting, flights []*flight, results []error) (failed []sendError) {
	for i, e := range batch {
		err := results[i]
		switch {
		case err == nil:
			o.settle(e, s.target)
		case isPermanent(err):
			e.retries++
			if o.settle(e, s.target) {
				o.refusals[e] = append(o.refusals[e], refusal{s.target.name, err.Error()})
			}
		default:
			e.retries++
			failed = append(failed, sendError{e, flights[i].entry.Name, err})
			if isStale(err) {
				o.stale(e, flights[i])
			}
			continue
		}
		switch {
		case e.state != queued:
		case o.settledForAll(e):
			o.complete(e)
		case !o.nearTurn(e):
			o.drop(e)
		}
	}
	return failed
}

// stale has the payload made anew.
func (o *Outbox) stale(e *waiting, f *flight) {
	if o.preparing.flights[e] == f {
		o.strip(f)
	}
}

// nearTurn tells whether some target will want e soon, or would if it were not in trouble.
func (o *Outbox) nearTurn(e *waiting) bool {
	for _, s := range e.lane.streams {
		if s.target.active && !e.settledFor(s.target) && e.index < s.pos+2*uint64(o.opts.Batch) {
			return true
		}
	}
	return false
}

// finishBatch lets the stream go on, at once or after a pause.
func (o *Outbox) finishBatch(s *stream, failed []sendError, all, stopped bool) {
	t := s.target
	t.busy--
	o.calls--
	if len(failed) == 0 {
		t.failures = 0
		if s.failures > 0 {
			s.failures = 0
			t.suffers--
		}
		if t.suffers == 0 {
			o.report(t.trouble.Over(time.Now(), "Sending works again", "target", t.name).To)
		}
		s.makeReady()
		o.forget(s.lane)
		return
	}
	if stopped {
		s.makeReady()
		return
	}
	o.retarget = true // the edges may have changed
	if s.failures == 0 {
		t.suffers++
	}
	if all {
		s.failures++
		t.failures++
	} else {
		s.failures, t.failures = 1, 0
	}
	s.state = paused
	o.pauses.add(o.opts.backoff(s.failures), func() {
		if s.state == paused {
			s.makeReady()
			o.forget(s.lane)
		}
	})
	if t.failures >= o.opts.Workers && !t.blocked {
		// It fails for all lanes: probe instead of trying each of them.
		t.blocked = true
		o.pauses.add(o.opts.backoff(t.failures-o.opts.Workers+1), func() { t.blocked = false })
	}
	first := failed[0]
	o.report(t.trouble.Hit(time.Now(), slog.LevelWarn, "Sending fails"+goesOn, first.err, "target", t.name, "trackingId", first.entry.id.String(), "name", first.name).To)
}

// recordProgress makes what came of a Send durable for the entries that have more targets to wait for. It goes on
// until it succeeds or ctx ends.
func (o *Outbox) recordProgress(ctx context.Context, batch []*waiting, entries map[*waiting]Entry) {
	for failures := 1; ; failures++ {
		o.mu.Lock()
		r, err := o.addProgress(batch, entries, func(e *waiting) bool { return e.state == queued })
		o.mu.Unlock()
		if r == nil && err == nil {
			return
		}
		if err == nil {
			// Protects: a target must not get an entry again because the node forgot that it had it.
			err = o.journal.wait(r)
		}
		o.mu.Lock()
		o.report(o.leaving.outcome(err).To)
		o.mu.Unlock()
		o.nudge()
		if err == nil || !retry.Sleep(ctx, o.opts.backoff(failures)) {
			return
		}
	}
}

// addProgress adds a line for each of the entries that is to be recorded; nil if there is none. o.mu is held.
func (o *Outbox) addProgress(batch []*waiting, entries map[*waiting]Entry, record func(*waiting) bool) (*round[lines], error) {
	var additions []addition
	for _, e := range batch {
		entry, ok := entries[e]
		if !ok || !record(e) {
			continue
		}
		text, err := o.line(e, entry)
		if err != nil {
			return nil, err
		}
		additions = append(additions, addition{e, text})
	}
	if len(additions) == 0 {
		return nil, nil
	}
	return o.journal.add(additions), nil
}

func (o *Outbox) callSend(ctx context.Context, target string, batch []Prepared) []error {
	return results("Send", len(batch), func() []error { return o.opts.Deliverer.Send(ctx, target, slices.Clone(batch)) })
}

// results calls a method of the Deliverer that gives a result for each of n entries.
func results(method string, n int, call func() []error) (errs []error) {
	err := guard(method, func() error {
		errs = call()
		return nil
	})
	if err == nil && len(errs) != n {
		err = fmt.Errorf("the Deliverer's %s gave %d results, expected %d", method, len(errs), n)
	}
	if err != nil {
		errs = slices.Repeat([]error{err}, n)
	}
	return errs
}
