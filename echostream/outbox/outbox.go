package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// Item is a finished file to take in. Path and Name are all that a bridge needs.
type Item struct {
	// Path is where the file stands on the volume; Put renames it into the outbox. Nobody may write to it any more.
	Path string
	// File is the file at Path, open: Put syncs and closes it, in any case. By default, its bytes are durable already.
	File disk.File
	// Name is the name that the receiver will see. Any bytes.
	Name string
	// Lane orders: entries of one lane leave in the order of Put. Any string, also empty.
	Lane string
	// Meta is kept with the file and handed to the Deliverer: any JSON value, or nil.
	Meta json.RawMessage
	// ModTime is when the file was modified last. By default, what the volume says.
	ModTime time.Time
	// Checksum is the CRC-32C (Castagnoli) of its bytes. It is compared whenever they are read for sending; damaged ones are set aside, never
	// sent. By default, it is not known.
	Checksum *uint32

	// Key is what the entry's owner finds it by: a clean slash-separated path, such as "scanner/a/b.csv". Entries with one key are
	// versions. A new one ends the Wait of those before it that neither yield nor are suspended. By default, the entry is not to be found.
	Key string
	// Wait is how long the entry is not sent. Until then its owner may Edit and Withdraw it. Restarts do not
	// begin it anew. By default, the entry is due at once.
	Wait time.Duration
	// Yield has others of its lane pass the entry while it waits. By default, they wait behind it.
	Yield bool
	// Suspended has the entry begin as Suspend would have it.
	Suspended bool
	// Tentative says that nobody has been told yet that the file is accepted. It goes with no Replaces. By default, it is accepted when Put returns.
	Tentative *Tentative
	// Replaces is the tracking id of an entry that is not due, and that leaves, unsent, when this one is in the outbox. If Put fails, or is cut
	// short by a crash, it stays. One that has left is no error. By default, there is none.
	Replaces string
}

// Forever is a Wait that only an Edit ends.
const Forever time.Duration = math.MaxInt64

