package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// maxRecordFile is the longest record that is read from failed/, in bytes.
const maxRecordFile = 16 << 20

// FailedEntry is a file that was set aside in failed/, until Retry or Discard.
type FailedEntry struct {
	Entry              // Path is where its bytes stand; without a record that can be read, only ID, Path and Size are known
	At       time.Time // when it was set aside
	Reason   string    // such as "refused by target echo-1"
	Error    string    // of that target, of Deliverer.Prepare, or of the disk
	Attempts int
	Refused  []Refusal // the targets that will never take it, if that is the reason
	Taken    []string  // the targets that have acknowledged it
}

// Failed reads from the disk what was set aside, in the order of the entries. Its time grows with their number: some milliseconds for a hundred.
func (o *Outbox) Failed() ([]FailedEntry, error) {
	var all []FailedEntry
	bases, err := o.failedBases()
	for _, base := range bases {
		var f FailedEntry
		if f, err = o.readFailed(base); err == nil {
			all = append(all, f)
		} else if err = ignoreGone(err); err != nil { // else it was sent again or discarded meanwhile
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was set aside: %w", err)
	}
	return all, nil
}

// failedBases lists what the names of the files in failed/ begin with, in the order of their entries.
func (o *Outbox) failedBases() (bases []string, err error) {
	names, err := o.namesIn(o.opts.FailedDir)
	for _, name := range names {
		base, suffix := cutSuffix(name)
		if _, _, ok := parseBase(base); ok && suffix == dataSuffix {
			bases = append(bases, base)
		}
	}
	return bases, err
}

// failedName is the name in failed/ of an entry's files, without a suffix.
func (o *Outbox) failedName(base string) string { return path.Join(o.opts.FailedDir, base) }

// readFailed describes a file in failed/.
func (o *Outbox) readFailed(base string) (FailedEntry, error) {
	name := o.failedName(base)
	info, err := o.opts.FS.Lstat(name + dataSuffix)
	if err != nil {
		return FailedEntry{}, err
	}
	_, id, _ := parseBase(base)
	f := FailedEntry{Entry: Entry{ID: id.String(), Path: name + dataSuffix, Size: info.Size()}}
	aside, err := o.readAside(base)
	if err != nil {
		f.Reason, f.Error = "its record is missing or damaged", err.Error()
		return f, nil
	}
	f.Name, f.Lane, f.Key, f.Meta = aside.name(), aside.lane(), aside.key(), aside.Meta
	f.ModTime, f.Checksum, f.Accepted = aside.ModTime, aside.Checksum, aside.Accepted
	f.At, f.Reason, f.Error, f.Attempts = aside.Failure.Time, aside.Failure.Reason, aside.Failure.Error, aside.Failure.Attempts
	f.Refused, f.Taken = aside.Refused, aside.Acked
	return f, nil
}

// readAside reads the record of a file in failed/.
func (o *Outbox) readAside(base string) (setAside, error) {
	name := o.failedName(base) + recordSuffix
	data, err := disk.ReadFile(o.opts.FS, name, maxRecordFile)
	if err != nil {
		return setAside{}, err
	}
	aside, err := decodeSetAside(name, data)
	if err == nil && baseName(aside.Seq, aside.ID) != base {
		err = fmt.Errorf("the record %s is that of another file", name)
	}
	return aside, err
}

// findFailed finds what is in failed/ of an entry. The error wraps fs.ErrNotExist if that is nothing.
func (o *Outbox) findFailed(id string) (base string, err error) {
	names, err := o.namesIn(o.opts.FailedDir)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		base, suffix := cutSuffix(name)
		if _, found, ok := parseBase(base); ok && found.String() == id && (suffix == dataSuffix || suffix == recordSuffix) {
			return base, nil
		}
	}
	return "", fmt.Errorf("entry %s is not in %s: %w", id, o.opts.FailedDir, fs.ErrNotExist)
}

// Retry puts an entry from failed/ back into the outbox, durably, with its tracking id and its old place in the order. It gets another round: the targets that
// refused it are asked again, those that have it are not. The error wraps fs.ErrNotExist if the entry is not in failed/, and fs.ErrExist if it still waits. After
// an error it is in failed/ as before; should the disk refuse that, too, which the log says, the next Open makes it an entry.
func (o *Outbox) Retry(id string) error {
	return o.withFailed(id, "sending again what has failed", o.retry)
}

