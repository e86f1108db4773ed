//go:build cgroup

package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/cgrouptest"
	"github.com/ftpnode/ftpnode/internal/freeport"
)

// TestCgroupMemory runs the program in the 256 MiB that the docs promise to be enough, with all at once: as many files as
// files.maxTotal allows by default, while SQS is out of reach; 200 sessions; 6 log-ins with the hashes that common tools make; 20
// listings of 100,000 files. It takes what cgrouptest does:
//
//	go test -tags cgroup -run CgroupMemory -v ./cmd/ftpnode
//
// What it logs of files holds the garbage of the start; the table in deploy/NODE_TYPE.md (Sizing) has what stays on the heap.
func TestCgroupMemory(t *testing.T) {
	const (
		container = 256 << 20
		waiting   = 150_000
		users     = 2 // with a half of the files each
		sessions  = 200
		hashes    = 6
		listings  = 20
		within    = 5 * time.Minute
	)
	cloud := echotest.NewCloud(echotest.Options{Node: echotest.Node{Config: cgroupConfig(t, users, hashes, sessions+hashes+listings+1)}})
	t.Cleanup(cloud.Close)
	cloud.Off(echotest.SQS)
	dir := t.TempDir()
	n := &cgroupNode{t: t, group: cgrouptest.New(t, container), cloud: cloud, dir: dir, log: &logBuffer{}}
	n.build()

	// What it uses, with little garbage.
	n.start("GOGC=20")
	empty := n.settled()
	n.stop()
	fill(t, dir, waiting, users)
	began := time.Now()
	n.start("GOGC=20")
	t.Logf("%d files: served %v after the start", waiting, time.Since(began).Round(time.Second))
	full := n.settled()
	n.logIn(sessions, users, within)
	open := n.settled()
	t.Logf("MiB: an empty node %d, each 100,000 waiting files %d, each 100 sessions %.1f",
		empty>>20, (full-empty)*100_000/waiting>>20, float64(open-full)*100/sessions/(1<<20))
	n.stop()

	// As it is run.
	n.start()
	idle := n.logIn(sessions, users, within)
	var clients sync.WaitGroup
	failures := make(chan error, hashes+listings)
	for i := range hashes {
		clients.Go(func() {
			_, err := dialDeviceAs(n.address, fmt.Sprint("hash", i), testPassword, within)
			failures <- err
		})
	}
	for i := range listings {
		clients.Go(func() {
			failures <- n.list(fmt.Sprint("user", i%users), []string{"LIST", "MLSD", "NLST"}[i%3], waiting/users, within)
		})
	}
	clients.Wait()
	n.alive()
	close(failures)
	for err := range failures {
		assert.NoError(t, err)
	}
	code, _, err := idle[0].put("one-more", "x")
	require.NoError(t, err)
	assert.Equal(t, 452, code, "files.maxTotal")
	for _, d := range idle {
		code, err := d.do("NOOP")
		require.NoError(t, err)
		require.Equal(t, 200, code)
	}
	t.Logf("%d MiB of %d at most, with what the kernel kept for it", n.group.Peak()>>20, container>>20)
	n.stop() // it was not killed
}

// cgroupConfig has users with passwords, and some with a hash of 64 MiB each.
func cgroupConfig(t *testing.T, users, hashes, connections int) string {
	var all []map[string]string
	for i := range users {
		all = append(all, map[string]string{"name": fmt.Sprint("user", i), "password": testPassword})
	}
	salt, enc := []byte("0123456789abcdef"), base64.RawStdEncoding.EncodeToString
	hash := "$argon2id$v=19$m=65536,t=3,p=4$" + enc(salt) + "$" + enc(argon2.IDKey([]byte(testPassword), salt, 3, 65536, 4, 32))
	for i := range hashes {
		all = append(all, map[string]string{"name": fmt.Sprint("hash", i), "passwordHash": hash})
	}
	const ports = 30
	first := freeport.Range(t, ports)
	config, err := json.Marshal(map[string]any{
		"ftp": map[string]any{
			"users": all, "passivePorts": fmt.Sprintf("%d-%d", first, first+ports-1), "maxConnections": connections, "maxConnectionsPerAddress": connections,
		},
		"files": map[string]any{"minFree": "1MB"},
	})
	require.NoError(t, err)
	return string(config)
}

