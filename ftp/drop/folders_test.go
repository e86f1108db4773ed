package drop

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

const month = 30 * 24 * time.Hour

// months is bubble for tests in which much time passes: the volume is read less often.
func months(t *testing.T, change func(*Options), test func(r *rig)) {
	t.Helper()
	bubble(t, func(o *Options) {
		o.Rescan = 10 * time.Minute
		if change != nil {
			change(o)
		}
	}, test)
}

func (r *rig) mkdir(names ...string) {
	r.Helper()
	for _, name := range names {
		require.NoError(r, r.s.Mkdir(name))
		r.pass(time.Second)
	}
}

// otherMkdir makes a folder as another program does it, and waits until it has been seen.
func (r *rig) otherMkdir(name string, perm fs.FileMode) {
	r.Helper()
	require.NoError(r, r.fs.Mkdir("drop/scanner"+name, perm))
	r.pass(r.opts.Rescan + time.Minute)
}

func TestEmptyFoldersGo(t *testing.T) {
	months(t, nil, func(r *rig) {
		r.mkdir("/used", "/2026", "/2026/11", "/2026/11/07", "/made-later")
		require.NoError(t, r.s.RemoveDir("/made-later"))
		r.put("/2026/11/07/a", "1")
		r.otherMkdir("/others", dirPerm)
		r.pass(month - 20*time.Minute)
		r.put("/used/b", "2")
		r.mkdir("/made-later")
		require.Equal(t, []string{"2026", "made-later", "others", "used"}, r.names("/"))
		r.pass(30 * time.Minute)
		require.Equal(t, []string{"made-later", "others", "used"}, r.names("/"), "with the folders above it")
		require.Contains(t, r.log.String(), `removed empty folders that clients had made and not used" folders=3 for=720h`)
		r.pass(2 * month)
		require.Equal(t, []string{"others"}, r.names("/"))
		r.wantSent("scanner:2026/11/07/a=1", "scanner:used/b=2")
		_, err := r.fs.Lstat("drop/scanner")
		require.NoError(t, err)
	})
}

func TestFolderThatIsUnusedLongestGoesAtTheLimit(t *testing.T) {
	months(t, func(o *Options) { o.MaxDirs = 3 }, func(r *rig) {
		r.mkdir("/a", "/b", "/c")
		r.put("/a/file", "1")
		r.pass(time.Minute)
		require.NotContains(t, r.log.String(), "as many folders")
		r.mkdir("/d")
		require.Equal(t, []string{"a", "c", "d"}, r.names("/"), "a was used after b")
		require.Contains(t, r.log.String(), `level=WARN msg="the user has as many folders as are accepted; each new one replaces`)
		require.NoError(t, r.s.Chdir("/c"))
		r.mkdir("/e")
		require.Equal(t, []string{"c", "d", "e"}, r.names("/"))
		require.NoError(t, r.s.Chdir("/"))
		require.Error(t, r.s.Mkdir("/e"))
		r.mkdir("/d/f")
		require.Equal(t, []string{"d", "e"}, r.names("/"), "c was used before d, and d is needed")
		require.Equal(t, []string{"f"}, r.names("/d"))
		require.Equal(t, 1, strings.Count(r.log.String(), "as many folders"), "it is not said for each folder")

		other, err := r.d.User("other", "other")
		require.NoError(t, err)
		require.NoError(t, other.Session(remote).Mkdir("/g"), "each user has their own limit")
		r.pass(2 * month)
		require.Contains(t, r.log.String(), "the user has fewer folders again than are accepted")
	})
}

