package ftp

import "strings"

// handleAuth encrypts the control connection.
//
// ftpserverlib: it would wrap the bridge, and its replies could not be rewritten. The session does TLS itself.
// It can go when all replies of the library can be ours, so that there is no bridge.
func (s *session) handleAuth(arg string) string {
	mechanism := strings.ToUpper(strings.TrimSpace(arg))
	switch mechanism {
	case "TLS", "TLS-C", "SSL", "TLS-P":
	default:
		return s.answer(504, "Only AUTH TLS is supported.")
	}
	switch {
	case s.srv.tls == nil:
		return s.answer(502, "TLS is off here.")
	case s.secure:
		return s.answer(503, "The connection is encrypted already.")
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
		return s.answer(503, "Send AUTH TLS first.")
	}
	return s.answer(200, "PBSZ set to 0.")
}

func (s *session) handleProt(arg string) string {
	if !s.secure {
		return s.answer(503, "Send AUTH TLS first.")
	}
	switch strings.ToUpper(strings.TrimSpace(arg)) {
	case "P":
		s.protected = true
		return s.answer(200, "PROT now Private.")
	case "C":
		if s.mustProtect() {
			return s.answer(534, "Data connections must be encrypted here.")
		}
		s.protected = false
		return s.answer(200, "PROT now Clear.")
	}
	return s.answer(536, "Only PROT P and PROT C are supported.")
}

// mustProtect reports whether data connections must be encrypted.
func (s *session) mustProtect() bool {
	return s.srv.opts.TLS == TLSRequired || s.srv.opts.TLS == TLSImplicit
}
