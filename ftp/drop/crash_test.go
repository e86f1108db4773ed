package drop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// The tests of this file run one life of a Drop on the simulated disk and cut its power, or let it fail, at every operation.

func TestEveryCrash(t *testing.T) {
	disktest.InOrder(t, func(t *testing.T) {
		opts := crashOptions()
		opts.MinOps = 200
		disktest.EveryCrash(t, opts, newLife)
	})
}

// TestEveryCrashWhereFilesAreDelivered is of a Drop that acknowledges what is delivered.
func TestEveryCrashWhereFilesAreDelivered(t *testing.T) {
	disktest.InOrder(t, func(t *testing.T) {
		opts := crashOptions()
		opts.MinOps = 60
		disktest.EveryCrash(t, opts, func() disktest.Scenario {
			l := &life{files: map[string]*upload{}, retry: 1, delivered: time.Minute}
			return l.scenario(l.runDelivered)
		})
	})
}

func TestEveryFault(t *testing.T) {
	disktest.InOrder(t, func(t *testing.T) {
		disktest.EveryFault(t, crashOptions(), func() disktest.Scenario {
			// Pauses that a disk that fails for ever does not fill with attempts.
			l := &life{files: map[string]*upload{}, retry: 2 * time.Second}
			return l.scenario(l.run)
		})
	})
}

// crashOptions tries few mixtures, so that a run stays short; -crash.seeds=20 tries more.
func crashOptions() disktest.Options {
	return disktest.Options{Seeds: 4, Setup: func(fsys *disktest.FS) { fsys.SetClock(time.Now) }}
}

// life is what the world outside has seen of a Drop, over its restarts.
type life struct {
	// The client's part; the outbox's goroutines keep off. files are those that were sent, by content, which tells all of them apart.
	files map[string]*upload
	acks  int
	// partial is what is still to be sent of the upload that the client wants to go on with after the crash: name and content.
	name, content string
	begun         bool // its 150 was read: what there is of the name is of this content
	// foreign is a file of another program. Before it was taken a power cut may tear it, which nobody can tell afterwards.
	foreign string
	taken   bool
	retry   time.Duration // of the outbox: how long is left to chance, so that only the shortest lets operations come in one order
	// delivered is Options.Delivered.
	delivered time.Duration
	made      string // a folder that was made, and its reply read

	mu      sync.Mutex
	fs      *disktest.FS // of this life
	away    bool         // nothing can be sent
	arrived []arrival
	early   []string // names of files that were acknowledged before they were delivered
}

// arrival is a message that was received. One with an id that was received before is dropped, as SQS does.
type arrival struct {
	id, name, content string
	mtime             time.Time
}

// upload is a file that a client has sent, or tried to.
type upload struct {
	names []string // under which it may arrive
	tries int      // how often it was begun: what was not acknowledged may have been finished all the same
	acked int      // 226 (or the reply to the rename from a temporary name) was read, as the so-manieth; 0: it was not
	void  bool     // the client has deleted or replaced it, or begun to: it may arrive, or not
	dead  bool     // the client has read that it is deleted or replaced: it must not arrive
	moves bool     // a rename that changes its place may have been done
	mtime time.Time
}

func newLife() disktest.Scenario {
	l := &life{files: map[string]*upload{}, retry: 1}
	return l.scenario(l.run)
}

func (l *life) scenario(run func(*disktest.FS) error) disktest.Scenario {
	return disktest.Scenario{Run: run, Recover: l.recover, Check: l.check}
}

// Targets and the others are those of outbox.Deliverer.
func (l *life) Targets() []string { return []string{"target"} }

func (l *life) Prepare(_ context.Context, _ outbox.Entry, open func() (disk.File, error)) (any, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(f)
	return string(content), errors.Join(err, f.Close())
}

