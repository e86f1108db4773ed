package drop

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// index is what was seen in the drop directory: folders, and files of other programs.
type index struct {
	fs     disk.FS
	ledger *ledger
	quiet  time.Duration
	perm   fs.FileMode // of the folders that the node makes; known when Open reads the volume

	mu       sync.Mutex
	files    map[string]*found
	dirs     map[string]*folder
	starting bool           // Open has not read all of it yet
	dirCount map[string]int // by top directory
	scan     uint64
	next     time.Time // no file is to be taken before; zero: there is none to take
}

// found is a file of another program.
type found struct {
	size         int64
	mtime, ctime time.Time
	changed      time.Time // when it was seen to be new or different
	due          time.Time // when it is to be taken
	failures     int       // to take it, in a row
	scan         uint64
}

func (f *found) same(fi fs.FileInfo) bool {
	return f.size == fi.Size() && f.mtime.Equal(fi.ModTime()) && f.ctime.Equal(disk.ChangeTime(fi))
}

func newIndex(fsys disk.FS, l *ledger, quiet time.Duration) *index {
	return &index{fs: fsys, ledger: l, quiet: quiet, files: map[string]*found{}, dirs: map[string]*folder{}, dirCount: map[string]int{}, starting: true}
}

// refresh compares the index with what stands at p, and describes that; nil: nothing, or it cannot be told.
func (x *index) refresh(p string) fs.FileInfo {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.refreshLocked(p)
}

func (x *index) refreshLocked(p string) fs.FileInfo {
	fi, err := x.fs.Lstat(path.Join(dropDir, p))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		x.forgetLocked(p)
		return nil
	case fi.IsDir():
		x.forgetLocked(p)
		x.addDirLocked(p)
	case !fi.Mode().IsRegular(): // a symlink, a pipe, ...
		x.forgetLocked(p)
	default:
		x.noteLocked(p, fi)
	}
	return fi
}

// noteLocked notes what the file at p looks like.
func (x *index) noteLocked(p string, fi fs.FileInfo) {
	f := x.files[p]
	switch {
	case f == nil:
		f = &found{}
		x.files[p] = f
		x.ledger.addFound(p, 1, 0)
	case f.same(fi):
		f.scan = x.scan
		return
	}
	x.ledger.addFound(p, 0, fi.Size()-f.size)
	now := time.Now()
	*f = found{size: fi.Size(), mtime: fi.ModTime(), ctime: disk.ChangeTime(fi), changed: now, due: now.Add(x.quiet), scan: x.scan}
	if x.scan == 1 && f.ctime.Before(now) {
		// It stood there at the start. A program may have set a time to come.
		f.changed = f.ctime
		f.due = earlier(later(f.ctime, f.mtime).Add(x.quiet), f.due)
	}
	x.scheduleLocked(f.due)
}

// scheduleLocked notes that a file may have to be taken at due.
func (x *index) scheduleLocked(due time.Time) {
	if x.next.IsZero() || due.Before(x.next) {
		x.next = due
	}
}

// scheduleNow has all files that are due looked at again.
func (x *index) scheduleNow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.scheduleLocked(time.Now())
}

