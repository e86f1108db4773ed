package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/ftp/internal/evidence"
	"github.com/ftpnode/ftpnode/ftp/internal/passive"
	"github.com/ftpnode/ftpnode/ftp/internal/secret"
	"github.com/ftpnode/ftpnode/internal/certs"
	"github.com/ftpnode/ftpnode/internal/guard"
	"github.com/ftpnode/ftpnode/internal/loglimit"
)

// Server is one FTP server. Make it with New.
type Server struct {
	opts    Options
	users   map[string]*User
	secrets *secret.Book
	guard   *guard.Guard
	lines   *loglimit.Limiter // what clients cause is logged through it
	tls     *tls.Config       // nil if TLS is off
	ports   *passive.Pool
	public  *publicAddress
	verbs   map[string]verb
	lastID  atomic.Uint64
	witness *evidence.Witness

	declarations declarations
	listings     chan struct{} // holds one for each long listing under way

	mu        sync.Mutex
	sessions  map[*session]struct{}
	perClient map[netip.Prefix]int // an IPv6 client has a whole /64
	closing   bool
	wg        sync.WaitGroup

	force     chan struct{} // closed by Close
	forceOnce sync.Once
}

// New checks the options. It starts nothing; a certificate is loaded or made if TLS is on.
func New(opts Options) (*Server, error) {
	if err := opts.complete(); err != nil {
		return nil, fmt.Errorf("ftp: %w", err)
	}
	s := &Server{
		opts:      opts,
		verbs:     newVerbs(),
		users:     make(map[string]*User),
		guard:     guard.New(opts.guard),
		lines:     loglimit.New(opts.Log),
		sessions:  make(map[*session]struct{}),
		perClient: make(map[netip.Prefix]int),
		force:     make(chan struct{}),
		listings:  make(chan struct{}, maxListings),
		public:    newPublicAddress(opts.PublicAddress, opts.Log),
		witness:   evidence.New(evidence.Options{Settle: opts.Settle, Stall: opts.StallTimeout, Log: opts.Log}),
	}
	entries := make(map[string]secret.Entry)
	for i := range opts.Users {
		u := &opts.Users[i]
		s.users[u.Name] = u
		entries[u.Name] = u.entry()
	}
	var err error
	if s.secrets, err = secret.New(entries, opts.memory); err != nil {
		return nil, fmt.Errorf("ftp: %w", err)
	}
	if opts.TLS != TLSOff {
		source, err := certs.New(certs.Options{
			Certificate: opts.Certificate,
			PrivateKey:  opts.PrivateKey,
			FS:          opts.CertificateFS,
			Hosts:       []string{opts.PublicAddress},
			Log:         opts.Log,
		})
		if err != nil {
			return nil, fmt.Errorf("ftp: %w", err)
		}
		s.tls = tlsConfig(source)
	}
	s.ports = passive.New(passive.Options{
		First:   opts.PassivePorts.First,
		Last:    opts.PassivePorts.Last,
		Host:    listenHost(opts.Listener.Addr()),
		Timeout: min(opts.StallTimeout, maxDataConnectionWait),
	})
	return s, nil
}

// listenHost is the address of control connections, unless it is all of them.
func listenHost(a net.Addr) string {
	if t, ok := a.(*net.TCPAddr); ok && !t.IP.IsUnspecified() {
		return (&net.IPAddr{IP: t.IP, Zone: t.Zone}).String()
	}
	return ""
}

// Serve accepts connections until ctx ends. Then it stops accepting, tells idle clients, lets transfers
// under way end for Options.Drain, interrupts the rest, and returns nil when all has ended. If a
// disk hangs, it returns an error a few seconds later. If the listener fails, it does the same and
// returns the listener's error. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.opts.Listener.Close() })
	defer stop()
	defer s.witness.Close()
	keeping, stopKeeping := context.WithCancel(ctx)
	defer stopKeeping()
	s.wg.Go(func() { s.guard.Keep(keeping) })
	s.wg.Go(func() { _, _ = s.public.resolve(keeping, netip.Addr{}) }) // that it cannot be looked up is told at the start
	telling, stopTelling := context.WithCancel(context.WithoutCancel(ctx))
	var told sync.WaitGroup
	told.Go(func() { s.lines.Run(telling) })
	err := s.accept(ctx)
	s.opts.Listener.Close()
	stopKeeping()
	if hang := s.shutdown(); hang != nil {
		err = errors.Join(err, hang)
	}
	stopTelling()
	told.Wait()
	return err
}

