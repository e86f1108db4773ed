package drop

import (
	"cmp"
	"container/heap"
	"errors"
	"io/fs"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// entry is a finished file in the drop directory. All of it is guarded by Drop.mu.
type entry struct {
	path     string // below drop
	user     *UserDir
	remote   netip.Addr
	received time.Time
	memo     *memo // what sessions remember of it
	scan     uint64

	// What the file looked like: when it looks different, another program has changed it.
	size         int64
	mtime, ctime time.Time

	state state
	// found: another program put it there (or it stood there at the start), so that nobody has synced it.
	found bool
	// atStart: it stood there at the start; such files go before all others.
	atStart bool
	// replaced: it took the place of another finished file.
	replaced bool
	// look again when it is no longer busy: something happened meanwhile.
	again bool

	due   time.Time
	seq   uint64 // orders what is due at the same time
	place int    // in the queue; -1: not in it
}

// state says who may do what with an entry.
type state int

const (
	ready    state = iota // clients may change it, and it may be claimed
	syncing               // its name is being made durable
	claiming              // the Taker has it in hands
	doomed                // it should not be there and could not be removed: never seen, never claimed
)

func (e *entry) busy() bool { return e.state == syncing || e.state == claiming }

// queue orders the entries by when they are due: a heap.
type queue []*entry

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	switch {
	case a.atStart != b.atStart:
		return a.atStart
	case !a.atStart && !a.due.Equal(b.due):
		return a.due.Before(b.due)
	}
	return a.seq < b.seq
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.place = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.place = -1
	return e
}

// The methods below expect d.mu to be held.

// enqueue has e claimed at due, behind all that is due by then. An entry that is in the queue already moves.
func (d *Drop) enqueue(e *entry, due time.Time) {
	d.seq++
	e.due, e.seq, e.atStart = due, d.seq, false
	d.requeue(e)
}

// requeue puts e where its due, seq and atStart say.
func (d *Drop) requeue(e *entry) {
	if e.place >= 0 {
		heap.Fix(&d.queue, e.place)
	} else {
		heap.Push(&d.queue, e)
	}
	d.wakeUp()
}

func (d *Drop) dequeue(e *entry) {
	if e.place >= 0 {
		heap.Remove(&d.queue, e.place)
		d.wakeUp()
	}
}

// insert puts e into the index.
func (d *Drop) insert(e *entry) {
	e.place, e.scan = -1, d.scans
	if e.memo == nil {
		e.memo = &memo{}
	}
	e.memo.size, e.memo.mtime = e.size, e.mtime
	d.files[e.path] = e
}

// forget takes e out of the index, as its file is gone or another's.
func (d *Drop) forget(e *entry) {
	d.dequeue(e)
	delete(d.files, e.path)
	d.ledger.add(inDrop, e.path, -1, -e.size)
	d.changed.Broadcast()
}

// looksLike notes what e's file looks like now.
func (d *Drop) looksLike(e *entry, fi fs.FileInfo) {
	d.ledger.add(inDrop, "", 0, fi.Size()-e.size)
	e.size, e.mtime, e.ctime = fi.Size(), fi.ModTime(), disk.ChangeTime(fi)
	e.memo.size, e.memo.mtime = e.size, e.mtime
}

func (e *entry) same(fi fs.FileInfo) bool {
	return e.size == fi.Size() && e.mtime.Equal(fi.ModTime()) && e.ctime.Equal(disk.ChangeTime(fi))
}

// is tells whether fi describes the file that an upload has made as e, and not another's in its place: no two uploads
// are given the same time. Unlike the change time it does not move with a rename.
func (e *entry) is(fi fs.FileInfo) bool {
	return fi.Mode().IsRegular() && e.size == fi.Size() && e.mtime.Equal(fi.ModTime())
}

