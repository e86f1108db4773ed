package ftp

import (
	"crypto/tls"
	"slices"

	"github.com/ftpnode/ftpnode/ftp/internal/certs"
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
		if len(hello.SupportedProtos) > 0 && !slices.Contains(hello.SupportedProtos, alpn) {
			return lenient, nil
		}
		return nil, nil
	}
	return c
}