func (l *life) Send(ctx context.Context, _ string, batch []outbox.Prepared) []error {
	timer := time.NewTimer(1000137) // fake time: an odd one, so that the operations come in one order
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := make([]error, len(batch))
	for i, p := range batch {
		if ctx.Err() != nil || l.fs.IsCut() || l.away {
			errs[i] = disktest.ErrCrashed
			continue
		}
		a := arrival{p.Entry.ID, p.Entry.Name, p.Payload.(string), p.Entry.ModTime}
		if !slices.ContainsFunc(l.arrived, func(b arrival) bool { return a.id == b.id }) {
			l.arrived = append(l.arrived, a)
		}
	}
	return errs
}

func (l *life) Audit(_ context.Context, batch []outbox.Prepared) []error {
	return make([]error, len(batch))
}

func (l *life) begin(fsys *disktest.FS) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fs, l.away = fsys, false
}

// with runs an outbox and a Drop on the disk and has the client do its part. It stops when the client is done or the power is cut.
func (l *life) with(fsys *disktest.FS, client func(*Drop, *Session) error) error {
	// A round time: the records on the disk have the same length in each world.
	time.Sleep(time.Until(time.Now().Add(time.Hour).Truncate(time.Hour))) // fake time
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fsys.OnCut(cancel)
	if fsys.IsCut() {
		return disktest.ErrCrashed
	}
	l.begin(fsys)
	box, err := outbox.Open(outbox.Options{FS: fsys, Reserve: -1, Deliverer: l, MinBackoff: l.retry, MaxBackoff: l.retry, Grace: l.retry})
	if err != nil {
		return err
	}
	d, err := Open(Options{FS: fsys, Outbox: box, Describe: describe, Delivered: l.delivered})
	var u *UserDir
	if err == nil {
		u, err = d.User("u", "u")
	}
	if err != nil {
		return errors.Join(err, box.Close())
	}
	done := make(chan error, 2)
	go func() { done <- box.Run(ctx) }()
	go func() { done <- d.Run(ctx) }()
	err = client(d, u.Session(remote))
	cancel()
	return errors.Join(err, <-done, <-done, box.Close())
}

// start begins to send content, all of it or the part that is not there yet.
func (l *life) start(s *Session, name, content string, w Start) (*Upload, *upload, error) {
	f := l.files[content]
	if f == nil {
		f = &upload{}
		l.files[content] = f
	}
	f.names, f.void = []string{name}, false
	f.tries++
	u, err := s.Create(name, w)
	if err != nil {
		return nil, nil, err
	}
	for piece := range slices.Chunk([]byte(content[u.Size():]), 700) { // several writes, each of more than a sector
		if _, err := u.Write(piece); err != nil {
			return nil, nil, errors.Join(err, u.Interrupt(err))
		}
	}
	return u, f, nil
}

func (l *life) ack(f *upload) {
	l.acks++
	f.acked = l.acks
}

// mustHaveArrived notes an error if a file that was acknowledged was to be delivered before, and was not.
func (l *life) mustHaveArrived(name, content string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.delivered > 0 && !ignored([]string{"*.tmp", ".*"}, name[1:]) && !slices.ContainsFunc(l.arrived, func(a arrival) bool { return a.content == content }) {
		l.early = append(l.early, name)
	}
}

// send sends content, and notes the 226.
func (l *life) send(s *Session, name, content string, w Start) error {
	var replaced []*upload
	if strings.HasSuffix(name, ".tmp") || w.Append {
		replaced = l.replace(name, content)
	}
	u, f, err := l.start(s, name, content, w)
	if err == nil {
		err = u.Commit()
	}
	if err != nil {
		return err
	}
	l.ack(f)
	l.mustHaveArrived(name, content)
	for _, r := range replaced {
		r.dead = r.acked > 0
	}
	return nil
}

// sendBoth sends two files whose uploads end at the same time.
func (l *life) sendBoth(s *Session, names, contents [2]string) error {
	var errs [2]error
	var files [2]*upload
	var all sync.WaitGroup
	for i := range names {
		var u *Upload
		if u, files[i], errs[i] = l.start(s, names[i], contents[i], Start{}); errs[i] == nil {
			all.Go(func() { errs[i] = u.Commit() })
		}
	}
	all.Wait()
	l.acks++
	for i := range names {
		if errs[i] == nil {
			files[i].acked = l.acks // between the two there is no order
		}
	}
	return errors.Join(errs[:]...)
}

