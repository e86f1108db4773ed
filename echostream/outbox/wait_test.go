package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// What a lane sends while its first entry waits, and what comes when that is over. b is behind it, c is of another lane.
func TestWaits(t *testing.T) {
	for name, c := range map[string]struct {
		first   func(*Item)
		then    func(r *rig, id string) // right after Put
		waiting []string                // at the start
		after   []string                // after a second
		later   func(r *rig, id string)
		all     []string // after that, and another second
	}{
		"nothing":                     {waiting: []string{"a", "b", "c"}},
		"holds its lane back":         {first: func(i *Item) { i.Wait = time.Second }, waiting: []string{"c"}, after: []string{"a", "b"}},
		"yields":                      {first: func(i *Item) { i.Wait, i.Yield = time.Second, true }, waiting: []string{"b", "c"}, after: []string{"a"}},
		"yields, and has no wait":     {first: func(i *Item) { i.Yield = true }, waiting: []string{"a", "b", "c"}},
		"a negative wait":             {first: func(i *Item) { i.Wait = -time.Hour }, waiting: []string{"a", "b", "c"}},
		"suspended from the start":    {first: func(i *Item) { i.Suspended = true }, waiting: []string{"b", "c"}, later: resume(1), all: []string{"a"}},
		"suspended beyond its wait":   {first: func(i *Item) { i.Wait, i.Suspended = time.Second, true }, waiting: []string{"c"}, after: []string{"b"}, later: resume(1), all: []string{"a"}},
		"suspended twice":             {first: func(i *Item) { i.Wait = time.Second }, then: suspend(2), waiting: []string{"c"}, after: []string{"b"}, later: resume(1)},
		"suspended and resumed twice": {first: func(i *Item) { i.Wait = time.Second }, then: suspend(2), waiting: []string{"c"}, after: []string{"b"}, later: resume(2), all: []string{"a"}},
		"resumed within its wait":     {first: func(i *Item) { i.Wait, i.Suspended = time.Second, true }, then: resume(1), waiting: []string{"c"}, after: []string{"a", "b"}},
		"for ever":                    {first: func(i *Item) { i.Wait = Forever }, waiting: []string{"c"}},
		"for ever until an edit": {first: func(i *Item) { i.Wait, i.Yield = Forever, true }, waiting: []string{"b", "c"},
			later: edit(Edit{Wait: ptr(time.Second)}), all: []string{"a"}},
		"an edit makes it longer": {first: func(i *Item) { i.Wait = time.Second }, then: edit(Edit{Wait: ptr(2 * time.Second)}), waiting: []string{"c"},
			all: []string{"a", "b"}},
		"an edit ends it":        {first: func(i *Item) { i.Wait = Forever }, then: edit(Edit{Wait: ptr(time.Duration(0))}), waiting: []string{"a", "b", "c"}},
		"an edit lets it yield":  {first: func(i *Item) { i.Wait = time.Second }, then: edit(Edit{Yield: ptr(true)}), waiting: []string{"b", "c"}, after: []string{"a"}},
		"an edit to a free lane": {first: func(i *Item) { i.Wait = time.Second }, then: edit(Edit{Lane: ptr("free")}), waiting: []string{"b", "c"}, after: []string{"a"}},
		"an edit to the end":     {first: func(i *Item) { i.Wait = time.Second }, then: edit(Edit{Last: true}), waiting: []string{"b", "c"}, after: []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, disktest.New(1), "t").open()
				entries := r.take(r.item("a", c.first), r.item("b", nil), r.item("c", func(i *Item) { i.Lane = "other" }))
				if c.then != nil {
					c.then(r, entries[0].ID)
				}
				r.run()
				seen := 0
				arrived := func() []string {
					synctest.Wait()
					names := r.cloud.got("t")[seen:]
					seen += len(names)
					// Lanes have no order between them.
					slices.SortStableFunc(names, func(a, b string) int { return strings.Compare(laneOrder(a), laneOrder(b)) })
					return slices.Concat(names)
				}
				assert.Equal(t, slices.Concat(c.waiting), arrived(), "at once")
				time.Sleep(time.Second - 1)
				assert.Empty(t, arrived(), "before a second is over")
				time.Sleep(time.Nanosecond)
				assert.Equal(t, slices.Concat(c.after), arrived(), "after a second")
				if c.later != nil {
					c.later(r, entries[0].ID)
				}
				time.Sleep(time.Second)
				assert.Equal(t, slices.Concat(c.all), arrived(), "later")
				r.halt()
			})
		})
	}
}

