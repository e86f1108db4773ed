package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestPutAndDeliver(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a", "b").open().run()
		names := numbered("file", 100)
		entries := r.put(names...)
		r.empty()
		assert.Equal(t, names, r.cloud.got("a"))
		assert.Equal(t, names, r.cloud.got("b"))
		assert.Equal(t, names, r.cloud.audited)
		for i, p := range r.cloud.received["a"] {
			assert.Equal(t, payload("content of "+names[i]), p.Payload)
			assert.Equal(t, entries[i], p.Entry)
			assert.Regexp(t, "^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$", p.Entry.ID)
		}
		for _, c := range r.cloud.sends("a") {
			assert.LessOrEqual(t, len(c.names), 10)
		}
		r.eventually(func() bool { return len(r.goneList()) == 100 }, "Gone was not called")
		assert.Equal(t, "delivered file000", r.goneList()[0])
		assert.Empty(t, r.files("outbox", dataSuffix))
		assert.Empty(t, r.files("drop", ""))
		delivered := r.log.lines("File delivered")
		require.Len(t, delivered, 100)
		assert.Contains(t, delivered[0], "trackingId="+entries[0].ID+" name=file000 bytes=18 attempts=1 waited=")
	})
}

func TestEntriesSurviveRestarts(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a").open()
		modified := time.Date(2026, 11, 7, 16, 5, 9, 123000000, time.UTC)
		item := r.write("sub/ä \xff\n\".csv", "1;2\r\n")
		require.NoError(t, fsys.Chtimes(item.Path, modified))
		item.Lane, item.Meta = "user \xfe", json.RawMessage(`{"user":"x<y","n":[1,2]}`)
		first, errs := r.Put(t.Context(), []Item{item})
		require.NoError(t, errs[0])
		second := r.put("second")

		for range 3 {
			r.open()
			waiting := slices.Collect(r.Entries())
			require.Len(t, waiting, 2)
			assert.JSONEq(t, string(item.Meta), string(waiting[0].Meta))
			waiting[0].Meta = first[0].Meta
			assert.Equal(t, []Entry{first[0], second[0]}, waiting)
			assert.Equal(t, Stats{Entries: 2, Bytes: 5 + 17, Oldest: first[0].Accepted}, r.totals())
		}
		assert.Equal(t, item.Name, first[0].Name)
		assert.True(t, first[0].ModTime.Equal(modified))
		assert.EqualValues(t, 5, first[0].Size)
		third := r.put("third")
		assert.Greater(t, third[0].Path, second[0].Path, "numbers rise over restarts")
		r.run().empty()
		assert.ElementsMatch(t, []string{item.Name, "second", "third"}, r.cloud.got("a"))

		last := path.Base(r.open().put("fourth")[0].Path)
		assert.Greater(t, last, path.Base(third[0].Path), "numbers rise though nothing was left")
	})
}

func TestPutErrorsLeaveFilesInPlace(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys, "a").open()
	good, bad, meta := r.write("good", "1"), r.write("bad", "2"), r.write("meta", "3")
	meta.Meta = json.RawMessage(`{"broken`)
	require.NoError(t, fsys.Mkdir("drop/directory", 0o700))
	fsys.Inject(disktest.Fault{Kind: disktest.Rename, Path: bad.Path})
	entries, errs := r.Put(t.Context(), []Item{good, bad, meta, {Path: "drop/none"}, {Path: "drop/directory", Name: "d"}})
	require.NoError(t, errs[0])
	for i, err := range errs[1:] {
		require.Error(t, err, i)
		assert.Empty(t, entries[i+1], i)
	}
	assert.ErrorContains(t, errs[4], "expected a regular file")
	for _, name := range []string{bad.Path, meta.Path, "drop/directory"} {
		_, err := fsys.Lstat(name)
		assert.NoError(t, err)
	}
	assert.Equal(t, 1, r.Stats().Entries)
	r.open()
	assert.Equal(t, 1, r.Stats().Entries)

	// A journal that cannot be written or synced is left alone for good, and the next Put has a new one.
	for _, kind := range []disktest.Kind{disktest.Write, disktest.Sync, disktest.Create} {
		item := r.write(fmt.Sprint("again", kind), "4")
		fsys.Inject(disktest.Fault{Kind: kind, Path: "outbox/*.journal"})
		_, errs = r.Put(t.Context(), []Item{item})
		if kind != disktest.Create { // a segment that is sound needs no new one
			require.Error(t, errs[0], kind)
			_, err := fsys.Lstat(item.Path)
			require.NoError(t, err, kind)
		}
		fsys.Heal()
		if errs[0] != nil {
			_, errs = r.Put(t.Context(), []Item{item})
		}
		require.NoError(t, errs[0], kind)
	}
	r.open().run().empty()
	assert.Equal(t, 4, len(r.cloud.got("a")))
}

