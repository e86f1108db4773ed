package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// Item is a finished file to take in.
type Item struct {
	// Path is where the file stands on the volume; Put renames it into the outbox. Its bytes must be
	// durable already, and nobody may write to it any more.
	Path string
	// Name is the name that the receiver will see. Any bytes.
	Name string
	// Lane orders: entries of one lane leave in the order of Put. Any string, also empty.
	Lane string
	// Meta is kept with the file and handed to the Deliverer: any JSON value, or nil.
	Meta json.RawMessage
}

// Entry is a file that waits in the outbox.
type Entry struct {
	ID       string // the tracking id: 32 hex digits of a UUIDv4, durable before the first attempt
	Name     string
	Lane     string
	Meta     json.RawMessage
	Path     string // where its bytes stand on the volume
	Size     int64  // bytes
	ModTime  time.Time
	Accepted time.Time // when Put took it

	origin // for recovery, until the file stands in the outbox
}

// Prepared is an entry made ready for sending.
type Prepared struct {
	Entry Entry
	// Payload is what Deliverer.Prepare made of it. In Audit it may be nil: payloads are not kept
	// over restarts and long outages. If it has a method Size() int (bytes), the outbox counts that
	// towards Options.Memory and Options.BatchBytes, otherwise an estimate made from the entry's size.
	Payload any
	// Open reads the entry's bytes from their start.
	Open func() (disk.File, error)
}

// Deliverer takes entries to their targets. An error that is permanent (it has a method
// Permanent() bool that says true, found with errors.As) sets the entry aside in failed/; any other
// is tried again, for ever. A panic counts as an error that is not permanent. Methods are
// called from several goroutines at once and must return soon after their context ended.
type Deliverer interface {
	// Targets names the targets of now. None: entries are kept. It is called at the start of Run, after
	// Wake, and after a Send that failed.
	Targets() []string
	// Prepare makes what can be made before the entry's turn (an upload to bulk storage, the message).
	// It may run for several entries of a lane at once, and more than once for an entry: after a restart,
	// an error, or when the payload had to make room. open reads the entry's bytes from their start;
	// it may be called more than once. The context ends with Run's.
	Prepare(ctx context.Context, e Entry, open func() (disk.File, error)) (payload any, err error)
	// Send hands a batch (1 to Options.Batch entries of one lane, in order) to one target and returns an error for
	// each entry, nil for those that the target has acknowledged; len(result) == len(batch). A permanent
	// error means that this target will never take this entry. An error that says so by a method
	// Stale() bool has the entry prepared anew first. The context ends Options.Grace after Run's.
	Send(ctx context.Context, target string, batch []Prepared) []error
	// Audit records that the entries (at most Options.AuditBatch, of any lanes) were sent to all
	// targets, and returns an error for each entry, nil for those that have nothing to record or are recorded;
	// len(result) == len(batch). A permanent error means that this entry, whatever stands beside it, can never be
	// recorded. The context ends Options.Grace after Run's.
	Audit(ctx context.Context, batch []Prepared) []error
}

// Gone says why an entry left the outbox.
type Gone int

const (
	Delivered Gone = iota // acknowledged by all targets, and audited
	Failed                // set aside in failed/
)

func (g Gone) String() string {
	if g == Delivered {
		return "delivered"
	}
	return "failed"
}

// Options of an Outbox.
type Options struct {
	FS        disk.FS   // the volume; required
	Dir       string    // By default, "outbox".
	FailedDir string    // By default, "failed".
	Deliverer Deliverer // required

	// Log takes what operators should know. By default, nothing is logged.
	Log *slog.Logger
	// Gone is called after an entry has left for good, for one entry at a time. It must not block long.
	// By default, nobody is told.
	Gone func(e Entry, why Gone)

	// Batch is how many entries one Send gets at most. By default, 10.
	Batch int
	// BatchBytes is how many bytes of payload one Send gets at most; a single larger one goes alone.
	// By default, 262,144.
	BatchBytes int64
	// AuditBatch is how many entries one Audit gets at most. By default, 500.
	AuditBatch int
	// Workers is how many calls of Send run at once for each target, and how many of Prepare for small
	// and as many for large files. By default, 4.
	Workers int
	// Memory bounds the payloads that are kept ready, in bytes, as far as sizes are known. By default, 16 MiB.
	Memory int64

	// MinBackoff and MaxBackoff bound the pauses between attempts, which double after each failure and
	// are then shortened at random (full jitter). By default, 1 s and 5 min.
	MinBackoff, MaxBackoff time.Duration
	// Grace is how long calls of Send and Audit may go on after Run's context ended. By default, 5 s.
	Grace time.Duration
}

