package disktest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
)

// Policy chooses among what a disk may hold after a crash.
type Policy struct {
	name string
	seed uint64
}

var policyNames = struct{ nothing, everything, killed string }{"none", "all", "kill"}

// Nothing keeps only what was synced.
func Nothing() Policy { return Policy{name: policyNames.nothing} }

// Everything keeps what was not synced too: the disk was quicker than the power cut.
func Everything() Policy { return Policy{name: policyNames.everything} }

// Killed is no power cut, but the end of the process: all is there, and what was not synced can still be lost in
// a power cut later on.
func Killed() Policy { return Policy{name: policyNames.killed} }

// Mixture keeps, tears or loses each thing that was not synced, by chance; the same seed does the same.
func Mixture(seed uint64) Policy { return Policy{name: "mixture", seed: seed} }

// String is the form that ParsePolicy and the flag -crash.seed take: "none", "all", "kill" or a seed.
func (p Policy) String() string {
	if p.name == "mixture" {
		return strconv.FormatUint(p.seed, 10)
	}
	return p.name
}

// ParsePolicy is the opposite of Policy.String.
func ParsePolicy(s string) (Policy, error) {
	switch s {
	case policyNames.nothing, policyNames.everything, policyNames.killed:
		return Policy{name: s}, nil
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return Policy{}, fmt.Errorf("crash policy %q: expected none, all, kill or a seed", s)
	}
	return Mixture(seed), nil
}

// Crash cuts the power, if that has not been done, and makes the disk that the policy finds afterwards. It has no
// faults and is not cut; capacity, clock, DropSync and SetTwoNames are those of f. f can crash again, with another
// policy, except after Killed: then the new disk goes on with what f had.
func (f *FS) Crash(policy Policy) *FS {
	f.Cut()
	f.mu.Lock()
	defer f.mu.Unlock()
	after := &FS{
		origin:   fmt.Sprintf("%s; -crash.op=%d -crash.seed=%s", f.origin, len(f.ops), policy),
		cutAt:    -1,
		dropSync: f.dropSync,
		twoNames: f.twoNames,
		capacity: f.capacity,
		clock:    f.clock,
		time:     f.time,
	}
	if f.vol == nil {
		panic("disktest: Crash of a disk that was passed on by Crash(Killed())")
	}
	if policy == Killed() {
		after.vol, f.vol = f.vol, nil
		after.vol.closeAll()
	} else {
		after.vol = f.vol.afterCut(policy)
	}
	return after
}

// closeAll takes away the handles of a killed process, and with them the files that have no name.
func (v *volume) closeAll() {
	v.used = 0
	counted := map[*inode]bool{}
	var walk func(dir *inode)
	walk = func(dir *inode) {
		for _, n := range dir.names {
			n.handles = 0
			switch {
			case n.isDir():
				walk(n)
			case !counted[n]: // under its first name
				counted[n] = true
				v.used += int64(len(n.data))
			}
		}
	}
	walk(v.root)
}

// afterCut makes the volume that policy finds after a power cut.
func (v *volume) afterCut(policy Policy) *volume {
	names := v.namesAfter(policy)
	after := newVolume()
	after.lastID = v.lastID
	copies := map[*inode]*inode{} // one, whatever its names
	var copyDir func(from, to *inode)
	copyDir = func(from, to *inode) {
		children := names(from)
		for _, name := range slices.Sorted(maps.Keys(children)) {
			old := children[name]
			n := copies[old]
			if n == nil {
				n = old.afterCut(policy)
				copies[old] = n
				after.used += int64(len(n.data))
			}
			n.links++
			n.parent = to
			to.names[name], to.durableNames[name] = n, n
			if n.isDir() {
				copyDir(old, n)
			}
		}
	}
	root := v.root.afterCut(policy)
	after.root = root
	copyDir(v.root, root)
	return after
}

// namesAfter applies the operations on names that policy keeps to copies of what is durable.
func (v *volume) namesAfter(policy Policy) func(dir *inode) map[string]*inode {
	copies := map[*inode]map[string]*inode{}
	change := func(dir *inode) map[string]*inode {
		if copies[dir] == nil {
			copies[dir] = maps.Clone(dir.durableNames)
		}
		return copies[dir]
	}
	chance := policy.chance(0)
	share := []float64{0.1, 0.3, 0.5, 0.7, 0.9}[chance.IntN(5)] // so that some seeds keep little, and some much
	kept := map[*nameOp]bool{}
	for _, op := range v.pending {
		keep := policy == Everything() || policy != Nothing() && chance.Float64() < share
		for _, other := range slices.Concat(op.needs, op.wants) {
			keep = keep && (other.durable || kept[other])
		}
		if keep {
			kept[op] = true
			op.persist(change)
		}
	}
	return func(dir *inode) map[string]*inode {
		if names, ok := copies[dir]; ok {
			return names
		}
		return dir.durableNames
	}
}

// chance is the source of chance for one part of the disk, so that parts do not depend on each other.
func (p Policy) chance(part int) *rand.Rand {
	return rand.New(rand.NewPCG(p.seed, uint64(part)))
}

// afterCut makes the inode that policy finds after a power cut, without its names.
func (n *inode) afterCut(policy Policy) *inode {
	after := &inode{id: n.id, mode: n.mode, durable: slices.Clone(n.durable)}
	after.durableMtime, after.durableCtime = n.durableMtime, n.durableCtime
	if n.isDir() {
		after.names, after.durableNames = map[string]*inode{}, map[string]*inode{}
	}
	if policy != Nothing() && len(n.changes) > 0 {
		chance := policy.chance(n.id)
		for _, c := range n.changes {
			if policy == Everything() {
				after.changes = append(after.changes, c)
			} else {
				after.changes = append(after.changes, c.torn(chance)...)
			}
		}
		after.sync()
	}
	after.data = slices.Clone(after.durable)
	after.mtime, after.ctime = after.durableMtime, after.durableCtime
	return after
}

// sector is what a disk writes at once.
const sector = 512

// torn is what the disk got of the change: all, nothing or some pieces.
func (c change) torn(chance *rand.Rand) []change {
	if c.kind != Write {
		if chance.IntN(2) == 0 {
			return nil
		}
		return []change{c}
	}
	size := c.piece(len(c.data), len(c.data)) // of no bytes, but at the end: the file is as long as with them
	switch chance.IntN(8) {
	case 0, 1:
		return nil
	case 2:
		return []change{size}
	case 3: // a beginning, to any byte
		pieces := []change{c.piece(0, chance.IntN(len(c.data)))}
		if chance.IntN(2) == 0 {
			pieces = append(pieces, size)
		}
		return pieces
	case 4: // a beginning, to a sector
		end := c.off + int64(chance.IntN(len(c.data)))
		return []change{c.piece(0, int(max(0, end-end%sector-c.off)))}
	case 5: // some of the sectors
		pieces := []change{size}
		for from := 0; from < len(c.data); {
			to := min(len(c.data), from+sector-int((c.off+int64(from))%sector))
			if chance.IntN(2) == 0 {
				pieces = append(pieces, c.piece(from, to))
			}
			from = to
		}
		return pieces
	default:
		return []change{c}
	}
}

func (c change) piece(from, to int) change {
	c.off, c.data = c.off+int64(from), c.data[from:to]
	return c
}
