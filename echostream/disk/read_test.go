package disk_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestReadFile(t *testing.T) {
	fsys := disktest.New(1)
	require.NoError(t, disk.WriteFile(fsys, "a", []byte("12345"), 0o640))
	for most, want := range map[int64]string{0: "", 4: "1234", 5: "12345", 100: "12345"} {
		got, err := disk.ReadFile(fsys, "a", most)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	_, err := disk.ReadFile(fsys, "b", 1)
	assert.ErrorIs(t, err, fs.ErrNotExist)
}
