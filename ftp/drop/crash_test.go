package drop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// The tests of this file run one life of a Drop on the simulated disk and cut its power, or let it fail, at every operation.

func TestEveryCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		states := disktest.EveryCrash(t, crashOptions(), newLife)
		require.Greater(t, states, 3000)
	})
}

func TestEveryFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disktest.EveryFault(t, crashOptions(), newLife)
	})
}

// crashOptions tries few mixtures, so that a run with -race stays short; -crash.seeds=20 tries more.
func crashOptions() disktest.Options {
	return disktest.Options{Seeds: 8, Setup: func(fsys *disktest.FS) { fsys.SetClock(time.Now) }}
}

// life is what the world outside has seen of a Drop, over its restarts.
type life struct {
	// files are those that clients have sent, by content, which tells all of them apart.
	files map[string]*sent
	acks  int
	// partial is what is still to be sent of the upload that the client wants to go on with after the crash: name and content.
	name, content string
	begun         bool // its 150 was read: what there is of the name is of this content
	// foreign is a file of another program; handed tells that the Taker was given it, with all its bytes. Before that, a power
	// cut may tear it, which nobody can tell afterwards.
	foreign string
	handed  bool
}

// sent is a file that a client has sent, or tried to.
type sent struct {
	names []string // under which it may arrive
	tries int      // how often it was begun: what was not acknowledged may have been finished all the same
	acked int      // 226 was read, as the so-manieth; 0: it was not
	void  bool     // the client has deleted or overwritten it, or begun to: it may arrive, or not
	dead  bool     // the client has read that it is deleted: it must not arrive
}

func newLife() disktest.Scenario {
	l := &life{files: map[string]*sent{}}
	return l.scenario(l.run)
}

func (l *life) scenario(run func(*disktest.FS) error) disktest.Scenario {
	return disktest.Scenario{Run: run, Recover: l.recover, Check: l.check}
}

// with runs a Drop on the disk and has the client do its part. It stops when the client is done or the power is cut.
func (l *life) with(fsys *disktest.FS, client func(*Drop, *Session) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fsys.OnCut(cancel)
	if fsys.IsCut() {
		return disktest.ErrCrashed
	}
	if err := fsys.Mkdir("out", 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err // Open syncs it
	}
	d, err := Open(Options{FS: fsys, Taker: &outbox{fs: fsys, life: l}})
	if err != nil {
		return err
	}
	u, err := d.User("u", "u")
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	err = client(d, u.Session(remote))
	cancel()
	return errors.Join(err, <-done)
}

// send sends content, all of it or the part that is not there yet, and notes the 226.
func (l *life) send(s *Session, name, content string, w Write) error {
	if w == (Write{}) {
		l.replace(name)
	}
	f := l.files[content]
	if f == nil {
		f = &sent{}
		l.files[content] = f
	}
	f.names, f.void = []string{name}, false
	f.tries++
	u, err := s.Create(name, w)
	if err != nil {
		return err
	}
	rest := content[u.Size():]
	for piece := range slices.Chunk([]byte(rest), 700) { // several writes, each of more than a sector
		if _, err := u.Write(piece); err != nil {
			return errors.Join(err, u.Interrupt(err))
		}
	}
	if err := u.Commit(); err != nil {
		return err
	}
	l.acks++
	f.acked = l.acks
	return nil
}

// replace notes that what has the name may be overwritten or deleted from now on.
func (l *life) replace(name string) {
	for _, f := range l.files {
		if f.names[len(f.names)-1] == name {
			f.void = true
		}
	}
}

// part begins to send content and is cut off.
func (l *life) part(s *Session, name, content string, size int) error {
	l.name, l.content, l.begun = name, content, false
	u, err := s.Create(name, Write{})
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
		return l.send(s, l.name, l.content, Write{})
	}
	return l.send(s, l.name, l.content, Write{Offset: min(fi.Size(), int64(len(l.content)))})
}

func (l *life) rename(s *Session, content, to string) error {
	f := l.files[content]
	from := f.names[len(f.names)-1]
	f.names = append(f.names, to)
	if err := s.Rename(from, to); err != nil {
		return err
	}
	f.names = f.names[len(f.names)-1:]
	return nil
}

