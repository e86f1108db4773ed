package drop

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// doubtFor is how long a doubtful upload is held: a device that was cut off comes back in that time.
const doubtFor = 5 * time.Minute

// After the Commit of an upload whose Start was Unread, one of Read, Interrupted and Doubtful must follow, once. Until then the file is not
// sent; when its Settle time is over, others pass it. A restart counts as Read.

// With Options.Delivered they change nothing of a file that has been delivered.

// Read says that the client has read the reply to its upload.
func (u *Upload) Read() {
	if u.awaited == "" {
		u.d.box.Resume(u.entry.ID)
	}
}

// Interrupted says that the client cannot have read it: the file is taken out of the outbox again, and can be resumed.
func (u *Upload) Interrupted(reason string) {
	if u.awaited != "" {
		return
	}
	u.d.repeat(func() error {
		err := u.takeBack(errors.New(reason))
		switch {
		case errors.Is(err, ErrDue) && u.d.isWithdrawn(u.entry.ID):
			return nil
		case errors.Is(err, ErrDue):
			u.logger().Error("upload was interrupted after all, and has been sent", "trackingId", u.entry.ID, "error", reason)
			return nil
		}
		return err
	})
}

// isWithdrawn reports whether an entry has left unsent: its client has deleted it, or gone on with it.
func (d *Drop) isWithdrawn(id string) bool {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Is(d.box.Await(now, id), fs.ErrNotExist)
}

// Doubtful says that nobody knows whether the client has read it. The file is held for five minutes, durably. If the same user and address
// upload its name again meanwhile, and the doubtful bytes are the beginning of the new ones, the new file replaces it; if they are not, it
// goes before the new one.
func (u *Upload) Doubtful(reason string) {
	if u.awaited != "" {
		return
	}
	u.d.repeat(func() error {
		u.mu.Lock()
		defer u.mu.Unlock()
		if held(u.entry) { // it is not sent before its client comes back and renames it
			u.Read()
			return nil
		}
		wait, yield := doubtFor, true
		switch err := u.d.box.Edit([]outbox.Edit{{ID: u.entry.ID, Wait: &wait, Yield: &yield}}, nil); {
		case errors.Is(asDue(err), ErrDue):
			return nil // deleted meanwhile
		case err != nil:
			return err
		}
		u.d.doubts.add(u.doubtKey(), doubt{u.entry.ID, u.entry.Size, u.part.sum, time.Now().Add(doubtFor)})
		u.Read()
		u.logger().Warn("upload may have been interrupted; it is held for a while", "trackingId", u.entry.ID, "error", reason, "for", doubtFor)
		return nil
	})
}

func (u *Upload) doubtKey() doubtKey { return doubtKey{u.s.client(), u.path} }

// doubts are the doubtful uploads of this process. One of an earlier process is sent when its time is over.
type doubts struct {
	mu  sync.Mutex
	all map[doubtKey][]doubt // the oldest first
}

// doubtKey is whose upload it is that is in doubt, and to which path below drop.
type doubtKey struct {
	client
	path string
}

type doubt struct {
	id    string
	size  int64
	sum   uint32
	until time.Time
}

func (d *doubts) add(k doubtKey, list ...doubt) {
	if len(list) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all == nil {
		d.all = map[doubtKey][]doubt{}
	}
	maps.DeleteFunc(d.all, func(_ doubtKey, list []doubt) bool { return list[len(list)-1].over() })
	d.all[k] = append(d.all[k], list...)
}

// take takes out those of k that are not due by now.
func (d *doubts) take(k doubtKey) []doubt {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.all[k]
	delete(d.all, k)
	return slices.DeleteFunc(taken, doubt.over)
}

func (d doubt) over() bool { return time.Now().After(d.until) }

// settleDoubts decides about doubtful uploads to u's name, now that their client has sent it again. It returns those that are a
// beginning of u, and go when u is durable. The others are due, before u. After an error all are as doubtful as before.
func (u *Upload) settleDoubts() (beginnings []doubt, err error) {
	taken := u.d.doubts.take(u.doubtKey())
	for i, one := range taken {
		begins, err := u.beginsWith(one)
		if err == nil && begins {
			beginnings = append(beginnings, one)
			continue
		}
		if err == nil {
			wait, yield := time.Duration(0), false
			if err = asDue(u.d.box.Edit([]outbox.Edit{{ID: one.id, Wait: &wait, Yield: &yield}}, nil)); errors.Is(err, ErrDue) {
				err = nil
			}
		}
		if err != nil {
			u.d.doubts.add(u.doubtKey(), append(beginnings, taken[i:]...)...)
			return nil, err
		}
	}
	return beginnings, nil
}

// beginsWith reports whether the doubtful bytes are a proper beginning of u's.
func (u *Upload) beginsWith(one doubt) (bool, error) {
	if one.size >= u.Size() {
		return false, nil
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(u.part.file, 0, one.size)); err != nil {
		return false, err
	}
	return sum.Sum32() == one.sum, nil
}

// dropBeginnings withdraws doubtful uploads that u, which is durable, begins with.
func (u *Upload) dropBeginnings(beginnings []doubt) {
	for _, one := range beginnings {
		u.d.repeat(func() error {
			err := asDue(u.d.box.Withdraw(one.id, ""))
			if err == nil {
				u.logger().Info("a piece of this file, which was in doubt, is not sent", "pieceTrackingId", one.id)
			}
			if errors.Is(err, ErrDue) {
				err = nil
			}
			return err
		})
	}
}

// repeat does what the disk may refuse now, again and again until it is done.
func (d *Drop) repeat(do func() error) {
	if err := do(); err != nil {
		d.repeats.add(do, d.log, err)
	}
}

// repeats is what the disk has refused, and is tried again.
type repeats struct {
	mu      sync.Mutex
	all     []func() error
	trouble retry.Trouble
}

func (r *repeats) add(do func() error, log *slog.Logger, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, do)
	r.trouble.Hit(time.Now(), slog.LevelWarn, "the volume cannot note what became of uploads; it is tried again", err, "uploads", len(r.all)).To(log)
}

// tryRepeats does it all once more.
func (d *Drop) tryRepeats() {
	for _, do := range d.repeats.take(d.log) {
		d.repeat(do)
	}
}

// take takes out what is to be tried. If nothing is, what was wrong is over.
func (r *repeats) take(log *slog.Logger) []func() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		r.trouble.Over(time.Now(), "the volume has noted what became of uploads").To(log)
	}
	all := r.all
	r.all = nil
	return all
}
