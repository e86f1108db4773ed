package drop

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"sync/atomic"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// part is the file of an upload while it is received. It belongs to one Upload, whose lock guards it; its size can be read without.
type part struct {
	fs     disk.FS
	ledger *ledger
	path   string    // of the upload, below drop
	temp   string    // where the file stands in partial/open; "": not there any more
	file   disk.File // nil: closed
	size   atomic.Int64
	sum    uint32 // CRC-32C of the file
}

// writeBehind is how many bytes a file gets before the kernel is asked to begin writing them: otherwise nearly all of a large file is left for the sync at its end.
const writeBehind = 8 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newPart makes an empty file for an upload to p.
func (a *uploads) newPart(p string) (*part, error) {
	temp := a.newTemp()
	f, err := a.fs.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, err
	}
	a.ledger.addPartial(p, 1, 0)
	return &part{fs: a.fs, ledger: a.ledger, path: p, temp: temp, file: f}, nil
}

// reopenPart opens the interrupted upload to p, of size bytes. Its new name is not synced.
func (a *uploads) reopenPart(p string, size int64) (*part, error) {
	f, err := a.fs.OpenFile(kept(p), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	temp := a.newTemp()
	if err := a.fs.Rename(kept(p), temp); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	a.forgetKept(p)
	opened := &part{fs: a.fs, ledger: a.ledger, path: p, temp: temp, file: f}
	opened.size.Store(size)
	return opened, nil
}

// syncReopened makes the name of a reopened part durable, in both directories, before its first write: bytes that are not synced never stand in kept.
func (f *part) syncReopened() error {
	for _, dir := range []string{openDir, path.Dir(kept(f.path))} {
		if err := f.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// write adds p at the end. limit bounds the size; negative: nothing does.
func (f *part) write(p []byte, limit int64) (int, error) {
	want := int64(len(p))
	if limit >= 0 && f.size.Load()+want > limit {
		return 0, fmt.Errorf("%w (%d bytes)", ErrTooLarge, limit)
	}
	if want == 0 {
		return 0, nil
	}
	if err := f.ledger.reserve(want); err != nil {
		return 0, err
	}
	n, err := f.file.Write(p)
	f.ledger.written(want, int64(n))
	if end := f.size.Add(int64(n)); end/writeBehind != (end-int64(n))/writeBehind {
		disk.StartSync(f.file)
	}
	f.sum = crc32.Update(f.sum, castagnoli, p[:n])
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// seek makes offset the end, where the next write goes.
func (f *part) seek(offset int64) error {
	// In any case: a write that failed may have left something behind the end.
	if err := f.file.Truncate(offset); err != nil {
		return err
	}
	f.ledger.addPartial(f.path, 0, offset-f.size.Swap(offset))
	if _, err := f.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := crc32.New(castagnoli)
	if _, err := io.CopyN(sum, f.file, offset); err != nil {
		return err
	}
	f.sum = sum.Sum32()
	return nil
}

// sync makes the bytes that were received durable, and closes the file.
func (f *part) sync() error {
	// A write that failed may have left something behind what it said it wrote.
	err := f.file.Truncate(f.size.Load())
	if err == nil {
		// If it fails the file is given up and never synced again: the kernel has dropped the bytes.
		err = f.file.Sync()
	}
	return errors.Join(err, f.close())
}

// close closes the file, if it is open.
func (f *part) close() error {
	file := f.file
	f.file = nil
	if file == nil {
		return nil
	}
	return file.Close()
}

// uncount notes that the file stands in partial no more.
func (f *part) uncount() {
	f.temp = ""
	f.ledger.addPartial(f.path, -1, -f.size.Load())
}

// remove closes and removes the file, if it still stands in partial/open.
func (f *part) remove() error {
	_ = f.close() // for nothing but its descriptor
	if f.temp == "" {
		return nil
	}
	err := f.fs.Remove(f.temp)
	f.uncount()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
