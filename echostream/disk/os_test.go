package disk_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func openTemp(t testing.TB) (*disk.OS, string) {
	dir := t.TempDir()
	fsys, err := disk.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { fsys.Close() })
	return fsys, dir
}

func TestOSConformance(t *testing.T) {
	disktest.Conformance(t, func(t *testing.T) disk.FS {
		fsys, _ := openTemp(t)
		return fsys
	})
}

// The same with the directories held open.
func TestHeldConformance(t *testing.T) {
	disktest.Conformance(t, func(t *testing.T) disk.FS {
		fsys, _ := openTemp(t)
		for _, dir := range []string{"a", "b", "d", "e", "a/b", "dir", "old", "new"} {
			disk.Hold(fsys, dir)
		}
		return fsys
	})
}

func TestHold(t *testing.T) {
	fsys, dir := openTemp(t)
	disk.Hold(fsys, "from/open")
	disk.Hold(fsys, "to/")
	write := func(name, text string) error {
		f, err := fsys.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write([]byte(text))
		return errors.Join(err, f.Close())
	}
	err := write("to/x", "x")
	require.ErrorIs(t, err, fs.ErrNotExist, "it may be made later")
	require.NoError(t, disk.MkdirAll(fsys, "from/open", 0o700))
	require.NoError(t, disk.MkdirAll(fsys, "to", 0o700))
	require.NoError(t, write("from/open/x", "x"))
	require.NoError(t, fsys.Rename("from/open/x", "to/x"))
	require.NoError(t, fsys.SyncDir("to"))
	require.NoError(t, write("from/open/y", "y"))
	require.NoError(t, fsys.Rename("from/open/y", "to/x"), "it replaces a file")
	text, err := os.ReadFile(filepath.Join(dir, "to/x"))
	require.NoError(t, err)
	require.Equal(t, "y", string(text))
	err = fsys.Remove("to/none")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "to/none", "errors give the whole name")

	// Somebody removes one, and it is made anew.
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "from/open")))
	require.NoError(t, disk.MkdirAll(fsys, "from/open", 0o700))
	disk.Hold(fsys, "from/open")
	require.NoError(t, write("from/open/y", "y"))

	// Somebody puts another directory in its place: what was done is not where its name says.
	require.NoError(t, os.Rename(filepath.Join(dir, "to"), filepath.Join(dir, "moved")))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "to"), 0o700))
	require.NoError(t, write("from/open/z", "z"))
	require.NoError(t, fsys.Rename("from/open/z", "to/z"))
	require.ErrorContains(t, fsys.SyncDir("to"), "renamed or replaced")
	require.NoError(t, write("to/z", "new"), "the new one counts")
	require.NoError(t, fsys.SyncDir("to"))
	require.FileExists(t, filepath.Join(dir, "to/z"))
	require.FileExists(t, filepath.Join(dir, "moved/z"))
	require.NoError(t, fsys.Close())
	require.ErrorIs(t, fsys.SyncDir("to"), fs.ErrClosed)
}

func TestOpenNeedsADirectory(t *testing.T) {
	dir := t.TempDir()
	_, err := disk.Open(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = disk.Open(file)
	require.Error(t, err)
}

func TestOSSymlinksDoNotLeadOut(t *testing.T) {
	fsys, dir := openTemp(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("1"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "out")))
	require.NoError(t, os.Symlink(secret, filepath.Join(dir, "file")))

	for _, name := range []string{"out/secret", "file"} {
		_, err := fsys.OpenFile(name, os.O_RDWR|os.O_TRUNC, 0)
		require.Error(t, err)
	}
	require.Error(t, fsys.Remove("out/secret"))
	require.Error(t, fsys.Rename("out/secret", "mine"))
	require.Error(t, fsys.Mkdir("out/d", 0o700))
	require.Error(t, fsys.SyncDir("out"))
	_, err := fsys.ReadDir("out")
	require.Error(t, err)

	// Nor are they followed to what is in it.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "d/e"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "d/e/f"), nil, 0o600))
	require.NoError(t, os.Symlink("d", filepath.Join(dir, "in")))
	require.NoError(t, os.Symlink("f", filepath.Join(dir, "d/e/g")))
	for _, name := range []string{"in/e/f", "d/e/g"} {
		_, err := fsys.OpenFile(name, os.O_RDONLY, 0)
		require.ErrorIs(t, err, syscall.ELOOP, name)
	}
	for _, name := range []string{"in/e/f", "in/none"} {
		_, err = fsys.Lstat(name)
		require.ErrorIs(t, err, syscall.ELOOP, name)
	}
	for _, name := range []string{"in", "d/e/g"} {
		info, err := fsys.Lstat(name)
		require.NoError(t, err)
		require.Equal(t, fs.ModeSymlink, info.Mode().Type(), name)
		require.Equal(t, filepath.Base(name), info.Name())
	}

	info, err := fsys.Lstat("file")
	require.NoError(t, err)
	require.Equal(t, fs.ModeSymlink, info.Mode().Type())
	require.NoError(t, fsys.Remove("file"), "the symlink itself can go")
	data, err := os.ReadFile(secret)
	require.NoError(t, err)
	require.Equal(t, "1", string(data))
}

func TestOSClose(t *testing.T) {
	fsys, err := disk.Open(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, fsys.Close())
	_, err = fsys.Free()
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorIs(t, fsys.SyncDir("."), fs.ErrClosed)
	require.ErrorIs(t, fsys.Mkdir("d", 0o700), fs.ErrClosed)
}

// BenchmarkCommit is one finished upload: a write, both syncs and the rename between two directories. One
// volume's syncs can be shared by what commits at the same time.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		for _, parallel := range []int{1, 16} {
			b.Run(fmt.Sprintf("size=%d/parallel=%d", size, parallel), func(b *testing.B) {
				fsys, _ := openTemp(b)
				require.NoError(b, disk.MkdirAll(fsys, "partial", 0o700))
				require.NoError(b, disk.MkdirAll(fsys, "drop", 0o700))
				data := make([]byte, size)
				work := make(chan int)
				done := make(chan error, parallel)
				b.SetBytes(int64(size))
				b.ResetTimer()
				for range parallel {
					go func() { done <- commitAll(fsys, work, data) }()
				}
				for i := range b.N {
					work <- i
				}
				close(work)
				for range parallel {
					require.NoError(b, <-done)
				}
			})
		}
	}
}

// commitAll commits a file for each number, over at most 1,000 names. It takes all work also after an error.
func commitAll(fsys disk.FS, work <-chan int, data []byte) (first error) {
	for i := range work {
		from, to := fmt.Sprintf("partial/%d", i), fmt.Sprintf("drop/%d", i%1000)
		f, err := fsys.OpenFile(from, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			if _, err = f.Write(data); err == nil {
				err = disk.Commit(fsys, f, from, to)
			} else {
				f.Close()
			}
		}
		if first == nil {
			first = err
		}
	}
	return first
}

func TestStartSync(t *testing.T) {
	volume, dir := openTemp(t)
	f, err := volume.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
	require.NoError(t, err)
	require.NoError(t, disk.WriteAll(f, []byte("abc")))
	disk.StartSync(f)
	require.NoError(t, disk.WriteAll(f, []byte("def")), "it goes on where it was")
	disk.StartSync(f)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	disk.StartSync(f) // closed, and not one of an OS: it is a hint
	disk.StartSync(struct{ disk.File }{})
	got, err := os.ReadFile(filepath.Join(dir, "f"))
	require.NoError(t, err)
	require.Equal(t, "abcdef", string(got))
}