// fill puts files into the outbox of a volume, as uploads do.
func fill(t *testing.T, dir string, files, users int) {
	volume, err := disk.Open(dir)
	require.NoError(t, err)
	defer volume.Close()
	box, err := outbox.Open(outbox.Options{FS: volume, Deliverer: &shelf{}})
	require.NoError(t, err)
	describe := describer("node")
	var items []outbox.Item
	for i := range files {
		f := drop.File{
			User: fmt.Sprint("user", i%users), Name: fmt.Sprintf("scan-2026-11-26-%08d.xml", i), Received: time.Now(),
			RemoteAddr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}),
		}
		name := fmt.Sprint("partial/", i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o640))
		lane, meta := describe(f)
		sum := crc32.Checksum([]byte("x"), crc32.MakeTable(crc32.Castagnoli))
		items = append(items, outbox.Item{Path: name, Name: f.Name, Key: f.User + "/" + f.Name, Lane: lane, Meta: meta, Checksum: &sum})
		if len(items) == 2000 || i == files-1 {
			_, errs := box.Put(t.Context(), items)
			require.NoError(t, errors.Join(errs...))
			items = nil
		}
	}
	require.NoError(t, box.Close())
}

// cgroupNode is the program, in a cgroup.
type cgroupNode struct {
	t            *testing.T
	group        *cgrouptest.Group
	cloud        *echotest.Cloud
	dir, program string
	log          *logBuffer
	process      *exec.Cmd
	ended        chan error
	address      string
}

func (n *cgroupNode) build() {
	n.program = filepath.Join(n.t.TempDir(), "ftpnode")
	out, err := exec.Command("go", "build", "-o", n.program, ".").CombinedOutput()
	require.NoError(n.t, err, "%s", out)
}

// start runs the program until it serves FTP to its users.
func (n *cgroupNode) start(env ...string) {
	n.t.Helper()
	n.log.Reset()
	n.process = exec.Command("sh", "-c", `echo $$ >"$0/cgroup.procs" && exec "$1"`, n.group.Dir, n.program)
	n.process.Env = append(os.Environ(), "FTPNODE_DATA="+n.dir, "FTPNODE_FTP_ADDR=127.0.0.1:0", "GOMEMLIMIT=")
	for name, value := range n.cloud.Environment() {
		n.process.Env = append(n.process.Env, name+"="+value)
	}
	n.process.Env = append(n.process.Env, env...)
	n.process.Stdout, n.process.Stderr = n.log, os.Stderr
	require.NoError(n.t, n.process.Start())
	n.ended = make(chan error, 1)
	process := n.process
	go func() { n.ended <- process.Wait() }()
	n.t.Cleanup(func() { _ = process.Process.Kill() })
	require.Eventually(n.t, func() bool {
		return len(n.ended) > 0 || len(n.log.find("FTP is served", fmt.Sprint("users=", 2+6))) > 0
	}, 5*time.Minute, tick)
	n.alive()
	n.address = servedAt.FindStringSubmatch(n.log.String())[1]
}

// alive fails at once if the process was killed.
func (n *cgroupNode) alive() {
	n.t.Helper()
	select {
	case err := <-n.ended:
		require.Failf(n.t, "the node has ended", "%v; it used %d MiB\n%s", err, n.group.Peak()>>20, n.log)
	default:
	}
}

func (n *cgroupNode) stop() {
	n.t.Helper()
	require.NoError(n.t, n.process.Process.Signal(syscall.SIGTERM))
	require.NoError(n.t, <-n.ended, "%s", n.log)
}

// logIn opens sessions, and leaves them open.
func (n *cgroupNode) logIn(sessions, users int, within time.Duration) (open []*device) {
	n.t.Helper()
	for i := range sessions {
		d, err := dialDeviceAs(n.address, fmt.Sprint("user", i%users), testPassword, within)
		require.NoError(n.t, err, n.log)
		open = append(open, d)
	}
	return open
}

// settled is what the node uses when it has no more to do for now.
func (n *cgroupNode) settled() int64 {
	var last int64
	require.Eventually(n.t, func() bool {
		before := last
		last = n.group.Anonymous()
		return before > 0 && max(last-before, before-last) < 1<<20
	}, time.Minute, 2*time.Second)
	return last
}

// list lists the user's directory and counts the lines.
func (n *cgroupNode) list(user, command string, want int, within time.Duration) error {
	d, err := dialDeviceAs(n.address, user, testPassword, within)
	if err != nil {
		return err
	}
	data, code, err := d.begin("%s", command)
	if data == nil {
		return fmt.Errorf("%s: %d %w", command, code, err)
	}
	_ = data.SetDeadline(time.Now().Add(within))
	lines := 0
	for scanner := bufio.NewScanner(data); scanner.Scan(); {
		if strings.Contains(scanner.Text(), "scan-") {
			lines++
		}
	}
	if code, err = d.end(data); err != nil || code != 226 || lines != want {
		return fmt.Errorf("%s: %d lines, expected %d; %d %w", command, lines, want, code, err)
	}
	return nil
}
