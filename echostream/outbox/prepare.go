package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

const (
	// small files are prepared by workers of their own, so that they do not wait behind large ones of
	// other lanes, and a batch waits for them rather than leave without them.
	small = 256 << 10
	// maxPrepared bounds how many payloads are kept, whatever they weigh.
	maxPrepared = 256
)

// preparing is the state of all preparations.
type preparing struct {
	flights map[*waiting]*flight
	queue   [2][]*waiting // of small and of large files
	workers [2]int        // at work for each
	weight  int64         // of flights that are preparing or prepared
	held    int           // number of those
	full    bool          // there is no room for another

	failures int  // calls in a row that failed
	blocked  bool // nothing is prepared until a pause is over
	suffers  int  // flights that are in trouble
	trouble  retry.Trouble
}

// flight is what is kept of an entry whose turn is near.
type flight struct {
	entry    Entry // with the ID once it was read
	payload  any
	weight   int64
	state    flightState
	refs     int // batches that it is part of
	failures int
	dropped  bool // the payload is not wanted any more, though it is being made
}

type flightState uint8

const (
	unprepared flightState = iota // in the queue
	underway
	prepared
	retrying // after a failure, until a pause is over
	bare     // has no payload any more; its entry is still of use
)

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

// want has e prepared, unless it is or will be.
func (o *Outbox) want(e *waiting) *flight {
	p := &o.preparing
	f := p.flights[e]
	if f == nil {
		f = &flight{state: bare}
		p.flights[e] = f
	}
	if f.state == bare {
		f.state = unprepared
		class := sizeClass(e.size)
		p.queue[class] = append(p.queue[class], e)
	}
	f.dropped = false
	return f
}

// startPreparing starts what may be prepared now.
func (o *Outbox) startPreparing(ctx context.Context) {
	p := &o.preparing
	p.full = false
	for class := range p.queue {
		limit := o.opts.Workers
		if p.failures >= limit {
			limit = 1 // one at a time finds out whether it works again
		}
		for len(p.queue[class]) > 0 && p.workers[class] < limit && !p.blocked {
			e := p.queue[class][0]
			f := p.flights[e]
			if f == nil || f.state != unprepared {
				p.queue[class] = p.queue[class][1:] // has left, or is queued twice
				continue
			}
			weight := estimate(e.size)
			if !o.makeRoom(weight) {
				p.full = true
				break
			}
			p.queue[class] = p.queue[class][1:]
			f.state, f.weight = underway, weight
			p.weight += weight
			p.held++
			p.workers[class]++
			o.calls++
			go o.prepare(ctx, e, f)
		}
	}
}

// sendHeld lets the streams go on that wait for more than there is room for. What they hold makes room.
func (o *Outbox) sendHeld() {
	for e, f := range o.preparing.flights {
		if f.state != prepared || e.state != queued {
			continue
		}
		for _, s := range e.lane.streams {
			if s.state == parked {
				s.makeReady()
			}
		}
	}
}

// makeRoom gives up payloads that are not needed soon, until another fits. Any of them can be made again.
func (o *Outbox) makeRoom(weight int64) bool {
	p := &o.preparing
	fits := func() bool {
		return p.held == 0 || p.weight+weight <= o.opts.Memory && p.held < maxPrepared
	}
	if fits() {
		return true
	}
	working := p.workers != [2]int{} || o.auditing.busy
	for _, t := range o.targets {
		working = working || t.busy > 0
	}
	for e, f := range p.flights {
		// If nothing at all moves, what is held is held for nothing.
		if f.refs == 0 && f.state == prepared && (!working || !o.neededSoon(e)) {
			o.strip(f)
			if e.state != completed {
				delete(p.flights, e)
			}
			if fits() {
				return true
			}
		}
	}
	return false
}

// neededSoon tells whether e is likely to be sent before others are.
func (o *Outbox) neededSoon(e *waiting) bool {
	if e.state != queued {
		return false
	}
	for _, s := range e.lane.streams {
		if !s.target.active || s.target.blocked || s.state == paused || e.settledFor(s.target) {
			continue
		}
		if s.state != parked {
			return true
		}
		// It waits for the preparation of its next entry. While that is in trouble, others go first.
		for i := max(s.pos, s.lane.base); i <= e.index; i++ {
			head := s.lane.at(i)
			if head == nil || head.settledFor(s.target) {
				continue
			}
			if f := o.preparing.flights[head]; f == nil || f.state != retrying {
				return true
			}
			break
		}
	}
	return false
}

// strip takes the payload of a flight away.
func (o *Outbox) strip(f *flight) {
	if f.state == prepared || f.state == underway {
		o.preparing.weight -= f.weight
		o.preparing.held--
	}
	f.payload, f.weight, f.state = nil, 0, bare
}