func (opts Options) withDefaults() (Options, error) {
	if opts.FS == nil {
		return opts, errors.New("outbox: Options.FS is nil, expected the volume")
	}
	if opts.Deliverer == nil {
		return opts, errors.New("outbox: Options.Deliverer is nil")
	}
	if opts.Dir == "" {
		opts.Dir = "outbox"
	}
	if opts.FailedDir == "" {
		opts.FailedDir = "failed"
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Gone == nil {
		opts.Gone = func(Entry, Gone) {}
	}
	orDefault(&opts.Batch, 10)
	orDefault(&opts.BatchBytes, 256<<10)
	orDefault(&opts.AuditBatch, 500)
	orDefault(&opts.Workers, 4)
	orDefault(&opts.Memory, 16<<20)
	orDefault(&opts.MinBackoff, time.Second)
	orDefault(&opts.MaxBackoff, 5*time.Minute)
	orDefault(&opts.Grace, 5*time.Second)
	opts.MaxBackoff = max(opts.MaxBackoff, opts.MinBackoff)
	return opts, nil
}

func orDefault[T int | int64 | time.Duration](option *T, value T) {
	if *option <= 0 {
		*option = value
	}
}

// Stats is the outbox in numbers.
type Stats struct {
	Entries int       // that wait
	Bytes   int64     // of those
	Failed  int       // files in failed/
	Oldest  time.Time // when the entry that waits longest was accepted; zero if none waits
}

// Outbox is a durable queue of files. Its methods may be called from several goroutines.
type Outbox struct {
	opts    Options
	journal *journal
	dirSync *shared[struct{}] // SyncDir of Options.Dir, shared by all who need it at the same time
	kick    chan struct{}     // Run has something to do
	lastSeq atomic.Uint64

	mu       sync.Mutex
	running  bool
	stopping bool // Run's context has ended
	closed   bool
	retarget bool // Targets is to be asked again
	calls    int  // goroutines that Run has started and that have not ended
	pauses   pauses

	waiting   list       // all entries that were accepted and have not left, in their order
	arrivals  []*arrival // accepted or about to be, in their order, until their rename is durable
	lanes     map[string]*lane
	targets   map[string]*target // all ever named in this process or in a record
	active    []*target          // those of now
	asked     bool               // the Deliverer has named its targets since Open
	targeting retry.Trouble      // naming them
	refusals  map[*waiting][]refusal
	stats     Stats
	reports   []report
	unsettled int // sent, and neither gone from the disk nor recorded there as sent

	preparing preparing
	auditing  auditing
	noting    noting
	leaving   leaving
}

// Wake cuts all pauses short: targets, credentials or the stopped flag changed, so try now.
func (o *Outbox) Wake() {
	o.mu.Lock()
	o.retarget = true
	o.pauses.endAll()
	o.mu.Unlock()
	o.nudge()
}

// Stats counts what waits and what was set aside.
func (o *Outbox) Stats() Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	stats := o.stats
	if first := o.waiting.first; first != nil {
		stats.Oldest = time.Unix(0, first.accepted)
	}
	return stats
}

// Close gives the journal's files back. Run must have returned, and Put fails from now on.
func (o *Outbox) Close() error {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	return o.journal.close()
}

// nudge lets Run look for work.
func (o *Outbox) nudge() {
	select {
	case o.kick <- struct{}{}:
	default: // it has not looked since the last nudge
	}
}

// isPermanent tells whether err says that trying again is of no use.
func isPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// isStale tells whether err says that the payload is of no use any more.
func isStale(err error) bool {
	var s interface{ Stale() bool }
	return errors.As(err, &s) && s.Stale()
}
