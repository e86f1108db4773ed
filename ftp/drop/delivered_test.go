package drop

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patienceOfClients = 8 * time.Second

func waiting(o *Options) { o.Delivered = patienceOfClients }

// committing commits in a goroutine.
func (r *rig) committing(u *Upload) chan error {
	done := make(chan error, 1)
	go func() { done <- u.Commit() }()
	return done
}

func TestCommitWaitsForTheDelivery(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		require.NoError(r, r.begin("/a", Start{}, "a").Commit())
		require.Equal(r, []string{"scanner:a=a"}, r.sink.list())
		fi, err := r.s.Stat("/a")
		require.NoError(r, err)
		require.Equal(r, int64(1), fi.Size(), "its session can ask")
	})
}

// While a client waits, nobody else does, and its file is not changed.
func TestOthersWhileAClientWaits(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		r.sink.setAway(true)
		done := r.committing(r.begin("/a", Start{}, "1"))
		r.pass(time.Second)
		other := r.user.Session(remote)
		require.ErrorIs(r, other.Remove("/a"), fs.ErrNotExist, "nobody was told of it")
		require.ErrorIs(r, other.Rename("/a", "/b"), fs.ErrNotExist)
		require.Empty(r, r.names("/"))
		second, err := other.Create("/a", Start{})
		require.NoError(r, err)
		_, err = second.Write([]byte("22"))
		require.NoError(r, err)
		next := r.committing(second)
		r.sink.setAway(false)
		r.pass(3 * time.Second)
		require.NoError(r, <-done)
		require.NoError(r, <-next)
		require.Equal(r, []string{"scanner:a=1", "scanner:a=22"}, r.sink.list(), "each version counts")
	})
}

func TestTheSameAgain(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		r.sink.setAway(true)
		require.ErrorIs(r, r.begin("/a", Start{}, "a").Commit(), ErrNotDelivered)
		require.Equal(r, 1, r.d.Usage().Waiting.Files, "it was attempted")
		_, err := r.s.Stat("/a")
		require.ErrorIs(r, err, fs.ErrNotExist, "clients take a file of the right size for delivered")
		require.ErrorIs(r, r.begin("/a", Start{}, "a").Commit(), ErrNotDelivered, "it joins")
		require.Equal(r, 1, r.d.Usage().Waiting.Files)
		require.Zero(r, r.d.Usage().Partial.Files)
		r.restart()
		r.sink.setAway(false)
		require.NoError(r, r.begin("/a", Start{}, "a").Commit(), "also after a restart")
		require.Equal(r, []string{"scanner:a=a"}, r.sink.list())

		r.sink.setAway(true)
		require.ErrorIs(r, r.begin("/b.tmp.2", Start{}, "b").Commit(), ErrNotDelivered)
		require.ErrorIs(r, r.begin("/b.tmp.2", Start{}, "c").Commit(), ErrNotDelivered, "another content is another version")
		r.sink.setAway(false)
		r.pass(time.Minute)
		require.Equal(r, []string{"scanner:a=a", "scanner:b.tmp.2=b"}, r.sink.list(), "the second one was not attempted, and is its client's")
		require.NoError(r, r.begin("/b.tmp.2", Start{}, "c").Commit())
		require.NoError(r, r.begin("/b.tmp.2", Start{}, "b").Commit())
		require.Equal(r, []string{"scanner:a=a", "scanner:b.tmp.2=b", "scanner:b.tmp.2=c", "scanner:b.tmp.2=b"}, r.sink.list())
	})
}

func TestDeliveredLate(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		r.sink.setAway(true)
		require.ErrorIs(r, r.begin("/a", Start{}, "a").Commit(), ErrNotDelivered)
		r.sink.setAway(false)
		r.pass(time.Minute)
		require.Len(r, r.sink.list(), 1)
		r.restart()
		require.NoError(r, r.begin("/a.tmp", Start{}, "a").Commit())
		require.NoError(r, r.s.Rename("/a.tmp", "/a"), "by its last name, too")
		require.Len(r, r.sink.list(), 1)
		_, err := r.s.Stat("/a.tmp")
		require.ErrorIs(r, err, fs.ErrNotExist)
		require.NoError(r, r.begin("/a", Start{}, "a").Commit())
		require.Len(r, r.sink.list(), 2, "once")
	})
}

