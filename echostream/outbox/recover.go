package outbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// Open opens the outbox in Options.Dir, and makes it if it is not there. It puts right what a crash or an
// operator has left (see the package comment); if it is cut short in that, the next Open goes on. An
// error is that of Options, of the disk, or that a newer program wrote what is there; then nothing was changed.
func Open(opts Options) (*Outbox, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	o := &Outbox{
		opts:     opts,
		kick:     make(chan struct{}, 1),
		lanes:    map[string]*lane{},
		targets:  map[string]*target{},
		refusals: map[*waiting][]refusal{},
	}
	o.preparing.flights = map[*waiting]*flight{}
	o.dirSync = newShared(o.syncArrivals)
	o.journal = newJournal(opts.FS, opts.Dir, func() uint64 { return o.lastSeq.Load() + 1 }, &o.mu)

	r := recovery{Outbox: o, found: map[key]*waiting{}, claims: map[key]claim{}, lanes: map[*waiting]string{}}
	if err = r.read(); err == nil {
		err = r.repair()
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("opening the outbox %q: %w", opts.Dir, err)
	}
	r.admit()
	return o, nil
}

// recovery is the work of Open: first everything is read, then what is not right is changed.
type recovery struct {
	*Outbox
	found    map[key]*waiting    // by the files
	lanes    map[*waiting]string // of those that have a record
	names    map[string]string   // each lane's name once
	loose    []looseRecord       // put back by an operator
	claims   map[key]claim       // interrupted; by the last line of each
	unused   []*segment          // torn, and nothing lives in them
	leftover []string            // temporary files
}

// looseRecord is a record file with its file in the outbox.
type looseRecord struct {
	name   string
	record record
	entry  *waiting
}

// claim is a record whose file may still stand where Put found it.
type claim struct {
	entry *waiting
	brief brief
}

// close gives the files back. They were only read, and the error that led here says more than theirs.
func (r *recovery) close() {
	for _, s := range slices.Concat(r.journal.segments, r.unused) {
		s.file.Close()
	}
}

