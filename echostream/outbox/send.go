package outbox

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

const (
	// maxUnsettled bounds how many entries may have been sent to all targets without the disk knowing: so
	// many may be sent a second time, with the same tracking id, after a power cut.
	maxUnsettled = 500
	// maxLag is how many entries a stream may be behind another one of its lane and still find their payloads made.
	maxLag = 100
	// unknownFor is how long after an attempt whose outcome is not known all pauses are short.
	unknownFor = 5 * time.Minute
	// gatherFor is how long after the beginning of a Send the next one of its stream waits for a full batch: a target that is near answers before
	// a second file is due, and each Send and each removal costs as much for one as for ten.
	gatherFor = 10 * time.Millisecond
)

// runStream sends what a lane has for a target until there is nothing more, or it is the turn of another lane.
func (o *Outbox) runStream(s *stream) {
	failures := 0
	var unknown time.Time // the last attempt whose outcome is not known
	for turn := 0; ; turn++ {
		urgent := time.Since(unknown) < unknownFor
		b := o.nextBatch(s, turn > 0 && failures == 0)
		if b == nil {
			return
		}
		results, began := []error{b[0].err}, time.Now()
		if b[0].err == nil {
			entered := false
			if b, entered = o.enterWith(s, b, urgent); !entered {
				return
			}
			var err error
			switch b, err = o.attempt(b); {
			case len(b) == 0:
				o.locked(func() { s.target.gate.giveBack(); o.cond.Broadcast() })
				continue
			case err != nil:
				results = slices.Repeat([]error{err}, len(b))
			default:
				results = o.callSend(s.target.name, b)
			}
		}
		settled, failed, line := o.finish(s, b, results)
		line.To(o.opts.Log)
		if len(failed) == 0 {
			o.gather(s, began, settled)
		}
		o.noteProgress(s, settled)
		if failures = inARow(failures, len(failed), len(b)); failures == 0 {
			continue
		}
		if slices.ContainsFunc(failed, retry.IsUnknown) {
			unknown = time.Now()
		}
		pause := o.backoff(failures)
		if time.Since(unknown) < unknownFor {
			pause = min(pause, maxUnknownPause)
		}
		o.locked(func() { s.nextTry = time.Now().Add(pause) })
		o.pause(pause)
	}
}

// gather waits until a Send that began then is gatherFor ago; not so long if there is enough for the next one, and other targets have taken what it sent, so
// that it leaves and needs no note; nor if its audit is late, or another lane's turn has come.
func (o *Outbox) gather(s *stream, began time.Time, sent []*entry) {
	left := time.Until(began.Add(gatherFor))
	if left <= 0 {
		return
	}
	o.pauseUntil(left, func() bool {
		if len(s.target.ready) > 0 || o.auditLate() {
			return true
		}
		next := s.upcoming(o.opts.Batch)
		var bytes int64
		for _, e := range next {
			if e.tentative != nil {
				return true // its sender is kept waiting
			}
			bytes += estimate(e.size)
		}
		return (len(next) == o.opts.Batch || bytes >= o.opts.BatchBytes) && !slices.ContainsFunc(sent, (*entry).unnoted)
	})
}

// nextBatch waits for the stream's next batch: what one call of Send gets, entries of one lane, in order, with their payloads; or one alone that could not be
// prepared. nil: there is none, and the stream has ended.
func (o *Outbox) nextBatch(s *stream, mayYield bool) []*preparation {
	for {
		b := o.claimBatch(s, mayYield)
		if b == nil {
			return nil
		}
		ready := 1
		if sizeClass(b[0].entry.size) > 0 && !b[0].isDone() { // it may take hours, if bulk storage is away
			o.locked(func() { o.release(b[1:]) })
			<-b[0].done
			o.locked(func() { b = append(b[:1], o.hold(b[1:])...) })
		}
		<-b[0].done
		for ready < len(b) && (sizeClass(b[ready].entry.size) == 0 || b[ready].isDone()) { // no wait for a large one behind the first
			<-b[ready].done
			ready++
		}
		if b = o.trim(b, ready); len(b) > 0 {
			return b
		}
	}
}

