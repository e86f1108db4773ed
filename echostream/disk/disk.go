// Package disk is the small part of a file system that a crash-safe program needs.
//
// Everything that ftpnode keeps goes through an [FS]: the real one confines itself to one directory
// ([Open]), the one for tests (package disktest) records each mutating operation, fails on demand and
// can be cut at any of them as a power cut would.
//
// What it promises about durability is what POSIX promises, no more: data is durable after File.Sync,
// a name after FS.SyncDir of the directory that holds it. A rename never leaves a file without a name. It is durable
// once the directory it went to is synced; and one to another directory can leave a file both names ([SameFile])
// until the directory it came from is synced, too.
//
// Its limits: one process writes to the tree at a time; no hard links and no symlinks are made;
// bytes that a dying process had written but not synced outlive the process and are still not durable, so
// recovery syncs whatever it goes on to rely on.
//
// The order of the steps that make a file durable stands in one place, [Commit]:
//
//	volume, err := disk.Open("/data")
//	f, err := volume.OpenFile("partial/1", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
//	_, err = io.Copy(f, upload)
//	err = disk.Commit(volume, f, "partial/1", "drop/scan.pdf") // nil: it is there after a power cut
package disk

import (
	"io"
	"io/fs"
	"time"
)

// FS is a directory tree on one volume. Names are slash-separated and relative to its top ("." is the
// top itself); a name that leaves the tree, by ".." or by a symlink, is an error. Errors are *fs.PathError
// or *os.LinkError and unwrap to fs.ErrNotExist, fs.ErrExist and the syscall's errno.
// It is safe for concurrent use.
type FS interface {
	// OpenFile opens name with the os.O_* flags. A symlink in name is syscall.ELOOP.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Lstat describes name. A symlink in it, but for its end, is syscall.ELOOP.
	Lstat(name string) (fs.FileInfo, error)
	// ReadDir lists a directory, sorted by name. What Info describes may have changed since.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Mkdir makes one directory; its parent must be there.
	Mkdir(name string, perm fs.FileMode) error
	// Rename moves a file or directory within the tree and replaces a file that has the new name.
	// It never replaces a directory, not even an empty one: that is fs.ErrExist.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Chtimes sets the modification time of name; File.Sync of it makes the time durable.
	Chtimes(name string, mtime time.Time) error
	// SyncDir makes the names in a directory durable, not the directory's own name in its parent.
	SyncDir(name string) error
	// Free tells how many bytes an unprivileged program can still write to the volume.
	Free() (uint64, error)
}

// File is an open file of an FS.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Seeker
	io.Closer
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	// Sync makes the file's bytes durable. After an error they never are: the kernel has dropped
	// them, so the file must be given up, not synced again.
	Sync() error
}
