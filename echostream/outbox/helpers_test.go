package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// cloud is a Deliverer whose every attempt can be scripted, and that remembers what reached it.
type cloud struct {
	mu         sync.Mutex
	targets    []string
	identities map[string]string // of the targets, by name; "" or nil: none

	// Scripts: the next error for each key ("prepare NAME", "send TARGET NAME", "audit NAME"); when a
	// script is at its end, all is well.
	scripts map[string][]error
	// Hooks, called without the lock.
	onPrepare func(ctx context.Context, e Entry) error
	onSend    func(ctx context.Context, target string, names []string) error
	onAudit   func(ctx context.Context, names []string) error

	prepared map[string]int
	calls    []call
	received map[string][]Prepared // by target
	audited  []string
}

// call is one call of Send or Audit.
type call struct {
	target string // "" for Audit
	names  []string
	at     time.Time
}

// payload is the bytes of the file.
type payload string

func (p payload) Size() int { return len(p) }

func newCloud(targets ...string) *cloud {
	return &cloud{targets: targets, scripts: map[string][]error{}, prepared: map[string]int{}, received: map[string][]Prepared{}}
}

func (c *cloud) script(key string, errs ...error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scripts[key] = errs
}

func (c *cloud) setTargets(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.targets = names
}

func (c *cloud) next(key string) error {
	script := c.scripts[key]
	if len(script) == 0 {
		return nil
	}
	c.scripts[key] = script[1:]
	return script[0]
}

func (c *cloud) Targets() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.targets)
}

func (c *cloud) Identity(target string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identities[target]
}

func (c *cloud) Prepare(ctx context.Context, e Entry, open func() (disk.File, error)) (any, error) {
	if c.onPrepare != nil {
		if err := c.onPrepare(ctx, e); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	c.prepared[e.Name]++
	err := c.next("prepare " + e.Name)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	f, err := open()
	if err != nil {
		return nil, fmt.Errorf("preparing: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return payload(data), err
}

func (c *cloud) Send(ctx context.Context, target string, batch []Prepared) []error {
	names := namesOf(batch)
	results := make([]error, len(batch))
	if c.onSend != nil {
		if err := c.onSend(ctx, target, names); err != nil {
			return slices.Repeat([]error{err}, len(batch))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call{target, names, time.Now()})
	for i, p := range batch {
		if results[i] = c.next("send " + target + " " + p.Entry.Name); results[i] == nil {
			c.received[target] = append(c.received[target], p)
		}
	}
	return results
}

func (c *cloud) Audit(ctx context.Context, batch []Prepared) []error {
	names := namesOf(batch)
	results := make([]error, len(batch))
	if c.onAudit != nil {
		if err := c.onAudit(ctx, names); err != nil {
			return slices.Repeat([]error{err}, len(batch))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call{"", names, time.Now()})
	for i, name := range names {
		if results[i] = c.next("audit " + name); results[i] == nil {
			c.audited = append(c.audited, name)
		}
	}
	return results
}

func namesOf(batch []Prepared) (names []string) {
	for _, p := range batch {
		names = append(names, p.Entry.Name)
	}
	return names
}

// got is the names that a target has received.
func (c *cloud) got(target string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return namesOf(c.received[target])
}

func (c *cloud) sends(target string) (calls []call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.calls {
		if one.target == target {
			calls = append(calls, one)
		}
	}
	return calls
}

// permanent is an error that says trying again is of no use.
type permanent string

func (p permanent) Error() string { return string(p) }
func (permanent) Permanent() bool { return true }

// stale says that the payload is of no use any more.
type stale string

func (s stale) Error() string { return string(s) }
func (stale) Stale() bool     { return true }

var errDown = errors.New("out of reach")

// logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) lines(with string) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, with) {
			lines = append(lines, line)
		}
	}
	return lines
}

// rig is an outbox under test with all around it.
type rig struct {
	t     testing.TB
	fs    disk.FS
	cloud *cloud
	log   *logBuffer
	opts  Options
	// segmentSize is that of the journal. By default, maxSegmentSize.
	segmentSize int64

	*Outbox
	mu   sync.Mutex
	gone []string // "delivered NAME", "failed NAME"
	stop func()
}

// volumes are the disks that each behaviour is tested on.
var volumes = map[string]func(t testing.TB) disk.FS{
	"real": func(t testing.TB) disk.FS {
		fsys, err := disk.Open(t.TempDir())
		require.NoError(t, err)
		t.Cleanup(func() { fsys.Close() })
		return fsys
	},
	"simulated": func(t testing.TB) disk.FS { return disktest.New(1) },
}

// onEachVolume runs a test on the real and on the simulated disk.
func onEachVolume(t *testing.T, test func(t *testing.T, fsys disk.FS)) {
	for name, volume := range volumes {
		t.Run(name, func(t *testing.T) { test(t, volume(t)) })
	}
}

// smallSegment, as a rig's segmentSize, shows with a few lines what else takes megabytes.
const smallSegment = 16 << 10

func newRig(t testing.TB, fsys disk.FS, targets ...string) *rig {
	r := &rig{t: t, fs: fsys, cloud: newCloud(targets...), log: &logBuffer{}}
	require.NoError(t, disk.MkdirAll(fsys, "drop", 0o700))
	r.opts = Options{FS: fsys, Deliverer: r.cloud, Reserve: 4096, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Gone: func(e Entry, why Gone) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.gone = append(r.gone, why.String()+" "+e.Name)
		}}
	t.Cleanup(func() { r.halt() })
	return r
}

// open opens the outbox, again if it was open.
func (r *rig) open() *rig {
	r.t.Helper()
	r.halt()
	o, err := Open(r.opts)
	require.NoError(r.t, err)
	if r.segmentSize > 0 {
		o.journal.segmentSize = r.segmentSize
	}
	r.Outbox = o
	return r
}

// halt ends Run and closes the outbox.
func (r *rig) halt() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
	if r.Outbox != nil {
		require.NoError(r.t, r.Outbox.Close())
		r.Outbox = nil
	}
}

