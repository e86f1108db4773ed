package drop

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestUploadIsDurableAfterCommitAndTakenAfterSettle(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		began := time.Now()
		r.put("/a.csv", "hello")
		after := r.fs.Crash(disktest.Nothing())
		require.Equal(t, "hello", read(t, after, "drop/scanner/a.csv"))
		r.stop()

		r.fs, r.shelf.fs, r.opts.FS = after, after, after
		r.start()
		r.put("/b.csv", "world")
		r.wantTaken()
		r.pass(10 * time.Second)
		r.wantTaken("scanner:a.csv=hello", "scanner:b.csv=world")
		f := r.shelf.files[1]
		require.Equal(t, remote, f.RemoteAddr)
		require.False(t, f.Received.Before(began))
		require.Equal(t, int64(5), f.Size)
	})
}

func TestSettleBeginsWhenTheUploadIsFinished(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.begin("/a.csv", Write{}, "hello")
		r.pass(time.Minute)
		r.wantTaken()
		require.NoError(t, u.Commit())
		r.pass(time.Second - 1)
		r.wantTaken()
		r.pass(1)
		r.wantTaken("scanner:a.csv=hello")
	})
}

func TestEmptyFileIsAFile(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.create("/empty", Write{})
		n, err := u.Write(nil)
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		r.wantTaken("scanner:empty=")
	})
}

func TestUploadEndsOnce(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.begin("/a", Write{}, "x")
		require.NoError(t, u.Commit())
		require.ErrorIs(t, u.Commit(), fs.ErrClosed)
		require.NoError(t, u.Interrupt(errCut))
		_, err := u.Write([]byte("y"))
		require.ErrorIs(t, err, fs.ErrClosed)
		r.pass(time.Second)
		r.wantTaken("scanner:a=x")

		u = r.begin("/b", Write{}, "x")
		require.NoError(t, u.Interrupt(errCut))
		require.ErrorIs(t, u.Commit(), fs.ErrClosed)
		r.pass(time.Minute)
		r.wantTaken("scanner:a=x")
	})
}

func TestInterruptedUploadIsResumed(t *testing.T) {
	for name, w := range map[string]Write{
		"REST": {Offset: 5},
		"APPE": {Append: true},
		"both": {Offset: 5, Append: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				require.NoError(t, r.s.Mkdir("/d"))
				r.interrupt("/d/a.csv", Write{}, "hello")
				require.Contains(t, r.log.String(), "upload interrupted, kept for resuming")
				require.Contains(t, r.log.String(), `user=scanner name=d/a.csv bytes=5 remote=192.0.2.7 reason="connection lost"`)
				r.pass(time.Hour)
				r.wantTaken()
				require.Equal(t, int64(5), r.size("/d/a.csv"))
				require.Equal(t, []string{"a.csv"}, r.names("/d"))
				r.restart()
				require.Equal(t, int64(5), r.size("/d/a.csv"))
				require.Equal(t, Count{1, 5}, r.d.Usage().Partial)

				u := r.begin("/d/a.csv", w, " world")
				require.Equal(t, int64(11), u.Size())
				require.Equal(t, int64(11), r.size("/d/a.csv"))
				require.NoError(t, u.Commit())
				r.pass(time.Second)
				r.wantTaken("scanner:d/a.csv=hello world")
				require.Equal(t, Usage{Taken: Count{1, 11}}, r.d.Usage())
			})
		})
	}
}

func TestResumeCutsOffWhatIsBehindTheOffset(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.interrupt("/a", Write{}, "hello, garbage")
		_, err := r.s.Create("/a", Write{Offset: 15})
		require.ErrorIs(t, err, ErrOffset)
		require.Equal(t, int64(14), r.size("/a"), "a refused REST changes nothing")
		require.NoError(t, r.begin("/a", Write{Offset: 5}, "!").Commit())
		r.pass(time.Second)
		r.wantTaken("scanner:a=hello!")
		require.Zero(t, r.d.Usage().Partial)
	})
}

