package ftp

import (
	"context"
	"errors"
	"time"

	"github.com/ftpnode/ftpnode/ftp/internal/engine"
	"github.com/ftpnode/ftpnode/ftp/internal/secret"
	"github.com/ftpnode/ftpnode/internal/guard"
)

const (
	maxFailures = 3  // logins in one session
	maxEarly    = 50 // commands before the login
)

func (s *session) handleUser(arg string) string {
	s.claimed = arg
	switch {
	case arg == "":
		return reply(501, "Send a name with USER.")
	case s.mustSecure():
		return s.refusePlain()
	case len(s.srv.users) == 0:
		// Nobody's password is wrong: the device is to come again.
		s.faulty(faultNoUsers, "", false)
		return s.dismiss("No user is known here yet; try again later.")
	case s.account != nil: // as this user: handleAnyUser
		return reply(331, "Any password will do.")
	}
	s.user = arg
	return reply(331, "Please specify the password.")
}

func (s *session) mustSecure() bool {
	return s.srv.opts.TLS == TLSRequired && !s.secure
}

func (s *session) refusePlain() string {
	s.warn(faultPlainLogin, "a log-in without TLS was refused; the device must use explicit FTPS")
	return reply(530, "TLS is required; send AUTH TLS first.")
}

func (s *session) handlePass(password string) string {
	switch {
	case s.account != nil:
		return reply(230, "Already logged in.")
	case s.user == "":
		return reply(503, "Login with USER first.")
	case s.mustSecure():
		return s.refusePlain()
	}
	name := s.user
	s.user = ""
	ctx, cancel := s.context()
	defer cancel()
	right, err := s.checkPassword(ctx, name, password)
	if err != nil {
		// Nothing is known of the password: it is not a failure, and the device is to come again.
		if errors.Is(err, secret.ErrBusy) {
			s.warn(faultBusy, "a log-in was told to come again: too many of its address wait for theirs")
		}
		return s.dismiss("Too many log-ins at once; try again later.")
	}
	if !right || s.srv.guard.UserBanned(name, s.remote) {
		return s.refuseLogin(ctx, name, right)
	}
	account := s.srv.users[name]
	dir, err := s.srv.opts.Backend.Login(name, s.remote)
	if err != nil {
		s.log.With("user", loggable(name)).Error("a user's directory cannot be opened", "error", err)
		s.faulty(faultBackend, "", true)
		return s.refused(err)
	}
	s.srv.guard.Succeeded(name, s.remote)
	s.account = account
	s.tcp.LoggedIn(name, s.remote)
	s.files = dir
	s.engine = engine.New(files{dir, s})
	s.engine.Hide(s.hidden)
	s.loggedIn.Store(true)
	s.login.Stop()
	s.log = s.log.With("user", loggable(name))
	s.log.Debug("logged in", "tls", s.secure)
	return reply(230, "Login successful.")
}

// checkPassword waits for its turn no longer than the client does.
func (s *session) checkPassword(ctx context.Context, name, password string) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	client := secret.Client{Network: guard.Network(s.remote), Known: s.srv.guard.Known(s.remote)}
	return s.srv.secrets.Check(ctx, client, name, password)
}

// refuseLogin answers the same, after the same time, whatever was wrong.
func (s *session) refuseLogin(ctx context.Context, name string, right bool) string {
	_, known := s.srv.users[name]
	delay, banned := s.srv.guard.Failed(name, known && !right, s.remote)
	s.failures++
	log, attrs := s.log, []any{"failures", s.failures}
	if known {
		log = log.With("user", loggable(name)) // counted by itself
	} else {
		attrs = append(attrs, "user", loggable(name))
	}
	switch {
	case banned:
		log.Warn("login failed; the address is banned for a while", attrs...)
	case right:
		log.Warn("login refused, though the password is right: too many have failed for this user", attrs...)
	default:
		log.Warn("login failed", attrs...)
	}
	s.faulty(faultLogin, "", true)
	wait := time.NewTimer(delay)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	if banned || s.failures >= maxFailures {
		return s.dismiss("Too many failed logins; goodbye.")
	}
	return reply(530, "Login incorrect.")
}

// context ends with the session.
func (s *session) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-s.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
