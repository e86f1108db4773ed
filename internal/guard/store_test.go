package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// kept is a Store that counts.
type kept struct {
	mu    sync.Mutex
	data  []byte
	saves int
	err   error
}

// saved is how often something was.
func (k *kept) saved() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.saves
}

func (k *kept) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *kept) Load() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.data == nil && k.err == nil {
		return nil, fs.ErrNotExist
	}
	return k.data, k.err
}

func (k *kept) Save(data []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.saves++
	if k.err == nil {
		k.data = data
	}
	return k.err
}

// run keeps g until the function that it returns is called.
func run(t *testing.T, g *Guard) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		g.Keep(ctx)
		close(ended)
	}()
	return func() {
		cancel()
		<-ended
	}
}

func TestKnownAddressesSurvive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &kept{}
		v6 := netip.MustParseAddr("2001:db8::7")
		g := New(Options{Store: store})
		stop := run(t, g)
		g.Succeeded("dock", one)
		g.Succeeded("dök \"1\"\n", v6)
		g.Failed("dock", true, two)
		stop()
		require.NotContains(t, string(store.data), two.String())

		g = New(Options{Store: store, UserFailures: 1})
		g.Failed("dock", true, two)
		require.True(t, g.UserBanned("dock", two))
		require.False(t, g.UserBanned("dock", one))
		require.True(t, g.Known(one))
		require.True(t, g.Known(netip.MustParseAddr("2001:db8::8")))
		require.False(t, g.Known(two))
		g.Failed("dök \"1\"\n", true, two)
		require.False(t, g.UserBanned("dök \"1\"\n", v6))
	})
}

// TestSavingIsRare has one device log in every second for three days.
func TestSavingIsRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &kept{}
		g := New(Options{Store: store})
		stop := run(t, g)
		g.Succeeded("dock", one)
		synctest.Wait()
		require.Equal(t, 1, store.saved(), "what is new is saved at once")
		for range 3 * 24 * 3600 {
			g.Succeeded("dock", one)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		require.Equal(t, 1+3*24, store.saved())
		for i := range 120 { // somebody who changes his address each second
			g.Succeeded("dock", netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		require.LessOrEqual(t, store.saved(), 1+3*24+13)
		before := store.saved()
		g.Succeeded("dock", one)
		stop()
		require.Equal(t, before+1, store.saved(), "what has changed is saved at the end")
		stop = run(t, g)
		time.Sleep(24 * time.Hour)
		stop()
		require.Equal(t, before+1, store.saved(), "nothing has changed")
	})
}

func TestTroubleWithTheStore(t *testing.T) {
	for name, store := range map[string]*kept{
		"no JSON":       {data: []byte("\x00\x00\x00")},
		"cut off":       {data: []byte(`{"version":1,"known":[{"user":"do`)},
		"another":       {data: []byte(`{"version":2,"known":[]}`)},
		"address":       {data: []byte(`{"version":1,"known":[{"user":"dock","client":"192.0.2.300/32"}]}`)},
		"whole network": {data: []byte(`{"version":1,"known":[{"user":"dock","client":"192.0.2.1/32"},{"user":"dock","client":"0.0.0.0/0"}]}`)},
		"nobody":        {data: []byte(`{"version":1,"known":[{"user":"","client":"192.0.2.1/32"}]}`)},
		"unreadable":    {err: errors.New("input/output error")},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			g := New(Options{Store: store, Log: slog.New(slog.NewTextHandler(&log, nil))})
			require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), log.String())
			require.False(t, g.Known(one), "all or nothing")
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		store := &kept{}
		g := New(Options{Store: store, Log: slog.New(slog.NewTextHandler(&log, nil))})
		store.fail(errors.New("read-only file system"))
		stop := run(t, g)
		g.Succeeded("dock", one)
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		require.Contains(t, log.String(), "cannot be saved")
		store.fail(nil)
		time.Sleep(time.Hour)
		stop()
		require.Contains(t, log.String(), "can be saved again")
		require.True(t, New(Options{Store: store}).Known(one))
	})
}

func TestWhatIsKeptIsBounded(t *testing.T) {
	store := &kept{}
	g := New(Options{Store: store})
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range 2 * maxEntries {
		g.Succeeded(fmt.Sprint(strings.Repeat("\x01", 100), i%3), address(i))
	}
	require.Len(t, g.trusted, maxEntries, "what is forgotten is not trusted")
	require.False(t, g.Known(address(0)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Keep(ctx)
	require.Less(t, len(store.data), maxSaved)
	g = New(Options{Store: store})
	require.True(t, g.Known(address(2*maxEntries-1)), "the ones seen last are kept")
}
