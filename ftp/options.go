package ftp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/ftp/internal/secret"
	"github.com/ftpnode/ftpnode/internal/guard"
	"github.com/ftpnode/ftpnode/internal/memlimit"
)

// User is one who may log in.
type User struct {
	Name         string
	Password     string // this, or
	PasswordHash string // bcrypt, or argon2id in the PHC form; never both
	Readable     bool   // RETR is allowed. By default, files can be sent, listed, renamed and deleted only
	TrustHangups bool   // as Options.TrustHangups, for this user
}

// TLSMode says if connections are encrypted.
type TLSMode string

// The modes. With TLSRequired and TLSImplicit data connections are encrypted too.
const (
	TLSOff      TLSMode = "off"
	TLSOptional TLSMode = "optional" // AUTH TLS is offered
	TLSRequired TLSMode = "required" // nobody logs in without AUTH TLS
	TLSImplicit TLSMode = "implicit" // TLS from the first byte
)

// PortRange is a range of TCP ports, both ends included. The zero value means any port.
type PortRange struct{ First, Last int }

// Options of a server. Listener is required, and Backend if there are users; without any, it refuses every log-in.
type Options struct {
	Listener net.Listener // for control connections; Serve closes it
	Backend  Backend      // which takes what users send
	Users    []User

	// PublicAddress is the IPv4 address, or a host name that has one (looked up for each PASV), that clients
	// are told to open data connections to. By default, the address that the client reached.
	PublicAddress string
	PassivePorts  PortRange
	// PublicPorts are the ports by which clients know passive ports that are published under other numbers. By
	// default, and for a port that is not in it, they are the same.
	PublicPorts map[int]int
	// AllowForeignDataAddress lets data connections come from other addresses than the client's, as some
	// NATs make them. Anyone who is faster than the client can then take its data connection.
	AllowForeignDataAddress bool
	// ActiveMode allows PORT and EPRT: to the client's own address, and to no port below 1024.
	ActiveMode bool

	TLS TLSMode // By default, TLSOff
	// Certificate and PrivateKey are PEM, or paths of PEM files, which are read again when they change.
	// By default, and until files can be used, a self-signed certificate is made once and kept in CertificateFS.
	Certificate, PrivateKey string
	CertificateFS           disk.FS

	IdleTimeout  time.Duration // between commands, transfers not counted. By default, 5 minutes
	StallTimeout time.Duration // without any byte in a transfer, and for a data connection to come (at most 30 s). By default, 60 s
	// Settle is how long after its 226 a client that only keeps its connection is taken to have read it: somewhat less than the Backend waits before it takes a file for its own.
	Settle       time.Duration
	LoginTimeout time.Duration // from connecting to being logged in. By default, 60 s
	Drain        time.Duration // for transfers to end when Serve's context ends. By default, 5 s

	MaxConnections           int // By default, 200
	MaxConnectionsPerAddress int // By default, 20

	// State is where the server keeps, in the file known-clients, from which addresses each user has logged in, so that a restart
	// under attack does not lock devices out. One server uses it at a time. By default, that is forgotten.
	State disk.FS

	// TrustHangups takes an upload as complete when its data connection ends, also if the client hung up
	// the control connection without waiting for the reply. By default, such an upload is interrupted. See also User.
	TrustHangups bool

	Banner string       // By default, "ftpnode ready."
	Log    *slog.Logger // By default, nothing is logged

	// Attempted is called for each session, and each connection, that has come to nothing. The log has a line about each, but it tells of those
	// that repeat with a number only. By default, nobody is told.
	Attempted func(Attempt)

	guard   guard.Options // for tests
	memory  int64         // for tests; by default, what the process may use
	silence time.Duration // for tests: a client of an implicit port that leaves earlier without a word has only looked. By default, 5 s
}

