package drop

import (
	"slices"
	"sync"
)

// nameLocks make a client's operation on a name one with its syncs: look, change, note. Lists and Stat do without. An Upload's own
// lock comes before these, those of uploads, found files, folders and users after them.
type nameLocks struct {
	folders sync.RWMutex

	mu    sync.Mutex
	names map[string]*nameLock
}

type nameLock struct {
	sync.Mutex
	users int // who hold it or wait for it
}

// lock locks names, and all folders against being renamed or removed, until unlock.
func (l *nameLocks) lock(names ...string) (unlock func()) {
	l.folders.RLock()
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		l.use(name, 1).Lock()
	}
	return func() {
		for _, name := range names {
			l.use(name, -1).Unlock()
		}
		l.folders.RUnlock()
	}
}

func (l *nameLocks) use(name string, n int) *nameLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	lock := l.names[name]
	if lock == nil {
		lock = &nameLock{}
		l.names[name] = lock
	}
	if lock.users += n; lock.users == 0 {
		delete(l.names, name)
	}
	return lock
}

// lockAll locks all names, for a change of a folder, until unlock.
func (l *nameLocks) lockAll() (unlock func()) {
	l.folders.Lock()
	return l.folders.Unlock
}
