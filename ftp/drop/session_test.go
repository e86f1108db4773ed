package drop

import (
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestWhatIsTakenIsShownUntilItIsDelivered(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		r.put("/d/a", "hello")
		r.pass(time.Second)
		r.wantTaken("scanner:d/a=hello")
		other := r.user.Session(remote)
		for range 2 {
			fi, err := other.Stat("/d/a")
			require.NoError(t, err)
			require.Equal(t, int64(5), fi.Size())
			require.Equal(t, readOnly, fi.Mode())
			require.True(t, fi.ModTime().Equal(r.shelf.files[0].ModTime))
			require.Equal(t, []string{"a"}, r.names("/d"))
			require.ErrorIs(t, other.Remove("/d/a"), ErrBusy)
			require.ErrorIs(t, other.Rename("/d/a", "/b"), ErrBusy)
			require.NoError(t, other.Chtimes("/d/a", time.Unix(0, 0)))
			f, err := other.Open("/d/a")
			require.NoError(t, err)
			data, err := io.ReadAll(f)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			require.Equal(t, "hello", string(data))

			r.restart() // the second time: after a restart
			other = r.user.Session(remote)
		}
		r.put("/d/a", "second")
		require.Equal(t, int64(6), r.size("/d/a"))
		r.pass(time.Second)
		require.Equal(t, int64(6), r.size("/d/a"))
		require.Equal(t, Count{2, 11}, r.d.Usage().Taken)
		r.d.Gone("000001")
		require.Equal(t, []string{"a"}, r.names("/d"), "the first one still waits")
		r.d.Gone("000000")
		r.d.Gone("000000")
		r.d.Gone("unknown")
		require.Empty(t, r.names("/d"))
		_, err := other.Stat("/d/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Zero(t, r.d.Usage())
		require.NoError(t, r.s.RemoveDir("/d"))
	})
}

func TestSessionRemembersForAMinute(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a.tmp", "hello")
		require.NoError(t, r.s.Rename("/a.tmp", "/a"))
		r.pass(time.Hour) // waits long
		r.d.Gone(r.shelf.last())
		r.pass(59 * time.Second)
		fi, err := r.s.Stat("a")
		require.NoError(t, err)
		require.Equal(t, int64(5), fi.Size())
		require.Equal(t, "a", fi.Name())
		require.True(t, fi.ModTime().Equal(r.shelf.files[0].ModTime))
		require.NoError(t, r.s.Chtimes("/a", time.Unix(0, 0)))
		_, err = r.s.Open("/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Empty(t, r.names("/"))
		_, err = r.user.Session(remote).Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist, "another session does not")
		r.pass(time.Second)
		_, err = r.s.Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorIs(t, r.s.Chtimes("/a", time.Unix(0, 0)), fs.ErrNotExist)

		r.put("/b", "x")
		require.NoError(t, r.s.Remove("/b"))
		_, err = r.s.Stat("/b")
		require.ErrorIs(t, err, fs.ErrNotExist, "what is deleted is not remembered")
	})
}

func TestMemoryIsBounded(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for i := range 3 * maxMemo {
			m := &memo{size: int64(i)}
			r.s.remember(string(rune(i)), m)
			m.gone = time.Now()
		}
		require.Len(t, r.s.memos, maxMemo)
		require.Len(t, r.s.order, maxMemo)
	})
}