func TestNoEntryWithoutADurablePlace(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys, "a").open().run()
	r.put("first")
	r.empty()
	fsys.Inject(disktest.Fault{Kind: disktest.SyncDir, Path: "outbox", Forever: true})
	item := r.write("second", "2")
	_, errs := r.Put(t.Context(), []Item{item})
	require.Error(t, errs[0])
	assert.Zero(t, r.Stats().Entries)
	_, err := fsys.Lstat(item.Path)
	require.NoError(t, err, "the file stands where it stood")
	fsys.Heal()
	_, errs = r.Put(t.Context(), []Item{item})
	require.NoError(t, errs[0])
	r.empty()
	assert.Equal(t, []string{"first", "second"}, r.cloud.got("a"))
	r.open()
	assert.Equal(t, Stats{}, r.totals())
}

func TestPartialFailureIsRetriedAloneAndInOrder(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a").open()
		names := numbered("f", 14)
		r.put(names...)
		r.cloud.script("send a f003", errDown, errDown)
		r.cloud.script("send a f007", errDown)
		r.run().empty()
		var calls [][]string
		for _, c := range r.cloud.sends("a") {
			calls = append(calls, c.names)
		}
		assert.Equal(t, [][]string{names[:10], {"f003", "f007"}, {"f003"}, names[10:]}, calls)
		r.eventually(func() bool { return len(r.log.lines("Sending works again")) > 0 }, "no word of the end of the trouble")
		assert.Contains(t, r.log.lines("Sending fails")[0], "target=a")
		r.eventually(func() bool { return len(r.log.lines("File delivered")) == 14 }, "not all deliveries are logged")
		for _, line := range r.log.lines("name=f003 ") {
			if strings.Contains(line, "File delivered") {
				assert.Contains(t, line, "attempts=3")
			}
		}
	})
}

func TestBrokenTargetHoldsNoOtherUp(t *testing.T) {
	r := newRig(t, disktest.New(1), "a", "b").open()
	var mu sync.Mutex
	down := true
	r.cloud.onSend = func(_ context.Context, target string, _ []string) error {
		mu.Lock()
		defer mu.Unlock()
		if down && target == "b" {
			return errDown
		}
		return nil
	}
	names := numbered("f", 300)
	r.put(names...)
	r.run()
	r.eventually(func() bool { return len(r.cloud.got("a")) == len(names) }, "a did not get all")
	assert.Equal(t, names, r.cloud.got("a"))
	assert.Equal(t, len(names), r.Stats().Entries)
	o := r.Outbox
	o.mu.Lock()
	flights := len(o.preps)
	o.mu.Unlock()
	assert.LessOrEqual(t, flights, maxLag+2*o.opts.Batch, "payloads of entries that wait for b alone are not all kept")

	r.open() // a restart remembers what a has
	mu.Lock()
	down = false
	mu.Unlock()
	r.run().empty()
	assert.Equal(t, names, r.cloud.got("a"), "a gets nothing twice")
	assert.Equal(t, names, r.cloud.got("b"))
}

