package drop

import (
	"slices"
	"strings"
	"sync"
)

// UserDir is one user's directory. It is safe for concurrent use.
type UserDir struct {
	d    *Drop
	name string
	dir  string // below drop
}

// rel is the name in u's directory of what has the path p below drop.
func (u *UserDir) rel(p string) string {
	return strings.TrimPrefix(p[len(u.dir):], "/")
}

// users are the users and their directories.
type users struct {
	mu   sync.Mutex
	list []*UserDir
}

// add notes whose dir is, once.
func (a *users) add(d *Drop, name, dir string) *UserDir {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, u := range a.list {
		if u.name == name && u.dir == dir {
			return u
		}
	}
	u := &UserDir{d: d, name: name, dir: dir}
	a.list = append(a.list, u)
	return u
}

func (a *users) all() []*UserDir {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list)
}

// below reports whether the directory of a user is p or stands in it.
func (a *users) below(p string) bool {
	return slices.ContainsFunc(a.all(), func(u *UserDir) bool { return below(u.dir, p) })
}

// byPath returns the user in whose directory p stands, or nil.
func (a *users) byPath(p string) (of *UserDir) {
	for _, u := range a.all() {
		// What stands in the very place of the directory is not in it.
		if strings.HasPrefix(p, u.dir+"/") && (of == nil || len(u.dir) > len(of.dir)) {
			of = u
		}
	}
	return of
}

// owner returns whose file p is, and its name in that user's directory. A directory that is
// no user's (any more) counts as that of the user of its name: what was acknowledged is delivered, unless that looks
// temporary.
func (a *users) owner(p string) (user, name string) {
	if u := a.byPath(p); u != nil {
		return u.name, u.rel(p)
	}
	if user, name, ok := strings.Cut(p, "/"); ok {
		return user, name
	}
	return "", p
}

// temporary reports whether the name of the file at p is a temporary one.
// Only the directory of a user whom [Drop.User] has told of does not count. Else all of the path does: a directory that looks
// temporary is one in which another program gathers what it renames when it is complete. That of a user who is not
// configured any more looks the same, and the two cannot be distinguished: if it has such a name, what is left in it waits,
// until it is renamed or the user is back.
func (d *Drop) temporary(p string) bool {
	name := p
	if u := d.users.byPath(p); u != nil {
		name = u.rel(p)
	}
	return ignored(d.opts.Ignore, name)
}
