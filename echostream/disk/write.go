package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"
)

// Commit makes the finished file f durable under the name to: it syncs and closes f, renames it from its
// name from, and syncs the directory of to. It closes f in any case. from and to may be the same name.
//
// After nil, to holds these bytes whatever happens. Yet from, in another directory, can be a second name of them after a
// power cut ([SameFile]) until the caller has synced that directory. It does so before it removes to, at the latest:
// else the removed file can come back as from.
//
// After an error before the rename, from still stands and must be given up. After an error of the last step
// ([IsUncertain]) the complete bytes stand under to, but a power cut may still bring the file back to from, and what
// had the name to before back to it.
func Commit(fsys FS, f File, from, to string) error {
	// Each step needs the one before to be durable:
	//  1. sync the file: a rename that reached the disk before its bytes would show a torn file under
	//     the final name. A failed sync is final (see File.Sync).
	//  2. close: some file systems (NFS, FUSE) tell of a failed write only here.
	//  3. rename: readers, and recovery after a crash, see all of the file under to, or none of it. An error may be
	//     told of a rename that was done (NFS sends a request again when the reply was lost): see arrived.
	//  4. sync the directory of to: only then does the name outlive a power cut, and may be acknowledged.
	// The directory of from is not synced here: that costs as much as step 4, can wait until to is to be
	// removed, and serves many files at once.
	if err := f.Sync(); err != nil {
		f.Close()
		return fmt.Errorf("syncing before the rename to %q: %w", to, err)
	}
	info, statErr := f.Stat()
	if err := f.Close(); err != nil {
		return fmt.Errorf("closing before the rename to %q: %w", to, err)
	}
	if from != to {
		if err := fsys.Rename(from, to); err != nil && (statErr != nil || !arrived(fsys, info, to)) {
			return err
		}
	}
	if err := fsys.SyncDir(path.Dir(to)); err != nil {
		return &uncertainError{fmt.Errorf("syncing the directory of %q: %w", to, err)}
	}
	return nil
}

// arrived reports whether the file that info describes stands under the name to.
func arrived(fsys FS, info fs.FileInfo, to string) bool {
	there, err := fsys.Lstat(to)
	return err == nil && SameFile(info, there)
}

// uncertainError says that an operation was done, but may be undone by a power cut.
type uncertainError struct{ error }

func (e *uncertainError) Unwrap() error { return e.error }

// IsUncertain reports whether err is that of a Commit or WriteFile whose rename was done and whose
// directory could not be synced: the new file stands under its name, and a power cut may undo that.
func IsUncertain(err error) bool {
	var u *uncertainError
	return errors.As(err, &u)
}

// tempPrefix and tempSuffix make a name that is hidden, and ignored by every default pattern.
const tempPrefix, tempSuffix = ".", ".tmp"

// WriteFile replaces the file name, or makes it, so that a crash leaves all of the old bytes or all of
// data. It writes beside it, to a name that IsTemp recognises, and takes that away if it fails.
//
// That name follows from name, so that crashes leave no more than one temporary file for each name and
// the next WriteFile clears it; there must not be two calls for the same name at a time.
func WriteFile(fsys FS, name string, data []byte, perm fs.FileMode) error {
	dir, base := path.Split(name)
	temp := dir + tempPrefix + base + tempSuffix
	f, err := createNew(fsys, temp, perm)
	if err != nil {
		return err
	}
	if err = WriteAll(f, data); err != nil {
		f.Close()
	} else {
		err = Commit(fsys, f, temp, name)
	}
	if err != nil && !IsUncertain(err) {
		// Best effort: the first error is the one to tell, and the next call removes it too.
		_ = fsys.Remove(temp)
	}
	return err
}

// IsTemp reports whether a file of this name is an unfinished one of WriteFile: a reader of
// a directory skips it, recovery may remove it.
func IsTemp(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, tempPrefix) && strings.HasSuffix(base, tempSuffix) &&
		len(base) > len(tempPrefix)+len(tempSuffix)
}

// createNew makes a file that was not there, so that it has perm and none of the bytes of
// what a killed process left under the name.
func createNew(fsys FS, name string, perm fs.FileMode) (File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := fsys.OpenFile(name, flags, perm)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := fsys.Remove(name); err != nil {
		return nil, err
	}
	return fsys.OpenFile(name, flags, perm)
}

// StartSync has the kernel begin to write what f holds, and does not wait for it: a Sync that comes soon has less left to do. It promises nothing, and
// Sync still tells of every error. With an FS that is not an [OS], and on other systems than Linux, it does nothing.
func StartSync(f File) {
	if o, ok := f.(*os.File); ok {
		startSync(o)
	}
}

// WriteAll writes data at f's offset; a short write is an error.
func WriteAll(f File, data []byte) error {
	n, err := f.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}

// MkdirAll makes the directory name and those above it, as far as they are missing, and makes them all
// durable. Directories that were there are synced too: a process killed between making and
// syncing one left it without that, and everything below it goes with it in a power cut.
func MkdirAll(fsys FS, name string, perm fs.FileMode) error {
	name = path.Clean(name)
	if name == "." {
		return nil
	}
	parent := path.Dir(name)
	if parent == "/" || parent == ".." || strings.HasPrefix(name, "../") || name == ".." {
		return &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrInvalid}
	}
	if err := MkdirAll(fsys, parent, perm); err != nil {
		return err
	}
	switch err := fsys.Mkdir(name, perm); {
	case errors.Is(err, fs.ErrExist):
		info, err := fsys.Lstat(name)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
	case err != nil:
		return err
	}
	return fsys.SyncDir(parent)
}

// ChangeTime is when the file or its metadata (name, times, mode) last changed. Unlike the modification
// time no client can set it. It is info's modification time where the FS knows no better.
func ChangeTime(info fs.FileInfo) time.Time {
	switch sys := info.Sys().(type) {
	case *syscall.Stat_t:
		return changeTime(sys)
	case interface{ ChangeTime() time.Time }:
		return sys.ChangeTime()
	}
	return info.ModTime()
}

// SameFile reports whether a and b, of the same FS, describe one file, be it under two names.
//
// On btrfs a power cut can leave a file that was renamed to another directory both names, until both directories are
// synced; measured on Linux 6.18, where ext4 and xfs left one (package disktest has the table). Recovery has to tell that
// from two files of equal bytes. To rename one of the names to the other does nothing, by POSIX: remove one.
func SameFile(a, b fs.FileInfo) bool {
	type simulated interface{ Inode() uint64 }
	x, ok := a.Sys().(simulated)
	y, both := b.Sys().(simulated)
	if ok && both {
		return x.Inode() == y.Inode()
	}
	return os.SameFile(a, b)
}