func TestLanesAreIndependent(t *testing.T) {
	r := newRig(t, disktest.New(1), "a").open()
	var items []Item
	for i := range 40 {
		item := r.write(fmt.Sprintf("%d/%02d", i%2, i), "x")
		item.Lane = fmt.Sprint(i % 2)
		items = append(items, item)
	}
	_, errs := r.Put(t.Context(), items)
	require.Equal(t, make([]error, 40), errs)
	free := make(chan struct{})
	r.cloud.onSend = func(ctx context.Context, _ string, names []string) error {
		if strings.HasPrefix(names[0], "0/") {
			<-free
		}
		return nil
	}
	r.run()
	r.eventually(func() bool { return r.Stats().Entries == 20 }, "lane 1 waits for lane 0")
	close(free)
	r.empty()
	var zero, one []string
	for _, name := range r.cloud.got("a") {
		if strings.HasPrefix(name, "0/") {
			zero = append(zero, name)
		} else {
			one = append(one, name)
		}
	}
	assert.Len(t, zero, 20)
	assert.IsIncreasing(t, zero)
	assert.IsIncreasing(t, one)
	o := r.Outbox
	r.eventually(func() bool { o.mu.Lock(); defer o.mu.Unlock(); return len(o.lanes) == 0 }, "empty lanes are kept")
}

func TestPermanentFailures(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a", "b").open()
		r.cloud.script("prepare huge", permanent("too large"))
		r.cloud.script("send b refused", permanent("bad content"))
		r.cloud.script("audit unaudited", permanent("bad record"))
		entries := r.put("one", "huge", "refused", "unaudited", "two")
		r.run().empty()
		assert.Equal(t, []string{"one", "refused", "unaudited", "two"}, r.cloud.got("a"))
		assert.Equal(t, []string{"one", "unaudited", "two"}, r.cloud.got("b"))
		assert.ElementsMatch(t, []string{"one", "two"}, r.cloud.audited)
		assert.Equal(t, Stats{Failed: 3}, r.totals())
		assert.Empty(t, r.files("outbox", dataSuffix))
		assert.Len(t, r.files("failed", ""), 6)
		r.eventually(func() bool { return len(r.goneList()) == 5 }, "Gone was not called")
		assert.Contains(t, r.goneList(), "failed huge")

		data, err := readFile(fsys, path.Join("failed", path.Base(entries[2].Path)))
		require.NoError(t, err)
		assert.Equal(t, "content of refused", data)
		aside := readAside(t, fsys, entries[2])
		assert.Equal(t, "refused", aside.Name)
		assert.Equal(t, []string{"a"}, aside.Acked)
		assert.Equal(t, []Refusal{{"b", "bad content"}}, aside.Refused)
		assert.Equal(t, "bad content", aside.Failure.Error)
		assert.Equal(t, 1, aside.Failure.Attempts)
		assert.False(t, aside.Failure.Time.IsZero())
		assert.Equal(t, "too large", readAside(t, fsys, entries[1]).Failure.Error)
		assert.Len(t, r.log.lines("level=ERROR msg=\"File cannot be delivered and was set aside\""), 3)

		// An operator moves the files back while the node is stopped.
		r.halt()
		for _, name := range r.files("failed", "") {
			require.NoError(t, fsys.Rename("failed/"+name, "outbox/"+name))
		}
		r.open().run().empty()
		assert.Equal(t, []string{"one", "refused", "unaudited", "two", "huge"}, r.cloud.got("a"))
		assert.Equal(t, []string{"one", "unaudited", "two", "huge", "refused"}, r.cloud.got("b"), "only what b had refused")
		assert.Equal(t, entries[2].ID, r.cloud.received["b"][4].Entry.ID)
		assert.Equal(t, Stats{}, r.totals())
		assert.Empty(t, r.files("outbox", recordSuffix))
	})
}

func readAside(t *testing.T, fsys disk.FS, e Entry) setAside {
	t.Helper()
	name := path.Join("failed", strings.TrimSuffix(path.Base(e.Path), dataSuffix)+recordSuffix)
	data, err := readFile(fsys, name)
	require.NoError(t, err)
	aside, err := decodeSetAside(name, []byte(data))
	require.NoError(t, err)
	return aside
}

