//go:build nat

package nat

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const password = "a-long-password"

// programs is where the binaries under test are.
var programs string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ftpnode-nat-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir, "../../cmd/ftpnode", "../../cmd/echolocal")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the node: %v\n%s", err, out)
		return 1
	}
	programs = dir
	return m.Run()
}

// served is in the log when users can log in: before the node knows its definition, it says users=0.
var served = regexp.MustCompile(`FTP is served .*users=[1-9]`)

// program is a node that runs in its namespace, with a local cloud beside it.
type program struct {
	*network
	log      *buffer
	received string // directory of the files that arrived
	hosts    string // the node's /etc/hosts
}

// start runs the node; settings are members of the config's section ftp.
func (n *network) start(settings string) *program {
	n.t.Helper()
	dir := n.t.TempDir()
	p := &program{network: n, log: &buffer{}, received: filepath.Join(dir, "received"), hosts: filepath.Join(dir, "hosts")}
	if settings != "" {
		settings = ", " + settings
	}
	config := filepath.Join(dir, "config.json")
	require.NoError(n.t, os.WriteFile(config, fmt.Appendf(nil, `{
		"ftp": {"users": [{"name": "dock", "password": %q}]%s},
		"files": {"settle": "10ms", "minFree": "1MB"}}`, password, settings), 0o600))
	require.NoError(n.t, os.WriteFile(p.hosts, []byte("127.0.0.1 localhost\n"), 0o644))

	// "ip netns exec" gives the program mounts of its own: this one is seen by no one else.
	cmd := n.command(context.Background(), node, "sh", "-ec", `mount --bind "$0" /etc/hosts && exec "$@"`, p.hosts,
		filepath.Join(programs, "echolocal"), "-config", config, "-received", p.received, "-data", filepath.Join(dir, "data"),
		"-ftp", fmt.Sprintf(":%d", ftpPort), "--", filepath.Join(programs, "ftpnode"))
	cmd.Stdout, cmd.Stderr = p.log, p.log
	require.NoError(n.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	n.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			assert.Fail(n.t, "the node does not stop")
			_ = cmd.Process.Kill()
			<-ended
		}
		if n.t.Failed() {
			n.t.Logf("the node's log:\n%s", p.log)
		}
	})
	require.Eventually(n.t, func() bool { return served.MatchString(p.log.String()) || len(ended) > 0 }, patience, 10*time.Millisecond)
	require.Regexp(n.t, served, p.log.String())
	return p
}

// arrives waits until the file was delivered, byte for byte.
func (p *program) arrives(name string, want []byte) {
	p.t.Helper()
	path := filepath.Join(p.received, "target-1", name)
	require.Eventually(p.t, func() bool { _, err := os.Stat(path); return err == nil }, patience, 10*time.Millisecond, "%s arrives", name)
	got, err := os.ReadFile(path)
	require.NoError(p.t, err)
	require.True(p.t, bytes.Equal(want, got), "%s has %d bytes, or others; expected %d", name, len(got), len(want))
}

// arrived tells which files were delivered.
func (p *program) arrived() (names []string) {
	entries, err := os.ReadDir(filepath.Join(p.received, "target-1"))
	if !os.IsNotExist(err) {
		require.NoError(p.t, err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// buffer is what the node writes.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