// replace notes that what has the name may be gone from now on, and returns it.
func (l *life) replace(name, by string) (files []*upload) {
	for content, f := range l.files {
		if f.names[len(f.names)-1] == name && content != by {
			f.void = true
			files = append(files, f)
		}
	}
	return files
}

// part begins to send content and is cut off.
func (l *life) part(s *Session, name, content string, size int) error {
	l.name, l.content, l.begun = name, content, false
	u, err := s.Create(name, Start{})
	if err != nil {
		return err
	}
	l.begun = true
	if _, err := u.Write([]byte(content[:size])); err != nil {
		return errors.Join(err, u.Interrupt(err))
	}
	return u.Interrupt(errCut)
}

// resume goes on with what was cut off, as SIZE tells.
func (l *life) resume(s *Session) error {
	fi, err := s.Stat(l.name)
	if err != nil || fi.Size() == 0 || !l.begun {
		return l.send(s, l.name, l.content, Start{})
	}
	return l.send(s, l.name, l.content, Start{Offset: min(fi.Size(), int64(len(l.content)))})
}

// rename renames a file whose upload was acknowledged.
func (l *life) rename(s *Session, content, to string) error {
	f := l.files[content]
	if f.acked == 0 {
		return nil
	}
	from := f.names[len(f.names)-1]
	return l.renameAll(func() error { return s.Rename(from, to) }, map[string]string{content: to})
}

// renameAll notes a rename of files to new names. Those that had a temporary name count as finished then.
func (l *life) renameAll(rename func() error, files map[string]string) error {
	var released []*upload
	for content, to := range files {
		f := l.files[content]
		if ignored([]string{"*.tmp", ".*"}, f.names[len(f.names)-1]) {
			f.moves = true
			released = append(released, f)
		}
		f.names = append(f.names, to)
	}
	if err := rename(); err != nil {
		return err
	}
	if len(released) > 0 {
		l.acks++
	}
	for content := range files {
		f := l.files[content]
		f.names = f.names[len(f.names)-1:]
		l.mustHaveArrived(f.names[0], content)
	}
	for _, f := range released {
		f.acked, f.moves = l.acks, false
	}
	return nil
}

func (l *life) setTime(s *Session, content string, mtime time.Time) error {
	f := l.files[content]
	if f.acked == 0 {
		return nil
	}
	err := s.Chtimes(f.names[0], mtime)
	if err == nil {
		f.mtime = mtime
	}
	return err
}

func (l *life) remove(s *Session, content string) error {
	f := l.files[content]
	if f.acked == 0 {
		return nil
	}
	f.void = true
	if err := s.Remove(f.names[0]); err != nil {
		return err
	}
	f.dead = true
	return nil
}

// long makes a content of some sectors.
func long(name string) string { return strings.Repeat(name+" ", 1+1100/len(name)) }

func settle() { time.Sleep(1500 * time.Millisecond) } // fake time

// run is the first life. Each step goes on whatever has become of the ones before, as clients do.
func (l *life) run(fsys *disktest.FS) error {
	return l.with(fsys, func(d *Drop, s *Session) error {
		var errs []error
		do := func(err error) { errs = append(errs, err) }

		do(l.namespace(s))
		do(l.folder(s))
		do(l.appended(s))
		settle()
		do(l.resumed(s))
		do(l.found(fsys, d))
		do(l.accepted(d, s))
		// Left behind in the middle.
		do(l.part(s, "/h", long("version 3"), 700))
		do(l.part(s, "/h", long("version 4"), 100))
		return errors.Join(errs...)
	})
}

