package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkReadDir reads a directory as the start of an outbox does: its names and types.
func BenchmarkReadDir(b *testing.B) {
	for _, files := range []int{100, 10_000} {
		b.Run(fmt.Sprint(files, "-files"), func(b *testing.B) {
			dir := b.TempDir()
			volume, err := Open(dir)
			require.NoError(b, err)
			defer volume.Close()
			require.NoError(b, volume.Mkdir("d", 0o750))
			for i := range files {
				require.NoError(b, os.WriteFile(filepath.Join(dir, "d", fmt.Sprintf("%06d.csv", i)), nil, 0o600))
			}
			b.ReportAllocs()
			for b.Loop() {
				entries, err := volume.ReadDir("d")
				require.NoError(b, err)
				require.Len(b, entries, files)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(files), "ns/file")
		})
	}
}
