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

// foundFiles are the files of other programs that were seen in the drop directory.
type foundFiles struct {
	fs     disk.FS
	ledger *ledger
	quiet  time.Duration

	mu    sync.Mutex
	files map[string]*found // by path below drop
	scan  uint64            // number of the last scan
	next  time.Time         // no file is to be taken before; zero: there is none to take
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

func newFoundFiles(fsys disk.FS, l *ledger, quiet time.Duration) *foundFiles {
	return &foundFiles{fs: fsys, ledger: l, quiet: quiet, files: map[string]*found{}}
}

// refresh compares what is known of p with what stands there, and describes that; nil: nothing, or it cannot be told.
func (x *foundFiles) refresh(p string) fs.FileInfo {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.refreshLocked(p)
}

func (x *foundFiles) refreshLocked(p string) fs.FileInfo {
	fi, err := x.fs.Lstat(path.Join(dropDir, p))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		x.forgetLocked(p)
		return nil
	case fi.Mode().IsRegular():
		x.noteLocked(p, fi)
	default: // a folder, a symlink, a pipe, ...
		x.forgetLocked(p)
	}
	return fi
}

// noteLocked notes what the file at p looks like.
func (x *foundFiles) noteLocked(p string, fi fs.FileInfo) {
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
func (x *foundFiles) scheduleLocked(due time.Time) {
	if x.next.IsZero() || due.Before(x.next) {
		x.next = due
	}
}

// scheduleNow has all files that are due looked at again.
func (x *foundFiles) scheduleNow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.scheduleLocked(time.Now())
}

// pause is how long no file is to be taken; false: until something happens.
func (x *foundFiles) pause() (time.Duration, bool) {
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
func (x *foundFiles) forget(p string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forgetLocked(p)
}

func (x *foundFiles) forgetLocked(p string) {
	if f := x.files[p]; f != nil {
		delete(x.files, p)
		x.ledger.addFound(p, -1, -f.size)
	}
}

// quietFiles lists the files that are to be taken by now, in the order of their change times: that of their renames to their names. Names
// for which skip says so are left out, until scheduleNow.
func (x *foundFiles) quietFiles(skip func(p string) bool) (paths []string) {
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
func (x *foundFiles) stillQuiet(p string) (since time.Time, ok bool) {
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
func (x *foundFiles) postpone(p string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f := x.files[p]; f != nil {
		f.due = time.Now().Add(min(minRetry<<min(f.failures, 20), maxRetry))
		f.failures++
		x.scheduleLocked(f.due)
	}
}

// beginScan begins a scan of the whole directory; see endScan.
func (x *foundFiles) beginScan() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.scan++
}

// endScan refreshes what the scan has not seen.
func (x *foundFiles) endScan() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for p, f := range x.files {
		if f.scan < x.scan {
			x.refreshLocked(p)
		}
	}
}

// below lists the files in the folder p, and in those below it.
func (x *foundFiles) below(p string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return keysBelow(x.files, p)
}

// move notes that the folder p is now q.
func (x *foundFiles) move(p, q string) {
	for _, name := range x.below(p) {
		x.moveOne(name, q+name[len(p):])
	}
}

func (x *foundFiles) moveOne(p, q string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.files[p]
	if f == nil {
		return
	}
	x.forgetLocked(p)
	x.forgetLocked(q) // an event may have told of it already
	x.files[q] = f
	x.ledger.addFound(q, 1, f.size)
	x.scheduleLocked(f.due) // its name may have been a temporary one
}

// unchanged returns the files that have not changed since before a time, and since when.
func (x *foundFiles) unchanged(before time.Time) map[string]time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	files := map[string]time.Time{}
	for p, f := range x.files {
		if f.changed.Before(before) {
			files[p] = f.changed
		}
	}
	return files
}
