package drop

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

func TestWhatWaitsIsShownUntilItIsDelivered(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.sink.setAway(true)
		require.NoError(t, r.s.Mkdir("/d"))
		r.put("/d/a", "hello")
		r.pass(time.Second)
		other := r.user.Session(remote)
		for range 2 {
			fi, err := other.Stat("/d/a")
			require.NoError(t, err)
			require.Equal(t, int64(5), fi.Size())
			require.Equal(t, readOnly, fi.Mode())
			require.Equal(t, []string{"a"}, r.names("/d"))
			for _, s := range []*Session{other, r.s} {
				require.ErrorIs(t, s.Remove("/d/a"), ErrDue)
				require.ErrorIs(t, s.Rename("/d/a", "/b"), ErrDue)
				require.NoError(t, s.Chtimes("/d/a", time.Unix(0, 0)))
				_, err = s.Create("/d/a", Start{Append: true})
				require.ErrorIs(t, err, ErrDue)
				_, err = s.Create("/d/a", Start{Offset: 1})
				require.ErrorIs(t, err, ErrDue)
				require.ErrorIs(t, s.Rename("/d", "/e"), ErrBusy)
			}
			fi, err = other.Stat("/d/a")
			require.NoError(t, err)
			require.False(t, fi.ModTime().Equal(time.Unix(0, 0)), "it has no effect")
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
		require.Equal(t, Count{2, 11}, r.d.Usage().Waiting)
		require.NoError(t, r.s.RemoveDir("/d"), "what is being delivered is no hindrance")
		require.NoError(t, r.s.Mkdir("/d"))
		r.sink.setAway(false)
		r.pass(time.Second)
		r.wantSent("scanner:d/a=hello", "scanner:d/a=second")
		require.Empty(t, r.names("/d"))
		_, err := other.Stat("/d/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Zero(t, r.d.Usage())
		require.NoError(t, r.s.RemoveDir("/d"))
	})
}

func TestSessionRemembersForAMinute(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.sink.setAway(true)
		require.NoError(t, r.s.Mkdir("/.d"))
		r.put("/.d/a.tmp", "hello")
		require.NoError(t, r.s.Rename("/.d", "/d"))
		require.NoError(t, r.s.Rename("/d/a.tmp", "/a"))
		require.NoError(t, r.s.Chtimes("/a", time.Unix(1e9, 0)))
		r.pass(time.Hour) // waits long
		r.sink.setAway(false)
		r.box.Wake()
		r.pass(59 * time.Second)
		r.wantSent("scanner:a=hello")
		fi, err := r.s.Stat("a")
		require.NoError(t, err)
		require.Equal(t, int64(5), fi.Size())
		require.Equal(t, "a", fi.Name())
		require.True(t, fi.ModTime().Equal(time.Unix(1e9, 0)))
		require.True(t, r.sink.got[0].ModTime.Equal(time.Unix(1e9, 0)))
		require.NoError(t, r.s.Chtimes("/a", time.Unix(0, 0)))
		_, err = r.s.Open("/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Empty(t, r.names("/d"))
		_, err = r.user.Session(remote).Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist, "another session does not")
		r.pass(2 * time.Second)
		_, err = r.s.Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorIs(t, r.s.Chtimes("/a", time.Unix(0, 0)), fs.ErrNotExist)

		r.put("/b", "x")
		require.NoError(t, r.s.Remove("/b"))
		_, err = r.s.Stat("/b")
		require.ErrorIs(t, err, fs.ErrNotExist, "what is deleted is not remembered")
	})
}

