package drop

import (
	"path"
	"sync"

	"github.com/ftpnode/ftpnode/echostream/disk"
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

// syncNames makes the names in dir (below drop) durable, and those of dir itself and the directories above it: a file's name is
// worth nothing in a directory that a power cut takes away. They are synced each time, as nothing tells that they are
// durable still: another program may have removed one and made it again since, within one tick of the clock and
// with the same inode. Where nothing has changed a sync costs little, and those who come together share it.
func (d *Drop) syncNames(dir string) error {
	if err := d.syncDirectories(dir); err != nil {
		return err
	}
	return d.syncs.sync(path.Join(dropDir, dir))
}

// syncDirectories makes the name of dir, and of those above it, durable. That of drop itself was made so by Open.
func (d *Drop) syncDirectories(dir string) error {
	for _, a := range ancestors(dir + "/") {
		if err := d.syncs.sync(path.Join(dropDir, path.Dir(a))); err != nil {
			return err
		}
	}
	return nil
}

// noteDir counts a directory that exists; d.mu is held.
func (d *Drop) noteDir(dir string) {
	if _, ok := d.dirs[dir]; !ok {
		d.dirs[dir] = d.scans
		d.dirCount[top(dir)]++
	}
}

// forgetDir is told that a directory is gone; d.mu is held.
func (d *Drop) forgetDir(dir string) {
	if _, ok := d.dirs[dir]; !ok {
		return
	}
	delete(d.dirs, dir)
	if d.dirCount[top(dir)]--; d.dirCount[top(dir)] == 0 {
		delete(d.dirCount, top(dir))
	}
}
