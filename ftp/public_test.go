package ftp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/freeport"
)

// A passive port that is published under another number is told by that; the connection arrives on its own.
func TestPublicPorts(t *testing.T) {
	const public = 44021
	passive := freeport.Range(t, 1)
	n := start(t, func(o *Options, _ *drop.Options) {
		o.PassivePorts = PortRange{First: passive, Last: passive}
		o.PublicPorts = map[int]int{passive: public}
	})
	c := n.login(t)
	addr := pasvAddr(t, c.do(227, "PASV"))
	require.EqualValues(t, public, addr.Port())
	require.Contains(t, c.do(229, "EPSV"), "(|||44021|)")

	c.send("STOR a.txt")
	data := c.data(fmt.Sprintf("127.0.0.1:%d", passive))
	_, err := data.Write([]byte("content"))
	require.NoError(t, err)
	require.NoError(t, data.Close())
	c.expect(150)
	c.expect(226)
	n.requireFile(t, "a.txt", []byte("content"))
}

// names is a DNS that can be down: then each look-up takes until it is given up.
type names struct {
	found []netip.Addr // none: it is down
	asked int
}

func (d *names) find(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	d.asked++
	if len(d.found) == 0 {
		<-ctx.Done()
		return nil, errors.New("read udp 172.17.0.2:40123->127.0.0.11:53: i/o timeout")
	}
	return d.found, nil
}

func TestPublicNameWhileDNSIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		log, dns := &syncBuffer{}, &names{}
		p := newPublicAddress("node.example", slog.New(slog.NewTextHandler(log, nil)))
		p.find = dns.find
		resolve := func(want netip.Addr) (took time.Duration) {
			t.Helper()
			asked := time.Now()
			got, err := p.resolve(t.Context(), netip.MustParseAddr("127.0.0.1"))
			if !want.IsValid() {
				require.Error(t, err)
			} else {
				require.NoError(t, err)
				require.Equal(t, want.As4(), got)
			}
			return time.Since(asked)
		}
		lines := func(text string) int { return strings.Count(log.String(), text) }

		for range 3 { // never found: each look-up may be the one
			require.Equal(t, lookupTimeout, resolve(netip.Addr{}))
		}
		require.Equal(t, 1, lines("PASV is refused"))
		dns.found = []netip.Addr{before}
		require.Zero(t, resolve(before))
		require.Equal(t, 1, lines("level=INFO"))

		dns.found, dns.asked = nil, 0
		began := time.Now()
		require.Equal(t, lookupTimeout, resolve(before), "the one that finds out")
		for time.Since(began) < time.Hour {
			require.Zero(t, resolve(before))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		require.LessOrEqual(t, dns.asked, int(time.Hour/lookupPause))
		require.Greater(t, dns.asked, int(time.Hour/lookupPause)*3/4)
		require.LessOrEqual(t, lines("level=WARN"), 8)

		dns.found = []netip.Addr{after}
		time.Sleep(lookupPause)
		require.Zero(t, resolve(before), "asked in the background")
		synctest.Wait()
		require.Zero(t, resolve(after))
		require.Equal(t, 2, lines("level=INFO"))
	})
}

// TestPublicNameIsLookedUpAtTheStart: a slip in the name is told before the first transfer fails.
func TestPublicNameIsLookedUpAtTheStart(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.PublicAddress = "no-such-host.invalid" })
	require.Eventually(t, func() bool {
		return strings.Contains(n.log.String(), "the public address cannot be looked up; PASV is refused")
	}, 10*time.Second, 10*time.Millisecond)
	require.Contains(t, n.log.String(), "no-such-host.invalid")
}

// TestPasvWhileDNSIsDown: clients are told the last address, and the log is told once.
func TestPasvWhileDNSIsDown(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.PublicAddress = "no-such-host.invalid" })
	n.public.mu.Lock()
	n.public.last = netip.MustParseAddr("192.0.2.1")
	n.public.mu.Unlock()
	c := n.login(t)
	for range 20 {
		require.Equal(t, "192.0.2.1", pasvAddr(t, c.do(227, "PASV")).Addr().String())
	}
	require.Equal(t, 1, strings.Count(n.log.String(), "level=WARN"))
}
