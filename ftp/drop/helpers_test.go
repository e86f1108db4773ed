package drop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"path"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

var remote = netip.MustParseAddr("192.0.2.7")

// shelf is a Taker that keeps what it takes in a directory of the volume, under numbers, durably.
type shelf struct {
	fs disk.FS

	mu     sync.Mutex
	files  []File             // taken, in order; File.Path is where it stands now
	ids    []string           // theirs
	gone   map[string]bool    // by id
	fail   func(File) error   // decides whether a file is refused
	during func(files []File) // called in Take before anything is done
	calls  []int              // the number of files of each Take
}

func newShelf(t require.TestingT, fs disk.FS) *shelf {
	require.NoError(t, disk.MkdirAll(fs, "out", 0o700))
	return &shelf{fs: fs, gone: map[string]bool{}}
}

func (s *shelf) Take(_ context.Context, files []File) (ids []string, errs []error) {
	if s.during != nil {
		s.during(files)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, len(files))
	var failed error
	for _, f := range files {
		id, err := "", failed
		if err == nil {
			id, err = s.take(f)
		}
		if err != nil && !isPermanent(err) {
			failed = err // what is behind it waits too
		}
		ids, errs = append(ids, id), append(errs, err)
	}
	return ids, errs
}

func (s *shelf) take(f File) (string, error) {
	if s.fail != nil {
		if err := s.fail(f); err != nil {
			return "", err
		}
	}
	id := fmt.Sprintf("%06d", len(s.files))
	to := path.Join("out", id)
	if err := s.fs.Rename(f.Path, to); err != nil {
		return "", err
	}
	if err := s.fs.SyncDir("out"); err != nil {
		return "", err
	}
	f.Path = to
	s.files, s.ids = append(s.files, f), append(s.ids, id)
	return id, nil
}

func (s *shelf) Waiting() iter.Seq2[string, File] {
	return func(yield func(string, File) bool) {
		for i, id := range s.ids {
			if !s.gone[id] && !yield(id, s.files[i]) {
				return
			}
		}
	}
}

// Open makes it an Opener.
func (s *shelf) Open(id string) (disk.File, error) { return s.fs.OpenFile("out/"+id, 0, 0) }

// taken lists what was taken: user, name and content.
func (s *shelf) taken(t require.TestingT) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []string{}
	for _, f := range s.files {
		list = append(list, fmt.Sprintf("%s:%s=%s", f.User, f.Name, read(t, s.fs, f.Path)))
	}
	return list
}

// last is the id of the file that was taken last.
func (s *shelf) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[len(s.ids)-1]
}

func (s *shelf) setFail(fail func(File) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
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

// rig is a Drop on a simulated disk, with fake time: the test runs in a synctest bubble.
type rig struct {
	*testing.T
	fs    *disktest.FS
	shelf *shelf
	log   *logBook
	opts  Options
	d     *Drop
	user  *UserDir
	s     *Session
	stop  func()
}

// bubble runs test with a running Drop and the user "scanner". change may change the options; nil: none.
func bubble(t *testing.T, change func(*Options), test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fsys := disktest.New(1)
		fsys.SetClock(time.Now)
		r := &rig{T: t, fs: fsys, shelf: newShelf(t, fsys), log: &logBook{}}
		r.opts = Options{FS: fsys, Taker: r.shelf, MinFree: -1}
		r.opts.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if change != nil {
			change(&r.opts)
		}
		r.start()
		defer func() { r.stop() }()
		test(r)
	})
}

// start opens the Drop (again) and runs it.
func (r *rig) start() {
	d, err := Open(r.opts)
	require.NoError(r, err)
	user, err := d.User("scanner", "scanner")
	require.NoError(r, err)
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	r.d, r.user, r.s = d, user, user.Session(remote)
	r.stop = func() {
		cancel()
		require.NoError(r, <-done)
		r.stop = func() {}
	}
}

func (r *rig) restart() {
	r.stop()
	r.start()
}

// pass lets time pass; everything that is due then has been done.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

func (r *rig) create(name string, w Write) *Upload {
	r.Helper()
	u, err := r.s.Create(name, w)
	require.NoError(r, err)
	return u
}

func (r *rig) begin(name string, w Write, content string) *Upload {
	r.Helper()
	u := r.create(name, w)
	_, err := u.Write([]byte(content))
	require.NoError(r, err)
	return u
}

func (r *rig) put(name, content string) {
	r.Helper()
	require.NoError(r, r.begin(name, Write{}, content).Commit())
}

var errCut = errors.New("connection lost")

func (r *rig) interrupt(name string, w Write, content string) {
	r.Helper()
	require.NoError(r, r.begin(name, w, content).Interrupt(errCut))
}

func (r *rig) size(name string) int64 {
	r.Helper()
	fi, err := r.s.Stat(name)
	require.NoError(r, err)
	return fi.Size()
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

func (r *rig) wantTaken(files ...string) {
	r.Helper()
	require.Equal(r, append([]string{}, files...), r.shelf.taken(r))
}

// permanent is an error that says that it will not pass.
type permanent struct{ error }

func (permanent) Permanent() bool { return true }
