package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"sync"

	"github.com/ftpnode/ftpnode/internal/certs"
	"github.com/ftpnode/ftpnode/internal/retry"
	"github.com/ftpnode/ftpnode/internal/status"
	"github.com/ftpnode/ftpnode/internal/status/page"
)

// Page is where people of the site see the node's status in their browsers: see package internal/status/page.
type Page struct {
	Port     int    // of TCP, for HTTPS; 0: there is no page
	Password string // of whoever may see it; "": there is no page
	// Certificate and PrivateKey are PEM texts or paths of PEM files. By default, they are self-signed, made once and kept on the volume.
	Certificate, PrivateKey string
	Hosts                   []string // the names in the self-signed certificate
}

// site serves the page, by the config of now.
type site struct {
	node   *Node
	source status.Source
	secret string // of the node
	pace   Pace

	mu      sync.Mutex
	wanted  Page
	changed chan struct{} // closed and replaced with each change
}

func (s *site) use(p Page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !reflect.DeepEqual(p, s.wanted) {
		s.wanted = p
		close(s.changed)
		s.changed = make(chan struct{})
	}
}

func (s *site) current() (Page, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted, s.changed
}

// run serves until ctx ends.
func (s *site) run(ctx context.Context) {
	for ctx.Err() == nil {
		p, changed := s.current()
		serving, stop := context.WithCancel(ctx)
		go func() {
			select {
			case <-changed:
			case <-serving.Done():
			}
			stop()
		}()
		if p.Port == 0 || p.Password == "" {
			<-serving.Done()
			continue
		}
		loop := retry.Loop{
			Log: s.node.Log, Fails: retry.Fails(slog.LevelError, "the status page cannot be served; retrying"), Works: "the status page is served again",
			Args: []any{"port", p.Port}, First: s.pace.FirstRetry, Last: s.pace.LastRetry,
		}
		_ = loop.Until(serving, func() error { return s.serve(serving, p) })
	}
}

func (s *site) serve(ctx context.Context, p Page) error {
	certificate, err := certs.New(certs.Options{
		Certificate: p.Certificate, PrivateKey: p.PrivateKey, FS: s.node.Volume, Hosts: p.Hosts, Log: slog.New(slog.DiscardHandler), // the bridge tells it
	})
	if err != nil {
		return err
	}
	shown, err := page.New(page.Options{Source: s.source, Password: p.Password, Secret: s.secret, Log: s.node.Log})
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", fmt.Sprintf(":%d", p.Port))
	if err != nil {
		return err
	}
	defer listener.Close()
	s.node.Log.Info("The status page is served", "address", listener.Addr())
	return shown.Serve(ctx, listener, certificate.Get)
}