// run starts Run.
func (r *rig) run() *rig {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	o := r.Outbox
	go func() { done <- o.Run(ctx) }()
	r.stop = func() {
		cancel()
		require.NoError(r.t, <-done)
	}
	return r
}

// write makes a finished file.
func (r *rig) write(name, content string) Item {
	r.t.Helper()
	item := Item{Path: path.Join("drop", fmt.Sprintf("%x", name)), Name: name}
	require.NoError(r.t, writeFile(r.fs, item.Path, content))
	return item
}

func writeFile(fsys disk.FS, name, content string) error {
	f, err := fsys.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write([]byte(content)); err != nil {
		f.Close()
		return err
	}
	return disk.Commit(fsys, f, name, name)
}

// put makes files of the given names and takes them in; the content of each is its name.
func (r *rig) put(names ...string) []Entry {
	r.t.Helper()
	items := make([]Item, len(names))
	for i, name := range names {
		items[i] = r.write(name, "content of "+name)
	}
	entries, errs := r.Put(context.Background(), items)
	for i := range errs {
		require.NoError(r.t, errs[i])
	}
	return entries
}

// eventually waits for a condition.
func (r *rig) eventually(condition func() bool, message string) {
	r.t.Helper()
	require.Eventually(r.t, condition, 10*time.Second, time.Millisecond, message)
}

// empty waits until nothing waits any more.
func (r *rig) empty() {
	r.t.Helper()
	r.eventually(func() bool { return r.Stats().Entries == 0 }, "entries are left")
}

func (r *rig) goneList() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.gone)
}

// files lists a directory.
func (r *rig) files(dir, suffix string) (names []string) {
	r.t.Helper()
	entries, err := r.fs.ReadDir(dir)
	require.NoError(r.t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	return names
}

func readFile(fsys disk.FS, name string) (string, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return string(data), err
}

// numbered makes names.
func numbered(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%03d", prefix, i))
	}
	return names
}

// take takes items in; all must succeed.
func (r *rig) take(items ...Item) []Entry {
	r.t.Helper()
	entries, errs := r.Put(context.Background(), items)
	for _, err := range errs {
		require.NoError(r.t, err)
	}
	return entries
}

// item makes a finished file for a key, as an owner of entries does.
func (r *rig) item(name string, change func(*Item)) Item {
	r.t.Helper()
	item := r.write(name, "content of "+name)
	item.Key = "user/" + name
	if change != nil {
		change(&item)
	}
	return item
}

// crash goes on with what a crash leaves of the simulated disk; the outbox is neither stopped nor closed. Run must not be running.
func (r *rig) crash(policy disktest.Policy) *rig {
	r.t.Helper()
	r.Outbox = nil
	r.fs = r.fs.(*disktest.FS).Crash(policy)
	r.opts.FS = r.fs
	return r.open()
}

// lookup gives the newest entry of a key.
func (r *rig) lookup(key string) Entry {
	r.t.Helper()
	e, ok := r.Lookup(key)
	require.True(r.t, ok, "no entry has the key %q", key)
	return e
}

// lineOfJSON is v as a line of the journal.
func lineOfJSON(v any) []byte {
	var l lines
	l.add(v)
	return l.data.Bytes()
}

func ptr[T any](v T) *T { return &v }

// totals are the Stats without those of targets.
func (r *rig) totals() Stats {
	stats := r.Stats()
	stats.Targets = nil
	return stats
}