func TestAuditIsRetriedWithoutSendingAgain(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a").open()
		var mu sync.Mutex
		tries := 0
		r.cloud.onAudit = func(context.Context, []string) error {
			mu.Lock()
			defer mu.Unlock()
			tries++
			return errDown
		}
		names := numbered("f", 25)
		r.put(names...)
		r.run()
		r.eventually(func() bool {
			mu.Lock()
			defer mu.Unlock()
			return tries > 5 && len(r.cloud.got("a")) == 25
		}, "audit is not retried")
		assert.Equal(t, 25, r.Stats().Entries)
		o := r.Outbox
		r.eventually(func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.unsettled == 0 }, "sent is not recorded")
		r.open()
		r.cloud.onAudit = nil
		r.run().empty()
		assert.Equal(t, names, r.cloud.got("a"))
		assert.ElementsMatch(t, names, r.cloud.audited)
	})
}

func TestNoTargets(t *testing.T) {
	r := newRig(t, disktest.New(1)).open().run()
	r.put("one")
	r.eventually(func() bool { return len(r.log.lines("No targets")) == 1 }, "no warning")
	r.Wake()
	r.put("two")
	r.cloud.setTargets("a", "b")
	r.Wake()
	r.empty()
	assert.Equal(t, []string{"one", "two"}, r.cloud.got("b"))
	r.cloud.setTargets()
	r.Wake()
	r.eventually(func() bool { return len(r.log.lines("No targets")) == 2 }, "no second warning")
	assert.Len(t, r.log.lines("Sending to targets"), 1)
}

func TestTargetsChangeUnderWay(t *testing.T) {
	r := newRig(t, disktest.New(1), "a", "b").open()
	down := func(_ context.Context, target string, _ []string) error {
		if target == "b" {
			return errDown
		}
		return nil
	}
	r.cloud.onSend = down
	names := numbered("f", 15)
	r.put(names...)
	r.run()
	r.eventually(func() bool { return len(r.cloud.got("a")) == 15 }, "a did not get all")
	// b's edge is removed, which the failing Send makes the outbox find out by itself; a new one comes.
	r.cloud.setTargets("a", "c")
	r.empty()
	assert.Equal(t, names, r.cloud.got("a"))
	assert.Equal(t, names, r.cloud.got("c"))
	assert.Empty(t, r.cloud.got("b"))
}

// A target that gets another name is not sent again what it has, and one that gets its name is sent all that waits; also when a restart comes between, and
// after a version that noted names only.
func TestTargetsAreKnownByTheirIdentity(t *testing.T) {
	for name, c := range map[string]struct {
		before, after map[string]string // identities, by name
		want          map[string]int    // copies
	}{
		"the same":              {map[string]string{"a": "1", "b": "2"}, map[string]string{"a": "1", "b": "2"}, map[string]int{"a": 1, "b": 1}},
		"another with its name": {map[string]string{"a": "1", "b": "2"}, map[string]string{"a": "3", "b": "2"}, map[string]int{"a": 2, "b": 1}},
		"moved":                 {map[string]string{"a": "1", "b": "2"}, map[string]string{"c": "1", "b": "2"}, map[string]int{"a": 1, "b": 1}},
		"moved, and another":    {map[string]string{"a": "1", "b": "2"}, map[string]string{"c": "1", "a": "3", "b": "2"}, map[string]int{"a": 2, "b": 1}},
		"an older version":      {nil, map[string]string{"a": "1", "b": "2"}, map[string]int{"a": 1, "b": 1}},
	} {
		for what, restart := range map[string]bool{"": false, ", with a restart": true} {
			if c.before == nil && !restart {
				continue
			}
			t.Run(name+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, disktest.New(1), "a", "b")
					r.cloud.identities = c.before
					r.cloud.onSend = func(_ context.Context, target string, _ []string) error {
						if target == "b" {
							return errDown
						}
						return nil
					}
					r.open()
					r.put("f")
					r.run()
					time.Sleep(time.Second)
					if restart {
						r.halt()
					}
					r.cloud.mu.Lock()
					r.cloud.targets, r.cloud.identities, r.cloud.onSend = slices.Collect(maps.Keys(c.after)), c.after, nil
					r.cloud.mu.Unlock()
					if restart {
						r.open().run()
					} else {
						r.Wake()
					}
					time.Sleep(time.Minute)
					synctest.Wait()
					assert.Zero(t, r.Stats().Entries)
					got := map[string]int{}
					for target, all := range r.cloud.received {
						got[target] = len(all)
					}
					assert.Equal(t, c.want, got)
					r.halt()
				})
			})
		}
	}
}