// pause is how long no file is to be taken; false: until something happens.
func (x *index) pause() (time.Duration, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return time.Until(x.next), !x.next.IsZero()
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forget notes that the file at p is not there any more.
func (x *index) forget(p string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forgetLocked(p)
}

func (x *index) forgetLocked(p string) {
	if f := x.files[p]; f != nil {
		delete(x.files, p)
		x.ledger.addFound(p, -1, -f.size)
	}
}

// quietFiles lists the files that are to be taken by now, in the order of their change times: that of their renames to their names. Names
// for which skip says so are left out, until scheduleNow.
func (x *index) quietFiles(skip func(p string) bool) (paths []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	x.next = time.Time{}
	for p, f := range x.files {
		switch {
		case f.due.After(now):
			x.scheduleLocked(f.due)
		case !skip(p):
			paths = append(paths, p)
		}
	}
	slices.SortFunc(paths, func(p, q string) int {
		a, b := x.files[p], x.files[q]
		return cmp.Or(a.ctime.Compare(b.ctime), a.mtime.Compare(b.mtime), cmp.Compare(p, q))
	})
	return paths
}

// stillQuiet looks at p again, and reports since when it is as it is, and whether it is still to be taken.
func (x *index) stillQuiet(p string) (since time.Time, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.refreshLocked(p)
	f := x.files[p]
	if f == nil || f.due.After(time.Now()) {
		return time.Time{}, false
	}
	return f.changed, true
}

// The pauses after a file could not be taken.
const (
	minRetry = 100 * time.Millisecond
	maxRetry = 30 * time.Second
)

// postpone notes that p could not be taken: it is tried again later.
func (x *index) postpone(p string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f := x.files[p]; f != nil {
		f.due = time.Now().Add(min(minRetry<<min(f.failures, 20), maxRetry))
		f.failures++
		x.scheduleLocked(f.due)
	}
}

// beginScan begins a scan of the whole directory; see endScan.
func (x *index) beginScan() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.scan++
}

// scanDir notes what stands in dir, and lists the folders in it.
func (x *index) scanDir(dir string) (dirs []string, err error) {
	entries, err := x.fs.ReadDir(path.Join(dropDir, dir))
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		return nil, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if e.IsDir() {
			x.addDirLocked(p)
			dirs = append(dirs, p)
			continue
		}
		x.refreshLocked(p)
	}
	return dirs, err
}

// endScan looks at what the scan has not seen.
func (x *index) endScan() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for p, f := range x.files {
		if f.scan < x.scan {
			x.refreshLocked(p)
		}
	}
	for dir, f := range x.dirs {
		if f.scan >= x.scan {
			continue
		}
		fi, err := x.fs.Lstat(path.Join(dropDir, dir))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.IsDir() {
			x.forgetDirLocked(dir)
		}
	}
}

// addDir notes that dir and the folders above it exist.
func (x *index) addDir(dir string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, a := range ancestors(dir + "/") {
		x.addDirLocked(a)
	}
}

func (x *index) addDirLocked(dir string) {
	if x.dirs[dir] == nil {
		f := x.describe(dir)
		x.dirs[dir] = f
		x.dirCount[top(dir)]++
		if f.parent = x.dirs[path.Dir(dir)]; f.parent != nil {
			f.parent.holds++
		}
	}
	x.dirs[dir].scan = x.scan
}

// forgetDir notes that a folder is gone.
func (x *index) forgetDir(dir string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forgetDirLocked(dir)
}

func (x *index) forgetDirLocked(dir string) {
	f := x.dirs[dir]
	if f == nil {
		return
	}
	delete(x.dirs, dir)
	if f.parent != nil {
		f.parent.holds--
	}
	if x.dirCount[top(dir)]--; x.dirCount[top(dir)] == 0 {
		delete(x.dirCount, top(dir))
	}
}

// below lists the folders and files below p, and p itself.
func (x *index) below(p string) (paths []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for dir := range x.dirs {
		if below(dir, p) {
			paths = append(paths, dir)
		}
	}
	for file := range x.files {
		if below(file, p) {
			paths = append(paths, file)
		}
	}
	return paths
}

// move notes that the folder p is now q.
func (x *index) move(p, q string) {
	names := x.below(p)
	slices.Sort(names) // a folder before what it holds
	for _, name := range names {
		x.moveOne(name, q+name[len(p):])
	}
}

func (x *index) moveOne(p, q string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f := x.dirs[p]; f != nil {
		x.forgetDirLocked(p)
		x.addDirLocked(q)
		moved := x.dirs[q]
		moved.ours, moved.used, moved.noted = f.ours, f.used, f.noted
	}
	if f := x.files[p]; f != nil {
		x.forgetLocked(p)
		x.forgetLocked(q) // an event may have told of it already
		x.files[q] = f
		x.ledger.addFound(q, 1, f.size)
		x.scheduleLocked(f.due) // its name may have been a temporary one
	}
}
