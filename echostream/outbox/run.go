package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Run delivers until ctx ends. Then it starts nothing new, gives what is under way Options.Grace to
// end, and returns nil. Its error says that it was running already, or that the Deliverer did not
// come back though its context had ended. It can be called again after it has returned.
func (o *Outbox) Run(ctx context.Context) error {
	o.mu.Lock()
	if o.running {
		o.mu.Unlock()
		return errors.New("outbox: Run is running already")
	}
	o.running, o.stopping, o.retarget = true, false, true
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.running = false
		o.mu.Unlock()
		o.say()
	}()

	// The calls under way outlive ctx by the grace.
	calls, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	for ctx.Err() == nil {
		o.askTargets()
		next := o.step(ctx, calls)
		o.say()
		o.rest(ctx, next)
	}
	return o.stop(ctx, calls, cancel)
}

// stop lets what is under way end.
func (o *Outbox) stop(ctx, calls context.Context, cancel func()) error {
	o.mu.Lock()
	o.stopping = true
	o.noting.failures, o.noting.paused = 0, false // once more, whatever the disk did before
	o.mu.Unlock()
	deadline := time.Now().Add(o.opts.Grace)
	for {
		o.mu.Lock()
		o.start(ctx, calls)
		under := o.calls // under one lock: what ends between the two would leave its work undone
		o.mu.Unlock()
		o.say()
		if under == 0 {
			return nil
		}
		if !time.Now().Before(deadline) {
			if calls.Err() != nil {
				return fmt.Errorf("outbox: %d calls did not end with their context", under)
			}
			cancel()
			deadline = time.Now().Add(time.Second)
		}
		o.rest(context.Background(), deadline)
	}
}

// rest waits until there is something to do, until next at the latest if that is not zero.
func (o *Outbox) rest(ctx context.Context, next time.Time) {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(time.Until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-o.kick:
	case <-due:
	}
}

// step ends the pauses that are over, starts all that can be started now, and tells when to look again at the latest.
func (o *Outbox) step(ctx, calls context.Context) (next time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	next, _ = o.pauses.endDue(time.Now())
	o.start(ctx, calls)
	return next
}

// start starts all that can be started now. o.mu is held.
func (o *Outbox) start(ctx, calls context.Context) {
	if !o.stopping {
		o.startSending(calls)
		o.startPreparing(ctx)
		if o.preparing.full {
			o.sendHeld()
			o.startSending(calls)
		}
	}
	o.startAuditing(calls)
	o.startNoting()
	o.startLeaving()
}

// askTargets asks for the targets if they may have changed.
func (o *Outbox) askTargets() {
	o.mu.Lock()
	ask := o.retarget
	o.retarget = false
	o.mu.Unlock()
	if !ask {
		return
	}
	var names []string
	err := guard("Targets", func() error {
		names = o.opts.Deliverer.Targets()
		return nil
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.setTargets(names)
		o.report(o.targeting.Over(time.Now(), "The targets can be told again").To)
		return
	}
	o.report(o.targeting.Hit(time.Now(), slog.LevelWarn, "The targets cannot be told"+goesOn, err).To)
	o.pauses.add(o.opts.backoff(o.targeting.Failures()), func() { o.retarget = true })
}
