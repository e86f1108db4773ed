//go:build matrix

package matrix

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// patience is for what must happen; nothing is measured.
const patience = 30 * time.Second

// file is one that was, or is to be, delivered.
type file struct {
	name     string
	sum      [sha256.Size]byte
	size     int64
	modified time.Time // zero: whatever it is
}

func (f file) String() string { return fmt.Sprintf("%q (%d bytes, %x)", f.name, f.size, f.sum[:4]) }

func fileOf(name string, content []byte) file {
	return file{name: name, sum: sha256.Sum256(content), size: int64(len(content))}
}

var errHeld = errors.New("held by the test")

// taker takes files as the outbox does, and delivers them at once.
type taker struct {
	dir   string // the volume
	gone  chan string
	mu    sync.Mutex
	files []file
	held  bool
}

// hold makes the taker take nothing, as when the outbox is full.
func (k *taker) hold(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = on
}

func (k *taker) Waiting() iter.Seq2[string, drop.File] { return func(func(string, drop.File) bool) {} }

func (k *taker) Take(_ context.Context, files []drop.File) (ids []string, errs []error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range files {
		id := fmt.Sprintf("taken-%d", len(k.files))
		if k.held {
			ids, errs = append(ids, ""), append(errs, errHeld)
			continue
		}
		taken, err := k.take(f, filepath.Join(k.dir, id))
		if err == nil {
			k.files = append(k.files, taken)
			k.gone <- id
		}
		ids, errs = append(ids, id), append(errs, err)
	}
	return ids, errs
}

func (k *taker) take(f drop.File, to string) (file, error) {
	if err := os.Rename(filepath.Join(k.dir, f.Path), to); err != nil {
		return file{}, err
	}
	in, err := os.Open(to)
	if err != nil {
		return file{}, err
	}
	defer in.Close()
	defer os.Remove(to)
	taken, hash := file{name: f.Name, modified: f.ModTime}, sha256.New()
	if taken.size, err = io.Copy(hash, in); err != nil {
		return file{}, err
	}
	taken.sum = [sha256.Size]byte(hash.Sum(nil))
	return taken, nil
}

func (k *taker) got() []file {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.files)
}

// transcript is a log that keeps the commands of the clients, and the rest for when a cell fails.
type transcript struct {
	mu       sync.Mutex
	commands []string
	text     bytes.Buffer
	slog.Handler
}

func newTranscript() *transcript {
	s := &transcript{}
	s.Handler = slog.NewTextHandler(&s.text, &slog.HandlerOptions{Level: slog.LevelDebug})
	return s
}

func (s *transcript) Enabled(context.Context, slog.Level) bool { return true }
func (s *transcript) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *transcript) WithGroup(string) slog.Handler            { return s }

func (s *transcript) Handle(ctx context.Context, r slog.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Message == "command" {
		var words []string
		r.Attrs(func(a slog.Attr) bool {
			words = append(words, a.Value.String())
			return true
		})
		s.commands = append(s.commands, strings.TrimSpace(strings.Join(words, " ")))
	}
	return s.Handler.Handle(ctx, r)
}

func (s *transcript) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands)
}

func (s *transcript) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// node is a server on loopback with the user "dock", password "pass".
type node struct {
	addr, port string
	drop       *drop.Drop
	taker      *taker
	log        *transcript
}

func start(t *testing.T, change func(*ftp.Options, *drop.Options)) *node {
	t.Helper()
	dir := t.TempDir()
	volume, err := disk.Open(dir)
	require.NoError(t, err)
	n := &node{taker: &taker{dir: dir, gone: make(chan string, 1000)}, log: newTranscript()}
	log := slog.New(n.log)
	files := drop.Options{
		FS: volume, Taker: n.taker, Log: log, WatchDir: filepath.Join(dir, "drop"),
		Settle: 100 * time.Millisecond, MinFree: -1,
	}
	opts := ftp.Options{
		Users: []ftp.User{{Name: "dock", Password: "pass", Readable: true}},
		Log:   log, MaxConnectionsPerAddress: 50, CertificateFS: volume,
	}
	if change != nil {
		change(&opts, &files)
	}
	n.drop, err = drop.Open(files)
	require.NoError(t, err)
	opts.Drop = n.drop
	opts.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n.addr = opts.Listener.Addr().String()
	_, n.port, _ = net.SplitHostPort(n.addr)
	server, err := ftp.New(opts)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Serve(ctx); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	running.Go(func() { n.drop.Run(ctx) })
	running.Go(func() {
		for {
			select {
			case id := <-n.taker.gone:
				n.drop.Gone(id)
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		volume.Close()
		if t.Failed() {
			t.Logf("the server's log:\n%s", n.log)
		}
	})
	return n
}

// delivered waits for files to be taken and gone, so that nothing else waits.
func (n *node) delivered(t *testing.T, files int) {
	t.Helper()
	require.Eventually(t, func() bool {
		u := n.drop.Usage()
		return len(n.taker.got()) >= files && u.Taken.Files == 0 && u.Finished.Files == 0
	}, patience, 5*time.Millisecond, "%d files are delivered", files)
}
