package ftp

import "strings"

// handleAuth encrypts the control connection.
//
// ftpserverlib: it would wrap the bridge, and its replies could not be rewritten. The session does TLS itself.
func (s *session) handleAuth(arg string) string {
	refuse := func(code int, text string) string {
		s.answer(code, text)
		s.secured <- nil
		return ""
	}
	switch strings.ToUpper(arg) {
	case "TLS", "TLS-C", "SSL", "TLS-P":
	default:
		return refuse(504, "Only AUTH TLS is supported.")
	}
	switch {
	case s.srv.tls == nil:
		return refuse(502, "TLS is off here.")
	case s.secure:
		return refuse(503, "The connection is encrypted already.")
	}
	c := s.current()
	s.send(reply(234, "Begin with TLS."))
	if err := s.startTLS(); err != nil {
		s.kill("TLS handshake: " + err.Error())
		s.finish(c)
		return ""
	}
	s.user = "" // sent in the clear: a man in the middle may have chosen it
	s.secured <- s.conn
	s.finish(c)
	return ""
}

func (s *session) handlePbsz(string) string {
	if !s.secure {
		return s.answer(503, "Send AUTH TLS first.")
	}
	return s.answer(200, "PBSZ=0")
}

func (s *session) handleProt(arg string) string {
	if !s.secure {
		return s.answer(503, "Send AUTH TLS first.")
	}
	switch strings.ToUpper(arg) {
	case "P":
		s.protected = true
		return s.answer(200, "Data connections are encrypted.")
	case "C":
		if s.mustProtect() {
			return s.answer(534, "Data connections must be encrypted here.")
		}
		s.protected = false
		return s.answer(200, "Data connections are in the clear.")
	}
	return s.answer(536, "Only PROT P and PROT C are supported.")
}

// mustProtect tells if data connections must be encrypted.
func (s *session) mustProtect() bool {
	return s.srv.opts.TLS == TLSRequired || s.srv.opts.TLS == TLSImplicit
}
