package outbox

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// leaving is the state of what leaves, and of other work on the disk.
type leaving struct {
	delivered []*waiting
	failed    []leaver
	busy      bool
	paused    bool
	failures  int
	trouble   retry.Trouble
}

// leaver is an entry that is to be set aside.
type leaver struct {
	entry *waiting
	why   failure
}

// outcome notes that work on the disk went well or not.
func (l *leaving) outcome(err error) retry.Line {
	if err != nil {
		return l.trouble.Hit(time.Now(), slog.LevelWarn, "The outbox's disk fails"+goesOn, err)
	}
	return l.trouble.Over(time.Now(), "The outbox's disk works again")
}

// setAside has an entry moved to failed/.
func (o *Outbox) setAside(e *waiting, why failure) {
	why.Time, why.Attempts = time.Now().UTC(), max(int(e.retries), 1)
	o.leaving.failed = append(o.leaving.failed, leaver{e, why})
}

// startLeaving starts the work on the disk that is to be done.
func (o *Outbox) startLeaving() {
	l := &o.leaving
	unsynced := slices.ContainsFunc(o.arrivals, func(a *arrival) bool { return a.stuck })
	if l.busy || l.paused || o.stopping && l.failures > 0 || len(l.delivered)+len(l.failed) == 0 && !unsynced && !o.wasteful() {
		return
	}
	l.busy = true
	o.calls++
	delivered, failed := l.delivered, l.failed
	l.delivered, l.failed = nil, nil
	go o.leave(delivered, failed, unsynced)
}

func (o *Outbox) wasteful() bool { return o.journal.wasteful() != nil }

// leave removes what was delivered, sets aside what failed, and keeps the journal small. What does not
// succeed is done again later; the entries are not sent again.
func (o *Outbox) leave(delivered []*waiting, failed []leaver, unsynced bool) {
	var errs []error
	remaining, err := o.removeDelivered(delivered)
	errs = append(errs, err)
	var stuck []leaver
	for _, l := range failed {
		if err := o.moveAside(l); err != nil {
			stuck = append(stuck, l)
			errs = append(errs, err)
		}
	}
	if unsynced {
		errs = append(errs, o.syncDir())
	}
	errs = append(errs, o.tidy())

	err = errors.Join(errs...)
	o.mu.Lock()
	l := &o.leaving
	l.busy = false
	o.calls--
	l.delivered = append(remaining, l.delivered...)
	l.failed = append(stuck, l.failed...)
	if err == nil {
		l.failures = 0
	} else {
		l.failures++
		l.paused = true
		o.pauses.add(o.opts.backoff(l.failures), func() { l.paused = false })
	}
	o.report(l.outcome(err).To)
	o.mu.Unlock()
	o.nudge()
}

// removeDelivered removes the files of delivered entries. It gives back those that are to be removed again.
func (o *Outbox) removeDelivered(batch []*waiting) (remaining []*waiting, err error) {
	if len(batch) == 0 {
		return nil, nil
	}
	var errs []error
	var removed []*waiting
	var entries []Entry
	for _, e := range batch {
		entry, err := o.known(e)
		if err == nil {
			err = ignoreGone(o.opts.FS.Remove(entry.Path))
		}
		if err != nil {
			errs = append(errs, err)
			remaining = append(remaining, e)
			continue
		}
		removed, entries = append(removed, e), append(entries, entry)
	}
	// Protects: a file that comes back after a power cut would be sent again; and the journal may only
	// forget what cannot come back.
	if err := o.syncDir(); err != nil {
		return batch, errors.Join(append(errs, err)...)
	}
	o.mu.Lock()
	for _, e := range removed {
		o.gone(e)
	}
	o.mu.Unlock()
	for i, entry := range entries {
		o.opts.Log.Info("File delivered", "trackingId", entry.ID, "name", entry.Name, "bytes", entry.Size,
			"attempts", removed[i].retries+1, "waited", time.Since(entry.Accepted).Round(time.Millisecond))
		o.opts.Gone(entry, Delivered)
	}
	return remaining, errors.Join(errs...)
}