func laneOrder(name string) string {
	if name == "c" {
		return "2"
	}
	return "1"
}

func suspend(n int) func(r *rig, id string) {
	return func(r *rig, id string) {
		for range n {
			require.NoError(r.t, r.Suspend(id))
		}
	}
}

func resume(n int) func(r *rig, id string) {
	return func(r *rig, id string) {
		for range n {
			r.Resume(id)
		}
	}
}

func edit(e Edit) func(r *rig, id string) {
	return func(r *rig, id string) {
		e.ID = id
		require.NoError(r.t, r.Edit([]Edit{e}, nil))
	}
}

func TestWaitGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "t").open()
		entries := r.take(r.item("a", func(i *Item) { i.Wait = 10 * time.Second }), r.item("b", nil),
			r.item("held", func(i *Item) { i.Wait, i.Yield = Forever, true }), r.item("suspended", func(i *Item) { i.Suspended = true; i.Lane = "x" }))
		until := entries[0].Until
		assert.Equal(t, 10*time.Second, time.Until(until))
		time.Sleep(4 * time.Second)
		r.crash(disktest.Killed()).run()
		assert.True(t, until.Equal(r.lookup("user/a").Until))
		synctest.Wait()
		assert.Equal(t, []string{"suspended"}, r.cloud.got("t"), "a restart ends a Suspend")
		time.Sleep(6*time.Second - 1)
		synctest.Wait()
		assert.Len(t, r.cloud.got("t"), 1)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, []string{"suspended", "a", "b"}, r.cloud.got("t"))
		time.Sleep(1000 * time.Hour)
		r.open()
		held := r.lookup("user/held")
		assert.False(t, held.Due)
		assert.True(t, held.Yield)
		assert.Zero(t, held.Until)
		r.halt()
	})
}

// An owner has all of a Wait to change an entry in, and whoever holds back others must not be passed only because the disk was slow.
func TestWaitBeginsWhenPutReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "t").open().run()
		slow := r.item("slow", func(i *Item) { i.Wait, i.Suspended = time.Second, true })
		f, err := r.fs.OpenFile(slow.Path, os.O_RDWR, 0)
		require.NoError(t, err)
		slow.File = slowFile{f, new(atomic.Bool)}
		entries := r.take(slow)
		assert.Equal(t, time.Second, time.Until(entries[0].Until))
		r.take(r.item("next", nil))
		r.Resume(entries[0].ID)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"slow", "next"}, r.cloud.got("t"))
		r.halt()
	})
}

// The clock may be set between two lives: a wait is never longer than it was asked for.
func TestWaitAfterTheClockWasSet(t *testing.T) {
	for name, c := range map[string]struct{ until, want time.Duration }{
		"as it was":    {4 * time.Second, 4 * time.Second},
		"back":         {time.Hour, 10 * time.Second},
		"years back":   {200 * 365 * 24 * time.Hour, 10 * time.Second},
		"on":           {-time.Hour, 0},
		"far too late": {-100 * 365 * 24 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := disktest.New(1)
				const id = "0123456789ab4def8123456789abcdef"
				require.NoError(t, disk.MkdirAll(fsys, "outbox", 0o700))
				now := time.Now()
				lines := slices.Concat(lineOfJSON(header{Format: format, Next: 2}), lineOfJSON(record{
					Seq: 1, ID: id, Name: "a", Size: 1, Accepted: now, ModTime: now, Wait: 10 * time.Second, Until: now.Add(c.until),
				}))
				require.NoError(t, writeFile(fsys, "outbox/0000000000000001.journal", string(lines)))
				require.NoError(t, writeFile(fsys, "outbox/"+baseName(1, id)+dataSuffix, "a"))
				r := newRig(t, fsys, "t").open().run()
				for len(r.cloud.got("t")) == 0 {
					time.Sleep(500 * time.Millisecond)
					synctest.Wait()
					require.Less(t, time.Since(now), time.Minute)
				}
				assert.InDelta(t, c.want.Seconds(), time.Since(now).Seconds(), 0.5)
				r.halt()
			})
		})
	}
}