// A rename that was not answered in time is undone, unless the file may be under way.
func TestRenameWaitsForTheDelivery(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		require.NoError(r, r.begin("/a.tmp", Start{}, "a").Commit())
		require.Empty(r, r.sink.list())
		require.NoError(r, r.s.Rename("/a.tmp", "/a"))
		require.Equal(r, []string{"scanner:a=a"}, r.sink.list())

		r.sink.setAway(true)
		require.NoError(r, r.begin("/b.tmp", Start{}, "b").Commit())
		require.ErrorIs(r, r.begin("/first", Start{}, "first").Commit(), ErrNotDelivered, "it holds up what is behind it")
		require.ErrorIs(r, r.s.Rename("/b.tmp", "/b"), ErrNotDelivered)
		_, err := r.s.Stat("/b.tmp")
		require.NoError(r, err, "it has its temporary name again")
		_, err = r.s.Stat("/b")
		require.ErrorIs(r, err, fs.ErrNotExist)
		r.restart()
		r.sink.setAway(false)
		r.pass(time.Minute)
		require.Equal(r, []string{"scanner:a=a", "scanner:first=first"}, r.sink.list())
		require.NoError(r, r.s.Rename("/b.tmp", "/b"))

		r.sink.setAway(true)
		require.NoError(r, r.begin("/c.tmp", Start{}, "c").Commit())
		require.ErrorIs(r, r.s.Rename("/c.tmp", "/c"), ErrNotDelivered)
		_, err = r.s.Stat("/c.tmp")
		require.ErrorIs(r, err, fs.ErrNotExist, "it may be under way")
		r.sink.setAway(false)
		r.pass(time.Minute)
		require.Equal(r, []string{"scanner:a=a", "scanner:first=first", "scanner:b=b", "scanner:c=c"}, r.sink.list())
	})
}

// So is the file of another program that a client renames.
func TestRenameOfAFoundFileWaits(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		write(r, r.fs, "drop/scanner/x.part", "x")
		require.NoError(r, r.s.Rename("/x.part", "/x"))
		require.Equal(r, []string{"scanner:x=x"}, r.sink.list())
	})
}

// Nothing is continued but what is held: a delivery that is waited for cannot take the place of another file.
func TestContinuedWhereClientsWait(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		write(r, r.fs, "drop/scanner/x", "x")
		_, err := r.s.Create("/x", Start{Append: true})
		require.ErrorIs(t, err, ErrDue)
		write(r, r.fs, "drop/scanner/y.part", "y")
		require.NoError(t, r.begin("/y.part", Start{Append: true}, "z").Commit())
		require.NoError(t, r.s.Rename("/y.part", "/y"))
		r.pass(time.Minute)
		r.wantSent("scanner:y=yz", "scanner:x=x")
	})
}

// A folder has its new name when all files whose temporary names that ends are delivered.
func TestRenameOfAFolderWaitsForTheDelivery(t *testing.T) {
	now := error(nil)
	bubble(t, func(o *Options) { waiting(o); o.Ready = func() error { return now } }, func(r *rig) {
		require.NoError(r, r.s.Mkdir("/.in"))
		require.NoError(r, r.s.Mkdir("/.in/deep"))
		require.NoError(r, r.begin("/.in/2", Start{}, "2").Commit())
		require.NoError(r, r.begin("/.in/deep/1", Start{}, "1").Commit())
		require.NoError(r, r.begin("/.in/x.tmp", Start{}, "x").Commit())
		r.pass(time.Minute)
		r.wantSent()
		now = errors.New("down")
		require.ErrorIs(r, r.s.Rename("/.in", "/in"), ErrNotReady)
		require.Equal(r, []string{".in"}, r.names("/"))
		now = nil
		require.NoError(r, r.s.Rename("/.in", "/in"))
		r.wantSent("scanner:in/2=2", "scanner:in/deep/1=1")
		r.pass(0) // until their files are removed
		require.Equal(r, []string{"in"}, r.names("/"))
		require.Equal(r, []string{"deep", "x.tmp"}, r.names("/in"))
	})
}

func TestRenameOfAFolderThatIsNotDelivered(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		require.NoError(r, r.s.Mkdir("/.in"))
		require.NoError(r, r.begin("/.in/a", Start{}, "a").Commit())
		require.NoError(r, r.begin("/.in/b", Start{}, "b").Commit())
		r.sink.setAway(true)
		require.ErrorIs(r, r.begin("/first", Start{}, "first").Commit(), ErrNotDelivered, "it holds up what is behind it")
		began := time.Now()
		require.ErrorIs(r, r.s.Rename("/.in", "/in"), ErrNotDelivered)
		require.Equal(r, patienceOfClients, time.Since(began), "all files together")
		require.Equal(r, []string{".in"}, r.names("/"))
		require.Equal(r, []string{"a", "b"}, r.names("/.in"), "they were not sent")
		r.restart()
		require.Equal(r, []string{"a", "b"}, r.names("/.in"))

		require.NoError(r, r.s.Remove("/.in/b"))
		r.sink.setAway(false)
		r.pass(time.Minute)
		r.sink.setAway(true)
		require.ErrorIs(r, r.s.Rename("/.in", "/in"), ErrNotDelivered)
		require.Equal(r, []string{".in"}, r.names("/"))
		require.Empty(r, r.names("/.in"), "it may be under way")
		done := make(chan error, 1)
		go func() { done <- r.s.Rename("/.in", "/in") }()
		r.pass(time.Second)
		require.Empty(r, done, "it waits for that of the first attempt")
		r.sink.setAway(false)
		require.NoError(r, <-done)
		r.wantSent("scanner:first=first", "scanner:in/a=a")
		require.Equal(r, []string{"in"}, r.names("/"))
	})
}

