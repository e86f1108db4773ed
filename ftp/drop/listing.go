package drop

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// info is a file that clients see and that may stand nowhere under this name.
type info struct {
	name  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.mtime }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }

const readOnly fs.FileMode = 0o440

func (e *entry) info() fs.FileInfo { return info{path.Base(e.path), e.size, filePerm, e.mtime} }

func (t *taken) info() fs.FileInfo { return info{path.Base(t.path), t.size, readOnly, t.mtime} }

func (m *memo) info(p string) fs.FileInfo { return info{path.Base(p), m.size, readOnly, m.mtime} }

func (u *Upload) info() fs.FileInfo { return info{path.Base(u.path), u.Size(), filePerm, u.began} }

// list lists the directory p. A file goes one way: from the uploads to drop to the Taker. The places are read in that
// order, so that one that moves meanwhile is seen at least once, and shown once.
func (d *Drop) list(p string) ([]fs.FileInfo, error) {
	seen := map[string]fs.FileInfo{}
	d.mu.Lock()
	err := d.inDirectory(p + "/")
	for q, u := range d.open {
		if path.Dir(q) == p {
			seen[path.Base(q)] = u.info()
		}
	}
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	kept, err := d.fs.ReadDir(path.Join(keptDir, p))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return nil, err
	}
	for _, k := range kept {
		if _, ok := seen[k.Name()]; ok || k.IsDir() {
			continue
		}
		if fi, err := k.Info(); err == nil { // else it has gone on
			seen[k.Name()] = fi
		}
	}

	entries, err := d.fs.ReadDir(path.Join(dropDir, p))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		if fi, err := e.Info(); err == nil {
			seen[e.Name()] = fi
		}
	}

	d.mu.Lock()
	for _, e := range d.claiming {
		if path.Dir(e.path) == p {
			seen[path.Base(e.path)] = e.info()
		}
	}
	for name, same := range d.taken.byDir[p] {
		if _, ok := seen[name]; !ok {
			seen[name] = same[len(same)-1].info()
		}
	}
	for name := range seen {
		if e := d.files[path.Join(p, name)]; e != nil && e.state == doomed {
			delete(seen, name)
		}
	}
	d.mu.Unlock()

	list := make([]fs.FileInfo, 0, len(seen))
	for _, fi := range seen {
		list = append(list, fi)
	}
	slices.SortFunc(list, func(a, b fs.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}
