package drop

import (
	"context"
	"fmt"
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// onDisk is a session of a Drop on a real volume whose outbox sends nothing.
func onDisk(b *testing.B) *Session {
	volume, err := disk.Open(b.TempDir())
	require.NoError(b, err)
	box, err := outbox.Open(outbox.Options{FS: volume, Reserve: -1, Deliverer: &sink{away: true}})
	require.NoError(b, err)
	d, err := Open(Options{FS: volume, Outbox: box, Describe: describe})
	require.NoError(b, err)
	user, err := d.User("scanner", "scanner")
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		require.NoError(b, <-done)
		require.NoError(b, box.Close())
		require.NoError(b, volume.Close())
	})
	return user.Session(remote)
}

// BenchmarkCreate begins an upload and gives it up before its first byte: all that Create asks the volume, and no sync.
func BenchmarkCreate(b *testing.B) {
	for _, dirs := range [][]string{nil, {"2026", "03", "07"}} {
		b.Run(fmt.Sprintf("depth-%d", len(dirs)), func(b *testing.B) {
			s, dir := onDisk(b), "/"
			for _, name := range dirs {
				dir = path.Join(dir, name)
				require.NoError(b, s.Mkdir(dir))
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				u, err := s.Create(path.Join(dir, fmt.Sprint(i)), Start{})
				require.NoError(b, err)
				require.NoError(b, u.Interrupt(errCut))
			}
		})
	}
}

// BenchmarkWrite receives a large file in chunks of 64 KiB.
func BenchmarkWrite(b *testing.B) {
	s := onDisk(b)
	u, err := s.Create("/large", Start{})
	require.NoError(b, err)
	chunk := make([]byte, 64<<10)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if u.Size() > 256<<20 {
			require.NoError(b, u.part.seek(0))
		}
		_, err := u.Write(chunk)
		require.NoError(b, err)
	}
	require.NoError(b, u.Interrupt(errCut))
}
