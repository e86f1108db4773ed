package disktest_test

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestConformance(t *testing.T) {
	disktest.Conformance(t, func(*testing.T) disk.FS { return disktest.New(1) })
}

// TestConformanceWithoutSyncs: a dropped sync shows only in a crash.
func TestConformanceWithoutSyncs(t *testing.T) {
	disktest.Conformance(t, func(*testing.T) disk.FS {
		fsys := disktest.New(1)
		fsys.DropSync(func(disktest.Op) bool { return true })
		return fsys
	})
}

func TestFaults(t *testing.T) {
	write := func(d do, name string) error {
		return disk.WriteFile(d, name, []byte("1234"), 0o600)
	}
	for _, c := range []struct {
		name  string
		fault disktest.Fault
		err   error    // of the first write
		next  error    // of the second one
		left  string   // after both
		ops   []string // of the first write
	}{
		{"the first operation", disktest.Fault{}, syscall.EIO, nil, "b=1234",
			[]string{"#0 create .a.tmp: input/output error"}},
		{"the second operation", disktest.Fault{Nth: 2, Err: syscall.ENOSPC}, syscall.ENOSPC, nil, "b=1234",
			[]string{"#0 create .a.tmp", "#1 write .a.tmp [0:4]: no space left on device", "#2 unlink .a.tmp"}},
		{"a short write", disktest.Fault{Kind: disktest.Write, Err: syscall.ENOSPC, Short: true}, syscall.ENOSPC, nil, "b=1234",
			[]string{"#0 create .a.tmp", "#1 write .a.tmp [0:4]: no space left on device", "#2 unlink .a.tmp"}},
		{"from then on", disktest.Fault{Kind: disktest.Sync, Forever: true}, syscall.EIO, syscall.EIO, "",
			[]string{"#0 create .a.tmp", "#1 write .a.tmp [0:4]", "#2 sync .a.tmp: input/output error", "#3 unlink .a.tmp"}},
		{"a path", disktest.Fault{Kind: disktest.Sync, Path: ".b.*"}, nil, syscall.EIO, "a=1234",
			[]string{"#0 create .a.tmp", "#1 write .a.tmp [0:4]", "#2 sync .a.tmp", "#3 rename .a.tmp -> a", "#4 syncdir ."}},
		{"the new name of a rename", disktest.Fault{Kind: disktest.Rename, Path: "a"}, syscall.EIO, nil, "b=1234",
			[]string{"#0 create .a.tmp", "#1 write .a.tmp [0:4]", "#2 sync .a.tmp",
				"#3 rename .a.tmp -> a: input/output error", "#4 unlink .a.tmp"}},
		{"an error after the fact", disktest.Fault{Kind: disktest.Rename, Done: true}, nil, nil, "a=1234 b=1234",
			[]string{"#0 create .a.tmp", "#1 write .a.tmp [0:4]", "#2 sync .a.tmp",
				"#3 rename .a.tmp -> a: input/output error", "#4 syncdir ."}},
		{"the directory", disktest.Fault{Kind: disktest.SyncDir, Path: "."}, syscall.EIO, nil, "a=1234 b=1234",
			[]string{"#0 create .a.tmp", "#1 write .a.tmp [0:4]", "#2 sync .a.tmp", "#3 rename .a.tmp -> a",
				"#4 syncdir .: input/output error"}},
		{"opening", disktest.Fault{Kind: disktest.Open, Path: ".a.tmp", Err: syscall.EMFILE}, syscall.EMFILE, nil, "b=1234", nil},
		{"closing", disktest.Fault{Kind: disktest.Close}, syscall.EIO, nil, "b=1234",
			[]string{"#0 create .a.tmp", "#1 write .a.tmp [0:4]", "#2 sync .a.tmp", "#3 unlink .a.tmp"}},
		{"another directory", disktest.Fault{Path: "d/..."}, nil, nil, "a=1234 b=1234",
			[]string{"#0 create .a.tmp", "#1 write .a.tmp [0:4]", "#2 sync .a.tmp", "#3 rename .a.tmp -> a", "#4 syncdir ."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := do{t, disktest.New(1)}
			d.Inject(c.fault)
			err := write(d, "a")
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.fault.Kind == disktest.SyncDir, disk.IsUncertain(err))
			require.Equal(t, c.ops, trace(d.FS))
			require.ErrorIs(t, write(d, "b"), c.next)
			require.Equal(t, c.left, state(d.FS))
			d.Heal()
			require.NoError(t, write(d, "c"))
		})
	}
}

