package disktest

import (
	"io/fs"
	"slices"
)

// slot is a place for a name in a directory.
type slot struct {
	dir  *inode
	name string
}

// nameOp is one operation on names: from loses its name (unlink, rmdir, rename), to gets
// node (create, mkdir, rename). Either may be empty. With two names, the rename of a file to another directory is
// two of them: see renameOps.
type nameOp struct {
	from, to slot
	node     *inode
	rename   bool
	link     *nameOp   // of the half of a rename that takes the old name away: the other half
	unlink   *nameOp   // of the half that gives the new name: the other half
	synced   bool      // of an unlink: its directory is synced, so it is durable once its link is
	needs    []*nameOp // kept only with these, and makes them durable
	wants    []*nameOp // kept by chance only with these, but can be synced without
	durable  bool
}

// renameOps are the operations of a rename. With two names, a file gets its new name and loses its old one in two
// steps, each made durable by its own directory, the second never without the first.
func renameOps(from, to slot, node *inode, twoNames bool) []*nameOp {
	if !twoNames || node.isDir() || from.dir == to.dir {
		return []*nameOp{{from: from, to: to, node: node, rename: true}}
	}
	link := &nameOp{to: to, node: node, rename: true}
	link.unlink = &nameOp{from: from, node: node, link: link}
	return []*nameOp{link, link.unlink}
}

func (op *nameOp) isDurable() bool { return op.durable }

// home is the directory whose SyncDir makes the operation durable.
func (op *nameOp) home() *inode {
	if op.to.dir != nil {
		return op.to.dir
	}
	return op.from.dir
}

// volume is the state that outlives a killed process.
type volume struct {
	root     *inode
	lastID   int
	used     int64            // bytes of all files that have a name or are open
	pending  []*nameOp        // not durable yet, in order
	last     map[slot]*nameOp // the last pending operation on a name
	dirMoved *nameOp          // the last rename of a directory
}

func newVolume() *volume {
	v := &volume{last: map[slot]*nameOp{}}
	v.root = v.newInode(fs.ModeDir | 0o755)
	return v
}

func (v *volume) newInode(mode fs.FileMode) *inode {
	v.lastID++
	n := &inode{id: v.lastID, mode: mode}
	if n.isDir() {
		n.names, n.durableNames = map[string]*inode{}, map[string]*inode{}
	}
	return n
}

// apply makes op visible to programs and remembers that it is not durable.
func (v *volume) apply(op *nameOp) {
	if op.from.dir != nil {
		delete(op.from.dir.names, op.from.name)
		op.node.links--
		op.node.parent = nil
	}
	if op.to.dir != nil {
		replaced := op.to.dir.names[op.to.name]
		op.to.dir.names[op.to.name] = op.node
		op.node.links++
		op.node.parent = op.to.dir
		if replaced != nil {
			replaced.links--
			v.release(replaced)
		}
	}
	v.release(op.node)
	v.order(op)
	v.pending = append(v.pending, op)
}

// release counts the space of n as free if nothing holds it any more.
func (v *volume) release(n *inode) {
	if n.links == 0 && n.handles == 0 {
		v.used -= int64(len(n.data))
	}
}

// change changes n and counts its space.
func (v *volume) change(n *inode, c change) {
	before := len(n.data)
	n.change(c)
	v.used += int64(len(n.data) - before)
}

// order finds what op depends on. op is visible, and not yet in pending.
func (v *volume) order(op *nameOp) {
	for _, s := range []slot{op.from, op.to} {
		if s.dir == nil {
			continue
		}
		if before := v.last[s]; before != nil {
			op.needs = append(op.needs, before)
		}
		v.last[s] = op
		if len(s.dir.nameOps) == cap(s.dir.nameOps) { // before it grows: a directory may never be synced
			s.dir.nameOps = slices.DeleteFunc(s.dir.nameOps, (*nameOp).isDurable)
		}
		s.dir.nameOps = append(s.dir.nameOps, op)
	}
	removed := op.to.dir == nil
	if op.link != nil {
		op.needs = append(op.needs, op.link)
	}
	switch {
	case removed && op.node.isDir():
		op.needs = append(op.needs, op.node.nameOps...)
	case op.rename && op.node.isDir():
		if v.dirMoved != nil {
			op.needs = append(op.needs, v.dirMoved)
		}
		v.dirMoved = op
	}
	if op.rename {
		for d := op.to.dir; d != nil; d = d.parent {
			if d.birth != nil && !d.birth.durable {
				op.wants = append(op.wants, d.birth)
			}
		}
	}
	if !removed && !op.rename && op.node.isDir() {
		op.node.birth = op
	}
}

// syncDir makes durable all operations whose home is dir.
func (v *volume) syncDir(dir *inode) {
	for _, op := range dir.nameOps {
		switch {
		case op.home() != dir:
		case op.link != nil && !op.link.durable:
			op.synced = true
		default:
			v.makeDurable(op)
		}
	}
	dir.nameOps = slices.DeleteFunc(dir.nameOps, (*nameOp).isDurable)
	v.pending = slices.DeleteFunc(v.pending, (*nameOp).isDurable)
	dir.sync() // its times
}

func (v *volume) makeDurable(op *nameOp) {
	if op.durable {
		return
	}
	op.durable = true
	for _, before := range op.needs {
		v.makeDurable(before)
	}
	if op.unlink != nil && op.unlink.synced {
		v.makeDurable(op.unlink)
	}
	op.needs, op.wants = nil, nil
	for _, s := range []slot{op.from, op.to} {
		if v.last[s] == op {
			delete(v.last, s)
		}
	}
	op.persist(func(d *inode) map[string]*inode { return d.durableNames })
}

// persist does the operation on the names that a directory has on the disk.
func (op *nameOp) persist(names func(dir *inode) map[string]*inode) {
	if op.from.dir != nil {
		delete(names(op.from.dir), op.from.name)
	}
	if op.to.dir != nil {
		names(op.to.dir)[op.to.name] = op.node
	}
}
