package drop

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// uploads are those under way, in partial/open, and those interrupted, in partial/kept.
type uploads struct {
	fs     disk.FS
	ledger *ledger
	id     string // in the names in partial/open

	mu   sync.Mutex // also of what stands in partial/kept; not held over a sync
	open map[string]*Upload
	kept map[string]bool // paths of the interrupted uploads. One may have been removed by hand, or come only when the outbox can move it there
	last uint64          // number in partial/open
}

func newUploads(fsys disk.FS, l *ledger) *uploads {
	return &uploads{fs: fsys, ledger: l, id: rand.Text(), open: map[string]*Upload{}, kept: map[string]bool{}}
}

// newTemp is where a new upload stands. No other Drop that was ever opened on the volume has used the name: one may
// still be in a Commit when the next is opened, and then finds that its file is gone, and not another's in its place.
func (a *uploads) newTemp() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	return path.Join(openDir, fmt.Sprintf("%s-%d", a.id, a.last))
}

// register makes u the upload to its path. One that is open there is superseded.
func (a *uploads) register(u *Upload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.open[u.path]; old != nil {
		old.superseded.Store(true)
	}
	a.open[u.path] = u
}

// succeed makes u the upload to its path in place of old, and reports whether old was.
func (a *uploads) succeed(old, u *Upload) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[u.path] != old {
		return false
	}
	a.open[u.path] = u
	return true
}

// release removes u from the open uploads.
func (a *uploads) release(u *Upload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releaseLocked(u)
}

func (a *uploads) releaseLocked(u *Upload) {
	if a.open[u.path] == u {
		delete(a.open, u.path)
	}
}

// at returns the upload to p that is open, or describes the one that was interrupted.
func (a *uploads) at(p string) (*Upload, fs.FileInfo, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.open[p]; u != nil {
		return u, nil, nil
	}
	fi, err := a.keptLocked(p)
	return nil, fi, err
}

// in returns the open uploads of the directory p, or of those below it too.
func (a *uploads) in(p string, deep bool) []*Upload {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*Upload
	for q, u := range a.open {
		if path.Dir(q) == p || deep && (p == "." || below(q, p)) {
			list = append(list, u)
		}
	}
	return list
}

// kept is where the interrupted upload to p stands.
func kept(p string) string { return path.Join(keptDir, p) }

// keptLocked describes the interrupted upload to p; nil: there is none.
func (a *uploads) keptLocked(p string) (fs.FileInfo, error) {
	if !a.kept[p] {
		return nil, nil // as a rule: the volume is not asked
	}
	fi, err := a.fs.Lstat(kept(p))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, nil
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, nil
	}
	return fi, nil
}

// keptIn describes the interrupted uploads in the directory p.
func (a *uploads) keptIn(p string) (list []fs.FileInfo, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for q := range a.kept {
		if path.Dir(q) != p {
			continue
		}
		fi, err := a.keptLocked(q)
		if err != nil {
			return nil, err
		}
		if fi != nil {
			list = append(list, fi)
		}
	}
	return list, nil
}

// noteKept notes that an interrupted upload to p of size bytes stands in partial/kept, or will.
func (a *uploads) noteKept(p string, size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept[p] = true
	a.ledger.addPartial(p, 1, size)
}

// forgetKept notes that none does.
func (a *uploads) forgetKept(p string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.kept, p)
}

// removeKept removes the interrupted upload to p durably, if there is one: else it could come back after a power cut, and a client
// would resume another file on its bytes.
func (a *uploads) removeKept(p string) error {
	removed, err := a.expireKept(p, 0)
	if err != nil || removed == nil {
		return err
	}
	return a.fs.SyncDir(path.Dir(kept(p)))
}

// void removes the interrupted uploads to p and below it durably, as p becomes a new folder: they were not to files in that.
func (a *uploads) void(p string) error {
	a.mu.Lock()
	voided := keysBelow(a.kept, p)
	a.mu.Unlock()
	for _, q := range voided {
		if err := a.removeKept(q); err != nil {
			return err
		}
	}
	return nil
}

// expireKept removes the interrupted upload to p if it is at least so old, and describes what it removed.
func (a *uploads) expireKept(p string, age time.Duration) (fs.FileInfo, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fi, err := a.keptLocked(p)
	if fi == nil || err != nil || time.Since(disk.ChangeTime(fi)) < age {
		return nil, err
	}
	if err := a.fs.Remove(kept(p)); err != nil {
		return nil, err
	}
	delete(a.kept, p)
	a.ledger.addPartial(p, -1, -fi.Size())
	return fi, nil
}

// keep renames u, which was synced, to where it can be resumed, and releases it. It reports whether it did: not if u was
// superseded. The name is not synced: if it is lost, the client begins anew.
func (a *uploads) keep(u *Upload) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[u.path] != u {
		return false, nil
	}
	if err := a.makeKeptDirs(u.path); err != nil {
		return false, err
	}
	if err := a.fs.Rename(u.part.temp, kept(u.path)); err != nil {
		return false, err
	}
	u.part.temp = ""
	a.kept[u.path] = true
	a.releaseLocked(u)
	return true, nil
}

// makePlace makes the directory for an interrupted upload to p, durably. It is an error if something else stands in its place.
func (a *uploads) makePlace(p string) error {
	if err := disk.MkdirAll(a.fs, path.Dir(kept(p)), dirPerm); err != nil {
		return err
	}
	if _, err := a.fs.Lstat(kept(p)); !errors.Is(err, fs.ErrNotExist) {
		return cmp.Or(err, fs.ErrExist)
	}
	return nil
}

// makeKeptDirs makes the directories for the interrupted upload to p.
func (a *uploads) makeKeptDirs(p string) error {
	for _, dir := range ancestors(p) {
		if err := a.fs.Mkdir(kept(dir), dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// removeOpen removes what uploads under way left when the process ended. A killed process's files could be
// trusted, those from before a power cut cannot, and the two look the same.
func (a *uploads) removeOpen() (int, error) {
	entries, err := a.fs.ReadDir(openDir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if err := a.fs.Remove(path.Join(openDir, e.Name())); err != nil {
			return 0, err
		}
	}
	return len(entries), nil
}

// eachKept visits the interrupted uploads below dir, and calls leave (if it is not nil) for each directory below it when all in that were visited. One that
// goes meanwhile may be left out. The error is of directories that cannot be read.
func (a *uploads) eachKept(dir string, visit func(p string, fi fs.FileInfo), leave func(dir string)) (failed error) {
	entries, err := a.fs.ReadDir(kept(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if e.IsDir() {
			failed = errors.Join(failed, a.eachKept(p, visit, leave))
			if leave != nil {
				leave(p)
			}
		} else if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() {
			visit(p, fi)
		}
	}
	return failed
}

// removeKeptDir removes a directory if it is empty and no file is to come.
func (a *uploads) removeKeptDir(p string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for q := range a.kept {
		if below(q, p) {
			return
		}
	}
	_ = a.fs.Remove(kept(p)) // if it fails, something is in it
}
