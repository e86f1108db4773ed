package ftp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// publicAddress is what PASV tells clients to connect to.
type publicAddress struct {
	name string // an IPv4 address, a host name, or ""
	log  *slog.Logger
	find func(ctx context.Context, network, host string) ([]netip.Addr, error) // one for tests, or DNS's

	mu      sync.Mutex
	last    netip.Addr    // that the host name had
	running chan struct{} // closed when the look-up under way has ended; nil if there is none
	failed  time.Time     // when the last one failed
	err     error         // of the last one
	trouble retry.Trouble // with them
}

const (
	lookupTimeout = 5 * time.Second
	lookupPause   = 30 * time.Second // after a look-up that failed
)

var (
	errIPv6   = errors.New("the client is connected over IPv6 and no public address is set")
	errNoIPv4 = errors.New("it has no IPv4 address")
)

func newPublicAddress(name string, log *slog.Logger) *publicAddress {
	return &publicAddress{name: name, log: log, find: net.DefaultResolver.LookupNetIP}
}

// resolve returns the address for a client that reached local. A host name is looked up each time, as it
// may move; while that fails, it is taken to have its last address, at once, and is looked up now and then behind that.
func (p *publicAddress) resolve(ctx context.Context, local netip.Addr) ([4]byte, error) {
	if p.name == "" {
		if !local.Is4() {
			return [4]byte{}, errIPv6
		}
		return local.As4(), nil
	}
	if a, err := netip.ParseAddr(p.name); err == nil {
		return a.As4(), nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	doubtful := p.err != nil && p.last.IsValid()
	if p.running == nil && !(doubtful && time.Since(p.failed) < lookupPause) {
		p.running = make(chan struct{})
		go p.lookUp(p.running)
	}
	if !doubtful {
		running := p.running
		p.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
		}
		p.mu.Lock()
	}
	if !p.last.IsValid() {
		return [4]byte{}, fmt.Errorf("the public address %q has not been found", p.name)
	}
	return p.last.As4(), nil
}

// lookUp looks the host name up for all that wait for it. It ends within lookupTimeout, whatever becomes of them.
func (p *publicAddress) lookUp(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	found, err := p.find(ctx, "ip4", p.name)
	if err == nil && len(found) == 0 {
		err = errNoIPv4
	}
	p.mu.Lock()
	var line retry.Line
	now := time.Now()
	switch p.err = err; {
	case err == nil:
		p.last = found[0].Unmap()
		line = p.trouble.Over(now, "the public address can be looked up again", "host", p.name, "address", p.last)
	case p.last.IsValid():
		p.failed = now
		line = p.trouble.Hit(now, slog.LevelWarn, "the public address cannot be looked up; its last value is used", err, "host", p.name, "address", p.last)
	default:
		line = p.trouble.Hit(now, slog.LevelWarn, "the public address cannot be looked up; PASV is refused", err, "host", p.name)
	}
	p.running = nil
	p.mu.Unlock()
	line.To(p.log)
	close(done)
}

// publicPort is the number under which clients know a passive port.
func (srv *Server) publicPort(port int) int {
	if public, ok := srv.opts.PublicPorts[port]; ok {
		return public
	}
	return port
}
