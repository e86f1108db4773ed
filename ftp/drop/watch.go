package drop

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watch looks at what other programs do below drop, until ctx ends: at once as far as the system tells of it, and at each
// rescan. FTP uploads need neither.
func (d *Drop) watch(ctx context.Context) {
	events := d.newEvents()
	defer events.close()
	events.follow(".")
	rescan := time.NewTicker(d.opts.Rescan)
	defer rescan.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events.events:
			events.see(e)
			continue
		case err := <-events.errors:
			// Events were lost (an overflow): look for ourselves.
			d.log.Debug("watching the drop directory", "reason", err)
		case <-rescan.C:
			d.sweep(false)
		}
		d.rescan()
		d.mu.Lock()
		d.remakeTops()
		d.mu.Unlock()
	}
}

// rescan compares what is known of the drop directory with what is there.
func (d *Drop) rescan() {
	d.mu.Lock()
	d.scans++
	scan := d.scans
	d.mu.Unlock()
	if !d.scanDir(".", scan) {
		return // what was not seen may still be there
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, e := range d.files {
		if e.scan < scan {
			d.look(p)
		}
	}
	for dir, seen := range d.dirs {
		if seen >= scan {
			continue
		}
		if fi, err := d.lstat(path.Join(dropDir, dir)); err == nil && (fi == nil || !fi.IsDir()) {
			d.forgetDir(dir)
		}
	}
}

// scanDir looks at all that is below dir, without the lock where all is as it is known, and tells whether it could.
func (d *Drop) scanDir(dir string, scan uint64) bool {
	entries, err := d.fs.ReadDir(path.Join(dropDir, dir))
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		return true
	}
	d.logUnreadable(path.Join(dropDir, dir), err)
	if err != nil {
		return false
	}
	complete := true
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if e.IsDir() {
			d.mu.Lock()
			d.noteDir(p)
			d.dirs[p] = scan
			d.mu.Unlock()
			complete = d.scanDir(p, scan) && complete
			continue
		}
		if !e.Type().IsRegular() {
			continue
		}
		fi, err := e.Info()
		d.mu.Lock()
		known := d.files[p]
		if known == nil || err != nil || known.state == doomed || !known.same(fi) {
			d.look(p)
			known = d.files[p]
		}
		if known != nil {
			known.scan = scan
		}
		d.mu.Unlock()
	}
	return complete
}

// logUnreadable logs that a directory of the volume cannot be read, once until it can.
func (d *Drop) logUnreadable(dir string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.unreadable, dir)
		return
	}
	if !d.unreadable[dir] {
		d.unreadable[dir] = true
		d.log.Warn("cannot read a directory, will try again", "reason", named(dir, err))
	}
}

// remakeTops makes users' directories again that another program has removed; d.mu is held. They are not
// synced here: a commit does that.
func (d *Drop) remakeTops() {
	for _, u := range d.users {
		for _, dir := range ancestors(u.dir + "/") {
			p := path.Join(dropDir, dir)
			if fi, err := d.lstat(p); fi != nil || err != nil {
				continue
			}
			if err := d.fs.Mkdir(p, dirPerm); err == nil {
				d.noteDir(dir)
				d.log.Warn("made the directory of a user again, which was gone", "user", u.name, "directory", dir)
			}
		}
	}
}

// events tells what happens in the directories that it follows. Without a watcher, it never does.
type events struct {
	d       *Drop
	watcher *fsnotify.Watcher
	events  <-chan fsnotify.Event
	errors  <-chan error
	warned  bool
}

func (d *Drop) newEvents() *events {
	e := &events{d: d}
	if d.opts.WatchDir == "" {
		return e
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		e.warn(err)
		return e
	}
	e.watcher, e.events, e.errors = w, w.Events, w.Errors
	return e
}

func (e *events) close() {
	if e.watcher != nil {
		e.watcher.Close()
	}
}

// warn says once that not all is watched: the system allows a user only so many watches.
func (e *events) warn(err error) {
	if !e.warned {
		e.d.log.Warn("cannot watch all of the drop directory; files of other programs are found by the rescan only",
			"reason", err, "rescan", e.d.opts.Rescan)
	}
	e.warned = true
}

// follow watches dir and the directories below it, and looks at what is in them already: it may have come before the watch.
func (e *events) follow(dir string) {
	if e.watcher == nil {
		return
	}
	if err := e.watcher.Add(filepath.Join(e.d.opts.WatchDir, filepath.FromSlash(dir))); err != nil {
		if !errors.Is(err, fs.ErrNotExist) || dir == "." {
			e.warn(err)
		}
		return
	}
	entries, err := e.d.fs.ReadDir(path.Join(dropDir, dir))
	if err != nil {
		return // the rescan will say
	}
	for _, entry := range entries {
		p := path.Join(dir, entry.Name())
		e.look(p)
		if entry.IsDir() {
			e.follow(p)
		}
	}
}

func (e *events) see(event fsnotify.Event) {
	rel, err := filepath.Rel(e.d.opts.WatchDir, event.Name)
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return
	}
	p := filepath.ToSlash(rel)
	if fi := e.look(p); fi != nil && fi.IsDir() && event.Has(fsnotify.Create) {
		e.follow(p)
	}
}

func (e *events) look(p string) fs.FileInfo {
	e.d.mu.Lock()
	defer e.d.mu.Unlock()
	fi, _ := e.d.look(p)
	return fi
}