// read reads the outbox and changes nothing.
func (r *recovery) read() error {
	names, err := r.list(r.opts.Dir)
	if err != nil {
		return err
	}
	failed, err := r.list(r.opts.FailedDir)
	if err != nil {
		return err
	}
	var segments, records []string
	for _, name := range names {
		base, suffix := cutSuffix(name)
		switch suffix {
		case dataSuffix:
			if k, ok := parseBase(base); ok {
				r.found[k] = &waiting{key: k}
				r.sawSeq(k.seq)
				continue
			}
		case recordSuffix:
			if _, ok := parseBase(base); ok {
				records = append(records, path.Join(r.opts.Dir, name))
				continue
			}
		case journalSuffix:
			if number, err := strconv.ParseUint(base, 10, 64); err == nil && segmentName(number) == name {
				segments = append(segments, name)
				r.journal.number = max(r.journal.number, number)
				continue
			}
		}
		if disk.IsTemp(name) {
			r.leftover = append(r.leftover, path.Join(r.opts.Dir, name))
			continue
		}
		r.opts.Log.Warn("A file in the outbox is none of its own and is left alone", "file", path.Join(r.opts.Dir, name))
	}
	for _, name := range failed {
		base, suffix := cutSuffix(name)
		k, ok := parseBase(base)
		switch {
		case ok && suffix == dataSuffix:
			r.stats.Failed++
			r.sawSeq(k.seq)
		case ok && suffix == recordSuffix && r.found[k] != nil:
			// Set aside half-way, or moved back without its record. If the journal has
			// nothing about it, this has.
			records = append(records, path.Join(r.opts.FailedDir, name))
		case disk.IsTemp(name):
			r.leftover = append(r.leftover, path.Join(r.opts.FailedDir, name))
		}
	}
	for _, name := range segments {
		if err := r.readSegment(name); err != nil {
			return err
		}
	}
	for _, name := range records {
		if err := r.readLoose(name); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) list(dir string) ([]string, error) {
	entries, err := r.opts.FS.ReadDir(dir)
	if err != nil {
		return nil, ignoreGone(err) // none there yet
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// cutSuffix cuts a name at its last dot.
func cutSuffix(name string) (base, suffix string) {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i], name[i:]
	}
	return name, ""
}

// sawSeq keeps a sequence number from being given again.
func (r *recovery) sawSeq(seq uint64) {
	if seq > r.lastSeq.Load() {
		r.lastSeq.Store(seq)
	}
}

// brief is what of a record is kept in memory.
type brief struct {
	Seq       uint64    `json:"seq"`
	ID        string    `json:"id"`
	Lane      string    `json:"lane"`
	LaneBytes []byte    `json:"laneBytes"`
	Size      int64     `json:"size"`
	Accepted  time.Time `json:"accepted"`
	origin
	progress
}

// parsed is a line of a segment.
type parsed struct {
	brief          brief
	key            key
	offset, length int
	bad            bool
}

// readSegment reads a segment and what it says about the files that were found.
func (r *recovery) readSegment(name string) error {
	s := &segment{name: path.Join(r.opts.Dir, name)}
	var err error
	if s.file, err = r.opts.FS.OpenFile(s.name, os.O_RDWR, 0); err != nil {
		return err
	}
	r.journal.addSegment(s)
	text, err := readSegment(s.file, s.name)
	if err != nil {
		return err
	}
	s.size = int64(len(text.data))
	if text.header.Next > 0 {
		r.sawSeq(text.header.Next - 1)
	}
	bad := 0
	for _, p := range parseLines(text.data, text.torn) {
		if p.bad {
			bad++
			continue
		}
		r.sawSeq(p.key.seq)
		at := location{s, uint32(p.offset), uint32(p.length)}
		e := r.found[p.key]
		if e == nil { // delivered, or its rename never happened
			if p.brief.From != "" {
				c := claim{r.claims[p.key].entry, p.brief}
				if c.entry == nil {
					c.entry = &waiting{key: p.key}
				}
				c.entry.place(at)
				r.claims[p.key] = c
			}
			continue
		}
		r.note(e, &p.brief)
		e.place(at)
	}
	if text.torn && s.live == 0 {
		r.journal.segments = r.journal.segments[:len(r.journal.segments)-1]
		r.unused = append(r.unused, s)
		return nil
	}
	if bad > 0 {
		// A power cut tears the last lines; those were never relied on.
		r.opts.Log.Debug("The journal has damaged lines", "file", s.name, "lines", bad)
	}
	return nil
}

// note takes over what a record says.
func (r *recovery) note(e *waiting, b *brief) {
	e.size, e.accepted = b.Size, b.Accepted.UnixNano()
	lane := b.Lane
	if b.LaneBytes != nil {
		lane = string(b.LaneBytes)
	}
	if r.names == nil {
		r.names = map[string]string{}
	}
	if known, ok := r.names[lane]; ok {
		lane = known
	} else {
		r.names[lane] = lane
	}
	r.lanes[e] = lane
	r.merge(e, b.progress)
}

// parseLines parses the lines of a segment on all processors: there may be 100,000.
func parseLines(data []byte, torn bool) []parsed {
	start := 0
	if !torn {
		start = bytes.IndexByte(data, '\n') + 1 // the header
	}
	workers := runtime.GOMAXPROCS(0)
	share := (len(data)-start)/workers + 1
	parts := make([][]parsed, workers)
	var wg sync.WaitGroup
	for i := range parts {
		if start >= len(data) {
			break
		}
		end := min(start+share, len(data))
		if n := bytes.IndexByte(data[end:], '\n'); n >= 0 {
			end += n + 1
		} else {
			end = len(data)
		}
		from, to := start, end
		wg.Go(func() { parts[i] = parsePart(data, from, to) })
		start = end
	}
	wg.Wait()
	return slices.Concat(parts...)
}

func parsePart(data []byte, from, to int) (lines []parsed) {
	for from < to {
		length := to - from
		if n := bytes.IndexByte(data[from:to], '\n'); n >= 0 {
			length = n + 1
		}
		p := parsed{offset: from, length: length, bad: true}
		if text, err := lineJSON(data[from : from+length]); err == nil && json.Unmarshal(text, &p.brief) == nil {
			id, ok := parseID(p.brief.ID)
			p.key, p.bad = key{p.brief.Seq, id}, !ok
		}
		lines = append(lines, p)
		from += length
	}
	return lines
}

// readLoose reads a record file whose file is in the outbox.
func (r *recovery) readLoose(name string) error {
	base, _ := cutSuffix(path.Base(name))
	k, _ := parseBase(base)
	e := r.found[k]
	if e == nil {
		r.opts.Log.Warn("A record in the outbox has no file and is left alone", "file", name)
		return nil
	}
	if path.Dir(name) == r.opts.FailedDir && e.at.segment != nil {
		// The journal knows the file: it was not set aside in the end.
		r.leftover = append(r.leftover, name)
		return nil
	}
	f, err := r.opts.FS.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	aside, err := decodeSetAside(name, data)
	if err != nil {
		if newer := (*newerError)(nil); errors.As(err, &newer) {
			return err
		}
		r.opts.Log.Error("A record in the outbox cannot be read and is left alone", "file", name, "error", err)
		return nil
	}
	if aside.Seq != k.seq || aside.ID != k.id.String() {
		r.opts.Log.Error("A record in the outbox belongs to another file and is left alone", "file", name)
		return nil
	}
	r.loose = append(r.loose, looseRecord{name, aside.record, e})
	return nil
}

// repair puts right what read has found. Each step can be done again if the next one is not reached.
func (r *recovery) repair() error {
	if err := disk.MkdirAll(r.opts.FS, r.opts.Dir, 0o700); err != nil {
		return err
	}
	if err := disk.MkdirAll(r.opts.FS, r.opts.FailedDir, 0o700); err != nil {
		return err
	}
	for _, s := range r.journal.segments {
		// Protects: what a killed process had written but not synced. It is relied on from now on.
		if err := s.file.Sync(); err != nil {
			return fmt.Errorf("syncing the journal: %w", err)
		}
	}
	if err := r.finishClaims(); err != nil {
		return err
	}
	// Protects: these renames, and those of a killed process. What is sent from here must not turn up elsewhere.
	if err := r.opts.FS.SyncDir(r.opts.Dir); err != nil {
		return err
	}
	if err := r.takeBack(); err != nil {
		return err
	}
	if err := r.setAsideUnknown(); err != nil {
		return err
	}
	for _, name := range r.leftover {
		if err := ignoreGone(r.opts.FS.Remove(name)); err != nil {
			return err
		}
	}
	return r.journal.remove(append(r.journal.takeDead(), r.unused...))
}

// finishClaims renames the files that a power cut has brought back to where they were, when it has kept a later rename:
// taken anew, they would get places behind that one. All others are for their owner to put in again.
func (r *recovery) finishClaims() error {
	var last uint64
	for k := range r.found {
		last = max(last, k.seq)
	}
	newest := map[string]uint64{} // by path: one that was put in again counts for its latest place
	for k, c := range r.claims {
		newest[c.brief.From] = max(newest[c.brief.From], k.seq)
	}
	for _, c := range slices.SortedFunc(maps.Values(r.claims), func(a, b claim) int { return bySeq(a.entry, b.entry) }) {
		e := c.entry
		stands := false
		if e.seq < last && e.seq == newest[c.brief.From] {
			var err error
			if stands, err = r.stands(c.brief); err != nil {
				return err
			}
		}
		if !stands {
			e.leave()
			continue
		}
		if err := r.opts.FS.Rename(c.brief.From, path.Join(r.opts.Dir, baseName(e.seq, e.id.String())+dataSuffix)); err != nil {
			return err
		}
		r.found[e.key] = e
		r.note(e, &c.brief)
	}
	return nil
}

// stands tells whether the file of a record is still where Put found it.
func (r *recovery) stands(b brief) (bool, error) {
	if b.Void {
		return false, nil
	}
	info, err := r.opts.FS.Lstat(b.From)
	if isGone(err) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil // delivered long ago, mostly
	}
	if err != nil {
		return false, err
	}
	return info.Mode().IsRegular() && info.Size() == b.Size && jsonTime(disk.ChangeTime(info)).Equal(b.Changed), nil
}

