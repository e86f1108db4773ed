package node

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// Pace is how often things are tried; a zero field has its default. Each pause is shortened at random by up to half, so that nodes that failed together
// do not come back together.
type Pace struct {
	// FirstRetry and LastRetry bound the growing pauses after a failure. By default, 1 s and 30 s.
	FirstRetry, LastRetry time.Duration
	// SlowRetry is the longest pause after a failure that only a person can end: a wrong password, no such node; Cognito
	// locks out users who fail too often. So is it between attempts to deliver. By default, 5 min.
	SlowRetry time.Duration
	// Poll is how often the definition is read again when all is well; a managed node is restarted when it changes, others
	// are not. PollIdle is the same while the node must not or cannot send. By default, 10 min and 30 s.
	Poll, PollIdle time.Duration
	// Patience is how long the start waits for EchoStream before it makes do with the definition that was kept. By default, 2 s.
	Patience time.Duration
}

func (p Pace) withDefaults() Pace {
	for _, d := range []struct {
		field     *time.Duration
		byDefault time.Duration
	}{
		{&p.FirstRetry, time.Second}, {&p.LastRetry, 30 * time.Second}, {&p.SlowRetry, 5 * time.Minute},
		{&p.Poll, 10 * time.Minute}, {&p.PollIdle, 30 * time.Second}, {&p.Patience, 2 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.byDefault
		}
	}
	return p
}

// hurried is how often the definition is tried while devices wait for EchoStream.
const hurried = 5 * time.Second

// definitions reads the node's definition from EchoStream, for as long as the node runs.
type definitions struct {
	read func(context.Context) (*echostream.Definition, error)
	// got is called with each definition that was read.
	got func(*echostream.Definition)
	// failed is called with each failure.
	failed func(error)
	// idle reports whether the node has nothing to do by a definition.
	idle func(*echostream.Definition) bool
	// waits reports whether devices wait for EchoStream.
	waits func() bool
	log   *slog.Logger
	pace  Pace
	again chan struct{} // somebody has found out that the definition is out of date
}

// readAgain has the definition read soon.
func (d *definitions) readAgain() {
	select {
	case d.again <- struct{}{}:
	default: // it will be
	}
}

// run reads until ctx ends.
func (d *definitions) run(ctx context.Context) {
	reading := retry.Loop{
		Log: d.log, Fails: describe, Works: "EchoStream can be reached again",
		First: d.pace.FirstRetry, Longest: d.longest,
	}
	var last *echostream.Definition
	for unchanged := 1; ; unchanged++ {
		var definition *echostream.Definition
		err := reading.Until(ctx, func() (err error) {
			if definition, err = d.read(ctx); err != nil && ctx.Err() == nil {
				d.failed(err)
			}
			return err
		})
		if err != nil || ctx.Err() != nil {
			return
		}
		if !reflect.DeepEqual(definition, last) {
			last, unchanged = definition, 0
		}
		d.got(definition)
		poll := d.pace.Poll
		if d.idle(definition) {
			poll = d.pace.PollIdle
		}
		// An edge that stays out of reach although the definition names it must not have it read over and over.
		soonest := retry.Backoff(unchanged+1, d.pace.FirstRetry, d.longest(nil))
		if !d.wait(ctx, soonest, retry.Backoff(1, poll, poll)) {
			return
		}
	}
}

// longest is the longest pause after a failure.
func (d *definitions) longest(err error) time.Duration {
	switch {
	case errors.Is(err, echostream.ErrConfiguration), errors.Is(err, echostream.ErrNodeNotFound), errors.Is(err, echostream.ErrInvalidConfig):
		return d.pace.SlowRetry
	case d.waits():
		return min(d.pace.LastRetry, hurried)
	}
	return d.pace.LastRetry
}

// wait waits for pause, or if somebody asks for soonest only.
func (d *definitions) wait(ctx context.Context, soonest, pause time.Duration) bool {
	if !retry.Sleep(ctx, min(soonest, pause)) {
		return false
	}
	rest := time.NewTimer(pause - min(soonest, pause))
	defer rest.Stop()
	select {
	case <-rest.C:
		return true
	case <-d.again:
		return true
	case <-ctx.Done():
		return false
	}
}

// describe says what it means that the definition cannot be read, and what to look at.
func describe(err error) (slog.Level, string) {
	switch {
	case errors.Is(err, echostream.ErrAppInactive): // which is an ErrConfiguration too
		return slog.LevelError, "EchoStream refuses this node's app; look at whether it still exists and is active; retrying"
	case errors.Is(err, echostream.ErrConfiguration):
		return slog.LevelError, "EchoStream refuses the node's log-in; look at USER_NAME, PASSWORD, CLIENT_ID and USER_POOL_ID; retrying"
	case errors.Is(err, echostream.ErrNodeNotFound):
		return slog.LevelError, "EchoStream has no such node; look at NAME (or NODE) and TENANT; retrying"
	case errors.Is(err, echostream.ErrInvalidConfig):
		return slog.LevelError, "the config in EchoStream is not a JSON object; the node waits for one that is"
	case echostream.NeedsOperator(err): // its text says what to look at
		return slog.LevelError, "EchoStream cannot be used by this node, and somebody should look at why; retrying"
	}
	return slog.LevelWarn, "EchoStream cannot be reached; retrying"
}