// enterWith waits until a batch may go to the target; false: Run ends, and so has the stream. Meanwhile the batch's payloads may make room for others': the
// streams to a target in trouble, which wait for long, would hold all the room there is, and with it all other targets. Those that are gone
// leave the batch, with what is behind them.
func (o *Outbox) enterWith(s *stream, b []*preparation, urgent bool) (left []*preparation, entered bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := &s.target.gate
	if !g.lets(urgent) {
		o.release(b)
		if !o.awaitGate(g, urgent) {
			o.endStream(s)
			return nil, false
		}
		b = o.hold(b)
	}
	g.take()
	return b, true
}

// trim leaves what one call of Send takes of the first n, or the first one alone if it could not be prepared.
func (o *Outbox) trim(b []*preparation, n int) []*preparation {
	o.mu.Lock()
	defer o.mu.Unlock()
	fits := 0
	var bytes int64
	for fits < n {
		p := b[fits]
		if p.entry.state != due || p.err != nil || fits > 0 && bytes+p.weight > o.opts.BatchBytes {
			break
		}
		bytes += p.weight
		fits++
	}
	if fits == 0 && b[0].entry.state == due {
		fits = 1
	}
	o.release(b[fits:])
	return b[:fits]
}

// claimBatch waits until the stream may go on, and starts the preparation of its next entries, of two batches if there is room.
// nil: there is nothing to do, and the stream has ended.
func (o *Outbox) claimBatch(s *stream, mayYield bool) (b []*preparation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if mayYield && len(s.target.ready) > 0 {
			o.endStream(s) // and begins anew behind them
			return nil
		}
		next := s.upcoming(2 * o.opts.Batch)
		if o.phase != sending || !s.target.active || len(next) == 0 {
			o.endStream(s)
			return nil
		}
		if o.unsettled < maxUnsettled && !o.refused {
			for i, e := range next {
				p := o.want(e)
				if p == nil {
					break
				}
				if i >= o.opts.Batch {
					p.refs-- // made ahead
					continue
				}
				b = append(b, p)
			}
			if len(b) > 0 {
				return b
			}
		}
		o.cond.Wait()
	}
}

func (o *Outbox) callSend(target string, b []*preparation) []error {
	handed := make([]Prepared, len(b))
	o.locked(func() {
		for i, p := range b {
			handed[i] = o.prepared(p.entry, p.payload)
		}
	})
	return results("Send", len(handed), func() []error { return o.opts.Deliverer.Send(o.calls, target, handed) })
}

// prepared is e for the Deliverer.
func (o *Outbox) prepared(e *entry, payload any) Prepared {
	return Prepared{Entry: o.public(e), Payload: payload, Open: func() (disk.File, error) { return o.open(e) }}
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

// finish takes in the results of an attempt. It returns the entries that the target has taken or refused, and the errors of those that are to be
// tried again.
func (o *Outbox) finish(s *stream, b []*preparation, results []error) (settled []*entry, failed []error, line retry.Line) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.phase == sending && o.retargeting() {
		o.cond.Wait() // an entry must not leave without a target that came meanwhile
	}
	t := s.target
	for i, p := range b {
		e, err := p.entry, results[i]
		switch {
		case err == nil:
			e.settle(t)
			t.acknowledged = time.Now()
		case retry.IsPermanent(err):
			e.attempts++
			e.refuse(t, err.Error())
		default:
			e.attempts++
			failed = append(failed, err)
			if retry.IsStale(err) {
				o.discard(p)
			}
			continue
		}
		settled = append(settled, e)
		if e.state == due && !o.retargeting() && o.settledForAll(e) {
			o.complete(e)
		}
	}
	if b[0].err == nil {
		s.tried = max(s.tried, b[len(b)-1].entry.place)
		o.leave(&t.gate, len(failed) < len(b))
	}
	o.release(b)
	o.discardDistant(s, b)
	if len(failed) == 0 || o.phase != sending {
		if o.suffer(s, nil); t.suffers == 0 {
			line = t.trouble.Over(time.Now(), "Sending works again", "target", t.name)
		}
		return settled, failed, line
	}
	o.suffer(s, failed[0])
	o.retargets++ // the edges may have changed
	o.cond.Broadcast()
	what := "Sending fails"
	if b[0].err != nil {
		what = "Preparing files fails"
	}
	first := b[slices.IndexFunc(results, func(err error) bool { return err != nil && !retry.IsPermanent(err) })].entry
	return settled, failed, t.trouble.Hit(time.Now(), retry.LevelOf(failed[0]), what+goesOn, failed[0], "target", t.name, "trackingId", first.id.String(), "name", first.name)
}

