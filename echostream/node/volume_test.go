package node

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestFormatIsWrittenOnce(t *testing.T) {
	fsys := disktest.New(1)
	fsys.SetCapacity(1)
	require.ErrorContains(t, checkFormat(fsys, 2), "no space left", "a new volume that takes nothing is of no use")
	fsys.SetCapacity(0)
	require.NoError(t, checkFormat(fsys, 2))
	fsys.SetCapacity(1)
	changes := fsys.Len()
	require.NoError(t, checkFormat(fsys, 2))
	assert.Equal(t, changes, fsys.Len(), "nothing is written at a later start")
}

// A volume without a format on which something stands may be of an earlier format: only the bridge knows. If there is none, it is new.
func TestVolumeWithoutAFormat(t *testing.T) {
	for _, c := range []struct {
		dir    string
		format int
		marked bool
	}{{"lost+found", 2, true}, {"outbox", 2, false}, {"drop", 2, false}, {"outbox", 1, true}} {
		fsys := disktest.New(1)
		require.NoError(t, fsys.Mkdir(c.dir, 0o750))
		require.NoError(t, checkFormat(fsys, c.format))
		n := &Node{Volume: fsys, format: c.format}
		assert.Equal(t, !c.marked, n.Outdated(), "%+v", c)
		require.NoError(t, n.TakenOver())
		assert.False(t, n.Outdated(), "%+v", c)
	}
}

// Somebody has removed the lock file: the directory is locked as well.
func TestSecondNodeWithoutALockFile(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	require.NoError(t, err)
	for range 2 {
		_, err = lock(dir)
		require.ErrorContains(t, err, "another node runs on this volume")
		require.NoError(t, os.Remove(filepath.Join(dir, lockFile)))
	}
	unlock()
	unlock, err = lock(dir)
	require.NoError(t, err)
	unlock()
}

func TestVolumeOfAnotherUser(t *testing.T) {
	err := withOwner(&fs.PathError{Op: "open", Path: "/data/lock", Err: syscall.EACCES}, "/data")
	require.ErrorIs(t, err, fs.ErrPermission)
	assert.Contains(t, err.Error(), fmt.Sprintf("chown -R %d:%d the directory that is mounted at /data", os.Getuid(), os.Getgid()))
	assert.Equal(t, syscall.ENOSPC, withOwner(syscall.ENOSPC, "/data"))
}
