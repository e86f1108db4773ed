package drop

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestClaimsAreInOrderAndInBatches(t *testing.T) {
	bubble(t, func(o *Options) { o.Batch = 10 }, func(r *rig) {
		var want []string
		for i := range 25 {
			name := fmt.Sprintf("%c", 'z'-i) // not in the order of names
			r.put("/"+name, "x")
			want = append(want, "scanner:"+name+"=x")
		}
		r.pass(time.Second)
		r.wantTaken(want...)
		require.Equal(t, []int{10, 10, 5}, r.shelf.calls)
	})
}

func TestOrderSurvivesARestart(t *testing.T) {
	for _, policy := range []disktest.Policy{disktest.Killed(), disktest.Nothing()} {
		t.Run(policy.String(), func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				var want []string
				for i := range 20 { // all within one tick of the clock
					name := fmt.Sprintf("%c", 'z'-i)
					r.put("/"+name, "x")
					want = append(want, "scanner:"+name+"=x")
				}
				r.stop()
				r.fs = r.fs.Crash(policy)
				r.shelf.fs, r.opts.FS = r.fs, r.fs
				r.start()
				r.put("/a", "later")
				r.pass(9 * time.Second)
				r.wantTaken() // what was there at the start goes first, when it has been quiet
				r.pass(time.Second)
				r.wantTaken(append(want, "scanner:a=later")...)
			})
		})
	}
}

func TestFileAtTheStartThatStillChangesHoldsUpNobody(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.stop()
		write(t, r.fs, "drop/scanner/growing", "1")
		write(t, r.fs, "drop/scanner/.hidden", "1")
		r.start()
		r.put("/a", "x")
		for range 4 {
			r.pass(6 * time.Second)
			write(t, r.fs, "drop/scanner/growing", "12")
		}
		r.wantTaken("scanner:a=x")
		r.pass(time.Minute)
		r.wantTaken("scanner:a=x", "scanner:growing=12")
	})
}

func TestFileWithATimeToComeIsNotWaitedFor(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a", "x")
		future := time.Now().Add(1000 * time.Hour)
		require.NoError(t, r.s.Chtimes("/a", future))
		r.restart()
		r.pass(10 * time.Second)
		r.wantTaken("scanner:a=x")
		require.True(t, r.shelf.files[0].ModTime.Equal(future))
	})
}

func TestTemporaryNames(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a.tmp", "1")
		r.put("/.in.b.csv.", "2")
		require.NoError(t, r.s.Mkdir("/.lftp"))
		r.put("/.lftp/c", "3")
		r.put("/d", "4")
		r.pass(time.Hour)
		r.wantTaken("scanner:d=4")
		require.NoError(t, r.s.Rename("/.in.b.csv.", "/b.csv"))
		r.pass(500 * time.Millisecond)
		require.NoError(t, r.s.Rename("/a.tmp", "/a"))
		r.pass(500 * time.Millisecond)
		r.wantTaken("scanner:d=4", "scanner:b.csv=2")
		r.pass(500 * time.Millisecond)
		r.wantTaken("scanner:d=4", "scanner:b.csv=2", "scanner:a=1")
		require.NoError(t, r.s.Rename("/.lftp", "/done"))
		r.pass(time.Second)
		r.wantTaken("scanner:d=4", "scanner:b.csv=2", "scanner:a=1", "scanner:done/c=3")
	})
}

// Only names that clients give can be temporary: how the directory of a user is called is none of their doing.
func TestDirectoryOfAUserIsNoTemporaryName(t *testing.T) {
	for _, dir := range []string{"x.part", ".hidden/in", "site/in.tmp", "site/.in/deep"} {
		t.Run(dir, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				user := func() *Session {
					u, err := r.d.User("u", dir)
					require.NoError(t, err)
					return u.Session(remote)
				}
				scanner := r.s
				r.s = user()
				u := r.begin("/a", Write{}, "1")
				require.False(t, u.Ignored())
				require.NoError(t, u.Commit())
				u = r.begin("/b.tmp", Write{}, "2")
				require.True(t, u.Ignored())
				require.NoError(t, u.Commit())
				write(t, r.fs, "drop/"+dir+"/c", "3")
				r.pass(time.Hour)
				r.wantTaken("u:a=1", "u:c=3")
				require.NoError(t, r.s.Rename("/b.tmp", "/b"))
				r.pass(time.Second)
				r.wantTaken("u:a=1", "u:c=3", "u:b=2")

				// At the start it is not known yet that the directory is a user's.
				r.put("/d", "4")
				r.s = scanner
				r.put("/e", "5")
				r.s = user()
				r.put("/f", "6")
				r.put("/g.tmp", "7")
				r.restart()
				r.s = user()
				r.pass(time.Hour)
				r.wantTaken("u:a=1", "u:c=3", "u:b=2", "u:d=4", "scanner:e=5", "u:f=6")
				require.NoError(t, r.s.Rename("/g.tmp", "/g"))
			})
		})
	}
}

