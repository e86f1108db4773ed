package main

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node"
)

// frontRig is a node on a simulated disk on which files have stood for days. It is stopped: what it claims stays in the outbox.
type frontRig struct {
	*rig
	fs   *disktest.FS
	disk *stuckFS // over fs

	mu   sync.Mutex
	node *node.Node
}

// newFrontRig starts a node with a config, or if that is "" without a definition.
func newFrontRig(t *testing.T, config string, files ...string) *frontRig {
	r := &frontRig{rig: newRig(t, echotest.Options{Node: echotest.Node{Config: config, Stopped: true}}), fs: disktest.New(1)}
	if config == "" {
		r.cloud.Off(echotest.AppSync)
	}
	days := time.Now().Add(-5 * day)
	r.fs.SetClock(func() time.Time { days = days.Add(time.Second); return days })
	for _, name := range files {
		require.NoError(t, disk.MkdirAll(r.fs, path.Dir(name), 0o750))
		require.NoError(t, disk.WriteFile(r.fs, name, []byte("x"), 0o640))
	}
	r.disk = newStuckFS(r.fs)
	r.volume = r.disk
	r.bridge.Serve = func(ctx context.Context, n *node.Node, c Config) error {
		r.mu.Lock()
		r.node = n
		r.mu.Unlock()
		return serveFTP(ctx, n, c, new(watch))
	}
	r.start()
	return r
}

func (r *frontRig) configure(config string) {
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = config })
	r.cloud.On(echotest.AppSync)
}

func (r *frontRig) user(name string) int { return dialFTP(r.t, r.address()).code("USER %s", name) }

func (r *frontRig) logIn(user string) int { return dialFTP(r.t, r.address()).login(user, testPassword) }

// wantClaimed waits for the last of the files, and wants no others: they are claimed in the order of their times.
func (r *frontRig) wantClaimed(files ...[2]string) {
	r.t.Helper()
	last := files[len(files)-1]
	r.log.wait(r.t, "File accepted", "user="+last[0], "name="+last[1])
	r.mu.Lock()
	defer r.mu.Unlock()
	var claimed [][2]string
	for e := range r.node.Outbox.Entries() {
		from, err := receivedOf(e)
		require.NoError(r.t, err)
		claimed = append(claimed, [2]string{from.User, e.Name})
	}
	assert.Equal(r.t, files, claimed)
}

// Without a definition nobody knows what is a temporary name, whose a file is, or for how long an interrupted upload is kept.
func TestNothingIsClaimedWithoutADefinition(t *testing.T) {
	t.Parallel()
	const expired = "partial/kept/plant-7/press/half.bin" // by the default
	r := newFrontRig(t, "", expired,
		"drop/plant-7/press/a.txt", "drop/plant-7/press/b.uploading", "drop/plant-7/press/c.txt")
	r.log.wait(t, "[WARNING] FTP refuses every log-in")
	assert.Equal(t, 421, r.user("press"))
	assert.Empty(t, r.log.find("File accepted"))

	r.configure(`{"ftp": {"users": [{"name": "press", "password": "` + testPassword + `", "directory": "plant-7/press"}]},
		"files": {"ignore": ["*.uploading"], "partialExpiry": "8760h"}}`)
	r.wantClaimed([2]string{"press", "a.txt"}, [2]string{"press", "c.txt"})
	assert.Equal(t, 230, r.logIn("press"))
	_, err := r.fs.Lstat(expired)
	require.NoError(t, err)
}

// A slip in the settings of a user does not give the files away that were received before.
func TestFilesOfUsersThatAreLeftOut(t *testing.T) {
	t.Parallel()
	r := newFrontRig(t, `{"ftp": {"users": [
		{"name": "press", "passwordHash": "no hash", "directory": "plant-7/press"},
		{"name": "lathe", "passwordHash": "$argon2id$v=19$m=99999999999999,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFh", "directory": "plant-7/lathe"}]}}`,
		"drop/plant-7/press/a.txt", "drop/plant-7/lathe/sub/b.txt")
	r.log.wait(t, "FTP is served", "users=0")
	r.log.wait(t, "[WARNING] FTP refuses every log-in")
	r.wantClaimed([2]string{"press", "a.txt"}, [2]string{"lathe", "sub/b.txt"})
	assert.Equal(t, 421, r.user("press"))
}

// stuckFS is a disk that does not answer to the first Sync of a file from when it is armed until it is freed.
type stuckFS struct {
	disk.FS
	armed     atomic.Bool
	stuck     chan struct{} // closed when a Sync waits
	freed     chan struct{}
	freedOnce sync.Once
}

func newStuckFS(fsys disk.FS) *stuckFS {
	return &stuckFS{FS: fsys, stuck: make(chan struct{}), freed: make(chan struct{})}
}

func (s *stuckFS) free() { s.freedOnce.Do(func() { close(s.freed) }) }

func (s *stuckFS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := s.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return stuckFile{f, s}, nil
}

type stuckFile struct {
	disk.File
	fs *stuckFS
}

func (f stuckFile) Sync() error {
	if f.fs.armed.CompareAndSwap(true, false) {
		close(f.fs.stuck)
		<-f.fs.freed
	}
	return f.File.Sync()
}

// A new config waits for an upload that hangs: two drops on one volume would take each other's files for their own.
func TestNewConfigWaitsForASessionThatHangs(t *testing.T) {
	t.Parallel()
	config := func(banner string) string {
		return fmt.Sprintf(`{"ftp": {"users": [{"name": "scanner", "password": %q}], "banner": %q, "passivePorts": %q}, "files": {"minFree": "1MB"}}`,
			testPassword, banner, freePorts(t))
	}
	r := newFrontRig(t, config("one"))
	t.Cleanup(r.disk.free)
	c := loginFTP(t, r.address())
	r.disk.armed.Store(true)
	c.upload("stuck.bin", strings.NewReader("all of it"))
	<-r.disk.stuck
	r.configure(config("two"))
	r.log.wait(t, "[ERROR] FTP is served again when its last sessions have ended")
	served := func() int { return len(r.log.find("FTP is served address")) }
	assert.Equal(t, 1, served())
	r.disk.free()
	require.Eventually(t, func() bool { return served() == 2 }, waitFor, tick)
	loginFTP(t, r.address()).store("next.bin", []byte("the next"))
}
