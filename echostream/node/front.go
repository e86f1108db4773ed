package node

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// wanted is what the bridge serves by. A change of it has the bridge called again.
type wanted[C any] struct {
	known  bool // the definition
	config C
	ports  map[int]int
}

// front calls the bridge, again and again.
type front[C any] struct {
	node   *Node
	bridge Bridge[C]
	pace   Pace

	mu      sync.Mutex
	trouble error // of the last call, until one works
	wanted  wanted[C]
	changed chan struct{} // closed and replaced with each change; nil before the first
}

// use changes what is served by.
func (f *front[C]) use(w wanted[C]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed != nil {
		if reflect.DeepEqual(w, f.wanted) {
			return
		}
		close(f.changed)
	}
	f.wanted, f.changed = w, make(chan struct{})
}

func (f *front[C]) current() (wanted[C], <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wanted, f.changed
}

// refuses says why the bridge takes nothing; "" if nothing is known to keep it from that.
func (f *front[C]) refuses() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !f.wanted.known:
		return "the node does not know its definition yet, and EchoStream has not given it"
	case f.trouble != nil:
		return f.bridge.Name + " cannot serve: " + f.trouble.Error()
	}
	return ""
}

func (f *front[C]) worked(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = err
}

// run serves until ctx ends and the bridge has returned. use must have been called before.
func (f *front[C]) run(ctx context.Context) {
	serving := retry.Loop{
		Log: f.node.Log, Fails: retry.Fails(slog.LevelError, f.bridge.Name+" cannot serve; retrying"), Works: f.bridge.Name + " serves again",
		First: f.pace.FirstRetry, Last: f.pace.LastRetry,
	}
	_ = serving.Until(ctx, func() error {
		for ctx.Err() == nil {
			if err := f.serve(ctx, &serving); err != nil {
				f.worked(err)
				return err
			}
		}
		return nil
	})
}

// serve calls the bridge once. It returns when that has returned: after an error, when ctx ends, or when what it serves by has changed.
func (f *front[C]) serve(ctx context.Context, loop *retry.Loop) error {
	w, changed := f.current()
	call := f.bridge.Serve
	if !w.known {
		call = f.bridge.Refuse
	}
	if call == nil {
		call = func(ctx context.Context, _ *Node, _ C) error { <-ctx.Done(); return nil }
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- call(serving, f.node, w.config) }()
	works := time.NewTimer(f.pace.LastRetry) // what lasts longer than the longest pause works
	defer works.Stop()
	for {
		select {
		case err := <-ended:
			if err == nil && ctx.Err() == nil {
				err = errors.New("it ended although nobody told it to")
			}
			return err
		case <-works.C:
			loop.Worked()
			f.worked(nil)
			continue
		case <-changed:
			f.node.Log.Info("the config has changed; " + f.bridge.Name + " starts anew with it")
		case <-ctx.Done():
		}
		stop()
		return <-ended
	}
}
