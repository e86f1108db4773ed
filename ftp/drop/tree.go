package drop

import (
	"cmp"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// folderTree is what was seen of the folders below drop, and when clients used them.
type folderTree struct {
	fs   disk.FS
	perm fs.FileMode // of the folders that the node makes; known when Open reads the volume

	mu       sync.Mutex
	folders  map[string]*folder
	counts   map[string]int // by top directory
	scan     uint64         // number of the last scan
	starting bool           // Open has not read all of it yet
}

// folder is what is known of a folder.
type folder struct {
	scan  uint64    // the last one that saw it
	ours  bool      // a client made it
	used  time.Time // last, by a client: made, entered, uploaded or renamed to
	noted time.Time // used, as far as the volume knows: its change time

	parent *folder // nil: not known
	holds  int     // folders, as far as their parent was known
}

// idleFolder is one that a client made and that holds no other, and when it was used last.
type idleFolder struct {
	path string
	used time.Time
}

// noteUse is how old the note of a folder's use on the volume may be while it is used: restarts forget the rest.
const noteUse = time.Hour

func newFolderTree(fsys disk.FS) *folderTree {
	return &folderTree{fs: fsys, folders: map[string]*folder{}, counts: map[string]int{}, starting: true}
}

// add notes that the folder dir exists.
func (x *folderTree) add(dir string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.addLocked(dir)
}

// addAll notes that dir and the folders above it exist.
func (x *folderTree) addAll(dir string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, a := range ancestors(dir + "/") {
		x.addLocked(a)
	}
}

func (x *folderTree) addLocked(dir string) {
	if x.folders[dir] == nil {
		f := x.describe(dir)
		x.folders[dir] = f
		x.counts[top(dir)]++
		if f.parent = x.folders[path.Dir(dir)]; f.parent != nil {
			f.parent.holds++
		}
	}
	x.folders[dir].scan = x.scan
}

// forget notes that a folder is gone.
func (x *folderTree) forget(dir string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forgetLocked(dir)
}

func (x *folderTree) forgetLocked(dir string) {
	f := x.folders[dir]
	if f == nil {
		return
	}
	delete(x.folders, dir)
	if f.parent != nil {
		f.parent.holds--
	}
	if x.counts[top(dir)]--; x.counts[top(dir)] == 0 {
		delete(x.counts, top(dir))
	}
}

// beginScan begins a scan of the whole directory; see endScan.
func (x *folderTree) beginScan() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.scan++
}

// endScan forgets the folders that the scan has not seen and that are not there.
func (x *folderTree) endScan() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for dir, f := range x.folders {
		if f.scan >= x.scan {
			continue
		}
		fi, err := x.fs.Lstat(path.Join(dropDir, dir))
		if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.IsDir() {
			x.forgetLocked(dir)
		}
	}
}

// below lists the folder p and those below it, a folder before what it holds.
func (x *folderTree) below(p string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	paths := keysBelow(x.folders, p)
	slices.Sort(paths)
	return paths
}

// move notes that the folder p is now q.
func (x *folderTree) move(p, q string) {
	for _, dir := range x.below(p) {
		x.moveOne(dir, q+dir[len(p):])
	}
}

func (x *folderTree) moveOne(p, q string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.folders[p]
	if f == nil {
		return
	}
	x.forgetLocked(p)
	x.addLocked(q)
	moved := x.folders[q]
	moved.ours, moved.used, moved.noted = f.ours, f.used, f.noted
}

// use notes that a client uses the folder dir, and those above it. It reports whether the volume is to be told.
func (x *folderTree) use(dir string) (note bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	for _, a := range ancestors(dir + "/") {
		f := x.folders[a]
		if f == nil {
			continue
		}
		f.used = now
		if a == dir && f.ours && now.Sub(f.noted) > noteUse {
			f.noted, note = now, true
		}
	}
	return note
}

// made notes that a client has made the folder dir.
func (x *folderTree) made(dir string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.addLocked(dir)
	now := time.Now()
	f := x.folders[dir]
	f.ours, f.used, f.noted = true, now, now
}

// opened ends the start: folders that turn up from now on, and that no client made, are of other programs.
func (x *folderTree) opened() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.starting = false
}

// unused lists the folders below dir that clients made, that hold no others, and that were not used since before: the one that was used
// last at the end. "": all.
func (x *folderTree) unused(dir string, before time.Time) (idle []idleFolder) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for p, f := range x.folders {
		if f.ours && f.holds == 0 && !f.used.After(before) && (dir == "" || strings.HasPrefix(p, dir+"/")) {
			idle = append(idle, idleFolder{p, f.used})
		}
	}
	slices.SortFunc(idle, func(a, b idleFolder) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.path, b.path)) })
	return idle
}

// stillUnused reports whether it is as unused would list it.
func (x *folderTree) stillUnused(idle idleFolder) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.folders[idle.path]
	return f != nil && f.holds == 0 && f.used.Equal(idle.used)
}

// roomBelow reports whether fewer than limit folders stand below dir, a user's.
func (x *folderTree) roomBelow(dir string, limit int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.counts[top(dir)] <= limit { // one of them is dir
		return true
	}
	n := 0
	for p := range x.folders {
		if strings.HasPrefix(p, dir+"/") {
			n++
		}
	}
	return n < limit
}

// describe returns what the volume knows of the folder dir at the start: one with the permissions that the node gives its own is taken for one
// that a client made. If nothing can be told, none did.
func (x *folderTree) describe(dir string) *folder {
	if x.starting {
		if fi, err := x.fs.Lstat(path.Join(dropDir, dir)); err == nil && fi.IsDir() {
			t := disk.ChangeTime(fi)
			return &folder{ours: fi.Mode().Perm() == x.perm, used: t, noted: t}
		}
	}
	return &folder{}
}
