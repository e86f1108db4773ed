package passive

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/freeport"
)

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.MustParseAddr("::1")
	second    = netip.MustParseAddr("127.0.0.2")
)

// rangeOf finds n ports in a row that are free now.
func rangeOf(t *testing.T, n int) (first, last int) {
	t.Helper()
	first = freeport.Range(t, n)
	return first, first + n - 1
}

func newPool(t *testing.T, opts Options) *Pool {
	t.Helper()
	p := New(opts)
	t.Cleanup(func() { p.Close() })
	return p
}

func dial(t *testing.T, from, to netip.Addr, port int) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	c, err := d.Dial("tcp", netip.AddrPortFrom(to, uint16(port)).String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// same tells by a byte that both ends are of one connection.
func same(t *testing.T, client, server net.Conn) {
	t.Helper()
	_, err := client.Write([]byte{7})
	require.NoError(t, err)
	b := make([]byte, 1)
	_, err = io.ReadFull(server, b)
	require.NoError(t, err)
	server.Close()
}

func TestBothFamilies(t *testing.T) {
	first, last := rangeOf(t, 1)
	for _, opts := range []Options{{First: first, Last: last}, {}} {
		for _, a := range []netip.Addr{loopback4, loopback6} {
			p := newPool(t, opts)
			r, err := p.Reserve(t, a, false)
			require.NoError(t, err)
			c := dial(t, a, a, r.Port())
			s, err := r.Accept()
			require.NoError(t, err)
			same(t, c, s)
			for _, o := range p.ports {
				require.Empty(t, o.expected, "no one is expected any more")
			}
			require.NoError(t, p.Close())
		}
	}
}

// TestPortsAreKept: a port stays open for the next connection when one came, for a while, and is closed at once when none did.
func TestPortsAreKept(t *testing.T) {
	first, last := rangeOf(t, 1)
	p := newPool(t, Options{First: first, Last: last})
	come := func() {
		t.Helper()
		r, err := p.Reserve(t, loopback4, false)
		require.NoError(t, err)
		c := dial(t, loopback4, loopback4, r.Port())
		s, err := r.Accept()
		require.NoError(t, err)
		same(t, c, s)
	}
	come()
	kept := p.ports[first]
	require.NotNil(t, kept)
	come()
	require.Same(t, kept, p.ports[first])
	uninvited := dial(t, loopback4, loopback4, first)
	_, err := uninvited.Read(make([]byte, 1))
	require.Error(t, err)

	p.closeKept()
	require.NotNil(t, p.ports[first], "it was used a moment ago")
	kept.idle = kept.idle.Add(-keepTime)
	r, err := p.Reserve(t, loopback4, false)
	require.NoError(t, err)
	p.closeKept()
	require.NotNil(t, p.ports[first], "somebody is expected")
	require.NoError(t, r.Close())
	require.Empty(t, p.ports, "nobody came")

	come()
	p.ports[first].idle = time.Now().Add(-keepTime)
	p.closeKept()
	require.Empty(t, p.ports)
	require.Nil(t, p.sweep, "nothing is left to wake up for")
	_, err = net.Dial("tcp", netip.AddrPortFrom(loopback4, uint16(first)).String())
	require.Error(t, err)

	come()
	require.NoError(t, p.Close())
	require.Empty(t, p.ports)
}

// TestFewPortsAreKept: a large range does not cost as many descriptors as it has ports.
func TestFewPortsAreKept(t *testing.T) {
	first, last := rangeOf(t, 3*maxKept)
	p := newPool(t, Options{First: first, Last: last})
	come := func(owner int) *Reservation {
		r, err := p.Reserve(owner, loopback4, false)
		require.NoError(t, err)
		return r
	}
	used := map[int]bool{}
	for range 3 * maxKept {
		r := come(0)
		used[r.Port()] = true
		c := dial(t, loopback4, loopback4, r.Port())
		s, err := r.Accept()
		require.NoError(t, err)
		same(t, c, s)
		require.LessOrEqual(t, len(p.ports), maxKept)
	}
	require.Len(t, used, maxKept, "they take turns")

	var expected []*Reservation
	for i := range 3 * maxKept {
		expected = append(expected, come(i))
	}
	_, err := p.Reserve(0, loopback4, false)
	require.ErrorIs(t, err, ErrNoPort, "all of the range can be used at a time")
	for _, r := range expected {
		require.NoError(t, r.Close())
	}
	require.Empty(t, p.ports)
}

func TestOnePortForManyClients(t *testing.T) {
	first, last := rangeOf(t, 1)
	p := newPool(t, Options{First: first, Last: last})
	r1, err := p.Reserve(t, loopback4, false)
	require.NoError(t, err)
	r2, err := p.Reserve(t, second, false)
	require.NoError(t, err)
	_, err = p.Reserve(t, second, false)
	require.ErrorIs(t, err, ErrNoPort)

	c2 := dial(t, second, loopback4, r2.Port())
	c1 := dial(t, loopback4, loopback4, r1.Port())
	s1, err := r1.Accept()
	require.NoError(t, err)
	s2, err := r2.Accept()
	require.NoError(t, err)
	same(t, c1, s1)
	same(t, c2, s2)
	_, err = p.Reserve(t, second, false)
	require.NoError(t, err, "the port is free again")
}

func TestStrangersAreClosed(t *testing.T) {
	first, last := rangeOf(t, 1)
	p := newPool(t, Options{First: first, Last: last})
	r, err := p.Reserve(t, second, false)
	require.NoError(t, err)
	thief := dial(t, loopback4, loopback4, r.Port())
	_, err = thief.Read(make([]byte, 1))
	require.Error(t, err)
	c := dial(t, second, loopback4, r.Port())
	s, err := r.Accept()
	require.NoError(t, err)
	same(t, c, s)

	r, err = p.Reserve(t, second, true)
	require.NoError(t, err)
	c = dial(t, loopback4, loopback4, r.Port())
	s, err = r.Accept()
	require.NoError(t, err)
	same(t, c, s)
}

func TestTakenPortsAreSkipped(t *testing.T) {
	first, last := rangeOf(t, 2)
	other, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(first)))
	require.NoError(t, err)
	defer other.Close()
	p := newPool(t, Options{First: first, Last: last})
	r, err := p.Reserve(t, loopback4, false)
	require.NoError(t, err)
	require.Equal(t, last, r.Port())
	_, err = p.Reserve(t, loopback4, false)
	require.ErrorIs(t, err, ErrNoPort)
}

