package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// What the node keeps at the top of the volume, beside partial/, drop/, outbox/, failed/ and what the FTP server keeps: the TLS certificate, and known-clients.
const (
	lockFile       = "lock"       // locked while a node runs
	formatFile     = "format"     // the version of all that is there
	definitionFile = "definition" // the last good definition of the node, sealed
	statusFile     = "status"     // for the health check: what is wrong with the cloud, or nothing
)

// format is the version of what the node keeps. An older one is taken over; a newer one is refused and left as it is.
//
//	1: finished files wait in drop/, and go from there into the outbox
//	2: finished files are in the outbox. A program of format 1 would send what is held, and drop what only the outbox knows
const format = 2

// openVolume opens the directory with all that the node keeps, and locks it: two nodes on one volume would deliver each
// other's files. It tries until it succeeds or ctx ends, and says why it has to wait. release gives it back.
func openVolume(ctx context.Context, dir string, log *slog.Logger, p pace) (volume *disk.OS, release func(), err error) {
	var t retry.Trouble
	for failures := 1; ; failures++ {
		volume, release, err := tryVolume(dir)
		if err == nil {
			t.Over(time.Now(), "the data volume can be used now").To(log)
			return volume, release, nil
		}
		t.Hit(time.Now(), slog.LevelError, "the data volume cannot be used; the node waits for it", err, "directory", dir).To(log)
		if !retry.Sleep(ctx, retry.Backoff(failures, p.firstRetry, p.lastRetry)) {
			return nil, nil, ctx.Err()
		}
	}
}

func tryVolume(dir string) (volume *disk.OS, release func(), err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, nil, err
	}
	volume, err = disk.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := lock(dir)
	if err != nil {
		volume.Close()
		return nil, nil, err
	}
	if err := checkFormat(volume); err != nil {
		unlock()
		volume.Close()
		return nil, nil, err
	}
	return volume, func() { unlock(); volume.Close() }, nil
}

// checkFormat refuses a volume that a newer node has written, and marks a new one. An older one stays as it is until it has been
// taken over: see writeFormat. It writes nothing else: on a full disk
// the node has to start, as delivering makes room.
func checkFormat(volume disk.FS) error {
	found, err := readFormat(volume)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return markNew(volume)
	case err != nil:
		return err
	case found > format:
		return fmt.Errorf("it was written by a newer ftpnode: its format is %d, expected at most %d; run the newer image, or use another volume", found, format)
	}
	return nil
}

// markNew marks a volume without a format. One on which something waits was written before there were formats, or has lost it.
func markNew(volume disk.FS) error {
	for _, dir := range []string{"drop", "outbox"} {
		if _, err := volume.Lstat(dir); err == nil {
			return nil
		}
	}
	return writeFormat(volume)
}

// readFormat reads the volume's format.
func readFormat(volume disk.FS) (int, error) {
	text, err := readFile(volume, formatFile, 100)
	if err != nil {
		return 0, err
	}
	found, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || found < 1 {
		return 0, fmt.Errorf("the file %q holds %q, expected the number of a format up to %d", formatFile, text, format)
	}
	return found, nil
}

// writeFormat gives the volume the format of now, if it has another: all that an older one left has been taken over.
func writeFormat(volume disk.FS) error {
	if found, err := readFormat(volume); err == nil && found == format {
		return nil
	}
	return disk.WriteFile(volume, formatFile, []byte(strconv.Itoa(format)+"\n"), 0o640)
}

// readFile reads a small file whole.
func readFile(volume disk.FS, name string, most int64) (string, error) {
	f, err := volume.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most))
	return string(b), err
}