// An entry does not leave without a target that is there by now, although those of before have it.
func TestTargetThatComesWhileTheOthersAreSentTo(t *testing.T) {
	for range 20 {
		r := newRig(t, disktest.New(1), "a").open()
		r.cloud.onSend = func(_ context.Context, target string, _ []string) error {
			if target == "a" {
				r.cloud.setTargets("a", "new")
				r.Wake()
			}
			return nil
		}
		r.put("f")
		r.run().empty()
		assert.Equal(t, []string{"f"}, r.cloud.got("a"))
		assert.Equal(t, []string{"f"}, r.cloud.got("new"))
		r.halt()
	}
}

func TestPanicsAndWrongResultsAreRetried(t *testing.T) {
	r := newRig(t, disktest.New(1), "a").open()
	var mu sync.Mutex
	count := map[string]int{}
	once := func(key string) {
		mu.Lock()
		count[key]++
		first := count[key] == 1
		mu.Unlock()
		if first {
			panic("scripted")
		}
	}
	r.cloud.onPrepare = func(context.Context, Entry) error { once("prepare"); return nil }
	r.cloud.onSend = func(context.Context, string, []string) error { once("send"); return nil }
	r.cloud.onAudit = func(context.Context, []string) error { once("audit"); return nil }
	r.put("one")
	r.run().empty()
	assert.Equal(t, map[string]int{"prepare": 2, "send": 2, "audit": 2}, count)
	r.eventually(func() bool { return len(r.log.lines("panic in Send: scripted")) > 0 }, "the panic is not logged")

	errs := results("Send", 2, func() []error { return shortSender{r.cloud}.Send(t.Context(), "a", nil) })
	require.Len(t, errs, 2)
	assert.ErrorContains(t, errs[1], "Send gave 1 results, expected 2")
}

type shortSender struct{ *cloud }

func (shortSender) Send(context.Context, string, []Prepared) []error { return make([]error, 1) }

func TestStalePayloadIsMadeAnew(t *testing.T) {
	r := newRig(t, disktest.New(1), "a").open()
	r.cloud.script("send a one", stale("the URL has expired"), errDown)
	r.put("one")
	r.run().empty()
	assert.Equal(t, 2, r.cloud.prepared["one"], "anew after stale, kept after another error")
	assert.Len(t, r.cloud.sends("a"), 3)
}

// Streams of one lane are never side by side for long.
func TestStreamThatLagsFindsThePayloads(t *testing.T) {
	r := newRig(t, disktest.New(1), "a", "b").open()
	ahead := make(chan struct{})
	r.cloud.onSend = func(_ context.Context, target string, _ []string) error {
		if target == "b" {
			<-ahead
		}
		return nil
	}
	var names []string
	for i := range 80 {
		names = append(names, fmt.Sprintf("file-%02d", i))
		r.put(names[i])
	}
	r.run()
	r.eventually(func() bool { return len(r.cloud.got("a")) == len(names) }, "a does not get them")
	close(ahead)
	r.empty()
	for _, name := range names {
		assert.Equal(t, 1, r.cloud.prepared[name], name)
	}
}

func TestDamagedFilesAreNeverSent(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a").open()
		entries := r.put("cut", "taken", "good")
		f, err := fsys.OpenFile(entries[0].Path, os.O_RDWR, 0)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(3))
		require.NoError(t, f.Close())
		require.NoError(t, fsys.Remove(entries[1].Path))
		r.run().empty()
		assert.Equal(t, []string{"good"}, r.cloud.got("a"))
		assert.Contains(t, readAside(t, fsys, entries[0]).Failure.Error, "holds 3 bytes, expected the 14")
		assert.Contains(t, readAside(t, fsys, entries[1]).Failure.Error, "was taken out of the outbox")
	})
}

func TestBackoffDoublesAndWakeCutsItShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "a")
		r.opts.MinBackoff, r.opts.MaxBackoff = 0, 0 // the defaults
		r.open()
		script := slices.Repeat([]error{errDown}, 2000)
		r.cloud.script("send a one", script...)
		r.put("one")
		r.run()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		calls := r.cloud.sends("a")
		// Once it has grown, a pause is 2.5 to 5 minutes, and the longer one of the lane's and the target's counts.
		assert.Greater(t, len(calls), 24*60/5)
		assert.Less(t, len(calls), 900)
		for i := range calls[1:] {
			bound := min(5*time.Minute, time.Second<<min(i, 20))
			if i >= 3 {
				bound = 5 * time.Minute // the target's pause is added to the lane's
			}
			assert.LessOrEqual(t, calls[i+1].at.Sub(calls[i].at), bound+time.Millisecond, i)
		}
		lines := r.log.lines("Sending fails")
		assert.Greater(t, len(lines), 10, "a day of trouble is told again and again")
		assert.Less(t, len(lines), 40, "but not with each attempt")
		assert.Contains(t, lines[len(lines)-1], "failures=")
		assert.Contains(t, lines[len(lines)-1], "since=")

		r.cloud.script("send a one")
		before := time.Now()
		r.Wake()
		synctest.Wait()
		assert.Equal(t, before, time.Now(), "at once")
		assert.Equal(t, 0, r.Stats().Entries)
		assert.Len(t, r.log.lines("Sending works again"), 1)
		r.halt()
	})
}

func TestManyLanesProbeABrokenTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "a")
		r.opts.MinBackoff, r.opts.MaxBackoff = 0, 0
		r.open()
		var mu sync.Mutex
		tries, down := 0, true
		r.cloud.onSend = func(context.Context, string, []string) error {
			mu.Lock()
			defer mu.Unlock()
			if tries++; down {
				return errDown
			}
			return nil
		}
		var items []Item
		for _, name := range numbered("f", 500) {
			item := r.write(name, "x")
			item.Lane = name
			items = append(items, item)
		}
		_, errs := r.Put(t.Context(), items)
		require.Equal(t, make([]error, 500), errs)
		r.run()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		mu.Lock()
		assert.Less(t, tries, 1500, "not each lane tries for itself")
		down = false
		mu.Unlock()
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		assert.Equal(t, 0, r.Stats().Entries, "the first success opens the target for all")
		r.halt()
	})
}

func TestRunGivesGraceThenEndsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "quick", "hangs").open()
		r.opts.Grace = 5 * time.Second
		r.open()
		r.cloud.onSend = func(ctx context.Context, target string, _ []string) error {
			if target == "hangs" {
				<-ctx.Done()
				return ctx.Err()
			}
			time.Sleep(3 * time.Second)
			return nil
		}
		r.put("one")
		r.run()
		synctest.Wait()
		start := time.Now()
		r.stop()
		r.stop = nil
		assert.Equal(t, 5*time.Second, time.Since(start))
		assert.Equal(t, []string{"one"}, r.cloud.got("quick"), "the batch under way was let go on")

		r.open()
		r.cloud.onSend = nil
		r.run()
		synctest.Wait()
		assert.Equal(t, []string{"one"}, r.cloud.got("quick"), "and what came of it was kept")
		assert.Equal(t, []string{"one"}, r.cloud.got("hangs"))
		assert.Error(t, r.Run(t.Context()), "it runs already")
		r.halt()
	})
}

func TestRemovalIsRetriedWithoutSendingAgain(t *testing.T) {
	for _, kind := range []disktest.Kind{disktest.Unlink, disktest.SyncDir} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			fsys := disktest.New(1)
			r := newRig(t, fsys, "a").open()
			r.put("one", "two")
			pattern := "outbox/*.data"
			if kind == disktest.SyncDir {
				pattern = "outbox"
			}
			fsys.Inject(disktest.Fault{Kind: kind, Path: pattern, Forever: true})
			r.run()
			r.eventually(func() bool { return len(r.log.lines("disk fails")) > 0 }, "no word of the trouble")
			assert.Equal(t, 2, r.Stats().Entries)
			fsys.Heal()
			r.empty()
			assert.Equal(t, []string{"one", "two"}, r.cloud.got("a"))
			r.open()
			assert.Equal(t, Stats{}, r.totals())
		})
	}
}

