package ftp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Attempt is what a client tried in a session that ended without a file sent or received, or when its connection was refused.
type Attempt struct {
	From   netip.Addr
	User   string // as the client named it; "" before USER
	Tried  string // what failed, in the same words each time: "no data connection came"
	Advice string // what to change, and where
}

// fault is why a session may end without a transfer.
type fault struct{ tried, advice string }

const checkPorts = "let the passive ports (ftp.passivePorts) through firewalls to this node, publish them under the same numbers, " +
	"and set ftp.publicAddress if the device reaches the node by another address than its own"

var (
	faultNoData     = fault{"no data connection came", checkPorts}
	faultStranger   = fault{"the data connection came from another address", "if a NAT gives the device two addresses, set ftp.checkDataAddress to false"}
	faultNoPort     = fault{"no passive port was free", "make ftp.passivePorts larger, or let fewer devices connect at a time"}
	faultNoIPv4     = fault{"PASV has no address to tell", "set ftp.publicAddress, or use EPSV in the device"}
	faultActive     = fault{"active mode is off", "use passive mode in the device, or set ftp.activeMode"}
	faultDial       = fault{"the data connection to the device could not be opened (active mode)", "use passive mode in the device, or let this node reach its ports"}
	faultBounce     = fault{"the device asked for a data connection to a foreign address or a low port", "use passive mode in the device"}
	faultDataTLS    = fault{"TLS did not begin on the data connection", "let the device use one TLS version and certificate for both connections, or switch encryption of data connections off in it"}
	faultPlainLogin = fault{"a log-in without TLS", "use explicit FTPS (FTP over TLS) in the device, or set ftp.tls to optional"}
	faultPlainData  = fault{"a transfer without TLS", "let the device encrypt data connections too (PROT P)"}
	faultLogin      = fault{"a log-in with a wrong name or password", "compare the device's name and password with ftp.users; names are case-sensitive"}
	faultBusy       = fault{"a log-in while too many others waited", "let fewer devices log in at a time, or give the node more memory"}
	faultNoUsers    = fault{"a log-in, though no user is known here", "look for errors about ftp.users at the start of the log"}
	faultBackend    = fault{"a log-in to a directory that cannot be opened", "look at the data volume"}

	faultFull    = fault{"an upload, though the node is full", "see why files wait, and files.spoolLimit, files.minFree and files.maxFiles"}
	faultRefused = fault{"a transfer that was refused", ""}
	faultBroken  = fault{"a transfer that broke", ""}

	faultVersion = fault{"TLS with a version before 1.2", "update the device or turn TLS 1.2 on in it; " +
		"where that cannot be, ftp.tls: optional lets it send without TLS"}
	faultCipher    = fault{"TLS with ciphers that nobody should use", "update the device; where that cannot be, ftp.tls: optional lets it send without TLS"}
	faultUntrusted = fault{"TLS, but the device does not trust the certificate", "let the device accept the node's certificate (its sha256 is in the log), " +
		"or set ftp.certificate and ftp.privateKey to one that it trusts"}
	faultLeftTLS = fault{"TLS, but the device left before it sent a command", "most often it does not trust the certificate: let it accept the node's " +
		"(its sha256 is in the log), or set ftp.certificate and ftp.privateKey to one that it trusts"}
	faultHandshake = fault{"TLS, but the handshake broke", "try TLS 1.2 in the device, and let it accept the node's certificate (its sha256 is in the log)"}
	faultNotTLS    = fault{"plain FTP on a port for implicit TLS", "use implicit FTPS in the device, or set ftp.tls to required or optional"}
	faultImplicit  = fault{"implicit TLS on a port for plain FTP and explicit TLS", "use explicit FTPS (AUTH TLS) in the device, or set ftp.tls to implicit"}
	faultHTTP      = fault{"HTTP on the FTP port", "this is no web server: use an FTP client, or another port"}
	faultSSH       = fault{"SSH or SFTP on the FTP port", "use FTP or FTPS in the device; SFTP is another protocol, which is not served here"}
	faultMail      = fault{"SMTP on the FTP port", "use an FTP client, or another port"}
)