// runDelivered is a first life where files are acknowledged when they are delivered.
func (l *life) runDelivered(fsys *disktest.FS) error {
	return l.with(fsys, func(_ *Drop, s *Session) error {
		return errors.Join(
			l.send(s, "/a", long("first"), Start{}),
			l.send(s, "/b.tmp", long("temporary"), Start{}),
			l.rename(s, long("temporary"), "/b"),
			l.folder(s),
			l.send(s, "/c", long("last"), Start{}))
	})
}

// found has a file of another program taken; its name is not synced either.
func (l *life) found(fsys *disktest.FS, d *Drop) error {
	err := l.put(fsys, "drop/u/foreign", long("foreign"))
	time.Sleep(45 * time.Second) // fake time: a rescan, and the quiet time
	if fsys.IsCut() {
		return err
	}
	_, l.taken = d.box.Lookup("u/foreign") // until it is sent
	return err
}

// namespace does what changes names: directories, temporary names, further versions, times, deleting, renaming.
func (l *life) namespace(s *Session) error {
	var errs []error
	do := func(err error) { errs = append(errs, err) }

	// A directory, an upload in it, and an order, that the times say otherwise.
	do(s.Mkdir("/d"))
	do(s.Mkdir("/d/made"))
	do(l.send(s, "/d/made/a", long("first"), Start{}))
	do(l.send(s, "/b", long("second"), Start{}))
	do(l.setTime(s, long("second"), time.Unix(1e9, 0)))
	settle()
	// Temporary names, further versions, deleting, renaming within the settle time, directories.
	do(l.send(s, "/c.tmp", long("replaced"), Start{}))
	do(l.send(s, "/c.tmp", long("temporary"), Start{}))
	do(l.send(s, "/b", long("version 1 of b"), Start{}))
	do(l.send(s, "/b", long("version 2 of b"), Start{}))
	do(l.rename(s, long("temporary"), "/b"))
	do(l.send(s, "/x", long("deleted"), Start{}))
	do(l.remove(s, long("deleted")))
	do(l.send(s, "/d/made/e", long("moved"), Start{}))
	do(l.rename(s, long("moved"), "/e"))
	do(l.sendBoth(s, [2]string{"/y", "/z"}, [2]string{long("at the same time"), long("at the same time, too")}))
	settle()
	return errors.Join(errs...)
}

// folder sends into a temporary folder, and renames that.
func (l *life) folder(s *Session) error {
	err := s.Mkdir("/.in")
	if err == nil {
		l.made = "drop/u/.in"
	}
	errs := []error{err,
		l.send(s, "/.in/2", long("gathered 2"), Start{}),
		l.send(s, "/.in/1", long("gathered 1"), Start{}),
	}
	files := map[string]string{}
	for _, content := range []string{long("gathered 1"), long("gathered 2")} {
		if f := l.files[content]; f.acked > 0 {
			files[content] = strings.Replace(f.names[0], "/.in/", "/in/", 1)
		}
	}
	if !l.fs.IsCut() {
		l.made = "" // it has the one name or the other
	}
	err = l.renameAll(func() error { return s.Rename("/.in", "/in") }, files)
	if err == nil {
		l.made = "drop/u/in"
	}
	settle()
	return errors.Join(append(errs, err)...)
}

// appended appends to a finished file, on a copy.
func (l *life) appended(s *Session) error {
	return errors.Join(
		l.send(s, "/f", "head "+long("appended"), Start{}),
		l.send(s, "/f", "head "+long("appended")+"tail", Start{Append: true}))
}

// resumed is interrupted, begins anew with another content, is interrupted, and resumes.
func (l *life) resumed(s *Session) error {
	return errors.Join(
		l.part(s, "/g", long("version 1"), 900),
		l.part(s, "/g", long("version 2"), 100),
		l.resume(s))
}

// accepted has an operator accept what was cut off, as it is.
func (l *life) accepted(d *Drop, s *Session) error {
	err := l.part(s, "/k", long("accepted"), 900)
	all, listErr := d.Interrupted()
	if err = errors.Join(err, listErr); err != nil || len(all) != 1 {
		return err
	}
	f := &upload{names: []string{"/k"}, tries: 1}
	l.files[long("accepted")[:900]] = f
	if err := d.Accept(all[0].ID); err != nil {
		return err
	}
	l.ack(f)
	settle()
	return nil
}

