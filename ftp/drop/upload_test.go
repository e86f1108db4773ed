package drop

import (
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestUploadIsDurableAfterCommitAndSentAfterSettle(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		began := time.Now()
		r.put("/a.csv", "hello")
		require.NotEmpty(t, r.names("/"))
		r.crash(disktest.Nothing())
		require.Equal(t, []string{"a.csv"}, r.names("/"))
		r.put("/b.csv", "world")
		r.wantSent()
		r.pass(time.Second)
		r.wantSent("scanner:a.csv=hello", "scanner:b.csv=world")
		m := r.sink.got[1]
		require.Equal(t, remote, m.File.RemoteAddr)
		require.False(t, m.File.Received.Before(began))
		require.Equal(t, int64(5), m.Size)
	})
}

func TestSettleBeginsWhenTheUploadIsFinished(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.begin("/a.csv", Start{}, "hello")
		r.pass(time.Minute)
		r.wantSent()
		require.NoError(t, u.Commit())
		r.pass(time.Second - 1)
		r.wantSent()
		r.pass(1)
		r.wantSent("scanner:a.csv=hello")
	})
}

func TestEmptyFileIsAFile(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.create("/empty", Start{})
		n, err := u.Write(nil)
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		r.wantSent("scanner:empty=")
	})
}

func TestUploadEndsOnce(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.begin("/a", Start{}, "x")
		require.NoError(t, u.Commit())
		require.ErrorIs(t, u.Commit(), fs.ErrClosed)
		require.NoError(t, u.Interrupt(errCut))
		_, err := u.Write([]byte("y"))
		require.ErrorIs(t, err, fs.ErrClosed)
		r.pass(time.Second)
		r.wantSent("scanner:a=x")

		u = r.begin("/b", Start{}, "x")
		require.NoError(t, u.Interrupt(errCut))
		require.ErrorIs(t, u.Commit(), fs.ErrClosed)
		r.pass(time.Minute)
		r.wantSent("scanner:a=x")
	})
}

func TestInterruptedUploadIsResumed(t *testing.T) {
	for name, w := range map[string]Start{
		"REST": {Offset: 5},
		"APPE": {Append: true},
		"both": {Offset: 5, Append: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				require.NoError(t, r.s.Mkdir("/d"))
				r.interrupt("/d/a.csv", Start{}, "hello")
				require.Contains(t, r.log.String(), "upload interrupted, kept for resuming")
				require.Contains(t, r.log.String(), `user=scanner name=d/a.csv bytes=5 remote=192.0.2.7 error="connection lost"`)
				r.pass(time.Hour)
				r.wantSent()
				require.Equal(t, int64(5), r.received("/d/a.csv"))
				require.Equal(t, []string{"a.csv"}, r.names("/d"))
				r.restart()
				require.Equal(t, int64(5), r.received("/d/a.csv"))
				require.Equal(t, Count{1, 5}, r.d.Usage().Partial)

				u := r.begin("/d/a.csv", w, " world")
				require.Equal(t, int64(11), u.Size())
				require.Equal(t, int64(11), r.received("/d/a.csv"))
				require.NoError(t, u.Commit())
				r.pass(time.Second)
				r.wantSent("scanner:d/a.csv=hello world")
				require.Equal(t, Usage{}, r.d.Usage())
			})
		})
	}
}

func TestResumeCutsOffWhatIsBehindTheOffset(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.interrupt("/a", Start{}, "hello, garbage")
		_, err := r.s.Create("/a", Start{Offset: 15})
		require.ErrorIs(t, err, ErrOffset)
		require.Equal(t, int64(14), r.received("/a"), "a refused REST changes nothing")
		require.NoError(t, r.begin("/a", Start{Offset: 5}, "!").Commit())
		r.pass(time.Second)
		r.wantSent("scanner:a=hello!")
		require.Zero(t, r.d.Usage().Partial)
	})
}

