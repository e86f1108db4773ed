package outbox

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkDeliver takes small files in, ten at a time, and delivers them to one and to two targets. An
// operation is one file; making it is not counted.
func BenchmarkDeliver(b *testing.B) {
	for _, targets := range [][]string{{"a"}, {"a", "b"}} {
		b.Run(fmt.Sprint(len(targets), "-targets"), func(b *testing.B) {
			r := newRig(b, volumes["real"](b), targets...)
			r.opts.Log = nil
			r.opts.Gone = nil
			r.open().run()
			items := make([]Item, b.N)
			for i := range items {
				items[i] = Item{Path: fmt.Sprintf("drop/%d", i), Name: fmt.Sprintf("%d.csv", i)}
				f, err := r.fs.OpenFile(items[i].Path, flagsNew, 0o600)
				require.NoError(b, err)
				_, err = f.Write([]byte(strings.Repeat("x", 1000)))
				require.NoError(b, err)
				require.NoError(b, f.Close())
			}
			b.ResetTimer()
			for len(items) > 0 {
				n := min(10, len(items))
				_, errs := r.Put(context.Background(), items[:n])
				for _, err := range errs {
					require.NoError(b, err)
				}
				items = items[n:]
			}
			r.empty()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
		})
	}
}

// BenchmarkOpen opens an outbox in which 100,000 entries wait, and lists them.
func BenchmarkOpen(b *testing.B) {
	const waiting = 100_000
	r := newRig(b, volumes["real"](b))
	r.opts.Log = nil
	r.open()
	for i := 0; i < waiting; i += 1000 {
		items := make([]Item, 1000)
		for j := range items {
			items[j] = Item{Path: fmt.Sprintf("drop/%d", i+j), Name: fmt.Sprintf("some/directory/file-%d.csv", i+j),
				Lane: fmt.Sprint("user", j%10), Meta: []byte(`{"user":"scanner","remoteAddress":"192.0.2.17"}`)}
			f, err := r.fs.OpenFile(items[j].Path, flagsNew, 0o600)
			require.NoError(b, err)
			require.NoError(b, f.Close())
		}
		_, errs := r.Put(context.Background(), items)
		require.NoError(b, errs[0])
	}
	r.halt()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.Run("open", func(b *testing.B) {
		for range b.N {
			o, err := Open(r.opts)
			require.NoError(b, err)
			b.StopTimer()
			require.Equal(b, waiting, o.Stats().Entries)
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/waiting, "B/entry")
			require.NoError(b, o.Close())
			b.StartTimer()
		}
	})
	b.Run("entries", func(b *testing.B) {
		o, err := Open(r.opts)
		require.NoError(b, err)
		b.ResetTimer()
		for range b.N {
			n := 0
			for range o.Entries() {
				n++
			}
			require.Equal(b, waiting, n)
		}
		require.NoError(b, o.Close())
	})
}

const flagsNew = os.O_CREATE | os.O_EXCL | os.O_WRONLY
