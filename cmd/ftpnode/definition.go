package main

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// pace says how often things are tried. Each pause is shortened at random by up to half.
type pace struct {
	// firstRetry and lastRetry bound the growing pauses after a failure.
	firstRetry, lastRetry time.Duration
	// slowRetry is the longest pause after a failure that only a person can end: a wrong password, no such node. Cognito
	// locks out users who fail too often.
	slowRetry time.Duration
	// poll is how often the definition is read again when all is well; a managed node is restarted when it changes, others
	// are not. pollIdle is the same while the node must not or cannot send.
	poll, pollIdle time.Duration
	// patience is how long the start waits for EchoStream before it makes do with the definition that was kept.
	patience time.Duration
}

var defaultPace = pace{
	firstRetry: time.Second, lastRetry: 30 * time.Second, slowRetry: 5 * time.Minute,
	poll: 10 * time.Minute, pollIdle: 30 * time.Second, patience: 2 * time.Second,
}

// definitions reads the node's definition from EchoStream, for as long as the node runs.
type definitions struct {
	read func(context.Context) (*echostream.Definition, error)
	// got is called with each definition that was read.
	got func(*echostream.Definition)
	// failed is called with each failure.
	failed func(error)
	log    *slog.Logger
	pace   pace
	again  chan struct{} // somebody has found out that the definition is out of date
	hurry  func() bool   // reports whether clients wait for EchoStream. By default, none does
}

// readAgain has the definition read soon.
func (d *definitions) readAgain() {
	select {
	case d.again <- struct{}{}:
	default: // it will be
	}
}

// hurried is how often the definition is tried while clients wait for EchoStream.
const hurried = 5 * time.Second

// run reads until ctx ends.
func (d *definitions) run(ctx context.Context) {
	var t retry.Trouble
	var last *echostream.Definition
	failures, unchanged := 0, 0
	for {
		node, err := d.read(ctx)
		if ctx.Err() != nil {
			return
		}
		pause, soonest := time.Duration(0), time.Duration(0)
		if err != nil {
			failures++
			d.failed(err)
			d.say(&t, err)
			longest := d.longest()
			if needsPerson(err) {
				longest = d.pace.slowRetry
			}
			pause = retry.Backoff(failures, d.pace.firstRetry, longest)
			soonest = pause
		} else {
			failures = 0
			t.Over(time.Now(), "EchoStream can be reached again").To(d.log)
			unchanged++
			if !reflect.DeepEqual(node, last) {
				last, unchanged = node, 0
			}
			d.got(node)
			pause = retry.Backoff(1, d.pace.poll, d.pace.poll)
			if node.Stopped || len(node.Targets) == 0 {
				pause = retry.Backoff(1, d.pace.pollIdle, d.pace.pollIdle)
			}
			// An edge that stays out of reach although the definition names it must not have it read over and over.
			soonest = retry.Backoff(unchanged+1, d.pace.firstRetry, d.longest())
		}
		if !d.wait(ctx, soonest, pause) {
			return
		}
	}
}

// longest is the longest pause after a failure.
func (d *definitions) longest() time.Duration {
	if d.hurry != nil && d.hurry() {
		return min(d.pace.lastRetry, hurried)
	}
	return d.pace.lastRetry
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

func needsPerson(err error) bool {
	return errors.Is(err, echostream.ErrConfiguration) || errors.Is(err, echostream.ErrNodeNotFound) || errors.Is(err, echostream.ErrInvalidConfig)
}

func (d *definitions) say(t *retry.Trouble, err error) {
	switch {
	case errors.Is(err, echostream.ErrAppInactive): // which is an ErrConfiguration too
		t.Hit(time.Now(), slog.LevelError, "EchoStream refuses this node's app; look at whether it still exists and is active; trying on", err).To(d.log)
	case errors.Is(err, echostream.ErrConfiguration):
		t.Hit(time.Now(), slog.LevelError, "EchoStream refuses the node's log-in; look at USER_NAME, PASSWORD, CLIENT_ID and USER_POOL_ID; trying on", err).To(d.log)
	case errors.Is(err, echostream.ErrNodeNotFound):
		t.Hit(time.Now(), slog.LevelError, "EchoStream has no such node; look at NAME (or NODE) and TENANT; trying on", err).To(d.log)
	case errors.Is(err, echostream.ErrInvalidConfig):
		t.Hit(time.Now(), slog.LevelError, "the config in EchoStream is not a JSON object; the node waits for one that is", err).To(d.log)
	case echostream.NeedsOperator(err): // its text says what to look at
		t.Hit(time.Now(), slog.LevelError, "EchoStream cannot be reached, and somebody should look at why; trying on", err).To(d.log)
	default:
		t.Hit(time.Now(), slog.LevelWarn, "EchoStream cannot be reached; trying on", err).To(d.log)
	}
}
