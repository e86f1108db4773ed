package outbox

import (
	"cmp"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// leftFor is how long Left knows an entry.
const leftFor = time.Minute

type leftID struct {
	id  trackingID
	at  time.Time
	err error // nil: it was delivered
}

// Entries lists what waits, in its order. Whoever stops early has not made the rest: there may be 200,000. What leaves meanwhile may be listed or not.
func (o *Outbox) Entries() iter.Seq[Entry] {
	type placed struct {
		place, seq uint64
		*entry
	}
	return func(yield func(Entry) bool) {
		var all []placed
		o.locked(func() {
			all = make([]placed, 0, len(o.entries))
			for _, e := range o.entries {
				if !e.hidden() {
					all = append(all, placed{e.place, e.seq, e})
				}
			}
		})
		slices.SortFunc(all, func(a, b placed) int { return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.seq, b.seq)) })
		o.each(len(all), func(i int) *entry { return all[i].entry }, yield)
	}
}

// each hands over n entries as others see them. Few of these are in memory at a time, besides what the outbox itself keeps.
func (o *Outbox) each(n int, at func(int) *entry, yield func(Entry) bool) {
	for start := 0; start < n; start += 100 {
		some := make([]Entry, min(100, n-start))
		o.locked(func() {
			for i := range some {
				some[i] = o.public(at(start + i))
			}
		})
		for _, e := range some {
			if !yield(e) {
				return
			}
		}
	}
}

// Below lists all entries whose key is below the directory dir, all versions of them, in their order; for "", all that have a key.
func (o *Outbox) Below(dir string) []Entry {
	prefix := dir + "/"
	return o.list(func(e *entry) bool { return e.key != "" && (dir == "" || strings.HasPrefix(e.key, prefix)) })
}

// Held lists the entries with a key that wait Forever, in their order.
func (o *Outbox) Held() []Entry {
	return o.list(func(e *entry) bool {
		return e.key != "" && e.isHeld()
	})
}

func (o *Outbox) list(want func(*entry) bool) []Entry {
	o.mu.Lock()
	defer o.mu.Unlock()
	var found []*entry
	for _, e := range o.entries {
		if want(e) && !e.hidden() {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, byPlace)
	list := make([]Entry, len(found))
	for i, e := range found {
		list[i] = o.public(e)
	}
	return list
}

func byPlace(a, b *entry) int {
	return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.seq, b.seq))
}

// Lookup finds the newest entry of a key, due or not.
func (o *Outbox) Lookup(key string) (Entry, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.newest(key)
	if e == nil {
		return Entry{}, false
	}
	return o.public(e), true
}

// List lists the newest entry of each key that stands right in the directory dir as of now, in no order. Few of them are in memory at a
// time, besides what the outbox itself keeps.
func (o *Outbox) List(dir string) iter.Seq[Entry] {
	o.mu.Lock()
	defer o.mu.Unlock()
	found := slices.Collect(maps.Values(o.keys[dir+"/"]))
	return func(yield func(Entry) bool) { o.each(len(found), func(i int) *entry { return found[i] }, yield) }
}

// Usage is how many entries there are whose key begins with the element top, and of how many bytes; for "", all entries.
func (o *Outbox) Usage(top string) (files int, bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if top == "" {
		return len(o.entries), o.bytes
	}
	u := o.usage[top]
	return u.files, u.bytes
}

// Left reports when an entry has left, for a minute after that. ok is false while it waits, and later.
func (o *Outbox) Left(id string) (at time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range slices.Backward(o.lefts) {
		if time.Since(l.at) >= leftFor {
			break
		}
		if l.id.String() == id {
			return l.at, true
		}
	}
	return time.Time{}, false
}

func (o *Outbox) noteLeft(id trackingID, err error) {
	now := time.Now()
	old := 0
	for old < len(o.lefts) && now.Sub(o.lefts[old].at) >= leftFor {
		old++
	}
	o.lefts = append(o.lefts[old:], leftID{id, now, err})
}

// OpenFile opens an entry's file for reading, due or not; fs.ErrNotExist if it has left.
func (o *Outbox) OpenFile(id string) (disk.File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	k, _ := parseID(id)
	e := o.entries[k]
	if e == nil || e.hidden() {
		return nil, fmt.Errorf("entry %s: %w", id, fs.ErrNotExist)
	}
	return o.opts.FS.OpenFile(o.pathOf(e), os.O_RDONLY, 0) // under the lock, so that it has not gone
}