func TestNamespace(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		require.ErrorIs(t, r.s.Mkdir("/d"), fs.ErrExist)
		require.ErrorIs(t, r.s.Mkdir("/no/d"), fs.ErrNotExist)
		require.ErrorIs(t, r.s.Mkdir("/"), ErrName)
		_, err := r.s.Create("/d", Write{})
		require.ErrorIs(t, err, fs.ErrExist)
		_, err = r.s.Create("/no/a", Write{})
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = r.s.Create("/", Write{})
		require.ErrorIs(t, err, ErrName)
		_, err = r.s.Create("/a\r\n226 done", Write{})
		require.ErrorIs(t, err, ErrName)
		require.NotContains(t, err.Error(), "\n")

		r.put("/d/f.tmp", "x")
		_, err = r.s.Create("/d/f.tmp/g", Write{})
		require.ErrorIs(t, err, syscall.ENOTDIR)
		require.ErrorIs(t, r.s.RemoveDir("/d"), syscall.ENOTEMPTY)
		require.ErrorIs(t, r.s.RemoveDir("/d/f.tmp"), syscall.ENOTDIR)
		require.ErrorIs(t, r.s.Remove("/d"), syscall.EISDIR)
		require.ErrorIs(t, r.s.Remove("/no"), fs.ErrNotExist)
		_, err = r.s.Open("/d")
		require.ErrorIs(t, err, syscall.EISDIR)
		require.ErrorIs(t, r.s.Rename("/d", "/d/e"), ErrName)
		require.ErrorIs(t, r.s.Rename("/no", "/e"), fs.ErrNotExist)
		require.ErrorIs(t, r.s.Rename("/d/f.tmp", "/d"), fs.ErrExist)
		require.ErrorIs(t, r.s.Rename("/d/f.tmp", "/no/f"), fs.ErrNotExist)
		require.NoError(t, r.s.Rename("/d", "/d"))
		require.NoError(t, r.s.Rename("/d/f.tmp", "/d/f.tmp"))

		fi, err := r.s.Stat("/d")
		require.NoError(t, err)
		require.True(t, fi.IsDir())
		fi, err = r.s.Stat("/")
		require.NoError(t, err)
		require.True(t, fi.IsDir())
		require.NoError(t, r.s.Chtimes("/d", time.Unix(1e9, 0)))
		require.NoError(t, r.s.Rename("/d", "/e"))
		require.Equal(t, []string{"f.tmp"}, r.names("/e"))
		_, err = r.s.ReadDir("/d")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.NoError(t, r.s.Remove("/e/f.tmp"))
		require.NoError(t, r.s.RemoveDir("/e"))
		require.ErrorIs(t, r.s.RemoveDir("/e"), fs.ErrNotExist)
		require.Empty(t, r.names("/"))
		require.Zero(t, r.d.Usage())
	})
}

func TestUploadThatAddsNoFileAtTheLimit(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxFiles = 3 }, func(r *rig) {
		r.put("/taken", "1")
		r.pass(time.Second)
		r.put("/a", "2")
		r.interrupt("/b", Write{}, "3")
		refused := func(name string) {
			t.Helper()
			_, err := r.s.Create(name, Write{})
			require.ErrorIs(t, err, ErrFull)
		}
		refused("/c")
		refused("/taken") // both are to be delivered
		r.put("/a", "overwritten")
		u := r.begin("/a", Write{Append: true}, " and longer")
		refused("/c")
		refused("/a")
		require.NoError(t, u.Commit())
		refused("/c")
		r.interrupt("/b", Write{}, "begun anew")
		u = r.begin("/b", Write{Append: true}, " and resumed")
		v := r.begin("/b", Write{Append: true}, " twice")
		require.ErrorIs(t, u.Commit(), ErrSuperseded)
		require.NoError(t, v.Commit())
		u = r.begin("/a", Write{}, "another")
		r.pass(time.Second)
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		require.Equal(t, 4, r.d.Usage().Taken.Files, "one was taken before it could be replaced")
		for _, name := range []string{"/a", "/b", "/c"} {
			refused(name)
		}
		r.wantTaken("scanner:taken=1", "scanner:a=overwritten and longer", "scanner:b=begun anew and resumed twice", "scanner:a=another")
	})
}

// A directory does not bring deeper what is in it than names are accepted.
func TestRenamedDirectoryKeepsToTheDepth(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		deep := ""
		for range maxDepth - 2 {
			deep += "/d"
			require.NoError(t, r.s.Mkdir(deep))
		}
		for _, dir := range []string{"/file", "/dir", "/dir/dir"} {
			require.NoError(t, r.s.Mkdir(dir))
		}
		r.put("/file/a", "1")
		require.NoError(t, r.s.Rename("/file", deep+"/f"))
		require.NoError(t, r.s.Rename("/dir", deep+"/g"))
		require.ErrorIs(t, r.s.Mkdir(deep+"/g/dir/d"), ErrName)
		require.NoError(t, r.s.Mkdir("/e"))
		require.ErrorIs(t, r.s.Rename("/d", "/e/d"), ErrName)
		r.put("/b", "2")
		require.NoError(t, r.s.Rename("/b", deep+"/f/b"))
		r.pass(time.Second)
		r.wantTaken("scanner:"+deep[1:]+"/f/a=1", "scanner:"+deep[1:]+"/f/b=2")
		require.ErrorIs(t, r.s.Rename("/d", "/e/d"), ErrName, "also without files")
	})
}

