package outbox

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

const (
	// small files are prepared at a gate of their own, so that they do not wait behind large ones of
	// other lanes, and a batch waits for them rather than leave without them.
	small = 256 << 10
	// maxPrepared bounds how many payloads of small files, and of large ones, are kept, whatever they weigh.
	maxPrepared = 256
	// maxUnreadable is how many attempts to read a file end with EIO before it is set aside: some minutes. For its audit there are more, which may
	// come every second; it holds nobody up then.
	maxUnreadable      = 12
	maxUnreadableAudit = 120
)

// preparation is a payload, or one in the making. All streams of a lane share it.
type preparation struct {
	entry   *entry
	done    chan struct{} // closed when payload and err are there
	payload any
	err     error
	weight  int64
	refs    int // streams that wait for it or send it
}

func sizeClass(size int64) int {
	if size <= small {
		return 0
	}
	return 1
}

// estimate is what a payload may weigh before it is made: the text of a small file in base64, or a reference.
func estimate(size int64) int64 {
	if size > small {
		return 4 << 10
	}
	return 1<<10 + size*3/2
}

func weightOf(payload any, size int64) int64 {
	if p, ok := payload.(interface{ Size() int }); ok {
		return int64(p.Size())
	}
	return estimate(size)
}

// want returns e's preparation, which it starts if need be; nil if there is no room for another.
func (o *Outbox) want(e *entry) *preparation {
	p := o.preps[e]
	if p == nil {
		if !o.makeRoom(e.size) {
			return nil
		}
		p = &preparation{entry: e, done: make(chan struct{}), weight: estimate(e.size)}
		o.preps[e] = p
		o.prepWeight += p.weight
		class := sizeClass(e.size)
		o.prepCount[class]++
		o.toPrepare[class] = append(o.toPrepare[class], p)
		if o.preparers[class] < o.prepGates[class].limit {
			o.preparers[class]++
			o.streams.Add(1)
			go o.prepareAll(class)
		}
	}
	p.refs++
	return p
}

// release gives up the use of preparations.
func (o *Outbox) release(all []*preparation) {
	for _, p := range all {
		p.refs--
	}
	o.cond.Broadcast() // there may be room
}

// hold takes up the use of preparations again, after a release: of those that are still kept, up to the first that is not.
func (o *Outbox) hold(all []*preparation) []*preparation {
	for i, p := range all {
		if o.preps[p.entry] != p || p.entry.state != due {
			return all[:i]
		}
		p.refs++
	}
	return all
}

// makeRoom gives up payloads that nobody uses until that of a file of this size fits. Those of small files go first: they cost the least to be
// made again. Large files, which may wait for bulk storage, and small ones take each other's weight, but not their number.
func (o *Outbox) makeRoom(size int64) bool {
	weight, own := estimate(size), sizeClass(size)
	tooHeavy := func() bool { return len(o.preps) > 0 && o.prepWeight+weight > o.opts.Memory }
	fits := func() bool { return !tooHeavy() && o.prepCount[own] < maxPrepared }
	for class := range o.prepGates {
		for _, one := range o.preps {
			if fits() {
				return true
			}
			if one.refs == 0 && sizeClass(one.entry.size) == class && one.isDone() && (class == own || tooHeavy()) {
				o.discard(one)
			}
		}
	}
	return fits()
}

func (p *preparation) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// discard forgets a preparation. Who uses it may go on.
func (o *Outbox) discard(p *preparation) {
	if p == nil || o.preps[p.entry] != p {
		return
	}
	delete(o.preps, p.entry)
	o.prepWeight -= p.weight
	o.prepCount[sizeClass(p.entry.size)]--
	if p.refs == 0 && p.isDone() {
		p.payload = nil // a stream that waits at its gate knows p still
	}
	o.cond.Broadcast()
}

// prepareAll prepares one after the other, in the order in which they are wanted, until there is none of its class. As many run as the gate lets in: more would
// wait at it, and be woken by each that leaves.
func (o *Outbox) prepareAll(class int) {
	defer o.streams.Done()
	for {
		var p *preparation
		o.locked(func() {
			if queue := o.toPrepare[class]; len(queue) > 0 {
				p, queue[0] = queue[0], nil
				o.toPrepare[class] = queue[1:]
				return
			}
			o.toPrepare[class] = nil
			o.preparers[class]--
		})
		if p == nil {
			return
		}
		o.prepare(p)
	}
}

