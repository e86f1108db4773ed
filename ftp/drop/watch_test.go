package drop

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of this file run on the file system of the machine, with its events and in its time.

const soon = 20 * time.Second // by then what is waited for has happened, on the slowest machine

func runReal(t *testing.T, d *Drop) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
}

func TestEventsOfOtherPrograms(t *testing.T) {
	d, _, sink, dir := realDrop(t, func(o *Options) {
		o.Quiet, o.Rescan = 10*time.Millisecond, time.Hour // what is found, is found by events
	})
	runReal(t, d)
	top := filepath.Join(dir, "drop", "scanner")
	want := []string{}
	for _, name := range []string{"a", "sub/deep/b", "M\xfcller.csv", "sub/deep/c"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(top, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(top, name), []byte("x"), 0o600))
		want = append(want, "scanner:"+name+"=x")
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.Equal(c, want, sink.list())
		}, soon, time.Millisecond)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "elsewhere"), []byte("moved"), 0o600))
	require.NoError(t, os.Rename(filepath.Join(dir, "elsewhere"), filepath.Join(top, "moved")))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		require.Equal(c, append(want, "scanner:moved=moved"), sink.list())
	}, soon, time.Millisecond)
}

func TestRescanWithoutEvents(t *testing.T) {
	d, _, sink, dir := realDrop(t, func(o *Options) {
		o.Quiet, o.Rescan, o.WatchDir = time.Millisecond, 5*time.Millisecond, ""
	})
	runReal(t, d)
	top := filepath.Join(dir, "drop", "scanner")
	require.NoError(t, os.WriteFile(filepath.Join(top, "a"), []byte("x"), 0o600))
	require.Eventually(t, func() bool { return len(sink.list()) == 1 }, soon, time.Millisecond)
	require.NoError(t, os.Remove(top))
	require.Eventually(t, func() bool { _, err := os.Stat(top); return err == nil }, soon, time.Millisecond)
}

func TestWatchDirThatCannotBeWatched(t *testing.T) {
	log := &logBook{}
	d, _, sink, dir := realDrop(t, func(o *Options) {
		o.Quiet, o.Rescan = time.Millisecond, 5*time.Millisecond
		o.WatchDir = filepath.Join(o.WatchDir, "nowhere")
		o.Log = slog.New(slog.NewTextHandler(log, nil))
	})
	runReal(t, d)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "drop", "scanner", "a"), []byte("x"), 0o600))
	require.Eventually(t, func() bool { return len(sink.list()) == 1 }, soon, time.Millisecond)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "found by the rescan only") }, soon, time.Millisecond)
}

// Many sessions at once, on the same few names: every acknowledged upload that was not replaced is taken, whole, and
// the books balance.
func TestManySessionsAtOnce(t *testing.T) {
	d, u, sink, _ := realDrop(t, func(o *Options) {
		o.Settle, o.Rescan = time.Millisecond, 5*time.Millisecond
	})
	runReal(t, d)
	const clients, uploads = 8, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	own := map[string]bool{} // acknowledged under a name of its own
	for c := range clients {
		wg.Go(func() {
			s := u.Session(netip.Addr{})
			for i := range uploads {
				content := fmt.Sprintf("client %d upload %d", c, i)
				shared, mine := fmt.Sprintf("/shared %d", i%3), fmt.Sprintf("/own %d %d", c, i)
				for _, name := range []string{shared, mine + ".tmp"} {
					up, err := s.Create(name, Start{Append: name == shared && i%4 == 0})
					if err != nil {
						continue
					}
					if _, err := up.Write([]byte(content)); err != nil || i%7 == 3 {
						_ = up.Interrupt(errCut)
						continue
					}
					if up.Commit() == nil && name != shared && s.Rename(name, mine) == nil {
						mu.Lock()
						own["scanner:"+mine[1:]+"="+content] = true
						mu.Unlock()
					}
				}
				_ = s.Remove(shared)
				_, _ = s.ReadDir("/")
				_, _ = s.Stat(shared)
			}
		})
	}
	wg.Wait()
	require.Len(t, own, clients*(uploads-uploads/7-1))
	require.Eventually(t, func() bool {
		sent := map[string]int{}
		for _, f := range sink.list() {
			sent[f]++
		}
		for f := range own {
			if sent[f] != 1 {
				return false
			}
		}
		return true
	}, soon, time.Millisecond)
	s := u.Session(netip.Addr{})
	for i := range 3 {
		_ = s.Remove(fmt.Sprintf("/shared %d", i))
	}
	for c := range clients {
		for i := range uploads {
			_ = s.Remove(fmt.Sprintf("/own %d %d.tmp", c, i))
		}
	}
	require.Eventually(t, func() bool { return d.Usage() == Usage{} }, soon, time.Millisecond)
	require.Empty(t, d.ledger.files)
	require.Empty(t, d.uploads.open)
	require.Empty(t, d.names.names)
}
