package outbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
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
		opts: opts, entries: map[trackingID]*entry{}, keys: map[string]map[string]*entry{}, older: map[*entry]*entry{}, usage: map[string]usage{},
		lanes: map[string]*lane{}, targets: map[targetID]*target{},
	}
	o.cond.L = &o.mu
	o.prepGates, o.preps = [2]gate{{limit: opts.Workers}, {limit: opts.Workers}}, map[*entry]*preparation{}
	o.intakes = newShared(o.makeDurable)
	o.dirSync = newShared(func(*struct{}) error { return opts.FS.SyncDir(opts.Dir) })
	o.reserve = &reserve{fs: opts.FS, dir: opts.Dir, size: opts.Reserve}
	o.journal = newJournal(opts.FS, opts.Dir, o.header, &o.mu)
	o.journal.reserve = o.reserve

	r := recovery{Outbox: o, loose: map[string]*entry{}, movedTo: map[string]bool{}}
	if err = r.read(); err == nil {
		err = r.repair()
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("opening the outbox %q: %w", opts.Dir, err)
	}
	return o, nil
}

func (o *Outbox) header() header {
	o.mu.Lock()
	defer o.mu.Unlock()
	return header{Format: format, Next: o.lastSeq + 1, Moved: o.moved, Late: o.freshLate()}
}

// recovery is the work of Open: first everything is read, then what is not right is changed. Meanwhile Outbox.entries are the files in the outbox, as the
// latest record of each says; those without one are still accepting.
type recovery struct {
	*Outbox
	loose    map[string]*entry // by the name of its record's file: put back by an operator
	halfway  []*entry          // that have a name in failed/ too
	moves    []moveRecord
	unused   []*segment      // torn, and nothing lives in them
	leftover []string        // temporary files
	movedTo  map[string]bool // directories to which withdrawn files were moved
}

// close gives the files back. They were only read, and the error that led here says more than theirs.
func (r *recovery) close() {
	for _, s := range slices.Concat(r.journal.segments, r.unused) {
		s.file.Close()
	}
}

