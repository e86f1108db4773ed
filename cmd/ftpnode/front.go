package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// frontConfig is the part of the config that clients notice. A change of it opens the front anew.
type frontConfig struct {
	FTP   FTPConfig
	Files FilesConfig
	Order string
	Ports map[int]int // as clients know the container's: see publicPorts
}

// front is what clients see: the FTP server and the drop directory.
type front struct {
	volume   disk.FS
	dir      string // of the volume
	storage  storage
	ready    func() error // see drop.Options
	listener *net.TCPListener
	outbox   *outbox.Outbox
	log      *slog.Logger
	pace     pace

	mu      sync.Mutex
	config  frontConfig
	changed chan struct{} // closed and replaced with each change
}

// use changes the config, and where the ports are published.
func (f *front) use(c Config, ports map[int]int) {
	want := frontConfig{FTP: c.FTP, Files: c.Files, Order: c.Message.Order, Ports: ports}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed != nil && reflect.DeepEqual(want, f.config) {
		return
	}
	f.config = want
	if f.changed != nil {
		close(f.changed)
	}
	f.changed = make(chan struct{})
}

func (f *front) wanted() (frontConfig, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config, f.changed
}

// run serves until ctx ends and what was under way has ended or had its time. use must have been called before.
func (f *front) run(ctx context.Context) {
	var t retry.Trouble
	for failures := 0; ctx.Err() == nil; {
		config, changed := f.wanted()
		serving, stop := context.WithCancel(ctx)
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			select {
			case <-changed:
				f.log.Info("the config has changed; FTP starts anew with it")
			case <-serving.Done():
			}
			stop()
		}()
		err := f.serve(ctx, serving, config, func() {
			failures = 0
			t.Over(time.Now(), "FTP is served again").To(f.log)
		})
		stop()
		<-watched
		if err != nil && ctx.Err() == nil {
			failures++
			t.Hit(time.Now(), slog.LevelError, "FTP cannot be served; trying on", err).To(f.log)
			retry.Sleep(ctx, retry.Backoff(failures, f.pace.firstRetry, f.pace.lastRetry))
		}
	}
}

