// Package passive holds the ports that clients open their data connections to.
//
// A port of the range is shared by many clients, told apart by their addresses, so that a handful of mapped
// ports serves a whole site; one client has each port for one connection at a time. A port is listened on,
// in IPv4 and IPv6, only while someone is expected there, and for a moment after a connection came: a client that sends many small
// files would have it opened and closed for each. A connection from anyone else is closed at once.
//
// Clients behind one address are told apart by the port alone, so a connection that comes late must not find another client's. A client
// may go on connecting for two minutes, long after it was given up here: a port whose connection did not come in time is not told to
// anybody else at that address until then ([late]). One whose client took another port, or hung up, before that is free: such a
// client has given up itself, and its kernel completes no connection any more. So a session holds one port back at most. Without
// TLS, FTP has nothing else that binds a data connection to its session.
//
// Limits: clients behind one address have as many data connections being opened at a time as there are ports
// (open ones do not count), less those that are late. With anyone allowed to connect (see [Pool.Reserve]) all clients together
// have. Without a range, late connections are left to the kernel, which hardly ever gives the same port again so soon.
//
//	pool := passive.New(passive.Options{First: 30000, Last: 30009})
//	r, err := pool.Reserve(session, client, false) // tell the client r.Port()
//	conn, err := r.Accept()
package passive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"
)

// late is for how long a client may go on connecting: Linux repeats a SYN for 127 s, others give up sooner.
const late = 135 * time.Second

// keepTime is how long a port stays open, at least, for the next connection. One whose connection did not come is closed at once, and with it
// what the kernel may have completed for a client that has given up.
const keepTime = 10 * time.Second

// maxKept is how many ports are kept before they are used again: of a large range each connection would open another one.
const maxKept = 20

// ErrNoPort is returned when each port is already waiting for a connection from the client, or for one that is late.
var ErrNoPort = errors.New("no passive port is free")

// errLate says why, if it is not just that there are too few.
var errLate = errors.New("connections of the client's address did not come in time and may still come")

// Options of a pool.
type Options struct {
	First, Last int           // the range of ports. By default, any port
	Host        string        // the address to listen on. By default, all
	Timeout     time.Duration // for the connection to come, from the reservation on and in each Accept. By default, 30 s
}

// Pool is safe for concurrent use.
type Pool struct {
	opts Options

	mu     sync.Mutex
	next   int // the port of the range to begin with: the one used longest ago
	ports  map[int]*port
	sweep  *time.Timer // closes the ports that are kept; nil: none is
	late   map[place]owed
	closed bool
	wg     sync.WaitGroup
}

// place is where a client's connection is expected.
type place struct {
	port int
	key  netip.Addr // the client's address; the zero one for anyone
}

// owed is a connection that has not come in time.
type owed struct {
	owner any
	until time.Time
}

// New makes a pool; it listens on nothing yet.
func New(opts Options) *Pool {
	if opts.Timeout == 0 {
		opts.Timeout = 30 * time.Second
	}
	p := &Pool{opts: opts, ports: make(map[int]*port), late: make(map[place]owed)}
	if opts.First > 0 {
		p.next = opts.First + rand.IntN(opts.Last-opts.First+1)
	}
	return p
}

// Close closes all ports and fails all reservations.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.closeIdle(time.Now())
	var waiting []*Reservation
	for _, o := range p.ports {
		for _, r := range o.expected {
			waiting = append(waiting, r)
		}
	}
	p.mu.Unlock()
	for _, r := range waiting {
		r.Close()
	}
	p.wg.Wait()
	return nil
}

// Reserve makes one connection expected, from the address client, or from anyone. The owner, which is compared by ==, is who
// expects it; it does not expect the one before any more.
func (p *Pool) Reserve(owner any, client netip.Addr, anyone bool) (*Reservation, error) {
	key := client.Unmap().WithZone("")
	if anyone {
		key = netip.Addr{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, net.ErrClosed
	}
	p.forgetLate(owner)
	if p.opts.First == 0 {
		o, err := p.listen(0)
		if err != nil {
			return nil, err
		}
		return o.expect(owner, key), nil
	}
	if o := p.kept(key); o != nil {
		return o.expect(owner, key), nil
	}
	var problem error
	for range p.opts.Last - p.opts.First + 1 {
		n := p.next
		if p.next++; p.next > p.opts.Last {
			p.next = p.opts.First
		}
		if _, ok := p.late[place{n, key}]; ok {
			problem = errLate
			continue
		}
		o := p.ports[n]
		if o == nil {
			var err error
			if o, err = p.listen(n); err != nil {
				problem = err // another program has it
				continue
			}
		}
		if o.expected[key] == nil {
			return o.expect(owner, key), nil
		}
	}
	if problem != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoPort, problem)
	}
	return nil, ErrNoPort
}

// kept returns the port that was kept for longest, if enough are; else nil. The pool is locked.
func (p *Pool) kept(key netip.Addr) (first *port) {
	n := 0
	for _, o := range p.ports {
		if len(o.expected) > 0 {
			continue
		}
		n++
		if _, late := p.late[place{o.number, key}]; !late && (first == nil || o.idle.Before(first.idle)) {
			first = o
		}
	}
	if n < maxKept {
		return nil
	}
	return first
}

// forgetLate forgets connections that cannot come any more, since it is too late or the owner's client has given up. The pool is locked.
func (p *Pool) forgetLate(owner any) {
	now := time.Now()
	for at, owed := range p.late {
		if owed.owner == owner || now.After(owed.until) {
			delete(p.late, at)
		}
	}
}

