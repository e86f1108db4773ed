package drop

import (
	"fmt"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// place is where a file is on its way.
type place int

const (
	inPartial place = iota
	inDrop
	inTaken
	places
)

// ledger knows what all files together use, and refuses what would break a limit. Uploads write at
// the same time: each reserves its bytes before it writes them, so that together they do not overshoot.
type ledger struct {
	fs         disk.FS
	minFree    int64 // 0: none
	spoolLimit int64 // 0: none
	maxFiles   int

	mu       sync.Mutex
	counts   [places]Count
	files    map[string]int // by top directory
	reserved int64          // bytes that are being written
	free     int64          // what the volume had free at freeAt
	freeAt   time.Time
	since    int64 // bytes written since freeAt
}

// freeAge is how long a reading of the free space is trusted: other programs write too.
const freeAge = time.Second

func (l *ledger) usage() Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Usage{Partial: l.counts[inPartial], Finished: l.counts[inDrop], Taken: l.counts[inTaken]}
}

// add counts files (which may be negative) of bytes together, in the top directory of p; p "" is in none.
func (l *ledger) add(at place, p string, files int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[at].Files += files
	l.counts[at].Bytes += bytes
	l.addFiles(p, files)
}

// belongs counts a file that add has counted in no top directory.
func (l *ledger) belongs(p string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addFiles(p, 1)
}

func (l *ledger) addFiles(p string, n int) {
	if p == "" || n == 0 {
		return
	}
	t := top(p)
	if l.files[t] += n; l.files[t] == 0 {
		delete(l.files, t)
	}
}

// move counts one file as having gone on.
func (l *ledger) move(from, to place, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[from].Files--
	l.counts[from].Bytes -= bytes
	l.counts[to].Files++
	l.counts[to].Bytes += bytes
}

// admit says whether an upload of at least n bytes, which adds so many files (0 or 1), may come to the top directory of p now.
// One that adds none is counted beside what it replaces until it does, and for good if that is taken before: so at the
// limit there is room for only one of them at a time, and none above it.
func (l *ledger) admit(p string, files int, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files[top(p)]+files > l.maxFiles {
		return fmt.Errorf("%w: %d files wait, no more are accepted", ErrFull, l.maxFiles)
	}
	return l.room(max(n, 1))
}

// reserve sets n bytes aside for a write; written must follow.
func (l *ledger) reserve(n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.room(n); err != nil {
		return err
	}
	l.reserved += n
	return nil
}

// written ends a reserve of which so many bytes were written to a partial file.
func (l *ledger) written(reserved, written int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reserved -= reserved
	l.since += written
	l.counts[inPartial].Bytes += written
}

// room says whether n more bytes can be had.
func (l *ledger) room(n int64) error {
	if l.spoolLimit > 0 && l.spooled()+n > l.spoolLimit {
		return fmt.Errorf("%w: the spool limit of %d bytes is reached", ErrFull, l.spoolLimit)
	}
	if l.minFree == 0 {
		return nil
	}
	// A reading that says no is taken again at once, as space may have been freed since.
	if l.left() < n || time.Since(l.freeAt) > freeAge {
		if err := l.read(); err != nil {
			return err
		}
	}
	if l.left() < n {
		return fmt.Errorf("%w: %d bytes of the disk are to be left free", ErrFull, l.minFree)
	}
	return nil
}

func (l *ledger) spooled() int64 {
	sum := l.reserved
	for _, c := range l.counts {
		sum += c.Bytes
	}
	return sum
}

// left is what can still be written above the floor, by the last reading. Bytes reserved while
// it was taken may be counted twice, never not at all.
func (l *ledger) left() int64 { return l.free - l.since - l.reserved - l.minFree }

func (l *ledger) read() error {
	free, err := l.fs.Free()
	if err != nil {
		return fmt.Errorf("asking for the free space: %w", err)
	}
	l.free, l.freeAt, l.since = int64(min(free, 1<<62)), time.Now(), 0
	return nil
}

// available is how many bytes room would grant, at most limit (negative: any).
func (l *ledger) available(limit int64) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.read(); err != nil {
		return 0, err
	}
	n := l.left()
	if l.spoolLimit > 0 {
		n = min(n, l.spoolLimit-l.spooled())
	}
	if limit >= 0 {
		n = min(n, limit)
	}
	return max(n, 0), nil
}