func (l *life) put(fsys disk.FS, name, content string) error {
	l.foreign = content
	f, err := fsys.OpenFile(name, 0x41, 0o600) // O_WRONLY|O_CREATE
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, content)
	return errors.Join(err, f.Close())
}

// recover is a later life: what was kept is resumed, and all that waits is taken.
func (l *life) recover(fsys *disktest.FS) error {
	return l.with(fsys, func(d *Drop, s *Session) error {
		// The operations of a life come in one order, so that a seed repeats what it found: first the claims, then the
		// client, and nothing at the time of a rescan.
		time.Sleep(65 * time.Second) // fake time
		var err error
		if l.name != "" && l.files[l.content] == nil || l.name != "" && l.files[l.content].acked == 0 && l.isPartial(s) {
			err = l.resume(s)
		}
		time.Sleep(50 * time.Second) // fake time
		return err
	})
}

// isPartial reports whether the client's last upload still has to be resumed, and was not delivered unacknowledged.
func (l *life) isPartial(s *Session) bool {
	fi, err := s.Stat(l.name)
	return err == nil && (!l.begun || fi.Size() < int64(len(l.content)))
}

func (l *life) check(fsys *disktest.FS) error {
	if fsys.IsCut() {
		return nil // the next life will tell
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	names, copies, order := map[string]string{}, map[string]int{}, map[string]int{}
	var errs []error
	wrongf := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(l.early) > 0 {
		wrongf("acknowledged before they were delivered: %q", l.early)
	}
	foreign := 0
	for i, a := range l.arrived {
		switch {
		case l.files[a.content] != nil:
		case a.content == l.foreign:
			foreign++
		case a.name == "foreign" && !l.taken:
			// Torn before it was ours.
		default:
			wrongf("%s arrived with bytes that nobody sent: %.40q... (%d bytes)", a.name, a.content, len(a.content))
		}
		if f := l.files[a.content]; f != nil && !f.mtime.IsZero() && !a.mtime.Equal(f.mtime) {
			wrongf("%s arrived with the time %v, expected %v", a.name, a.mtime, f.mtime)
		}
		copies[a.content]++
		names[a.content], order[a.content] = a.name, i
	}
	if l.taken && foreign == 0 {
		wrongf("the file of another program is lost")
	}
	if foreign > 1 {
		wrongf("the file of another program arrived %d times", foreign)
	}
	waiting := map[string]bool{}
	for name, content := range fsys.Files() {
		if strings.HasPrefix(name, "outbox/") {
			waiting[content] = true
		}
	}
	if l.made != "" {
		if fi, err := fsys.Lstat(l.made); err != nil || !fi.IsDir() {
			wrongf("the folder %s is lost: %w", l.made, err)
		}
	}
	for content, f := range l.files {
		name, ok := names[content]
		temporary := ignored([]string{"*.tmp", ".*"}, f.names[0][1:])
		switch {
		case copies[content] > f.tries:
			wrongf("%s arrived %d times", name, copies[content])
		case ok && f.dead:
			wrongf("%s arrived after it was deleted or replaced", f.names)
		case ok && !slices.Contains(f.names, "/"+name):
			wrongf("%s arrived as %s", f.names, name)
		case ok && temporary && len(f.names) == 1:
			wrongf("%s arrived under its temporary name", f.names)
		case !ok && f.acked > 0 && !f.void && !(temporary && waiting[content]):
			wrongf("%s is lost: %.20q", f.names, content)
		}
		for other, g := range l.files {
			_, otherOK := names[other]
			if ok && otherOK && f.acked > 0 && g.acked > f.acked && !f.void && !g.void && !f.moves && !g.moves && order[other] < order[content] {
				wrongf("%s arrived before %s", g.names, f.names)
			}
		}
	}
	return errors.Join(errs...)
}
