package guard

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var (
	one = netip.MustParseAddr("192.0.2.1")
	two = netip.MustParseAddr("192.0.2.2")
)

// clock is a time that tests move.
type clock struct{ now time.Time }

func newGuard(opts Options) (*Guard, *clock) {
	c := &clock{now: time.Unix(1e9, 0)}
	opts.Now = func() time.Time { return c.now }
	return New(opts), c
}

func TestDelayGrowsToItsBound(t *testing.T) {
	g, _ := newGuard(Options{Failures: 100})
	var got []time.Duration
	for range 6 {
		d, ban := g.Failed("a", true, one)
		require.False(t, ban)
		got = append(got, d)
	}
	const ms = time.Millisecond
	require.Equal(t, []time.Duration{500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 8000 * ms}, got)
	d, _ := g.Failed("a", true, two)
	require.Equal(t, 500*ms, d)
}

func TestAddressIsBannedForAWhile(t *testing.T) {
	g, c := newGuard(Options{Failures: 3})
	for i := range 3 {
		require.False(t, g.Banned(one))
		_, ban := g.Failed("nobody", false, one)
		require.Equal(t, i == 2, ban)
	}
	require.True(t, g.Banned(one))
	require.True(t, g.Banned(netip.MustParseAddr("::ffff:192.0.2.1")))
	require.False(t, g.Banned(two))
	c.now = c.now.Add(5*time.Minute + time.Second)
	require.False(t, g.Banned(one))
	_, ban := g.Failed("nobody", false, one)
	require.False(t, ban, "old failures are forgotten")
}

func TestIPv6CountsByItsNetwork(t *testing.T) {
	g, _ := newGuard(Options{Failures: 2})
	g.Failed("x", false, netip.MustParseAddr("2001:db8::1"))
	g.Failed("x", false, netip.MustParseAddr("2001:db8::2"))
	require.True(t, g.Banned(netip.MustParseAddr("2001:db8::3")))
	require.False(t, g.Banned(netip.MustParseAddr("2001:db8:0:1::1")))
}

func TestUserBanSparesKnownAddresses(t *testing.T) {
	g, c := newGuard(Options{UserFailures: 2})
	g.Succeeded("dock", one)
	g.Failed("dock", true, two)
	require.False(t, g.UserBanned("dock", two))
	g.Failed("dock", true, two)
	require.True(t, g.UserBanned("dock", two))
	require.False(t, g.UserBanned("dock", one))
	require.False(t, g.UserBanned("other", two))
	c.now = c.now.Add(6 * time.Minute)
	require.False(t, g.UserBanned("dock", two))
}

func TestMemoryIsBounded(t *testing.T) {
	g, _ := newGuard(Options{Failures: 2})
	g.Failed("x", true, one)
	for i := range 3 * maxEntries {
		g.Failed("x", true, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	require.Len(t, g.addresses.items, maxEntries)
	require.Equal(t, maxEntries, g.addresses.order.Len())
	_, ban := g.Failed("x", true, one)
	require.False(t, ban, "what was silent longest is forgotten")
}

func TestLoginForgivesHalf(t *testing.T) {
	g, _ := newGuard(Options{Failures: 2}) // 20 from where someone has logged in
	g.Succeeded("a", one)
	fail := func(n int) (ban bool) {
		for range n {
			_, ban = g.Failed("a", true, one)
		}
		return ban
	}
	require.False(t, fail(18))
	g.Succeeded("a", one)
	require.False(t, fail(10))
	require.True(t, fail(1))
}

func TestKnownAddressesAreGivenMore(t *testing.T) {
	g, _ := newGuard(Options{Failures: 2})
	g.Succeeded("dock", one)
	for range 2*trustedFactor - 1 {
		_, ban := g.Failed("scanner", true, one)
		require.False(t, ban)
	}
	_, ban := g.Failed("scanner", true, one)
	require.True(t, ban)
}
