//go:build unix

package status

import (
	"fmt"
	"os"
	"syscall"
)

// ownedAlone is an error unless dir is a directory that only this user can enter.
func ownedAlone(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || fi.Mode().Perm() != 0o700 || !ok || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not this user's own directory of mode 0700", dir)
	}
	return nil
}