// Another program may gather its files anywhere below drop, also directly there, and rename the directory when they are complete.
func TestTemporaryDirectoryOfNoUser(t *testing.T) {
	for _, dir := range []string{".sync.tmp", ".~tmp~", ".Trash-1000", "x.part/sub", "site/.in"} {
		t.Run(dir, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				require.NoError(t, disk.MkdirAll(r.fs, "drop/"+dir, 0o750))
				write(t, r.fs, "drop/"+dir+"/half", "1")
				r.pass(time.Hour)
				r.wantTaken()
				r.restart()
				r.pass(time.Hour)
				r.wantTaken()
				write(t, r.fs, "drop/"+dir+"/half", "12")
				require.NoError(t, r.fs.Rename("drop/"+dir, "drop/done"))
				r.pass(time.Minute)
				r.wantTaken("done:half=12")
			})
		})
	}
}

// That of a user who is not configured any more looks the same, until the user is back.
func TestTemporaryDirectoryOfAFormerUser(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		former := func() *Session {
			u, err := r.d.User("former", "x.part")
			require.NoError(t, err)
			return u.Session(remote)
		}
		r.s = former()
		r.put("/a", "1")
		r.put("/b.tmp", "2")
		r.restart() // the user "former" is not configured any more
		r.pass(time.Hour)
		r.wantTaken()
		r.restart()
		r.put("/c", "3")
		former()
		r.pass(time.Hour)
		r.wantTaken("former:a=1", "scanner:c=3")
	})
}

func TestRenameKeepsTheDueTime(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a", "1")
		r.put("/b", "2")
		r.pass(900 * time.Millisecond)
		require.NoError(t, r.s.Rename("/a", "/z"))
		require.NoError(t, r.s.Chtimes("/b", time.Unix(1e9, 0)))
		r.pass(100 * time.Millisecond)
		r.wantTaken("scanner:z=1", "scanner:b=2")
		require.True(t, r.shelf.files[1].ModTime.Equal(time.Unix(1e9, 0)))

		r.put("/c", "3")
		require.NoError(t, r.s.Rename("/c", "/c.tmp")) // taken back
		r.pass(time.Hour)
		r.wantTaken("scanner:z=1", "scanner:b=2")
	})
}

func TestCameraLoop(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		var want []string
		for i := range 5 {
			for _, name := range []string{"/camera_tmp.jpg", "/shot.jpg"} {
				if err := r.s.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
					require.ErrorIs(t, err, ErrBusy)
				}
			}
			content := strings.Repeat("x", i+1)
			r.put("/camera_tmp.jpg", content)
			require.NoError(t, r.s.Rename("/camera_tmp.jpg", "/shot.jpg"))
			r.pass(2 * time.Second)
			want = append(want, "scanner:shot.jpg="+content)
		}
		r.wantTaken(want...)
	})
}

func TestOtherProgramsFileIsTakenWhenQuiet(t *testing.T) {
	bubble(t, func(o *Options) { o.Rescan = time.Second }, func(r *rig) {
		require.NoError(t, r.fs.Mkdir("drop/scanner/sub", 0o700))
		write(t, r.fs, "drop/scanner/sub/a", "1")
		r.pass(8 * time.Second)
		write(t, r.fs, "drop/scanner/sub/a", "12")
		r.pass(8 * time.Second)
		r.wantTaken()
		r.pass(4 * time.Second)
		r.wantTaken("scanner:sub/a=12")
		require.False(t, r.shelf.files[0].RemoteAddr.IsValid())

		write(t, r.fs, "drop/scanner/b", "1")
		r.pass(2 * time.Second)
		require.NoError(t, r.fs.Remove("drop/scanner/b"))
		r.pass(time.Minute)
		r.wantTaken("scanner:sub/a=12")
		require.Equal(t, Usage{Taken: Count{1, 2}}, r.d.Usage())
	})
}