// takeBack takes over the records that an operator has moved back from failed/ with their files. They
// get another round: the targets that refused the entry are asked again, those that have it are not.
func (r *recovery) takeBack() error {
	if len(r.loose) == 0 {
		return nil
	}
	var additions []addition
	r.mu.Lock()
	for _, l := range r.loose {
		p := l.record.progress
		p.Round++
		p.Refused = nil
		e := l.entry
		r.note(e, &brief{Lane: l.record.Lane, LaneBytes: l.record.LaneBytes, Size: l.record.Size, Accepted: l.record.Accepted, progress: p})
		text, err := r.line(e, l.record.entry(r.opts.Dir))
		if err != nil {
			r.mu.Unlock()
			return err
		}
		additions = append(additions, addition{e, text})
	}
	round := r.journal.add(additions)
	r.mu.Unlock()
	// Protects: the record, which stands in no other place after the next step.
	if err := r.journal.wait(round); err != nil {
		return err
	}
	for _, l := range r.loose {
		if err := ignoreGone(r.opts.FS.Remove(l.name)); err != nil {
			return err
		}
	}
	return nil
}

// setAsideUnknown sets files aside that have no record. No crash leaves such a file: a record is durable before
// its file is renamed, and is forgotten only after the removal of the file has become durable. So it is
// damage or an operator's doing, and the file may never have been delivered: it is kept.
func (r *recovery) setAsideUnknown() error {
	for _, e := range slices.SortedFunc(maps.Values(r.found), bySeq) {
		if e.at.segment != nil {
			continue
		}
		delete(r.found, e.key)
		base := baseName(e.seq, e.id.String())
		name := path.Join(r.opts.Dir, base+dataSuffix)
		info, err := r.opts.FS.Lstat(name)
		if err != nil {
			return err
		}
		entry := Entry{ID: e.id.String(), Name: base, Size: info.Size(), ModTime: info.ModTime(), Accepted: disk.ChangeTime(info)}
		aside := setAside{Format: format, record: newRecord(e.seq, entry), Failure: failure{
			Reason: "its record is missing or damaged", Error: "the name that the file had is not known", Time: time.Now().UTC(),
		}}
		if err := r.storeAside(aside, name); err != nil {
			return err
		}
		r.stats.Failed++
		r.opts.Log.Error("A file in the outbox has no record and was set aside", "trackingId", entry.ID,
			"bytes", entry.Size, "file", path.Join(r.opts.FailedDir, base+dataSuffix))
	}
	return nil
}

// admit hands the entries over, in the order in which they were accepted.
func (r *recovery) admit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range slices.SortedFunc(maps.Values(r.found), bySeq) {
		r.waiting.add(e)
		r.stats.Entries++
		r.stats.Bytes += e.size
		if e.sent {
			e.state, e.known = completed, true
			r.auditing.queue = append(r.auditing.queue, e)
			continue
		}
		r.enqueue(e, r.lanes[e])
	}
}

func bySeq(a, b *waiting) int { return cmp.Compare(a.seq, b.seq) }