// Entry is a file that waits in the outbox.
type Entry struct {
	ID        string // the tracking id: 32 hex digits of a UUIDv4, durable before the first attempt
	Name      string
	Lane      string
	Key       string
	Meta      json.RawMessage
	Path      string // where its bytes stand on the volume
	Size      int64  // bytes
	ModTime   time.Time
	Checksum  *uint32   // CRC-32C; nil if it is not known
	Accepted  time.Time // when Put took it
	Tentative bool      // nobody has been told that it is accepted
	Due       bool      // it may be sent, and can no longer be changed
	Yield     bool      // others of its lane pass it while it waits
	Until     time.Time // when its Wait ends; zero if it is due, or waits Forever
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
// is tried again, for ever. One whose outcome is not known (a method Unknown() bool
// that says true) is tried again with short pauses, while the target still knows the entry again. One that only a person can end
// (a method Operator() bool that says true) is logged as an ERROR. A panic counts as an error that is not permanent. Methods are
// called from several goroutines at once and must return soon after their context ended.
type Deliverer interface {
	// Targets names the current targets. None: entries are kept. It is called at the start of Run, after
	// Wake, and after a Send that failed. If there is a method Identity(target string) string, too, a target is what that says, such as the address of
	// a queue: one that gets another name has what it has acknowledged, and one that gets the name of another has not.
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
	// KeyOf gives the key of an entry that a version of this package without keys has written. By default, it has none.
	KeyOf func(e Entry) string
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

	// Reserve is the size, in bytes, of a file that is removed when the volume is full, so that what was sent can still be noted. By
	// default, 1 MiB; none if it is negative.
	Reserve int64

	// MinBackoff and MaxBackoff bound the pauses between attempts, which double after each failure and
	// are then shortened at random by up to half. By default, 1 s and 5 min.
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
	opts.Dir = path.Clean(opts.Dir)
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
	if opts.Reserve == 0 {
		opts.Reserve = 1 << 20
	}
	opts.Reserve = max(opts.Reserve, 0)
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

// Outbox is a durable queue of files. Its methods may be called from several goroutines.
type Outbox struct {
	opts    Options
	journal *journal
	reserve *reserve
	intakes *shared[[]*intake] // calls of Put
	dirSync *shared[struct{}]  // SyncDir of Options.Dir, shared by all who need it at the same time
	streams sync.WaitGroup     // of Run: streams and preparations

	// mu guards all that follows, and the entries, lanes, targets and preparations. It is never held over a call of the Deliverer or
	// work on the disk.
	mu   sync.Mutex
	cond sync.Cond // with mu: what anybody waits for may have changed

	running context.Context // Run's
	calls   context.Context // Run's, and its grace
	phase   phase
	wakes   int // calls of Wake
	closed  bool
	lastSeq uint64
	aside   sync.Mutex // held by Retry and Discard, before mu: one of them at a time

	entries map[trackingID]*entry
	keys    map[string]map[string]*entry // the newest version, by directory (with its slash) and name
	older   map[*entry]*entry            // the version of a key before this one
	usage   map[string]usage             // by the keys' first element
	lefts   []leftID                     // what left in the last minute, in that order
	late    map[string]lateRecord        // by key
	bytes   int64                        // of all entries
	failed  int                          // files in failed/
	moving  uint64                       // the id of the Move that an Edit is about; 0: none
	moved   uint64                       // the id of the last move

	lanes                 map[string]*lane
	targets               map[targetID]*target // all ever named in this process or in a record
	active                []*target            // the current ones; nil: the Deliverer has not named them to this Run
	sends                 int                  // calls of Send under way
	retargets, retargeted int                  // how often Targets was to be asked again, and up to which of these it has been
	targeting             retry.Trouble        // used by askTargets only

	prepGates    [2]gate // of preparations of small and of large files
	preps        map[*entry]*preparation
	prepWeight   int64             // of all preparations
	prepCount    [2]int            // of small and of large files
	toPrepare    [2][]*preparation // in this order
	preparers    [2]int            // goroutines that do
	unaudited    []*entry          // sent
	auditTrouble retry.Trouble
	leavers      []*entry // whose files are to go
	refused      bool     // the disk has refused to remove what was sent, and to note it: nothing is sent until it does either
	unsettled    int      // neither gone from the disk nor noted there as sent, and not to be sent any more
	disk         retry.Trouble
}

type usage struct {
	files int
	bytes int64
}

// Wake cuts all pauses short: targets, credentials or the stopped flag changed, so try now.
func (o *Outbox) Wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retargets++
	o.wakes++
	for _, t := range o.targets {
		t.gate.until = time.Time{}
	}
	for i := range o.prepGates {
		o.prepGates[i].until = time.Time{}
	}
	o.cond.Broadcast()
}

// Close gives the journal's files back. Run must have returned, and Put fails from now on.
func (o *Outbox) Close() error {
	o.locked(func() { o.closed = true })
	return o.journal.close()
}

// write adds the records of entries to the journal's next round; nil: there is nothing to write.
func (o *Outbox) write(entries ...*entry) *round[lines] { return o.writeWith(nil, entries...) }

// writeWith adds a further line, which is about several entries, or none.
func (o *Outbox) writeWith(further *journalLine, entries ...*entry) *round[lines] {
	return o.writeLines(further, nil, entries)
}

// writeTogether adds a line with the records of entries, which count together or, if a power cut tears it, not at all.
func (o *Outbox) writeTogether(line *journalLine, entries []*entry) *round[lines] {
	line.All = make([]record, len(entries))
	for i, e := range entries {
		line.All[i] = o.recordOf(e)
	}
	return o.writeLines(line, entries, nil)
}

// writeLines adds the records of entries, and a line that is about others. What a failed round may have left on the disk is made up for first: the
// records of its entries as they are now.
func (o *Outbox) writeLines(further *journalLine, about, entries []*entry) *round[lines] {
	if owed := o.journal.owed; len(owed) > 0 {
		o.journal.owed = nil
		written := map[*entry]bool{} // once: a disk that fails for long owes the same ones again and again
		for _, e := range about {
			written[e] = true
		}
		entries = slices.DeleteFunc(slices.Concat(owed, entries), func(e *entry) bool {
			again := written[e]
			written[e] = true
			return again
		})
	}
	if len(entries) == 0 && further == nil {
		return nil
	}
	return o.journal.add(func(l *lines) {
		var r record
		for _, e := range entries {
			if e.state != left {
				r = o.recordOf(e)
				l.of = append(l.of, lineOf{e, l.add(&r)})
			}
		}
		if further != nil {
			bytes := l.add(further)
			for _, e := range about {
				l.of = append(l.of, lineOf{e, bytes / int64(len(about))})
			}
		}
	})
}