// outcome is what a session has come to.
type outcome struct {
	fault              // the last one, or none
	cause       string // more about it
	told        bool   // the log has a line about it
	transferred bool   // a file
}

// faulty notes what has failed; the last fault counts. told says that the log has a line of its own about it.
func (s *session) faulty(f fault, cause string, told bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcome = outcome{f, cause, told, s.outcome.transferred}
	if s.cur != nil {
		s.cur.noted = true
	}
}

// warn logs a fault.
func (s *session) warn(f fault, message string, attrs ...any) {
	s.log.Warn(message, attrs...)
	s.faulty(f, "", true)
}

// transferEnded notes how a transfer has ended. A listing proves no more than that data connections come.
func (s *session) transferEnded(c *command, err error, code int, text string) {
	s.mu.Lock()
	noted, stopped, began := c.noted, errors.Is(c.err, errStopped), c.began
	if err == nil {
		s.outcome = outcome{transferred: s.outcome.transferred || isUpload(c.verb) || c.verb == "RETR"}
	}
	s.mu.Unlock()
	if err == nil || noted {
		return
	}
	cause := fmt.Sprintf("%s: %d %s", c.verb, code, text)
	switch {
	case stopped:
		s.faulty(fault{}, "", true)
	case began, code == 426:
		s.faulty(faultBroken, cause, isUpload(c.verb)) // of uploads the backend tells
	default:
		s.faulty(faultRefused, cause, false)
	}
}

// report tells of a session that has ended without a transfer.
func (s *session) report() {
	s.mu.Lock()
	o, data, stopped := s.outcome, s.data, s.draining
	s.mu.Unlock()
	switch {
	case o.transferred:
		return
	case o.tried == "" && !stopped && data.missed():
		o.fault = faultNoData
	case o.tried == "" && s.secure && s.sinceTLS == 0:
		o.fault = faultLeftTLS
	}
	if o.tried == "" {
		return // it tried nothing
	}
	if !o.told {
		var attrs []any
		if o.cause != "" {
			attrs = append(attrs, "error", o.cause)
		}
		if o.advice != "" {
			attrs = append(attrs, "advice", o.advice)
		}
		s.log.Info("a session ended without a transfer: "+o.tried, attrs...)
	}
	a := Attempt{From: s.remote, User: s.claimed, Tried: o.tried, Advice: o.advice}
	if a.Advice == "" && o.cause != "" {
		a.Tried += ": " + o.cause
	}
	s.srv.attempted(a)
}

func (srv *Server) attempted(a Attempt) {
	if srv.opts.Attempted != nil {
		srv.opts.Attempted(a)
	}
}

// handshakeFailed notes why the control connection did not become a TLS one.
func (s *session) handshakeFailed(conn *tls.Conn, err error) {
	silent := conn.ConnectionState().Version == 0 // no ClientHello has come
	var record tls.RecordHeaderError
	var op *net.OpError
	text := err.Error()
	f := faultHandshake
	left := errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded)
	switch implicit := s.srv.opts.TLS == TLSImplicit; {
	case implicit && silent && left && time.Since(s.started) < s.srv.opts.silence:
		return // somebody looks whether the port is open
	case implicit && silent && left, implicit && errors.As(err, &record):
		f = faultNotTLS
	case strings.Contains(text, "unsupported versions"), strings.Contains(text, "protocol version"):
		f = faultVersion
	case strings.Contains(text, "no cipher suite"):
		f = faultCipher
	case errors.As(err, &op) && distrusts(op):
		f = faultUntrusted
	}
	s.faulty(f, text, false)
}

// distrusts reports whether the error is a TLS alert about the certificate.
func distrusts(err *net.OpError) bool {
	return err.Op == "remote error" && strings.Contains(err.Error(), "certificate")
}

// foreign recognizes other protocols by a line that is no command of FTP's.
func foreign(verb, arg string) (fault, bool) {
	switch {
	case strings.HasPrefix(verb, "SSH-"):
		return faultSSH, true
	case strings.Contains(arg, " HTTP/"):
		return faultHTTP, true
	case verb == "EHLO", verb == "HELO":
		return faultMail, true
	}
	return fault{}, false
}
