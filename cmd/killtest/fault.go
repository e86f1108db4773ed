package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// script is a kind of trouble and how often it comes.
type script struct {
	fault  echotest.Fault
	off    echotest.Service // refuses connections instead
	weight int
}

// scripts are all that can go wrong. Partial failures and lost replies come together for no request: the reply to a part
// could not be told.
var scripts = []script{
	{weight: 3, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.ReplyLost}},
	{weight: 3, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.Partial}},
	{weight: 2, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.Partial, Entries: []int{0, 3}}},
	{weight: 2, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.ServerError}},
	{weight: 2, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.Throttled}},
	{weight: 2, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.Down}},
	{weight: 2, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.Slow}},
	{weight: 1, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.ExpiredCredentials}},
	{weight: 1, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.EdgeRemoved}},
	{weight: 1, fault: echotest.Fault{Service: echotest.SQS, Kind: echotest.Denied}},
	{weight: 1, off: echotest.SQS},
	{weight: 2, fault: echotest.Fault{Service: echotest.S3, Kind: echotest.ServerError}},
	{weight: 1, fault: echotest.Fault{Service: echotest.S3, Kind: echotest.Throttled}},
	{weight: 1, fault: echotest.Fault{Service: echotest.S3, Kind: echotest.Down}},
	{weight: 1, fault: echotest.Fault{Service: echotest.S3, Kind: echotest.Slow}},
	{weight: 1, fault: echotest.Fault{Service: echotest.S3, Kind: echotest.ReplyLost}},
	{weight: 2, fault: echotest.Fault{Service: echotest.S3, Kind: echotest.ExpiredURL}},
	{weight: 1, off: echotest.S3},
	{weight: 1, fault: echotest.Fault{Service: echotest.Audit, Kind: echotest.ServerError}},
	{weight: 1, fault: echotest.Fault{Service: echotest.Audit, Kind: echotest.ReplyLost}},
	{weight: 1, fault: echotest.Fault{Service: echotest.Audit, Kind: echotest.ExpiredCredentials}},
	{weight: 1, fault: echotest.Fault{Service: echotest.Audit, Kind: echotest.Throttled}},
	{weight: 1, fault: echotest.Fault{Service: echotest.AppSync, Kind: echotest.ServerError}},
	{weight: 1, fault: echotest.Fault{Service: echotest.AppSync, Kind: echotest.ExpiredToken}},
	{weight: 1, fault: echotest.Fault{Service: echotest.AppSync, Kind: echotest.Denied}},
	{weight: 1, off: echotest.AppSync},
	{weight: 1, fault: echotest.Fault{Service: echotest.Cognito, Kind: echotest.ServerError}},
	{weight: 1, fault: echotest.Fault{Service: echotest.Cognito, Kind: echotest.ExpiredToken}},
	{weight: 1, off: echotest.Cognito},
}

// makeTrouble lets one thing after another go wrong until ctx ends, with quiet times in between.
func (c *cloud) makeTrouble(ctx context.Context, r *rand.Rand) {
	var all []script
	for _, s := range scripts {
		for range s.weight {
			all = append(all, s)
		}
	}
	between := func(from, to time.Duration) time.Duration { return from + time.Duration(r.Int64N(int64(to-from))) }
	for ctx.Err() == nil {
		pause(ctx, between(10*time.Millisecond, 400*time.Millisecond))
		s := all[r.IntN(len(all))]
		lasts := between(50*time.Millisecond, 800*time.Millisecond)
		if s.off != "" {
			c.Off(s.off)
			pause(ctx, lasts)
			c.On(s.off)
			continue
		}
		f := s.fault
		f.Seed, f.Probability = r.Uint64(), []float64{1, 1, 0.5, 0.2}[r.IntN(4)]
		delay, status := between(5*time.Millisecond, 300*time.Millisecond), []int{500, 502, 503}[r.IntN(3)]
		switch f.Kind {
		case echotest.Slow:
			f.Delay = delay
		case echotest.ServerError:
			f.Status = status
		}
		if f.Service == echotest.SQS && r.IntN(3) == 0 {
			f.Edge = targets[r.IntN(len(targets))]
		}
		set := c.Fault(f)
		pause(ctx, lasts)
		set.Clear()
	}
}

// pause waits, until ctx ends at the latest.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
