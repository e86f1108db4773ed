package drop

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// newTemp is where a new upload stands; d.mu is held. No other Drop that was ever opened on the volume has used the name: one may
// still be in a Commit when the next is opened, and then finds that its file is gone, and not another's in its place.
func (d *Drop) newTemp() string {
	d.uploads++
	return path.Join(openDir, fmt.Sprintf("%s-%d", d.id, d.uploads))
}

// kept is where the interrupted upload to p stands.
func kept(p string) string { return path.Join(keptDir, p) }

// clearOpen removes what uploads under way left when the process ended. A killed process's files could be
// trusted, those from before a power cut cannot, and nothing tells which it was.
func (d *Drop) clearOpen() error {
	entries, err := d.fs.ReadDir(openDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.fs.Remove(path.Join(openDir, e.Name())); err != nil {
			return err
		}
	}
	if len(entries) > 0 {
		d.log.Info("removed unfinished uploads that the last run left", "files", len(entries))
	}
	return nil
}

// partial describes the upload to p that is under way or interrupted; d.mu is held.
func (d *Drop) partial(p string) (fs.FileInfo, bool, error) {
	if u := d.open[p]; u != nil {
		return u.info(), true, nil
	}
	fi, err := d.keptAt(p)
	return fi, fi != nil, err
}

// keptAt describes the interrupted upload to p; nil: there is none. d.mu is held.
func (d *Drop) keptAt(p string) (fs.FileInfo, error) {
	fi, err := d.lstat(kept(p))
	if errors.Is(err, syscall.ENOTDIR) || fi == nil || !fi.Mode().IsRegular() {
		if errors.Is(err, syscall.ENOTDIR) {
			err = nil
		}
		return nil, err
	}
	return fi, nil
}

// removeKept removes the interrupted upload to p, if there is one, and tells whether there was; d.mu is held.
// The removal is durable when the directory is synced.
func (d *Drop) removeKept(p string) (bool, error) {
	fi, err := d.keptAt(p)
	if fi == nil || err != nil {
		return false, err
	}
	if err := d.fs.Remove(kept(p)); err != nil {
		return false, err
	}
	d.ledger.add(inPartial, p, -1, -fi.Size())
	return true, nil
}

// voidKept removes the interrupted upload to p durably, if there is one.
func (d *Drop) voidKept(p string) error {
	d.mu.Lock()
	removed, err := d.removeKept(p)
	d.mu.Unlock()
	if err != nil || !removed {
		return err
	}
	return d.syncs.sync(path.Dir(kept(p)))
}

// keep renames a synced upload to where it can be resumed; d.mu is held. The name is not synced: if
// it is lost, the client begins anew.
func (d *Drop) keep(u *Upload) error {
	for _, dir := range ancestors(u.path) {
		if err := d.fs.Mkdir(kept(dir), dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	// What it replaces was removed when the upload began, or is of an upload that this one superseded.
	if _, err := d.removeKept(u.path); err != nil {
		return err
	}
	return d.fs.Rename(u.temp, kept(u.path))
}

// sweep removes interrupted uploads that nobody has resumed in time, and directories of them that are empty. At the
// start it also counts what it leaves.
func (d *Drop) sweep(count bool) { d.sweepDir(".", count) }

// sweepDir does that for one directory below kept, and tells whether it is empty.
func (d *Drop) sweepDir(dir string, count bool) bool {
	entries, err := d.fs.ReadDir(kept(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	d.logUnreadable(kept(dir), err)
	if err != nil {
		return false
	}
	left := len(entries)
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if e.IsDir() {
			if d.sweepDir(p, count) {
				// The lock keeps it from going while a file is to come; if one has come, this fails.
				d.mu.Lock()
				if d.fs.Remove(kept(p)) == nil {
					left--
				}
				d.mu.Unlock()
			}
			continue
		}
		d.mu.Lock()
		fi, err := d.keptAt(p)
		if fi != nil && count {
			d.ledger.add(inPartial, p, 1, fi.Size())
		}
		expired := fi != nil && time.Since(disk.ChangeTime(fi)) > d.opts.PartialExpiry
		if expired {
			expired, err = d.removeKept(p)
		}
		user, name := d.owner(nil, p)
		d.mu.Unlock()
		log := d.log.With("user", user, "name", name)
		switch {
		case err != nil:
			log.Warn("cannot remove an interrupted upload", "reason", named(name, err))
		case expired:
			left--
			log.Info("removed an interrupted upload that was not resumed", "bytes", fi.Size(),
				slog.Duration("after", d.opts.PartialExpiry))
		}
	}
	return left == 0
}
