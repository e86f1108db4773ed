package drop

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// commit uploads a file whose reply is not read yet.
func (r *rig) commit(name, content string) *Upload {
	r.Helper()
	u := r.begin(name, Start{Unread: true}, content)
	require.NoError(r, u.Commit())
	return u
}

func TestFileWaitsForItsReader(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.commit("/unread", "1")
		r.put("/read", "2")
		r.pass(time.Minute)
		assert.Equal(t, []string{"scanner:read=2"}, r.sink.list(), "others pass it")
		u.Read()
		r.pass(0)
		assert.Equal(t, []string{"scanner:read=2", "scanner:unread=1"}, r.sink.list())
	})
}

func TestReadInTimeKeepsItsPlace(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.commit("/first", "1")
		r.put("/second", "2")
		u.Read()
		r.pass(time.Minute)
		assert.Equal(t, []string{"scanner:first=1", "scanner:second=2"}, r.sink.list())
	})
}

func TestUnreadCountsAsReadAfterARestart(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.commit("/unread", "1")
		r.crash(disktest.Nothing())
		r.pass(time.Minute)
		assert.Equal(t, []string{"scanner:unread=1"}, r.sink.list())
	})
}

func TestInterruptedIsTakenBackAndCanBeResumed(t *testing.T) {
	for name, when := range map[string]time.Duration{"at once": 0, "when its settle time is over": time.Minute} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				u := r.commit("/a", "half")
				r.pass(when)
				u.Interrupted("reset")
				r.crash(disktest.Nothing())
				r.pass(time.Hour)
				assert.Empty(t, r.sink.list())
				rest := r.begin("/a", Start{Offset: 4}, " and half")
				require.NoError(t, rest.Commit())
				r.pass(time.Minute)
				assert.Equal(t, []string{"scanner:a=half and half"}, r.sink.list())
			})
		})
	}
}

func TestTakingBackIsTriedUntilTheDiskTakesIt(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.commit("/a", "half")
		r.fs.Inject(disktest.Fault{Kind: disktest.Sync, Path: "outbox/*.journal", Forever: true})
		u.Interrupted("reset")
		r.pass(time.Hour)
		assert.Empty(t, r.sink.list())
		r.fs.Heal()
		r.pass(time.Minute)
		r.crash(disktest.Nothing())
		r.pass(time.Hour)
		assert.Empty(t, r.sink.list())
	})
}

func TestDoubtfulIsHeldForFiveMinutes(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.commit("/doubtful", "1").Doubtful("reset")
		r.put("/other", "2")
		r.pass(2 * time.Minute)
		assert.Equal(t, []string{"scanner:other=2"}, r.sink.list())
		r.crash(disktest.Nothing()) // durable
		r.pass(2 * time.Minute)
		assert.Equal(t, []string{"scanner:other=2"}, r.sink.list())
		r.pass(2 * time.Minute)
		assert.Equal(t, []string{"scanner:other=2", "scanner:doubtful=1"}, r.sink.list())
	})
}

func TestDeviceThatComesBackHealsItsPiece(t *testing.T) {
	const whole, piece = "the whole file", "the whole"
	for name, c := range map[string]struct {
		doubtful, again string
		remote          netip.Addr
		want            []string // right after the settle time of the second upload
	}{
		"a beginning":         {piece, whole, remote, []string{"scanner:a=the whole file"}},
		"another file":        {"something", whole, remote, []string{"scanner:a=something", "scanner:a=the whole file"}},
		"the same once more":  {whole, whole, remote, []string{"scanner:a=the whole file", "scanner:a=the whole file"}},
		"a longer one":        {whole, piece, remote, []string{"scanner:a=the whole file", "scanner:a=the whole"}},
		"from another device": {piece, whole, netip.MustParseAddr("192.0.2.99"), []string{"scanner:a=the whole file"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				r.commit("/a", c.doubtful).Doubtful("reset")
				r.pass(10 * time.Second)
				r.s = r.user.Session(c.remote)
				r.put("/a", c.again)
				r.pass(10 * time.Second)
				assert.Equal(t, c.want, r.sink.list())
				r.pass(time.Hour)
				if name == "from another device" { // nobody knows: nothing that was acknowledged is lost
					c.want = append(c.want, "scanner:a=the whole")
				}
				assert.Equal(t, c.want, r.sink.list())
			})
		})
	}
}

// A client that was cut off may be back, and go on with its file, before it is known that it had not read the 226.
func TestInterruptedAfterItWasContinued(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		u := r.commit("/a", "the w")
		require.NoError(t, r.begin("/a", Start{Offset: 4}, "whole file").Commit())
		u.Interrupted("reset")
		r.pass(time.Minute)
		assert.Equal(t, []string{"scanner:a=the whole file"}, r.sink.list())
		assert.NotContains(t, r.log.String(), "has been sent")
	})
}

