package drop

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// watcher takes what other programs put into the drop directory, at once as far as the system reports it, and at each
// rescan. Uploads need neither.
type watcher struct {
	d    *Drop
	wake chan struct{}
	// trouble and unreadable are of Open, and then of Run's goroutine.
	trouble    retry.Trouble
	unreadable retry.Trouble
}

func newWatcher(d *Drop) *watcher {
	return &watcher{d: d, wake: make(chan struct{}, 1)}
}

// wakeUp has all that is due looked at again: names that were temporary ones may not be any more.
func (w *watcher) wakeUp() {
	w.d.found.scheduleNow()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) run(ctx context.Context) {
	events := w.newEvents()
	defer events.close()
	events.follow(".")
	rescan := time.NewTicker(w.d.opts.Rescan)
	defer rescan.Stop()
	for {
		var due <-chan time.Time
		if pause, ok := w.d.found.pause(); ok {
			due = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case e := <-events.events:
			events.handle(e)
		case err := <-events.errors:
			// Events were lost (an overflow): look for ourselves.
			w.d.log.Debug("watching the drop directory", "error", err)
			w.rescan()
		case <-rescan.C:
			w.d.tryRepeats()
			w.d.sweep()
			w.rescan()
			w.remakeTops()
			w.d.expireFolders()
			w.d.tellHeld()
		case <-w.wake:
		case <-due:
			_ = w.takeQuiet(ctx) // which logs what it cannot do
		}
	}
}

// rescan compares what is known of the drop directory with what is there.
func (w *watcher) rescan() {
	w.d.found.beginScan()
	w.d.tree.beginScan()
	if w.scanDir(".") {
		w.d.found.endScan() // else what was not seen may still be there
		w.d.tree.endScan()
		w.unreadable.Over(time.Now(), "all directories can be read again").To(w.d.log)
	}
}

// scanDir looks at all that is below dir, and reports whether it could.
func (w *watcher) scanDir(dir string) bool {
	entries, err := w.d.fs.ReadDir(path.Join(dropDir, dir))
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		return true
	}
	if err != nil {
		w.unreadable.Hit(time.Now(), slog.LevelWarn, "cannot read a directory, will try again", named(path.Join(dropDir, dir), err)).To(w.d.log)
	}
	complete := err == nil
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if e.IsDir() {
			w.d.tree.add(p)
			complete = w.scanDir(p) && complete
		} else {
			w.d.found.refresh(p)
		}
	}
	return complete
}

// refresh compares what is known of p with what stands there, and reports whether that is a folder.
func (w *watcher) refresh(p string) bool {
	fi := w.d.found.refresh(p)
	isDir := fi != nil && fi.IsDir()
	if isDir {
		w.d.tree.add(p)
	}
	return isDir
}

// remakeTops makes users' directories again that another program has removed.
func (w *watcher) remakeTops() {
	d := w.d
	for _, u := range d.users.all() {
		for _, dir := range ancestors(u.dir + "/") {
			p := path.Join(dropDir, dir)
			if _, err := d.fs.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := d.fs.Mkdir(p, dirPerm); err == nil {
				d.tree.addAll(dir)
				d.log.Warn("made the directory of a user again, which was gone", "user", u.name, "directory", dir)
			}
		}
	}
}

// events receives what happens in the directories that it follows; nothing if they cannot be watched.
type events struct {
	d       *Drop
	watcher *fsnotify.Watcher
	events  <-chan fsnotify.Event
	errors  <-chan error
	warned  bool
}

func (w *watcher) newEvents() *events {
	d := w.d
	e := &events{d: d}
	if d.opts.WatchDir == "" {
		return e
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		e.warn(err)
		return e
	}
	e.watcher, e.events, e.errors = notify, notify.Events, notify.Errors
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
			"error", err, "rescan", e.d.opts.Rescan)
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
		e.d.watcher.refresh(p)
		if entry.IsDir() {
			e.follow(p)
		}
	}
}

func (e *events) handle(event fsnotify.Event) {
	rel, err := filepath.Rel(e.d.opts.WatchDir, event.Name)
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return
	}
	p := filepath.ToSlash(rel)
	if e.d.watcher.refresh(p) && event.Has(fsnotify.Create) {
		e.follow(p)
	}
}
