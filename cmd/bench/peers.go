package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/internal/freeport"
)

// The contenders.
const (
	ours   = "ftpnode"
	vsftpd = "vsftpd"
	pure   = "pure-ftpd"
	python = "python" // pyftpdlib, and echostream-node where there is a cloud
	bare   = "bare loop"
	dd     = "dd conv=fsync"
)

var peerNames = []string{vsftpd, pure, python}

// echostreamNode is the version of EchoStream's library that is measured.
const echostreamNode = "echostream-node==0.4.6"

//go:embed pythonway.py
var pythonWay string

// daemon is the user that the peers run their sessions as: Debian's base-passwd makes it, with a home that exists.
const daemon = "daemon"

// peers is what was installed.
type peers struct {
	root        string // Debian's files
	python      string // the interpreter of the virtual environment
	script      string
	certificate string // PEM: chain and key
	uid, gid    int
}

func (b *bench) has(peer string) bool { return !slices.Contains(b.without, peer) }

// install brings the peers into -dir; what an earlier run has brought, it uses.
func (b *bench) install(ctx context.Context) error {
	if b.has(vsftpd) || b.has(pure) {
		u, err := user.Lookup(daemon)
		if err != nil {
			return err
		}
		b.peers.uid, _ = strconv.Atoi(u.Uid)
		b.peers.gid, _ = strconv.Atoi(u.Gid)
		if err := b.installDebian(ctx); err != nil {
			return fmt.Errorf("%w (leave them out: -without vsftpd,pure-ftpd)", err)
		}
	}
	if b.has(python) {
		if err := b.installPython(ctx); err != nil {
			return fmt.Errorf("%w (leave it out: -without python)", err)
		}
	}
	b.peers.certificate = filepath.Join(b.work, "certificate.pem")
	return makeCertificate(b.peers.certificate)
}

func (b *bench) tool(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// installDebian unpacks the packages, and the libraries that a machine may lack: installed, vsftpd and pure-ftpd would exclude
// each other.
func (b *bench) installDebian(ctx context.Context) error {
	b.peers.root = filepath.Join(b.dir, "debian")
	if _, err := os.Stat(filepath.Join(b.peers.root, "complete")); err == nil {
		return nil
	}
	fmt.Fprintln(b.out, "fetching vsftpd and pure-ftpd from Debian")
	packages := filepath.Join(b.work, "packages")
	if err := errors.Join(os.RemoveAll(b.peers.root), os.MkdirAll(b.peers.root, 0o755), os.MkdirAll(packages, 0o777)); err != nil {
		return err
	}
	download := append([]string{"download", "-q"}, "vsftpd", "libwrap0", "pure-ftpd", "pure-ftpd-common", "libsodium23")
	if b.tool(ctx, packages, "apt-get", download...) != nil { // the lists may be old, or not there
		if err := b.tool(ctx, packages, "apt-get", "update", "-q"); err != nil {
			return err
		}
		if err := b.tool(ctx, packages, "apt-get", download...); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(packages, "*.deb"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := b.tool(ctx, packages, "dpkg-deb", "-x", f, b.peers.root); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(b.peers.root, "complete"), nil, 0o644)
}

// debian is a command of the packages.
func (b *bench) debian(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(b.peers.root, name), args...)
	var libraries []string
	for _, pattern := range []string{"lib/*-linux-gnu*", "usr/lib/*-linux-gnu*"} {
		found, _ := filepath.Glob(filepath.Join(b.peers.root, pattern))
		libraries = append(libraries, found...)
	}
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"), "LC_ALL=C")
	return cmd
}

func (b *bench) installPython(ctx context.Context) error {
	dir := filepath.Join(b.dir, "python")
	b.peers.python, b.peers.script = filepath.Join(dir, "bin/python"), filepath.Join(b.work, "pythonway.py")
	if err := os.WriteFile(b.peers.script, []byte(pythonWay), 0o644); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return nil
	}
	interpreter, err := b.findPython(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(b.out, "fetching pyftpdlib and", echostreamNode, "from the package index")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := b.tool(ctx, b.dir, interpreter, "-m", "venv", dir); err != nil {
		return err
	}
	if err := b.tool(ctx, b.dir, b.peers.python, "-m", "pip", "install", "-q", "pyftpdlib", echostreamNode); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "complete"), nil, 0o644)
}