// TestFoldersThatStay holds what keeps a folder, at the limit and for ever.
func TestFoldersThatStay(t *testing.T) {
	for name, keep := range map[string]func(r *rig){
		"a session stands in it":               func(r *rig) { require.NoError(r, r.user.Session(remote).Chdir("/a")) },
		"a session stands below it":            func(r *rig) { r.mkdir("/a/b"); require.NoError(r, r.user.Session(remote).Chdir("/a/b")) },
		"a file waits in it":                   func(r *rig) { r.put("/a/file", "") },
		"a file is held in it":                 func(r *rig) { r.put("/a/file.tmp", "") },
		"an upload to it is under way":         func(r *rig) { r.begin("/a/file", Start{}, "") },
		"an interrupted upload is in it":       func(r *rig) { r.interrupt("/a/file", Start{}, "x") },
		"a file of another program is in it":   func(r *rig) { write(r, r.fs, "drop/scanner/a/file.tmp", "") },
		"a folder of another program is in it": func(r *rig) { r.otherMkdir("/a/b", dirPerm) },
		"a user's directory is in it":          func(r *rig) { _, err := r.d.User("inner", "scanner/a/b"); require.NoError(r, err) },
	} {
		t.Run(name, func(t *testing.T) {
			months(t, func(o *Options) { o.MaxDirs, o.FolderExpiry = 2, 10*time.Minute }, func(r *rig) {
				r.sink.setAway(true)
				r.mkdir("/a")
				keep(r)
				for r.d.tree.roomBelow("scanner", r.opts.MaxDirs) {
					write(r, r.fs, "drop/scanner/b.tmp", "") // of nobody who could go
					r.mkdir("/full")
					r.interrupt("/full/x", Start{}, "x")
				}
				err := r.s.Mkdir("/new")
				require.ErrorIs(t, err, ErrFull)
				require.Contains(t, r.log.String(), "none of them is empty; new ones are refused")
				r.pass(time.Hour)
				require.Contains(t, r.names("/"), "a")
			})
		})
	}
}

// TestFolderThatHasGone is of a client that relies on a folder that it made once.
func TestFolderThatHasGone(t *testing.T) {
	for name, use := range map[string]func(r *rig){
		"STOR": func(r *rig) { r.put("/a/b/file", "1") },
		"CWD":  func(r *rig) { require.NoError(r, r.s.Chdir("/a/b")); r.put("/a/b/file", "1") },
		"MKD":  func(r *rig) { r.mkdir("/a/b"); r.put("/a/b/file", "1") },
		"MKD in it": func(r *rig) {
			r.mkdir("/a/b/c")
			require.NoError(r, r.s.RemoveDir("/a/b/c"))
			r.put("/a/b/file", "1")
		},
		"RNTO": func(r *rig) { r.put("/file.tmp", "1"); require.NoError(r, r.s.Rename("/file.tmp", "/a/b/file")) },
		"RNTO of a folder": func(r *rig) {
			r.mkdir("/c")
			require.NoError(r, r.s.Rename("/c", "/a/b/c"))
			require.NoError(r, r.s.Rename("/a/b/c", "/c"))
			r.put("/a/b/file", "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			months(t, nil, func(r *rig) {
				r.mkdir("/a", "/a/b")
				r.pass(month + time.Hour)
				require.Empty(t, r.names("/"))
				_, err := r.s.Stat("/a/b")
				require.ErrorIs(t, err, fs.ErrNotExist)
				use(r)
				require.Contains(t, r.names("/"), "a")
				require.Equal(t, []string{"b"}, r.names("/a"))
				r.pass(time.Second)
				r.wantSent("scanner:a/b/file=1")
			})
		})
	}
	months(t, nil, func(r *rig) {
		r.mkdir("/a", "/a/b", "/c")
		r.pass(month + time.Hour)
		_, err := r.s.Create("/never/file", Start{})
		require.ErrorIs(t, err, fs.ErrNotExist, "only what was there")
		require.ErrorIs(t, r.s.Chdir("/never"), fs.ErrNotExist)
		r.mkdir("/a")
		require.NoError(t, r.s.RemoveDir("/a"))
		_, err = r.s.Create("/a/b/file", Start{})
		require.ErrorIs(t, err, fs.ErrNotExist, "a client has removed it")
		require.Empty(t, r.names("/"))
	})
}

func TestFoldersAfterARestart(t *testing.T) {
	months(t, nil, func(r *rig) {
		r.mkdir("/unused", "/used", "/timed")
		require.NoError(t, r.s.Chtimes("/timed", time.Unix(1e9, 0)))
		r.otherMkdir("/others", 0o755)
		r.pass(month / 2)
		r.put("/used/a", "1")
		r.restart()
		require.Equal(t, []string{"others", "timed", "unused", "used"}, r.names("/"))
		r.pass(month/2 + time.Hour)
		require.Equal(t, []string{"others", "used"}, r.names("/"), "when it was used, and who made it, is known from the volume")
		fi, err := r.s.Stat("/used")
		require.NoError(t, err)
		require.True(t, fi.ModTime().Before(disk.ChangeTime(fi).Add(-time.Hour)), "its own time is not touched")
		r.pass(month / 2)
		require.Equal(t, []string{"others"}, r.names("/"))
	})
}

