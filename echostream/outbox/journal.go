package outbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"sync"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

const (
	// maxSegmentSize is where a segment ends and the next one begins.
	maxSegmentSize = 4 << 20
	// maxSegments are kept before small ones are merged: restarts in an outage leave one each.
	maxSegments = 16
)

// journal holds the records of the entries, in segments that are only ever appended to. One write and one sync serve
// all who want something recorded at the same time.
type journal struct {
	fs      disk.FS
	dir     string
	header  func() header // for a new segment
	mu      sync.Locker   // Outbox.mu
	rounds  *shared[lines]
	reserve *reserve

	segmentSize int64 // is maxSegmentSize; some tests have less

	// Guarded by mu.
	segments []*segment // in their order; the last one is kept even if nothing in it lives
	owed     []*entry   // a write that failed may have left values of them on the disk that were refused: the next round has the true ones

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

// lines are those of one round.
type lines struct {
	data bytes.Buffer
	of   []lineOf
}

// add adds a line, and returns its length. It is for lines that cannot fail: Put and Edit have checked what comes from outside.
func (l *lines) add(v any) (bytes int64) {
	before := l.data.Len()
	if err := encodeLine(&l.data, v); err != nil {
		panic(err)
	}
	return int64(l.data.Len() - before)
}

// lineOf is what a line, or a part of one, is about.
type lineOf struct {
	entry *entry
	bytes int64
}

func segmentName(number uint64) string { return fmt.Sprintf("%016d%s", number, journalSuffix) }

func newJournal(fsys disk.FS, dir string, header func() header, mu sync.Locker) *journal {
	j := &journal{fs: fsys, dir: dir, header: header, mu: mu, segmentSize: maxSegmentSize}
	j.rounds = newShared(j.write)
	return j
}

// add puts lines into the next round. The lines of one entry must be added in the order of what they say, so
// mu is held from reading the state until after add.
func (j *journal) add(put func(*lines)) *round[lines] { return j.rounds.add(put) }

// wait returns nil when the lines of the round are durable, or there is no round. After an error they may be on
// the disk or not, and can be added again.
func (j *journal) wait(r *round[lines]) error {
	if r == nil {
		return nil
	}
	return j.rounds.wait(r)
}

// write makes the lines of a round durable.
func (j *journal) write(l *lines) error {
	if l.data.Len() == 0 {
		return nil
	}
	if err := j.reserve.use(func() error { return j.append(l.data.Bytes()) }); err != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, line := range l.of {
			j.owed = append(j.owed, line.entry)
		}
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.current
	for _, line := range l.of {
		j.place(line.entry, s, line.bytes)
	}
	s.size += int64(l.data.Len())
	return nil
}

// append adds data to the current segment, durably.
func (j *journal) append(data []byte) error {
	if j.current != nil && j.current.size+int64(len(data)) > j.segmentSize {
		j.current = nil
	}
	if j.current == nil {
		s, err := j.create()
		if err != nil {
			return fmt.Errorf("making a journal segment: %w", err)
		}
		j.current = s
	}
	err := disk.WriteAll(j.current.file, data)
	if err == nil {
		// Protects: the record of a file must be there when its rename is, and what was acknowledged
		// must be known before more is sent.
		err = j.current.file.Sync()
	}
	if err != nil {
		// The end of the segment is unknown and its pages are not to be trusted: it is never
		// appended to or synced again. What was durable in it before still is. The lines that failed go if they can: this process may end before
		// it writes the true ones, which owed keeps for the next round, and the next process is not to find these.
		_ = j.current.file.Truncate(j.current.size)
		j.current = nil
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

// place notes where an entry's latest line stands; nil: none is needed any more. mu is held.
func (j *journal) place(e *entry, s *segment, bytes int64) {
	if e.segment != nil {
		e.segment.live--
		e.segment.liveBytes -= int64(e.bytes)
	}
	if e.state == left {
		s = nil
	}
	e.segment, e.bytes = s, uint32(bytes)
	if s != nil {
		s.live++
		s.liveBytes += bytes
	}
}

// create makes a new segment, durable with its name before anything relies on it.
func (j *journal) create() (*segment, error) {
	var first lines
	first.add(j.header())
	// A number that failed is not used again: what is left of it is not known.
	j.number++
	s := &segment{number: j.number, name: path.Join(j.dir, segmentName(j.number)), size: int64(first.data.Len())}
	var err error
	s.file, err = j.fs.OpenFile(s.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err = disk.WriteAll(s.file, first.data.Bytes()); err == nil {
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

// addSegment keeps account of a new segment. Outbox.mu is held.
func (j *journal) addSegment(s *segment) {
	if n := len(j.segments); n > 0 {
		j.segments[n-1].sealed = true
	}
	j.segments = append(j.segments, s)
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
		if s.sealed && s.live > 0 && (s.liveBytes < s.size/4 || len(j.segments) > maxSegments && s.size < j.segmentSize/2) {
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

// chunk is how much of a segment is in memory at a time, if no line is longer.
const chunk = 256 << 10

// readHeader reads the first line. torn: there is none that can be used, so the segment was made and never used. Only a newer format and a
// disk that cannot be read are errors.
func (s *segment) readHeader() (next uint64, torn bool, err error) {
	info, err := s.file.Stat()
	if err != nil {
		return 0, false, err
	}
	s.size = info.Size()
	first, err := bufio.NewReader(io.NewSectionReader(s.file, 0, s.size)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, false, fmt.Errorf("reading the journal: %w", err)
	}
	var h struct { // no more of it: a newer format may have the rest otherwise
		Format int    `json:"format"`
		Next   uint64 `json:"next"`
	}
	data, err := lineJSON(first)
	if err != nil || json.Unmarshal(data, &h) != nil {
		return 0, true, nil
	}
	if h.Format > format {
		return 0, false, newerError(s.name, h.Format)
	}
	return h.Next, false, nil
}

// read hands over the lines, the header as one that has what they have in common: nil for a damaged one, which a power cut leaves at the end. What is
// handed over is valid only until take returns.
func (s *segment) read(take func(line *journalLine, bytes int64)) error {
	buffer, rest := make([]byte, min(chunk, s.size+1)), 0
	var texts [][]byte
	var lines []parsedLine
	for at, ended := int64(0), false; !ended; {
		n, err := s.file.ReadAt(buffer[rest:], at)
		if ended = errors.Is(err, io.EOF); err != nil && !ended {
			return fmt.Errorf("reading the journal: %w", err)
		}
		at += int64(n)
		data := buffer[:rest+n]
		whole := data
		if !ended {
			whole = data[:bytes.LastIndexByte(data, '\n')+1]
		}
		rest = len(data) - len(whole)
		texts = slices.AppendSeq(texts[:0], bytes.Lines(whole))
		lines = slices.Grow(lines[:0], len(texts))[:len(texts)]
		parseLines(texts, lines)
		for i := range lines {
			var line *journalLine
			if lines[i].whole {
				line = &lines[i].journalLine
			}
			take(line, int64(len(texts[i])))
		}
		copy(buffer, data[len(whole):])
		if rest == len(buffer) { // one long line
			buffer = append(buffer, make([]byte, len(buffer))...)
		}
	}
	return nil
}

// parsedLine is a line that was read; of one that is not whole nothing is known.
type parsedLine struct {
	journalLine
	whole bool
}

// parseLines parses lines on all processors: there may be 100,000.
func parseLines(texts [][]byte, lines []parsedLine) {
	var wg sync.WaitGroup
	share := len(texts)/runtime.GOMAXPROCS(0) + 1
	for start := 0; start < len(texts); start += share {
		wg.Go(func() {
			for i := start; i < min(start+share, len(texts)); i++ {
				line := &lines[i]
				*line = parsedLine{}
				data, err := lineJSON(texts[i])
				line.whole = err == nil && json.Unmarshal(data, &line.journalLine) == nil
			}
		})
	}
	wg.Wait()
}