func TestResumeWithNothingThere(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		_, err := r.s.Create("/a", Write{Offset: 1})
		require.ErrorIs(t, err, ErrNoPartial)
		_, err = r.s.Create("/a", Write{Append: true})
		require.ErrorIs(t, err, ErrNoPartial)
		require.ErrorContains(t, err, "from its start with STOR")
		require.Empty(t, r.names("/"))
		r.put("/a", "new")
		r.pass(time.Second)
		r.wantTaken("scanner:a=new")
		_, err = r.s.Create("/a", Write{Append: true})
		require.ErrorIs(t, err, ErrBusy, "being delivered")
		_, err = r.s.Create("/a", Write{Offset: 1})
		require.ErrorIs(t, err, ErrBusy)
		r.d.Gone(r.shelf.last())
		_, err = r.s.Create("/a", Write{Offset: 1})
		require.ErrorIs(t, err, ErrNoPartial)
		_, err = r.s.Create("/a", Write{Append: true})
		require.ErrorIs(t, err, ErrNoPartial, "it is delivered")
		require.Zero(t, r.d.Usage().Partial)
		r.put("/a", "day 2")
		r.pass(time.Second)
		r.wantTaken("scanner:a=new", "scanner:a=day 2")
	})
}

func TestAppendToAFinishedFileWorksOnACopy(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/log.tmp", "one ")
		u := r.begin("/log.tmp", Write{Append: true}, "two ")
		require.Equal(t, "one ", read(t, r.fs, "drop/scanner/log.tmp"))
		require.Equal(t, int64(4), r.size("/log.tmp"), "the finished file is what is shown")
		require.NoError(t, u.Commit())
		require.Equal(t, "one two ", read(t, r.fs, "drop/scanner/log.tmp"))
		require.NoError(t, r.begin("/log.tmp", Write{Offset: 4}, "three").Commit())
		require.Equal(t, "one three", read(t, r.fs, "drop/scanner/log.tmp"))
		_, err := r.s.Create("/log.tmp", Write{Offset: 10})
		require.ErrorIs(t, err, ErrOffset)

		// Taken in the middle of an append: both versions are delivered, as both were finished.
		r.put("/log", "one ")
		u = r.begin("/log", Write{Append: true}, "two")
		r.pass(time.Second)
		r.wantTaken("scanner:log=one ")
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		r.wantTaken("scanner:log=one ", "scanner:log=one two")
		require.Equal(t, Usage{Finished: Count{1, 9}, Taken: Count{2, 11}}, r.d.Usage())
	})
}

func TestInterruptedAppendKeepsTheFinishedFile(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a.tmp", "one ")
		r.interrupt("/a.tmp", Write{Append: true}, "tw")
		require.Equal(t, "one ", read(t, r.fs, "drop/scanner/a.tmp"))
		require.Equal(t, int64(4), r.size("/a.tmp"))
		// What is continued is what SIZE showed.
		require.NoError(t, r.begin("/a.tmp", Write{Append: true}, "2").Commit())
		require.Equal(t, "one 2", read(t, r.fs, "drop/scanner/a.tmp"))
		require.Zero(t, r.d.Usage().Partial, "the interrupted one is void")
	})
}

func TestNewUploadSupersedesTheOpenOne(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		old := r.begin("/a", Write{}, "old")
		u := r.begin("/a", Write{}, "new content")
		_, err := old.Write([]byte("more"))
		require.ErrorIs(t, err, ErrSuperseded)
		require.ErrorIs(t, old.Commit(), ErrSuperseded)
		require.Equal(t, int64(11), r.size("/a"))
		require.NoError(t, u.Commit())
		require.NoError(t, old.Interrupt(errCut))
		r.pass(time.Second)
		r.wantTaken("scanner:a=new content")
		require.Equal(t, Usage{Taken: Count{1, 11}}, r.d.Usage())

		// The other way round: the old one is ended after the new one.
		old = r.begin("/b", Write{}, "old")
		r.put("/b", "new")
		require.NoError(t, old.Interrupt(errCut))
		r.pass(time.Second)
		r.wantTaken("scanner:a=new content", "scanner:b=new")
		require.Zero(t, r.d.Usage().Partial)
	})
}

