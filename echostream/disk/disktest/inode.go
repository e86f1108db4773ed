package disktest

import (
	"io/fs"
	"time"
)

// inode is a file or directory, once as programs see it and once as the disk holds it for certain.
type inode struct {
	id   int
	mode fs.FileMode // type and permissions; never changes

	// As programs see it.
	data    []byte
	names   map[string]*inode // of a directory
	parent  *inode            // of a directory that has a name
	links   int               // how many names it has
	handles int
	mtime   time.Time
	ctime   time.Time

	// As the disk holds it.
	durable      []byte
	durableNames map[string]*inode
	durableMtime time.Time
	durableCtime time.Time

	changes []change  // of the contents and times, not yet synced, in order
	nameOps []*nameOp // of the names in this directory, in order; some may be durable already
	birth   *nameOp   // the Mkdir that made this directory
}

func (n *inode) isDir() bool { return n.mode.IsDir() }

// change is one change of an inode that is not synced yet.
type change struct {
	kind  Kind // Write, Truncate or Chtimes
	off   int64
	data  []byte
	size  int64
	mtime time.Time
	ctime time.Time
}

// write puts p at off into data and fills a gap with zeros.
func write(data []byte, off int64, p []byte) []byte {
	data = resize(data, max(int64(len(data)), off+int64(len(p))))
	copy(data[off:], p)
	return data
}

// resize cuts data or fills it up with zeros.
func resize(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size]
	}
	if size <= int64(cap(data)) {
		old := len(data)
		data = data[:size]
		clear(data[old:])
		return data
	}
	grown := make([]byte, size, size+size/4)
	copy(grown, data)
	return grown
}

// change makes c visible to programs and remembers that it is not durable.
func (n *inode) change(c change) {
	switch c.kind {
	case Write:
		n.data = write(n.data, c.off, c.data)
	case Truncate:
		n.data = resize(n.data, c.size)
	}
	n.mtime, n.ctime = c.mtime, c.ctime
	n.changes = append(n.changes, c)
}

// sync makes all changes durable.
func (n *inode) sync() {
	for _, c := range n.changes {
		switch c.kind {
		case Write:
			n.durable = write(n.durable, c.off, c.data)
		case Truncate:
			n.durable = resize(n.durable, c.size)
		}
		n.durableMtime, n.durableCtime = c.mtime, c.ctime
	}
	n.changes = nil
}

// syncFailed drops the changes, as a kernel does that marks the pages clean after a failed write-back:
// programs still see them, and nothing will ever write them to the disk.
func (n *inode) syncFailed() { n.changes = nil }

// info describes an inode under one of its names.
type info struct {
	name  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
	ctime time.Time
	id    int
}

func (n *inode) info(name string) info {
	return info{name: name, size: int64(len(n.data)), mode: n.mode, mtime: n.mtime, ctime: n.ctime, id: n.id}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.mtime }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return Sys{ino: uint64(i.id), ctime: i.ctime} }

// Sys is what FileInfo.Sys gives.
type Sys struct {
	ino   uint64
	ctime time.Time
}

// ChangeTime is when the file or its metadata last changed.
func (s Sys) ChangeTime() time.Time { return s.ctime }

// Inode tells files apart, whatever their names.
func (s Sys) Inode() uint64 { return s.ino }