// A session that was replaced by another does not change what that has sent.
func TestNameThatAnotherSessionHasSentAnew(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for _, name := range []string{"/a.tmp", "/a"} {
			first, second, third := r.s, r.user.Session(remote), r.user.Session(remote)
			r.put(name, "first")
			r.s = second
			r.put(name, "second")
			require.ErrorIs(t, first.Rename(name, "/b"), ErrReplaced)
			require.ErrorIs(t, first.Remove(name), ErrReplaced)
			require.ErrorIs(t, first.Chtimes(name, time.Now()), ErrReplaced)
			require.NoError(t, third.Chtimes(name, time.Unix(1e9, 0)), "one that has not sent it may")
			require.NoError(t, second.Rename(name, name+" renamed"))
			require.NoError(t, third.Rename(name+" renamed", name))
			require.NoError(t, second.Remove(name))
			r.s = first
		}
		r.pass(time.Second)
		r.wantSent("scanner:a=first")
	})
}

func TestMemoryIsBounded(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for i := range 3 * maxMemo {
			r.s.remember(fmt.Sprint(i), outbox.Entry{})
		}
		require.Len(t, r.s.memos, maxMemo)
		require.Len(t, r.s.order, maxMemo)
	})
}

// What cannot be written down is not done: the values before stand.
func TestChangeThatCannotBeWritten(t *testing.T) {
	bubble(t, func(o *Options) { o.Settle = time.Hour }, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		r.put("/d/a", "x")
		mtime := time.Unix(1e9, 0)
		require.NoError(t, r.s.Chtimes("/d/a", mtime))
		for what, change := range map[string]func() error{
			"rename":        func() error { return r.s.Rename("/d/a", "/b") },
			"rename folder": func() error { return r.s.Rename("/d", "/e") },
			"set time":      func() error { return r.s.Chtimes("/d/a", time.Now()) },
			"delete":        func() error { return r.s.Remove("/d/a") },
		} {
			r.fs.Inject(disktest.Fault{Kind: disktest.Sync})
			require.ErrorIs(t, change(), syscall.EIO, what)
			require.Equal(t, []string{"d"}, r.names("/"), what)
			fi, err := r.s.Stat("/d/a")
			require.NoError(t, err, what)
			require.True(t, fi.ModTime().Equal(mtime), what)
		}
		r.crash(disktest.Nothing())
		require.Equal(t, []string{"d/a=x"}, r.waiting())
		require.NoError(t, r.s.Rename("/d/a", "/b"))
		r.pass(time.Hour)
		r.wantSent("scanner:b=x")
	})
}

// What was acknowledged is there after a power cut.
func TestNamespaceIsDurable(t *testing.T) {
	bubble(t, func(o *Options) { o.Settle = time.Hour }, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		require.NoError(t, r.s.Mkdir("/d/e"))
		r.put("/d/e/a.tmp", "1")
		require.NoError(t, r.s.Rename("/d/e", "/f"))
		r.put("/f/b", "2")
		require.NoError(t, r.s.Rename("/f/b", "/f/c"))
		require.NoError(t, r.s.Chtimes("/f/c", time.Unix(1e9, 0)))
		r.put("/g", "3")
		require.NoError(t, r.s.Remove("/g"))
		write(t, r.fs, "drop/scanner/h", "of another program")
		require.NoError(t, r.s.Rename("/h", "/i"))
		write(t, r.fs, "drop/scanner/j", "of another program, too")
		require.NoError(t, r.fs.SyncDir("drop/scanner"))
		require.NoError(t, r.s.Remove("/j"))
		r.crash(disktest.Nothing())
		require.Equal(t, []string{"d", "f", "i"}, r.names("/"))
		require.Empty(t, r.names("/d"))
		require.Equal(t, []string{"a.tmp", "c"}, r.names("/f"))
		fi, err := r.s.Stat("/f/c")
		require.NoError(t, err)
		require.True(t, fi.ModTime().Equal(time.Unix(1e9, 0)))
		require.NoError(t, r.s.Rename("/f/a.tmp", "/f/a"))
		r.pass(2 * time.Hour)
		r.wantSent("scanner:f/c=2", "scanner:i=of another program", "scanner:f/a=1")
	})
}