// Whoever goes on with a doubtful file has said that it was not whole. What comes of it is no more in doubt, and must not hold up others for as long.
func TestContinuedDoubtfulHoldsUpNobody(t *testing.T) {
	for name, start := range map[string]Start{"resumed": {Offset: 5}, "appended to": {Append: true}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				r.commit("/a", "the w").Doubtful("reset")
				r.pass(2 * time.Second)
				u := r.begin("/a", start, "hole file")
				require.NoError(t, u.Commit())
				r.put("/other", "2")
				r.pass(3 * time.Second)
				assert.Equal(t, []string{"scanner:a=the whole file", "scanner:other=2"}, r.sink.list())
				r.pass(time.Hour)
				assert.Len(t, r.sink.list(), 2)
			})
		})
	}
}

func TestDoubtfulTemporaryNameIsHeldUntilItIsRenamed(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.commit("/a.part", "1").Doubtful("reset")
		r.pass(time.Hour)
		assert.Empty(t, r.sink.list())
		require.NoError(t, r.s.Rename("/a.part", "/a"))
		r.pass(time.Minute)
		assert.Equal(t, []string{"scanner:a=1"}, r.sink.list())
	})
}

func TestDoubtfulIsNoHeldFile(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.commit("/a", "1").Doubtful("reset")
		r.stopDrop()
		r.startDrop() // which looks for held files whose names are no longer temporary
		r.pass(time.Minute)
		assert.Empty(t, r.sink.list())
		r.pass(time.Hour)
		assert.Equal(t, []string{"scanner:a=1"}, r.sink.list())
	})
}

func TestPieceIsHealedAfterACommitThatFailed(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.commit("/a", "123").Doubtful("reset")
		u := r.begin("/a", Start{}, "12345")
		r.fs.Inject(disktest.Fault{Kind: disktest.Rename})
		require.Error(t, u.Commit())
		r.put("/a", "12345")
		r.pass(time.Hour)
		assert.Equal(t, []string{"scanner:a=12345"}, r.sink.list())
	})
}

// Where what is taken back cannot stand, it goes: it is not sent, also after a restart.
func TestInterruptedThatCannotBeKept(t *testing.T) {
	for name, prepare := range map[string]func(r *rig){
		"an interrupted upload had the name of its folder": func(r *rig) {
			r.interrupt("/dir", Start{}, "1")
			require.NoError(r, r.s.Mkdir("/dir"))
		},
		"the volume is full": func(r *rig) {
			require.NoError(r, r.s.Mkdir("/dir"))
			r.fs.Inject(disktest.Fault{Kind: disktest.Mkdir, Path: "partial/kept/*", Forever: true, Err: syscall.ENOSPC})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				prepare(r)
				r.commit("/dir/a", "half").Interrupted("reset")
				r.fs.Heal()
				r.crash(disktest.Nothing())
				r.pass(time.Hour)
				assert.Empty(t, r.sink.list())
			})
		})
	}
	t.Run("interrupted uploads are below its name", func(t *testing.T) {
		bubble(t, nil, func(r *rig) {
			require.NoError(t, r.s.Mkdir("/dir"))
			r.interrupt("/dir/x", Start{}, "1")
			require.NoError(t, r.s.Rename("/dir", "/other"))
			r.commit("/dir", "half").Interrupted("reset")
			assert.LessOrEqual(t, r.d.Usage().Partial.Files, 1)
			r.pass(time.Hour)
			assert.Empty(t, r.sink.list())
		})
	})
}

// A folder that is new does not begin with what was interrupted in one of its name: a client would resume another file on those bytes.
func TestNewFolderHasNoInterruptedUploads(t *testing.T) {
	for name, again := range map[string]func(r *rig) error{
		"made":    func(r *rig) error { return r.s.Mkdir("/dir") },
		"renamed": func(r *rig) error { return errors.Join(r.s.Mkdir("/new"), r.s.Rename("/new", "/dir")) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				require.NoError(t, r.s.Mkdir("/dir"))
				r.interrupt("/dir/x", Start{}, "1")
				require.NoError(t, r.s.Rename("/dir", "/other"))
				require.NoError(t, again(r))
				assert.Empty(t, r.names("/dir"))
				_, err := r.s.Create("/dir/x", Start{Offset: 1})
				require.ErrorIs(t, err, ErrNoPartial)
			})
			bubble(t, nil, func(r *rig) {
				r.interrupt("/dir", Start{}, "1")
				require.NoError(t, again(r))
				require.NoError(t, r.s.RemoveDir("/dir"))
				assert.Empty(t, r.names("/"))
			})
		})
	}
}