func TestTimeoutAndClose(t *testing.T) {
	p := newPool(t, Options{Timeout: 20 * time.Millisecond})
	r, err := p.Reserve(t, loopback4, false)
	require.NoError(t, err)
	_, err = r.Accept()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.ports) == 0 }, 5*time.Second, time.Millisecond)

	p = newPool(t, Options{})
	r, err = p.Reserve(t, loopback4, false)
	require.NoError(t, err)
	c := dial(t, loopback4, loopback4, r.Port())
	require.Eventually(t, func() bool { return len(r.conn) == 1 }, 5*time.Second, time.Millisecond)
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err, "the connection that no one accepted is closed")

	r, err = p.Reserve(t, loopback4, false)
	require.NoError(t, err)
	require.NoError(t, p.Close())
	_, err = r.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = p.Reserve(t, loopback4, false)
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestLateConnections: the port of a connection that did not come in time is for nobody else at the client's address while it may
// still come, which here it does.
func TestLateConnections(t *testing.T) {
	const timeout = 20 * time.Millisecond
	first, last := rangeOf(t, 2)
	p := newPool(t, Options{First: first, Last: last, Timeout: timeout})
	expired := func() (port int) {
		t.Helper()
		r, err := p.Reserve("slow", loopback4, false)
		require.NoError(t, err)
		_, err = r.Accept()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		return r.Port()
	}
	port := expired()
	p.mu.Lock()
	p.opts.Timeout = time.Minute
	p.mu.Unlock()
	for range 5 {
		r, err := p.Reserve("other", loopback4, false)
		require.NoError(t, err)
		require.NotEqual(t, port, r.Port())
		_, err = p.Reserve("third", loopback4, false)
		require.ErrorIs(t, err, ErrNoPort)
		require.NoError(t, r.Close())
	}
	// Another address has the port; what comes late from the first one finds nobody.
	var r *Reservation
	for r == nil || r.Port() != port {
		var err error
		r, err = p.Reserve("far", second, false)
		require.NoError(t, err)
	}
	slow := dial(t, loopback4, loopback4, port)
	_, err := slow.Read(make([]byte, 1))
	require.Error(t, err)
	own := dial(t, second, loopback4, port)
	s, err := r.Accept()
	require.NoError(t, err)
	same(t, own, s)

	// Whoever asks anew has given up, and so has everybody after two minutes.
	again, err := p.Reserve("slow", loopback4, false)
	require.NoError(t, err)
	require.Empty(t, p.late)
	require.NoError(t, again.Close())
	p.opts.Timeout = timeout
	port = expired()
	for at, o := range p.late {
		require.Equal(t, place{port, loopback4}, at)
		o.until = time.Now()
		p.late[at] = o
	}
	_, err = p.Reserve("other", loopback4, false)
	require.NoError(t, err)
	require.Empty(t, p.late)
}

// BenchmarkReserve is a connection, from its reservation on. The client's side is in it.
func BenchmarkReserve(b *testing.B) {
	first := freeport.Range(b, 1)
	p := New(Options{First: first, Last: first})
	defer p.Close()
	to := netip.AddrPortFrom(loopback4, uint16(first)).String()
	b.ReportAllocs()
	for b.Loop() {
		r, err := p.Reserve(b, loopback4, false)
		require.NoError(b, err)
		c, err := net.Dial("tcp", to)
		require.NoError(b, err)
		s, err := r.Accept()
		require.NoError(b, err)
		s.Close()
		c.Close()
	}
}
