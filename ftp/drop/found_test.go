package drop

import (
	"context"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// Another program may gather its files anywhere below drop, also directly there, and rename the directory when they are complete.
func TestTemporaryDirectoryOfNoUser(t *testing.T) {
	for _, dir := range []string{".sync.tmp", ".~tmp~", ".Trash-1000", "x.part/sub", "site/.in"} {
		t.Run(dir, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				require.NoError(t, disk.MkdirAll(r.fs, "drop/"+dir, 0o750))
				write(t, r.fs, "drop/"+dir+"/half", "1")
				r.pass(time.Hour)
				r.wantSent()
				r.restart()
				r.pass(time.Hour)
				r.wantSent()
				write(t, r.fs, "drop/"+dir+"/half", "12")
				require.NoError(t, r.fs.Rename("drop/"+dir, "drop/done"))
				r.pass(time.Minute)
				r.wantSent("done:half=12")
			})
		})
	}
}

// That of a user who is not configured any more looks the same, until the user is back.
func TestTemporaryDirectoryOfAFormerUser(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.fs.Mkdir("drop/x.part", 0o750))
		write(t, r.fs, "drop/x.part/a", "1")
		write(t, r.fs, "drop/x.part/b.tmp", "2")
		r.pass(time.Hour)
		r.wantSent()
		r.restart()
		r.put("/c", "3")
		_, err := r.d.User("former", "x.part")
		require.NoError(t, err)
		r.pass(time.Hour)
		require.ElementsMatch(t, []string{"former:a=1", "scanner:c=3"}, r.sink.list())
	})
}

func TestOtherProgramsFileIsTakenWhenQuiet(t *testing.T) {
	bubble(t, func(o *Options) { o.Rescan = time.Second }, func(r *rig) {
		require.NoError(t, r.fs.Mkdir("drop/scanner/sub", 0o700))
		write(t, r.fs, "drop/scanner/sub/a", "1")
		r.pass(8 * time.Second)
		write(t, r.fs, "drop/scanner/sub/a", "12")
		r.pass(8 * time.Second)
		r.wantSent()
		r.pass(4 * time.Second)
		r.wantSent("scanner:sub/a=12")
		require.False(t, r.sink.got[0].File.RemoteAddr.IsValid())

		write(t, r.fs, "drop/scanner/b", "1")
		r.pass(2 * time.Second)
		require.NoError(t, r.fs.Remove("drop/scanner/b"))
		r.pass(time.Minute)
		r.wantSent("scanner:sub/a=12")
		require.Zero(t, r.d.Usage())
	})
}

func TestChangeThatNoEventToldIsSeenWhenDue(t *testing.T) {
	bubble(t, func(o *Options) { o.Rescan = 9 * time.Second }, func(r *rig) {
		write(t, r.fs, "drop/scanner/a", "1")
		r.pass(18*time.Second + 500*time.Millisecond)
		write(t, r.fs, "drop/scanner/a", "12")
		r.pass(10 * time.Second)
		r.wantSent()
		r.pass(time.Second)
		r.wantSent("scanner:a=12")
	})
}

// The size and the time of a file say nothing: programs that copy set the times of what they copy.
func TestChangeThatOnlyTheChangeTimeTells(t *testing.T) {
	bubble(t, func(o *Options) { o.Rescan = time.Second }, func(r *rig) {
		for _, content := range []string{"1 2", "1 3"} {
			write(t, r.fs, "drop/scanner/a", content)
			require.NoError(t, r.fs.Chtimes("drop/scanner/a", time.Unix(1e9, 0)))
			r.pass(6 * time.Second)
		}
		r.wantSent()
		r.pass(6 * time.Second)
		r.wantSent("scanner:a=1 3")
	})
}

// What stood there at the start goes in the order of its change times, and needs no further wait.
func TestFilesAtTheStart(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.stop()
		now := time.Now()
		for i, name := range []string{"c", "a", "b"} {
			write(t, r.fs, "drop/scanner/"+name, "x")
			require.NoError(t, r.fs.Chtimes("drop/scanner/"+name, now.Add(-time.Duration(i)*time.Hour)))
			r.pass(time.Second)
		}
		r.pass(7 * time.Second)
		write(t, r.fs, "drop/scanner/young", "x")
		write(t, r.fs, "drop/scanner/.hidden", "x")
		write(t, r.fs, "drop/scanner/future", "x")
		require.NoError(t, r.fs.Chtimes("drop/scanner/future", now.Add(1000*time.Hour)))
		r.pass(2 * time.Second)
		r.sink.setAway(true)
		r.start()
		require.NoError(t, r.d.TakeOver(context.Background()))
		require.Equal(t, []string{"c=x", "a=x", "b=x"}, r.waiting())
		r.sink.setAway(false)
		r.box.Wake()
		r.pass(7 * time.Second)
		r.wantSent("scanner:c=x", "scanner:a=x", "scanner:b=x")
		r.pass(time.Second)
		r.wantSent("scanner:c=x", "scanner:a=x", "scanner:b=x", "scanner:young=x")
		r.pass(2 * time.Second)
		r.wantSent("scanner:c=x", "scanner:a=x", "scanner:b=x", "scanner:young=x", "scanner:future=x")
	})
}

