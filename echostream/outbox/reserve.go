package outbox

import (
	"errors"
	"os"
	"path"
	"sync/atomic"
	"syscall"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

const reserveName = "reserve"

// reserve is a file that is there only to be removed when the volume is full: then there is room to note what was sent, and to set aside
// what cannot be, so that the outbox drains. A part of the journal that is written ahead would not do: copy-on-write file systems (btrfs) need new
// blocks for what is overwritten. Nor would fallocate: there it reserves the first write only, and not its checksums and metadata. To remove a file
// works on all of them when they are full.
type reserve struct {
	fs   disk.FS
	dir  string
	size int64 // 0: there is none

	spent atomic.Bool // it is not there
}

// make makes the reserve if it is not there and there is twice the room for it. It is an offer only, so nothing is told if it fails.
func (r *reserve) make() {
	name := path.Join(r.dir, reserveName)
	if info, err := r.fs.Lstat(name); r.size == 0 || err == nil && info.Size() == r.size {
		return
	}
	r.spent.Store(true)
	if free, err := r.fs.Free(); err != nil || free/2 < uint64(r.size) {
		return
	}
	f, err := r.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	zeros := make([]byte, min(r.size, 64<<10))
	for left := r.size; left > 0 && err == nil; left -= int64(len(zeros)) {
		err = disk.WriteAll(f, zeros[:min(left, int64(len(zeros)))])
	}
	// The sync protects no bytes: file systems that allocate late find the room for them now.
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		_ = r.fs.Remove(name) // what is there of it is too small
		return
	}
	r.spent.Store(false)
}

// use does what needs room; again without the reserve if there is none.
func (r *reserve) use(do func() error) error {
	err := do()
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) || r.size == 0 || r.spent.Swap(true) {
		return err
	}
	if r.fs.Remove(path.Join(r.dir, reserveName)) != nil {
		return err
	}
	// File systems that free blocks with a transaction (ext4, xfs, btrfs) end it here.
	_ = r.fs.SyncDir(r.dir)
	return do()
}
