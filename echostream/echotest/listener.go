package echotest

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// listener is one address of the cloud. It can be stopped and opened again at the same port.
type listener struct {
	handler http.Handler
	tls     *tls.Config
	log     *slog.Logger
	addr    string

	mu       sync.Mutex
	ln       net.Listener
	server   *http.Server
	fresh    map[net.Conn]bool // connections on which nothing was asked yet
	reserved io.Closer         // holds the port while stopped
	done     chan struct{}
}

func (c *Cloud) listen() error {
	host, _, err := net.SplitHostPort(c.opts.Address)
	if err != nil {
		return fmt.Errorf("echotest: address %q: %w", c.opts.Address, err)
	}
	addrs := map[Service]string{"": c.opts.Address}
	for _, s := range Services() {
		addrs[s] = net.JoinHostPort(host, "0")
	}
	for s, addr := range addrs {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			for _, l := range c.listeners {
				l.ln.Close()
			}
			return fmt.Errorf("echotest: listen: %w", err)
		}
		c.listeners[s] = &listener{handler: c, tls: c.tls, log: c.log, addr: ln.Addr().String(), ln: ln}
	}
	return nil
}

// start serves what listens.
func (l *listener) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fresh = make(map[net.Conn]bool)
	l.done = make(chan struct{})
	l.server = &http.Server{
		Handler:           l.handler,
		ReadHeaderTimeout: time.Minute,
		ConnState:         l.connState,
		ErrorLog:          slog.NewLogLogger(l.log.Handler(), slog.LevelError),
	}
	ln := l.ln
	if l.tls != nil {
		ln = tls.NewListener(ln, l.tls)
	}
	go func(server *http.Server, done chan struct{}) {
		defer close(done)
		_ = server.Serve(ln) // ErrServerClosed
	}(l.server, l.done)
}

func (l *listener) connState(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if state == http.StateNew {
		l.fresh[conn] = true
	} else {
		delete(l.fresh, conn)
	}
}

// stop cuts every connection and refuses new ones.
func (l *listener) stop() {
	l.mu.Lock()
	server, done := l.server, l.done
	l.mu.Unlock()
	_ = server.Close()
	<-done
	// Nobody else shall get the port meanwhile.
	l.reserved = reserve(l.addr)
}

func (l *listener) reopen() error {
	if l.reserved != nil {
		l.reserved.Close()
		l.reserved = nil
	}
	ln, err := net.Listen("tcp", l.addr)
	if err != nil {
		return err
	}
	l.ln = ln
	l.start()
	return nil
}

// shutdown waits for requests under way, until ctx ends.
func (l *listener) shutdown(ctx context.Context) {
	l.mu.Lock()
	server, done := l.server, l.done
	// Shutdown would wait some seconds for a request on them.
	for conn := range l.fresh {
		conn.Close()
	}
	l.mu.Unlock()
	if l.reserved != nil {
		l.reserved.Close()
	}
	if server == nil {
		l.ln.Close()
		return
	}
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
	<-done
}
