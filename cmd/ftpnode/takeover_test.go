package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node"
)

// unpackVolume unpacks a volume that a version before this one has left. Its files stand in the order of their change times, which no
// program can set: so each is made anew until it has a later one than the one before.
func unpackVolume(t *testing.T, archive, dir string) {
	f, err := os.Open(archive)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	var last time.Time
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		name := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(name, 0o750))
			continue
		}
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		for changed := last; !changed.After(last); {
			require.NoError(t, os.WriteFile(name, content, 0o640))
			require.NoError(t, os.Chtimes(name, h.ModTime, h.ModTime))
			info, err := os.Stat(name)
			require.NoError(t, err)
			changed = disk.ChangeTime(info)
			if changed.After(last) {
				last = changed
				break
			}
		}
	}
}

// What the version before has left is delivered in its old order, before anything new. testdata/format-1.tar.gz was written by that version
// (8ce45e8): it was stopped within the settle time, and SQS was away.
func TestOldVolumeIsTakenOver(t *testing.T) {
	t.Parallel()
	config := strings.Replace(testConfig(t, "", `"message": {"content": "inline"}`), `"settle": "10ms"`, `"settle": "10ms", "quiet": "1s"`, 1)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config}})
	dir := r.env["FTPNODE_DATA"]
	unpackVolume(t, filepath.Join("testdata", "format-1.tar.gz"), dir)
	newest, err := os.Stat(filepath.Join(dir, "partial", "kept", "scanner", "interrupted.txt"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return time.Since(disk.ChangeTime(newest)) > time.Second }, waitFor, tick, "all has been quiet")

	r.cloud.Off(echotest.SQS)
	r.start()
	format, err := os.ReadFile(filepath.Join(dir, "format"))
	require.NoError(t, err)
	assert.Equal(t, "2\n", string(format), "an older version refuses it from now on")
	c := r.login()
	c.command(200, "TYPE I")
	list := c.list()
	for _, name := range []string{"waiting-1.txt", "waiting-2.txt", "finished-a.txt", "held.tmp", "interrupted.txt"} {
		assert.Contains(t, list, name)
	}
	c.store("new.txt", []byte("new"))
	c.command(350, "RNFR held.tmp")
	c.command(250, "RNTO held.txt")
	c.command(350, "REST 7")
	c.store("interrupted.txt", []byte("pted"))
	r.cloud.On(echotest.SQS)
	want := []string{"waiting-2.txt", "waiting-1.txt", "finished-c.txt", "finished-a.txt", "d/finished-d.txt", "finished-b.txt",
		"new.txt", "held.txt", "interrupted.txt"}
	r.arrived("", len(want))
	assert.Equal(t, want, r.names(""))
	c.command(350, "RNFR .in")
	c.command(250, "RNTO in")
	r.arrived("", len(want)+1)
	assert.Equal(t, append(want, "in/gathered.txt"), r.names(""))
	r.settled(len(want) + 1)
	assert.Empty(t, mustGlob(t, filepath.Join(dir, "drop", "scanner", "*.txt")))
	assert.Len(t, mustGlob(t, filepath.Join(dir, "failed", "*")), 2, "what had failed is still there")
}

func mustGlob(t *testing.T, pattern string) []string {
	names, err := filepath.Glob(pattern)
	require.NoError(t, err)
	return names
}

// A volume is taken over by its format: only then is the format changed.
func TestFormatStaysUntilTheVolumeIsTakenOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{})
	dir := r.env["FTPNODE_DATA"]
	require.NoError(t, os.WriteFile(filepath.Join(dir, "format"), []byte("1\n"), 0o600))
	r.bridge.Serve = func(ctx context.Context, n *node.Node, c Config) error {
		format, err := os.ReadFile(filepath.Join(dir, "format"))
		assert.NoError(t, err)
		assert.Equal(t, "1\n", string(format))
		return serveFTP(ctx, n, c, new(watch))
	}
	r.start()
	format, err := os.ReadFile(filepath.Join(dir, "format"))
	require.NoError(t, err)
	assert.Equal(t, "2\n", string(format))
}