func TestInterruptedUploadInTheNamespace(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		u := r.begin("/d/a", Write{}, "hel")
		require.ErrorIs(t, r.s.Remove("/d/a"), ErrBusy)
		require.Equal(t, []string{"a"}, r.names("/d"))
		require.NoError(t, u.Interrupt(errCut))
		require.ErrorIs(t, r.s.Rename("/d/a", "/b"), ErrIncomplete)
		require.ErrorIs(t, r.s.Chtimes("/d/a", time.Now()), ErrIncomplete)
		_, err := r.s.Open("/d/a")
		require.ErrorIs(t, err, ErrIncomplete)
		require.ErrorIs(t, r.s.RemoveDir("/d"), syscall.ENOTEMPTY)

		// A finished file of the name makes it void.
		r.put("/d/a.tmp", "hello")
		require.NoError(t, r.s.Rename("/d/a.tmp", "/d/a"))
		require.Zero(t, r.d.Usage().Partial)

		r.interrupt("/d/b", Write{}, "hel")
		require.NoError(t, r.s.Remove("/d/b"))
		require.ErrorIs(t, r.s.Remove("/d/b"), fs.ErrNotExist)
		require.Zero(t, r.d.Usage().Partial)
	})
}

func TestDeletedFileIsNotDelivered(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a", "x")
		require.NoError(t, r.s.Remove("/a"))
		r.pass(time.Minute)
		r.wantTaken()
		require.Zero(t, r.d.Usage())
	})
}

func TestSharedAndNestedDirectories(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		same, err := r.d.User("second", "scanner")
		require.NoError(t, err)
		inner, err := r.d.User("third", "scanner/in")
		require.NoError(t, err)
		r.put("/a", "1")
		s2, s3 := same.Session(remote), inner.Session(remote)
		u, err := s2.Create("/in/b", Write{})
		require.NoError(t, err)
		require.NoError(t, u.Commit())
		u, err = s3.Create("/../c", Write{})
		require.NoError(t, err)
		require.NoError(t, u.Commit())
		list, err := s3.ReadDir("/")
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.ErrorIs(t, r.s.RemoveDir("/in"), ErrBusy)
		require.ErrorIs(t, r.s.Rename("/in", "/out"), ErrBusy)
		write(t, r.fs, "drop/scanner/in/d", "")
		write(t, r.fs, "drop/scanner/e", "")
		r.pass(time.Minute)
		require.ElementsMatch(t, []string{"scanner:a=1", "second:in/b=", "third:c=", "third:d=", "scanner:e="}, r.shelf.taken(t))
	})
	for _, dir := range []string{"", ".", "..", "/abs", "a/../b", "a//b", "a/", "a\x00"} {
		d, err := Open(Options{FS: disktest.New(1), Taker: newShelf(t, disktest.New(2))})
		require.NoError(t, err)
		_, err = d.User("u", dir)
		require.ErrorIs(t, err, ErrName, "%q", dir)
	}
}

func TestFileAndDirectoryLimits(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxFiles, o.MaxDirs = 3, 3 }, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d")) // with the top itself the second
		require.NoError(t, r.s.Mkdir("/e"))
		require.ErrorIs(t, r.s.Mkdir("/f"), ErrFull)
		r.put("/a", "")
		r.pass(time.Second)
		r.put("/b", "")
		r.interrupt("/c", Write{}, "x")
		_, err := r.s.Create("/d", Write{})
		require.ErrorIs(t, err, fs.ErrExist)
		_, err = r.s.Create("/x", Write{})
		require.ErrorIs(t, err, ErrFull)
		other, err := r.d.User("other", "other")
		require.NoError(t, err)
		u, err := other.Session(remote).Create("/x", Write{})
		require.NoError(t, err, "each top directory has its own limit")
		require.NoError(t, u.Commit())
		r.d.Gone("000000")
		r.put("/x", "")
		require.NoError(t, r.s.RemoveDir("/e"))
		require.NoError(t, r.s.Mkdir("/f"))
	})
}