// A version of a key that neither yields nor is suspended waits for nothing more when a newer one is there.
func TestNewVersionEndsTheWaitOfTheOlder(t *testing.T) {
	wait := func(i *Item) { i.Wait = time.Hour; i.Key = "user/k" }
	versions := map[string]func(r *rig){
		"put": func(r *rig) { r.take(r.item("new", wait)) },
		"edit": func(r *rig) {
			e := r.take(r.item("new", func(i *Item) { i.Wait = time.Hour }))
			require.NoError(r.t, r.Edit([]Edit{{ID: e[0].ID, Key: ptr("user/k")}}, nil))
		},
	}
	for name, c := range map[string]struct {
		old func(*Item)
		due bool
	}{
		"waits":                {old: wait, due: true},
		"waits for ever":       {old: func(i *Item) { wait(i); i.Wait = Forever }, due: true},
		"yields":               {old: func(i *Item) { wait(i); i.Yield = true }},
		"is suspended":         {old: func(i *Item) { wait(i); i.Suspended = true }},
		"suspended, and waits": {old: func(i *Item) { i.Key = "user/k"; i.Suspended = true }},
	} {
		for how, newer := range versions {
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, disktest.New(1), "t").open().run()
					old := r.take(r.item("old", c.old))[0]
					newer(r)
					synctest.Wait()
					var want []string
					if c.due {
						want = []string{"old"}
					}
					assert.Equal(t, want, r.cloud.got("t"))
					assert.Equal(t, "new", r.lookup("user/k").Name)
					if !c.due {
						// What held it ends: then the newer one is there.
						if r.Resume(old.ID); old.Yield {
							require.NoError(t, r.Edit([]Edit{{ID: old.ID, Yield: ptr(false)}}, nil))
						}
						synctest.Wait()
						assert.Equal(t, []string{"old"}, r.cloud.got("t"))
					}
					time.Sleep(time.Hour)
					synctest.Wait()
					assert.Equal(t, []string{"old", "new"}, r.cloud.got("t"))
					r.halt()
				})
			})
		}
	}
}

// A restart finds the older version due, too.
func TestOlderVersionIsDueAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "t").open()
		for _, name := range []string{"1", "2", "3"} {
			r.take(r.item(name, func(i *Item) { i.Wait = time.Hour; i.Key = "user/k" }))
		}
		r.crash(disktest.Nothing()).run()
		synctest.Wait()
		assert.Equal(t, []string{"1", "2"}, r.cloud.got("t"))
		assert.Equal(t, "3", r.lookup("user/k").Name)
		r.halt()
	})
}