// known is the entry, from memory if it is there. If its record is damaged, so much as can be known without.
func (o *Outbox) known(e *waiting) (Entry, error) {
	o.mu.Lock()
	if f := o.preparing.flights[e]; f != nil && f.entry.ID != "" {
		defer o.mu.Unlock()
		return f.entry, nil
	}
	o.mu.Unlock()
	entry, err := o.entry(e)
	if isPermanent(err) {
		r := record{Seq: e.seq, ID: e.id.String(), Size: e.size, Accepted: e.acceptedAt()}
		r.Name = baseName(e.seq, r.ID)
		return r.entry(o.opts.Dir), nil
	}
	return entry, err
}

// gone forgets an entry that has left the disk.
func (o *Outbox) gone(e *waiting) {
	if !e.known {
		o.unsettled--
	}
	e.leave()
	o.waiting.remove(e)
	o.drop(e)
	delete(o.refusals, e)
	o.stats.Entries--
	o.stats.Bytes -= e.size
}

// moveAside moves an entry to failed/: the record first, so that a file there always has one.
func (o *Outbox) moveAside(l leaver) error {
	entry, err := o.known(l.entry)
	if err != nil {
		return err
	}
	o.mu.Lock()
	r := setAside{Format: format, record: newRecord(l.entry.seq, entry), Failure: l.why}
	r.progress = o.progress(l.entry)
	o.mu.Unlock()
	if err := o.storeAside(r, entry.Path); err != nil {
		return err
	}
	o.mu.Lock()
	o.gone(l.entry)
	o.stats.Failed++
	o.mu.Unlock()
	o.opts.Log.Error("File cannot be delivered and was set aside", "trackingId", entry.ID, "name", entry.Name,
		"bytes", entry.Size, "file", path.Join(o.opts.FailedDir, path.Base(entry.Path)), "reason", l.why.Reason, "error", l.why.Error, "attempts", l.why.Attempts)
	o.opts.Gone(entry, Failed)
	return nil
}

// storeAside moves a file and its record to failed/. It can be repeated.
func (o *Outbox) storeAside(r setAside, name string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	base := path.Join(o.opts.FailedDir, baseName(r.Seq, r.ID))
	// Protects: the file's name and why it failed, which stand nowhere else once the journal forgets it.
	if err := disk.WriteFile(o.opts.FS, base+recordSuffix, append(data, '\n'), 0o600); err != nil {
		return err
	}
	// That it is gone is no error: it was moved before and only the sync failed, or somebody
	// took it out of the outbox.
	if err := ignoreGone(o.opts.FS.Rename(name, base+dataSuffix)); err != nil {
		return err
	}
	// Protects: the move. If it came undone after the journal forgot the entry, the file would
	// stand in the outbox with no record.
	return o.opts.FS.SyncDir(o.opts.FailedDir)
}

// tidy keeps the journal small.
func (o *Outbox) tidy() error {
	o.mu.Lock()
	s := o.journal.wasteful()
	var movers []*waiting
	if s != nil {
		for e := range o.waiting.all() {
			if e.at.segment == s {
				movers = append(movers, e)
			}
		}
		for _, a := range o.arrivals {
			if a.entry.at.segment == s {
				movers = append(movers, a.entry)
			}
		}
	}
	o.mu.Unlock()
	var err error
	if len(movers) > 0 {
		err = o.rewrite(movers)
	}
	o.mu.Lock()
	dead := o.journal.takeDead()
	o.mu.Unlock()
	return errors.Join(err, o.journal.remove(dead))
}

// rewrite writes the records of entries again, at the end of the journal.
func (o *Outbox) rewrite(movers []*waiting) error {
	for chunk := range slices.Chunk(movers, 1000) {
		entries := make(map[*waiting]Entry, len(chunk))
		for _, e := range chunk {
			entry, err := o.entry(e)
			if err != nil {
				return err
			}
			entries[e] = entry
		}
		o.mu.Lock()
		r, err := o.addProgress(chunk, entries, func(e *waiting) bool { return e.state != left })
		o.mu.Unlock()
		if err != nil {
			return err
		}
		if r != nil {
			if err := o.journal.wait(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// syncDir makes the names in the outbox durable, together with all who want it at this moment.
func (o *Outbox) syncDir() error { return o.dirSync.wait(o.dirSync.add(nil)) }

func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}