func TestResumeWithNothingThere(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		_, err := r.s.Create("/a", Start{Offset: 1})
		require.ErrorIs(t, err, ErrNoPartial)
		_, err = r.s.Create("/a", Start{Append: true})
		require.ErrorIs(t, err, ErrNoPartial)
		require.ErrorContains(t, err, "send the file from its start")
		require.Empty(t, r.names("/"))
		r.put("/a", "new")
		r.pass(time.Second)
		r.wantSent("scanner:a=new")
		for range 2 { // the second time: it is forgotten that it was delivered
			_, err = r.s.Create("/a", Start{Offset: 1})
			require.ErrorIs(t, err, ErrNoPartial)
			_, err = r.s.Create("/a", Start{Append: true})
			require.ErrorIs(t, err, ErrNoPartial)
			r.pass(time.Hour)
		}
		require.Zero(t, r.d.Usage().Partial)
		r.put("/a", "day 2")
		r.pass(time.Second)
		r.wantSent("scanner:a=new", "scanner:a=day 2")
	})
}

func TestAppendToAFinishedFileWorksOnACopy(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/log.tmp", "one ")
		u := r.begin("/log.tmp", Start{Append: true}, "two ")
		require.Equal(t, []string{"log.tmp=one "}, r.waiting())
		require.Equal(t, int64(4), r.size("/log.tmp"), "the finished file is what is shown")
		require.NoError(t, u.Commit())
		require.Equal(t, []string{"log.tmp=one two "}, r.waiting())
		require.NoError(t, r.begin("/log.tmp", Start{Offset: 4}, "three").Commit())
		require.Equal(t, []string{"log.tmp=one three"}, r.waiting())
		_, err := r.s.Create("/log.tmp", Start{Offset: 10})
		require.ErrorIs(t, err, ErrOffset)

		// It is not sent while an append is under way, however long that takes, and holds back nobody.
		r.put("/log", "one ")
		u = r.begin("/log", Start{Append: true}, "two")
		r.put("/other", "x")
		r.pass(time.Minute)
		r.wantSent("scanner:other=x")
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		r.wantSent("scanner:other=x", "scanner:log=one two")
		require.Equal(t, Usage{Waiting: Count{1, 9}}, r.d.Usage())
	})
}

func TestInterruptedAppendLeavesTheFinishedFile(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a.tmp", "one ")
		r.interrupt("/a.tmp", Start{Append: true}, "tw")
		require.Equal(t, []string{"a.tmp=one "}, r.waiting())
		require.Equal(t, int64(4), r.size("/a.tmp"))
		// What is continued is what SIZE showed.
		require.NoError(t, r.begin("/a.tmp", Start{Append: true}, "2").Commit())
		require.Equal(t, []string{"a.tmp=one 2"}, r.waiting())
		require.Zero(t, r.d.Usage().Partial)

		r.put("/b", "one ")
		u := r.begin("/b", Start{Append: true}, "tw")
		r.pass(time.Minute)
		r.wantSent()
		require.NoError(t, u.Interrupt(errCut))
		r.pass(time.Second)
		r.wantSent("scanner:b=one ")
	})
}

// A base that was renamed or deleted meanwhile is not what the append replaces.
func TestAppendToWhatIsRenamedMeanwhile(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a.tmp", "one ")
		u := r.begin("/a.tmp", Start{Append: true}, "two")
		require.NoError(t, r.user.Session(remote).Rename("/a.tmp", "/a"))
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		r.wantSent("scanner:a=one ")
		require.Equal(t, []string{"a.tmp=one two"}, r.waiting())
	})
}

// An upload that is begun anew over a finished file is what can be resumed.
func TestInterruptedUploadOverAHeldFile(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a.tmp", "the old version")
		r.interrupt("/a.tmp", Start{}, "the new")
		require.Equal(t, int64(7), r.received("/a.tmp"))
		require.ErrorIs(t, r.s.Rename("/a.tmp", "/a"), ErrIncomplete, "the old one is not what the client means")
		require.NoError(t, r.begin("/a.tmp", Start{Offset: 7}, " version").Commit())
		require.NoError(t, r.s.Rename("/a.tmp", "/a"))
		r.pass(time.Second)
		r.wantSent("scanner:a=the new version")
		require.Zero(t, r.d.Usage())

		r.put("/b.tmp", "old")
		r.interrupt("/b.tmp", Start{}, "n")
		require.NoError(t, r.s.Remove("/b.tmp"))
		require.Zero(t, r.d.Usage(), "both go")
	})
}

