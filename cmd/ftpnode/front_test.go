package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/disk"
	"github.com/ftpnode/ftpnode/internal/disk/disktest"
)

// frontRig is a front on a simulated disk on which files have stood for days. What it claims stays in the outbox.
type frontRig struct {
	*front
	t   *testing.T
	fs  *disktest.FS
	log *logBuffer
}

func newFrontRig(t *testing.T, config string, files ...string) *frontRig {
	r := &frontRig{t: t, fs: disktest.New(1), log: &logBuffer{}}
	days := time.Now().Add(-5 * day)
	r.fs.SetClock(func() time.Time { days = days.Add(time.Second); return days })
	for _, name := range files {
		require.NoError(t, disk.MkdirAll(r.fs, path.Dir(name), 0o750))
		require.NoError(t, disk.WriteFile(r.fs, name, []byte("x"), 0o640))
	}
	box, err := outbox.Open(outbox.Options{FS: r.fs, Deliverer: &shelf{}})
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.front = &front{volume: r.fs, dir: t.TempDir(), listener: listener.(*net.TCPListener), outbox: box, holder: &dropHolder{},
		log: slog.New(echostream.NewLogHandler(r.log, slog.LevelInfo)), pace: quick}
	r.configure(config)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		assert.NoError(t, listener.Close())
		assert.NoError(t, box.Close())
	})
	r.log.wait(t, "FTP is served")
	return r
}

func (r *frontRig) configure(config string) {
	c, _ := parseConfig(json.RawMessage(config))
	r.use(c, nil)
}

func (r *frontRig) login(user string) int {
	return dialFTP(r.t, r.listener.Addr().String()).login(user, testPassword)
}

// wantClaimed waits for the last of the files, and wants no others: they are claimed in the order of their times.
func (r *frontRig) wantClaimed(files ...[2]string) {
	r.t.Helper()
	last := files[len(files)-1]
	r.log.wait(r.t, "File accepted", "user="+last[0], "name="+last[1])
	var claimed [][2]string
	for e := range r.outbox.Entries() {
		from, err := receivedOf(e)
		require.NoError(r.t, err)
		claimed = append(claimed, [2]string{from.User, e.Name})
	}
	assert.Equal(r.t, files, claimed)
}

// Without a definition nobody knows what is a temporary name, whose a file is, or for how long an interrupted upload is kept.
func TestNothingIsClaimedWithoutADefinition(t *testing.T) {
	const expired = "partial/kept/plant-7/press/half.bin" // by the default
	r := newFrontRig(t, "", expired,
		"drop/plant-7/press/a.txt", "drop/plant-7/press/b.uploading", "drop/plant-7/press/c.txt")
	r.log.wait(t, "[WARNING] FTP refuses every log-in")
	assert.Equal(t, 530, r.login("press"))
	assert.Empty(t, r.log.find("File accepted"))

	r.configure(`{"ftp": {"users": [{"name": "press", "password": "` + testPassword + `", "directory": "plant-7/press"}]},
		"files": {"ignore": ["*.uploading"], "partialExpiry": "8760h"}}`)
	r.wantClaimed([2]string{"press", "a.txt"}, [2]string{"press", "c.txt"})
	assert.Equal(t, 230, r.login("press"))
	_, err := r.fs.Lstat(expired)
	require.NoError(t, err)
}

// A slip in the settings of a user does not give the files away that were received before.
func TestFilesOfUsersThatAreLeftOut(t *testing.T) {
	r := newFrontRig(t, `{"ftp": {"users": [
		{"name": "press", "passwordHash": "no hash", "directory": "plant-7/press"},
		{"name": "lathe", "passwordHash": "$argon2id$v=19$m=99999999999999,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFh", "directory": "plant-7/lathe"}]}}`,
		"drop/plant-7/press/a.txt", "drop/plant-7/lathe/sub/b.txt")
	r.log.wait(t, "FTP is served", "users=0")
	r.log.wait(t, "[WARNING] FTP refuses every log-in")
	r.wantClaimed([2]string{"press", "a.txt"}, [2]string{"lathe", "sub/b.txt"})
	assert.Equal(t, 530, r.login("press"))
}
