package echostream

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// renewPause is how long a value that is still valid is used on after it could not be renewed.
const renewPause = 30 * time.Second

// renewed keeps a value that expires, such as a token. While the value is valid nobody waits: it is renewed behind, before its
// end. Without a valid one, all who ask wait for one fetch and share its outcome. It never retries: an error is the caller's to
// wait on.
type renewed[T any] struct {
	what string // for the log: "access token"
	// fetch gets another value. It bounds itself: its context ends only when nobody waits any more.
	fetch func(ctx context.Context) (value T, expires time.Time, err error)
	// ahead is how long before its end a value that lives so long is renewed.
	ahead func(life time.Duration) time.Duration
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex
	held    bool
	value   T
	serial  int       // of the value, from 1
	fetched time.Time // when
	renewAt time.Time
	expires time.Time
	flight  *flight[T] // the fetch under way, or nil
}

// flight is a fetch that several callers may wait for.
type flight[T any] struct {
	done    chan struct{}
	cancel  context.CancelFunc
	behind  bool // it goes on although nobody waits
	waiters int
	value   T // set before done is closed, as is err
	err     error
}

// get returns a valid value. ctx bounds the wait of this caller.
func (r *renewed[T]) get(ctx context.Context) (T, error) {
	value, f, err := r.join(ctx)
	if f == nil {
		return value, err
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		r.leave(f)
		return value, ctx.Err()
	}
}

// join returns the value if it is valid, and else the fetch to wait for.
func (r *renewed[T]) join(ctx context.Context) (value T, f *flight[T], err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); r.valid(now) {
		if !now.Before(r.renewAt) && r.flight == nil {
			r.start(ctx).behind = true
		}
		return r.value, nil, nil
	}
	if ctx.Err() != nil {
		return value, nil, ctx.Err()
	}
	f = r.flight
	if f == nil {
		f = r.start(ctx)
	}
	f.waiters++
	return value, f, nil
}

// valid is called with r.mu held.
func (r *renewed[T]) valid(now time.Time) bool { return r.held && now.Before(r.expires) }

// start is called with r.mu held. The fetch is for all who will wait for it: the context of the first one gives only its values.
func (r *renewed[T]) start(ctx context.Context) *flight[T] {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight[T]{done: make(chan struct{}), cancel: cancel}
	r.flight = f
	go func() {
		defer cancel()
		value, expires, err := r.fetch(ctx)
		r.finish(f, value, expires, err)
	}()
	return f
}

// leave ends a fetch that nobody waits for any more.
func (r *renewed[T]) leave(f *flight[T]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.waiters--
	if f.waiters == 0 && r.flight == f && !f.behind {
		r.flight = nil
		f.cancel()
	}
}

func (r *renewed[T]) finish(f *flight[T], value T, expires time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(f.done)
	if r.flight != f { // nobody waits any more, and another may have begun
		f.err = context.Canceled
		return
	}
	r.flight = nil
	now := r.now()
	switch {
	case err == nil:
		r.held, r.value, r.fetched, r.expires = true, value, now, expires
		r.serial++
		r.renewAt = expires.Add(-r.ahead(expires.Sub(now)))
	case r.valid(now):
		r.renewAt = now.Add(renewPause)
		r.log.Warn("Could not renew the "+r.what+"; the old one is still valid", "expires", r.expires, "error", err)
	default:
		f.err = err
		return
	}
	f.value = r.value
}

// forget drops the value if it is the one that was refused: somebody else may have been faster. age is how old it was.
func (r *renewed[T]) forget(refused func(T) bool) (age time.Duration, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.held || !refused(r.value) {
		return 0, false
	}
	var none T
	r.held, r.value = false, none
	return r.now().Sub(r.fetched), true
}

// serialOf numbers a value: those that were fetched later have a greater number.
func (r *renewed[T]) serialOf(is func(T) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held && is(r.value) {
		return r.serial
	}
	return r.serial - 1 // it was replaced meanwhile, or refused
}
