package disk_test

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// records is a program that keeps one record in a directory and writes it again and again, also after a restart:
// after any crash the record is the one last acknowledged or the one being written, whole.
func records() disktest.Scenario {
	const dir, name = "state/of", "state/of/record"
	acked, writing := 0, 0
	text := func(i int) string { return fmt.Sprintf("%0*d", 400*i, i) } // each longer than the one before
	work := func(fsys *disktest.FS, times int) error {
		if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
			return err
		}
		for range times {
			writing++
			if err := disk.WriteFile(fsys, name, []byte(text(writing)), 0o600); err != nil {
				return err
			}
			acked = writing
		}
		return nil
	}
	check := func(fsys *disktest.FS) error {
		data, err := fsys.ReadFile(name)
		for i := acked; i <= writing; i++ {
			if i == 0 || string(data) == text(i) {
				return nil
			}
		}
		return fmt.Errorf("the record is %q (%v), %d is acknowledged, %d was being written", data, err, acked, writing)
	}
	return disktest.Scenario{
		Run: func(fsys *disktest.FS) error { return work(fsys, 3) },
		Recover: func(fsys *disktest.FS) error {
			if err := check(fsys); err != nil { // before the record is written over
				return err
			}
			return work(fsys, 1)
		},
		Check: check,
	}
}

func TestRecordsOutliveEveryCrash(t *testing.T) {
	disktest.EveryCrash(t, disktest.Options{}, records)
}

func TestRecordsOutliveEveryFault(t *testing.T) {
	disktest.EveryFault(t, disktest.Options{}, records)
}

func TestRecordsNeedEverySync(t *testing.T) {
	const in = " in disk_test.records.func2 via disk."
	require.Equal(t, []string{
		"rename" + in + "WriteFile ahead of sync" + in + "WriteFile",
		"unlink" + in + "WriteFile ahead of syncdir" + in + "MkdirAll",
		"without sync" + in + "WriteFile",
		"without syncdir" + in + "MkdirAll",
		"without syncdir" + in + "WriteFile",
	}, disktest.EverySync(t, disktest.Options{Harmless: map[string]string{
		"unlink" + in + "WriteFile ahead of syncdir" + in + "MkdirAll": "it clears a temporary file that nobody reads",
	}}, records))
}

// TestMkdirAllAfterAKill: the directories of a killed process are there, and are not durable.
func TestMkdirAllAfterAKill(t *testing.T) {
	fsys := disktest.New(1)
	require.NoError(t, fsys.Mkdir("a", 0o700))
	require.NoError(t, fsys.Mkdir("a/b", 0o700))
	fsys = fsys.Crash(disktest.Killed())
	require.NoError(t, disk.MkdirAll(fsys, "a/b", 0o700))
	require.Contains(t, fsys.Crash(disktest.Nothing()).Files(), "a/b/")
}

func TestWriteFileTakesItsTemporaryFileAway(t *testing.T) {
	for _, kind := range []disktest.Kind{disktest.Write, disktest.Sync, disktest.Close, disktest.Rename} {
		fsys := disktest.New(1)
		require.NoError(t, disk.WriteFile(fsys, "a", []byte("old"), 0o600))
		fsys.Inject(disktest.Fault{Kind: kind})
		err := disk.WriteFile(fsys, "a", []byte("new"), 0o600)
		require.Error(t, err)
		require.False(t, disk.IsUncertain(err))
		require.Equal(t, map[string]string{"a": "old"}, fsys.Files())
	}
}

// TestCommitLooksWhetherTheRenameHappened: an error of it alone does not tell.
func TestCommitLooksWhetherTheRenameHappened(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault disktest.Fault
		err   error
		left  map[string]string
	}{
		{"it did", disktest.Fault{Kind: disktest.Rename, Done: true}, nil, map[string]string{"d/": "", "d/a": "new"}},
		{"it did not, and another file has the name", disktest.Fault{Kind: disktest.Rename}, syscall.EIO,
			map[string]string{"p": "new", "d/": "", "d/a": "old"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := disktest.New(1)
			require.NoError(t, disk.MkdirAll(fsys, "d", 0o700))
			require.NoError(t, disk.WriteFile(fsys, "d/a", []byte("old"), 0o600))
			f, err := fsys.OpenFile("p", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			require.NoError(t, err)
			require.NoError(t, disk.WriteAll(f, []byte("new")))
			fsys.Inject(c.fault)
			err = disk.Commit(fsys, f, "p", "d/a")
			require.ErrorIs(t, err, c.err)
			require.False(t, disk.IsUncertain(err))
			require.Equal(t, c.left, fsys.Files())
			if c.err == nil {
				require.Equal(t, "new", fsys.Crash(disktest.Nothing()).Files()["d/a"], "and is durable")
			}
		})
	}
}

// shortFS is a disk.FS whose files take half of what is written to them and report no error.
type shortFS struct{ disk.FS }

type shortFile struct{ disk.File }

func (s shortFS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := s.FS.OpenFile(name, flag, perm)
	return shortFile{f}, err
}

func (s shortFile) Write(p []byte) (int, error) { return s.File.Write(p[:len(p)/2]) }

func TestAShortWriteIsNotTakenForWhole(t *testing.T) {
	fsys := disktest.New(1)
	require.NoError(t, disk.WriteFile(fsys, "a", []byte("old"), 0o600))
	require.ErrorIs(t, disk.WriteFile(shortFS{fsys}, "a", []byte("new"), 0o600), io.ErrShortWrite)
	require.Equal(t, map[string]string{"a": "old"}, fsys.Files())
}

func TestIsTemp(t *testing.T) {
	fsys := disktest.New(1)
	require.NoError(t, disk.WriteFile(fsys, "a", nil, 0o600))
	temp := fsys.Ops()[0].Path
	require.True(t, disk.IsTemp(temp))
	require.True(t, disk.IsTemp("d/"+temp))
	for _, name := range []string{"a", ".a", "a.tmp", ".tmp", "d/.tmp"} {
		require.False(t, disk.IsTemp(name), name)
	}
}

func TestChangeTimeFallsBackToTheModificationTime(t *testing.T) {
	at := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	info, err := fs.Stat(fstest.MapFS{"a": {ModTime: at}}, "a")
	require.NoError(t, err)
	require.Equal(t, at, disk.ChangeTime(info))
}

// TestSameFileNeedsAFileSystem: what knows of no inodes is never the same file.
func TestSameFileNeedsAFileSystem(t *testing.T) {
	info, err := fs.Stat(fstest.MapFS{"a": {}}, "a")
	require.NoError(t, err)
	require.False(t, disk.SameFile(info, info))
	simulated := disktest.New(1)
	require.NoError(t, disk.WriteFile(simulated, "a", nil, 0o600))
	other, err := simulated.Lstat("a")
	require.NoError(t, err)
	require.False(t, disk.SameFile(info, other))
}
