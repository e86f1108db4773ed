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
)

// publicAddress is what PASV tells clients to connect to.
//
// ftpserverlib: PublicHost must be an IPv4 literal; a host name cannot be given. It can go when it may be one
// that is looked up for each PASV.
type publicAddress struct {
	name string // an IPv4 address, a host name, or ""
	log  *slog.Logger

	mu   sync.Mutex
	last netip.Addr // that the host name had
}

const lookupTimeout = 5 * time.Second

// resolve returns the address for a client that reached local. A host name is looked up each time, as it
// may move; when that fails, it is taken to have its last address.
func (p *publicAddress) resolve(ctx context.Context, local netip.Addr) ([4]byte, error) {
	if p.name == "" {
		if !local.Is4() {
			return [4]byte{}, errors.New("the client is connected over IPv6 and no public address is set")
		}
		return local.As4(), nil
	}
	if a, err := netip.ParseAddr(p.name); err == nil {
		return a.As4(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", p.name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && len(found) > 0 {
		p.last = found[0].Unmap()
		return p.last.As4(), nil
	}
	if p.last.IsValid() {
		p.log.Warn("the public address cannot be looked up; its last value is used", "host", p.name, "address", p.last, "error", err)
		return p.last.As4(), nil
	}
	return [4]byte{}, fmt.Errorf("looking up %q: %w", p.name, err)
}

// publicPort is the number under which clients know a passive port.
func (srv *Server) publicPort(port int) int {
	if public, ok := srv.opts.PublicPorts[port]; ok {
		return public
	}
	return port
}
