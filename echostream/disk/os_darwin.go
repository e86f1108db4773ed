package disk

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// renameNew does nothing: there is no such call.
func renameNew(*os.File, string, *os.File, string) error { return errors.ErrUnsupported }

// openBeneath and lstatBeneath do nothing: there is no such call.
func openBeneath(*os.File, string, int, fs.FileMode) (*os.File, error) {
	return nil, errors.ErrUnsupported
}

func lstatBeneath(*os.File, string) (fs.FileInfo, error) { return nil, errors.ErrUnsupported }

// startSync does nothing: there is no such call.
func startSync(*os.File) {}

func freeBytes(fd int) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(fd, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

func changeTime(st *syscall.Stat_t) time.Time {
	return time.Unix(st.Ctimespec.Sec, st.Ctimespec.Nsec)
}
