package drop

import (
	"fmt"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// ledger knows what all files together use, and refuses what would break a limit. Uploads write at
// the same time: each reserves its bytes before it writes them, so that together they do not overshoot. What waits in the outbox
// is counted there.
type ledger struct {
	fs         disk.FS
	box        *outbox.Outbox
	minFree    int64 // 0: none
	spoolLimit int64 // 0: none
	maxFiles   int   // in a top directory
	maxTotal   int   // in all

	mu       sync.Mutex
	partial  Count          // being sent, or interrupted
	found    Count          // of other programs
	files    map[string]int // both, by top directory
	reserved int64          // bytes that are being written
	free     int64          // what the volume had free at freeAt
	freeAt   time.Time
	since    int64          // bytes written since freeAt
	held     map[string]int // files that do not count towards maxFiles, by top directory, at heldAt
	heldAt   time.Time
}

// errMaxFiles says that a user has as many files as are accepted.
var errMaxFiles = fmt.Errorf("%w: no more files are accepted", ErrFull)

// setHeld says how many files do not count towards maxFiles, for a while.
func (l *ledger) setHeld(held map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held, l.heldAt = held, time.Now()
}

// freeAge is how long a reading of the free space is trusted: other programs write too.
const freeAge = time.Second

// Usage is what the volume holds, by the place where it stands.
type Usage struct {
	Partial Count // being sent, or interrupted
	Found   Count // put into the drop directory by other programs
	Waiting Count // in the outbox
}

// Count is a number of files and the bytes in them.
type Count struct {
	Files int
	Bytes int64
}

func (l *ledger) usage() Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	files, bytes := l.box.Usage("")
	return Usage{Partial: l.partial, Found: l.found, Waiting: Count{files, bytes}}
}

// addPartial and addFound count files (which may be negative) of bytes together, in the top directory of p.
func (l *ledger) addPartial(p string, files int, bytes int64) { l.add(&l.partial, p, files, bytes) }
func (l *ledger) addFound(p string, files int, bytes int64)   { l.add(&l.found, p, files, bytes) }

func (l *ledger) add(count *Count, p string, files int, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count.Files += files
	count.Bytes += bytes
	t := top(p)
	if l.files[t] += files; l.files[t] == 0 {
		delete(l.files, t)
	}
}

// admit says whether an upload of at least n bytes, which adds so many files (0 or 1), may come to the top directory of p now.
// One that adds none is counted beside what it replaces until it does: so at the limit there is room for only one of them at a
// time, and none above it.
func (l *ledger) admit(p string, files int, n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting, _ := l.box.Usage(top(p))
	held := 0
	if time.Since(l.heldAt) < countHeldEvery {
		held = l.held[top(p)]
	}
	if l.files[top(p)]+waiting-held+files > l.maxFiles {
		return fmt.Errorf("%w: %d wait", errMaxFiles, l.maxFiles)
	}
	waiting, _ = l.box.Usage("")
	if l.partial.Files+l.found.Files+waiting+files > l.maxTotal {
		return fmt.Errorf("%w: %d files of all users together wait, no more are accepted", ErrFull, l.maxTotal)
	}
	return l.checkRoom(max(n, 1))
}

// filesIn is how many files there are in the top directory of p.
func (l *ledger) filesIn(p string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting, _ := l.box.Usage(top(p))
	return l.files[top(p)] + waiting
}

// reserve sets n bytes aside for a write; written must follow.
func (l *ledger) reserve(n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.checkRoom(n); err != nil {
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
	l.partial.Bytes += written
}

// checkRoom returns an error unless n more bytes can be had.
func (l *ledger) checkRoom(n int64) error {
	if l.spoolLimit > 0 && l.spooled()+n > l.spoolLimit {
		return fmt.Errorf("%w: the spool limit of %d bytes is reached", ErrFull, l.spoolLimit)
	}
	if l.minFree == 0 {
		return nil
	}
	// A reading that says no is taken again at once, as space may have been freed since.
	if l.headroom() < n || time.Since(l.freeAt) > freeAge {
		if err := l.readFree(); err != nil {
			return err
		}
	}
	if l.headroom() < n {
		return fmt.Errorf("%w: %d bytes of the disk are to be left free", ErrFull, l.minFree)
	}
	return nil
}

func (l *ledger) spooled() int64 {
	_, waiting := l.box.Usage("")
	return l.reserved + l.partial.Bytes + l.found.Bytes + waiting
}

// headroom is what can still be written above the floor, by the last reading. Bytes reserved while
// it was taken may be counted twice, never not at all.
func (l *ledger) headroom() int64 { return l.free - l.since - l.reserved - l.minFree }

func (l *ledger) readFree() error {
	free, err := l.fs.Free()
	if err != nil {
		return fmt.Errorf("asking for the free space: %w", err)
	}
	l.free, l.freeAt, l.since = int64(min(free, 1<<62)), time.Now(), 0
	return nil
}
