package drop

import (
	"path"
	"time"
)

// taken is a file that the Taker has and that is not delivered yet: clients still see it.
type taken struct {
	id    string
	name  string // below the user's directory
	path  string // below drop; "" while the user is not known
	size  int64
	mtime time.Time
	memo  *memo
}

// memo is what sessions remember of a file. It outlives the file.
type memo struct {
	size  int64
	mtime time.Time
	gone  time.Time // when it was delivered; zero: not yet
}

const (
	memoAge = time.Minute // how long a session remembers what is gone
	maxMemo = 1000        // files that a session remembers
)

// takenFiles are the files that the Taker has, guarded by Drop.mu.
type takenFiles struct {
	byID map[string]*taken
	// byDir holds them by directory and name; files of the same name in the order in which they were taken.
	byDir map[string]map[string][]*taken
	// strangers are those of users that are not known (yet), by user; some may be gone.
	strangers map[string][]*taken
}

func newTakenFiles() takenFiles {
	return takenFiles{
		byID:      map[string]*taken{},
		byDir:     map[string]map[string][]*taken{},
		strangers: map[string][]*taken{},
	}
}

func (t *takenFiles) add(f *taken) {
	t.byID[f.id] = f
	if f.path == "" {
		return
	}
	dir, name := path.Dir(f.path), path.Base(f.path)
	if t.byDir[dir] == nil {
		t.byDir[dir] = map[string][]*taken{}
	}
	t.byDir[dir][name] = append(t.byDir[dir][name], f)
}

func (t *takenFiles) remove(f *taken) {
	delete(t.byID, f.id)
	if f.path == "" {
		return
	}
	dir, name := path.Dir(f.path), path.Base(f.path)
	same := t.byDir[dir][name]
	for i := range same {
		if same[i] == f {
			same = append(same[:i:i], same[i+1:]...)
			break
		}
	}
	if len(same) > 0 {
		t.byDir[dir][name] = same
		return
	}
	delete(t.byDir[dir], name)
	if len(t.byDir[dir]) == 0 {
		delete(t.byDir, dir)
	}
}

// get returns the newest taken file at p, or nil.
func (t *takenFiles) get(p string) *taken {
	same := t.byDir[path.Dir(p)][path.Base(p)]
	if len(same) == 0 {
		return nil
	}
	return same[len(same)-1]
}

// Gone tells that the Taker's file id has been delivered or set aside: it is no longer shown.
// An id that is not known is no error.
func (d *Drop) Gone(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.taken.byID[id]
	if f == nil {
		if d.taking {
			d.early[id] = true // delivered before Take could return
		}
		return
	}
	d.taken.remove(f)
	f.memo.gone = time.Now()
	d.ledger.add(inTaken, f.path, -1, -f.size)
}