// A folder is renamed for all that is in it, held or not, and for what other programs have put there.
func TestRenameOfAFolder(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/.in"))
		require.NoError(t, r.s.Mkdir("/.in/deep"))
		r.put("/.in/z", "1")
		r.put("/.in/deep/y", "2")
		r.put("/.in/x.tmp", "3")
		write(t, r.fs, "drop/scanner/.in/w", "4")
		r.pass(time.Hour)
		r.put("/between", "5")
		require.NoError(t, r.s.Rename("/.in", "/in"))
		require.Equal(t, []string{"between", "in"}, r.names("/"))
		require.Equal(t, []string{"deep", "w", "x.tmp", "z"}, r.names("/in"))
		r.pass(time.Second + 10*time.Millisecond) // the outbox gathers what is due soon after another
		require.ElementsMatch(t, []string{"scanner:between=5", "scanner:in/z=1", "scanner:in/deep/y=2", "scanner:in/w=4"}, r.sink.list())
		sent := r.sink.list()
		require.Less(t, slices.Index(sent, "scanner:between=5"), slices.Index(sent, "scanner:in/z=1"))
		require.Less(t, slices.Index(sent, "scanner:in/z=1"), slices.Index(sent, "scanner:in/deep/y=2"))
		require.NoError(t, r.s.Rename("/in", "/.out"))
		require.NoError(t, r.s.Rename("/.out/x.tmp", "/.out/x"))
		r.pass(time.Hour)
		require.Len(t, r.sink.list(), 4)
	})
}

func TestNamespace(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		require.ErrorIs(t, r.s.Mkdir("/d"), fs.ErrExist)
		require.ErrorIs(t, r.s.Mkdir("/no/d"), fs.ErrNotExist)
		require.ErrorIs(t, r.s.Mkdir("/"), ErrName)
		_, err := r.s.Create("/d", Start{})
		require.ErrorIs(t, err, fs.ErrExist)
		_, err = r.s.Create("/no/a", Start{})
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = r.s.Create("/", Start{})
		require.ErrorIs(t, err, ErrName)
		_, err = r.s.Create("/a\r\n226 done", Start{})
		require.ErrorIs(t, err, ErrName)
		require.NotContains(t, err.Error(), "\n")

		r.put("/d/f.tmp", "x")
		_, err = r.s.Create("/d/f.tmp/g", Start{})
		require.ErrorIs(t, err, fs.ErrNotExist)
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
		r.sink.setAway(true)
		r.put("/taken", "1")
		r.pass(time.Second)
		r.put("/a.tmp", "2")
		r.interrupt("/b", Start{}, "3")
		refused := func(name string) {
			t.Helper()
			_, err := r.s.Create(name, Start{})
			require.ErrorIs(t, err, ErrFull)
		}
		refused("/c")
		refused("/taken") // both versions are to be delivered
		r.put("/a.tmp", "sent again")
		r.pass(time.Millisecond) // what it replaces is gone
		u := r.begin("/a.tmp", Start{Append: true}, " and longer")
		refused("/c")
		refused("/a.tmp")
		require.NoError(t, u.Commit())
		refused("/c")
		r.interrupt("/b", Start{}, "begun anew")
		u = r.begin("/b", Start{Append: true}, " and resumed")
		v := r.begin("/b", Start{Append: true}, " twice")
		require.ErrorIs(t, u.Commit(), ErrSuperseded)
		require.NoError(t, v.Commit())
		require.NoError(t, r.s.Rename("/a.tmp", "/b"))
		r.pass(time.Millisecond) // what was replaced is gone
		require.Equal(t, 3, r.d.Usage().Waiting.Files)
		for _, name := range []string{"/a", "/b", "/c"} {
			refused(name)
		}
		r.sink.setAway(false)
		r.pass(2 * time.Second)
		r.wantSent("scanner:taken=1", "scanner:b=begun anew and resumed twice", "scanner:b=sent again and longer")
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
		r.wantSent("scanner:"+deep[1:]+"/f/a=1", "scanner:"+deep[1:]+"/f/b=2")
		require.ErrorIs(t, r.s.Rename("/d", "/e/d"), ErrName, "also without files")
	})
}

