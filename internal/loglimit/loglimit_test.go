package loglimit

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func client(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) lines(text string) (lines []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.b.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// run calls test with a limiter that runs in simulated time, and returns the log when it has ended.
func run(t *testing.T, test func(*testing.T, *Limiter, *buffer)) (b *buffer) {
	t.Helper()
	b = &buffer{}
	synctest.Test(t, func(t *testing.T) {
		l := New(slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { l.Run(ctx) })
		test(t, l, b)
		cancel()
		running.Wait()
	})
	return b
}

// times are how often all that was logged has happened.
func times(t *testing.T, lines []string) (sum int) {
	t.Helper()
	for _, line := range lines {
		n := 1
		if _, rest, ok := strings.Cut(line, " times="); ok {
			_, err := fmt.Sscan(rest, &n)
			require.NoError(t, err)
		}
		sum += n
	}
	return sum
}

func TestOneClientForADay(t *testing.T) {
	const hits = 24 * 3600
	b := run(t, func(t *testing.T, l *Limiter, b *buffer) {
		log := l.Logger(client(1)).With("session", 1)
		for i := range hits {
			log.Warn("refused", "name", i)
			time.Sleep(time.Second)
		}
	})
	lines := b.lines("refused")
	require.Contains(t, lines[0], "session=1 name=0")
	require.NotContains(t, lines[0], "times")
	require.Less(t, len(lines), 24+8)
	require.Greater(t, len(lines), 24, "at most an hour apart")
	require.Equal(t, hits, times(t, lines), "all are counted")
}

func TestTheRestIsToldWithoutAnother(t *testing.T) {
	run(t, func(t *testing.T, l *Limiter, b *buffer) {
		log := l.Logger(client(1)).With("user", "dock")
		for range 60 {
			log.Warn("refused")
		}
		require.Len(t, b.lines("refused"), 1)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		lines := b.lines("refused")
		require.Len(t, lines, 2)
		require.Contains(t, lines[1], "level=WARN msg=refused remote=10.0.0.1 user=dock times=59 since=1m0s")
		time.Sleep(2 * time.Hour)
		log.Warn("refused")
		lines = b.lines("refused")
		require.Len(t, lines, 3, "that is new")
		require.NotContains(t, lines[2], "times")
	})
}

func TestTheEndTellsAll(t *testing.T) {
	b := run(t, func(t *testing.T, l *Limiter, b *buffer) {
		for range 60 {
			l.Logger(client(1)).Warn("refused")
		}
	})
	require.Equal(t, 60, times(t, b.lines("refused")))
}

func TestWhatIsToldApart(t *testing.T) {
	run(t, func(t *testing.T, l *Limiter, b *buffer) {
		for range 10 {
			l.Logger(client(1)).Warn("one")
			l.Logger(client(1)).Warn("another")
			l.Logger(client(1)).Error("one")
			l.Logger(client(2)).Warn("one")
			l.Logger(client(1)).With("session", 7).With("user", "a").Warn("one")
			l.Logger(client(1)).With("user", "b").Warn("one")
			l.Logger(client(1)).WithGroup("g").With("x", 1).Warn("one")
			l.Logger(client(1)).Debug("command")
		}
		require.Len(t, b.lines("msg=one"), 5)
		require.Len(t, b.lines("msg=another"), 1)
		require.Len(t, b.lines("msg=command"), 10)
	})
}

// TestManyClients has more of them than are told apart, each with the same line every minute.
func TestManyClients(t *testing.T) {
	const clients, rounds = 3 * maxEntries, 20
	b := run(t, func(t *testing.T, l *Limiter, b *buffer) {
		for range rounds {
			for i := range clients {
				l.Logger(client(i)).Warn("refused")
			}
			time.Sleep(time.Minute)
		}
		require.LessOrEqual(t, len(l.entries), maxEntries+maxOthers)
		for i := range 1000 {
			l.Logger(client(i + clients)).Warn(fmt.Sprint("line ", i))
		}
		require.LessOrEqual(t, len(l.entries), maxEntries+maxOthers+1)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Empty(t, l.entries, "silence is forgotten")
	})
	lines := b.lines("refused")
	require.Equal(t, clients*rounds, times(t, lines))
	require.Less(t, len(lines), 7*maxEntries)
	require.Less(t, len(b.lines("line ")), 100)
	require.NotEmpty(t, b.lines("further lines"))
}