// A disk that has no descriptor free for a moment costs time, and no file.
func TestWhatIsForNowIsNotForGood(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ESTALE, syscall.EIO, syscall.ENOSPC, syscall.EACCES} {
		for name, fault := range map[string]disktest.Fault{
			"opening":  {Kind: disktest.Open, Path: "drop/scanner/a"},
			"syncing":  {Kind: disktest.Sync, Path: "drop/scanner/a"},
			"renaming": {Kind: disktest.Rename, Path: "outbox/..."},
		} {
			t.Run(errno.Error()+", "+name, func(t *testing.T) {
				bubble(t, nil, func(r *rig) {
					write(t, r.fs, "drop/scanner/a", "1")
					write(t, r.fs, "drop/scanner/b", "2")
					fault.Err, fault.Forever = errno, true
					r.fs.Inject(fault)
					r.pass(time.Hour)
					require.NotContains(t, r.sink.list(), "scanner:a=1")
					lines := strings.Count(r.log.String(), "error=")
					require.Greater(t, lines, 3, "it is said again")
					require.Less(t, lines, 60, "no flood")
					if fault.Path == "drop/scanner/a" {
						r.wantSent("scanner:b=2") // it holds up nobody else
					}
					r.fs.Heal()
					r.pass(2 * maxRetry)
					require.ElementsMatch(t, []string{"scanner:a=1", "scanner:b=2"}, r.sink.list())
					require.Zero(t, r.d.Usage())
				})
			})
		}
	}
}

// At the start, trouble of the volume as a whole is told, since nothing new may overtake what stands there; that of one file is not.
func TestTakeOverThatFails(t *testing.T) {
	for errno, told := range map[syscall.Errno]bool{syscall.EMFILE: true, syscall.ENOSPC: true, syscall.EIO: false} {
		bubble(t, nil, func(r *rig) {
			r.stopDrop()
			write(t, r.fs, "drop/scanner/a", "1")
			r.pass(time.Minute)
			r.openDrop()
			r.fs.Inject(disktest.Fault{Kind: disktest.Sync, Path: "drop/scanner/a", Err: errno})
			err := r.d.TakeOver(context.Background())
			if told {
				require.ErrorIs(t, err, errno)
			} else {
				require.NoError(t, err)
			}
			r.runDrop() // before, it would race with the TakeOver for the file
			r.pass(time.Minute)
			r.wantSent("scanner:a=1")
		})
	}
}

// Clients change such files, too.
func TestClientChangesAFileOfAnotherProgram(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for _, name := range []string{"a", "b", "c", "d", ".e", "f"} {
			write(t, r.fs, "drop/scanner/"+name, name)
		}
		require.Equal(t, []string{".e", "a", "b", "c", "d", "f"}, r.names("/"))
		require.NoError(t, r.s.Remove("/a"))
		require.NoError(t, r.s.Rename("/b", "/b2"))
		require.NoError(t, r.s.Rename("/.e", "/e"))
		require.NoError(t, r.s.Rename("/f", "/f.tmp"))
		require.NoError(t, r.s.Chtimes("/c", time.Unix(1e9, 0)))
		require.NoError(t, r.begin("/d", Start{Append: true}, " and more").Commit())
		f, err := r.s.Open("/c")
		require.NoError(t, err)
		data, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, "c", string(data))
		r.pass(2 * time.Minute)
		r.wantSent("scanner:b2=b", "scanner:e=.e", "scanner:d=d and more", "scanner:c=c")
		require.True(t, r.sink.got[3].ModTime.Equal(time.Unix(1e9, 0)))
		require.Equal(t, []string{"f.tmp=f"}, r.waiting())
		require.Equal(t, Usage{Waiting: Count{1, 1}}, r.d.Usage())
	})
}

// A client's version does not replace what another program has put there under the same name.
func TestUploadBesideAFileOfAnotherProgram(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		write(t, r.fs, "drop/scanner/a", "found")
		r.put("/a", "uploaded")
		require.NoError(t, r.s.Chtimes("/a", time.Unix(1e9, 0)))
		r.put("/b", "renamed")
		require.NoError(t, r.s.Rename("/b", "/a"))
		r.pass(2 * time.Minute)
		r.wantSent("scanner:a=uploaded", "scanner:a=renamed", "scanner:a=found")
		require.True(t, r.sink.got[0].ModTime.Equal(time.Unix(1e9, 0)))
	})
}

func TestFilesOfNoUserAreDelivered(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.fs.Mkdir("drop/old", 0o750))
		write(t, r.fs, "drop/old/d.csv", "")
		write(t, r.fs, "drop/top", "")
		r.pass(time.Minute)
		require.ElementsMatch(t, []string{"old:d.csv=", ":top="}, r.sink.list())
	})
}

// A directory that cannot be made is its user's all the same: at the latest the rescan makes it.
func TestUserWithoutADirectory(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.fs.Mkdir("drop/plant", 0o750))
		write(t, r.fs, "drop/plant/line2", "in its place")
		for range 2 {
			_, err := r.d.User("other", "plant/line2")
			require.ErrorIs(t, err, syscall.ENOTDIR)
		}
		r.pass(2 * time.Minute)
		r.wantSent("plant:line2=in its place")
		write(t, r.fs, "drop/plant/line2/a", "1")
		r.pass(time.Minute)
		r.wantSent("plant:line2=in its place", "other:a=1")
		u, err := r.d.User("other", "plant/line2")
		require.NoError(t, err)
		require.Len(t, r.d.users.all(), 2)
		require.NoError(t, u.Session(remote).Mkdir("/b"))
	})
}

func TestFileThatVanishesWhileItIsTaken(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		write(t, r.fs, "drop/scanner/a", "1")
		write(t, r.fs, "drop/scanner/b", "2")
		r.d.watcher.rescan()
		r.d.watcher.wakeUp()
		require.NoError(t, r.fs.Remove("drop/scanner/a"))
		r.pass(15 * time.Second)
		r.wantSent("scanner:b=2")
		require.Zero(t, r.d.Usage())
		_, err := r.s.Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}