// serve runs one drop and one server over it until serving ends. A session that hangs (in a sync, on a disk that does not
// answer) is waited for unless ctx ends too: it would commit into what the next drop thinks of as its own.
func (f *front) serve(ctx, serving context.Context, c frontConfig, works func()) error {
	owners := slices.Concat(c.FTP.Users, c.FTP.LeftOut)
	var d *drop.Drop
	// While nobody is known (there is no definition yet, or the config's users cannot be read) nothing is taken: it would be
	// under a wrong name and user.
	if len(owners) > 0 {
		var err error
		if d, err = f.openDrop(ctx, c, owners); err != nil {
			return err
		}
	}
	users, directories := f.usableUsers(c.FTP.Users)
	files := newMaildrop(d, directories)
	for _, u := range users {
		if _, err := files.user(u.Name); err != nil {
			f.log.Error("a user's directory cannot be made; the user cannot log in until it can", "user", u.Name, "directory", directories[u.Name], "error", err)
		}
	}
	server, err := f.server(c, users, files)
	if err != nil {
		return err
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	if d != nil {
		watching.Go(func() { _ = d.Run(serving) }) // it returns nil
	}
	works()
	acknowledge, why := f.storage.acknowledge(c.Files.Acknowledge)
	f.log.Info("FTP is served", "address", f.listener.Addr(), "users", len(users), "tls", c.FTP.TLS, "acknowledge", acknowledge, "since", why)
	if len(users) == 0 {
		f.log.Warn("FTP refuses every log-in, since no user is known that is valid")
	}
	err = server.Serve(serving)
	if errors.Is(err, ftp.ErrSessionsHang) && ctx.Err() == nil {
		f.log.Error("FTP is served again when its last sessions have ended: the volume's disk does not answer", "error", err)
		err = server.Wait(ctx)
	}
	return err
}

// openDrop opens the drop directory with its users. What stands there from a version of the node that kept finished files in it goes into the
// outbox before anything new can.
func (f *front) openDrop(ctx context.Context, c frontConfig, owners []*UserConfig) (*drop.Drop, error) {
	d, err := drop.Open(f.dropOptions(c))
	if err != nil {
		return nil, err
	}
	// A file that is found belongs to the user in whose directory it stands. That one cannot be
	// made keeps nobody else out: serve says so, and it is tried again when its user logs in.
	for _, u := range owners {
		_, _ = d.User(u.Name, u.Directory)
	}
	found, err := readFormat(f.volume)
	takenOver := d.TakeOver(ctx)
	switch {
	case err == nil && found == format:
		return d, nil // what could not be taken now is tried again
	case takenOver != nil:
		return nil, takenOver
	}
	return d, writeFormat(f.volume)
}

func (f *front) dropOptions(c frontConfig) drop.Options {
	ignore := []string{} // not nil, which would be the default
	for _, pattern := range c.Files.Ignore {
		ignore = append(ignore, *pattern)
	}
	wait := time.Duration(0)
	if mode, _ := f.storage.acknowledge(c.Files.Acknowledge); mode == delivered {
		wait = time.Duration(c.Files.AcknowledgeTimeout)
	}
	return drop.Options{
		FS: f.volume, Log: f.log,
		Delivered:     wait,
		Ready:         f.ready,
		Outbox:        f.outbox,
		Describe:      describer(c.Order),
		WatchDir:      filepath.Join(f.dir, "drop"),
		Ignore:        ignore,
		Settle:        orNone(time.Duration(c.Files.Settle)),
		Quiet:         time.Duration(c.Files.Quiet),
		PartialExpiry: time.Duration(c.Files.PartialExpiry),
		MaxSize:       int64(c.Files.MaxSize),
		SpoolLimit:    int64(c.Files.SpoolLimit),
		MinFree:       orNone(int64(c.Files.MinFree)),
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

// server makes the FTP server. A certificate whose files cannot be used is the server's to do without.
func (f *front) server(config frontConfig, users []ftp.User, files ftp.Backend) (*ftp.Server, error) {
	c := config.FTP
	// A duplicate of the listener, so that the port stays open while the server is replaced.
	file, err := f.listener.File()
	if err != nil {
		return nil, err
	}
	listener, err := net.FileListener(file)
	file.Close()
	if err != nil {
		return nil, err
	}
	opts := ftp.Options{
		Listener:                listener,
		Backend:                 files,
		Users:                   users,
		PublicAddress:           c.PublicAddress,
		PassivePorts:            ftp.PortRange{First: c.PassivePorts.First, Last: c.PassivePorts.Last},
		PublicPorts:             config.Ports,
		AllowForeignDataAddress: !c.CheckDataAddress,
		ActiveMode:              c.ActiveMode,
		TLS:                     ftp.TLSMode(c.TLS),
		Certificate:             c.Certificate,
		PrivateKey:              c.PrivateKey,
		CertificateFS:           f.volume,
		State:                   f.volume,
		IdleTimeout:             time.Duration(c.IdleTimeout),
		StallTimeout:            time.Duration(c.StallTimeout),
		// A little less than the drop's, so that the verdict is in when the file's turn comes, and nothing overtakes it.
		Settle:                   time.Duration(config.Files.Settle) * 7 / 8,
		LoginTimeout:             time.Duration(c.LoginTimeout),
		Drain:                    drainTime,
		MaxConnections:           c.MaxConnections,
		MaxConnectionsPerAddress: c.MaxConnectionsPerAddress,
		TrustHangups:             c.TrustHangups,
		Banner:                   c.Banner,
		Log:                      f.log,
	}
	server, err := ftp.New(opts)
	if err != nil {
		listener.Close()
	}
	return server, err
}

// usableUsers leaves out the users that a server would not take, such as one with a hash of broken parameters. It also returns whose directory is which.
func (f *front) usableUsers(users []*UserConfig) (usable []ftp.User, directories map[string]string) {
	directories = make(map[string]string)
	for _, u := range users {
		user := ftp.User{Name: u.Name, Password: u.Password, PasswordHash: u.PasswordHash, Readable: u.Readable, TrustHangups: u.TrustHangups}
		if err := user.Check(); err != nil {
			f.log.Error("a user cannot be used and is left out", "user", u.Name, "error", err)
			continue
		}
		usable = append(usable, user)
		directories[u.Name] = u.Directory
	}
	return usable, directories
}