func TestChangeThatNoEventToldIsSeenWhenDue(t *testing.T) {
	bubble(t, func(o *Options) { o.Rescan = time.Hour }, func(r *rig) {
		write(t, r.fs, "drop/scanner/a", "1")
		r.size("/a") // looks
		r.pass(9 * time.Second)
		write(t, r.fs, "drop/scanner/a", "12")
		r.pass(9 * time.Second)
		r.wantTaken()
		r.pass(2 * time.Second)
		r.wantTaken("scanner:a=12")
	})
}

func TestOtherProgramsFileThatCannotBeSyncedIsLeftAlone(t *testing.T) {
	bubble(t, func(o *Options) { o.Rescan = time.Second }, func(r *rig) {
		write(t, r.fs, "drop/scanner/a", "1")
		r.fs.Inject(disktest.Fault{Kind: disktest.Sync})
		r.pass(time.Hour)
		r.wantTaken()
		require.Equal(t, 1, strings.Count(r.log.String(), "cannot be synced"))
		write(t, r.fs, "drop/scanner/a", "2")
		r.pass(time.Minute)
		r.wantTaken("scanner:a=2")
	})
}

func TestFilesOfNoUserAreDelivered(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		former, err := r.d.User("former", "old")
		require.NoError(t, err)
		u, err := former.Session(remote).Create("/d.csv", Write{})
		require.NoError(t, err)
		require.NoError(t, u.Commit())
		r.restart() // the user "former" is not configured any more
		write(t, r.fs, "drop/top", "")
		r.pass(time.Minute)
		r.wantTaken("old:d.csv=", ":top=")
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
		r.wantTaken("plant:line2=in its place")
		write(t, r.fs, "drop/plant/line2/a", "1")
		r.pass(time.Minute)
		r.wantTaken("plant:line2=in its place", "other:a=1")
		u, err := r.d.User("other", "plant/line2")
		require.NoError(t, err)
		require.Len(t, r.d.users, 2)
		require.NoError(t, u.Session(remote).Mkdir("/b"))
	})
}

func TestTroubleOfTheTakerHoldsUpTheQueue(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a", "1")
		r.put("/b", "2")
		broken := true
		r.shelf.setFail(func(f File) error {
			if broken && f.Name == "a" {
				return syscall.ENOSPC
			}
			return nil
		})
		r.pass(time.Hour)
		r.wantTaken()
		lines := strings.Count(r.log.String(), "cannot be handed over")
		require.Greater(t, lines, 3)
		require.Less(t, lines, 12, "no flood")
		r.put("/c", "3")
		r.shelf.mu.Lock()
		broken = false
		r.shelf.mu.Unlock()
		r.pass(maxRetry)
		r.wantTaken("scanner:a=1", "scanner:b=2", "scanner:c=3")
	})
}

func TestPermanentErrorHoldsUpNobody(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.shelf.setFail(func(f File) error {
			if f.Name == "a" && f.Size == 1 {
				return permanent{errors.New("no")}
			}
			return nil
		})
		r.put("/a", "1")
		r.put("/b", "2")
		r.pass(time.Hour)
		r.wantTaken("scanner:b=2")
		require.Equal(t, 1, strings.Count(r.log.String(), "left alone until it changes"))
		r.put("/a", "12")
		r.pass(time.Second)
		r.wantTaken("scanner:b=2", "scanner:a=12")
	})
}

func TestTroubleWithOneFileOfAnotherProgramHoldsUpNobody(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.shelf.setFail(func(f File) error {
			if f.Name == "a" {
				return syscall.EACCES
			}
			return nil
		})
		write(t, r.fs, "drop/scanner/a", "1")
		r.pass(time.Minute)
		r.put("/b", "2")
		r.pass(time.Minute)
		r.wantTaken("scanner:b=2")
		r.shelf.setFail(nil)
		r.pass(time.Minute)
		r.wantTaken("scanner:b=2", "scanner:a=1")
	})
}

func TestFileThatVanishesWhileItIsClaimed(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.shelf.during = func([]File) { _ = r.fs.Remove("drop/scanner/a") }
		r.put("/a", "1")
		r.put("/b", "2")
		r.pass(10 * time.Second)
		r.wantTaken("scanner:b=2")
		require.Equal(t, Usage{Taken: Count{1, 1}}, r.d.Usage())
		require.Contains(t, r.log.String(), "taken away by another program")
	})
}

func TestGoneBeforeTakeReturns(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.shelf.setFail(func(File) error { r.d.Gone("000000"); return nil })
		r.put("/a", "1")
		r.pass(time.Second)
		r.wantTaken("scanner:a=1")
		require.Zero(t, r.d.Usage())
		require.Empty(t, r.names("/"))
		require.Equal(t, int64(1), r.size("/a"), "the session remembers it")
	})
}