// prepare calls the Deliverer for one entry.
func (o *Outbox) prepare(p *preparation) {
	defer close(p.done)
	g := &o.prepGates[sizeClass(p.entry.size)]
	if !o.enter(g) {
		p.err = errStopping
		o.locked(func() { o.discard(p) })
		return
	}
	p.payload, p.err = o.callPrepare(p.entry)
	o.locked(func() {
		o.leave(g, p.err == nil || retry.IsPermanent(p.err))
		if p.err != nil {
			o.discard(p)
			if retry.IsPermanent(p.err) && p.entry.state == due {
				p.entry.attempts++
				o.setAside(p.entry, failure{Reason: "cannot be prepared", Error: p.err.Error(), damaged: errors.As(p.err, new(damagedError))})
			}
			return
		}
		weight := weightOf(p.payload, p.entry.size)
		if o.preps[p.entry] == p {
			o.prepWeight += weight - p.weight
		}
		p.weight = weight
	})
}

var errStopping = errors.New("the outbox stops")

func (o *Outbox) callPrepare(e *entry) (payload any, err error) {
	var entry Entry
	o.locked(func() { entry = o.public(e) })
	var bad atomic.Pointer[damagedError] // what the Deliverer may hide in its own error, or not see
	open := func() (disk.File, error) { return o.openFor(e, func(err damagedError) { bad.Store(&err) }) }
	err = guard("Prepare", func() error {
		var err error
		payload, err = o.opts.Deliverer.Prepare(o.running, entry, open)
		return err
	})
	if bad := bad.Load(); bad != nil {
		err = *bad
	}
	return payload, o.readable(e, err, maxUnreadable)
}

// readable counts how often the disk could not read e's file: one that it never can must not hold up its lane, or wait for its audit, for ever.
func (o *Outbox) readable(e *entry, err error, most uint8) error {
	if !errors.Is(err, syscall.EIO) || retry.IsPermanent(err) {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.unreadable++; e.unreadable < most {
		return err
	}
	return damagedError{fmt.Errorf("the disk cannot read the file: %w", err)}
}

// open opens an entry's file, if it is still what was accepted. Reading it to its end compares the checksum.
func (o *Outbox) open(e *entry) (disk.File, error) { return o.openFor(e, func(damagedError) {}) }

// openFor also reports whether the file is found to be damaged, now or while it is read.
func (o *Outbox) openFor(e *entry, damaged func(damagedError)) (disk.File, error) {
	bad := func(format string, args ...any) error {
		err := damagedError{fmt.Errorf(format, args...)}
		damaged(err)
		return err
	}
	f, err := o.opts.FS.OpenFile(o.pathOf(e), os.O_RDONLY, 0)
	if err != nil {
		if isGone(err) {
			return nil, bad("the file was taken out of the outbox: %w", err)
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != e.size {
		err = bad("the file holds %d bytes, expected the %d that were accepted", info.Size(), e.size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	if !e.summed {
		return f, nil
	}
	return &checkedFile{File: f, size: e.size, want: e.checksum, bad: bad}, nil
}

// checkedFile compares the checksum of a file that is read from its start to its end.
type checkedFile struct {
	disk.File
	size, read int64
	sum, want  uint32
	sought     bool // it is not read in one go: nothing can be said
	bad        func(format string, args ...any) error
}

func (f *checkedFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.sum = crc32.Update(f.sum, castagnoli, p[:n])
	f.read += int64(n)
	if !f.sought && f.read == f.size && f.sum != f.want && (err == nil || errors.Is(err, io.EOF)) {
		return n, f.bad("the file's checksum is %08x, expected %08x: the disk has changed its bytes", f.sum, f.want)
	}
	return n, err
}

// Seek to the start begins the comparison anew.
func (f *checkedFile) Seek(offset int64, whence int) (int64, error) {
	at, err := f.File.Seek(offset, whence)
	f.sum, f.read, f.sought = 0, 0, at != 0 || err != nil
	return at, err
}

// damagedError is for a file that can never be delivered as it was accepted.
type damagedError struct{ error }

func (damagedError) Permanent() bool { return true }
func (e damagedError) Unwrap() error { return e.error }

// guard turns a panic into an error.
func guard(method string, call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic in %s: %v\n%s", method, v, debug.Stack())
		}
	}()
	return call()
}
