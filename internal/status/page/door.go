package page

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/ftpnode/ftpnode/internal/guard"
)

// door lets in those who know the password. A session is its end and a MAC of that: it survives a restart of the node, and ends
// when the password changes.
type door struct {
	password [sha256.Size]byte
	key      []byte // of the sessions
	guard    *guard.Guard
	log      *slog.Logger
}

func newDoor(opts Options) (door, error) {
	key, err := hkdf.Key(sha256.New, []byte(opts.Secret+"\x00"+opts.Password), nil, "session of the status page", sha256.Size)
	if err != nil {
		return door{}, fmt.Errorf("page: the key of the sessions: %w", err)
	}
	return door{password: sha256.Sum256([]byte(opts.Password)), key: key, guard: opts.Guard, log: opts.Log}, nil
}

// user is the name that wrong passwords count against, from wherever they come.
const user = "status"

// allow compares a password, and has who gave a wrong one wait. It says why the caller is refused; "" if not.
func (d *door) allow(r *http.Request, password string) (code int, why string) {
	address := remote(r)
	if d.guard.Banned(address) || d.guard.UserBanned(user, address) {
		return http.StatusTooManyRequests, "Too many wrong passwords. Try again in five minutes."
	}
	given := sha256.Sum256([]byte(password))
	if subtle.ConstantTimeCompare(given[:], d.password[:]) == 1 {
		d.guard.Succeeded(user, address)
		return http.StatusOK, ""
	}
	delay, banned := d.guard.Failed(user, true, address)
	if banned {
		d.log.Warn("too many wrong passwords for the status page: the address is shut out for a while", "remote", address)
	} else {
		d.log.Info("a wrong password for the status page", "remote", address)
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
	return http.StatusUnauthorized, "That is not the password. It is status.password of the node's config."
}

func remote(r *http.Request) netip.Addr {
	address, _ := netip.ParseAddrPort(r.RemoteAddr)
	return address.Addr().Unmap()
}

const (
	sessionTime = 30 * 24 * time.Hour // a screen on a wall shows the page
	cookieName  = "__Host-session"
)

func cookie(value string, age int) *http.Cookie {
	return &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

func (d *door) session(now time.Time) string {
	end := binary.BigEndian.AppendUint64(nil, uint64(now.Add(sessionTime).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(end, d.mac(end)...))
}

func (d *door) mac(end []byte) []byte {
	m := hmac.New(sha256.New, d.key)
	m.Write(end)
	return m.Sum(nil)
}

// open reports whether r belongs to a session.
func (d *door) open(r *http.Request) bool {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return false
	}
	session, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || len(session) != 8+sha256.Size || !hmac.Equal(session[8:], d.mac(session[:8])) {
		return false
	}
	return time.Now().Before(time.Unix(int64(binary.BigEndian.Uint64(session)), 0))
}