func TestFolderKeepsItsMakerWhenItIsRenamed(t *testing.T) {
	months(t, nil, func(r *rig) {
		r.mkdir("/a", "/a/b")
		r.otherMkdir("/others", dirPerm)
		require.NoError(t, r.s.Rename("/a", "/c"))
		require.NoError(t, r.s.Rename("/others", "/d"))
		r.pass(month + time.Hour)
		require.Equal(t, []string{"d"}, r.names("/"))
	})
}

func TestSessionThatEndsLeavesItsFolder(t *testing.T) {
	months(t, nil, func(r *rig) {
		r.mkdir("/a", "/b")
		first, second := r.user.Session(remote), r.user.Session(remote)
		require.NoError(t, first.Chdir("/a"))
		require.NoError(t, first.Chdir("/b"))
		require.NoError(t, second.Chdir("/b"))
		r.pass(month + time.Hour)
		require.Equal(t, []string{"b"}, r.names("/"))
		first.Close()
		first.Close()
		r.pass(time.Hour)
		require.Equal(t, []string{"b"}, r.names("/"))
		second.Close()
		r.pass(time.Hour)
		require.Empty(t, r.names("/"))
	})
}

// TestHeldFilesLockNobodyOut is of a device that leaves complete files under temporary names.
func TestHeldFilesLockNobodyOut(t *testing.T) {
	months(t, func(o *Options) { o.MaxFiles = 3 }, func(r *rig) {
		r.put("/a.part", "1")
		r.put("/b.part", "2")
		write(t, r.fs, "drop/scanner/c.part", "3")
		r.pass(r.opts.Rescan + time.Minute)
		_, err := r.s.Create("/d", Start{})
		require.ErrorIs(t, err, ErrFull)
		r.pass(r.d.opts.PartialExpiry)
		r.put("/d.part", "4")
		r.put("/e.part", "5")
		r.put("/f.part", "6")
		_, err = r.s.Create("/g", Start{})
		require.ErrorIs(t, err, ErrFull, "the younger ones count")
		require.Equal(t, []string{"a.part", "b.part", "c.part", "d.part", "e.part", "f.part"}, r.names("/"), "nothing is deleted")
		require.NoError(t, r.s.Rename("/a.part", "/a"))
		require.NoError(t, r.s.Rename("/c.part", "/c"))
		r.pass(time.Second)
		r.wantSent("scanner:a=1", "scanner:c=3")
	})
}

func TestHeldFilesAreTold(t *testing.T) {
	const line = "complete files are not sent until they are renamed"
	months(t, nil, func(r *rig) {
		began := time.Now()
		r.put("/a.part", "1")
		r.put("/b.part", "2")
		require.NoError(t, r.fs.Mkdir("drop/.former", dirPerm))
		write(t, r.fs, "drop/.former/c", "3")
		r.pass(72 * time.Hour)
		require.NotContains(t, r.log.String(), line)
		r.pass(2 * time.Hour)
		require.Contains(t, r.log.String(), line+`" user=scanner files=2 oldest=`+began.UTC().Format(time.RFC3339))
		require.Contains(t, r.log.String(), line+`" user=.former files=1`)
		require.Contains(t, r.log.String(), "there is no such user any more")
		r.pass(30 * 24 * time.Hour)
		told := strings.Count(r.log.String(), line+`" user=scanner`)
		assert.Greater(t, told, 30, "daily in the end")
		assert.Less(t, told, 45)
		require.NoError(t, r.s.Remove("/a.part"))
		require.NoError(t, r.s.Rename("/b.part", "/b"))
		r.pass(2 * time.Hour)
		require.Contains(t, r.log.String(), `no complete files of the user are held any more" user=scanner`)
	})
}