// listen opens a port. The pool is locked.
func (p *Pool) listen(n int) (*port, error) {
	lc := net.ListenConfig{KeepAlive: -1} // what is dead is cut when nothing moves for the stall timeout
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(p.opts.Host, strconv.Itoa(n)))
	if err != nil {
		return nil, err
	}
	o := &port{pool: p, listener: l, number: l.Addr().(*net.TCPAddr).Port, expected: make(map[netip.Addr]*Reservation)}
	p.ports[o.number] = o
	p.wg.Go(o.serve)
	return o, nil
}

// port is one that is listened on. Its map is guarded by the pool's lock.
type port struct {
	pool     *Pool
	listener net.Listener
	number   int
	expected map[netip.Addr]*Reservation // by the client's address; the zero one for anyone
	idle     time.Time                   // when nobody was expected any more
}

func (o *port) expect(owner any, key netip.Addr) *Reservation {
	r := &Reservation{port: o, owner: owner, key: key, conn: make(chan net.Conn, 1), done: make(chan struct{})}
	o.expected[key] = r
	r.expiry = time.AfterFunc(o.pool.opts.Timeout, r.expire)
	return r
}

// forget ends the waiting for a connection. When no one else is waited for, the port is closed, or kept if the connection came. The pool is locked.
func (o *port) forget(r *Reservation, came bool) {
	if o.expected[r.key] != r {
		return
	}
	delete(o.expected, r.key)
	switch p := o.pool; {
	case len(o.expected) > 0:
	case came && p.opts.First > 0 && !p.closed:
		o.idle = time.Now()
		if p.sweep == nil {
			p.sweep = time.AfterFunc(keepTime, p.closeKept)
		}
	default:
		o.close()
	}
}

// close stops listening. The pool is locked.
func (o *port) close() {
	delete(o.pool.ports, o.number)
	o.listener.Close()
}

// closeKept closes the ports that were kept for long enough.
func (p *Pool) closeKept() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep = nil
	if p.closeIdle(time.Now().Add(-keepTime)) {
		p.sweep = time.AfterFunc(keepTime, p.closeKept)
	}
}

// closeIdle closes the ports at which nobody was expected any more at that time, and reports whether others are kept. The pool is locked.
func (p *Pool) closeIdle(at time.Time) (kept bool) {
	for _, o := range p.ports {
		switch {
		case len(o.expected) > 0:
		case o.idle.After(at):
			kept = true
		default:
			o.close()
		}
	}
	return kept
}

func (o *port) serve() {
	for {
		c, err := o.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // out of file descriptors, or the client has gone again
			o.pool.mu.Lock()
			gone := o.pool.ports[o.number] != o
			o.pool.mu.Unlock()
			if gone {
				return
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if r := o.whose(c); r == nil {
			c.Close()
		} else {
			r.deliver(c)
		}
	}
}

// whose finds and ends the reservation that the connection is for.
func (o *port) whose(c net.Conn) *Reservation {
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok { // it has gone
		return nil
	}
	from := remote.AddrPort().Addr().Unmap()
	o.pool.mu.Lock()
	defer o.pool.mu.Unlock()
	r := o.expected[from.WithZone("")]
	if r == nil {
		r = o.expected[netip.Addr{}]
	}
	if r == nil {
		for _, waiting := range o.expected {
			waiting.stranger = from
		}
	}
	if r != nil {
		r.expiry.Stop()
		o.forget(r, true)
	}
	return r
}

// Reservation is a listener that accepts one connection.
type Reservation struct {
	port   *port
	owner  any
	key    netip.Addr
	expiry *time.Timer

	stranger netip.Addr // guarded by the pool's lock

	mu     sync.Mutex
	conn   chan net.Conn // of 1
	came   bool
	closed bool
	done   chan struct{} // closed by Close
}

// Came reports whether the connection has come.
func (r *Reservation) Came() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.came
}

// Port is where the connection is expected.
func (r *Reservation) Port() int { return r.port.number }

// Addr is the address of the port.
func (r *Reservation) Addr() net.Addr { return r.port.listener.Addr() }

// Stranger is the address that the last connection of someone else came from while this one was waited for, or the zero Addr.
func (r *Reservation) Stranger() netip.Addr {
	r.port.pool.mu.Lock()
	defer r.port.pool.mu.Unlock()
	return r.stranger
}

// Accept waits for the connection, until the pool's timeout (os.ErrDeadlineExceeded) or Close (net.ErrClosed).
func (r *Reservation) Accept() (net.Conn, error) {
	select {
	case c := <-r.conn:
		return c, nil
	default:
	}
	timer := time.NewTimer(r.port.pool.opts.Timeout)
	defer timer.Stop()
	select {
	case c := <-r.conn:
		return c, nil
	case <-r.done:
		return nil, net.ErrClosed
	case <-timer.C:
		r.expire()
		return nil, os.ErrDeadlineExceeded
	}
}

// Close ends the reservation, and closes the connection if there is one that was not accepted.
func (r *Reservation) Close() error {
	r.release()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	close(r.done)
	select {
	case c := <-r.conn:
		return c.Close()
	default:
		return nil
	}
}

// expire gives the port back, but not for others at the address: the connection may still come.
func (r *Reservation) expire() {
	p := r.port.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.port.expected[r.key] == r {
		p.late[place{r.port.number, r.key}] = owed{r.owner, time.Now().Add(late)}
	}
	r.expiry.Stop()
	r.port.forget(r, false)
}

// release gives the port back; a connection that came before can still be accepted.
func (r *Reservation) release() {
	p := r.port.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	r.expiry.Stop()
	r.port.forget(r, false)
}

func (r *Reservation) deliver(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.came = true
	if r.closed {
		c.Close()
		return
	}
	r.conn <- c // there is room: a reservation is found once
}
