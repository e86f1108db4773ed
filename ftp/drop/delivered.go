package drop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// stopWait is how long a delivery is still waited for when Run has ended.
const stopWait = 3 * time.Second

// awaitsDelivery reports whether the client of a file is answered only when it is delivered. One with a temporary name is not sent before it is renamed.
func (d *Drop) awaitsDelivery(temporary bool) bool { return d.opts.Delivered > 0 && !temporary }

// ready says why nothing can be delivered now, if that matters.
func (d *Drop) ready() error {
	if d.opts.Delivered == 0 {
		return nil
	}
	if err := d.opts.Ready(); err != nil {
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	return nil
}

// deliveryTimeout ends when a delivery is not waited for any more.
func (d *Drop) deliveryTimeout() (context.Context, context.CancelFunc) {
	if d.opts.Delivered == 0 {
		return context.Background(), func() {}
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.opts.Delivered)
	stop := context.AfterFunc(d.stopped, func() { time.AfterFunc(stopWait, cancel) })
	return ctx, func() { stop(); cancel() }
}

// delivery waits until a file is delivered, or undoes what was begun. nil: nobody waits for it.
type delivery func(context.Context) error

// untilDelivered does what may have to wait for a delivery.
func (d *Drop) untilDelivered(do func() (delivery, error)) error {
	ctx, cancel := d.deliveryTimeout()
	defer cancel()
	await, err := do()
	if err != nil || await == nil {
		return err
	}
	return await(ctx)
}

// delivery returns that of the entry id at p. takeBack is as in await.
func (s *Session) delivery(id, p string, takeBack func(why error) error) delivery {
	return func(ctx context.Context) error {
		err := s.await(ctx, id, takeBack)
		if err != nil {
			s.forget(p)
		}
		return err
	}
}

// await waits for the delivery of an entry. takeBack (if it is not nil) takes it out of the outbox again if ctx ends before it was first sent, or if
// its client is gone by then.
func (s *Session) await(ctx context.Context, id string, takeBack func(why error) error) error {
	err := s.d.box.Await(ctx, id)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, outbox.ErrRefused):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case takeBack == nil:
		return fmt.Errorf("%w: %w", ErrNotDelivered, err)
	}
	switch left := takeBack(err); {
	case left == nil && ctx.Err() == nil && !errors.Is(err, outbox.ErrStopped):
		return err // its client is gone
	case left == nil:
		return fmt.Errorf("%w: it was not sent: %w", ErrNotDelivered, err)
	case errors.Is(left, fs.ErrNotExist): // it has just left
		return s.await(ctx, id, nil)
	}
	s.log.Warn("a file was not delivered in time; its client is told so, and it is delivered when that is possible", "trackingId", id)
	return fmt.Errorf("%w: it goes on: %w", ErrNotDelivered, err)
}

// alreadySent finds the file that u's client sends again since it was not told what became of it.
func (u *Upload) alreadySent() (id string, ok bool) {
	if !u.d.awaitsDelivery(u.Temporary()) {
		return "", false
	}
	return u.d.box.Same(u.path, u.Size(), u.part.sum)
}

// notDelivered removes an upload that was not sent. It is not kept for resuming: it is all there, and many a client asks for the size, finds it right, and takes
// its file for delivered.
func (u *Upload) notDelivered(why error) error {
	if err := u.d.box.Withdraw(u.entry.ID, ""); err != nil {
		return err
	}
	u.logger().Warn("upload was not delivered and is not kept; its client is told so", "trackingId", u.entry.ID, "error", why)
	return nil
}
