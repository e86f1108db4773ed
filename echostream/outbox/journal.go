package outbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

const (
	// segmentSize is where a segment ends and the next one begins.
	segmentSize = 4 << 20
	// maxSegments are kept before small ones are merged: restarts in an outage leave one each.
	maxSegments = 16
)

// journal holds the records of the entries, in segments that are only ever appended to. One write and one sync serve
// all who want something recorded at the same time.
type journal struct {
	fs      disk.FS
	dir     string
	nextSeq func() uint64
	mu      sync.Locker // Outbox.mu
	rounds  *shared[lines]

	// Guarded by mu.
	segments []*segment // in their order; the last one is kept even if nothing in it lives

	// Used by the running round only.
	number  uint64   // of the last segment made
	current *segment // that is appended to; nil after a failure, and at the start
}

// segment is a file of the journal.
type segment struct {
	number uint64
	name   string
	file   disk.File

	// Guarded by Outbox.mu; size is changed by the running round only.
	size      int64
	sealed    bool // nothing is appended any more
	live      int  // entries whose latest line is here
	liveBytes int64
}

// location is where an entry's latest line stands.
type location struct {
	segment *segment
	offset  uint32
	length  uint32
}

// line is a line for an entry.
type line struct {
	entry *waiting
	at    location
}

// addition is a line to be written.
type addition struct {
	entry *waiting
	text  []byte
}

// lines are those of one round.
type lines struct {
	data  []byte
	lines []line
}

func segmentName(number uint64) string { return fmt.Sprintf("%016d%s", number, journalSuffix) }

func newJournal(fsys disk.FS, dir string, nextSeq func() uint64, mu sync.Locker) *journal {
	j := &journal{fs: fsys, dir: dir, nextSeq: nextSeq, mu: mu}
	j.rounds = newShared(j.write)
	return j
}

// add puts lines into the next round. The lines of one entry must be added in the order of what they say, so
// the caller holds Outbox.mu from reading the state until after add.
func (j *journal) add(batch []addition) *round[lines] {
	return j.rounds.add(func(l *lines) {
		for _, a := range batch {
			l.lines = append(l.lines, line{a.entry, location{offset: uint32(len(l.data)), length: uint32(len(a.text))}})
			l.data = append(l.data, a.text...)
		}
	})
}

// wait returns nil when the lines of the round are durable. After an error they may be on
// the disk or not, and can be added again.
func (j *journal) wait(r *round[lines]) error { return j.rounds.wait(r) }

// write makes the lines of a round durable.
func (j *journal) write(l *lines) error {
	if len(l.data) == 0 {
		return nil
	}
	if j.current != nil && j.current.size+int64(len(l.data)) > segmentSize {
		j.current = nil
	}
	if j.current == nil {
		s, err := j.create()
		if err != nil {
			return fmt.Errorf("making a journal segment: %w", err)
		}
		j.current = s
	}
	s := j.current
	err := disk.WriteAll(s.file, l.data)
	if err == nil {
		// Protects: the record of a file must be there when its rename is, and what was acknowledged
		// must be known before more is sent.
		err = s.file.Sync()
	}
	if err != nil {
		// The end of the segment is unknown and its pages are not to be trusted: it is never
		// appended to or synced again. What was durable in it before still is.
		j.current = nil
		return fmt.Errorf("writing the journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range l.lines {
		line.at.segment = s
		line.at.offset += uint32(s.size)
		line.entry.place(line.at)
	}
	s.size += int64(len(l.data))
	return nil
}

// create makes a new segment, durable with its name before anything relies on it.
func (j *journal) create() (*segment, error) {
	first, err := encodeLine(header{Format: format, Next: j.nextSeq()})
	if err != nil {
		return nil, err
	}
	// A number that failed is not used again: what is left of it is not known.
	j.number++
	s := &segment{number: j.number, name: path.Join(j.dir, segmentName(j.number)), size: int64(len(first))}
	s.file, err = j.fs.OpenFile(s.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = disk.WriteAll(s.file, first); err == nil {
		// The header needs no sync of its own: the round that wanted the segment syncs it.
		// Protects: the segment's name. A record whose file has no name is no record.
		err = j.fs.SyncDir(j.dir)
	}
	if err != nil {
		s.file.Close()
		_ = j.fs.Remove(s.name) // best effort: recovery removes it too
		return nil, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.addSegment(s)
	return s, nil
}

// read reads a line.
func (j *journal) read(at location) (record, error) {
	var r record
	buf := make([]byte, at.length)
	if _, err := at.segment.file.ReadAt(buf, int64(at.offset)); err != nil && !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("reading the journal: %w", err)
	}
	data, err := lineJSON(buf)
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return r, damagedError{fmt.Errorf("reading the record in %s at %d: %w", at.segment.name, at.offset, err)}
	}
	return r, nil
}

// addSegment keeps account of a new segment. Outbox.mu is held.
func (j *journal) addSegment(s *segment) {
	if n := len(j.segments); n > 0 {
		j.segments[n-1].sealed = true
	}
	j.segments = append(j.segments, s)
}

// hold counts a line as the latest of its entry, release counts it no more. Outbox.mu is held.
func (at location) hold() {
	at.segment.live++
	at.segment.liveBytes += int64(at.length)
}

func (at location) release() {
	at.segment.live--
	at.segment.liveBytes -= int64(at.length)
}

// takeDead takes the segments out in which nothing lives. Outbox.mu is held. The last segment stays: it
// knows which sequence numbers were given.
func (j *journal) takeDead() (dead []*segment) {
	last := len(j.segments) - 1
	j.segments = slices.DeleteFunc(slices.Clone(j.segments), func(s *segment) bool {
		if !s.sealed || s.live > 0 || s == j.segments[last] {
			return false
		}
		dead = append(dead, s)
		return true
	})
	return dead
}

// wasteful finds a segment whose few living lines are better written again. Outbox.mu is held.
func (j *journal) wasteful() *segment {
	for _, s := range j.segments {
		if s.sealed && s.live > 0 && (s.liveBytes < s.size/4 || len(j.segments) > maxSegments && s.size < segmentSize/2) {
			return s
		}
	}
	return nil
}

// remove deletes segments in which nothing lives. Their names need no sync: an old
// segment that comes back tells of nothing that is still there, and recovery removes it.
func (j *journal) remove(dead []*segment) error {
	var errs []error
	for _, s := range dead {
		s.file.Close() // it was only read since its last sync
		if err := j.fs.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (j *journal) close() error {
	var errs []error
	for _, s := range j.segments {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}

// segmentText is what a segment holds.
type segmentText struct {
	header header
	torn   bool // no usable header: made, and never used
	data   []byte
}

// readSegment reads a segment as it is. Only a newer format and a disk that cannot be read are errors.
func readSegment(f disk.File, name string) (segmentText, error) {
	var t segmentText
	info, err := f.Stat()
	if err != nil {
		return t, err
	}
	t.data = make([]byte, info.Size())
	if _, err = f.ReadAt(t.data, 0); err != nil && !errors.Is(err, io.EOF) {
		return t, fmt.Errorf("reading the journal: %w", err)
	}
	first, _, _ := bytes.Cut(t.data, []byte("\n"))
	data, err := lineJSON(first)
	if err == nil {
		err = json.Unmarshal(data, &t.header)
	}
	if err != nil {
		t.torn = true
		return t, nil
	}
	if t.header.Format > format {
		return t, &newerError{name, t.header.Format}
	}
	return t, nil
}