func TestTakeBack(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		u := r.begin("/d/a", Start{}, "hel")
		require.NoError(t, u.Commit())
		require.NoError(t, u.takeBack(errCut))
		require.Equal(t, Usage{Partial: Count{1, 3}}, r.d.Usage())
		r.crash(disktest.Nothing())
		require.Equal(t, int64(3), r.received("/d/a"))
		u = r.begin("/d/a", Start{Offset: 3}, "lo")
		require.NoError(t, u.Commit())
		r.put("/d/a", "newer")
		r.pass(time.Second)
		require.ErrorIs(t, u.takeBack(errCut), ErrDue)
		r.wantSent("scanner:d/a=hello", "scanner:d/a=newer")

		u = r.begin("/b.tmp", Start{}, "1")
		require.NoError(t, u.Commit())
		r.interrupt("/b.tmp", Start{}, "begun anew")
		require.NoError(t, u.takeBack(errCut))
		require.Equal(t, int64(10), r.received("/b.tmp"), "what is newer stands")
		require.Equal(t, Usage{Partial: Count{1, 10}}, r.d.Usage())
	})
}

// renamingFS calls before first when a file is renamed into partial/kept.
type renamingFS struct {
	disk.FS
	before func()
}

func (f *renamingFS) Rename(from, to string) error {
	if strings.HasPrefix(to, keptDir) && f.before != nil {
		f.before()
	}
	return f.FS.Rename(from, to)
}

// The empty directory that waits for an interrupted upload must not go: what was taken back would be lost.
func TestTakeBackWhileEmptyDirectoriesGo(t *testing.T) {
	fsys := &renamingFS{}
	bubble(t, func(o *Options) { fsys.FS, o.FS = o.FS, fsys }, func(r *rig) {
		u := r.begin("/a", Start{Unread: true}, "12345")
		require.NoError(r, u.Commit())
		fsys.before = func() {
			_, err := r.d.Interrupted()
			require.NoError(r, err)
		}
		u.Interrupted("a test")
		require.EqualValues(r, 5, r.received("/a"))
		require.Equal(r, Count{1, 5}, r.d.Usage().Partial)
		require.NoError(r, r.begin("/a", Start{Offset: 5}, "678").Commit())
		r.pass(time.Minute)
		r.wantSent("scanner:a=12345678")
	})
}

func TestNewUploadSupersedesTheOpenOne(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		old := r.begin("/a", Start{}, "old")
		u := r.begin("/a", Start{}, "new content")
		_, err := old.Write([]byte("more"))
		require.ErrorIs(t, err, ErrSuperseded)
		require.ErrorIs(t, old.Commit(), ErrSuperseded)
		require.Equal(t, int64(11), r.received("/a"))
		require.NoError(t, u.Commit())
		require.NoError(t, old.Interrupt(errCut))
		r.pass(time.Second)
		r.wantSent("scanner:a=new content")
		require.Equal(t, Usage{}, r.d.Usage())

		// The other way round: the old one is ended after the new one.
		old = r.begin("/b", Start{}, "old")
		r.put("/b", "new")
		require.NoError(t, old.Interrupt(errCut))
		r.pass(time.Second)
		r.wantSent("scanner:a=new content", "scanner:b=new")
		require.Zero(t, r.d.Usage().Partial)
	})
}

func TestResumeTakesOverTheOpenOne(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		old := r.begin("/a", Start{}, "hello")
		_, err := r.s.Create("/a", Start{Offset: 6})
		require.ErrorIs(t, err, ErrOffset)
		_, err = old.Write([]byte(","))
		require.NoError(t, err, "a refused REST changes nothing")

		u := r.begin("/a", Start{Offset: 5}, " world")
		_, err = old.Write([]byte("more"))
		require.ErrorIs(t, err, ErrSuperseded)
		require.NoError(t, old.Interrupt(errCut))
		require.NoError(t, u.Commit())
		require.ErrorIs(t, old.Commit(), ErrSuperseded)
		r.pass(time.Second)
		r.wantSent("scanner:a=hello world")
		require.Equal(t, Usage{}, r.d.Usage())
	})
}

func TestTakeOverAfterAFailedWrite(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		old := r.begin("/a", Start{}, "hello")
		r.fs.Inject(disktest.Fault{Kind: disktest.Write, Short: true, Err: syscall.EIO})
		n, err := old.Write([]byte("12345678"))
		require.ErrorIs(t, err, syscall.EIO)
		require.Equal(t, 4, n)
		require.Equal(t, int64(9), old.Size())
		u := r.begin("/a", Start{Offset: 5}, "!")
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		r.wantSent("scanner:a=hello!")
	})
}