func TestCreateWhereNothingCanBeDelivered(t *testing.T) {
	down := errors.New("down")
	var now error
	bubble(t, func(o *Options) { waiting(o); o.Ready = func() error { return now } }, func(r *rig) {
		require.NoError(r, r.begin("/a.tmp", Start{}, "a").Commit())
		now = down
		_, err := r.s.Create("/b", Start{})
		require.ErrorIs(r, err, ErrNotReady)
		require.ErrorIs(r, r.s.Rename("/a.tmp", "/a"), ErrNotReady)
		now = nil
		require.NoError(r, r.s.Rename("/a.tmp", "/a"))
	})
	bubble(t, func(o *Options) { o.Ready = func() error { return down } }, func(r *rig) {
		require.NoError(r, r.begin("/b", Start{}, "b").Commit(), "a file that is stored can wait")
	})
}

// The last look at the client is right before its file is first sent.
func TestClientThatIsGoneWhenItsTurnComes(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		r.sink.setAway(true)
		first := r.committing(r.begin("/first", Start{}, "first"))
		r.pass(time.Second)
		gone := errors.New("the client hung up")
		asked := false
		second := r.committing(r.begin("/a", Start{Confirm: func() error { asked = true; return gone }}, "abc"))
		third := r.committing(r.begin("/c", Start{}, "c"))
		r.pass(time.Second)
		require.False(r, asked)
		r.sink.setAway(false)
		require.NoError(r, <-first)
		require.ErrorIs(r, <-second, gone)
		require.NoError(r, <-third)
		require.Equal(r, []string{"scanner:first=first", "scanner:c=c"}, r.sink.list())
		_, err := r.s.Stat("/a")
		require.ErrorIs(r, err, fs.ErrNotExist, "clients take a file of the right size for delivered")
	})
}

// What nobody takes is not kept; what one target took and another refuses is told with both names.
func TestRefusedByATarget(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		r.stop()
		r.sink.more = "erp"
		r.start()
		require.ErrorIs(r, r.begin("/a", Start{}, "a").Commit(), ErrRefused)
		r.pass(0)
		require.Contains(r, r.log.String(), `reason="refused by target erp"`)
		require.Contains(r, r.log.String(), "takenBy=[target]")
		require.Zero(r, r.d.Usage().Waiting.Files)
		require.ErrorIs(r, r.begin("/b.tmp", Start{}, "b").Commit(), nil)
		require.ErrorIs(r, r.s.Rename("/b.tmp", "/b"), ErrRefused)
	})
}

// When Run ends, clients are answered soon, however long they are to wait.
func TestStopWhileAClientWaits(t *testing.T) {
	bubble(t, func(o *Options) { o.Delivered = time.Hour }, func(r *rig) {
		r.sink.setAway(true)
		done := r.committing(r.begin("/a", Start{}, "a"))
		r.pass(time.Minute)
		began := time.Now()
		r.stopDrop()
		r.startDrop()
		require.ErrorIs(r, <-done, ErrNotDelivered)
		require.Equal(r, stopWait, time.Since(began))
	})
}

// What the evidence says of a file that was delivered changes nothing.
func TestVerdictsOnWhatWasDelivered(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		for name, say := range map[string]func(*Upload){
			"/a": func(u *Upload) { u.Interrupted("a reset") },
			"/b": func(u *Upload) { u.Doubtful("a reset") },
			"/c": func(u *Upload) { u.Read() },
		} {
			u := r.begin(name, Start{Unread: true}, name)
			require.NoError(r, u.Commit())
			say(u)
		}
		require.Len(r, r.sink.list(), 3)
		require.NotContains(r, r.log.String(), "level=ERROR")
		u := r.begin("/d.tmp", Start{Unread: true}, "d")
		require.NoError(r, u.Commit())
		u.Interrupted("a reset")
		require.ErrorIs(r, r.s.Rename("/d.tmp", "/d"), ErrIncomplete, "a held file can be taken back")
	})
}

// The rename of another program's file cannot be undone, and undoes nothing of an older version of its name.
func TestRenameOfAFoundFileThatIsNotDelivered(t *testing.T) {
	bubble(t, waiting, func(r *rig) {
		r.sink.setAway(true)
		require.ErrorIs(r, r.begin("/first", Start{}, "first").Commit(), ErrNotDelivered, "it holds up what is behind it")
		write(r, r.fs, "drop/scanner/x.part", "x")
		require.ErrorIs(r, r.s.Rename("/x.part", "/x"), ErrNotDelivered)
		r.sink.setAway(false)
		r.pass(time.Minute)
		r.wantSent("scanner:first=first", "scanner:x=x")
	})
}
