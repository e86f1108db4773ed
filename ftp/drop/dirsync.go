package drop

import (
	"path"
	"sync"

	"github.com/ftpnode/ftpnode/internal/disk"
)

// dirSyncs syncs directories. Callers that wait for the same directory share one sync (a group commit): a SyncDir covers
// every name that was there when it began.
type dirSyncs struct {
	fs disk.FS

	mu   sync.Mutex
	dirs map[string]*dirSync
}

type dirSync struct {
	running chan struct{} // a lock: one SyncDir of a directory at a time, so that the next ones gather meanwhile
	next    *syncRound    // not begun
	users   int
}

// syncRound is one SyncDir and those who wait for it.
type syncRound struct {
	done chan struct{}
	err  error
}

// sync returns after a SyncDir of dir (on the volume) that began after the call.
func (g *dirSyncs) sync(dir string) error {
	g.mu.Lock()
	d := g.dirs[dir]
	if d == nil {
		d = &dirSync{running: make(chan struct{}, 1)}
		g.dirs[dir] = d
	}
	if round := d.next; round != nil {
		g.mu.Unlock()
		<-round.done
		return round.err
	}
	round := &syncRound{done: make(chan struct{})}
	d.next = round
	d.users++
	g.mu.Unlock()

	d.running <- struct{}{}
	g.mu.Lock()
	d.next = nil // who comes from here on may have a name that this SyncDir misses
	g.mu.Unlock()
	round.err = g.fs.SyncDir(dir)
	<-d.running
	close(round.done)

	g.mu.Lock()
	if d.users--; d.users == 0 {
		delete(g.dirs, dir)
	}
	g.mu.Unlock()
	return round.err
}

// directory is one below drop. It is a new one each time a directory of the name is made.
type directory struct {
	durable bool // its name in its parent is
	scan    uint64
}

// syncNames makes the names in directories (below drop) durable, and those of the directories themselves: a
// file's name is worth nothing in a directory that a power cut takes away, and a directory may have been made by
// another program, or by a process that was killed before it synced.
func (d *Drop) syncNames(dirs ...string) error {
	for _, dir := range dirs {
		if err := d.syncDirectories(dir); err != nil {
			return err
		}
		if err := d.syncs.sync(path.Join(dropDir, dir)); err != nil {
			return err
		}
	}
	return nil
}

// syncDirectories makes the name of dir, and of those above it, durable.
func (d *Drop) syncDirectories(dir string) error {
	for _, a := range ancestors(dir + "/") {
		if err := d.syncDirectory(a); err != nil {
			return err
		}
	}
	return nil
}

// syncDirectory makes the name of dir durable in its parent, unless it is known to be.
func (d *Drop) syncDirectory(dir string) error {
	if dir == "." {
		return nil // drop itself was made durable by Open
	}
	d.mu.Lock()
	known := d.noteDir(dir)
	durable := known.durable
	d.mu.Unlock()
	if durable {
		return nil
	}
	if err := d.syncs.sync(path.Join(dropDir, path.Dir(dir))); err != nil {
		return err
	}
	d.mu.Lock()
	known.durable = true
	d.mu.Unlock()
	return nil
}

// noteDir returns what is known of a directory that exists; d.mu is held.
func (d *Drop) noteDir(dir string) *directory {
	known := d.dirs[dir]
	if known == nil {
		known = &directory{scan: d.scans}
		d.dirs[dir] = known
		d.dirCount[top(dir)]++
	}
	return known
}

// forgetDir is told that a directory is gone; d.mu is held.
func (d *Drop) forgetDir(dir string) {
	if d.dirs[dir] == nil {
		return
	}
	delete(d.dirs, dir)
	if d.dirCount[top(dir)]--; d.dirCount[top(dir)] == 0 {
		delete(d.dirCount, top(dir))
	}
}
