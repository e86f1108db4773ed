package drop

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"sync"
	"syscall"
	"time"
)

// Folders that clients made and that are empty go by themselves, or they would be held against their user for ever: cameras
// make one an hour. A folder is empty when nothing is to be seen in it; whoever uses the name of one that went finds it made again.

// folderTraces are where sessions stand, and which folders have gone.
type folderTraces struct {
	mu       sync.Mutex
	occupied map[string]int // sessions, by path below drop
	gone     map[string]bool
	order    []string // of gone: as they went; some may be back
	// idle are those that may go at the limit, by the user's directory: unused longest first, as of a while ago.
	idle map[string][]idleFolder
}

// maxGone is how many folders that went can be told from those that never were.
const maxGone = 20_000

// moveSession notes that a session stands in to, and not in from any more; "": in none.
func (f *folderTraces) moveSession(from, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if from != "" {
		if f.occupied[from]--; f.occupied[from] == 0 {
			delete(f.occupied, from)
		}
	}
	if to != "" {
		f.occupied[to]++
	}
}

func (f *folderTraces) isOccupied(p string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.occupied[p] > 0
}

// noteGone notes that the folder p was removed because it was empty.
func (f *folderTraces) noteGone(p string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone[p] {
		return
	}
	f.gone[p] = true
	for f.order = append(f.order, p); len(f.order) > maxGone; f.order = f.order[1:] {
		delete(f.gone, f.order[0])
	}
}

func (f *folderTraces) hasGone(p string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone[p]
}

// noteBack notes that the folder p is there again.
func (f *folderTraces) noteBack(p string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.gone, p)
}

// forget forgets that p, or what was below it, has gone: a client has done something else with that name.
func (f *folderTraces) forget(p string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.gone, func(q string, _ bool) bool { return below(q, p) })
}

func (f *folderTraces) setIdle(dir string, idle []idleFolder) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle[dir] = idle
}

func (f *folderTraces) nextIdle(dir string) (next idleFolder, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.idle[dir]
	if len(list) == 0 {
		delete(f.idle, dir)
		return next, false
	}
	f.idle[dir] = list[1:]
	return list[0], true
}

// Chdir has the session stand in a directory, in place of the one before. While a session stands there, it does not go
// for being empty; one that has gone is made again.
func (s *Session) Chdir(name string) error {
	return s.do(name, s.path, func(p string) error {
		return s.withFolders(p+"/", func() error { return s.chdir(p) })
	})
}

func (s *Session) chdir(p string) error {
	d := s.d
	defer d.names.lock(p)()
	here, err := d.at(p)
	switch {
	case err != nil:
		return err
	case here.dir == nil && here.info() == nil:
		return fs.ErrNotExist
	case here.dir == nil:
		return syscall.ENOTDIR
	}
	d.used(p + "/")
	s.setDir(p)
	return nil
}

// setDir has the session stand in p; "": nowhere.
func (s *Session) setDir(p string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.d.traces.moveSession(s.dir, p)
	s.dir = p
}

// Close ends the session's stand in a directory.
func (s *Session) Close() { s.setDir("") }

// withFolders does what needs the folders above p, once more if some of them had gone: they are made again.
func (s *Session) withFolders(p string, do func() error) error {
	err := do()
	for tries := 0; errors.Is(err, fs.ErrNotExist) && tries < 3; tries++ { // it may go again, at the limit
		remade, failed := s.remakeFolders(p)
		if failed != nil {
			return failed
		}
		if !remade {
			break
		}
		err = do()
	}
	return err
}

// remakeFolders makes those folders above p again that have gone, and reports whether there were any.
func (s *Session) remakeFolders(p string) (remade bool, err error) {
	for _, dir := range ancestors(p) {
		if !below(dir, s.u.dir) || !s.d.traces.hasGone(dir) {
			continue
		}
		if err := s.makeDir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return remade, err
		}
		s.log.Info("a folder that had gone, as it was empty, is used again", "folder", s.rel(dir))
		remade = true
	}
	return remade, nil
}

