package outbox

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
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

// BenchmarkOpen opens an outbox in which entries wait, and looks at them. B/entry is what one takes of the heap.
func BenchmarkOpen(b *testing.B) {
	for _, waiting := range []int{100_000, 200_000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) { benchmarkOpen(b, waiting) })
	}
}

func benchmarkOpen(b *testing.B, waiting int) {
	r := newRig(b, volumes["real"](b))
	r.opts.Log = nil
	r.open()
	for i := 0; i < waiting; i += 1000 {
		items := make([]Item, 1000)
		for j := range items {
			name := fmt.Sprintf("some/directory/of-forty-bytes/f%06d.csv", i+j)
			items[j] = Item{Path: fmt.Sprintf("drop/%d", i+j), Name: name, Key: "user/" + name, Checksum: new(uint32),
				Lane: fmt.Sprint("user", j%10), Meta: []byte(`{"user":"scanner","remoteAddress":"192.0.2.17","session":"0123456789abcdef","receivedDateTime":"2026-11-26T17:12:06Z"}`)}
			f, err := r.fs.OpenFile(items[j].Path, flagsNew, 0o600)
			require.NoError(b, err)
			require.NoError(b, f.Close())
		}
		_, errs := r.Put(context.Background(), items)
		require.NoError(b, errs[0])
	}
	r.halt()
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	open := func(b *testing.B) *Outbox {
		o, err := Open(r.opts)
		require.NoError(b, err)
		return o
	}
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			o := open(b)
			b.StopTimer()
			require.Equal(b, waiting, o.Stats().Entries)
			b.ReportMetric(float64(heap()-before)/float64(waiting), "B/entry")
			require.NoError(b, o.Close())
			b.StartTimer()
		}
	})
	o := open(b)
	for name, list := range map[string]func() int{
		"list":    func() int { return len(slices.Collect(o.List("user/some/directory/of-forty-bytes"))) },
		"below":   func() int { return len(o.Below("user")) },
		"entries": func() int { return len(slices.Collect(o.Entries())) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				require.Equal(b, waiting, list())
			}
		})
	}
	require.NoError(b, o.Close())
}

const flagsNew = os.O_CREATE | os.O_EXCL | os.O_WRONLY
