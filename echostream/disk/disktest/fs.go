package disktest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// ErrCrashed is in the error of every operation on an FS whose power is cut.
var ErrCrashed = errors.New("the power is cut")

// FS is a simulated disk. It is safe for concurrent use, and usable inside a synctest bubble: it waits
// for nothing and reads no real clock.
type FS struct {
	origin string // "seed 5", and how it came from other disks

	mu       sync.Mutex
	vol      *volume
	dead     bool
	onCut    []func()
	cutAt    int // -1: never
	ops      []Op
	faults   []*Fault
	dropSync func(Op) bool
	twoNames bool
	capacity int64            // 0: without end
	clock    func() time.Time // nil: the logical one
	time     time.Time        // the logical clock
}

var _ disk.FS = (*FS)(nil)

// New makes an empty disk. The seed is the beginning of its name in String, and of nothing else: chance
// comes in with the Policy of a Crash.
func New(seed int64) *FS {
	f := &FS{
		origin: fmt.Sprintf("disk %d", seed),
		vol:    newVolume(),
		cutAt:  -1,

		twoNames: *twoNames,
		time:     time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	f.vol.root.mtime, f.vol.root.ctime = f.time, f.time
	return f
}

// String tells where the disk came from: "disk 1; -crash.op=17 -crash.seed=5".
func (f *FS) String() string { return f.origin }

// SetClock makes now the clock of the file times, instead of the logical one. It must not use the FS.
func (f *FS) SetClock(now func() time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock = now
}

// Advance moves the logical clock, which else moves only with the operations.
func (f *FS) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.time = f.time.Add(d)
}

// now is the time of an operation. mu is held.
func (f *FS) now() time.Time {
	if f.clock != nil {
		return f.clock()
	}
	f.time = f.time.Add(time.Millisecond)
	return f.time
}

// SetCapacity sets how many bytes the disk holds; a write for which there is no room fails with ENOSPC after
// what there is room for, and a new file needs room for one byte. By default, and with 0, there is no end.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// SetTwoNames sets whether a file that is renamed to another directory can have both names after a power cut, until both
// directories are synced: see the package comment. The default is that of the flag -crash.twonames.
func (f *FS) SetTwoNames(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.twoNames = on
}

// CutAt cuts the power before the operation with the index n: it and all that follow fail with ErrCrashed.
func (f *FS) CutAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt = n
}

// Cut cuts the power now.
func (f *FS) Cut() {
	f.mu.Lock()
	calls := f.cut()
	f.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

// OnCut adds a function that is called once when the power is cut, by the goroutine whose operation did it.
// It may use the FS; it must not wait for locks that the goroutine may hold: cancelling a context is what it is for.
func (f *FS) OnCut(call func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onCut = append(f.onCut, call)
}

// cut cuts the power and returns what the caller has to call after it has unlocked mu.
func (f *FS) cut() []func() {
	calls := f.onCut
	f.dead, f.onCut = true, nil
	return calls
}

// IsCut reports whether the power is cut.
func (f *FS) IsCut() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// Len is the number of operations so far, and the index of the next one.
func (f *FS) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ops)
}

// Ops lists the operations so far.
func (f *FS) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ops)
}

