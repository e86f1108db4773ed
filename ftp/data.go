package ftp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/ftp/internal/passive"
)

const firstFreePort = 1024

// goneWait is how long a client that has hung up has for its data connection.
const goneWait = time.Second

var (
	// errNoData says that no data connection can be made ready now.
	errNoData = errors.New("no data connection")
	// errNoTLS says that the client asked for TLS and did not begin it.
	errNoTLS = errors.New("TLS did not begin on the data connection")
)

// source is where a data channel gets its connection from: a port that the client connects to, or the client's port.
type source interface {
	Accept() (net.Conn, error)
	Close() error
}

// dataChannel gives the connection of a transfer.
type dataChannel struct {
	s      *session
	source source
	port   int // to tell the client; 0 if the client listens
	host   [4]byte

	connected chan struct{} // closed when early and earlyErr are set; nil: Accept connects
	early     net.Conn
	earlyErr  error

	used bool // open has returned a connection

	mu     sync.Mutex
	conn   *dataConn
	wanted bool // by a transfer
	closed bool
}

func (s *session) handlePasv(string) string {
	if s.epsvAll {
		return reply(501, "EPSV ALL was sent; only EPSV is allowed.")
	}
	local := addrOf(s.tcp.LocalAddr())
	ctx, cancel := s.context()
	defer cancel()
	host, err := s.srv.public.resolve(ctx, local)
	if err != nil {
		if errors.Is(err, errIPv6) { // else it has been said, once for all
			s.warn(faultNoIPv4, "no address for PASV", "error", err)
		}
		return reply(425, "Use EPSV; there is no IPv4 address to tell.")
	}
	return s.openPassive(host)
}

func (s *session) handleEpsv(arg string) string {
	local := addrOf(s.tcp.LocalAddr())
	switch arg = strings.ToUpper(strings.TrimSpace(arg)); {
	case arg == "ALL":
		s.epsvAll = true
		return reply(200, "EPSV ALL ok.")
	case arg == "1" && !local.Is4(), arg == "2" && local.Is4():
		return reply(522, fmt.Sprintf("Use (%d).", map[bool]int{true: 1, false: 2}[local.Is4()]))
	case arg != "" && arg != "1" && arg != "2":
		return reply(501, "Expected EPSV, EPSV 1, EPSV 2 or EPSV ALL.")
	}
	return s.openPassive([4]byte{})
}

func (s *session) openPassive(host [4]byte) string {
	s.closeData() // its port may be the only one
	r, err := s.srv.ports.Reserve(s, s.remote, s.srv.opts.AllowForeignDataAddress)
	if err != nil {
		s.warn(faultNoPort, "no passive port", "error", err)
		return reply(425, "No passive port is free; try again later.")
	}
	d := &dataChannel{s: s, source: r, port: s.srv.publicPort(r.Port()), host: host}
	s.setData(d)
	if s.protected {
		// Some clients (Python's asyncio) send their command when TLS has begun, and others begin with TLS when they have read 150.
		d.connected = make(chan struct{})
		go func() {
			defer close(d.connected)
			d.early, d.earlyErr = d.connect(true, func() {})
		}()
	}
	return reply(d.reply(s.current().verb))
}

// handlePort is for PORT and EPRT.
func (s *session) handlePort(arg string) string {
	c := s.current()
	if !s.srv.opts.ActiveMode {
		s.warn(faultActive, "active mode was refused; the device must use passive mode, or set ftp.activeMode")
		return reply(502, "Active mode is off here; use passive mode (PASV or EPSV).")
	}
	if s.epsvAll {
		return reply(501, "EPSV ALL was sent; only EPSV is allowed.")
	}
	parse := parsePort
	if c.verb == "EPRT" {
		parse = parseEprt
	}
	to, err := parse(strings.TrimSpace(arg))
	if err != nil {
		return reply(501, "The address cannot be understood.")
	}
	// Anything else could be used to attack others in the server's name (RFC 2577).
	if to.Addr() != s.remote || to.Port() < firstFreePort {
		s.warn(faultBounce, "data connection to a foreign address or a low port refused", "to", to)
		return reply(504, "Data connections go to your own address only, and to no port below 1024.")
	}
	s.closeData()
	d := &dataChannel{s: s, source: newDialer(s, to)}
	s.setData(d)
	return reply(d.reply(c.verb))
}

func parsePort(arg string) (netip.AddrPort, error) {
	var n [6]byte
	fields := strings.Split(arg, ",")
	if len(fields) != len(n) {
		return netip.AddrPort{}, errNoData
	}
	for i, f := range fields {
		v, err := strconv.ParseUint(strings.TrimSpace(f), 10, 8)
		if err != nil {
			return netip.AddrPort{}, errNoData
		}
		n[i] = byte(v)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(n[:4])), uint16(n[4])<<8|uint16(n[5])), nil
}