const (
	defaultIdleTimeout    = 5 * time.Minute
	defaultStallTimeout   = 60 * time.Second
	defaultLoginTimeout   = 60 * time.Second
	defaultDrain          = 5 * time.Second
	defaultMaxConnections = 200
	defaultMaxPerAddress  = 20
	defaultBanner         = "ftpnode ready."
	defaultSilence        = 5 * time.Second // longer than a health check waits
	maxDataConnectionWait = 30 * time.Second
)

var hostName = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)

// complete checks the options and fills in the defaults. It reports every problem at once.
func (o *Options) complete() error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if o.Listener == nil {
		problem("Listener is missing")
	}
	if o.Backend == nil && len(o.Users) > 0 {
		problem("Backend is missing")
	}
	problems = append(problems, checkUsers(o.Users))

	if a, err := netip.ParseAddr(o.PublicAddress); err == nil && !a.Is4() {
		problem("PublicAddress %q: expected an IPv4 address or a host name (clients over IPv6 use EPSV, which needs none)", o.PublicAddress)
	} else if err != nil && o.PublicAddress != "" && (!hostName.MatchString(o.PublicAddress) || len(o.PublicAddress) > 253) {
		problem("PublicAddress %q: expected an IPv4 address or a host name", o.PublicAddress)
	}
	if p := o.PassivePorts; p != (PortRange{}) && (p.First < 1 || p.Last > 65535 || p.First > p.Last) {
		problem("PassivePorts %d-%d: expected two ports from 1 to 65535, the smaller one first", p.First, p.Last)
	}
	switch o.TLS {
	case "":
		o.TLS = TLSOff
	case TLSOff, TLSOptional, TLSRequired, TLSImplicit:
	default:
		problem("TLS %q: expected off, optional, required or implicit", string(o.TLS))
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{
		{"IdleTimeout", &o.IdleTimeout, defaultIdleTimeout},
		{"StallTimeout", &o.StallTimeout, defaultStallTimeout},
		{"LoginTimeout", &o.LoginTimeout, defaultLoginTimeout},
		{"Drain", &o.Drain, defaultDrain},
	} {
		if *d.value == 0 {
			*d.value = d.zero
		}
		if *d.value < 0 {
			problem("%s %v: expected a duration above 0", d.name, *d.value)
		}
	}
	for _, n := range []struct {
		name  string
		value *int
		zero  int
	}{
		{"MaxConnections", &o.MaxConnections, defaultMaxConnections},
		{"MaxConnectionsPerAddress", &o.MaxConnectionsPerAddress, defaultMaxPerAddress},
	} {
		if *n.value == 0 {
			*n.value = n.zero
		}
		if *n.value < 0 {
			problem("%s %d: expected a number above 0", n.name, *n.value)
		}
	}
	if o.silence == 0 {
		o.silence = defaultSilence
	}
	if o.memory == 0 {
		o.memory = memlimit.Bytes()
	}
	if o.Banner == "" {
		o.Banner = defaultBanner
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.State != nil {
		o.guard.Store = knownStore{o.State}
	}
	o.guard.Log = o.Log
	return errors.Join(problems...)
}

// Check reports, by an error, whether a server would take the user.
func (u User) Check() error {
	if err := checkUsers([]User{u}); err != nil {
		return err
	}
	_, err := secret.New(map[string]secret.Entry{u.Name: u.entry()}, memlimit.Bytes())
	return err
}

func (u User) entry() secret.Entry { return secret.Entry{Password: u.Password, Hash: u.PasswordHash} }

func checkUsers(users []User) error {
	var problems []error
	seen := make(map[string]bool)
	for i, u := range users {
		switch {
		case u.Name == "":
			problems = append(problems, fmt.Errorf("user %d has no name", i+1))
		case strings.ContainsFunc(u.Name, unicode.IsControl):
			problems = append(problems, fmt.Errorf("user %q: control characters in the name", u.Name))
		case seen[u.Name]:
			problems = append(problems, fmt.Errorf("user %q is there twice", u.Name))
		}
		seen[u.Name] = true
	}
	return errors.Join(problems...)
}
