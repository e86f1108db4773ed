//go:build unix

package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lock takes the directory for this process: by the file "lock", which older versions lock too, and by the directory itself, so that a second
// node is kept out even if somebody removes that file. The kernel gives both back when the process ends, however it does.
func lock(dir string) (unlock func(), err error) {
	file := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		f.Close()
		return nil, err
	}
	unlock = func() { f.Close(); d.Close() }
	err = flock(f)
	if err == nil {
		// Some file systems (NFS) lock only what is open for writing. There the file has to do.
		if e := flock(d); errors.Is(e, unix.EWOULDBLOCK) {
			err = e
		}
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func flock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return fmt.Errorf("%s is locked: another node runs on this volume (%w)", f.Name(), err)
	case err != nil:
		return fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return nil
}