// findPython finds an interpreter that is new enough for echostream-node: the system's, or one that pyenv has.
func (b *bench) findPython(ctx context.Context) (string, error) {
	candidates := []string{b.options.python}
	if b.options.python == "" {
		candidates = []string{"python3", "python3.12", "python3.13", "python3.14"}
		home, _ := os.UserHomeDir()
		more, _ := filepath.Glob(filepath.Join(home, ".pyenv/versions/3.1[2-9]*/bin/python3"))
		candidates = append(candidates, more...)
	}
	for _, c := range candidates {
		if exec.CommandContext(ctx, c, "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))").Run() == nil {
			return c, nil
		}
	}
	return "", fmt.Errorf("%s needs Python 3.12 or newer with venv, and none of %s is that: name one with -python", echostreamNode, strings.Join(candidates, ", "))
}

// makeCertificate writes a certificate for the peers' TLS. Ours makes its own.
func makeCertificate(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "bench"}, DNSNames: []string{"bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(7 * 24 * time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(file, text, 0o600)
}

// setting is how a contender is started.
type setting struct {
	connections int
	tls         bool
	targets     int    // edges; none is upload only
	countOnly   bool   // the cloud keeps nothing
	volume      string // ours: an old one. By default, an empty one of its own.
	memory      int64  // limit in bytes. By default, none.
	files       map[string]any
}

// passive is how many ports for data connections ours has: one for each transfer at a time, 10 by default.
func (o setting) passive() int { return max(10, o.connections) }

// start starts a contender on a directory of its own.
func (b *bench) start(ctx context.Context, name string, o setting) (s *server, err error) {
	s = &server{name: name, tls: o.tls, user: "bench", password: "bench"}
	defer func() {
		if err != nil {
			s.stop()
			s = nil
		}
	}()
	dir, err := os.MkdirTemp(b.work, "server-")
	if err != nil {
		return s, err
	}
	s.cleanup = append(s.cleanup, func() { _ = os.RemoveAll(dir) })
	port, err := freeport.Find(1 + o.passive())
	if err != nil {
		return s, err
	}
	s.address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	start := map[string]func(*server, string, int, setting) (*exec.Cmd, error){
		ours: b.oursCommand, vsftpd: b.vsftpdCommand, pure: b.pureCommand, python: b.pythonCommand,
	}[name]
	cmd, err := start(s, dir, port, o)
	if err != nil {
		return s, fmt.Errorf("preparing %s: %w", name, err)
	}
	if o.memory > 0 {
		var remove func()
		cmd, remove, b.cgroup = limited(o.memory, cmd)
		s.cleanup = append(s.cleanup, remove)
	}
	return s, s.launch(ctx, b, cmd)
}

// home is a directory that the peers' user owns.
func (b *bench) home(dir string) (string, error) {
	home := filepath.Join(dir, "home")
	return home, errors.Join(os.Chmod(dir, 0o755), os.Mkdir(home, 0o755), os.Chown(home, b.peers.uid, b.peers.gid))
}

func (b *bench) oursCommand(s *server, dir string, port int, o setting) (*exec.Cmd, error) {
	volume := o.volume
	if volume == "" {
		volume = filepath.Join(dir, "volume")
	}
	if err := os.MkdirAll(volume, 0o750); err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"ftp": map[string]any{
			"users":         []map[string]string{{"name": s.user, "password": s.password}},
			"passivePorts":  fmt.Sprintf("%d-%d", port+1, port+o.passive()),
			"publicAddress": "127.0.0.1",
			// All clients are one address here.
			"maxConnections": 1000, "maxConnectionsPerAddress": 1000,
		},
		"files": o.files,
	})
	if err != nil {
		return nil, err
	}
	targets := []string{}
	for i := range o.targets {
		targets = append(targets, fmt.Sprintf("target-%d", i+1))
	}
	if s.cloud, err = b.startCloud(cloudOptions{Targets: targets, Config: string(config), CountOnly: o.countOnly}); err != nil {
		return nil, err
	}
	s.cleanup = append(s.cleanup, s.cloud.stop)
	cmd := exec.Command(b.node)
	cmd.Env = append(b.environment(s.cloud), "FTPNODE_DATA="+volume, "FTPNODE_FTP_ADDR="+s.address)
	return cmd, nil
}