func TestViews(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys).open()
		wait := func(key string) func(*Item) {
			return func(i *Item) { i.Wait, i.Yield, i.Key = Forever, true, key }
		}
		r.take(r.item("1", wait("u/a")), r.item("22", wait("u/d/b")), r.item("333", wait("u/a")), r.item("4", wait("v/a")), r.item("5", wait("")))
		r.take(r.item("6", wait("u/d/e/f")), r.item("7", wait("ud/x")))
		names := func(entries []Entry) (names []string) {
			for _, e := range entries {
				names = append(names, e.Name)
			}
			return names
		}
		for range 2 {
			for key, want := range map[string]string{"u/a": "333", "u/d/b": "22", "v/a": "4", "u/d/e/f": "6"} {
				assert.Equal(t, want, r.lookup(key).Name)
			}
			for _, key := range []string{"", "u", "u/d", "u/a/", "a"} {
				_, ok := r.Lookup(key)
				assert.False(t, ok, key)
			}
			for dir, want := range map[string][]string{"u": {"333"}, "u/d": {"22"}, "u/d/e": {"6"}, "v": {"4"}, "": nil, "none": nil} {
				assert.Equal(t, want, names(slices.Collect(r.List(dir))), dir)
			}
			for dir, want := range map[string][]string{"u": {"1", "22", "333", "6"}, "u/d": {"22", "6"}, "v": {"4"}, "u/a": nil, "": {"1", "22", "333", "4", "6", "7"}} {
				assert.Equal(t, want, names(r.Below(dir)), dir)
			}
			const each = int64(len("content of "))
			for top, want := range map[string][2]int64{"u": {4, 4*each + 7}, "v": {1, each + 1}, "ud": {1, each + 1}, "none": {0, 0}, "": {7, 7*each + 10}} {
				files, bytes := r.Usage(top)
				assert.Equal(t, want, [2]int64{int64(files), bytes}, top)
			}
			r.open()
		}
		newest := r.lookup("u/a")
		require.NoError(t, r.Withdraw(newest.ID, ""))
		assert.Equal(t, "1", r.lookup("u/a").Name, "the version before it shows again")
		require.NoError(t, r.Withdraw(r.lookup("u/a").ID, ""))
		assert.Empty(t, slices.Collect(r.List("u")))
		_, ok := r.Lookup("u/a")
		assert.False(t, ok)
		files, bytes := r.Usage("u")
		assert.Equal(t, []int64{2, 2*11 + 3}, []int64{int64(files), bytes})
	})
}

func TestLeftAndOpenFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "t").open().run()
		e := r.take(r.item("a", func(i *Item) { i.Wait = time.Second }), r.item("w", func(i *Item) { i.Wait = time.Second; i.Yield = true }))
		for _, one := range e {
			_, ok := r.Left(one.ID)
			assert.False(t, ok)
			f, err := r.OpenFile(one.ID)
			require.NoError(t, err)
			buf := make([]byte, 64)
			n, _ := f.Read(buf)
			assert.Equal(t, "content of "+one.Name, string(buf[:n]))
			require.NoError(t, f.Close())
		}
		require.NoError(t, r.Withdraw(e[1].ID, ""))
		time.Sleep(time.Second)
		synctest.Wait()
		for i, ago := range []time.Duration{0, time.Second} {
			at, ok := r.Left(e[i].ID)
			assert.True(t, ok)
			assert.Equal(t, ago, time.Since(at))
			_, err := r.OpenFile(e[i].ID)
			assert.ErrorIs(t, err, fs.ErrNotExist)
		}
		time.Sleep(time.Minute - 1)
		_, ok := r.Left(e[0].ID)
		assert.True(t, ok)
		time.Sleep(time.Nanosecond)
		_, ok = r.Left(e[0].ID)
		assert.False(t, ok)
		r.take(r.item("b", nil))
		synctest.Wait()
		assert.Len(t, r.lefts, 1, "what left long ago is forgotten")
		r.halt()
	})
}