// Close interrupts transfers and makes Serve return without draining.
func (s *Server) Close() error {
	s.forceOnce.Do(func() { close(s.force) })
	if err := s.opts.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (s *Server) accept(ctx context.Context) error {
	const firstPause, longestPause = 5 * time.Millisecond, time.Second
	pause := firstPause
	for {
		conn, err := s.opts.Listener.Accept()
		switch {
		case err == nil:
			pause = firstPause
			s.welcome(conn)
		case ctx.Err() != nil || s.forced():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("ftp: accepting: %w", err)
		default: // out of file descriptors, or the client has gone again
			s.lines.Logger(netip.Prefix{}).Warn("cannot accept connections now", "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			case <-s.force:
			}
			pause = min(2*pause, longestPause)
		}
	}
}

func (s *Server) forced() bool {
	select {
	case <-s.force:
		return true
	default:
		return false
	}
}

// welcome starts a session, or refuses the connection.
func (s *Server) welcome(conn net.Conn) {
	remote := addrOf(conn.RemoteAddr())
	if reason := s.refusal(remote); reason != "" {
		log := s.lines.Logger(guard.Network(remote)).Info
		if s.guard.Banned(remote) {
			log = s.opts.Log.Debug // it was told when it was banned
		}
		log("connection refused", "remote", remote, "reason", reason)
		s.attempted(Attempt{From: remote, Tried: "a connection, which was refused: " + reason})
		if s.opts.TLS != TLSImplicit { // else the client would take it for a broken TLS
			conn.SetWriteDeadline(time.Now().Add(time.Second))
			fmt.Fprintf(conn, "421 %s\r\n", reason)
		}
		conn.Close()
		return
	}
	c := newSession(s, conn, remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		conn.Close()
		return
	}
	s.sessions[c] = struct{}{}
	s.perClient[guard.Network(remote)]++
	s.wg.Go(func() {
		defer s.leave(c)
		c.run()
	})
}

// refusal says why the address may not connect, or nothing.
func (s *Server) refusal(remote netip.Addr) string {
	if s.guard.Banned(remote) {
		return "Too many failed logins; try again later."
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perClient[guard.Network(remote)] >= s.opts.MaxConnectionsPerAddress {
		return "Too many connections from your address; try again later."
	}
	if len(s.sessions) >= s.opts.MaxConnections && !s.makeRoom() {
		return "Too many connections; try again later."
	}
	return ""
}

// makeRoom ends the session that has been without a login for longest, so that connections which only
// wait cannot keep others out; it leaves each a moment to log in. The server is locked.
func (s *Server) makeRoom() bool {
	const grace = 3 * time.Second
	if len(s.sessions) > s.opts.MaxConnections {
		return false // room is being made
	}
	var oldest *session
	for c := range s.sessions {
		if !c.loggedIn.Load() && time.Since(c.started) > grace && (oldest == nil || c.started.Before(oldest.started)) {
			oldest = c
		}
	}
	if oldest == nil {
		return false
	}
	go oldest.kill("made room for another client")
	return true
}

func (s *Server) leave(c *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, c)
	client := guard.Network(c.remote)
	if s.perClient[client]--; s.perClient[client] <= 0 {
		delete(s.perClient, client)
	}
}

// shutdown ends all sessions.
func (s *Server) shutdown() error {
	const afterKill = 3 * time.Second
	s.mu.Lock()
	s.closing = true
	sessions := s.list()
	s.mu.Unlock()
	for _, c := range sessions {
		c.drain()
	}
	ended := s.ended()
	drain := time.NewTimer(s.opts.Drain)
	defer drain.Stop()
	select {
	case <-ended:
	case <-drain.C:
	case <-s.force:
	}
	s.mu.Lock()
	sessions = s.list()
	s.mu.Unlock()
	for _, c := range sessions {
		c.kill("the server stops")
	}
	s.ports.Close()
	patience := time.NewTimer(afterKill)
	defer patience.Stop()
	select {
	case <-ended:
		return nil
	case <-patience.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		return &hangError{len(s.sessions)}
	}
}

// ErrSessionsHang is in Serve's error if sessions outlived it, for example since the disk does not answer. They still use the
// Backend and State: another one must not be opened on their volume before Wait has returned nil.
var ErrSessionsHang = errors.New("sessions hang")

type hangError struct{ sessions int }

func (e *hangError) Error() string {
	if e.sessions == 0 {
		return "ftp: the writing of " + knownFile + " still hangs"
	}
	return fmt.Sprintf("ftp: %d sessions still hang", e.sessions)
}

func (e *hangError) Is(target error) bool { return target == ErrSessionsHang }

// Wait waits, after Serve, until all sessions have ended or ctx has.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-s.ended():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended is closed when all sessions have ended.
func (s *Server) ended() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(ended)
	}()
	return ended
}

func (s *Server) list() []*session {
	sessions := make([]*session, 0, len(s.sessions))
	for c := range s.sessions {
		sessions = append(sessions, c)
	}
	return sessions
}

// addrOf is the address of a TCP peer without its port, IPv4 in its own form, and without the zone.
func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}
