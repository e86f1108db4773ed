package disktest

import (
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// file is an open file. Its FS's mu guards it.
type file struct {
	fs     *FS
	node   *inode
	name   string
	flag   int
	off    int64
	closed bool
}

// begin starts an operation on the open file. After nil the caller unlocks.
func (f *file) begin(kind Kind) error {
	f.fs.mu.Lock()
	err := f.fs.alive(kind, f.name)
	if f.closed {
		err = fs.ErrClosed
	}
	if err != nil {
		f.fs.mu.Unlock()
	}
	return err
}

func (f *file) fail(kind Kind, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: kind.String(), Path: f.name, Err: err}
}

func (f *file) reads() bool { return f.flag&os.O_WRONLY == 0 }

func (f *file) writes() bool { return f.flag&(os.O_WRONLY|os.O_RDWR) != 0 }

func (f *file) Read(p []byte) (int, error) {
	if err := f.begin(Read); err != nil {
		return 0, f.fail(Read, err)
	}
	defer f.fs.mu.Unlock()
	n, err := f.readAt(p, f.off)
	f.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, f.fail(Read, err)
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.begin(Read); err != nil {
		return 0, f.fail(Read, err)
	}
	defer f.fs.mu.Unlock()
	if off < 0 {
		return 0, f.fail(Read, syscall.EINVAL)
	}
	n, err := f.readAt(p, off)
	return n, f.fail(Read, err)
}

func (f *file) readAt(p []byte, off int64) (int, error) {
	switch {
	case f.node.isDir():
		return 0, syscall.EISDIR
	case !f.reads():
		return 0, syscall.EBADF
	case len(p) == 0:
		return 0, nil
	case off >= int64(len(f.node.data)):
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	if err := f.begin(Write); err != nil {
		return 0, f.fail(Write, err)
	}
	defer f.fs.mu.Unlock()
	if !f.writes() {
		return 0, f.fail(Write, syscall.EBADF)
	}
	if len(p) == 0 {
		return 0, nil
	}
	off := f.off
	if f.flag&os.O_APPEND != 0 {
		off = int64(len(f.node.data))
	}
	var n int
	err := f.fs.step(Op{Kind: Write, Path: f.name, Off: off, Size: int64(len(p))}, func(fault *Fault) error {
		size := int64(len(p))
		var err error
		if fault != nil {
			err = fault.err()
			if size /= 2; !fault.Short {
				size = 0
			}
		}
		grows := off + size - int64(len(f.node.data))
		if room := f.fs.room(); grows > room {
			size, err = max(0, size-(grows-room)), syscall.ENOSPC
		}
		if size > 0 {
			f.fs.vol.change(f.node, f.fs.times(change{kind: Write, off: off, data: slices.Clone(p[:size])}))
			n = int(size)
			f.off = off + size
		}
		return err
	})
	return n, f.fail(Write, err)
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	if err := f.begin(Any); err != nil {
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: err}
	}
	defer f.fs.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += int64(len(f.node.data))
	default:
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: syscall.EINVAL}
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: syscall.EINVAL}
	}
	f.off = offset
	return offset, nil
}

// Close closes the file on a dead disk too, so that no test leaks it, and says that the disk is dead.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return f.fail(Close, fs.ErrClosed)
	}
	f.closed = true
	err := f.fs.alive(Close, f.name)
	if !f.fs.dead { // the volume may belong to another FS by now
		f.node.handles--
		f.fs.vol.release(f.node)
	}
	return f.fail(Close, err)
}

func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.begin(Lstat); err != nil {
		return nil, f.fail(Lstat, err)
	}
	defer f.fs.mu.Unlock()
	return f.node.info(clean(f.name)), nil
}

func (f *file) Truncate(size int64) error {
	if err := f.begin(Truncate); err != nil {
		return f.fail(Truncate, err)
	}
	defer f.fs.mu.Unlock()
	if !f.writes() || size < 0 {
		return f.fail(Truncate, syscall.EINVAL)
	}
	return f.fail(Truncate, f.fs.step(Op{Kind: Truncate, Path: f.name, Size: size}, func(*Fault) error {
		f.fs.vol.change(f.node, f.fs.times(change{kind: Truncate, size: size}))
		return nil
	}))
}

func (f *file) Sync() error {
	if err := f.begin(Sync); err != nil {
		return f.fail(Sync, err)
	}
	defer f.fs.mu.Unlock()
	if f.node.isDir() {
		return f.fail(SyncDir, f.fs.syncDir(f.node, f.name))
	}
	return f.fail(Sync, f.fs.step(Op{Kind: Sync, Path: f.name}, func(fault *Fault) error {
		if fault != nil {
			f.node.syncFailed()
			return fault.err()
		}
		f.node.sync()
		return nil
	}))
}
