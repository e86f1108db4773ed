package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

const drainTime = 4 * time.Second // for FTP transfers under way; the server may need up to 3 s more to cut them

// What a 226 means: files.acknowledge.
const (
	stored    = "stored"    // the file is on the node's volume, which outlives the container
	delivered = "delivered" // every target has it
)

// acknowledge is what a 226 means by files.acknowledge, and why. outlives says whether the volume outlives the container, and why is the reason.
func acknowledge(configured string, outlives bool, why string) (mode, because string) {
	switch {
	case configured == stored || configured == delivered:
		return configured, "files.acknowledge says so"
	case outlives:
		return stored, why
	}
	return delivered, why
}

func waits(n *node.Node, c Config) bool {
	outlives, why := n.Stored()
	mode, _ := acknowledge(c.Files.Acknowledge, outlives, why)
	return mode == delivered
}

// checkAcknowledge warns of a 226 that promises too much.
func checkAcknowledge(mode string, outlives bool, mounted string, log *slog.Logger) {
	if mode == stored && !outlives {
		log.Warn("files.acknowledge is stored, but the data goes with the container: files that clients have been told are safe can be lost",
			"mounted", mounted)
	}
}

// serveFTP runs one drop and one server over it until ctx ends. A session that hangs (in a sync, on a disk that does not
// answer) is waited for unless the node stops too: it would commit into what the next drop thinks of as its own.
func serveFTP(ctx context.Context, n *node.Node, c Config, w *watch) error {
	owners := slices.Concat(c.FTP.Users, c.FTP.LeftOut)
	var d *drop.Drop
	// While nobody is known (there is no definition yet, or the config's users cannot be read) nothing is taken: it would be
	// under a wrong name and user.
	if len(owners) > 0 {
		var err error
		if d, err = openDrop(ctx, n, c, owners); err != nil {
			return err
		}
	}
	listener, err := n.Listener()
	if err != nil {
		return err
	}
	defer listener.Close()
	users, directories := usableUsers(c.FTP.Users, n.Log)
	files := newMaildrop(d, directories)
	for _, u := range users {
		if _, err := files.user(u.Name); err != nil {
			n.Log.Error("a user's directory cannot be made; the user cannot log in until it can", "user", u.Name, "directory", directories[u.Name], "error", err)
		}
	}
	server, err := newServer(n, c, listener, users, watched{files, &w.devices}, w.tried)
	if err != nil {
		return err
	}
	w.serves(d, users)
	var watching sync.WaitGroup
	defer watching.Wait()
	if d != nil {
		watching.Go(func() { _ = d.Run(ctx) }) // it returns nil
	}
	checkPorts(n.Ports(), listener.Addr(), c, n.Log)
	outlives, mounted := n.Stored()
	mode, why := acknowledge(c.Files.Acknowledge, outlives, mounted)
	checkAcknowledge(mode, outlives, mounted, n.Log)
	n.Log.Info("FTP is served", "address", listener.Addr(), "users", len(users), "tls", c.FTP.TLS, "acknowledge", mode, "reason", why)
	if len(users) == 0 {
		n.Log.Warn("FTP refuses every log-in: the config has no valid user")
	}
	err = server.Serve(ctx)
	if errors.Is(err, ftp.ErrSessionsHang) && n.Stopping().Err() == nil {
		n.Log.Error("FTP is served again when its last sessions have ended: the volume's disk does not answer", "error", err)
		err = server.Wait(n.Stopping())
	}
	return err
}

// openDrop opens the drop directory with its users. What stands there from a version of the node that kept finished files in it goes into the
// outbox before anything new can.
func openDrop(ctx context.Context, n *node.Node, c Config, owners []UserConfig) (*drop.Drop, error) {
	d, err := drop.Open(dropOptions(n, c))
	if err != nil {
		return nil, err
	}
	// A file that is found belongs to the user in whose directory it stands. That one cannot be
	// made keeps nobody else out: serveFTP says so, and it is tried again when its user logs in.
	for _, u := range owners {
		_, _ = d.User(u.Name, u.Directory)
	}
	if err := d.TakeOver(ctx); err != nil && n.Outdated() {
		return nil, err // else what could not be taken now is tried again
	}
	return d, n.TakenOver()
}