// Trace lists the operations so far, a line each, with the place in the source where it is known.
func (f *FS) Trace() string {
	var b strings.Builder
	fmt.Fprintln(&b, f)
	for _, op := range f.Ops() {
		fmt.Fprint(&b, op)
		if site := op.Site(); site.Func != "" {
			fmt.Fprintf(&b, "  %s:%d", site.File, site.Line)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// DropSync makes each Sync and SyncDir for which drop is true report success and do nothing, here and on the
// disks that come from this one. It shows what a sync is there for. drop must not use the FS.
func (f *FS) DropSync(drop func(Op) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropSync = drop
}

// begin starts any operation: it locks and sees whether the disk is alive and no fault hits. After
// nil the caller unlocks.
func (f *FS) begin(kind Kind, name string) error {
	f.mu.Lock()
	err := f.alive(kind, name)
	if err != nil {
		f.mu.Unlock()
	}
	return err
}

func (f *FS) alive(kind Kind, name string) error {
	if f.dead {
		return ErrCrashed
	}
	if kind >= Open {
		if fault := f.fault(&Op{Kind: kind, Path: clean(name)}); fault != nil {
			return fault.err()
		}
	}
	return nil
}

// step does one operation that changes the disk: it counts and records it, and lets the power cut or a fault hit
// it before do. mu is held; it is not while OnCut's functions run.
func (f *FS) step(op Op, do func(fault *Fault) error) error {
	op.Index = len(f.ops)
	if f.cutAt >= 0 && op.Index >= f.cutAt {
		calls := f.cut()
		f.mu.Unlock()
		for _, call := range calls {
			call()
		}
		f.mu.Lock()
		return ErrCrashed
	}
	if op.Kind.isSync() || op.Kind.isMove() {
		op.callers = callers()
	}
	switch fault := f.fault(&op); {
	case op.Kind.isSync() && f.dropSync != nil && f.dropSync(op):
		op.Note = "dropped"
	case fault != nil && op.Kind != Write && op.Kind != Sync:
		if fault.Done {
			_ = do(nil)
		}
		op.Err = fault.err()
	default:
		op.Err = do(fault)
	}
	f.ops = append(f.ops, op)
	return op.Err
}

// times are those of a change now.
func (f *FS) times(c change) change {
	c.ctime = f.now()
	if c.kind != Chtimes {
		c.mtime = c.ctime
	}
	return c
}

// apply does an operation on names, in one step or two, and moves the times of what it touches.
func (f *FS) apply(ops ...*nameOp) {
	now := f.now()
	for _, op := range ops {
		f.vol.apply(op)
		op.node.ctime = now
		for _, s := range []slot{op.from, op.to} {
			if s.dir != nil {
				s.dir.changes = s.dir.changes[:0] // only the last times of a directory matter
				s.dir.change(change{kind: Chtimes, mtime: now, ctime: now})
			}
		}
	}
}

// room is how many more bytes fit.
func (f *FS) room() int64 {
	if f.capacity == 0 {
		return 1 << 40
	}
	return max(0, f.capacity-f.vol.used)
}

// OpenFile implements disk.FS.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	file, err := f.openFile(name, flag, perm)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return file, nil
}

func (f *FS) openFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if err := f.begin(Open, name); err != nil {
		return nil, err
	}
	defer f.mu.Unlock()
	at, n, err := f.vol.find(name)
	if err != nil {
		return nil, err
	}
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case n == nil:
		if strings.HasSuffix(name, "/") {
			return nil, syscall.EISDIR
		}
		err = f.step(Op{Kind: Create, Path: clean(name)}, func(*Fault) error {
			if f.room() == 0 {
				return syscall.ENOSPC
			}
			n = f.vol.newInode(perm.Perm())
			n.mtime = f.now()
			n.durableMtime, n.durableCtime = n.mtime, n.mtime
			f.apply(&nameOp{to: at, node: n})
			return nil
		})
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, syscall.EEXIST
	case n.isDir() && (writes || flag&os.O_CREATE != 0):
		return nil, syscall.EISDIR
	case !n.isDir() && flag&syscall.O_DIRECTORY != 0:
		return nil, syscall.ENOTDIR
	case writes && flag&os.O_TRUNC != 0:
		err = f.step(Op{Kind: Truncate, Path: clean(name)}, func(*Fault) error {
			f.vol.change(n, f.times(change{kind: Truncate}))
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	n.handles++
	return &file{fs: f, node: n, name: clean(name), flag: flag}, nil
}

// Lstat implements disk.FS.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	if err := f.begin(Lstat, name); err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	defer f.mu.Unlock()
	at, n, err := f.vol.find(name)
	if err == nil && n == nil {
		err = syscall.ENOENT
	}
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return n.info(at.name), nil
}

// ReadDir implements disk.FS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.begin(ReadDir, name); err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	defer f.mu.Unlock()
	dir, err := f.vol.findDir(name)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	entries := make([]fs.DirEntry, 0, len(dir.names))
	for _, base := range slices.Sorted(maps.Keys(dir.names)) {
		entries = append(entries, fs.FileInfoToDirEntry(dir.names[base].info(base)))
	}
	return entries, nil
}

// Mkdir implements disk.FS.
func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	return f.named(Mkdir, name, func(at slot, n *inode) error {
		if n != nil {
			return syscall.EEXIST
		}
		return f.step(Op{Kind: Mkdir, Path: clean(name)}, func(*Fault) error {
			if f.room() == 0 {
				return syscall.ENOSPC
			}
			n = f.vol.newInode(fs.ModeDir | perm.Perm())
			n.mtime = f.now()
			n.durableMtime, n.durableCtime = n.mtime, n.mtime
			f.apply(&nameOp{to: at, node: n})
			return nil
		})
	})
}

