//go:build matrix

package matrix

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
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

// taker is where the outbox sends.
type taker struct {
	mu    sync.Mutex
	files []file
}

func (k *taker) Targets() []string { return []string{"taker"} }

func (k *taker) Prepare(_ context.Context, e outbox.Entry, open func() (disk.File, error)) (any, error) {
	in, err := open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	f, hash := file{name: e.Name, modified: e.ModTime}, sha256.New()
	f.size, err = io.Copy(hash, in)
	f.sum = [sha256.Size]byte(hash.Sum(nil))
	return f, err
}

func (k *taker) Send(_ context.Context, _ string, batch []outbox.Prepared) []error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range batch {
		k.files = append(k.files, p.Payload.(file))
	}
	return make([]error, len(batch))
}

func (k *taker) Audit(_ context.Context, batch []outbox.Prepared) []error {
	return make([]error, len(batch))
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
	n := &node{taker: &taker{}, log: newTranscript()}
	log := slog.New(n.log)
	box, err := outbox.Open(outbox.Options{FS: volume, Deliverer: n.taker, Log: log})
	require.NoError(t, err)
	files := drop.Options{
		FS: volume, Outbox: box, Describe: func(drop.File) (string, json.RawMessage) { return "", nil }, Log: log, WatchDir: filepath.Join(dir, "drop"),
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
	opts.Backend = newMaildrop(n.drop, nil)
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
	running.Go(func() { box.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		box.Close()
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
		return len(n.taker.got()) >= files && u.Waiting.Files == 0 && u.Found.Files == 0
	}, patience, 5*time.Millisecond, "%d files are delivered", files)
}