func TestUnrecordedProgressHoldsTheTargetUp(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys, "a", "b").open()
	names := numbered("f", 30)
	r.put(names...)
	r.cloud.onSend = func(_ context.Context, target string, _ []string) error {
		if target == "b" {
			return errDown
		}
		return nil
	}
	fsys.Inject(disktest.Fault{Kind: disktest.Sync, Path: "outbox/*.journal", Forever: true})
	r.run()
	r.eventually(func() bool { return len(r.log.lines("disk fails")) > 0 }, "no word of the trouble")
	assert.Equal(t, names[:10], r.cloud.got("a"), "one batch is ahead of the disk, not more")
	fsys.Heal()
	r.eventually(func() bool { return len(r.cloud.got("a")) == 30 }, "it goes on when the disk does")
	assert.Equal(t, names, r.cloud.got("a"))
}

func TestNewerFormatIsRefusedAndUntouched(t *testing.T) {
	line := lineOfJSON(map[string]any{"format": format + 1, "unheard": "of"})
	for name, content := range map[string]string{
		"outbox/0000000000000009.journal":                                string(line) + "whatever",
		"outbox/" + baseName(3, strings.Repeat("ab", 16)) + recordSuffix: `{"format": 3, "seq": {}}`,
	} {
		t.Run(path.Ext(name), func(t *testing.T) {
			fsys := disktest.New(1)
			require.NoError(t, disk.MkdirAll(fsys, "outbox", 0o700))
			require.NoError(t, writeFile(fsys, name, content))
			require.NoError(t, writeFile(fsys, "outbox/"+baseName(3, strings.Repeat("ab", 16))+dataSuffix, "x"))
			require.NoError(t, writeFile(fsys, "outbox/.x.tmp", "x"))
			before := fsys.Files()
			_, err := Open(Options{FS: fsys, Deliverer: newCloud()})
			require.ErrorContains(t, err, name+" has format 3, and this program knows formats up to 2")
			assert.Equal(t, before, fsys.Files())
		})
	}
}

func TestGoldenFormat(t *testing.T) {
	// Written by format 1, once. A change that cannot read it needs a new format number.
	id := "0123456789ab4def8123456789abcdef"
	journal := `108d6041 {"format":1,"next":41}
` // the header; the records follow
	record := `{"seq":42,"id":"` + id + `","name":"a.csv","lane":"scanner","size":4,"modified":"2026-11-07T16:05:09.5Z","accepted":"2026-11-07T16:05:10Z","meta":{"user":"scanner"},"retries":2,"acked":["a"]}`
	header := lineOfJSON(header{Format: 1, Next: 41})
	assert.Equal(t, journal, string(header))
	line := lineOfJSON(json.RawMessage(record))

	fsys := disktest.New(1)
	require.NoError(t, disk.MkdirAll(fsys, "outbox", 0o700))
	require.NoError(t, writeFile(fsys, "outbox/0000000000000007.journal", journal+string(line)+"torn"))
	require.NoError(t, writeFile(fsys, "outbox/0000000000000042-"+id+".data", "data"))
	r := newRig(t, fsys, "a", "b").open()
	want := Entry{ID: id, Due: true, Name: "a.csv", Lane: "scanner", Meta: json.RawMessage(`{"user":"scanner"}`), Size: 4,
		Path:    "outbox/0000000000000042-" + id + ".data",
		ModTime: time.Date(2026, 11, 7, 16, 5, 9, 5e8, time.UTC), Accepted: time.Date(2026, 11, 7, 16, 5, 10, 0, time.UTC)}
	assert.Equal(t, []Entry{want}, slices.Collect(r.Entries()))
	r.run().empty()
	assert.Empty(t, r.cloud.got("a"))
	assert.Equal(t, []string{"a.csv"}, r.cloud.got("b"))
}