// discardDistant forgets the payloads that no other stream will need soon.
func (o *Outbox) discardDistant(s *stream, b []*preparation) {
	var reach uint64 // the last place that another stream is near to
	for _, other := range s.lane.streams {
		if other == s || !other.target.active {
			continue
		}
		room := o.opts.Memory / 4
		for _, e := range other.upcoming(maxLag) {
			if room -= estimate(e.size); room < 0 {
				break
			}
			reach = max(reach, e.place)
		}
	}
	for _, p := range b {
		if p.entry.state == due && p.entry.settledFor(s.target) && p.refs == 0 && p.entry.place > reach {
			o.discard(p)
		}
	}
}

// goesOn ends each line about something that keeps failing.
const goesOn = "; it is tried again until it succeeds"

// complete takes an entry out of its lane: all targets have it, or will never take it.
func (o *Outbox) complete(e *entry) {
	if refused := e.refused(); len(refused) > 0 {
		o.setAside(e, failure{Reason: "refused by target " + refused[0].Target, Error: refused[0].Error})
		return
	}
	o.leaveLane(e)
	e.state = sent
	o.unsettled++
	o.unaudited = append(o.unaudited, e)
	o.cond.Broadcast()
}

// noteProgress makes what came of a Send durable: for the entries that have more targets to wait for, and, if the stream has more to send or the audit is
// late, for those that have not left meanwhile. So a disk that fails has one batch sent again, not more. It goes on until there is nothing to note or
// Run ends. An attempt that settled none writes nothing: a target may refuse for weeks.
func (o *Outbox) noteProgress(s *stream, entries []*entry) {
	want := func(e *entry) bool {
		return e.inProgress() || e.toNote() && (len(s.upcoming(1)) > 0 || o.auditLate())
	}
	settled := func() bool { return !slices.ContainsFunc(entries, (*entry).unnoted) }
	for failures := 1; ; failures++ {
		wrote, err := o.note(entries, want)
		if wrote {
			o.diskOutcome(err)
		}
		if err == nil || !o.pauseUntil(o.backoff(failures), settled) {
			return
		}
	}
}

// inProgress reports whether some targets have e and others have not.
func (e *entry) inProgress() bool { return e.state == due && e.answers != nil }

// unnoted reports whether the disk does not know what came of e's last Send.
func (e *entry) unnoted() bool { return e.inProgress() || e.toNote() }

// setTargets replaces the current targets.
func (o *Outbox) setTargets(targets []targetID) (changed bool) {
	slices.SortFunc(targets, func(a, b targetID) int { return cmp.Compare(a.name, b.name) })
	targets = slices.Compact(targets)
	if o.active != nil && slices.EqualFunc(o.active, targets, func(t *target, id targetID) bool { return t.targetID == id }) {
		return false
	}
	for _, t := range o.targets {
		t.active = false
	}
	o.active = []*target{}
	for _, id := range targets {
		t := o.target(id)
		t.active = true
		o.active = append(o.active, t)
	}
	for _, t := range o.targets {
		if !t.active {
			for _, s := range t.ready {
				s.running = false
			}
			t.ready = nil
		}
	}
	for _, e := range o.entries {
		if e.state == due && o.settledForAll(e) {
			o.complete(e)
		}
	}
	for _, l := range o.lanes {
		o.wakeLane(l)
	}
	return true
}
