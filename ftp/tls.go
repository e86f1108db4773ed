package ftp

import (
	"crypto/tls"
	"slices"

	"github.com/ftpnode/ftpnode/internal/certs"
)

const alpn = "ftp"

// tlsConfig is used for control and data connections alike: a client can resume the control connection's
// TLS session in the data connection only if both draw their tickets' keys from one config.
func tlsConfig(source *certs.Source) *tls.Config {
	c := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: source.Get,
		NextProtos:     []string{alpn},
	}
	// A client that offers protocols, and FTP not among them, would be refused by crypto/tls; there is
	// nothing else that it could want here.
	lenient := c.Clone()
	lenient.NextProtos = nil
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen := c
		if len(hello.SupportedProtos) > 0 && !slices.Contains(hello.SupportedProtos, alpn) {
			chosen = lenient
		}
		if _, data := hello.Conn.(*dataConn); data {
			return withoutTickets(chosen, c), nil
		}
		return chosen, nil
	}
	return c
}

// withoutTickets is for one data connection: sessions are resumed there, but no tickets for others are given.
//
// With TLS 1.3 tickets are sent after the handshake. A client that uploads has nothing to read; many close their
// socket with the tickets unread in it, and then its kernel resets the connection, and with it the end of the file.
// crypto/tls can only turn off tickets together with resuming, so they are turned off when that is decided:
// both functions are called by the handshake itself, in between. This can go when crypto/tls has a number of tickets.
func withoutTickets(c, keys *tls.Config) *tls.Config {
	once := c.Clone()
	once.GetConfigForClient = nil
	once.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		once.SessionTicketsDisabled = state.Version == tls.VersionTLS13
		return keys.DecryptTicket(ticket, state)
	}
	once.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		// With TLS 1.2 this comes before the decision, and tickets are a part of the handshake.
		once.SessionTicketsDisabled = slices.Contains(hello.SupportedVersions, tls.VersionTLS13)
		return c.GetCertificate(hello)
	}
	return once
}