func TestInterruptedUploadInTheNamespace(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		u := r.begin("/d/a", Start{}, "hel")
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

		r.interrupt("/d/b", Start{}, "hel")
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
		r.wantSent()
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
		u, err := s2.Create("/in/b", Start{})
		require.NoError(t, err)
		require.NoError(t, u.Commit())
		u, err = s3.Create("/../c", Start{})
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
		require.ElementsMatch(t, []string{"scanner:a=1", "second:in/b=", "third:c=", "third:d=", "scanner:e="}, r.sink.list())
	})
	for _, dir := range []string{"", ".", "..", "/abs", "a/../b", "a//b", "a/", "a\x00"} {
		d := &Drop{}
		_, err := d.User("u", dir)
		require.ErrorIs(t, err, ErrName, "%q", dir)
	}
}

func TestFileAndDirectoryLimits(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxFiles, o.MaxDirs = 3, 2 }, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		require.NoError(t, r.s.Mkdir("/d/e"))
		require.ErrorIs(t, r.s.Mkdir("/d/e/f"), ErrFull, "the folders that it stands in do not go")
		r.sink.setAway(true)
		r.put("/a", "")
		r.pass(time.Second)
		r.put("/b", "")
		r.interrupt("/c", Start{}, "x")
		_, err := r.s.Create("/d", Start{})
		require.ErrorIs(t, err, fs.ErrExist)
		_, err = r.s.Create("/x", Start{})
		require.ErrorIs(t, err, ErrFull)
		other, err := r.d.User("other", "other")
		require.NoError(t, err)
		u, err := other.Session(remote).Create("/x", Start{})
		require.NoError(t, err, "each top directory has its own limit")
		require.NoError(t, u.Commit())
		r.sink.setAway(false)
		r.pass(time.Second)
		r.put("/x", "")
		require.NoError(t, r.s.RemoveDir("/d/e"))
		require.NoError(t, r.s.Mkdir("/d/f"))
	})
}

// The limit for all users together counts what is in the outbox, interrupted and found. A start with more works.
func TestTotalLimit(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxTotal = 5 }, func(r *rig) {
		r.sink.setAway(true)
		user, err := r.d.User("other", "other")
		require.NoError(t, err)
		other := user.Session(remote)
		refused := func(s *Session, name string) {
			t.Helper()
			_, err := s.Create(name, Start{})
			require.ErrorIs(t, err, ErrFull)
			require.ErrorContains(t, err, "all users together")
		}
		r.put("/a", "1")
		r.put("/held.tmp", "2")
		r.interrupt("/c", Start{}, "3")
		write(t, r.fs, "drop/scanner/found", "4")
		r.pass(time.Minute)
		u, err := other.Create("/e", Start{})
		require.NoError(t, err)
		refused(r.s, "/x")
		require.NoError(t, u.Commit())
		refused(other, "/x")
		require.NoError(t, r.s.Remove("/held.tmp"))
		r.pass(time.Second)
		r.put("/x", "5")

		r.opts.MaxTotal = 2
		r.restart()
		refused(r.s, "/y")
		r.sink.setAway(false)
		r.pass(time.Minute)
		require.Len(t, r.waiting(), 0)
		r.put("/y", "6")
	})
}

func TestSizeLimits(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxSize, o.SpoolLimit = 10, 25 }, func(r *rig) {
		u := r.begin("/a", Start{}, "0123456789")
		_, err := u.Write([]byte("x"))
		require.ErrorIs(t, err, ErrTooLarge)
		require.ErrorIs(t, u.Commit(), ErrTooLarge)
		require.ErrorIs(t, r.s.Remove("/a"), fs.ErrNotExist, "what can never be whole is not kept")

		r.sink.setAway(true)
		r.put("/a", "0123456789")
		r.pass(time.Second) // what is being delivered counts too
		u = r.begin("/b", Start{}, "01234567")
		v := r.begin("/c", Start{}, "01234")
		_, err = v.Write([]byte("567"))
		require.ErrorIs(t, err, ErrFull, "room for 2 more is left")
		_, err = r.s.Create("/d", Start{Declared: 3})
		require.ErrorIs(t, err, ErrFull)
		require.ErrorIs(t, v.Commit(), ErrFull)
		_, err = u.Write([]byte("89"))
		require.NoError(t, err)
		require.NoError(t, u.Commit())
		_, err = r.s.Create("/d", Start{})
		require.ErrorIs(t, err, ErrFull)
		r.sink.setAway(false)
		r.pass(time.Second)
		require.NoError(t, r.begin("/c", Start{Append: true}, "56789").Commit())
		r.pass(time.Second)
		r.wantSent("scanner:a=0123456789", "scanner:b=0123456789", "scanner:c=0123456789")
	})
}

