package drop

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Complete files under temporary names are never deleted, as they were acknowledged, and wait until they are renamed. Those that
// wait for longer than Options.PartialExpiry are told of, and do not count towards Options.MaxFiles.

const (
	tellHeldEvery  = time.Hour        // at most; then with growing pauses
	countHeldEvery = 10 * time.Second // at most, at the limit
)

// heldLong counts and logs files that are held too long.
type heldLong struct {
	mu      sync.Mutex
	counted time.Time // last
	told    time.Time // last
	trouble troubles  // by user
}

// eachHeld visits the complete files that were held for longer than Options.PartialExpiry, with the time since when.
func (d *Drop) eachHeld(visit func(p string, since time.Time)) {
	before := time.Now().Add(-d.opts.PartialExpiry)
	for _, e := range d.box.Held() {
		if held(e) && e.Accepted.Before(before) {
			visit(e.Key, e.Accepted)
		}
	}
	for p, since := range d.found.unchanged(before) {
		if d.temporary(p) {
			visit(p, since)
		}
	}
}

// admit is ledger.admit, which at the limit is told anew what does not count.
func (d *Drop) admit(p string, files int, n int64) error {
	err := d.ledger.admit(p, files, n)
	if errors.Is(err, errMaxFiles) && d.countHeld() {
		err = d.ledger.admit(p, files, n)
	}
	return err
}

// countHeld tells the ledger how many files are held too long, and reports whether it did: now and then.
func (d *Drop) countHeld() bool {
	d.held.mu.Lock()
	defer d.held.mu.Unlock()
	if time.Since(d.held.counted) < countHeldEvery {
		return false
	}
	d.held.counted = time.Now()
	held := map[string]int{}
	d.eachHeld(func(p string, _ time.Time) { held[top(p)]++ })
	d.ledger.setHeld(held)
	return true
}

// tellHeld logs whose files are held too long, how many and since when.
func (d *Drop) tellHeld() {
	d.held.mu.Lock()
	defer d.held.mu.Unlock()
	now := time.Now()
	if now.Sub(d.held.told) < tellHeldEvery {
		return
	}
	d.held.told = now
	type files struct {
		count  int
		oldest time.Time
		name   string // of the oldest
	}
	users := map[string]*files{}
	known := map[string]bool{}
	d.eachHeld(func(p string, since time.Time) {
		user, name := d.users.owner(p)
		f := users[user]
		if f == nil {
			f = &files{oldest: since, name: name}
			users[user] = f
		}
		f.count++
		if since.Before(f.oldest) {
			f.oldest, f.name = since, name
		}
		known[user] = known[user] || d.users.byPath(p) != nil
	})
	for _, user := range slices.Sorted(maps.Keys(users)) {
		err := errors.New("their names are temporary ones")
		if !known[user] {
			err = errors.New("their names are temporary ones, and there is no such user any more")
		}
		f := users[user]
		d.held.trouble.hit(d.log, user, "complete files are not sent until they are renamed", err,
			"user", user, "files", f.count, "oldest", f.oldest.UTC().Format(time.RFC3339), "name", f.name, "setting", "files.ignore")
	}
	for _, user := range d.held.trouble.keys() {
		if users[user] == nil {
			d.held.trouble.over(d.log, user, "no complete files of the user are held any more", "user", user)
		}
	}
}
