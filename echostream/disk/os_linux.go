package disk

import (
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
