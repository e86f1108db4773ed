package drop

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// Each version of a name counts, whatever else happens.
func TestEachVersionIsSent(t *testing.T) {
	for name, restart := range map[string]func(r *rig){
		"one run":   func(*rig) {},
		"restarted": func(r *rig) { r.restart() },
		"power cut": func(r *rig) { r.crash(disktest.Nothing()) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				var want []string
				for i := range 24 {
					content := fmt.Sprintf("version %d", i)
					if i%3 == 0 {
						r.put("/a.tmp", content)
						require.NoError(t, r.s.Rename("/a.tmp", "/a"))
					} else {
						r.put("/a", content)
					}
					want = append(want, "scanner:a="+content)
					if i%5 == 4 {
						restart(r)
					}
				}
				require.Equal(t, []string{"a"}, r.names("/"), "only the newest is shown")
				r.pass(2 * time.Second)
				r.wantSent(want...)
				require.Zero(t, r.d.Usage())
			})
		})
	}
}

// The order is that of the ends of uploads, whatever times clients set and however they rename.
func TestOrderSurvivesARestart(t *testing.T) {
	for _, policy := range []disktest.Policy{disktest.Killed(), disktest.Nothing()} {
		t.Run(policy.String(), func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				require.NoError(t, r.s.Mkdir("/.in"))
				var want, last []string
				for i := range 20 {
					name := fmt.Sprintf("%c", 'z'-i) // not in the order of names
					switch i % 4 {
					case 0:
						r.put("/"+name, "x")
						require.NoError(t, r.s.Chtimes("/"+name, time.Now().Add(-time.Duration(i)*time.Hour)))
					case 1:
						r.put("/"+name+"1", "x")
						require.NoError(t, r.s.Rename("/"+name+"1", "/"+name))
					case 2:
						r.put("/.in/"+name, "x")
						last = append(last, "scanner:in/"+name+"=x")
						continue
					case 3:
						r.put("/"+name+".tmp", "x")
						require.NoError(t, r.s.Rename("/"+name+".tmp", "/"+name))
					}
					want = append(want, "scanner:"+name+"=x")
				}
				require.NoError(t, r.s.Rename("/.in", "/in"))
				r.crash(policy)
				r.put("/a", "later")
				r.pass(2 * time.Second)
				r.wantSent(append(append(want, last...), "scanner:a=later")...)
			})
		})
	}
}

func TestTemporaryNames(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a.tmp", "1")
		r.put("/.in.b.csv.", "2")
		require.NoError(t, r.s.Mkdir("/.lftp"))
		r.put("/.lftp/c", "3")
		r.put("/d", "4")
		r.pass(time.Hour)
		r.wantSent("scanner:d=4")
		require.NoError(t, r.s.Rename("/.in.b.csv.", "/b.csv"))
		r.pass(500 * time.Millisecond)
		require.NoError(t, r.s.Rename("/a.tmp", "/a"))
		r.pass(500 * time.Millisecond)
		r.wantSent("scanner:d=4", "scanner:b.csv=2")
		r.pass(500 * time.Millisecond)
		r.wantSent("scanner:d=4", "scanner:b.csv=2", "scanner:a=1")
		require.Equal(t, time.Duration(0), time.Since(r.sink.got[2].File.Received).Truncate(2*time.Second), "it was finished by the rename")
		require.NoError(t, r.s.Rename("/.lftp", "/done"))
		r.pass(time.Second)
		r.wantSent("scanner:d=4", "scanner:b.csv=2", "scanner:a=1", "scanner:done/c=3")
	})
}

// A temporary name that is sent again replaces the one before.
func TestTemporaryNameSentAgain(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a.tmp", "one")
		r.put("/a.tmp", "two")
		require.Equal(t, []string{"a.tmp=two"}, r.waiting())
		r.put("/b.tmp", "three")
		require.NoError(t, r.s.Rename("/b.tmp", "/a.tmp"))
		require.Equal(t, []string{"a.tmp=three"}, r.waiting())
		require.NoError(t, r.s.Rename("/a.tmp", "/a"))
		r.pass(time.Second)
		r.wantSent("scanner:a=three")
	})
}

func TestNameThatIsNoLongerTemporary(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/b.tmp", "1")
		r.put("/a.tmp", "2")
		r.put("/c.part", "3")
		r.pass(time.Hour)
		r.wantSent()
		r.stop()
		r.opts.Ignore = []string{"*.part"}
		r.start()
		r.pass(time.Second)
		r.wantSent("scanner:b.tmp=1", "scanner:a.tmp=2")
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
				r.s = user()
				u := r.begin("/a", Start{}, "1")
				require.False(t, u.Temporary())
				require.NoError(t, u.Commit())
				u = r.begin("/b.tmp", Start{}, "2")
				require.True(t, u.Temporary())
				require.NoError(t, u.Commit())
				write(t, r.fs, "drop/"+dir+"/c", "3")
				r.pass(time.Hour)
				r.wantSent("u:a=1", "u:c=3")
				require.NoError(t, r.s.Rename("/b.tmp", "/b"))
				r.pass(time.Second)
				r.wantSent("u:a=1", "u:c=3", "u:b=2")

				// At the start it is not known yet that the directory is a user's.
				write(t, r.fs, "drop/"+dir+"/d", "4")
				r.put("/e.tmp", "5")
				r.restart()
				r.pass(time.Hour)
				r.wantSent("u:a=1", "u:c=3", "u:b=2")
				r.s = user()
				r.pass(time.Second)
				r.wantSent("u:a=1", "u:c=3", "u:b=2", "u:d=4")
				require.NoError(t, r.s.Rename("/e.tmp", "/e"))
			})
		})
	}
}

func TestRenameKeepsTheDueTime(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a", "1")
		r.put("/b", "2")
		r.pass(900 * time.Millisecond)
		require.NoError(t, r.s.Rename("/a", "/z"))
		require.NoError(t, r.s.Chtimes("/b", time.Unix(1e9, 0)))
		r.pass(100 * time.Millisecond)
		r.wantSent("scanner:z=1", "scanner:b=2")
		require.True(t, r.sink.got[1].ModTime.Equal(time.Unix(1e9, 0)))

		r.put("/c", "3")
		require.NoError(t, r.s.Rename("/c", "/c.tmp")) // taken back
		r.put("/d", "4")
		r.pass(time.Hour)
		r.wantSent("scanner:z=1", "scanner:b=2", "scanner:d=4")
	})
}

// An APPE makes a longer version, of which the settle time is that of the first.
func TestAppendsDoNotRestartTheSettleTime(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a", "0")
		want := "0"
		for i := range 3 {
			r.pass(300 * time.Millisecond)
			more := fmt.Sprint(i)
			require.NoError(t, r.begin("/a", Start{Append: true}, more).Commit())
			want += more
		}
		r.put("/b", "behind")
		r.pass(100 * time.Millisecond)
		r.wantSent("scanner:a=" + want)
	})
}

func TestCameraLoop(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		var want []string
		for i := range 5 {
			for _, name := range []string{"/camera_tmp.jpg", "/shot.jpg"} {
				_ = r.s.Remove(name)
			}
			content := fmt.Sprint(i)
			r.put("/camera_tmp.jpg", content)
			require.NoError(t, r.s.Rename("/camera_tmp.jpg", "/shot.jpg"))
			r.pass(2 * time.Second)
			want = append(want, "scanner:shot.jpg="+content)
		}
		r.wantSent(want...)
	})
}
