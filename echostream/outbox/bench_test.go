package outbox

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
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

// BenchmarkPut takes small files in, from so many callers at a time, as uploads do. An operation is one file, which is made, too. OUTBOX_BENCH_DIR is a
// directory on the disk that is to be measured.
func BenchmarkPut(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(callers, "-callers"), func(b *testing.B) {
			fsys := volumes["real"](b)
			if top := os.Getenv("OUTBOX_BENCH_DIR"); top != "" {
				dir, err := os.MkdirTemp(top, "put")
				require.NoError(b, err)
				defer os.RemoveAll(dir)
				real, err := disk.Open(dir)
				require.NoError(b, err)
				defer real.Close()
				fsys = real
			}
			r := newRig(b, fsys)
			r.opts.Log = nil
			r.open()
			data, meta := make([]byte, 4096), []byte(`{"user":"scanner","remoteAddress":"192.0.2.17","session":"0123456789abcdef","receivedDateTime":"2026-11-26T17:12:06Z"}`)
			var made atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for n := made.Add(1); n <= int64(b.N); n = made.Add(1) {
						name := fmt.Sprintf("file-%06d.dat", n)
						item := Item{Path: "drop/" + name, Name: name, Key: "scanner/2026/" + name, Lane: "scanner", Meta: meta, Checksum: new(uint32), Wait: time.Hour}
						var err error
						if item.File, err = r.fs.OpenFile(item.Path, flagsNew, 0o600); err == nil {
							err = disk.WriteAll(item.File, data)
						}
						if err == nil {
							_, errs := r.Put(context.Background(), []Item{item})
							err = errs[0]
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
			r.halt()
		})
	}
}

// BenchmarkOpen opens an outbox in which entries wait, and looks at them. B/entry is what one takes of the heap.
func BenchmarkOpen(b *testing.B) {
	for _, waiting := range []int{100_000, 200_000, 1_000_000} {
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