// read reads the outbox and changes nothing.
func (r *recovery) read() error {
	names, err := r.namesIn(r.opts.Dir)
	if err != nil {
		return err
	}
	aside, err := r.namesIn(r.opts.FailedDir)
	if err != nil {
		return err
	}
	r.entries = make(map[trackingID]*entry, len(names))
	var segments, records []string
	for _, name := range names {
		base, suffix := cutSuffix(name)
		switch suffix {
		case dataSuffix:
			if seq, id, ok := parseBase(base); ok && r.entries[id] == nil {
				r.entries[id] = &entry{seq: seq, id: id}
				r.sawSeq(seq)
				continue
			}
		case recordSuffix:
			if _, _, ok := parseBase(base); ok {
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
		if name == reserveName {
			continue
		}
		r.opts.Log.Warn("A file in the outbox is none of its own and is left alone", "file", path.Join(r.opts.Dir, name))
	}
	for _, name := range aside {
		base, suffix := cutSuffix(name)
		seq, id, ok := parseBase(base)
		e := r.find(seq, id)
		switch {
		case ok && suffix == dataSuffix && e != nil:
			r.halfway = append(r.halfway, e)
		case ok && suffix == dataSuffix:
			r.failed++
			r.sawSeq(seq)
		case ok && suffix == recordSuffix && e != nil:
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

// find gives the file of this name in the outbox, or nil.
func (r *recovery) find(seq uint64, id trackingID) *entry {
	if e := r.entries[id]; e != nil && e.seq == seq {
		return e
	}
	return nil
}

// namesIn lists what is in a directory, sorted; nothing if that is not there.
func (o *Outbox) namesIn(dir string) ([]string, error) {
	entries, err := o.opts.FS.ReadDir(dir)
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
func (r *recovery) sawSeq(seq uint64) { r.lastSeq = max(r.lastSeq, seq) }

// readSegment reads a segment and what it says about the files that were found.
func (r *recovery) readSegment(name string) error {
	s := &segment{name: path.Join(r.opts.Dir, name)}
	var err error
	if s.file, err = r.opts.FS.OpenFile(s.name, os.O_RDWR, 0); err != nil {
		return err
	}
	r.journal.addSegment(s)
	next, torn, err := s.readHeader()
	if err != nil {
		return err
	}
	r.sawSeq(max(next, 1) - 1)
	bad := 0
	err = s.read(func(line *journalLine, bytes int64) {
		if line == nil {
			bad++
			return
		}
		r.moved = max(r.moved, line.Moved)
		for _, l := range line.Late {
			r.noteLate(l)
		}
		if line.Move != nil {
			r.sawSeq(line.Move.ID)
			r.moves = append(r.moves, *line.Move)
		}
		if line.ID != "" {
			r.note(&line.record, s, bytes)
		}
		for i := range line.All {
			r.note(&line.All[i], s, bytes/int64(len(line.All)))
		}
	})
	if err != nil {
		return err
	}
	if torn && s.live == 0 {
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

// note takes over a record; the last one of a file counts.
func (r *recovery) note(record *record, s *segment, bytes int64) {
	r.sawSeq(max(record.Seq, record.Place))
	id, _ := parseID(record.ID)
	e := r.find(record.Seq, id)
	if e != nil {
		r.restore(e, record)
		r.journal.place(e, s, bytes)
	} else if record.Withdrawn && record.To != "" { // it has left
		r.movedTo[path.Dir(record.To)] = true
	}
}

// readLoose reads a record file whose file is in the outbox.
func (r *recovery) readLoose(name string) error {
	base, _ := cutSuffix(path.Base(name))
	seq, id, _ := parseBase(base)
	e := r.find(seq, id)
	if e == nil {
		r.opts.Log.Warn("A record in the outbox has no file and is left alone", "file", name)
		return nil
	}
	if path.Dir(name) == r.opts.FailedDir && e.state != accepting {
		// The journal knows the file: it was not set aside in the end.
		r.leftover = append(r.leftover, name)
		return nil
	}
	data, err := disk.ReadFile(r.opts.FS, name, maxRecordFile)
	if err != nil {
		return err
	}
	aside, err := decodeSetAside(name, data)
	if err != nil {
		if errors.Is(err, errNewer) {
			return err
		}
		r.opts.Log.Error("A record in the outbox cannot be read and is left alone", "file", name, "error", err)
		return nil
	}
	if baseName(aside.Seq, aside.ID) != base {
		r.opts.Log.Error("A record in the outbox belongs to another file and is left alone", "file", name)
		return nil
	}
	aside.record.anotherRound()
	r.restore(e, &aside.record)
	r.journal.place(e, nil, 0) // what the journal says counts no more
	r.loose[name] = e
	return nil
}

// repair puts right what read has found. Each step can be done again if the next one is not reached.
func (r *recovery) repair() error {
	if err := disk.MkdirAll(r.opts.FS, r.opts.Dir, 0o700); err != nil {
		return err
	}
	disk.Hold(r.opts.FS, r.opts.Dir)
	if err := disk.MkdirAll(r.opts.FS, r.opts.FailedDir, 0o700); err != nil {
		return err
	}
	for _, s := range r.journal.segments {
		// Protects: what a killed process had written but not synced. It is relied on from now on.
		if err := s.file.Sync(); err != nil {
			return fmt.Errorf("syncing the journal: %w", err)
		}
	}
	// Protects: the names of a killed process. What is sent from here must not turn up elsewhere.
	if err := r.opts.FS.SyncDir(r.opts.Dir); err != nil {
		return err
	}
	// Protects: what a killed process has moved out of the outbox must not come back once its record is forgotten.
	if err := r.syncDirs(slices.Collect(maps.Keys(r.movedTo))...); err != nil {
		return err
	}
	for _, step := range []func() error{r.finishMoves, r.removeSecondNames, r.takeBack, r.setAsideUnknown, r.admit} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, name := range r.leftover {
		if err := ignoreGone(r.opts.FS.Remove(name)); err != nil {
			return err
		}
	}
	r.tellFailed()
	r.reserve.make()
	return r.journal.remove(append(r.journal.takeDead(), r.unused...))
}

// syncDirs syncs those directories that are there.
func (r *recovery) syncDirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := ignoreNone(r.opts.FS.SyncDir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// finishMoves renames the directories whose rename was cut short, and notes that.
func (r *recovery) finishMoves() error {
	for _, m := range r.moves {
		if m.ID <= r.moved {
			continue
		}
		from, to := string(m.From), string(m.To)
		_, fromErr := r.opts.FS.Lstat(from)
		_, toErr := r.opts.FS.Lstat(to)
		if err := errors.Join(ignoreNone(fromErr), ignoreNone(toErr)); err != nil {
			return err
		}
		if fromErr == nil && toErr != nil {
			if err := r.move(Move{from, to}); err != nil {
				return err
			}
		} else if err := r.syncDirs(path.Dir(to), path.Dir(from)); err != nil { // a process did it that was killed before it synced
			return err
		}
		r.moved = m.ID
		// Protects: see Edit.
		if err := r.journal.wait(r.writeWith(&journalLine{Moved: m.ID})); err != nil {
			return err
		}
	}
	return nil
}

// removeSecondNames removes the names from which files were taken, where a power cut has left them beside the ones in the outbox, and those
// in failed/ of files whose setting aside came undone. Of a file that goes back to such a name it is the one in the outbox that goes (see moveBack).
func (r *recovery) removeSecondNames() error {
	dirs := map[string]map[string]bool{} // with the names in them: to ask for each of 100,000 takes seconds
	for _, e := range r.entries {
		if e.from == "" || e.hidden() && e.exit.to == e.from {
			continue
		}
		dir, base := path.Split(e.from)
		dir = path.Clean(dir)
		if dirs[dir] == nil {
			names, err := r.namesIn(dir)
			if ignoreNone(err) != nil {
				return err
			}
			dirs[dir] = map[string]bool{}
			for _, name := range names {
				dirs[dir][name] = true
			}
		}
		if dirs[dir][base] {
			if _, err := r.removeSecond(e, e.from); err != nil {
				return err
			}
		}
		e.from = "" // from here on it has one name
	}
	for _, e := range r.halfway {
		dirs[r.opts.FailedDir] = nil
		name := r.failedName(e.base()) + dataSuffix
		second, err := r.removeSecond(e, name)
		if err != nil {
			return err
		}
		if _, err = r.opts.FS.Lstat(name); err == nil && !second {
			r.failed++ // another file
		}
	}
	// Protects: that it has one name. See syncSources. The one in failed/ must not be all that is left of an entry.
	return r.syncDirs(slices.Collect(maps.Keys(dirs))...)
}

// removeSecond removes a further name of a file, if it is one.
func (r *recovery) removeSecond(e *entry, name string) (removed bool, err error) {
	same, err := r.isSame(r.pathOf(e), name)
	if err == nil && same {
		err = r.opts.FS.Remove(name)
	}
	return err == nil && same, err
}

// takeBack takes over the records that an operator has moved back from failed/ with their files. They
// get another round: the targets that refused the entry are asked again, those that have it are not.
func (r *recovery) takeBack() error {
	if len(r.loose) == 0 {
		return nil
	}
	var round *round[lines]
	r.locked(func() { round = r.write(slices.Collect(maps.Values(r.loose))...) })
	// Protects: the record, which stands in no other place after the next step.
	if err := r.journal.wait(round); err != nil {
		return err
	}
	for name := range r.loose {
		if err := ignoreGone(r.opts.FS.Remove(name)); err != nil {
			return err
		}
	}
	return nil
}

// setAsideUnknown sets files aside that have no record. No crash leaves such a file: a record is durable before
// its file is renamed, and is forgotten only after the removal of the file has become durable. So it is
// damage or an operator's doing, and the file may never have been delivered: it is kept.
func (r *recovery) setAsideUnknown() error {
	var unknown []*entry
	for _, e := range r.entries {
		if e.state == accepting {
			unknown = append(unknown, e)
		}
	}
	slices.SortFunc(unknown, byPlace)
	for _, e := range unknown {
		delete(r.entries, e.id)
		name, base := r.pathOf(e), e.base()
		info, err := r.opts.FS.Lstat(name)
		if err != nil {
			return err
		}
		aside := setAside{Format: format,
			record: record{Seq: e.seq, ID: e.id.String(), Name: base, Size: info.Size(), ModTime: jsonTime(info.ModTime()), Accepted: jsonTime(disk.ChangeTime(info))},
			Failure: failure{
				Reason: "its record is missing or damaged", Error: "the name that the file had is not known", Time: time.Now().UTC(),
			}}
		if err := r.storeAside(aside, name); err != nil {
			return err
		}
		r.failed++
		r.opts.Log.Error("A file in the outbox has no record and was set aside", "trackingId", e.id.String(),
			"bytes", info.Size(), "file", path.Join(r.opts.FailedDir, base+dataSuffix))
	}
	return nil
}

// admit makes entries of what is left, in their order, and has the files go that others have replaced, that their owners have withdrawn or were told
// nothing of, or that Put has given up.
func (r *recovery) admit() error {
	all := slices.AppendSeq(make([]*entry, 0, len(r.entries)), maps.Values(r.entries))
	slices.SortFunc(all, byPlace)
	for _, e := range all {
		switch old := e.replaces; {
		case old == nil:
		case old.state == accepting || e.state == voided || old.seq >= e.seq:
			e.replaces = nil
		default:
			old.state, old.exit = withdrawn, &exit{}
		}
	}
	var leavers []*entry
	r.locked(func() {
		for _, e := range all {
			e.lane.entries++
			r.link(e)
			if e.hidden() {
				leavers, e.noted = append(leavers, e), true
			} else if e.state == sent {
				r.unaudited = append(r.unaudited, e)
			}
		}
		maps.DeleteFunc(r.lanes, func(_ string, l *lane) bool { return l.entries == 0 }) // of records that are not the latest
	})
	for len(leavers) > 0 {
		var ready []*entry
		ready, leavers = removable(leavers)
		if _, err := r.removeFiles(ready); err != nil {
			return err
		}
		for _, e := range all {
			if e.replaces != nil && e.replaces.state == left {
				e.replaces = nil // a Put that failed may have replaced it, too
			}
		}
	}
	r.locked(func() {
		for _, e := range all {
			r.place(e)
		}
	})
	return nil
}