func (l *life) remove(s *Session, content string) error {
	f := l.files[content]
	f.void = true
	if err := s.Remove(f.names[0]); err != nil {
		return err
	}
	f.dead = true
	return nil
}

// long makes a content of some sectors.
func long(name string) string { return strings.Repeat(name+" ", 1+1100/len(name)) }

// run is the first life. Each step goes on whatever has become of the ones before, as clients do.
func (l *life) run(fsys *disktest.FS) error {
	return l.with(fsys, func(_ *Drop, s *Session) error {
		var errs []error
		do := func(err error) { errs = append(errs, err) }
		settle := func() { time.Sleep(1500 * time.Millisecond) } // fake time

		do(l.namespace(s))
		// Append to a finished file, on a copy.
		do(l.send(s, "/f", "head "+long("appended"), Write{}))
		l.replace("/f")
		do(l.send(s, "/f", "head "+long("appended")+"tail", Write{Append: true}))
		settle()
		do(l.resumed(s))
		// A file of another program; its name is not synced either.
		do(l.put(fsys, "drop/u/foreign", long("foreign")))
		time.Sleep(45 * time.Second) // fake time: a rescan, and the quiet time
		// Left behind in the middle.
		do(l.part(s, "/h", long("version 3"), 700))
		do(l.part(s, "/h", long("version 4"), 100))
		return errors.Join(errs...)
	})
}

// namespace does what changes names: directories, temporary names, overwriting, deleting, renaming.
func (l *life) namespace(s *Session) error {
	var errs []error
	do := func(err error) { errs = append(errs, err) }
	settle := func() { time.Sleep(1500 * time.Millisecond) } // fake time

	// A directory, an upload in it, and an order.
	do(s.Mkdir("/d"))
	do(s.Mkdir("/d/made"))
	do(s.Mkdir("/renamed"))
	do(s.Mkdir("/deleted"))
	do(l.send(s, "/d/made/a", long("first"), Write{}))
	do(l.send(s, "/b", long("second"), Write{}))
	settle()
	// Temporary names, overwriting, deleting, renaming within the settle time, directories.
	do(l.send(s, "/c.tmp", long("temporary"), Write{}))
	do(l.send(s, "/b", long("overwritten"), Write{}))
	do(l.send(s, "/b", long("overwriting"), Write{}))
	if l.files[long("temporary")].acked > 0 {
		do(l.rename(s, long("temporary"), "/renamed/c"))
	}
	do(l.send(s, "/deleted/x", long("deleted"), Write{}))
	if l.files[long("deleted")].acked > 0 {
		do(l.remove(s, long("deleted")))
	}
	do(l.send(s, "/d/made/e", long("moved"), Write{}))
	if l.files[long("moved")].acked > 0 {
		do(l.rename(s, long("moved"), "/e"))
	}
	settle()
	return errors.Join(errs...)
}

// runNamespace is a first life of only that.
func (l *life) runNamespace(fsys *disktest.FS) error {
	return l.with(fsys, func(_ *Drop, s *Session) error { return l.namespace(s) })
}

// resumed is interrupted, begins anew with another content, is interrupted, and resumes.
func (l *life) resumed(s *Session) error {
	return errors.Join(
		l.part(s, "/g", long("version 1"), 900),
		l.part(s, "/g", long("version 2"), 100),
		l.resume(s))
}