func TestNewUploadVoidsTheInterruptedOne(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.interrupt("/a", Start{}, "old version")
		u := r.create("/a", Start{})
		require.Zero(t, r.size("/a"))
		require.NoError(t, u.Interrupt(errCut))
		_, err := r.s.Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist, "nothing is kept of an upload before its first byte")
		require.Zero(t, r.d.Usage())
	})
}

// A client that breaks off over and over has no line for each.
func TestLinesOfClientsAreCounted(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		const line = `msg="upload interrupted, kept for resuming"`
		for i := range 100 {
			r.interrupt(fmt.Sprintf("/%d", i), Start{}, "x")
			r.put("/a.tmp", "x")
			require.NoError(t, r.s.Rename("/a.tmp", "/b.tmp"))
		}
		require.Equal(t, 1, strings.Count(r.log.String(), line))
		require.Equal(t, 1, strings.Count(r.log.String(), `msg="a finished file was renamed"`))
		other := r.user.Session(netip.MustParseAddr("192.0.2.99"))
		u, err := other.Create("/a", Start{})
		require.NoError(t, err)
		_, err = u.Write([]byte("x"))
		require.NoError(t, err)
		require.NoError(t, u.Interrupt(errCut))
		require.Equal(t, 2, strings.Count(r.log.String(), line), "another client")
		r.pass(2 * time.Minute)
		require.Contains(t, r.log.String(), line+" remote=192.0.2.7 user=scanner times=99")
	})
}

func TestDeclaredSize(t *testing.T) {
	bubble(t, func(o *Options) { o.MaxSize = 100 }, func(r *rig) {
		_, err := r.s.Create("/a", Start{Declared: 101})
		require.ErrorIs(t, err, ErrTooLarge)

		u := r.begin("/a", Start{Declared: 10}, "hello")
		err = u.Commit()
		require.ErrorIs(t, err, ErrIncomplete)
		require.ErrorContains(t, err, "5 bytes came, 10 were declared")
		r.pass(time.Minute)
		r.wantSent()
		require.Equal(t, int64(5), r.received("/a"), "kept for resuming")
		u = r.begin("/a", Start{Offset: 5, Declared: 10}, "worl")
		require.ErrorIs(t, u.Commit(), ErrIncomplete, "the declared size is that of the whole file")
		require.NoError(t, r.begin("/a", Start{Offset: 5, Declared: 10}, "world").Commit())
		r.put("/b", "more than declared")
		u = r.begin("/c", Start{Declared: 2}, "three")
		require.NoError(t, u.Commit())
		r.pass(time.Second)
		r.wantSent("scanner:a=helloworld", "scanner:b=more than declared", "scanner:c=three")
	})
}

// Folders are for the eyes of clients: what has come whole is delivered.
func TestCommitWhereItsDirectoryIsGone(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		u := r.begin("/d/a", Start{}, "x")
		require.ErrorIs(t, r.s.RemoveDir("/d"), ErrBusy)
		require.ErrorIs(t, r.s.Rename("/d", "/e"), ErrBusy)
		require.NoError(t, r.fs.Remove("drop/scanner/d")) // by another program
		require.NoError(t, u.Commit())

		u = r.begin("/e", Start{}, "x")
		require.NoError(t, r.fs.Mkdir("drop/scanner/e", 0o700))
		require.NoError(t, u.Commit())
		require.Equal(t, []string{"e"}, r.names("/"))
		r.pass(time.Second)
		r.wantSent("scanner:d/a=x", "scanner:e=x")
		require.Zero(t, r.d.Usage())
	})
}

// A fault in any step of Commit: no success, nothing delivered, nothing left behind, and the next one succeeds.
func TestCommitFails(t *testing.T) {
	for name, fault := range map[string]disktest.Fault{
		"syncing the file":       {Kind: disktest.Sync, Path: "partial/..."},
		"syncing the record":     {Kind: disktest.Sync, Path: "outbox/..."},
		"writing the record":     {Kind: disktest.Write, Path: "outbox/..."},
		"renaming":               {Kind: disktest.Rename, Path: "outbox/..."},
		"syncing the directory":  {Kind: disktest.SyncDir, Path: "outbox"},
		"no space for the names": {Kind: disktest.Rename, Path: "outbox/...", Err: syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				r.put("/before", "0")
				u := r.begin("/a", Start{}, "hello")
				r.fs.Inject(fault)
				err := u.Commit()
				require.Error(t, err)
				require.NotContains(t, err.Error(), "outbox/", "clients see no path of the volume")
				if fault.Err != nil {
					require.ErrorIs(t, err, ErrFull)
				}
				_, err = r.s.Stat("/a")
				require.ErrorIs(t, err, fs.ErrNotExist)
				r.restart()
				r.pass(time.Minute)
				r.wantSent("scanner:before=0")
				require.Zero(t, r.d.Usage())
				r.put("/a", "hello")
				r.pass(time.Second)
				r.wantSent("scanner:before=0", "scanner:a=hello")
			})
		})
	}
}