// look compares the index with what stands at p, and takes what it finds for the doing of another program.
// Clients' operations keep the index right themselves, so that nothing is to be seen after them.
func (d *Drop) look(p string) (fs.FileInfo, error) {
	e := d.files[p]
	if e != nil && e.busy() {
		e.again = true
		return nil, nil
	}
	fi, err := d.fs.Lstat(path.Join(dropDir, p))
	if err == nil && e != nil && e.state == doomed && !e.is(fi) {
		d.forget(e) // another's stands there by now
		e = nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if e != nil {
			d.forget(e)
		}
	case err != nil:
	case fi.IsDir():
		d.noteDir(p)
		if e != nil {
			d.forget(e)
		}
	case !fi.Mode().IsRegular(): // a symlink, a pipe, ...: never followed, never sent
		if e != nil {
			d.forget(e)
		}
	case e == nil:
		e = &entry{path: p, found: true, received: time.Now()}
		d.insert(e)
		d.ledger.add(inDrop, p, 1, 0)
		d.looksLike(e, fi)
		d.await(e)
	case e.state == doomed:
		d.remove(e)
	case !e.same(fi):
		d.looksLike(e, fi)
		e.found, e.received = true, time.Now()
		d.await(e)
	}
	return fi, err
}

// await has an entry of another program claimed once it has been quiet.
func (d *Drop) await(e *entry) {
	if d.ignored(e.user, e.path) {
		d.dequeue(e)
		return
	}
	d.enqueue(e, time.Now().Add(d.opts.Quiet))
}

// remove removes e's file, as it should not be there.
func (d *Drop) remove(e *entry) error {
	err := d.fs.Remove(path.Join(dropDir, e.path))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		d.forget(e)
		return nil
	}
	return err
}

// free is told that e is no longer busy.
func (d *Drop) free(e *entry) {
	if e.state == doomed {
		return
	}
	e.state = ready
	if e.again {
		e.again = false
		d.look(e.path)
	}
	d.changed.Broadcast()
	d.wakeUp()
}

// wakeUp has the claiming loop look at the queue again.
func (d *Drop) wakeUp() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// ignored tells whether the name of the file at p, which u has put there (nil: another program), is a temporary one.
// Only the directory of a user whom [Drop.User] has told of does not count. Else all of the path does: a directory that looks
// temporary is one in which another program gathers what it renames when it is complete. That of a user who is not
// configured any more looks the same, and nothing tells the two apart: if it has such a name, what is left in it waits,
// until it is renamed or the user is back.
func (d *Drop) ignored(u *UserDir, p string) bool {
	name := p
	if u = d.userOf(u, p); u != nil {
		name = u.rel(p)
	}
	return ignored(d.opts.Ignore, name)
}

// setAside lists the ignored files below dir that are not when dir is a user's: its own name was the reason.
func (d *Drop) setAside(dir string) []*entry {
	if !ignored(d.opts.Ignore, dir) {
		return nil // quickly, as there may be many files and users
	}
	var files []*entry
	for p, e := range d.files {
		rest, ok := strings.CutPrefix(p, dir+"/")
		if ok && e.user == nil && e.state == ready && d.ignored(nil, p) && !ignored(d.opts.Ignore, rest) {
			files = append(files, e)
		}
	}
	return files
}

// queueAtStart orders what stood in the drop directory at the start: by when it was finished, as far as that can
// be told. The change time is when it was renamed to its name; files finished within one tick of the kernel's
// clock have the same, and are told apart by the strictly rising modification times that Commit gave them.
// files are those that are not queued so yet.
func (d *Drop) queueAtStart(files []*entry) {
	for _, e := range d.queue {
		if e.atStart {
			files = append(files, e)
		}
	}
	slices.SortFunc(files, func(a, b *entry) int {
		return cmp.Or(a.ctime.Compare(b.ctime), a.mtime.Compare(b.mtime), cmp.Compare(a.path, b.path))
	})
	latest := time.Now().Add(d.opts.Quiet) // a client may have set a time to come
	for _, e := range files {
		e.received = e.ctime
		due := slices.MaxFunc([]time.Time{e.ctime, e.mtime}, time.Time.Compare).Add(d.opts.Quiet)
		d.enqueue(e, slices.MinFunc([]time.Time{due, latest}, time.Time.Compare))
		e.atStart = true
		d.requeue(e)
	}
}