func TestSizeLimits(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxSize, o.SpoolLimit = 10, 25 }, func(r *rig) {
		u := r.begin("/a", Write{}, "0123456789")
		_, err := u.Write([]byte("x"))
		require.ErrorIs(t, err, ErrTooLarge)
		require.ErrorIs(t, u.Commit(), ErrTooLarge)
		require.ErrorIs(t, r.s.Remove("/a"), fs.ErrNotExist, "what can never be whole is not kept")

		r.put("/a", "0123456789")
		r.pass(time.Second) // taken files count too
		u = r.begin("/b", Write{}, "01234567")
		v := r.begin("/c", Write{}, "01234")
		n, err := r.s.Available()
		require.NoError(t, err)
		require.Equal(t, int64(2), n)
		_, err = v.Write([]byte("567"))
		require.ErrorIs(t, err, ErrFull)
		_, err = r.s.Create("/d", Write{Declared: 3})
		require.ErrorIs(t, err, ErrFull)
		require.ErrorIs(t, v.Commit(), ErrFull)
		_, err = u.Write([]byte("89"))
		require.NoError(t, err)
		require.NoError(t, u.Commit())
		_, err = r.s.Create("/d", Write{})
		require.ErrorIs(t, err, ErrFull)
		r.d.Gone(r.shelf.last())
		require.NoError(t, r.begin("/c", Write{Append: true}, "56789").Commit())
		r.pass(time.Second)
		r.wantTaken("scanner:a=0123456789", "scanner:b=0123456789", "scanner:c=0123456789")
	})
}

func TestFreeSpaceFloor(t *testing.T) {
	bubble(t, func(o *Options) { o.MinFree = 1000 }, func(r *rig) {
		r.fs.SetCapacity(1100)
		u, v := r.begin("/a", Write{}, string(make([]byte, 40))), r.begin("/b", Write{}, string(make([]byte, 40)))
		n, err := r.s.Available()
		require.NoError(t, err)
		require.Equal(t, int64(20), n)
		_, err = u.Write(make([]byte, 20))
		require.NoError(t, err)
		_, err = v.Write(make([]byte, 1))
		require.ErrorIs(t, err, ErrFull)
		_, err = r.s.Create("/c", Write{})
		require.ErrorIs(t, err, ErrFull)
		require.NoError(t, u.Commit())
		require.Error(t, v.Commit())
		r.fs.SetCapacity(2000) // space is freed
		r.put("/c", "x")
		r.fs.Inject(disktest.Fault{Kind: disktest.Free})
		r.pass(2 * time.Second)
		_, err = r.s.Create("/d", Write{})
		require.ErrorIs(t, err, syscall.EIO)
	})
}

func TestOptions(t *testing.T) {
	_, err := Open(Options{Ignore: []string{"["}, Quiet: -1, MaxFiles: -1})
	for _, part := range []string{"FS: required", "Taker: required", `Ignore: "[": expected a pattern`, "Quiet: -1ns: expected", "MaxFiles: -1: expected"} {
		require.ErrorContains(t, err, part)
	}
}

// realDrop opens a Drop on the file system of the machine.
func realDrop(t *testing.T, change func(*Options)) (*Drop, *UserDir, *shelf, string) {
	t.Helper()
	dir := t.TempDir()
	volume, err := disk.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, volume.Close()) })
	shelf := newShelf(t, volume)
	opts := Options{FS: volume, Taker: shelf, MinFree: -1, WatchDir: filepath.Join(dir, "drop")}
	if change != nil {
		change(&opts)
	}
	d, err := Open(opts)
	require.NoError(t, err)
	u, err := d.User("scanner", "scanner")
	require.NoError(t, err)
	return d, u, shelf, dir
}

func TestSymlinksAndSpecialFiles(t *testing.T) {
	d, u, _, dir := realDrop(t, nil)
	outside := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o600))
	top := filepath.Join(dir, "drop", "scanner")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "drop", "other"), 0o700))
	require.NoError(t, os.Symlink(outside, filepath.Join(top, "file")))
	require.NoError(t, os.Symlink("../other", filepath.Join(top, "dir")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(top, "pipe"), 0o600))
	s := u.Session(netip.Addr{})
	for _, name := range []string{"/file", "/dir", "/pipe"} {
		_, err := s.Open(name)
		require.ErrorIs(t, err, fs.ErrNotExist, name)
		_, err = s.Stat(name)
		require.ErrorIs(t, err, fs.ErrNotExist, name)
	}
	_, err := s.Create("/dir/a", Write{})
	require.ErrorIs(t, err, syscall.ENOTDIR)
	_, err = s.ReadDir("/dir")
	require.ErrorIs(t, err, syscall.ENOTDIR)
	require.ErrorIs(t, s.Mkdir("/dir/x"), syscall.ENOTDIR)
	list, err := s.ReadDir("/")
	require.NoError(t, err)
	require.Empty(t, list)
	d.rescan()
	require.Zero(t, d.Usage())

	// An upload replaces the link and does not write through it.
	up, err := s.Create("/file", Write{})
	require.NoError(t, err)
	_, err = up.Write([]byte("mine"))
	require.NoError(t, err)
	require.NoError(t, up.Commit())
	data, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "secret", string(data))
}
