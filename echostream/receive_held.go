package echostream

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// deleteHandled deletes what was handled, in batches of what there is, until last is closed and nothing is left, or ctx ends.
func (e *inbound) deleteHandled(ctx context.Context, last <-chan struct{}) {
	for failures := 0; ctx.Err() == nil; {
		batch := e.takeDone()
		if len(batch) == 0 {
			select {
			case <-e.acks:
				continue
			case <-last:
			}
			if batch = e.takeDone(); len(batch) == 0 {
				return
			}
		}
		failed, err := e.queue.delete(ctx, batch)
		if e.deleted(batch, failed, err) {
			failures = 0
			continue
		}
		failures++
		retry.Sleep(ctx, retry.Backoff(failures, 200*time.Millisecond, 5*time.Second))
	}
}

// takeDone takes up to ten of what is to be deleted.
func (e *inbound) takeDone() []receipt {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(len(e.done), maxBatch)
	batch := make([]receipt, n)
	for i, h := range e.done[:n] {
		batch[i] = h.receipt()
	}
	e.done = slices.Delete(e.done, 0, n)
	signal(e.room)
	return batch
}

// deleted notes what came of a batch. It reports whether nothing of it has to be tried again.
func (e *inbound) deleted(batch []receipt, failed map[string]error, err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	var again []*held
	for _, r := range batch {
		h, cause := e.held[r.id], err
		if cause == nil {
			cause = failed[r.id]
		}
		if cause == nil {
			delete(e.held, r.id)
			e.undeleted.Over(time.Now(), "messages that were handled can be deleted again", "source", h.Source).To(e.r.log)
			continue
		}
		h.deletes++
		newer := h.handle != r.handle
		if newer || !errors.Is(cause, errReceiptEnded) && !errors.Is(cause, ErrEdgeGone) && h.deletes < maxDeletes {
			again = append(again, h)
			continue
		}
		// It comes again, and then is deleted only.
		delete(e.held, r.id)
		e.handled[r.id] = e.now()
		e.undeleted.Hit(time.Now(), slog.LevelWarn, "a message that was handled could not be deleted, it is deleted when it comes again", cause,
			"source", h.Source, "trackingId", h.TrackingID).To(e.r.log)
	}
	e.done = slices.Concat(again, e.done)
	return len(again) == 0
}

// keep renews the visibility of what is held when half of it is over, until ctx ends.
func (e *inbound) keep(ctx context.Context) {
	ticker := time.NewTicker(e.r.opts.Visibility / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if due := e.due(); len(due) > 0 {
			e.renew(ctx, due)
		}
	}
}

// due is what is held and has half of its time left or less, but some.
func (e *inbound) due() []*held {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.extend == extendDenied {
		return nil
	}
	now := e.now()
	var due []*held
	for _, h := range e.held {
		if left := h.until - now; left > 0 && left <= e.r.opts.Visibility/2 {
			due = append(due, h)
		}
	}
	return due
}

// renew hides messages for the whole time from now on.
func (e *inbound) renew(ctx context.Context, messages []*held) {
	for batch := range slices.Chunk(messages, maxBatch) {
		e.hide(ctx, batch, e.r.opts.Visibility)
	}
}

// hide makes messages visible after d, as far as it can. It bears no waiting: who holds many messages renews them all.
func (e *inbound) hide(ctx context.Context, batch []*held, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, max(e.r.opts.Visibility/4, time.Second))
	defer cancel()
	until := e.now() + d
	e.mu.Lock()
	receipts := make([]receipt, len(batch))
	for i, h := range batch {
		receipts[i] = h.receipt()
	}
	e.mu.Unlock()
	failed, err := e.queue.hide(ctx, receipts, d)

	e.mu.Lock()
	defer e.mu.Unlock()
	for i, h := range batch {
		cause := err
		if cause == nil {
			cause = failed[h.ID]
		}
		switch {
		case cause == nil:
			e.extend = extendAllowed
			if h.handle == receipts[i].handle {
				h.until = until
			}
		case accessDenied(errorCode(cause)):
			if e.extend != extendDenied {
				e.r.log.Info("the node may not renew the visibility of messages: taking one at a time", "source", e.sourceName(),
					"visibility", e.r.opts.Visibility)
			}
			e.extend = extendDenied
			return
		default:
			e.r.log.Debug("the visibility of a message was not changed", "source", h.Source, "trackingId", h.TrackingID, "error", cause)
		}
	}
}

func (e *inbound) mayExtend() extending {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.extend
}