// makeDir makes the folder p, at the limit in place of the empty one that was not used for the longest time.
func (s *Session) makeDir(p string) error {
	for {
		err := s.mkdir(p)
		if !errors.Is(err, errMaxDirs) {
			return err
		}
		if !s.d.makeRoom(s.u, p) {
			return err
		}
	}
}

// makeRoom removes the empty folder of u that was not used for the longest time, and reports whether there was one. It is for p.
func (d *Drop) makeRoom(u *UserDir, p string) bool {
	const setting = "files.maxFolders"
	reached := fmt.Errorf("there are %d folders", d.opts.MaxDirs)
	for _, anew := range []bool{false, true} {
		if anew { // seldom: to look for them all takes its time
			d.traces.setIdle(u.dir, d.tree.unused(u.dir, time.Now()))
		}
		for dir, ok := d.traces.nextIdle(u.dir); ok; dir, ok = d.traces.nextIdle(u.dir) {
			if below(p, dir.path) || !d.tree.stillUnused(dir) || !d.removeUnused(dir.path) {
				continue
			}
			d.full.hit(d.log, u.dir, "the user has as many folders as are accepted; each new one replaces the empty one that was not used for the longest time",
				reached, "user", u.name, "removed", u.rel(dir.path), "setting", setting)
			return true
		}
	}
	d.full.hit(d.log, u.dir, "the user has as many folders as are accepted, and none of them is empty; new ones are refused",
		reached, "user", u.name, "setting", setting)
	return false
}

// expireFolders removes the folders that were not used for Options.FolderExpiry.
func (d *Drop) expireFolders() {
	before := time.Now().Add(-d.opts.FolderExpiry)
	removed := 0
	for n := -1; n != removed; { // those above them, then
		n = removed
		for _, dir := range d.tree.unused("", before) {
			if d.users.byPath(dir.path) != nil && d.removeUnused(dir.path) {
				removed++
			}
		}
	}
	if removed > 0 {
		d.log.Info("removed empty folders that clients had made and not used", "folders", removed, "for", d.opts.FolderExpiry)
	}
	for _, u := range d.users.all() {
		if d.tree.roomBelow(u.dir, d.opts.MaxDirs) {
			d.full.over(d.log, u.dir, "the user has fewer folders again than are accepted", "user", u.name)
		}
	}
}

// removeUnused removes the folder p if it is empty and nobody stands in it.
func (d *Drop) removeUnused(p string) bool {
	if !d.isUnused(p) {
		return false // without the lock, which stops all others
	}
	defer d.names.lockAll()()
	if !d.isUnused(p) {
		return false
	}
	if err := d.fs.Remove(path.Join(dropDir, p)); err != nil { // something of another program is in it, as a rule
		d.log.Debug("an empty folder is not removed", "folder", p, "error", named(p, err))
		return false
	}
	d.tree.forget(p)
	d.traces.noteGone(p)
	return true
}

// isUnused reports whether nobody stands in the folder p, and clients see nothing in it but, maybe, what other programs put there.
func (d *Drop) isUnused(p string) bool {
	for range d.box.List(p) {
		return false
	}
	if d.traces.isOccupied(p) || d.unused(p) != nil {
		return false
	}
	if here, err := d.at(p); err != nil || here.dir == nil {
		return false
	}
	kept, err := d.uploads.keptIn(p)
	return err == nil && len(kept) == 0
}

// used notes that a client has used what stands at p, and with it the folders above. The volume is told now and then.
func (d *Drop) used(p string) {
	dir := path.Dir(p)
	if !d.tree.use(dir) {
		return
	}
	name := path.Join(dropDir, dir)
	if fi, err := d.fs.Lstat(name); err == nil && fi.IsDir() {
		// The time that clients see stays; that of the change becomes now. If it fails, a restart knows an older one.
		_ = d.fs.Chtimes(name, fi.ModTime())
	}
}