// runResumed is a first life of only that.
func (l *life) runResumed(fsys *disktest.FS) error {
	return l.with(fsys, func(_ *Drop, s *Session) error {
		err := l.resumed(s)
		time.Sleep(1500 * time.Millisecond) // fake time: it is taken
		return err
	})
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

// isPartial tells whether the client's last upload still has to be resumed, and was not delivered unacknowledged.
func (l *life) isPartial(s *Session) bool {
	fi, err := s.Stat(l.name)
	return err == nil && (!l.begun || fi.Size() < int64(len(l.content)))
}

func (l *life) check(fsys *disktest.FS) error {
	if fsys.IsCut() {
		return nil // the next life will tell
	}
	arrived := map[string]string{} // name by content
	copies := map[string]int{}
	order := map[string]int{}
	var errs []error
	waiting, err := (&outbox{fs: fsys}).list()
	if err != nil {
		return err
	}
	for i, f := range waiting {
		content, err := fsys.ReadFile(f.path)
		if err != nil {
			return err
		}
		switch {
		case l.files[string(content)] != nil:
		case string(content) == l.foreign:
			continue
		case f.name == "foreign" && !l.handed:
			continue // torn before it was ours
		default:
			errs = append(errs, fmt.Errorf("%s arrived with bytes that nobody sent: %.20q... (%d bytes)", f.name, content, len(content)))
			continue
		}
		if copies[string(content)]++; copies[string(content)] > l.files[string(content)].tries {
			errs = append(errs, fmt.Errorf("%s arrived too often, as %s before", f.name, arrived[string(content)]))
		}
		arrived[string(content)], order[string(content)] = f.name, i
	}
	for content, f := range l.files {
		name, ok := arrived[content]
		switch {
		case ok && f.dead:
			errs = append(errs, fmt.Errorf("%s arrived after it was deleted", f.names))
		case ok && !slices.Contains(f.names, "/"+name):
			errs = append(errs, fmt.Errorf("%s arrived as %s", f.names, name))
		case !ok && f.acked > 0 && !f.void && !strings.HasSuffix(f.names[0], ".tmp"):
			errs = append(errs, fmt.Errorf("%s is lost: %.20q", f.names, content))
		case !ok && f.acked > 0 && !f.void:
			// Under the temporary name, if the rename was not acknowledged.
			if there, err := fsys.ReadFile("drop/u" + f.names[0]); err != nil || string(there) != content {
				errs = append(errs, fmt.Errorf("%s is lost: %w", f.names, err))
			}
		}
		for other, g := range l.files {
			_, otherOK := arrived[other]
			if ok && otherOK && f.acked > 0 && g.acked > f.acked && len(f.names) == 1 && l.ordered(f, g) && order[other] < order[content] {
				errs = append(errs, fmt.Errorf("%s arrived before %s", g.names, f.names))
			}
		}
	}
	return errors.Join(errs...)
}

// ordered tells whether two acknowledged files have an order: a rename from a temporary name changes it, and what the
// client has taken back has none.
func (l *life) ordered(f, g *sent) bool {
	return !f.void && !g.void && f != l.files[long("temporary")] && g != l.files[long("temporary")]
}

// outbox is a Taker that keeps its files, with their names and order, through crashes.
type outbox struct {
	fs   *disktest.FS
	life *life
}

type shelved struct{ id, name, path string }

func (o *outbox) list() ([]shelved, error) {
	entries, err := o.fs.ReadDir("out")
	var list []shelved
	for _, e := range entries {
		_, name, _ := strings.Cut(e.Name(), " ")
		list = append(list, shelved{e.Name(), strings.ReplaceAll(name, "\\", "/"), path.Join("out", e.Name())})
	}
	return list, err
}

func (o *outbox) Take(_ context.Context, files []File) (ids []string, errs []error) {
	var failed error
	for _, f := range files {
		id, err := "", failed
		if err == nil {
			id, err = o.take(f)
		}
		failed = err
		ids, errs = append(ids, id), append(errs, err)
	}
	return ids, errs
}

func (o *outbox) take(f File) (string, error) {
	if content, err := o.fs.ReadFile(f.Path); err == nil && string(content) == o.life.foreign {
		o.life.handed = true
	}
	list, err := o.list()
	if err != nil {
		return "", err
	}
	n := 0
	if len(list) > 0 {
		fmt.Sscanf(list[len(list)-1].id, "%06d", &n)
	}
	id := fmt.Sprintf("%06d %s", n+1, strings.ReplaceAll(f.Name, "/", "\\"))
	if err := o.fs.Rename(f.Path, path.Join("out", id)); err != nil {
		return "", err
	}
	return id, o.fs.SyncDir("out")
}

func (o *outbox) Waiting() iter.Seq2[string, File] {
	return func(yield func(string, File) bool) {
		list, _ := o.list()
		for _, f := range list {
			if !yield(f.id, File{User: "u", Name: f.name}) {
				return
			}
		}
	}
}
