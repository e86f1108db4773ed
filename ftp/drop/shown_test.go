package drop

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Clients that have lost their connection ask for the size, take a file of the right one for accepted, and go on with any other.
func TestClientThatGoesOnBySize(t *testing.T) {
	const content = "hello world"
	whole := []string{"scanner:a=" + content}
	for name, before := range map[string]func(r *rig){
		"all came":        func(r *rig) { r.interrupt("/a", Start{}, content) },
		"all but a byte":  func(r *rig) { r.interrupt("/a", Start{}, content[:10]) },
		"one byte came":   func(r *rig) { r.interrupt("/a", Start{}, content[:1]) },
		"still open":      func(r *rig) { r.begin("/a", Start{}, content) },
		"after a restart": func(r *rig) { r.interrupt("/a", Start{}, content); r.restart() },
		"taken back": func(r *rig) {
			u := r.begin("/a", Start{Unread: true}, content)
			require.NoError(t, u.Commit())
			u.Interrupted("a reset")
		},
	} {
		for how, write := range map[string]func(size int64) Start{
			"REST": func(size int64) Start { return Start{Offset: size} },
			"APPE": func(int64) Start { return Start{Append: true} },
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				bubble(t, nil, func(r *rig) {
					before(r)
					size := r.size("/a")
					require.Less(t, size, int64(len(content)), "it would be taken for accepted")
					require.NoError(t, r.begin("/a", write(size), content[size:]).Commit())
					r.pass(time.Minute)
					r.wantSent(whole...)
					require.Equal(t, Usage{}, r.d.Usage())
				})
			})
		}
	}
}

// What a client appends goes where it was told that the file ends only while nothing has come since: what was acknowledged, above all, is never cut.
func TestAppendToWhatHasChangedSince(t *testing.T) {
	const content = "hello world"
	for name, test := range map[string]struct {
		meanwhile func(r *rig, u *Upload)
		want      string
	}{
		"it broke off": {func(r *rig, u *Upload) { require.NoError(r, u.Interrupt(errCut)) }, content},
		"more came":    {func(r *rig, u *Upload) { _, err := u.Write([]byte(content[7:])); require.NoError(r, err) }, content + content[6:]},
		"all came, and was accepted": {func(r *rig, u *Upload) {
			_, err := u.Write([]byte(content[7:]))
			require.NoError(r, err)
			require.NoError(r, u.Commit())
		}, content + content[6:]},
		"it was accepted as it was": {func(r *rig, u *Upload) { require.NoError(r, u.Commit()) }, content[:7] + content[6:]},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				u := r.begin("/a", Start{}, content[:7])
				list, err := r.s.ReadDir("/")
				require.NoError(t, err)
				require.Equal(t, int64(6), list[0].Size())
				test.meanwhile(r, u)
				require.NoError(t, r.begin("/a", Start{Append: true}, content[6:]).Commit())
				r.pass(time.Minute)
				r.wantSent("scanner:a=" + test.want)
			})
		})
	}
}

// What others were told changes nothing; nor does what was told of a file that another has replaced.
func TestAppendWithoutAQuestion(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.interrupt("/a", Start{}, "hello")
		_, err := r.user.Session(netip.MustParseAddr("192.0.2.99")).Stat("/a")
		require.NoError(t, err)
		require.NoError(t, r.begin("/a", Start{Append: true}, " world").Commit())
		r.interrupt("/c", Start{}, "hello world")
		require.Equal(t, int64(10), r.size("/c"))
		r.interrupt("/c", Start{Append: true}, "d, and")
		require.NoError(t, r.begin("/c", Start{Append: true}, " more").Commit(), "it goes on where it was")

		r.interrupt("/b", Start{}, "old and long")
		require.Equal(t, int64(11), r.size("/b"))
		r.interrupt("/b", Start{}, "new")
		require.NoError(t, r.begin("/b", Start{Append: true}, "er").Commit())
		r.pass(time.Minute)
		r.wantSent("scanner:a=hello world", "scanner:c=hello world, and more", "scanner:b=newer")
	})
}

func TestShownSizesAreBounded(t *testing.T) {
	var s shownSizes
	for i := range 2 * maxShown {
		fi := unfinishedInfo(strings.Repeat("x", 1+i%200)+time.Duration(i).String(), 5, time.Now())
		s.note(client{user: "u"}, "u", fi)
	}
	for i := range 2 * maxShownClients {
		s.note(client{remote: netip.AddrFrom4([4]byte{byte(i)})}, "u", unfinishedInfo("a", 5, time.Now()))
	}
	require.LessOrEqual(t, len(s.sizes), maxShown)
	require.LessOrEqual(t, len(s.sizes["u/a"]), maxShownClients)
}