// Remove implements disk.FS.
func (f *FS) Remove(name string) error {
	return f.named(Unlink, name, func(at slot, n *inode) error {
		kind := Unlink
		switch {
		case n == nil:
			return syscall.ENOENT
		case at.dir == nil:
			return syscall.EINVAL
		case n.isDir() && len(n.names) > 0:
			return syscall.ENOTEMPTY
		case n.isDir():
			kind = Rmdir
		}
		return f.step(Op{Kind: kind, Path: clean(name)}, func(*Fault) error {
			f.apply(&nameOp{from: at, node: n})
			return nil
		})
	})
}

// Rename implements disk.FS.
func (f *FS) Rename(oldname, newname string) error {
	if err := f.rename(oldname, newname); err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

func (f *FS) rename(oldname, newname string) error {
	if err := f.begin(Rename, oldname); err != nil {
		return err
	}
	defer f.mu.Unlock()
	from, n, err := f.vol.find(oldname)
	if err != nil {
		return err
	}
	to, there, err := f.vol.find(newname)
	switch {
	case err != nil:
		return err
	case n == nil:
		return syscall.ENOENT
	case from.dir == nil || to.dir == nil:
		return syscall.EINVAL
	case there != nil && there.isDir():
		return syscall.EEXIST
	case there == n:
		return nil
	case n.isDir() && there != nil, !n.isDir() && strings.HasSuffix(newname, "/"):
		return syscall.ENOTDIR
	}
	for d := to.dir; d != nil; d = d.parent {
		if d == n {
			return syscall.EINVAL
		}
	}
	return f.step(Op{Kind: Rename, Path: clean(oldname), To: clean(newname)}, func(*Fault) error {
		f.apply(renameOps(from, to, n, f.twoNames)...)
		return nil
	})
}

// Chtimes implements disk.FS.
func (f *FS) Chtimes(name string, mtime time.Time) error {
	return f.named(Chtimes, name, func(_ slot, n *inode) error {
		if n == nil {
			return syscall.ENOENT
		}
		return f.step(Op{Kind: Chtimes, Path: clean(name)}, func(*Fault) error {
			f.vol.change(n, f.times(change{kind: Chtimes, mtime: mtime}))
			return nil
		})
	})
}

// SyncDir implements disk.FS.
func (f *FS) SyncDir(name string) error {
	if err := f.begin(SyncDir, name); err != nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: err}
	}
	defer f.mu.Unlock()
	dir, err := f.vol.findDir(name)
	if err == nil {
		err = f.syncDir(dir, clean(name))
	}
	if err != nil {
		return &fs.PathError{Op: "syncdir", Path: name, Err: err}
	}
	return nil
}

func (f *FS) syncDir(dir *inode, name string) error {
	return f.step(Op{Kind: SyncDir, Path: name}, func(*Fault) error {
		f.vol.syncDir(dir)
		return nil
	})
}

// Free implements disk.FS. Without a capacity it is a tebibyte.
func (f *FS) Free() (uint64, error) {
	if err := f.begin(Free, "."); err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: ".", Err: err}
	}
	defer f.mu.Unlock()
	return uint64(f.room()), nil
}

// named does what needs only to find one name.
func (f *FS) named(kind Kind, name string, do func(at slot, n *inode) error) error {
	err := f.begin(kind, name)
	if err == nil {
		defer f.mu.Unlock()
		var at slot
		var n *inode
		if at, n, err = f.vol.find(name); err == nil {
			err = do(at, n)
		}
	}
	if err != nil {
		return &fs.PathError{Op: kind.String(), Path: name, Err: err}
	}
	return nil
}

// ReadFile reads a whole file, for checks.
func (f *FS) ReadFile(name string) ([]byte, error) {
	if err := f.begin(Read, name); err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	defer f.mu.Unlock()
	_, n, err := f.vol.find(name)
	switch {
	case err != nil:
	case n == nil:
		err = syscall.ENOENT
	case n.isDir():
		err = syscall.EISDIR
	default:
		return slices.Clone(n.data), nil
	}
	return nil, &fs.PathError{Op: "read", Path: name, Err: err}
}

// Files reads the whole tree, for checks: the bytes of each file by its path, and nil for each directory by
// its path and "/".
func (f *FS) Files() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	files := map[string]string{}
	var walk func(prefix string, dir *inode)
	walk = func(prefix string, dir *inode) {
		for name, n := range dir.names {
			if n.isDir() {
				files[prefix+name+"/"] = ""
				walk(prefix+name+"/", n)
			} else {
				files[prefix+name] = string(n.data)
			}
		}
	}
	walk("", f.vol.root)
	return files
}