func TestResumeTakesOverTheOpenOne(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		old := r.begin("/a", Write{}, "hello")
		_, err := r.s.Create("/a", Write{Offset: 6})
		require.ErrorIs(t, err, ErrOffset)
		_, err = old.Write([]byte(","))
		require.NoError(t, err, "a refused REST changes nothing")

		u := r.begin("/a", Write{Offset: 5}, " world")
		_, err = old.Write([]byte("more"))
		require.ErrorIs(t, err, ErrSuperseded)
		require.NoError(t, old.Interrupt(errCut))
		require.NoError(t, u.Commit())
		require.ErrorIs(t, old.Commit(), ErrSuperseded)
		r.pass(time.Second)
		r.wantTaken("scanner:a=hello world")
		require.Equal(t, Usage{Taken: Count{1, 11}}, r.d.Usage())
	})
}

func TestTakeOverAfterAFailedWrite(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		old := r.begin("/a", Write{}, "hello")
		r.fs.Inject(disktest.Fault{Kind: disktest.Write, Short: true, Err: syscall.EIO})
		n, err := old.Write([]byte("12345678"))
		require.ErrorIs(t, err, syscall.EIO)
		require.Equal(t, 4, n)
		require.Equal(t, int64(9), old.Size())
		u := r.begin("/a", Write{Offset: 5}, "!")
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		r.wantTaken("scanner:a=hello!")
	})
}

func TestNewUploadVoidsTheInterruptedOne(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.interrupt("/a", Write{}, "old version")
		u := r.create("/a", Write{})
		require.Zero(t, r.size("/a"))
		require.NoError(t, u.Interrupt(errCut))
		_, err := r.s.Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist, "nothing is kept of an upload before its first byte")
		require.Zero(t, r.d.Usage())
	})
}

func TestDeclaredSize(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxSize = 100 }, func(r *rig) {
		_, err := r.s.Create("/a", Write{Declared: 101})
		require.ErrorIs(t, err, ErrTooLarge)

		u := r.begin("/a", Write{Declared: 10}, "hello")
		err = u.Commit()
		require.ErrorIs(t, err, ErrIncomplete)
		require.ErrorContains(t, err, "5 bytes came, 10 were declared")
		r.pass(time.Minute)
		r.wantTaken()
		require.Equal(t, int64(5), r.size("/a"), "kept for resuming")
		require.NoError(t, r.begin("/a", Write{Offset: 5, Declared: 10}, "world").Commit())
		r.put("/b", "more than declared")
		u = r.begin("/c", Write{Declared: 2}, "three")
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		r.wantTaken("scanner:a=helloworld", "scanner:b=more than declared", "scanner:c=three")
	})
}

func TestOverwriteReplacesWhatIsNotTaken(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a", "one")
		r.put("/b", "between")
		r.put("/a", "three")
		r.pass(time.Second)
		r.wantTaken("scanner:b=between", "scanner:a=three")
		require.Equal(t, 1, strings.Count(r.log.String(), "a finished file was replaced before it was sent"))
		r.put("/a", "four")
		r.pass(time.Second)
		r.wantTaken("scanner:b=between", "scanner:a=three", "scanner:a=four")
		require.Equal(t, Usage{Taken: Count{3, 16}}, r.d.Usage())
	})
}