// drop forgets the flight of an entry that has left, or whose turn is not near any more.
func (o *Outbox) drop(e *waiting) {
	p := &o.preparing
	f := p.flights[e]
	switch {
	case f == nil:
	case f.refs > 0 || f.state == underway:
		f.dropped = true // whoever uses it does it when done
	default:
		if f.state == retrying {
			o.recoverFlight(f)
		}
		o.strip(f)
		delete(p.flights, e)
	}
}

// release gives up the use of a flight by a batch.
func (o *Outbox) release(e *waiting, f *flight) {
	f.refs--
	if f.refs == 0 && f.dropped {
		o.drop(e)
	}
}

// prepare calls the Deliverer for one entry.
func (o *Outbox) prepare(ctx context.Context, e *waiting, f *flight) {
	payload, entry, err := o.callPrepare(ctx, e)
	o.mu.Lock()
	p := &o.preparing
	p.workers[sizeClass(e.size)]--
	o.calls--
	if entry.ID != "" {
		f.entry = entry
	}
	switch {
	case f.dropped || e.state != queued:
		if f.failures > 0 {
			o.recoverFlight(f)
		}
		o.strip(f)
		o.drop(e)
	case err == nil:
		p.failures = 0
		f.state, f.payload = prepared, payload
		weight := weightOf(payload, e.size)
		p.weight += weight - f.weight
		f.weight = weight
		if f.failures > 0 {
			o.recoverFlight(f)
		}
	case ctx.Err() != nil:
		// Run ends: not the entry's fault, and it will be wanted again.
		if f.failures > 0 {
			o.recoverFlight(f)
		}
		o.strip(f)
		delete(p.flights, e)
	case isPermanent(err):
		if f.failures > 0 {
			o.recoverFlight(f)
		}
		o.strip(f)
		o.removeFromLane(e)
		e.state = completed
		e.retries++
		o.unsettled++
		o.setAside(e, failure{Reason: "cannot be prepared", Error: err.Error()})
	default:
		o.retryPreparing(e, f, err)
	}
	if e.lane != nil {
		for _, s := range e.lane.streams {
			if s.state == parked {
				s.makeReady()
			}
		}
	}
	o.mu.Unlock()
	o.nudge()
}

// retryPreparing puts a failed preparation off.
func (o *Outbox) retryPreparing(e *waiting, f *flight, err error) {
	p := &o.preparing
	o.strip(f)
	f.state = retrying
	f.failures++
	if f.failures == 1 {
		p.suffers++
	}
	e.retries++
	o.pauses.add(o.opts.backoff(f.failures), func() {
		if f.state == retrying {
			f.state = bare
			if e.state == queued {
				o.want(e)
			}
		}
	})
	p.failures++
	if p.failures >= o.opts.Workers && !p.blocked {
		// It fails whatever the entry: probe instead of trying all that wait.
		p.blocked = true
		o.pauses.add(o.opts.backoff(p.failures-o.opts.Workers+1), func() { p.blocked = false })
	}
	o.report(p.trouble.Hit(time.Now(), slog.LevelWarn, "Preparing files fails"+goesOn, err, "trackingId", e.id.String(), "name", f.entry.Name).To)
}

// recoverFlight notes that a flight is in trouble no more.
func (o *Outbox) recoverFlight(f *flight) {
	f.failures = 0
	o.preparing.suffers--
	if o.preparing.suffers == 0 {
		o.report(o.preparing.trouble.Over(time.Now(), "Preparing files works again").To)
	}
}

func (o *Outbox) callPrepare(ctx context.Context, e *waiting) (payload any, entry Entry, err error) {
	entry, err = o.entry(e)
	if err != nil {
		return nil, entry, err
	}
	var bad error // what the Deliverer may hide in its own error
	open := func() (disk.File, error) {
		f, err := o.open(entry)
		if isPermanent(err) {
			bad = err
		}
		return f, err
	}
	err = guard("Prepare", func() error {
		var err error
		payload, err = o.opts.Deliverer.Prepare(ctx, entry, open)
		return err
	})
	if err != nil && bad != nil {
		err = bad
	}
	return payload, entry, err
}

// open opens an entry's file, if it is still what was accepted.
func (o *Outbox) open(entry Entry) (disk.File, error) {
	f, err := o.opts.FS.OpenFile(entry.Path, os.O_RDONLY, 0)
	if err != nil {
		if isGone(err) {
			return nil, damagedError{fmt.Errorf("the file was taken out of the outbox: %w", err)}
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != entry.Size {
		err = damagedError{fmt.Errorf("the file holds %d bytes, expected the %d that were accepted", info.Size(), entry.Size)}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// damagedError is for a file that can never be delivered as it was accepted.
type damagedError struct{ error }

func (damagedError) Permanent() bool { return true }
func (e damagedError) Unwrap() error { return e.error }

// panicError is a panic of the Deliverer.
type panicError struct {
	method string
	value  any
	stack  []byte
}

func (e *panicError) Error() string {
	return fmt.Sprintf("panic in %s: %v\n%s", e.method, e.value, e.stack)
}

// guard turns a panic into an error.
func guard(method string, call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{method, v, debug.Stack()}
		}
	}()
	return call()
}