func TestFileWithoutRecordIsSetAside(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys, "a").open()
	entry := r.put("one")[0]
	r.halt()
	segment := "outbox/" + r.files("outbox", journalSuffix)[0]
	f, err := fsys.OpenFile(segment, os.O_RDWR, 0)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	_, err = f.Seek(info.Size()-20, 0)
	require.NoError(t, err)
	_, err = f.Write([]byte("#"))
	require.NoError(t, err)
	require.NoError(t, f.Close())

	r.open().run()
	assert.Equal(t, Stats{Failed: 1}, r.totals())
	aside := readAside(t, fsys, entry)
	assert.Equal(t, "its record is missing or damaged", aside.Failure.Reason)
	assert.Equal(t, entry.ID, aside.ID)
	assert.EqualValues(t, len("content of one"), aside.Size)
	assert.Len(t, r.log.lines("level=ERROR"), 1)
	assert.Greater(t, r.put("two")[0].Path, entry.Path)
}

func TestJournalStaysSmall(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys, "a")
	r.segmentSize = smallSegment
	r.open()
	meta := json.RawMessage(`"` + strings.Repeat("m", smallSegment/400) + `"`)
	stuck := r.write("stuck", "x")
	stuck.Lane = "stuck"
	r.cloud.script("send a stuck", slices.Repeat([]error{errDown}, 1_000_000)...)
	r.take(stuck, r.item("held", held))
	r.run()
	for i := range 12 {
		var items []Item
		for _, name := range numbered(fmt.Sprint(i, "-"), 50) {
			item := r.write(name, "x")
			item.Meta = meta
			items = append(items, item)
		}
		_, errs := r.Put(t.Context(), items)
		require.Equal(t, make([]error, 50), errs)
	}
	r.eventually(func() bool { return r.Stats().Entries == 2 }, "not delivered")
	r.eventually(func() bool { return len(r.files("outbox", journalSuffix)) <= 2 }, "old segments are kept")
	r.open()
	assert.Equal(t, []string{"stuck", "held"}, r.names())

	// Each restart in an outage leaves a segment, but not for ever.
	r.cloud.setTargets()
	for i := range 2 * maxSegments {
		r.open().put(fmt.Sprint("restart", i))
	}
	r.run()
	r.eventually(func() bool { return len(r.files("outbox", journalSuffix)) <= maxSegments }, "small segments are kept")
	r.open()
	assert.Equal(t, 2+2*maxSegments, len(slices.Collect(r.Entries())))
}

func TestMemoryForPayloadsIsBounded(t *testing.T) {
	r := newRig(t, disktest.New(1), "a", "b")
	r.opts.Memory = 100_000
	r.open()
	var mu sync.Mutex
	down := true
	r.cloud.onSend = func(_ context.Context, target string, _ []string) error {
		mu.Lock()
		defer mu.Unlock()
		if down && target == "b" {
			return errDown
		}
		return nil
	}
	content := strings.Repeat("x", 20_000)
	var items []Item
	for i, name := range numbered("f", 60) {
		item := r.write(name, content)
		item.Lane = fmt.Sprint(i % 6)
		items = append(items, item)
	}
	_, errs := r.Put(t.Context(), items)
	require.Equal(t, make([]error, 60), errs)
	r.run()
	r.eventually(func() bool {
		r.Outbox.mu.Lock()
		weight := r.prepWeight
		r.Outbox.mu.Unlock()
		assert.LessOrEqual(t, weight, int64(100_000))
		return len(r.cloud.got("a")) == 60
	}, "payloads for b take all the room")
	mu.Lock()
	down = false
	mu.Unlock()
	r.empty()
	r.Outbox.mu.Lock()
	assert.Zero(t, r.prepWeight)
	assert.Empty(t, r.preps)
	r.Outbox.mu.Unlock()
}

func TestOptions(t *testing.T) {
	_, err := Open(Options{Deliverer: newCloud()})
	require.ErrorContains(t, err, "Options.FS")
	_, err = Open(Options{FS: disktest.New(1)})
	require.ErrorContains(t, err, "Options.Deliverer")
	r := newRig(t, disktest.New(1)).open()
	o := r.Outbox
	require.NoError(t, o.Close())
	r.Outbox = nil
	item := r.write("late", "x")
	_, errs := o.Put(t.Context(), []Item{item})
	require.ErrorIs(t, errs[0], errClosed)
}
