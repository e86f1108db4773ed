package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// OS is the FS of one directory of the operating system. Nothing outside of that directory can be
// reached through it, also when somebody else plants symlinks or moves directories meanwhile ([os.Root]; on Linux
// openat2, which needs one system call where os.Root needs several for each element of a name).
type OS struct {
	root *os.Root
	top  *os.File // held open, so that Free and SyncDir(".") work when descriptors run out
	held heldDirs
}

var _ FS = (*OS)(nil)

// Open opens the directory dir, which must be there. Close it when all its files are closed.
func Open(dir string) (*OS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the directory: %w", err)
	}
	top, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("opening the directory: %w", err)
	}
	return &OS{root: root, top: top}, nil
}

// Close gives the directory back. Files that are open stay open; every other call fails from now on.
func (o *OS) Close() error {
	o.held.close()
	err := o.root.Close()
	if e := o.top.Close(); err == nil {
		err = e
	}
	return err
}

// OpenFile implements FS.
func (o *OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := o.open(name, flag, perm)
	if err != nil {
		return nil, err // not f: a nil *os.File is a File that is not nil
	}
	return f, nil
}

func (o *OS) open(name string, flag int, perm fs.FileMode) (*os.File, error) {
	root, dir, base := o.in(name)
	f, err := openBeneath(dir, base, flag, perm)
	if errors.Is(err, errors.ErrUnsupported) {
		if err = noSymlinks(root, base+"/"); err == nil {
			f, err = root.OpenFile(base, flag, perm)
		}
	}
	return f, named(name, err)
}

// Lstat implements FS.
func (o *OS) Lstat(name string) (fs.FileInfo, error) {
	root, dir, base := o.in(name)
	var info fs.FileInfo
	err := errors.ErrUnsupported
	if strings.Contains(base, "/") { // else os.Root needs but one call
		info, err = lstatBeneath(dir, base)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		if err = noSymlinks(root, base); err == nil {
			info, err = root.Lstat(base)
		}
	}
	return info, named(name, err)
}

// noSymlinks returns an error if a part of name that "/" follows is a symlink.
func noSymlinks(root *os.Root, name string) error {
	for i := range name {
		if name[i] != '/' {
			continue
		}
		if info, err := root.Lstat(name[:i]); err == nil && info.Mode().Type() == fs.ModeSymlink {
			return &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
		}
	}
	return nil
}

// ReadDir implements FS.
func (o *OS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := o.openDir(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for i, e := range entries {
		entries[i] = entry{e, o, name}
	}
	return entries, err
}

// entry is one of a directory, which knows by itself only what the directory tells: name and type.
type entry struct {
	fs.DirEntry
	o   *OS
	dir string
}

// Info implements fs.DirEntry. That of package os would look for the file in the working directory.
func (e entry) Info() (fs.FileInfo, error) { return e.o.Lstat(path.Join(e.dir, e.Name())) }

// Mkdir implements FS.
func (o *OS) Mkdir(name string, perm fs.FileMode) error { return o.root.Mkdir(name, perm) }

// Rename implements FS.
func (o *OS) Rename(oldname, newname string) error {
	if o.renameHeld(oldname, newname) {
		return nil
	}
	return o.root.Rename(oldname, newname)
}

// Remove implements FS.
func (o *OS) Remove(name string) error {
	root, _, base := o.in(name)
	return named(name, root.Remove(base))
}

// Chtimes implements FS; the access time is left as it is.
func (o *OS) Chtimes(name string, mtime time.Time) error {
	return o.root.Chtimes(name, time.Time{}, mtime)
}

// SyncDir implements FS.
func (o *OS) SyncDir(name string) error {
	if name == "." {
		return o.top.Sync()
	}
	if done, err := o.syncHeld(name); done {
		return err
	}
	d, err := o.openDir(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// openDir opens a directory and nothing else: opening a named pipe would wait for its other end.
func (o *OS) openDir(name string) (*os.File, error) {
	return o.open(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
}

// Free implements FS.
func (o *OS) Free() (uint64, error) {
	conn, err := o.top.SyscallConn()
	if err != nil {
		return 0, err
	}
	var free uint64
	var statErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if free, statErr = freeBytes(int(fd)); statErr != syscall.EINTR {
				return
			}
		}
	})
	if err != nil { // its text and type are internal to package os; it means only this:
		statErr = fs.ErrClosed
	}
	if statErr != nil {
		return 0, &fs.PathError{Op: "fstatfs", Path: ".", Err: statErr}
	}
	return free, nil
}
