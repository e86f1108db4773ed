package drop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

var remote = netip.MustParseAddr("192.0.2.7")

// sink is where the outbox sends: a Deliverer that keeps what it gets.
type sink struct {
	mu   sync.Mutex
	got  []sent
	away bool   // it takes nothing
	more string // a second target, which refuses everything for good
}

// sent is a message.
type sent struct {
	outbox.Entry
	File    File // as Describe was told
	content string
}

func (s *sink) Targets() []string {
	if s.more != "" {
		return []string{"target", s.more}
	}
	return []string{"target"}
}

// never is an error that says that trying again is of no use.
type never struct{}

func (never) Error() string   { return "it is never taken here" }
func (never) Permanent() bool { return true }

func (s *sink) Prepare(_ context.Context, _ outbox.Entry, open func() (disk.File, error)) (any, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	return string(content), err
}

func (s *sink) Send(_ context.Context, target string, batch []outbox.Prepared) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(batch))
	for i, p := range batch {
		if target == s.more {
			errs[i] = never{}
			continue
		}
		if s.away {
			errs[i] = errors.New("away")
			continue
		}
		var f File
		errs[i] = json.Unmarshal(p.Entry.Meta, &f)
		s.got = append(s.got, sent{p.Entry, f, p.Payload.(string)})
	}
	return errs
}

func (s *sink) Audit(_ context.Context, batch []outbox.Prepared) []error {
	return make([]error, len(batch))
}

// list lists what was sent: user, name and content.
func (s *sink) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []string{}
	for _, m := range s.got {
		list = append(list, fmt.Sprintf("%s:%s=%s", m.File.User, m.Name, m.content))
	}
	return list
}

func (s *sink) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// describe is Options.Describe of the tests: one lane, and File itself.
func describe(f File) (lane string, meta json.RawMessage) {
	meta, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	return "", meta
}

func read(t require.TestingT, fsys disk.FS, name string) string {
	f, err := fsys.OpenFile(name, 0, 0)
	require.NoError(t, err)
	defer f.Close()
	data, err := io.ReadAll(f)
	require.NoError(t, err)
	return string(data)
}

// write makes a file as another program does it.
func write(t require.TestingT, fsys disk.FS, name, content string) {
	f, err := fsys.OpenFile(name, 0x241, 0o600) // O_WRONLY|O_CREAT|O_TRUNC
	require.NoError(t, err)
	_, err = f.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// logBook collects log lines; safe for concurrent use.
type logBook struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.String()
}

// rig is a Drop over an outbox on a simulated disk, with fake time: the test runs in a synctest bubble.
type rig struct {
	*testing.T
	fs   *disktest.FS
	sink *sink
	box  *outbox.Outbox
	log  *logBook
	opts Options
	d    *Drop
	user *UserDir
	s    *Session
	stop func()
	// stopDrop stops only the Drop.
	stopDrop func()
}

// bubble runs test with a running Drop and the user "scanner". change may change the options; nil: none.
func bubble(t *testing.T, change func(*Options), test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fsys := disktest.New(1)
		fsys.SetClock(time.Now)
		r := &rig{T: t, fs: fsys, sink: &sink{}, log: &logBook{}}
		r.opts = Options{FS: fsys, Describe: describe, MinFree: -1}
		r.opts.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if change != nil {
			change(&r.opts)
		}
		r.start()
		defer func() { r.stop() }()
		test(r)
	})
}

// start opens the outbox and the Drop (again) and runs them.
func (r *rig) start() {
	box, err := outbox.Open(outbox.Options{FS: r.opts.FS, Reserve: -1, Deliverer: r.sink, Log: r.opts.Log, MaxBackoff: time.Second})
	require.NoError(r, err)
	r.opts.Outbox, r.box = box, box
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	go func() { done <- box.Run(ctx) }()
	r.startDrop()
	r.stop = func() {
		r.stopDrop()
		cancel()
		require.NoError(r, <-done)
		require.NoError(r, box.Close())
		r.stop = func() {}
	}
}

// startDrop opens the Drop (again) and runs it.
func (r *rig) startDrop() {
	r.openDrop()
	r.runDrop()
}

// openDrop is startDrop but for Run.
func (r *rig) openDrop() {
	d, err := Open(r.opts)
	require.NoError(r, err)
	user, err := d.User("scanner", "scanner")
	require.NoError(r, err)
	r.d, r.user, r.s = d, user, user.Session(remote)
}

func (r *rig) runDrop() {
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	d := r.d
	go func() { done <- d.Run(ctx) }()
	r.stopDrop = func() {
		cancel()
		require.NoError(r, <-done)
	}
}

func (r *rig) restart() {
	r.stop()
	r.start()
}

// crash goes on with what a crash leaves.
func (r *rig) crash(policy disktest.Policy) {
	r.Helper()
	r.stop()
	r.fs = r.fs.Crash(policy)
	r.opts.FS = r.fs
	r.start()
}

// pass lets time pass; everything that is due then has been done.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

func (r *rig) create(name string, w Start) *Upload {
	r.Helper()
	u, err := r.s.Create(name, w)
	require.NoError(r, err)
	return u
}

func (r *rig) begin(name string, w Start, content string) *Upload {
	r.Helper()
	u := r.create(name, w)
	_, err := u.Write([]byte(content))
	require.NoError(r, err)
	return u
}

func (r *rig) put(name, content string) {
	r.Helper()
	require.NoError(r, r.begin(name, Start{}, content).Commit())
}

var errCut = errors.New("connection lost")

func (r *rig) interrupt(name string, w Start, content string) {
	r.Helper()
	require.NoError(r, r.begin(name, w, content).Interrupt(errCut))
}

func (r *rig) size(name string) int64 {
	r.Helper()
	fi, err := r.s.Stat(name)
	require.NoError(r, err)
	return fi.Size()
}

// received is how many bytes an unfinished upload has, without telling r.s.
func (r *rig) received(name string) int64 {
	r.Helper()
	fi, err := r.user.Session(netip.MustParseAddr("192.0.2.99")).Stat(name)
	require.NoError(r, err)
	require.True(r, fi.(*info).unfinished)
	return fi.Size() + 1
}

func (r *rig) names(dir string) []string {
	r.Helper()
	list, err := r.s.ReadDir(dir)
	require.NoError(r, err)
	names := []string{}
	for _, fi := range list {
		names = append(names, fi.Name())
	}
	return names
}

func (r *rig) wantSent(files ...string) {
	r.Helper()
	if len(r.sink.list()) < len(files) {
		r.pass(10 * time.Millisecond) // the outbox gathers what is due soon after another
	}
	require.Equal(r, append([]string{}, files...), r.sink.list())
}

// waiting lists what is in the outbox, in its order: name and content.
func (r *rig) waiting() []string {
	r.Helper()
	list := []string{}
	for e := range r.box.Entries() {
		list = append(list, e.Name+"="+read(r, r.fs, e.Path))
	}
	return list
}
