package outbox

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// phase is how far Run is. Each ends before the next begins, so that what one leaves is done by the next.
type phase int

const (
	idle        phase = iota
	sending           // all of Run's goroutines work
	stopping          // the streams end
	lastAudit         // what they have sent is audited, once more
	lastRemoval       // what is audited leaves, once more
)

// Run delivers until ctx ends. Then it starts nothing new, gives what is under way Options.Grace to
// end, and returns nil. Its error says that it was running already, or that the Deliverer did not
// come back though its context had ended. It can be called again after it has returned.
func (o *Outbox) Run(ctx context.Context) error {
	// The calls under way outlive ctx by the grace.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if err := o.begin(ctx, calls); err != nil {
		return err
	}
	var audits, removals sync.WaitGroup
	audits.Go(o.auditAll)
	removals.Go(o.removeAll)
	defer context.AfterFunc(ctx, func() { o.enterPhase(sending, stopping) })()
	o.askTargets()

	// What the streams have sent is audited, and what is audited leaves.
	end := time.Now().Add(o.opts.Grace)
	await := func(group *sync.WaitGroup) bool {
		if waitFor(group, time.Until(end)) {
			return true
		}
		cancel()
		end = time.Now().Add(time.Second)
		return waitFor(group, time.Until(end))
	}
	for _, step := range []struct {
		group    *sync.WaitGroup
		is, then phase
	}{{&o.streams, stopping, lastAudit}, {&audits, lastAudit, lastRemoval}, {&removals, lastRemoval, idle}} {
		if !await(step.group) {
			return errors.New("outbox: the Deliverer did not come back although its context has ended")
		}
		o.enterPhase(step.is, step.then)
	}
	return nil
}

// waitFor reports whether the group has ended in time.
func waitFor(group *sync.WaitGroup, d time.Duration) bool {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

func (o *Outbox) begin(ctx, calls context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.phase != idle {
		return errors.New("outbox: Run is running already")
	}
	o.phase, o.running, o.calls, o.active = sending, ctx, calls, nil
	o.retargets++
	if ctx.Err() != nil {
		o.phase = stopping
	}
	return nil
}

// enterPhase goes on to the next phase, if Run is in the one before.
func (o *Outbox) enterPhase(from, to phase) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.phase == from {
		o.phase = to
	}
	o.cond.Broadcast()
}

// askTargets asks for the targets whenever they may have changed, until Run's context ends.
func (o *Outbox) askTargets() {
	for failures := 0; ; {
		asked, goOn := o.awaitRetarget()
		if !goOn {
			return
		}
		var names []string
		var targets []targetID
		err := guard("Targets", func() error {
			names, targets = o.opts.Deliverer.Targets(), nil
			for _, name := range names {
				t := targetID{name: name}
				if d, ok := o.opts.Deliverer.(interface{ Identity(target string) string }); ok {
					t.identity = d.Identity(name)
				}
				targets = append(targets, t)
			}
			return nil
		})
		if err != nil {
			failures++
			o.targeting.Hit(time.Now(), slog.LevelWarn, "The targets cannot be told"+goesOn, err).To(o.opts.Log)
			o.pause(o.backoff(failures))
			continue
		}
		failures = 0
		o.targeting.Over(time.Now(), "The targets can be told again").To(o.opts.Log)
		var changed bool
		var entries int
		o.locked(func() {
			changed, entries = o.setTargets(targets), len(o.entries)
			o.retargeted = asked
			o.cond.Broadcast()
		})
		switch {
		case !changed:
		case len(names) == 0:
			o.opts.Log.Warn("No targets: files are kept until there are some", "waiting", entries)
		default:
			o.opts.Log.Info("Sending to targets", "targets", names, "waiting", entries)
		}
	}
}

// awaitRetarget waits until the targets are to be asked for; false: Run's context has ended.
func (o *Outbox) awaitRetarget() (asked int, goOn bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.phase == sending && !o.retargeting() {
		o.cond.Wait()
	}
	return o.retargets, o.phase == sending
}

// retargeting reports whether the targets may be others than those that are known.
func (o *Outbox) retargeting() bool { return o.retargeted != o.retargets }

// diskOutcome notes that work on the disk went well or not.
func (o *Outbox) diskOutcome(err error) {
	var line retry.Line
	o.locked(func() {
		if err != nil {
			line = o.disk.Hit(time.Now(), slog.LevelWarn, "The outbox's disk fails"+goesOn, err)
		} else {
			line = o.disk.Over(time.Now(), "The outbox's disk works again")
		}
	})
	line.To(o.opts.Log)
}