// A version of this package without keys has written entries: their owner tells the keys.
func TestKeyOf(t *testing.T) {
	fsys := disktest.New(1)
	const id = "0123456789ab4def8123456789abcdef"
	require.NoError(t, disk.MkdirAll(fsys, "outbox", 0o700))
	lines := slices.Concat(lineOfJSON(header{Format: 1, Next: 2}), lineOfJSON(record{Seq: 1, ID: id, Name: "a", Size: 1, Meta: json.RawMessage(`"u"`)}))
	require.NoError(t, writeFile(fsys, "outbox/0000000000000001.journal", string(lines)))
	require.NoError(t, writeFile(fsys, "outbox/"+baseName(1, id)+dataSuffix, "a"))
	r := newRig(t, fsys)
	r.opts.KeyOf = func(e Entry) string { return fmt.Sprintf("%s/%s", strings.Trim(string(e.Meta), `"`), e.Name) }
	r.open()
	assert.Equal(t, id, r.lookup("u/a").ID)
	r.take(r.item("a", func(i *Item) { i.Key = "u/b" }))
	r.open()
	assert.True(t, r.lookup("u/b").Due)
}

// unknown says that the target may have taken the entry.
type unknown string

func (u unknown) Error() string { return string(u) }
func (unknown) Unknown() bool   { return true }

// SQS knows a message again for five minutes: what it may have taken is tried again well within them, whatever the back-off says, and although
// the target has been in trouble for hours, so that its gate lets one call at a time through, and seldom.
func TestUnknownOutcomesAreTriedAgainSoon(t *testing.T) {
	for name, trouble := range map[string]time.Duration{"at once": 0, "in trouble for hours": 5 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, disktest.New(1), "t")
				r.opts.MinBackoff, r.opts.MaxBackoff = 0, 0 // the defaults
				r.open()
				begin := time.Now()
				var first time.Time
				r.cloud.onSend = func(_ context.Context, _ string, names []string) error {
					if names[0] == "x" {
						r.cloud.mu.Lock()
						defer r.cloud.mu.Unlock()
						r.cloud.calls = append(r.cloud.calls, call{"x", names, time.Now()})
						if first.IsZero() && time.Since(begin) >= trouble {
							first = time.Now()
							return unknown("its reply was lost")
						}
					}
					return errDown
				}
				var items []Item
				for _, name := range append(numbered("f", 20), "x") {
					items = append(items, r.item(name, func(i *Item) { i.Lane = name }))
				}
				r.take(items...)
				r.run()
				time.Sleep(trouble)
				lost := func() bool {
					r.cloud.mu.Lock()
					defer r.cloud.mu.Unlock()
					return !first.IsZero()
				}
				for range 1000 { // it is chance which of the lanes goes through the gate, every few minutes
					time.Sleep(time.Hour)
					if synctest.Wait(); lost() {
						break
					}
				}
				require.True(t, lost())
				time.Sleep(time.Hour)
				synctest.Wait()
				var last time.Time
				within := 0
				for _, c := range r.cloud.sends("x") {
					if c.at.Before(first) || c.at.Sub(first) > 5*time.Minute {
						continue
					}
					if !last.IsZero() {
						within++
						assert.LessOrEqual(t, c.at.Sub(last), 20*time.Second, "%v after the first", c.at.Sub(first))
					}
					last = c.at
				}
				assert.GreaterOrEqual(t, within, 14)
				assert.GreaterOrEqual(t, last.Sub(first), 4*time.Minute+40*time.Second)
				r.halt()
			})
		})
	}
}

// A journal is read in pieces, wherever its lines end.
func TestLongJournals(t *testing.T) {
	r := newRig(t, disktest.New(1), "t").open()
	var names []string
	for i := range 3000 {
		names = append(names, fmt.Sprintf("%d-%s", i, strings.Repeat("x", i%97)))
	}
	r.put(names...)
	meta, err := json.Marshal(strings.Repeat("y", 3*chunk))
	require.NoError(t, err)
	r.take(r.item("large", func(i *Item) { i.Meta = meta }))
	r.put("last")
	before := slices.Collect(r.Entries())
	require.Len(t, before, len(names)+2)
	r.open()
	after := slices.Collect(r.Entries())
	require.Len(t, after, len(before))
	for i := range before {
		assert.Equal(t, before[i].ID, after[i].ID)
		assert.Equal(t, before[i].Name, after[i].Name)
		assert.Equal(t, string(before[i].Meta), string(after[i].Meta))
	}
}