func TestCommitOverAFileThatIsBeingClaimed(t *testing.T) {
	for name, fails := range map[string]bool{"the claim wins": false, "the claim fails": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				begun, proceed := make(chan bool), make(chan bool)
				var once sync.Once
				r.shelf.during = func([]File) { once.Do(func() { close(begun); <-proceed }) }
				if fails {
					r.shelf.setFail(func(File) error { return syscall.EIO })
				}
				r.put("/a", "old")
				u := r.begin("/a", Write{}, "newer")
				<-begun
				require.ErrorIs(t, r.s.Remove("/a"), ErrBusy)
				require.ErrorIs(t, r.s.Rename("/a", "/b"), ErrBusy)
				_, err := r.s.Create("/a", Write{Append: true})
				require.ErrorIs(t, err, ErrBusy)
				require.Equal(t, int64(3), r.size("/a"))
				committed := make(chan error)
				go func() { committed <- u.Commit() }()
				r.pass(time.Second)
				select {
				case err := <-committed:
					t.Fatalf("Commit did not wait for the claim: %v", err)
				default:
				}
				require.Equal(t, "old", read(t, r.fs, "drop/scanner/a"))
				close(proceed)
				require.NoError(t, <-committed)
				r.shelf.setFail(nil)
				r.pass(time.Minute)
				if fails {
					r.wantTaken("scanner:a=newer")
				} else {
					r.wantTaken("scanner:a=old", "scanner:a=newer")
				}
			})
		})
	}
}

// Another program has removed a directory and made it again, which nothing tells apart from the one that was there.
func TestCommitInADirectoryThatWasMadeAgain(t *testing.T) {
	for name, dirs := range map[string][]string{
		"the upload's own":  {"drop/scanner/day/hour"},
		"the one above":     {"drop/scanner/day/hour", "drop/scanner/day"},
		"the top of a user": {"drop/scanner/day/hour", "drop/scanner/day", "drop/scanner"},
	} {
		for _, rescanned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rescanned=%v", name, rescanned), func(t *testing.T) {
				bubble(t, nil, func(r *rig) {
					require.NoError(t, r.s.Mkdir("/day"))
					require.NoError(t, r.s.Mkdir("/day/hour"))
					r.put("/day/hour/a", "1")
					r.pass(time.Second)
					for _, dir := range dirs {
						require.NoError(t, r.fs.Remove(dir))
					}
					for _, dir := range slices.Backward(dirs) {
						require.NoError(t, r.fs.Mkdir(dir, dirPerm))
					}
					if rescanned {
						r.pass(time.Minute)
					}
					r.put("/day/hour/b", "2")
					after := r.fs.Crash(disktest.Nothing())
					require.Equal(t, "2", read(t, after, "drop/scanner/day/hour/b"))
					r.shelf.setFail(func(File) error { return disktest.ErrCrashed })
				})
			})
		}
	}
}

func TestCommitWhereItsDirectoryIsGone(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		u := r.begin("/d/a", Write{}, "x")
		require.ErrorIs(t, r.s.RemoveDir("/d"), ErrBusy)
		require.ErrorIs(t, r.s.Rename("/d", "/e"), ErrBusy)
		require.NoError(t, r.fs.Remove("drop/scanner/d")) // by another program
		require.ErrorIs(t, u.Commit(), fs.ErrNotExist)
		require.Zero(t, r.d.Usage())

		u = r.begin("/e", Write{}, "x")
		require.NoError(t, r.fs.Mkdir("drop/scanner/e", 0o700))
		require.ErrorIs(t, u.Commit(), fs.ErrExist)
		require.Zero(t, r.d.Usage())
	})
}

// A fault in any step of Commit: no success, nothing delivered, nothing left behind, and the next one succeeds.
func TestCommitFails(t *testing.T) {
	for name, fault := range map[string]disktest.Fault{
		"setting the time":       {Kind: disktest.Chtimes},
		"syncing the file":       {Kind: disktest.Sync},
		"renaming":               {Kind: disktest.Rename, Path: "drop/..."},
		"syncing the directory":  {Kind: disktest.SyncDir, Path: "drop/scanner"},
		"no space for the names": {Kind: disktest.Rename, Path: "drop/...", Err: syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				r.put("/before", "0") // so that the first commit's directories are synced
				u := r.begin("/a", Write{}, "hello")
				r.fs.Inject(fault)
				err := u.Commit()
				require.Error(t, err)
				require.NotContains(t, err.Error(), "drop/", "clients see no path of the volume")
				if fault.Err != nil {
					require.ErrorIs(t, err, ErrFull)
				}
				_, err = r.s.Stat("/a")
				require.ErrorIs(t, err, fs.ErrNotExist)
				r.restart()
				r.pass(time.Minute)
				r.wantTaken("scanner:before=0")
				require.Equal(t, Usage{Taken: Count{1, 1}}, r.d.Usage())
				r.put("/a", "hello")
				r.pass(time.Second)
				r.wantTaken("scanner:before=0", "scanner:a=hello")
			})
		})
	}
}

