package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// renameNew renames from one directory into another, if the new name is free. After an error nothing was done, for all that is
// known: the file system may not know how (EINVAL).
func renameNew(from *os.File, oldname string, to *os.File, newname string) error {
	a, err := from.SyscallConn()
	if err != nil {
		return err
	}
	b, err := to.SyscallConn()
	if err != nil {
		return err
	}
	renamed := err
	err = a.Control(func(oldfd uintptr) {
		err := b.Control(func(newfd uintptr) {
			renamed = unix.Renameat2(int(oldfd), oldname, int(newfd), newname, unix.RENAME_NOREPLACE)
		})
		if err != nil {
			renamed = err
		}
	})
	if err != nil {
		return err
	}
	return renamed
}

var openat2 = unix.Openat2 // a test has it fail

// openBeneath opens name in dir, through no symlink, in one system call. It is errors.ErrUnsupported where the system does not know how
// (Linux before 5.6), forbids it (Docker before 20.10: EPERM) or cannot tell (EAGAIN): os.Root can.
func openBeneath(dir *os.File, name string, flag int, perm fs.FileMode) (*os.File, error) {
	conn, err := dir.SyscallConn()
	if err != nil {
		return nil, errors.ErrUnsupported
	}
	how := unix.OpenHow{
		Flags:   uint64(flag) | unix.O_CLOEXEC | unix.O_LARGEFILE,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flag&os.O_CREATE != 0 {
		how.Mode = uint64(perm.Perm())
	}
	var fd int
	closed := conn.Control(func(dirfd uintptr) {
		for {
			if fd, err = openat2(int(dirfd), name, &how); err != unix.EINTR {
				return
			}
		}
	})
	switch {
	case closed != nil, err == unix.ENOSYS, err == unix.EPERM, err == unix.EAGAIN:
		return nil, errors.ErrUnsupported
	case err != nil:
		return nil, &fs.PathError{Op: "openat", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// lstatBeneath describes name in dir, and follows no symlink. Its errors are those of openBeneath.
func lstatBeneath(dir *os.File, name string) (fs.FileInfo, error) {
	f, err := openBeneath(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// startSync waits for nothing: the kernel keeps errors for the next fsync, while a sync_file_range that waits would take them.
func startSync(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_ = unix.SyncFileRange(int(fd), 0, 0, unix.SYNC_FILE_RANGE_WRITE) // a hint: not every file system and sandbox knows how
	})
}

func freeBytes(fd int) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(fd, &st); err != nil {
		return 0, err
	}
	// Blocks are counted in fragments; a file system that knows of none leaves Frsize 0.
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	return st.Bavail * uint64(unit), nil
}

func changeTime(st *syscall.Stat_t) time.Time {
	return time.Unix(int64(st.Ctim.Sec), int64(st.Ctim.Nsec))
}