func dropOptions(n *node.Node, c Config) drop.Options {
	wait := time.Duration(0)
	if waits(n, c) {
		wait = c.Files.AcknowledgeTimeout
	}
	watched := "" // a simulated disk is not
	if n.Dir != "" {
		watched = filepath.Join(n.Dir, "drop")
	}
	return drop.Options{
		FS: n.Volume, Log: n.Log,
		Delivered:     wait,
		Ready:         n.Ready,
		Outbox:        n.Outbox,
		Describe:      describer(c.Message.Order),
		WatchDir:      watched,
		Ignore:        c.Files.Ignore, // not nil, which would be the default
		Settle:        orNone(c.Files.Settle),
		Quiet:         c.Files.Quiet,
		PartialExpiry: c.Files.PartialExpiry,
		MaxSize:       c.Files.MaxSize,
		SpoolLimit:    c.Files.SpoolLimit,
		MinFree:       orNone(c.Files.MinFree),
		MaxFiles:      c.Files.MaxFiles,
		MaxDirs:       c.Files.MaxFolders,
		MaxTotal:      c.Files.MaxTotal,
	}
}

// orNone is how an option whose zero value is its default says none.
func orNone[T int64 | time.Duration](value T) T {
	if value == 0 {
		return -1
	}
	return value
}

// newServer makes the FTP server. A certificate whose files cannot be used is the server's to do without.
func newServer(n *node.Node, config Config, listener net.Listener, users []ftp.User, files ftp.Backend, tried func(ftp.Attempt)) (*ftp.Server, error) {
	c := config.FTP
	return ftp.New(ftp.Options{
		Listener:                listener,
		Backend:                 files,
		Users:                   users,
		PublicAddress:           c.PublicAddress,
		PassivePorts:            ftp.PortRange{First: c.PassivePorts.First, Last: c.PassivePorts.Last},
		PublicPorts:             n.Ports(),
		AllowForeignDataAddress: !c.CheckDataAddress,
		ActiveMode:              c.ActiveMode,
		TLS:                     ftp.TLSMode(c.TLS),
		Certificate:             c.Certificate,
		PrivateKey:              c.PrivateKey,
		CertificateFS:           n.Volume,
		State:                   n.Volume,
		IdleTimeout:             c.IdleTimeout,
		StallTimeout:            c.StallTimeout,
		// A little less than the drop's, so that the verdict is in when the file's turn comes, and nothing overtakes it.
		Settle:                   config.Files.Settle * 7 / 8,
		LoginTimeout:             c.LoginTimeout,
		Drain:                    drainTime,
		MaxConnections:           c.MaxConnections,
		MaxConnectionsPerAddress: c.MaxConnectionsPerAddress,
		TrustHangups:             c.TrustHangups,
		Banner:                   c.Banner,
		Log:                      n.Log,
		Attempted:                tried,
	})
}

// usableUsers leaves out the users that a server would not take, such as one with a hash of broken parameters. It also returns whose directory is which.
func usableUsers(users []UserConfig, log *slog.Logger) (usable []ftp.User, directories map[string]string) {
	directories = make(map[string]string)
	for _, u := range users {
		user := ftp.User{Name: u.Name, Password: u.Password, PasswordHash: u.PasswordHash, Readable: u.Readable, TrustHangups: u.TrustHangups}
		if err := user.Check(); err != nil {
			log.Error("a user cannot be used and is left out", "user", u.Name, "error", err)
			continue
		}
		usable = append(usable, user)
		directories[u.Name] = u.Directory
	}
	return usable, directories
}

// checkPorts tells of passive ports that no client can reach, since its uploads would hang at random: those that other servers of the node have,
// and those that are not published.
func checkPorts(public map[int]int, control net.Addr, c Config, log *slog.Logger) {
	passive := c.FTP.PassivePorts
	taken := map[string]int{"the port of the status page": c.Status.Port}
	if a, ok := control.(*net.TCPAddr); ok {
		taken["the FTP port"] = a.Port
	}
	for _, what := range slices.Sorted(maps.Keys(taken)) {
		if port := taken[what]; passive.First <= port && port <= passive.Last {
			p := nodeconfig.Problem{Level: slog.LevelError, Key: "ftp.passivePorts", Value: strconv.Quote(passive.String()),
				Rule: fmt.Sprintf("%s, %d, is in it", what, port), Write: "write ports that nothing else has", Effect: "Transfers use the other ports"}
			if passive.First == passive.Last {
				p.Effect = "Transfers in passive mode fail"
			}
			p.Log(log)
		}
	}
	var missing []string
	for port := passive.First; port <= passive.Last && len(public) > 0; port++ {
		if public[port] == 0 {
			missing = append(missing, fmt.Sprint(port))
		}
	}
	if len(missing) > 0 {
		log.Warn("passive ports are not published: transfers that get one of them hang. Add them to the node's ports, or make ftp.passivePorts smaller",
			"missing", strings.Join(missing, ","))
	}
}