func TestCommitThatCannotBeTakenBack(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/before", "0")
		u := r.begin("/a", Write{}, "hello")
		r.fs.Inject(disktest.Fault{Kind: disktest.SyncDir, Path: "drop/scanner"})
		r.fs.Inject(disktest.Fault{Kind: disktest.Unlink, Path: "drop/scanner/a", Forever: true})
		require.ErrorIs(t, u.Commit(), syscall.EIO)
		require.Contains(t, r.log.String(), "a restart may bring it back")
		_, err := r.s.Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Empty(t, r.names("/")[1:], "only before is shown")
		require.ErrorIs(t, r.s.Remove("/a"), fs.ErrNotExist)
		r.pass(time.Hour)
		r.wantTaken("scanner:before=0")
		r.fs.Heal()
		r.pass(time.Minute)
		_, err = r.fs.Lstat("drop/scanner/a")
		require.ErrorIs(t, err, fs.ErrNotExist, "the removal was tried again")
		require.Equal(t, Usage{Taken: Count{1, 1}}, r.d.Usage())
	})
}

// A Drop is opened while a Commit of the one before still hangs in the disk: that can only fail, and what the new one has
// under way or has acknowledged is not touched.
func TestCommitOfADropBefore(t *testing.T) {
	for at, op := range map[string]disktest.Op{
		"syncing the file":      {Kind: disktest.Sync},
		"setting the time":      {Kind: disktest.Chtimes},
		"renaming":              {Kind: disktest.Rename},
		"syncing the directory": {Kind: disktest.SyncDir, Path: "drop/scanner"},
	} {
		t.Run(at, func(t *testing.T) {
			hanging := &hangingFS{}
			bubble(t, func(o *Options) { hanging.FS = o.FS; o.FS = hanging }, func(r *rig) {
				r.put("/before", "0")
				old := r.begin("/a", Write{}, "by the old one")
				hanging.at = op
				var other *Upload
				hanging.meanwhile = func() {
					r.stop()
					r.start()
					r.put("/a", "by the new one")
					other = r.begin("/b", Write{}, "the first half, ")
				}
				if op.Kind == disktest.SyncDir {
					r.fs.Inject(disktest.Fault{Kind: disktest.SyncDir, Path: op.Path, Nth: 2}) // the new one's is the first
				}
				require.Error(t, old.Commit())
				require.Nil(t, hanging.meanwhile, "it has hung")
				r.pass(time.Hour)
				r.wantTaken("scanner:before=0", "scanner:a=by the new one")
				_, err := other.Write([]byte("the second half"))
				require.NoError(t, err)
				require.NoError(t, other.Commit())
				r.pass(time.Second)
				r.wantTaken("scanner:before=0", "scanner:a=by the new one", "scanner:b=the first half, the second half")
			})
		})
	}
}

// hangingFS hangs once in the operation at, until meanwhile has returned.
type hangingFS struct {
	disk.FS
	at        disktest.Op
	meanwhile func()
}

type hangingFile struct {
	disk.File
	fs *hangingFS
}

func (h *hangingFS) hang(op disktest.Op) {
	if op == h.at && h.meanwhile != nil {
		do := h.meanwhile
		h.meanwhile = nil
		do()
	}
}

func (h *hangingFS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := h.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return hangingFile{f, h}, nil
}

func (h *hangingFS) Chtimes(name string, mtime time.Time) error {
	h.hang(disktest.Op{Kind: disktest.Chtimes})
	return h.FS.Chtimes(name, mtime)
}

func (h *hangingFS) Rename(from, to string) error {
	h.hang(disktest.Op{Kind: disktest.Rename})
	return h.FS.Rename(from, to)
}

