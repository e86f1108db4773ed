package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// errClosed is the error of Put after Close.
var errClosed = errors.New("outbox: Put after Close")

// arrival is an entry that is being accepted. Entries go to their lanes in the order of
// their numbers, so that it is the same now and after a restart.
type arrival struct {
	entry   *waiting
	lane    string
	failed  bool // it never was an entry
	renamed bool
	durable bool // renamed, and synced
	stuck   bool // renamed, and the sync failed
}

// Put takes finished files into the outbox, in order, and returns for each its entry, or an error and then the file
// stands where it stood. Where one fails, the items behind it in its lane fail too, so that they can be tried again in order. An entry's record is durable when Put returns. So is its place, except
// when the directory cannot be synced: then the entry is kept back until it can be, and after a
// power cut the file stands in one of the two places. Calls at the same time share their syncs; between
// them no order is promised. The context is looked at only before anything is done.
func (o *Outbox) Put(ctx context.Context, items []Item) ([]Entry, []error) {
	entries, errs := make([]Entry, len(items)), make([]error, len(items))
	if err := ctx.Err(); err != nil {
		return entries, slices.Repeat([]error{err}, len(items))
	}
	failed := behind{}
	for i, item := range items {
		err := failed.err(item)
		if err == nil {
			entries[i], err = o.look(item)
			failed.note(item, err)
		}
		if err != nil {
			errs[i] = fmt.Errorf("taking %q into the outbox: %w", item.Name, err)
		}
	}
	arrivals, err := o.record(entries, errs)
	var void []*waiting
	records := map[*waiting]Entry{}
	for i, a := range arrivals {
		if a == nil {
			continue
		}
		e := cmp.Or(err, failed.err(items[i]))
		if e == nil {
			e = o.rename(items[i].Path, entries[i].Path)
			failed.note(items[i], e)
		}
		if e != nil {
			errs[i] = fmt.Errorf("taking %q into the outbox: %w", items[i].Name, e)
			entries[i].Void = true
			void, records[a.entry] = append(void, a.entry), entries[i]
		}
		o.arrived(a, e)
	}
	if len(void) > 0 {
		// Best effort, as the disk is in trouble: without it the next Open finishes these claims.
		o.mu.Lock()
		r, err := o.addProgress(void, records, func(*waiting) bool { return true })
		o.mu.Unlock()
		if err == nil {
			_ = o.journal.wait(r)
		}
	}
	// Protects: an entry may be sent only when a power cut cannot bring its file back to where it was, to be taken
	// a second time. If it fails, syncArrivals has kept the entries back.
	if slices.ContainsFunc(arrivals, func(a *arrival) bool { return a != nil && a.renamed }) {
		_ = o.syncDir()
	}
	for i := range errs {
		if errs[i] != nil {
			entries[i] = Entry{}
		}
	}
	o.nudge()
	return entries, errs
}

// behind holds the lanes in which an item could not be taken: what comes behind it must not overtake it.
type behind map[string]error

func (b behind) err(item Item) error {
	if first := b[item.Lane]; first != nil {
		return fmt.Errorf("not tried, as one before it failed: %w", first)
	}
	return nil
}

// note notes the error of an item. One that is gone, or no file, will never come: nobody waits for it.
func (b behind) note(item Item, err error) {
	if err != nil && !isGone(err) && !errors.Is(err, errNoFile) {
		b[item.Lane] = err
	}
}

var errNoFile = errors.New("expected a regular file")

// look makes an entry of an item.
func (o *Outbox) look(item Item) (Entry, error) {
	info, err := o.opts.FS.Lstat(item.Path)
	if err != nil {
		return Entry{}, err
	}
	if !info.Mode().IsRegular() {
		return Entry{}, fmt.Errorf("it is a %v: %w", info.Mode().Type(), errNoFile)
	}
	return Entry{Name: item.Name, Lane: item.Lane, Meta: item.Meta, Size: info.Size(),
		ModTime: info.ModTime().UTC(), Accepted: time.Now().UTC().Round(0),
		origin: origin{From: item.Path, Changed: jsonTime(disk.ChangeTime(info))}}, nil
}

// record gives entries their numbers and makes their records durable. An error is that of all who have no
// error of their own; those have no arrival.
func (o *Outbox) record(entries []Entry, errs []error) ([]*arrival, error) {
	arrivals := make([]*arrival, len(entries))
	additions := make([]addition, 0, len(entries))
	o.mu.Lock()
	for i := range entries {
		if errs[i] == nil && o.closed {
			errs[i] = errClosed
		}
		if errs[i] != nil {
			continue
		}
		entry := &entries[i]
		e := &waiting{size: entry.Size, accepted: entry.Accepted.UnixNano()}
		e.id = trackingID(uuid.New())
		e.seq = o.lastSeq.Add(1)
		entry.ID = e.id.String()
		entry.Path = path.Join(o.opts.Dir, baseName(e.seq, entry.ID)+dataSuffix)
		text, err := o.line(e, *entry)
		if err != nil {
			errs[i] = fmt.Errorf("taking %q into the outbox: %w", entry.Name, err)
			continue
		}
		additions = append(additions, addition{e, text})
		arrivals[i] = &arrival{entry: e, lane: entry.Lane}
		o.arrivals = append(o.arrivals, arrivals[i])
	}
	if len(additions) == 0 {
		o.mu.Unlock()
		return arrivals, nil
	}
	r := o.journal.add(additions)
	o.mu.Unlock()
	return arrivals, o.journal.wait(r)
}

// rename moves a file into the outbox.
func (o *Outbox) rename(from, to string) error {
	err := o.opts.FS.Rename(from, to)
	if err != nil {
		if _, e := o.opts.FS.Lstat(to); e == nil {
			return nil // it did happen
		}
	}
	return err
}

// arrived notes whether an entry's file stands in the outbox.
func (o *Outbox) arrived(a *arrival, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		a.failed = true
		a.entry.leave()
		o.admitArrivals()
		return
	}
	a.renamed = true
	o.waiting.add(a.entry)
	o.stats.Entries++
	o.stats.Bytes += a.entry.size
}

// syncArrivals makes the names in the outbox durable, and hands over the arrivals whose renames
// that covers.
func (o *Outbox) syncArrivals(*struct{}) error {
	o.mu.Lock()
	var covered []*arrival
	for _, a := range o.arrivals {
		if a.renamed && !a.durable {
			covered = append(covered, a)
		}
	}
	o.mu.Unlock()
	err := o.opts.FS.SyncDir(o.opts.Dir)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range covered {
		a.durable, a.stuck = err == nil, err != nil
	}
	if err != nil && len(covered) > 0 {
		o.report(o.leaving.outcome(err).To)
	}
	o.admitArrivals()
	return err
}

// admitArrivals hands over those at the front whose fate is known. o.mu is held.
func (o *Outbox) admitArrivals() {
	for len(o.arrivals) > 0 && (o.arrivals[0].durable || o.arrivals[0].failed) {
		a := o.arrivals[0]
		if o.arrivals = o.arrivals[1:]; len(o.arrivals) == 0 {
			o.arrivals = nil
		}
		if a.durable {
			o.enqueue(a.entry, a.lane)
		}
	}
}