// environment is this process's, without what could mean another cloud, and with the cloud's.
func (b *bench) environment(c *cloud) []string {
	var env []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "AWS_") && !strings.HasPrefix(name, "FTPNODE_") && name != "NAME" {
			env = append(env, pair)
		}
	}
	for name, value := range c.first.Environment {
		env = append(env, name+"="+value)
	}
	return env
}

func (b *bench) vsftpdCommand(s *server, dir string, port int, o setting) (*exec.Cmd, error) {
	// It insists on a root that its user cannot write to, and files go into a directory below.
	root, empty := filepath.Join(dir, "root"), filepath.Join(dir, "empty")
	if err := errors.Join(os.Mkdir(root, 0o755), os.Mkdir(empty, 0o755)); err != nil {
		return nil, err
	}
	if _, err := b.home(root); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	s.user, s.cwd = "anonymous", "home" // anonymous needs no PAM service on this machine
	lines := []string{
		"listen=YES", "background=NO", "listen_address=127.0.0.1", fmt.Sprintf("listen_port=%d", port),
		"anonymous_enable=YES", "local_enable=NO", "write_enable=YES", "anon_upload_enable=YES", "anon_world_readable_only=NO", "anon_umask=022",
		"ftp_username=" + daemon, "anon_root=" + root, "secure_chroot_dir=" + empty,
		"xferlog_enable=YES", "vsftpd_log_file=" + filepath.Join(dir, "vsftpd.log"), "tcp_wrappers=NO",
		"max_clients=0", "max_per_ip=0",
	}
	if o.tls {
		lines = append(lines, "ssl_enable=YES", "allow_anon_ssl=YES", "require_ssl_reuse=NO", "ssl_ciphers=HIGH",
			"rsa_cert_file="+b.peers.certificate, "rsa_private_key_file="+b.peers.certificate)
	}
	conf := filepath.Join(dir, "vsftpd.conf")
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return nil, err
	}
	return b.debian("usr/sbin/vsftpd", conf), nil
}

func (b *bench) pureCommand(s *server, dir string, port int, _ setting) (*exec.Cmd, error) {
	home, err := b.home(dir)
	if err != nil {
		return nil, err
	}
	// pure-pw would choose a hash that costs seconds for each log-in. This is SHA-512 crypt(3), of the password "bench".
	const hash = "$6$bench$y/IHGvgzdQp.8kT6YX2I6sPlhs74T0HhO7VF3q8tnN1hUHK6h5mU.ej9wW36eivXu.RKz1UwYrO1w4.fIM6Mv0"
	users := filepath.Join(dir, "users")
	line := fmt.Sprintf("%s:%s:%d:%d::%s/./::::::::::::\n", s.user, hash, b.peers.uid, b.peers.gid, home)
	if err := os.WriteFile(users, []byte(line), 0o600); err != nil {
		return nil, err
	}
	if out, err := b.debian("usr/bin/pure-pw", "mkdb", users+".pdb", "-f", users).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pure-pw: %w\n%s", err, out)
	}
	return b.debian("usr/sbin/pure-ftpd", "-l", "puredb:"+users+".pdb", "-S", "127.0.0.1,"+strconv.Itoa(port),
		"-c", "1000", "-C", "1000", "-E", "-A", "-H", "-u", "1",
		"-g", filepath.Join(dir, "pid"), "-O", "clf:"+filepath.Join(dir, "log")), nil
}

func (b *bench) pythonCommand(s *server, dir string, port int, o setting) (*exec.Cmd, error) {
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command(b.peers.python, b.peers.script, "127.0.0.1", strconv.Itoa(port), home)
	cmd.Env = os.Environ()
	if o.targets == 0 {
		return cmd, nil
	}
	var targets []string
	for i := range o.targets {
		targets = append(targets, fmt.Sprintf("target-%d", i+1))
	}
	var err error
	if s.cloud, err = b.startCloud(cloudOptions{Targets: targets, Config: "{}", CountOnly: o.countOnly}); err != nil {
		return nil, err
	}
	s.cleanup = append(s.cleanup, s.cloud.stop)
	// The library verifies tokens by the pool's keys, and fetches them from Amazon unless it is given them.
	answer, err := http.Get(s.cloud.first.KeysURL)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	keys, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(b.environment(s.cloud), "COGNITO_JWKS="+string(keys))
	return cmd, nil
}