func (h *hangingFS) SyncDir(name string) error {
	h.hang(disktest.Op{Kind: disktest.SyncDir, Path: name})
	return h.FS.SyncDir(name)
}

func (f hangingFile) Sync() error {
	f.fs.hang(disktest.Op{Kind: disktest.Sync})
	return f.File.Sync()
}

// What was to be removed and could not be has another's file in its place by now.
func TestFileInThePlaceOfOneToBeRemoved(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/before", "0")
		u := r.begin("/a", Write{}, "hello")
		r.fs.Inject(disktest.Fault{Kind: disktest.SyncDir, Path: "drop/scanner"})
		r.fs.Inject(disktest.Fault{Kind: disktest.Unlink, Path: "drop/scanner/a"})
		require.ErrorIs(t, u.Commit(), syscall.EIO)
		write(t, r.fs, "drop/elsewhere", "mine")
		require.NoError(t, r.fs.Rename("drop/elsewhere", "drop/scanner/a"))
		r.pass(time.Hour)
		r.wantTaken("scanner:before=0", "scanner:a=mine")
	})
}

// The file that was replaced had been acknowledged and is not there any more: its successor is not removed.
func TestFailedOverwriteIsNotTakenBack(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a", "old")
		u := r.begin("/a", Write{}, "newer")
		r.fs.Inject(disktest.Fault{Kind: disktest.SyncDir, Path: "drop/scanner"})
		require.ErrorIs(t, u.Commit(), syscall.EIO)
		require.Contains(t, r.log.String(), "has replaced a finished file")
		r.pass(time.Minute)
		r.wantTaken("scanner:a=newer")
	})
}

func TestInterruptAfterAFailedSyncKeepsNothing(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.begin("/a", Write{}, "hello")
		r.fs.Inject(disktest.Fault{Kind: disktest.Sync})
		require.ErrorIs(t, u.Interrupt(errCut), syscall.EIO)
		_, err := r.s.Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Zero(t, r.d.Usage())
		require.Contains(t, r.log.String(), "interrupted, and not kept")
	})
}

func TestSyncMakesDurableWhatCameSoFar(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.begin("/a", Write{}, "hello ")
		require.NoError(t, u.Sync())
		require.Zero(t, r.d.Usage().Finished, "it finishes nothing")
		_, err := u.Write([]byte("world"))
		require.NoError(t, err)
		// What came since is Commit's to sync, also if that is only the time.
		require.NoError(t, u.Commit())
		require.ErrorIs(t, u.Sync(), fs.ErrClosed)
		var syncs []string
		for _, op := range r.fs.Ops() {
			if op.Kind == disktest.Sync || op.Kind == disktest.Write || op.Kind == disktest.Chtimes || op.Kind == disktest.Rename {
				syncs = append(syncs, op.Kind.String())
			}
		}
		require.Equal(t, []string{"write", "sync", "write", "chtimes", "sync", "rename"}, syncs)
		after := r.fs.Crash(disktest.Nothing())
		data, err := after.ReadFile("drop/scanner/a")
		require.NoError(t, err)
		require.Equal(t, "hello world", string(data))
		r.fs = after
		r.opts.FS, r.shelf.fs = after, after
		r.restart()
	})
}

func TestFailedSyncIsFinal(t *testing.T) {
	for name, end := range map[string]func(u *Upload) error{
		"Commit":    (*Upload).Commit,
		"Interrupt": func(u *Upload) error { return u.Interrupt(errCut) },
		"resumed": func(u *Upload) error {
			_, err := u.s.Create("/a", Write{Append: true})
			require.ErrorIs(t, err, ErrNoPartial)
			return u.Sync()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				u := r.begin("/a", Write{}, "hello")
				r.fs.Inject(disktest.Fault{Kind: disktest.Sync})
				require.ErrorIs(t, u.Sync(), syscall.EIO)
				require.ErrorIs(t, u.Sync(), syscall.EIO, "it is not tried again")
				_, err := u.Write([]byte("more"))
				require.ErrorIs(t, err, syscall.EIO)
				require.Error(t, end(u))
				require.Zero(t, r.d.Usage())
				require.Empty(t, r.names("/"))
				require.NotContains(t, r.fs.Files(), "partial/open/1")
				syncs := 0
				for _, op := range r.fs.Ops() {
					if op.Kind == disktest.Sync {
						syncs++
					}
				}
				require.Equal(t, 1, syncs, "never synced again")
				r.put("/a", "again")
				r.pass(time.Second)
				r.wantTaken("scanner:a=again")
			})
		})
	}
}

