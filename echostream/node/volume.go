package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// What the node keeps at the top of the volume, beside outbox/, failed/ and what the bridge keeps.
const (
	lockFile       = "lock"       // locked while a node runs
	formatFile     = "format"     // the version of all that is there
	definitionFile = "definition" // the last good definition of the node, sealed
	healthFile     = "health"     // written and removed to see whether that is possible
)

// openVolume opens the directory with all that the node keeps, and locks it: two nodes on one volume would deliver each
// other's entries. release gives it back.
func openVolume(dir string, format int) (volume *disk.OS, release func(), err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, nil, withOwner(err, dir)
	}
	volume, err = disk.Open(dir)
	if err != nil {
		return nil, nil, withOwner(err, dir)
	}
	unlock, err := lock(dir)
	if err != nil {
		volume.Close()
		return nil, nil, withOwner(err, dir)
	}
	if err := checkFormat(volume, format); err != nil {
		unlock()
		volume.Close()
		return nil, nil, withOwner(err, dir)
	}
	return volume, func() { unlock(); volume.Close() }, nil
}

// withOwner says whose the directory must be, if err is that this process may not write there.
func withOwner(err error, dir string) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w; the node runs as user %d of group %d: chown -R %[2]d:%[3]d the directory that is mounted at %s", err, os.Getuid(), os.Getgid(), dir)
}

// checkFormat refuses a volume that a program of a later format has written, and marks a new one. One of an earlier format stays as it is until
// the bridge has taken it over: see [Node.TakenOver]. It writes nothing else: on a full disk
// the node has to start, as delivering makes room.
func checkFormat(volume disk.FS, format int) error {
	found, err := readFormat(volume, format)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return markNew(volume, format)
	case err != nil:
		return err
	case found > format:
		return fmt.Errorf("it was written by a newer version: its format is %d, expected at most %d; run the newer image, or use another volume", found, format)
	}
	return nil
}

// markNew marks a volume without a format. One on which something stands was written before there were formats, or has lost it: unless there
// is only one format.
func markNew(volume disk.FS, format int) error {
	entries, err := volume.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "lost+found" && format > 1 {
			return nil
		}
	}
	return writeFormat(volume, format)
}

// readFormat reads the volume's format.
func readFormat(volume disk.FS, format int) (int, error) {
	text, err := disk.ReadFile(volume, formatFile, 100)
	if err != nil {
		return 0, err
	}
	found, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || found < 1 {
		return 0, fmt.Errorf("the file %q holds %q, expected the number of a format up to %d", formatFile, text, format)
	}
	return found, nil
}

func writeFormat(volume disk.FS, format int) error {
	return disk.WriteFile(volume, formatFile, []byte(strconv.Itoa(format)+"\n"), 0o640)
}