// If a longer version fails, what it was to replace is sent.
func TestAppendThatFails(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a", "one ")
		u := r.begin("/a", Start{Append: true}, "two")
		r.fs.Inject(disktest.Fault{Kind: disktest.Rename, Path: "outbox/..."})
		require.Error(t, u.Commit())
		r.pass(time.Second)
		r.wantSent("scanner:a=one ")
		require.Zero(t, r.d.Usage())
	})
}

// A Drop is opened while a Commit of the one before still hangs in the disk: that can only fail, and what the new one has
// under way, or is about to acknowledge, is not touched.
func TestCommitOfADropBefore(t *testing.T) {
	for at, op := range map[string]disktest.Kind{
		"syncing the file": disktest.Sync,
		"renaming":         disktest.Rename,
	} {
		t.Run(at, func(t *testing.T) {
			hanging := &hangingFS{}
			bubble(t, func(o *Options) { hanging.FS = o.FS; o.FS = hanging }, func(r *rig) {
				r.put("/before", "0")
				old := r.begin("/a", Start{}, "by the old one")
				hanging.at = op
				var other *Upload
				committed := make(chan error, 1)
				hanging.meanwhile = func() {
					r.stopDrop()
					r.startDrop()
					anew := r.begin("/a", Start{}, "by the new one")
					go func() { committed <- anew.Commit() }() // the outbox takes it when it is done with the one that hangs
					other = r.begin("/b", Start{}, "the first half, ")
				}
				require.Error(t, old.Commit())
				require.Nil(t, hanging.meanwhile, "it has hung")
				require.NoError(t, <-committed)
				r.pass(time.Hour)
				r.wantSent("scanner:before=0", "scanner:a=by the new one")
				_, err := other.Write([]byte("the second half"))
				require.NoError(t, err)
				require.NoError(t, other.Commit())
				r.pass(time.Second)
				r.wantSent("scanner:before=0", "scanner:a=by the new one", "scanner:b=the first half, the second half")
			})
		})
	}
}

// hangingFS hangs once in the operation at of an upload, until meanwhile has returned.
type hangingFS struct {
	disk.FS
	at        disktest.Kind
	meanwhile func()
}

type hangingFile struct {
	disk.File
	fs   *hangingFS
	name string
}

func (h *hangingFS) hang(kind disktest.Kind, name string) {
	if kind == h.at && strings.HasPrefix(name, openDir) && h.meanwhile != nil {
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
	return hangingFile{f, h, name}, nil
}

func (h *hangingFS) Rename(from, to string) error {
	h.hang(disktest.Rename, from)
	return h.FS.Rename(from, to)
}

func (f hangingFile) Sync() error {
	f.fs.hang(disktest.Sync, f.name)
	return f.File.Sync()
}

func TestInterruptAfterAFailedSyncKeepsNothing(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.begin("/a", Start{}, "hello")
		r.fs.Inject(disktest.Fault{Kind: disktest.Sync})
		require.ErrorIs(t, u.Interrupt(errCut), syscall.EIO)
		_, err := r.s.Stat("/a")
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.Zero(t, r.d.Usage())
		require.Contains(t, r.log.String(), `msg="upload interrupted, and not kept" user=scanner name=a bytes=5 remote=192.0.2.7 error="connection lost; the disk cannot keep it: \"a\": input/output error"`)
		syncs := 0
		for _, op := range r.fs.Ops() {
			if op.Kind == disktest.Sync && strings.HasPrefix(op.Path, openDir) {
				syncs++
			}
		}
		require.Equal(t, 1, syncs, "never synced again: the kernel has dropped the bytes")
	})
}