func TestFreeSpaceFloor(t *testing.T) {
	bubble(t, func(o *Options) { o.MinFree = 1000 }, func(r *rig) {
		r.fs.SetCapacity(1100 + used(t, r.fs))
		u, v := r.begin("/a", Start{}, string(make([]byte, 40))), r.begin("/b", Start{}, string(make([]byte, 40)))
		_, err := u.Write(make([]byte, 20))
		require.NoError(t, err)
		_, err = v.Write(make([]byte, 1))
		require.ErrorIs(t, err, ErrFull)
		_, err = r.s.Create("/c", Start{})
		require.ErrorIs(t, err, ErrFull)
		require.NoError(t, u.Commit())
		require.Error(t, v.Commit())
		r.fs.SetCapacity(2000 + used(t, r.fs)) // space is freed
		r.put("/c", "x")
		r.fs.Inject(disktest.Fault{Kind: disktest.Free})
		r.pass(2 * time.Second)
		_, err = r.s.Create("/d", Start{})
		require.ErrorIs(t, err, syscall.EIO)
	})
}

func TestOptions(t *testing.T) {
	_, err := Open(Options{Ignore: []string{"["}, Quiet: -1, MaxFiles: -1})
	for _, part := range []string{"FS: required", "Outbox: required", "Describe: required", `Ignore: "[": expected a pattern`, "Quiet: -1ns: expected", "MaxFiles: -1: expected"} {
		require.ErrorContains(t, err, part)
	}
}

// used is how many bytes the volume holds.
func used(t *testing.T, fsys *disktest.FS) int64 {
	fsys.SetCapacity(1 << 40)
	free, err := fsys.Free()
	require.NoError(t, err)
	return 1<<40 - int64(free)
}

// realDrop opens a Drop on the file system of the machine, and runs its outbox.
func realDrop(t *testing.T, change func(*Options)) (*Drop, *UserDir, *sink, string) {
	t.Helper()
	dir := t.TempDir()
	volume, err := disk.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, volume.Close()) })
	sink := &sink{}
	box, err := outbox.Open(outbox.Options{FS: volume, Deliverer: sink})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- box.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done); require.NoError(t, box.Close()) })
	opts := Options{FS: volume, Outbox: box, Describe: describe, MinFree: -1, WatchDir: filepath.Join(dir, "drop")}
	if change != nil {
		change(&opts)
	}
	d, err := Open(opts)
	require.NoError(t, err)
	u, err := d.User("scanner", "scanner")
	require.NoError(t, err)
	return d, u, sink, dir
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
	_, err := s.Create("/dir/a", Start{})
	require.ErrorIs(t, err, syscall.ENOTDIR)
	_, err = s.ReadDir("/dir")
	require.ErrorIs(t, err, syscall.ENOTDIR)
	require.ErrorIs(t, s.Mkdir("/dir/x"), syscall.ENOTDIR)
	list, err := s.ReadDir("/")
	require.NoError(t, err)
	require.Empty(t, list)
	d.watcher.rescan()
	require.Zero(t, d.Usage())

	// An upload does not write through the link.
	up, err := s.Create("/file", Start{})
	require.NoError(t, err)
	_, err = up.Write([]byte("mine"))
	require.NoError(t, err)
	require.NoError(t, up.Commit())
	data, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "secret", string(data))
}
