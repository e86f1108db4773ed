package disktest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// Conformance tests a disk.FS: each case on an empty one, from empty.
func Conformance(t *testing.T, empty func(t *testing.T) disk.FS) {
	for _, c := range conformance {
		t.Run(c.name, func(t *testing.T) { c.test(t, empty(t)) })
	}
}

var conformance = []struct {
	name string
	test func(t *testing.T, fsys disk.FS)
}{
	{"a file that is not there", func(t *testing.T, fsys disk.FS) {
		for _, name := range []string{"a", "d/a"} {
			_, err := fsys.OpenFile(name, os.O_RDONLY, 0)
			requireError(t, err, fs.ErrNotExist)
			_, err = fsys.OpenFile(name, os.O_WRONLY, 0)
			requireError(t, err, fs.ErrNotExist)
			_, err = fsys.Lstat(name)
			requireError(t, err, fs.ErrNotExist)
			requireError(t, fsys.Remove(name), fs.ErrNotExist)
			requireError(t, fsys.Rename(name, "b"), fs.ErrNotExist)
			requireError(t, fsys.Chtimes(name, time.Now()), fs.ErrNotExist)
			requireError(t, fsys.SyncDir(name), fs.ErrNotExist)
			_, err = fsys.ReadDir(name)
			requireError(t, err, fs.ErrNotExist)
		}
		requireError(t, fsys.Mkdir("d/e", 0o700), fs.ErrNotExist)
		_, err := fsys.OpenFile("d/a", os.O_WRONLY|os.O_CREATE, 0o600)
		requireError(t, err, fs.ErrNotExist)
	}},
	{"create, write, read", func(t *testing.T, fsys disk.FS) {
		f := open(t, fsys, "a", os.O_RDWR|os.O_CREATE|os.O_EXCL)
		n, err := f.Write([]byte("hello"))
		require.NoError(t, err)
		require.Equal(t, 5, n)
		_, err = f.Seek(1, io.SeekStart)
		require.NoError(t, err)
		rest, err := io.ReadAll(f)
		require.NoError(t, err)
		require.Equal(t, "ello", string(rest))
		require.NoError(t, f.Sync())
		info, err := f.Stat()
		require.NoError(t, err)
		require.EqualValues(t, 5, info.Size())
		require.NoError(t, f.Close())
		info, err = fsys.Lstat("a")
		require.NoError(t, err)
		require.Equal(t, "a", info.Name())
		require.EqualValues(t, 5, info.Size())
		require.Equal(t, fs.FileMode(0o600), info.Mode())
		require.False(t, info.IsDir())
	}},
	{"exclusive", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "1")
		_, err := fsys.OpenFile("a", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		requireError(t, err, fs.ErrExist)
		require.Equal(t, "1", get(t, fsys, "a"))
	}},
	{"create keeps what is there", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "12345")
		f := open(t, fsys, "a", os.O_WRONLY|os.O_CREATE)
		_, err := f.Write([]byte("ab"))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, "ab345", get(t, fsys, "a"))
	}},
	{"truncate when opened", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "12345")
		require.NoError(t, open(t, fsys, "a", os.O_WRONLY|os.O_CREATE|os.O_TRUNC).Close())
		require.Empty(t, get(t, fsys, "a"))
	}},
	{"truncate", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "12345")
		f := open(t, fsys, "a", os.O_RDWR)
		require.NoError(t, f.Truncate(2))
		require.NoError(t, f.Truncate(4))
		require.Error(t, f.Truncate(-1))
		require.NoError(t, f.Close())
		require.Equal(t, "12\x00\x00", get(t, fsys, "a"))
	}},
	{"append", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "123")
		f := open(t, fsys, "a", os.O_WRONLY|os.O_APPEND)
		put(t, fsys, "b", "x")
		_, err := f.Write([]byte("45"))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, "12345", get(t, fsys, "a"))
	}},
	{"write beyond the end", func(t *testing.T, fsys disk.FS) {
		f := open(t, fsys, "a", os.O_WRONLY|os.O_CREATE)
		_, err := f.Seek(3, io.SeekStart)
		require.NoError(t, err)
		_, err = f.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, "\x00\x00\x00x", get(t, fsys, "a"))
	}},
	{"seek", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "12345")
		f := open(t, fsys, "a", os.O_RDONLY)
		defer f.Close()
		at, err := f.Seek(-2, io.SeekEnd)
		require.NoError(t, err)
		require.EqualValues(t, 3, at)
		at, err = f.Seek(1, io.SeekCurrent)
		require.NoError(t, err)
		require.EqualValues(t, 4, at)
		_, err = f.Seek(-1, io.SeekStart)
		requireError(t, err, syscall.EINVAL)
	}},
	{"read at and past the end", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "12345")
		f := open(t, fsys, "a", os.O_RDONLY)
		defer f.Close()
		p := make([]byte, 4)
		n, err := f.ReadAt(p, 1)
		require.NoError(t, err)
		require.Equal(t, "2345", string(p[:n]))
		n, err = f.ReadAt(p, 3)
		require.Equal(t, io.EOF, err)
		require.Equal(t, "45", string(p[:n]))
		n, err = f.ReadAt(p, 9)
		require.Equal(t, io.EOF, err)
		require.Zero(t, n)
		_, err = io.ReadFull(f, make([]byte, 5))
		require.NoError(t, err)
		n, err = f.Read(p)
		require.Equal(t, io.EOF, err)
		require.Zero(t, n)
	}},
	{"only what it was opened for", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "1")
		f := open(t, fsys, "a", os.O_RDONLY)
		_, err := f.Write([]byte("x"))
		requireError(t, err, syscall.EBADF)
		requireError(t, f.Truncate(0), syscall.EINVAL)
		require.NoError(t, f.Close())
		f = open(t, fsys, "a", os.O_WRONLY)
		_, err = f.Read(make([]byte, 1))
		requireError(t, err, syscall.EBADF)
		_, err = f.ReadAt(make([]byte, 1), 0)
		requireError(t, err, syscall.EBADF)
		require.NoError(t, f.Close())
		require.Equal(t, "1", get(t, fsys, "a"))
	}},
	{"a closed file", func(t *testing.T, fsys disk.FS) {
		f := open(t, fsys, "a", os.O_RDWR|os.O_CREATE)
		require.NoError(t, f.Close())
		_, err := f.Write([]byte("x"))
		requireError(t, err, fs.ErrClosed)
		_, err = f.Read(make([]byte, 1))
		requireError(t, err, fs.ErrClosed)
		_, err = f.Seek(0, io.SeekStart)
		requireError(t, err, fs.ErrClosed)
		requireError(t, f.Sync(), fs.ErrClosed)
		requireError(t, f.Truncate(0), fs.ErrClosed)
		requireError(t, f.Close(), fs.ErrClosed)
	}},
	{"an open file outlives its name", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "1")
		f := open(t, fsys, "a", os.O_RDWR|os.O_APPEND)
		require.NoError(t, fsys.Rename("a", "b"))
		_, err := f.Write([]byte("2"))
		require.NoError(t, err)
		require.Equal(t, "12", get(t, fsys, "b"))
		require.NoError(t, fsys.Remove("b"))
		_, err = f.Write([]byte("3"))
		require.NoError(t, err)
		p := make([]byte, 3)
		_, err = f.ReadAt(p, 0)
		require.NoError(t, err)
		require.Equal(t, "123", string(p))
		require.NoError(t, f.Sync())
		require.NoError(t, f.Close())
		require.Empty(t, list(t, fsys, "."))
	}},
	{"rename replaces a file", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "new")
		put(t, fsys, "b", "old")
		require.NoError(t, fsys.Rename("a", "b"))
		require.Equal(t, "new", get(t, fsys, "b"))
		require.Equal(t, []string{"b"}, list(t, fsys, "."))
		require.NoError(t, fsys.Rename("b", "b"))
		require.Equal(t, "new", get(t, fsys, "b"))
	}},
	{"rename to another directory", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, fsys.Mkdir("d", 0o700))
		put(t, fsys, "a", "1")
		require.NoError(t, fsys.Rename("a", "d/b"))
		require.Equal(t, []string{"d"}, list(t, fsys, "."))
		require.Equal(t, "1", get(t, fsys, "d/b"))
		requireError(t, fsys.Rename("d/b", "e/b"), fs.ErrNotExist)
	}},
	{"rename a directory", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, disk.MkdirAll(fsys, "d/e", 0o700))
		put(t, fsys, "d/e/a", "1")
		require.NoError(t, fsys.Rename("d/e", "f"))
		require.Equal(t, "1", get(t, fsys, "f/a"))
		requireError(t, fsys.Rename("f", "f/g"), syscall.EINVAL)
		require.Empty(t, list(t, fsys, "d"))
	}},
	{"rename never replaces a directory", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, fsys.Mkdir("d", 0o700))
		require.NoError(t, fsys.Mkdir("e", 0o700))
		put(t, fsys, "a", "1")
		requireError(t, fsys.Rename("a", "d"), fs.ErrExist)
		requireError(t, fsys.Rename("d", "e"), fs.ErrExist)
		requireError(t, fsys.Rename("d", "d"), fs.ErrExist)
		requireError(t, fsys.Rename("d", "a"), syscall.ENOTDIR)
		require.Equal(t, []string{"a", "d", "e"}, list(t, fsys, "."))
	}},
	{"remove", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, fsys.Mkdir("d", 0o700))
		put(t, fsys, "d/a", "1")
		requireError(t, fsys.Remove("d"), syscall.ENOTEMPTY)
		require.NoError(t, fsys.Remove("d/a"))
		require.NoError(t, fsys.Remove("d"))
		require.Empty(t, list(t, fsys, "."))
	}},
	{"directories", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, fsys.Mkdir("d", 0o700))
		requireError(t, fsys.Mkdir("d", 0o700), fs.ErrExist)
		info, err := fsys.Lstat("d")
		require.NoError(t, err)
		require.True(t, info.IsDir())
		require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
		_, err = fsys.OpenFile("d", os.O_WRONLY|os.O_CREATE, 0o600)
		requireError(t, err, syscall.EISDIR)
		f := open(t, fsys, "d", os.O_RDONLY)
		_, err = f.Read(make([]byte, 1))
		requireError(t, err, syscall.EISDIR)
		require.NoError(t, f.Close())
		put(t, fsys, "a", "1")
		requireError(t, fsys.Mkdir("a", 0o700), fs.ErrExist)
		requireError(t, fsys.Mkdir("a/d", 0o700), syscall.ENOTDIR)
		requireError(t, fsys.SyncDir("a"), syscall.ENOTDIR)
		_, err = fsys.ReadDir("a")
		requireError(t, err, syscall.ENOTDIR)
		_, err = fsys.OpenFile("a/b", os.O_RDONLY, 0)
		requireError(t, err, syscall.ENOTDIR)
	}},
	{"directories are listed by name", func(t *testing.T, fsys disk.FS) {
		for _, name := range []string{"c", "B", "a", "b"} {
			put(t, fsys, name, "12")
		}
		require.NoError(t, fsys.Mkdir("ab", 0o700))
		require.Equal(t, []string{"B", "a", "ab", "b", "c"}, list(t, fsys, "."))
		entries, err := fsys.ReadDir(".")
		require.NoError(t, err)
		require.True(t, entries[2].IsDir())
		info, err := entries[4].Info()
		require.NoError(t, err)
		require.EqualValues(t, 2, info.Size())
	}},
	{"nothing outside of the tree", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, fsys.Mkdir("d", 0o700))
		put(t, fsys, "a", "1")
		for _, name := range []string{"../a", "d/../../a", "/a", "..", "/", ""} {
			_, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
			requireError(t, err, nil)
			_, err = fsys.Lstat(name)
			requireError(t, err, nil)
			_, err = fsys.ReadDir(name)
			requireError(t, err, nil)
			requireError(t, fsys.Mkdir(name, 0o700), nil)
			requireError(t, fsys.Rename("a", name), nil)
			requireError(t, fsys.Rename(name, "a"), nil)
			requireError(t, fsys.Remove(name), nil)
			requireError(t, fsys.Chtimes(name, time.Now()), nil)
			requireError(t, fsys.SyncDir(name), nil)
			requireError(t, disk.MkdirAll(fsys, name+"/x", 0o700), nil)
		}
		require.Equal(t, []string{"a", "d"}, list(t, fsys, "."))
	}},
	{"odd names", func(t *testing.T, fsys disk.FS) {
		for _, name := range []string{" ", "a b", "*?[", "\xff\xfe", "-", "ü\n", strings.Repeat("n", 255)} {
			put(t, fsys, name, name)
			require.Equal(t, name, get(t, fsys, name))
			require.Equal(t, []string{name}, list(t, fsys, "."))
			require.NoError(t, fsys.Remove(name))
		}
		_, err := fsys.OpenFile("a\x00b", os.O_RDWR|os.O_CREATE, 0o600)
		requireError(t, err, syscall.EINVAL)
		_, err = fsys.OpenFile(strings.Repeat("n", 256), os.O_RDWR|os.O_CREATE, 0o600)
		requireError(t, err, syscall.ENAMETOOLONG)
		require.NoError(t, fsys.Mkdir("d", 0o700))
		put(t, fsys, "d/../d//./a", "1")
		require.Equal(t, "1", get(t, fsys, "d/a"))
		_, err = fsys.OpenFile("d/a/", os.O_RDONLY, 0)
		requireError(t, err, syscall.ENOTDIR)
	}},
	{"the top", func(t *testing.T, fsys disk.FS) {
		info, err := fsys.Lstat(".")
		require.NoError(t, err)
		require.True(t, info.IsDir())
		require.NoError(t, fsys.SyncDir("."))
		requireError(t, fsys.Remove("."), nil)
		requireError(t, fsys.Rename(".", "a"), nil)
		requireError(t, fsys.Mkdir(".", 0o700), fs.ErrExist)
	}},
	{"times", func(t *testing.T, fsys disk.FS) {
		put(t, fsys, "a", "1")
		before, err := fsys.Lstat("a")
		require.NoError(t, err)
		mtime := time.Date(2001, 2, 3, 4, 5, 6, 7000000, time.UTC)
		require.NoError(t, fsys.Chtimes("a", mtime))
		after, err := fsys.Lstat("a")
		require.NoError(t, err)
		require.True(t, mtime.Equal(after.ModTime()), "%v", after.ModTime())
		require.False(t, disk.ChangeTime(after).Before(disk.ChangeTime(before)))
		require.True(t, disk.ChangeTime(after).After(mtime.AddDate(1, 0, 0)), "the change time follows the clock")
		require.NoError(t, fsys.Rename("a", "b"))
		after, err = fsys.Lstat("b")
		require.NoError(t, err)
		require.True(t, mtime.Equal(after.ModTime()), "%v", after.ModTime())
	}},
	{"the same file", func(t *testing.T, fsys disk.FS) {
		lstat := func(name string) fs.FileInfo {
			info, err := fsys.Lstat(name)
			require.NoError(t, err)
			return info
		}
		require.NoError(t, fsys.Mkdir("d", 0o700))
		put(t, fsys, "a", "1")
		put(t, fsys, "b", "1")
		before := lstat("a")
		require.True(t, disk.SameFile(before, lstat("a")))
		require.False(t, disk.SameFile(before, lstat("b")), "equal bytes")
		require.False(t, disk.SameFile(before, lstat("d")))
		require.NoError(t, fsys.Rename("a", "d/c"))
		require.True(t, disk.SameFile(before, lstat("d/c")), "a rename")
		entries, err := fsys.ReadDir("d")
		require.NoError(t, err)
		listed, err := entries[0].Info()
		require.NoError(t, err)
		require.True(t, disk.SameFile(before, listed), "as ReadDir describes it")
		f := open(t, fsys, "d/c", os.O_RDWR)
		defer f.Close()
		_, err = f.Write([]byte("23"))
		require.NoError(t, err)
		opened, err := f.Stat()
		require.NoError(t, err)
		require.True(t, disk.SameFile(before, opened), "as File.Stat describes it, with other bytes")
		put(t, fsys, "a", "1")
		require.False(t, disk.SameFile(before, lstat("a")), "a new file under the old name")
		require.NoError(t, fsys.Rename("a", "d/c"))
		require.False(t, disk.SameFile(before, lstat("d/c")), "a replaced file")
	}},
	{"sync a directory", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, fsys.Mkdir("d", 0o700))
		put(t, fsys, "d/a", "1")
		require.NoError(t, fsys.SyncDir("d"))
		f := open(t, fsys, "d", os.O_RDONLY)
		require.NoError(t, f.Sync())
		require.NoError(t, f.Close())
	}},
	{"free space", func(t *testing.T, fsys disk.FS) {
		free, err := fsys.Free()
		require.NoError(t, err)
		require.Positive(t, free)
	}},
	{"MkdirAll", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, disk.MkdirAll(fsys, "a/b/c", 0o700))
		require.NoError(t, disk.MkdirAll(fsys, "a/b/d/", 0o700))
		require.NoError(t, disk.MkdirAll(fsys, ".", 0o700))
		require.Equal(t, []string{"c", "d"}, list(t, fsys, "a/b"))
		put(t, fsys, "f", "")
		requireError(t, disk.MkdirAll(fsys, "f", 0o700), syscall.ENOTDIR)
		requireError(t, disk.MkdirAll(fsys, "f/g", 0o700), syscall.ENOTDIR)
	}},
	{"WriteFile", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, disk.WriteFile(fsys, "a", []byte("1"), 0o600))
		require.Equal(t, "1", get(t, fsys, "a"))
		put(t, fsys, ".a.tmp", "left behind, and longer")
		require.NoError(t, disk.WriteFile(fsys, "a", []byte("2"), 0o600))
		require.Equal(t, "2", get(t, fsys, "a"))
		require.Equal(t, []string{"a"}, list(t, fsys, "."))
		require.NoError(t, fsys.Mkdir("d", 0o700))
		requireError(t, disk.WriteFile(fsys, "d", nil, 0o600), fs.ErrExist)
		requireError(t, disk.WriteFile(fsys, "e/a", nil, 0o600), fs.ErrNotExist)
		require.Equal(t, []string{"a", "d"}, list(t, fsys, "."))
	}},
	{"Commit", func(t *testing.T, fsys disk.FS) {
		require.NoError(t, fsys.Mkdir("d", 0o700))
		put(t, fsys, "d/a", "old")
		f := open(t, fsys, "p", os.O_WRONLY|os.O_CREATE)
		_, err := f.Write([]byte("new"))
		require.NoError(t, err)
		require.NoError(t, disk.Commit(fsys, f, "p", "d/a"))
		require.Equal(t, "new", get(t, fsys, "d/a"))
		require.Equal(t, []string{"d"}, list(t, fsys, "."))
		requireError(t, f.Close(), fs.ErrClosed)

		f = open(t, fsys, "p", os.O_WRONLY|os.O_CREATE)
		requireError(t, disk.Commit(fsys, f, "p", "none/a"), fs.ErrNotExist)
		requireError(t, f.Close(), fs.ErrClosed)
		require.NoError(t, disk.Commit(fsys, open(t, fsys, "p", os.O_WRONLY), "p", "p"))
		require.Equal(t, []string{"d", "p"}, list(t, fsys, "."))
	}},
}

// requireError requires an error of the FS that is target, or any if target is nil.
func requireError(t *testing.T, err, target error) {
	t.Helper()
	require.Error(t, err)
	var path *fs.PathError
	var link *os.LinkError
	require.True(t, errors.As(err, &path) || errors.As(err, &link), "%T: %v", err, err)
	if target != nil {
		require.ErrorIs(t, err, target)
	}
}

func open(t *testing.T, fsys disk.FS, name string, flag int) disk.File {
	t.Helper()
	f, err := fsys.OpenFile(name, flag, 0o600)
	require.NoError(t, err)
	return f
}

func put(t *testing.T, fsys disk.FS, name, data string) {
	t.Helper()
	f := open(t, fsys, name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	_, err := f.Write([]byte(data))
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func get(t *testing.T, fsys disk.FS, name string) string {
	t.Helper()
	f := open(t, fsys, name, os.O_RDONLY)
	defer f.Close()
	data, err := io.ReadAll(f)
	require.NoError(t, err)
	return string(data)
}

func list(t *testing.T, fsys disk.FS, dir string) []string {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names
}