func TestShortWrite(t *testing.T) {
	d := do{t, disktest.New(1)}
	f := d.open("a", os.O_WRONLY|os.O_CREATE)
	d.Inject(disktest.Fault{Kind: disktest.Write, Err: syscall.ENOSPC, Short: true})
	n, err := f.Write([]byte("1234"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, 2, n)
	n, err = f.Write([]byte("56"))
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, "a=1256", state(d.FS))
}

func TestCapacity(t *testing.T) {
	d := do{t, disktest.New(1)}
	d.SetCapacity(10)
	d.synced("a", "123456")
	f := d.open("b", os.O_WRONLY|os.O_CREATE)
	n, err := f.Write([]byte("123456"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, 4, n)
	free := func() uint64 {
		free, err := d.Free()
		require.NoError(t, err)
		return free
	}
	require.Zero(t, free())
	_, err = d.OpenFile("c", os.O_WRONLY|os.O_CREATE, 0o600)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorIs(t, d.Mkdir("d", 0o700), syscall.ENOSPC)
	require.NoError(t, d.write("a", "654321").Close(), "no more than before")

	d.remove("b")
	require.Zero(t, free(), "an open file holds its space")
	require.NoError(t, f.Close())
	require.EqualValues(t, 4, free())
	require.NoError(t, d.write("c", "12").Close())
	d.rename("c", "a")
	require.EqualValues(t, 8, free(), "the replaced file is gone")
	d.FS = d.Crash(disktest.Everything())
	require.EqualValues(t, 8, free())
}

func TestSites(t *testing.T) {
	d := do{t, disktest.New(1)}
	require.NoError(t, disk.WriteFile(d, "a", nil, 0o600))
	require.NoError(t, disk.MkdirAll(d, "d", 0o700))
	d.syncDir(".")
	var keys []string
	for _, op := range d.Ops() {
		if site := op.Site(); site.Func != "" {
			require.Contains(t, site.String(), "_test.go:")
			keys = append(keys, site.Key())
		}
	}
	require.Equal(t, []string{
		"sync in disktest_test.TestSites via disk.WriteFile",
		"rename in disktest_test.TestSites via disk.WriteFile",
		"syncdir in disktest_test.TestSites via disk.WriteFile",
		"syncdir in disktest_test.TestSites via disk.MkdirAll",
		"syncdir in disktest_test.do.syncDir",
	}, keys)
	require.Contains(t, d.Trace(), "syncdir .  fs_test.go:")
}

func TestErrorsOfADeadDiskAreNoOthers(t *testing.T) {
	d := do{t, disktest.New(1)}
	d.Cut()
	_, err := d.Lstat("none")
	require.ErrorIs(t, err, disktest.ErrCrashed)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

// TestConcurrently is for the race detector, in a bubble, where only mutexes may be waited for.
func TestConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := disktest.New(1)
		fsys.SetClock(time.Now)
		fsys.CutAt(500)
		cut := make(chan struct{})
		fsys.OnCut(func() { close(cut) })
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for n := 0; ; n++ {
					name := fmt.Sprintf("%d-%d", i, n%7)
					if err := disk.WriteFile(fsys, name, []byte(name), 0o600); err != nil {
						require.ErrorIs(t, err, disktest.ErrCrashed)
						return
					}
					_, err := fsys.ReadDir(".")
					if err != nil {
						require.ErrorIs(t, err, disktest.ErrCrashed)
					}
				}
			})
		}
		<-cut
		wg.Wait()
		for name, data := range fsys.Crash(disktest.Nothing()).Files() {
			if !disk.IsTemp(name) {
				require.Equal(t, name, data)
			}
		}
	})
}
