// Package drop keeps the files that arrive, on a volume that may lose its power at any moment, until a [Taker] takes them.
//
// # What it promises
//
// After [Upload.Commit] has returned nil, the file is durable under its name, complete, and the Taker will get
// it, once, whatever is killed or restarted in between; unless a client removes it, or finishes another file of
// the same name, before. A file that was not finished never reaches the Taker. Files reach it in the order
// in which they were finished (when a client renames a temporary name to a real one, the file was finished then).
//
// # How it keeps that
//
//	partial/open/<id>-<number>       an upload under way
//	partial/kept/<dir>/<path>        an interrupted upload, which can be resumed
//	drop/<dir>/<path>                a finished file
//
// The place of a file is its state; each step is one atomic rename, and what else is known (who sent it, when it
// is due) is only in memory. Recovery reads the directories. These are the sync points and what each protects:
//
//   - Commit syncs the file, after its time was set and before the rename to drop: no name ever stands in drop whose
//     bytes are not on the disk, and the order of finished files survives in their times.
//   - Commit then syncs the directory in drop: the 226 outlives a power cut. Uploads that finish together share this sync.
//   - Mkdir syncs the parent of what it made, and Commit all the directories above the file: a file's name is worth
//     nothing in a directory that is lost, and another program may have made it again a moment ago.
//   - Interrupt syncs the file before the rename to partial/kept: what can be resumed is exactly what was received.
//     What stands in partial/open at the start is removed, as its bytes cannot be trusted: resuming behind torn bytes would
//     make a broken file, and acknowledge it.
//   - A resumed upload's rename from partial/kept to partial/open is synced before its first write, for the same reason.
//   - The removal of an interrupted upload that is begun anew is synced before the new one's first write: else the old
//     one could come back, and a client would resume the new file on the old one's bytes.
//   - A client's rename and removal of a finished file are synced before they are acknowledged, so that it is not
//     delivered under a name that was changed, or after it was deleted.
//   - A file of another program, or found at the start, is synced before it is claimed: the Taker's rename, which it
//     makes durable, then finds bytes that are durable too.
//
// Times set by clients and directories removed are not synced: a power cut within the settle time may undo them.
//
// # Rules
//
// A finished file is never written in place: an upload replaces it, and an APPE or REST on it works on a copy. Two
// uploads of one name at the same time: the later one supersedes the earlier one, which fails.
//
// Names are bytes in any encoding, without control characters (in UTF-8 also those of U+0080 to U+009F), of at most 255 bytes and
// at most 64 levels below the user's directory, as each level is looked at under one lock for all users. What other programs
// put deeper is delivered all the same.
//
// What clients see at a name is, in this order: the finished file; the upload under way or interrupted, with the size
// it has, so that it can be resumed; the newest of that name that was taken and is not delivered; and for a minute, in the
// session that uploaded it, what is gone. A taken file can be read (see [Opener]) but no longer be changed.
//
// After a restart the order is that of the files' change times, and of their own times where those are equal. Two files
// that were finished within one tick of the kernel's clock (some milliseconds), one of them by a rename, may then change places.
//
// Other programs may put files below drop, best by renaming them from elsewhere on the volume; such a file is
// taken when it has been quiet for a time, so a writer that pauses longer sends a piece. Symlinks and special files are
// never followed and never taken.
//
// # Example
//
//	d, err := drop.Open(drop.Options{FS: volume, Taker: queue, WatchDir: "/data/drop"})
//	user, err := d.User("scanner", "scanner")
//	go d.Run(ctx)
//	session := user.Session(remote)
//	upload, err := session.Create("/a.csv", drop.Write{})
//	if _, err := io.Copy(upload, data); err != nil {
//		return upload.Interrupt(err)
//	}
//	return upload.Commit() // nil: say 226
package drop

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

const dirPerm, filePerm fs.FileMode = 0o750, 0o640

// Drop is the part of a volume where files arrive. It is safe for concurrent use.
type Drop struct {
	opts   Options
	fs     disk.FS
	log    *slog.Logger
	ledger ledger
	syncs  dirSyncs
	wake   chan struct{}

	// mu guards what is known of the names, and makes the operations on them one: check, change, note.
	// It is one for all users, as their directories may be shared or stand in one another, and one volume's
	// journal does them one after the other anyway. It is never held over a sync, or a read or write of data.
	mu       sync.Mutex
	changed  sync.Cond // an entry is no longer busy, or gone
	users    []*UserDir
	files    map[string]*entry // finished, by path below drop
	queue    queue             // of files: those that are to be claimed
	claiming []*entry          // of files: those that the Taker has in hands
	open     map[string]*Upload
	dirs     map[string]uint64 // below drop: the last scan that saw each
	dirCount map[string]int    // by top directory
	taken    takenFiles
	taking   bool            // Take runs
	early    map[string]bool // ids that were gone before Take returned them
	seq      uint64
	scans    uint64
	id       string    // in the names in partial/open
	uploads  uint64    // the last number there
	stamped  time.Time // the last time given by stamp
	// unreadable are the directories of the volume that could not be read when they were last.
	unreadable map[string]bool
	// foundTrouble is what the Taker has with files of other programs.
	foundTrouble retry.Trouble
}

