package nodetest

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// SmallVolume is a file system of 16 MiB of its own, in memory. It takes root; without that the test is skipped, but never in CI.
func SmallVolume(t *testing.T) string {
	dir := t.TempDir()
	err := syscall.Mount("none", dir, "tmpfs", 0, "size=16m,mode=755")
	if err == syscall.EPERM && os.Getenv("CI") == "" {
		t.Skip("no right to mount a file system")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

func remount(t *testing.T, dir string, readOnly bool) {
	t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if readOnly {
		flags |= syscall.MS_RDONLY
	}
	require.NoError(t, syscall.Mount("none", dir, "tmpfs", flags, "size=16m,mode=755"))
}
