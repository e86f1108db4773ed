package ftp

import "strings"

// handleAuth encrypts the control connection.
func (s *session) handleAuth(arg string) string {
	mechanism := strings.ToUpper(strings.TrimSpace(arg))
	switch mechanism {
	case "TLS", "TLS-C", "SSL", "TLS-P":
	default:
		return reply(504, "Only AUTH TLS is supported.")
	}
	switch {
	case s.srv.tls == nil:
		return reply(502, "TLS is off here.")
	case s.secure:
		return reply(503, "The connection is encrypted already.")
	}
	c := s.current()
	s.send(reply(234, "Proceed with negotiation."))
	if err := s.startTLS(); err != nil {
		s.kill("TLS handshake: " + err.Error())
		s.finish(c)
		return ""
	}
	// The drafts before RFC 4217 have it so, and clients of that time send no PROT.
	s.protected = mechanism == "SSL" || mechanism == "TLS-P"
	s.user = "" // sent in the clear: a man in the middle may have chosen it
	s.upgraded = s.conn
	s.finish(c)
	return ""
}

// readOn lets read go on after an AUTH, however that was answered: with the connection that was made of it, if any.
func (s *session) readOn() {
	s.secured <- s.upgraded
	s.upgraded = nil
}

func (s *session) handlePbsz(string) string {
	if !s.secure {
		return reply(503, "Send AUTH TLS first.")
	}
	return reply(200, "PBSZ set to 0.")
}

func (s *session) handleProt(arg string) string {
	if !s.secure {
		return reply(503, "Send AUTH TLS first.")
	}
	switch strings.ToUpper(strings.TrimSpace(arg)) {
	case "P":
		s.protected = true
		return reply(200, "PROT now Private.")
	case "C":
		if s.mustProtect() {
			return reply(534, "Data connections must be encrypted here.")
		}
		s.protected = false
		return reply(200, "PROT now Clear.")
	}
	return reply(536, "Only PROT P and PROT C are supported.")
}

// mustProtect reports whether data connections must be encrypted.
func (s *session) mustProtect() bool {
	return s.srv.opts.TLS == TLSRequired || s.srv.opts.TLS == TLSImplicit
}
