package disk

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
)

// Hold has fsys keep the directory dir open, if fsys is an [OS], so that what is done right in it takes one system call instead of
// several for each of its parents ([os.Root] opens them each time). Hold what is used for every file and belongs to the
// program. If somebody renames or replaces it all the same, SyncDir fails once, since what was done is not where its name says, and
// the new one counts from then on; so it does from the next Hold on.
func Hold(fsys FS, dir string) {
	if o, ok := fsys.(*OS); ok {
		dir = path.Clean(dir)
		o.held.add(dir)
		d := o.held.get(o.root, dir) // if it is not there yet, with the first use
		if now, err := o.root.Lstat(dir); d != nil && (err != nil || !os.SameFile(now, d.info)) {
			o.held.forget(dir, d)
		}
	}
}

// heldDirs are directories that are kept open, by name. One that could not be opened yet is nil.
type heldDirs struct {
	mu   sync.RWMutex
	dirs map[string]*heldDir
}

type heldDir struct {
	root *os.Root
	file *os.File
	info fs.FileInfo
}

func (h *heldDirs) add(dir string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dirs == nil {
		h.dirs = map[string]*heldDir{}
	}
	if _, ok := h.dirs[dir]; !ok {
		h.dirs[dir] = nil
	}
}

// get returns a directory that is held, opening it if it is not open yet; nil if it is not held, or cannot be opened.
func (h *heldDirs) get(top *os.Root, dir string) *heldDir {
	h.mu.RLock()
	d, ok := h.dirs[dir]
	h.mu.RUnlock()
	if d != nil || !ok {
		return d
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dirs[dir] == nil {
		h.dirs[dir] = openHeld(top, dir)
	}
	return h.dirs[dir]
}

func openHeld(top *os.Root, dir string) *heldDir {
	root, err := top.OpenRoot(dir)
	if err != nil {
		return nil
	}
	file, err := root.Open(".")
	if err == nil {
		var info fs.FileInfo
		if info, err = file.Stat(); err == nil {
			return &heldDir{root, file, info}
		}
		file.Close()
	}
	root.Close()
	return nil
}

// forget has a directory opened anew. Somebody may be using the old one: the garbage collector closes it.
func (h *heldDirs) forget(dir string, d *heldDir) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dirs[dir] == d {
		h.dirs[dir] = nil
	}
}

func (h *heldDirs) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.dirs {
		if d != nil {
			d.root.Close()
			d.file.Close()
		}
	}
	h.dirs = nil
}

// in returns the directory to use for name, in both ways, and its name there.
func (o *OS) in(name string) (*os.Root, *os.File, string) {
	dir, base := split(name)
	if d := o.held.get(o.root, dir); d != nil {
		return d.root, d.file, base
	}
	return o.root, o.top, name
}

// split cuts the last part off a name. What does not end with one has the directory "", which is never held.
func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	if base = name[i+1:]; i < 1 || base == "" || base == "." || base == ".." {
		return "", name
	}
	return name[:i], base
}

// named gives err, of a call for the last part of name, the whole of it.
func named(name string, err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		pathErr.Path = name
	}
	return err
}

// renameHeld renames between two directories that are held. It reports false if nothing was done.
func (o *OS) renameHeld(oldname, newname string) bool {
	olddir, oldbase := split(oldname)
	newdir, newbase := split(newname)
	from, to := o.held.get(o.root, olddir), o.held.get(o.root, newdir)
	return from != nil && to != nil && renameNew(from.file, oldbase, to.file, newbase) == nil
}

var errReplaced = errors.New("the directory was renamed or replaced while it was in use")

// syncHeld syncs a directory that is held, and still has its name. It reports false if nothing was done.
func (o *OS) syncHeld(name string) (bool, error) {
	d := o.held.get(o.root, name)
	if d == nil {
		return false, nil
	}
	switch now, err := o.root.Lstat(name); {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, d.info):
		o.held.forget(name, d)
		return true, &fs.PathError{Op: "fsync", Path: name, Err: errReplaced}
	case err != nil:
		return true, err
	}
	return true, named(name, d.file.Sync())
}