func TestFailedWriteIsKeptUpToWhatWasWritten(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.begin("/a", Write{}, "hello ")
		r.fs.Inject(disktest.Fault{Kind: disktest.Write, Short: true, Err: syscall.ENOSPC})
		n, err := u.Write([]byte("world!"))
		require.ErrorIs(t, err, ErrFull)
		require.Equal(t, 3, n)
		_, err = u.Write([]byte("more"))
		require.ErrorIs(t, err, ErrFull)
		require.ErrorIs(t, u.Commit(), ErrFull)
		require.Equal(t, int64(9), r.size("/a"))
		require.NoError(t, r.begin("/a", Write{Offset: 9}, "ld!").Commit())
		r.pass(time.Second)
		r.wantTaken("scanner:a=hello world!")
	})
}

func TestKilledUploadIsNotTrusted(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.begin("/a", Write{}, "hello")
		r.restart()
		require.Zero(t, r.d.Usage())
		_, err := r.s.Create("/a", Write{Offset: 5})
		require.ErrorIs(t, err, ErrNoPartial)
		r.pass(time.Hour)
		r.wantTaken()
	})
}

func TestPartialExpiry(t *testing.T) {
	bubble(t, func(o *Options) { o.PartialExpiry = time.Hour }, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		r.interrupt("/d/a", Write{}, "hello")
		r.pass(30 * time.Minute)
		r.interrupt("/b", Write{}, "hello")
		r.pass(31 * time.Minute)
		require.Equal(t, []string{"b", "d"}, r.names("/"))
		require.Empty(t, r.names("/d"))
		require.Contains(t, r.log.String(), `level=INFO msg="removed an interrupted upload that was not resumed" user=scanner name=d/a bytes=5`)
		_, err := r.fs.Lstat("partial/kept/scanner/d")
		require.ErrorIs(t, err, fs.ErrNotExist)
		r.stop()
		r.pass(time.Hour)
		r.start()
		require.Zero(t, r.d.Usage(), "at the start too")
		_, err = r.fs.Lstat("partial/kept/scanner")
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
}

// Uploads that finish together share the sync of their directory, and each is durable when its Commit returns.
func TestGroupCommit(t *testing.T) {
	const n = 50
	bubble(t, nil, func(r *rig) {
		r.put("/first", "0")
		slow := &slowSync{FS: r.fs, count: map[string]int{}}
		r.d.syncs.fs = slow
		var uploads []*Upload
		for i := range n {
			uploads = append(uploads, r.begin("/"+strings.Repeat("x", i+1), Write{}, "content"))
		}
		var done sync.WaitGroup
		for _, u := range uploads {
			done.Go(func() {
				if err := u.Commit(); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		for dir, count := range slow.count {
			require.LessOrEqual(t, count, 3, dir)
		}
		after := r.fs.Crash(disktest.Nothing())
		for i := range n {
			require.Equal(t, "content", read(t, after, "drop/scanner/"+strings.Repeat("x", i+1)))
		}
		r.shelf.setFail(func(File) error { return disktest.ErrCrashed })
	})
}

type slowSync struct {
	*disktest.FS

	mu    sync.Mutex
	count map[string]int
}

func (s *slowSync) SyncDir(name string) error {
	s.mu.Lock()
	s.count[name]++
	s.mu.Unlock()
	time.Sleep(5 * time.Millisecond) // fake time
	return s.FS.SyncDir(name)
}