func parseEprt(arg string) (netip.AddrPort, error) {
	if arg == "" {
		return netip.AddrPort{}, errNoData
	}
	fields := strings.Split(arg, arg[:1]) // "", family, address, port, ""
	if len(fields) != 5 || (fields[1] != "1" && fields[1] != "2") {
		return netip.AddrPort{}, errNoData
	}
	a, err := netip.ParseAddr(fields[2])
	if err != nil || a.Is4() != (fields[1] == "1") {
		return netip.AddrPort{}, errNoData
	}
	port, err := strconv.ParseUint(fields[3], 10, 16)
	if err != nil {
		return netip.AddrPort{}, errNoData
	}
	return netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(port)), nil
}

func (s *session) setData(d *dataChannel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = d
}

// reply is what the client is told.
func (d *dataChannel) reply(verb string) (int, string) {
	switch verb {
	case "PASV":
		h := d.host
		return 227, fmt.Sprintf("Entering Passive Mode (%d,%d,%d,%d,%d,%d).", h[0], h[1], h[2], h[3], d.port>>8, d.port&0xff)
	case "EPSV":
		return 229, fmt.Sprintf("Entering Extended Passive Mode (|||%d|)", d.port)
	}
	return 200, verb + " command successful. Consider using " + map[string]string{"PORT": "PASV.", "EPRT": "EPSV."}[verb]
}

// open waits for the connection, and makes it a TLS one if the client asked for that. It is called when the command has been
// accepted. The 150 comes before the client's connection, which some clients make only when they have read it (RFC 959: "about
// to open data connection"). It comes behind ours, since a client that has read it waits for ours for ever, and behind the client's where
// one was refused (missing says so): the client is to read the 425, and not to send into the connection that was closed.
func (d *dataChannel) open(c *command) (net.Conn, error) {
	if !d.usable() {
		return nil, net.ErrClosed // aborted
	}
	announce := func() { d.s.announce(c) }
	r, isPassive := d.source.(*passive.Reservation)
	if isPassive && !r.Stranger().IsValid() {
		announce()
		announce = func() {}
	}
	accepted := make(chan struct{})
	if there := isPassive && r.Came() && !d.s.protected; !there && !d.s.trustsHangups() {
		go d.giveUp(accepted)
	}
	conn, err := d.begin(announce)
	close(accepted)
	switch {
	case errors.Is(err, errNoTLS):
		d.s.warn(faultDataTLS, "TLS did not begin on a data connection", "verb", c.verb, "error", err)
		return nil, err
	case err != nil:
		d.missing(err)
		return nil, err
	}
	d.used = true
	return conn, nil
}

// begin waits for the connection, which may have come before the command.
func (d *dataChannel) begin(announce func()) (net.Conn, error) {
	if d.connected == nil {
		return d.connect(d.s.protected, announce)
	}
	d.mu.Lock()
	d.wanted = true
	conn := d.conn
	d.mu.Unlock()
	if conn != nil {
		conn.begin()
	}
	<-d.connected
	return d.early, d.earlyErr
}

// connect waits for the connection, and then, behind the announcement, for TLS on it.
func (d *dataChannel) connect(protected bool, announce func()) (net.Conn, error) {
	raw, err := d.source.Accept()
	if err != nil {
		return nil, err
	}
	conn := &dataConn{Conn: raw, stall: d.s.srv.opts.StallTimeout}
	if protected {
		conn.tls = tls.Server(conn, d.s.srv.tls)
	}
	if !d.adopt(conn) {
		raw.Close()
		return nil, net.ErrClosed
	}
	announce()
	if !protected {
		return conn, nil
	}
	// crypto/tls reports a client that closes without a handshake as an ordinary end of the data.
	if err := conn.tls.Handshake(); err != nil {
		raw.Close()
		return nil, fmt.Errorf("%w: %w", errNoTLS, err)
	}
	return conn.tls, nil
}

// adopt notes the connection, unless none is waited for any more.
func (d *dataChannel) adopt(conn *dataConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.conn = conn
	if d.wanted || d.connected == nil {
		conn.begin()
	}
	return true
}

// missing tells an operator why the connection did not come: the passive port is not let through, or a NAT has given the client another address.
func (d *dataChannel) missing(err error) {
	r, ok := d.source.(*passive.Reservation)
	if !ok {
		d.s.faulty(faultDial, err.Error(), false)
		return
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		d.s.warn(faultNoData, "no data connection came: the passive port does not get through to this node", "port", d.port)
	} else if !r.Came() { // the client has given up
		d.s.faulty(faultNoData, "", false)
	}
	if from := r.Stranger(); from.IsValid() {
		d.s.warn(faultStranger, "no data connection came from the client's address, but one from another was refused; "+
			"if a NAT gives the client two addresses, turn checkDataAddress off", "from", from)
	}
}

// missed reports whether the client was told a port, and no connection has come to it.
func (d *dataChannel) missed() bool {
	if d == nil {
		return false
	}
	r, ok := d.source.(*passive.Reservation)
	return ok && !r.Came()
}