// withFailed does something with what is in failed/ of an entry.
func (o *Outbox) withFailed(id, what string, do func(base string) error) error {
	o.aside.Lock()
	defer o.aside.Unlock()
	base, err := o.findFailed(id)
	if err == nil {
		err = do(base)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (o *Outbox) retry(base string) error {
	aside, err := o.readAside(base)
	if isGone(err) { // not what fs.ErrNotExist says of an entry: its file is there
		return fmt.Errorf("its record is missing, and with it the name that the file had: %v", err)
	}
	if err != nil {
		return err
	}
	from := o.failedName(base) + dataSuffix
	if _, err := o.opts.FS.Lstat(from); err != nil {
		return err
	}
	aside.record.anotherRound()
	aside.record.From = from
	e, r, err := o.beginRetry(&aside.record)
	if err != nil {
		return err
	}
	// Protects: the record, which stands only in failed/ until then.
	if err = o.journal.wait(r); err == nil {
		if err = o.rename(from, o.pathOf(e)); err == nil {
			// Protects: the file's place, before its record in failed/ goes and before it is sent.
			if err = o.syncDir(); err != nil {
				err = errors.Join(err, o.putBack(e, from))
			}
		}
	}
	if err == nil {
		_ = o.opts.FS.Remove(o.failedName(base) + recordSuffix) // harmless: Open removes it, and setting the entry aside again writes it again
	}
	o.locked(func() {
		if err == nil {
			o.failed--
			o.take(e)
			return
		}
		e.state = left
		o.journal.place(e, nil, 0)
		o.forgetLane(e.lane)
	})
	if err == nil {
		o.opts.Log.Info("File that has failed is sent again", "trackingId", aside.ID, "name", aside.name(), "bytes", aside.Size, "round", aside.Round)
	}
	return err
}

// anotherRound makes r the record of an entry that is taken back from failed/: it is due, and whoever refused it is asked again.
func (r *record) anotherRound() {
	r.Round++
	r.Refused, r.Wait, r.Yield = nil, 0, false
	r.Tentative, r.Attempted = false, false
}

// beginRetry makes an entry of a record, and adds it to the journal's next round.
func (o *Outbox) beginRetry(r *record) (*entry, *round[lines], error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, nil, errClosed
	}
	id, _ := parseID(r.ID)
	if o.entries[id] != nil {
		return nil, nil, fmt.Errorf("entry %s waits in the outbox: %w", id, fs.ErrExist)
	}
	e := &entry{seq: r.Seq, id: id}
	o.restore(e, r)
	return e, o.write(e), nil
}

// Discard removes an entry from failed/, durably. The error wraps fs.ErrNotExist if it is not there, and fs.ErrExist if it is being set aside. After an error
// it may be there or not.
func (o *Outbox) Discard(id string) error {
	return o.withFailed(id, "discarding what has failed", o.discardFailed)
}

func (o *Outbox) discardFailed(base string) error {
	_, id, _ := parseBase(base)
	waits := false
	o.locked(func() { waits = o.entries[id] != nil })
	if waits {
		return fmt.Errorf("entry %s waits in the outbox: %w", id, fs.ErrExist)
	}
	f, err := o.readFailed(base)
	if ignoreGone(err) != nil {
		return err
	}
	removed := o.opts.FS.Remove(o.failedName(base) + dataSuffix)
	if removed == nil {
		o.locked(func() { o.failed-- })
	}
	err = errors.Join(ignoreGone(removed), ignoreGone(o.opts.FS.Remove(o.failedName(base)+recordSuffix)))
	if err == nil {
		// Protects: that it is gone, as whoever has asked for it was told.
		err = o.opts.FS.SyncDir(o.opts.FailedDir)
	}
	if err == nil {
		o.opts.Log.Info("File that has failed was discarded", "trackingId", id.String(), "name", f.Name, "bytes", f.Size, "reason", f.Reason, "error", f.Error)
	}
	return err
}

// tellFailed says at the start that something in failed/ waits for somebody.
func (o *Outbox) tellFailed() {
	if o.failed == 0 {
		return
	}
	bases, _ := o.failedBases()
	for _, base := range bases { // the first one is the oldest
		if f, err := o.readFailed(base); err == nil {
			o.opts.Log.Warn("Files cannot be delivered and are set aside until somebody sends them again or discards them", "files", o.failed,
				"oldest", f.Name, "trackingId", f.ID, "accepted", f.Accepted.Format(time.RFC3339), "reason", f.Reason, "error", f.Error)
			return
		}
	}
}