func TestFailedWriteIsKeptUpToWhatWasWritten(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.begin("/a", Start{}, "hello ")
		r.fs.Inject(disktest.Fault{Kind: disktest.Write, Short: true, Err: syscall.ENOSPC})
		n, err := u.Write([]byte("world!"))
		require.ErrorIs(t, err, ErrFull)
		require.Equal(t, 3, n)
		_, err = u.Write([]byte("more"))
		require.ErrorIs(t, err, ErrFull)
		require.ErrorIs(t, u.Commit(), ErrFull)
		require.Equal(t, int64(9), r.received("/a"))
		require.NoError(t, r.begin("/a", Start{Offset: 9}, "ld!").Commit())
		r.pass(time.Second)
		r.wantSent("scanner:a=hello world!")
	})
}

func TestKilledUploadIsNotTrusted(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.begin("/a", Start{}, "hello")
		r.restart()
		require.Zero(t, r.d.Usage())
		_, err := r.s.Create("/a", Start{Offset: 5})
		require.ErrorIs(t, err, ErrNoPartial)
		r.pass(time.Hour)
		r.wantSent()
	})
}

func TestPartialExpiry(t *testing.T) {
	bubble(t, func(o *Options) { o.PartialExpiry = time.Hour }, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		r.interrupt("/d/a", Start{}, "hello")
		r.pass(30 * time.Minute)
		r.interrupt("/b", Start{}, "hello")
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

// A disk may have written more than it said when it failed: that is not resumed on.
func TestFailedWriteThatLeftMoreBehind(t *testing.T) {
	failing := &overshootingFS{}
	bubble(t, func(o *Options) { failing.FS = o.FS; o.FS = failing }, func(r *rig) {
		u := r.begin("/a", Start{}, "hello ")
		failing.fail = true
		_, err := u.Write([]byte("world!"))
		require.ErrorIs(t, err, syscall.EIO)
		failing.fail = false
		require.NoError(t, u.Interrupt(errCut))
		require.Equal(t, int64(6), r.received("/a"))
	})
}

type overshootingFS struct {
	disk.FS
	fail bool
}

type overshootingFile struct {
	disk.File
	fs *overshootingFS
}

func (o *overshootingFS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := o.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return overshootingFile{f, o}, nil
}

func (f overshootingFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if err == nil && f.fs.fail {
		return 0, syscall.EIO
	}
	return n, err
}

// An upload that was superseded while it was being kept is not.
func TestInterruptThatIsSuperseded(t *testing.T) {
	hanging := &hangingFS{}
	bubble(t, func(o *Options) { hanging.FS = o.FS; o.FS = hanging }, func(r *rig) {
		old := r.begin("/a", Start{}, "the old one")
		var u *Upload
		hanging.at, hanging.meanwhile = disktest.Sync, func() { u = r.begin("/a", Start{}, "new") }
		require.NoError(t, old.Interrupt(errCut))
		require.Equal(t, Usage{Partial: Count{1, 3}}, r.d.Usage())
		require.NoError(t, u.Interrupt(errCut))
		require.Equal(t, int64(3), r.received("/a"))
	})
}

// Bytes that the disk has damaged since they were received are never sent.
func TestDamagedFileIsNotSent(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/new", "hello")
		r.interrupt("/resumed", Start{}, "hel")
		require.NoError(t, r.begin("/resumed", Start{Offset: 3}, "lo").Commit())
		r.put("/appended", "hel")
		require.NoError(t, r.begin("/appended", Start{Append: true}, "lo").Commit())
		for e := range r.box.Entries() {
			write(t, r.fs, e.Path, "hellO")
		}
		r.put("/whole", "hello")
		r.pass(time.Minute)
		r.wantSent("scanner:whole=hello")
	})
}

func TestInterruptedUploadRemovedByHand(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.interrupt("/a", Start{}, "12345")
		r.interrupt("/b", Start{}, "12345")
		require.NoError(r, r.fs.Remove("partial/kept/scanner/a"))
		require.NoError(r, r.fs.Remove("partial/kept/scanner/b"))
		require.Empty(r, r.names("/"))
		_, err := r.s.Stat("/a")
		require.ErrorIs(r, err, fs.ErrNotExist)
		_, err = r.s.Create("/a", Start{Append: true})
		require.ErrorIs(r, err, ErrNoPartial)
		r.put("/a", "anew")
		r.interrupt("/b", Start{}, "again")
		require.Equal(r, []string{"a", "b"}, r.names("/"))
		require.NoError(r, r.begin("/b", Start{Append: true}, "!").Commit())
		r.pass(time.Minute)
		r.wantSent("scanner:a=anew", "scanner:b=agai!")
	})
}