// Close ends the waiting for a connection. One that was accepted is closed by itself, so that TLS can say that it ends.
func (d *dataChannel) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	return d.source.Close()
}

// done says that a transfer has ended, for which this is used up if its connection came.
func (d *dataChannel) done() {
	if d.used {
		d.Close()
	}
}

// cut ends the waiting, or the connection.
func (d *dataChannel) cut() {
	d.Close()
	if conn := d.connection(); conn != nil {
		conn.Close()
	}
}

// giveUp ends the waiting for a connection when the client has gone, a moment later: it can hardly come any more, but a client
// may have ended its side of the control connection behind the command, and the data connection be under way.
func (d *dataChannel) giveUp(accepted <-chan struct{}) {
	select {
	case <-d.s.gone:
	case <-accepted:
		return
	}
	moment := time.NewTimer(goneWait)
	defer moment.Stop()
	select {
	case <-moment.C:
		d.s.failed(hangupError("the client hung up, and no data connection came"))
		d.source.Close()
	case <-accepted:
	}
}

// usable reports whether a connection can still come, or is there.
func (d *dataChannel) usable() bool {
	if d == nil {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.closed
}

// connection is the one that was accepted, or nil.
func (d *dataChannel) connection() *dataConn {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn
}

// dataConn is a data connection that is cut when nothing moves for the stall timeout, however slow it is
// otherwise, from the beginning of its transfer on. TLS, if there is any, is above it.
type dataConn struct {
	net.Conn
	stall time.Duration
	begun atomic.Bool   // begin was called
	tls   *tls.Conn     // above this, or nil
	ahead *bufio.Reader // below tls while an upload is read, else nil
	later bool          // nothing that ahead does not have is to be waited for
	ended atomic.Bool   // the client has closed its side of the TCP connection, seen by reading
}

// begin says that the transfer begins; a Read that is under way is told.
func (c *dataConn) begin() {
	c.begun.Store(true)
	c.SetReadDeadline(time.Now().Add(c.stall))
}

func (c *dataConn) Read(p []byte) (int, error) {
	switch {
	case c.ahead == nil:
		return c.read(p)
	case c.later && c.ahead.Buffered() == 0:
		return 0, laterError{}
	}
	return c.ahead.Read(p)
}

func (c *dataConn) read(p []byte) (int, error) {
	if c.begun.Load() {
		c.SetReadDeadline(time.Now().Add(c.stall))
	}
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		c.ended.Store(true)
	}
	return n, err
}

var aheads = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, bufferSize) }}

// readAhead makes TLS, which reads a record at a time, read from a buffer, until end is called. Only the goroutine that reads calls both.
func (c *dataConn) readAhead() (end func()) {
	ahead := aheads.Get().(*bufio.Reader)
	ahead.Reset(readerFunc(c.read))
	c.ahead = ahead
	return func() {
		c.ahead, c.later = nil, false
		ahead.Reset(nil)
		aheads.Put(ahead)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// laterError is what TLS gets instead of bytes that would have to be waited for. As it is a temporary one, TLS keeps what it has of a record.
type laterError struct{}

func (laterError) Error() string   { return "it has not come yet" }
func (laterError) Timeout() bool   { return true }
func (laterError) Temporary() bool { return true }

// records reads from the TLS of a connection that reads ahead. A Read returns as many records as are there, and waits only for the first.
type records struct{ c *dataConn }

func (r records) Read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		r.c.later = n > 0
		var m int
		m, err = r.c.tls.Read(p[n:])
		n += m
	}
	if err == (laterError{}) {
		err = nil
	}
	return n, err
}

func (c *dataConn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		c.SetWriteDeadline(time.Now().Add(c.stall))
		var m int
		m, err = c.Conn.Write(p[n:])
		n += m
		if err != nil && (m == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return n, err
		}
	}
	return n, nil
}

// endedByAlert reports whether the client ended the TLS connection as TLS demands, with close_notify: then TLS is at
// its end before TCP is. Only a client that still lives does that, though not only after its last byte.
func (c *dataConn) endedByAlert() bool { return c.tls != nil && !c.ended.Load() }

// dialer is the source of an active data connection.
type dialer struct {
	to     string
	ctx    context.Context // ends when the channel is closed
	cancel context.CancelFunc
	dialer net.Dialer
}

func newDialer(s *session, to netip.AddrPort) *dialer {
	ctx, cancel := context.WithCancel(context.Background())
	return &dialer{
		to:     to.String(),
		ctx:    ctx,
		cancel: cancel,
		dialer: net.Dialer{Timeout: min(s.srv.opts.StallTimeout, maxDataConnectionWait)},
	}
}

func (d *dialer) Accept() (net.Conn, error) { return d.dialer.DialContext(d.ctx, "tcp", d.to) }

func (d *dialer) Close() error {
	d.cancel()
	return nil
}