// Open recovers what the volume holds, by reading its directories, and makes those that are missing. The Drop that was opened
// on it before must not run any more; those of its uploads that have not ended by now can only fail.
func Open(opts Options) (*Drop, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("drop options: %w", err)
	}
	d := &Drop{
		opts: opts, fs: opts.FS, log: opts.Log,
		ledger: ledger{
			fs: opts.FS, minFree: opts.MinFree, spoolLimit: opts.SpoolLimit,
			maxFiles: opts.MaxFiles, files: map[string]int{},
		},
		syncs:      dirSyncs{fs: opts.FS, dirs: map[string]*dirSync{}},
		wake:       make(chan struct{}, 1),
		id:         rand.Text(),
		files:      map[string]*entry{},
		open:       map[string]*Upload{},
		dirs:       map[string]uint64{},
		dirCount:   map[string]int{},
		taken:      newTakenFiles(),
		early:      map[string]bool{},
		unreadable: map[string]bool{},
	}
	d.changed.L = &d.mu
	for _, dir := range []string{dropDir, openDir, keptDir} {
		if err := disk.MkdirAll(d.fs, dir, dirPerm); err != nil {
			return nil, fmt.Errorf("making %s: %w", dir, err)
		}
	}
	if err := d.clearOpen(); err != nil {
		return nil, fmt.Errorf("removing unfinished uploads: %w", err)
	}
	for id, f := range opts.Taker.Waiting() {
		t := &taken{id: id, name: f.Name, size: f.Size, mtime: f.ModTime, memo: &memo{}}
		d.taken.byID[id] = t
		d.taken.strangers[f.User] = append(d.taken.strangers[f.User], t)
		d.ledger.add(inTaken, "", 1, f.Size)
	}
	d.sweep(true)
	d.rescan()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queueAtStart(slices.Clone(d.queue))
	return d, nil
}

// Run watches, claims and expires until ctx ends. It returns nil then. A Take that is under way is waited for.
func (d *Drop) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { d.claimAll(ctx) })
	loops.Go(func() { d.watch(ctx) })
	loops.Wait()
	return nil
}

// Usage tells what the volume holds.
func (d *Drop) Usage() Usage { return d.ledger.usage() }

// Usage is what the volume holds, by the place where it stands.
type Usage struct {
	Partial  Count // being sent, or interrupted
	Finished Count // in the drop directory, also under temporary names
	Taken    Count // with the Taker, not delivered
}

// Count is a number of files and the bytes in them.
type Count struct {
	Files int
	Bytes int64
}

// UserDir is one user's directory. It is safe for concurrent use.
type UserDir struct {
	d    *Drop
	name string
	dir  string // below drop
}

// User makes dir below the drop directory, if need be, and returns it as the user's. dir is one clean path
// element or a clean relative path. Users may share a directory, or have one inside another's. If it cannot be made now, it is
// the user's all the same: what turns up in it is claimed as theirs, and User can be called again.
func (d *Drop) User(name, dir string) (*UserDir, error) {
	if p, err := clean(dir); err != nil || p != dir || dir == "." {
		return nil, fmt.Errorf("user %q: directory %q: expected a clean relative path (%w)", name, dir, ErrName)
	}
	err := disk.MkdirAll(d.fs, path.Join(dropDir, dir), dirPerm)
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.enlist(name, dir)
	if err != nil {
		return nil, fmt.Errorf("user %q: directory %q: %w", name, dir, err)
	}
	for _, a := range ancestors(dir + "/") {
		d.noteDir(a)
	}
	return u, nil
}

// enlist notes whose dir is, once; d.mu is held.
func (d *Drop) enlist(name, dir string) *UserDir {
	for _, u := range d.users {
		if u.name == name && u.dir == dir {
			return u
		}
	}
	u := &UserDir{d: d, name: name, dir: dir}
	set := d.setAside(dir)
	d.users = append(d.users, u)
	if len(set) > 0 {
		d.queueAtStart(set)
	}
	for _, t := range d.taken.strangers[name] {
		if d.taken.byID[t.id] == t {
			t.path = path.Join(dir, t.name)
			d.taken.add(t)
			d.ledger.belongs(t.path)
		}
	}
	delete(d.taken.strangers, name)
	return u
}

// owner tells whose file p is, and its name in that user's directory; u, if not nil, is who put it there. A directory that is
// no user's (any more) counts as that of the user of its name: what was acknowledged is delivered, unless that looks
// temporary (see ignored). d.mu is held.
func (d *Drop) owner(u *UserDir, p string) (user, name string) {
	if u = d.userOf(u, p); u != nil {
		return u.name, u.rel(p)
	}
	if user, name, ok := strings.Cut(p, "/"); ok {
		return user, name
	}
	return "", p
}

// userOf tells in which user's directory p stands, nil: in none; u, if not nil, is who put it there. d.mu is held.
func (d *Drop) userOf(u *UserDir, p string) *UserDir {
	if u != nil && below(p, u.dir) {
		return u
	}
	u = nil
	for _, other := range d.users {
		// What stands in the very place of the directory is not in it.
		if strings.HasPrefix(p, other.dir+"/") && (u == nil || len(other.dir) > len(u.dir)) {
			u = other
		}
	}
	return u
}

// rel is the name in u's directory of what has the path p below drop.
func (u *UserDir) rel(p string) string {
	return strings.TrimPrefix(p[len(u.dir):], "/")
}

// stamp returns the time of now, later than every one that it returned before; d.mu is held.
func (d *Drop) stamp() time.Time {
	now := time.Now().Round(0) // the wall clock: it goes to the disk
	if !now.After(d.stamped) {
		now = d.stamped.Add(1)
	}
	d.stamped = now
	return now
}

// lstat describes what stands at a path of the volume; nil: nothing.
func (d *Drop) lstat(p string) (fs.FileInfo, error) {
	fi, err := d.fs.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return fi, err
}
