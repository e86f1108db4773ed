package outbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func TestStatsTellHowSendingGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "b", "a").open()
		r.opts.MinBackoff, r.opts.MaxBackoff = time.Minute, time.Minute
		r.open()
		assert.Equal(t, Stats{}, r.totals())
		r.take(r.item("held", func(i *Item) { i.Wait, i.Yield = Forever, true }))
		stats := r.Stats()
		assert.Zero(t, stats.Oldest, "what is held waits for nothing but its owner")
		time.Sleep(time.Hour)
		first := r.put("first", "second")
		stats = r.Stats()
		assert.Equal(t, first[0].Accepted, stats.Oldest)
		assert.Empty(t, stats.Targets, "they are not known yet")
		assert.Equal(t, 3, stats.Entries)
		assert.Equal(t, 1, stats.Held)

		down := func(_ context.Context, target string, _ []string) error {
			if target == "b" {
				return errDown
			}
			return nil
		}
		r.cloud.onSend = down
		r.run()
		synctest.Wait()
		stats = r.Stats()
		require.Len(t, stats.Targets, 2)
		a, b := stats.Targets[0], stats.Targets[1]
		assert.Equal(t, TargetStats{Name: "a", Acknowledged: time.Now()}, a)
		assert.Equal(t, "b", b.Name)
		assert.Equal(t, 2, b.Waiting)
		assert.Equal(t, int64(len("content of first")+len("content of second")), b.Bytes)
		assert.Zero(t, b.Acknowledged)
		assert.Equal(t, first[0].ID, b.Oldest.ID)
		assert.Equal(t, "first", b.Oldest.Name)
		assert.Equal(t, 1, b.Attempts)
		assert.Equal(t, errDown.Error(), b.Error)
		assert.WithinRange(t, b.NextTry, time.Now(), time.Now().Add(time.Minute))

		r.cloud.onSend = nil
		next := b.NextTry
		time.Sleep(time.Until(next) - 1)
		synctest.Wait()
		assert.Equal(t, 2, r.Stats().Targets[1].Waiting)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, TargetStats{Name: "b", Acknowledged: next}, r.Stats().Targets[1], "the next try was told")
		assert.Equal(t, 1, r.Stats().Entries)

		r.cloud.onAudit = func(context.Context, []string) error { return errDown }
		time.Sleep(gatherFor)
		r.put("third")
		synctest.Wait()
		assert.Equal(t, 1, r.Stats().Unaudited)
		r.cloud.onAudit = nil
		r.Wake()
	})
}

// setAsideOf has files set aside.
func setAsideOf(r *rig, names ...string) []Entry {
	for _, name := range names {
		r.cloud.script("send a "+name, permanent("never: "+name))
	}
	entries := r.put(names...)
	if r.stop == nil {
		r.run()
	}
	r.empty()
	return entries
}

func TestFailed(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a", "b").open()
		failed, err := r.Failed()
		require.NoError(t, err)
		require.Empty(t, failed)
		item := r.item("one", func(i *Item) { i.Meta, i.Lane = []byte(`{"user":"u"}`), "l" })
		r.cloud.script("send a one", permanent("never"))
		one := r.take(item)[0]
		r.run().empty()
		two := setAsideOf(r, "two")[0]
		failed, err = r.Failed()
		require.NoError(t, err)
		require.Len(t, failed, 2)
		f := failed[0]
		assert.WithinDuration(t, time.Now(), f.At, time.Minute)
		f.At = time.Time{}
		one.Path, one.Due = "failed"+one.Path[len("outbox"):], false
		assert.JSONEq(t, string(one.Meta), string(f.Meta))
		one.Meta, f.Meta = nil, nil
		assert.Equal(t, FailedEntry{Entry: one, Reason: "refused by target a", Error: "never", Attempts: 1, Refused: []Refusal{{"a", "never"}}, Taken: []string{"b"}}, f)
		assert.Equal(t, "two", failed[1].Name)

		// Without its record.
		require.NoError(t, fsys.Remove("failed/"+baseName(2, two.ID)+recordSuffix))
		failed, err = r.Failed()
		require.NoError(t, err)
		assert.Equal(t, two.ID, failed[1].ID)
		assert.Equal(t, two.Size, failed[1].Size)
		assert.Equal(t, "its record is missing or damaged", failed[1].Reason)
		err = r.Retry(two.ID)
		assert.ErrorContains(t, err, "its record is missing")
		assert.NotErrorIs(t, err, fs.ErrNotExist, "it is there, as Failed says")

		// Told at each start.
		r.open()
		lines := r.log.lines("set aside until")
		require.Len(t, lines, 1)
		assert.Contains(t, lines[0], "level=WARN")
		assert.Contains(t, lines[0], "files=2 oldest=one trackingId="+one.ID)
		assert.Contains(t, lines[0], `reason="refused by target a" error=never`)
	})
}

func TestRetry(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a", "b").open()
		first := setAsideOf(r, "x", "y")
		r.stop()
		r.stop = nil
		r.put("z")
		require.NoError(t, r.Retry(first[1].ID))
		require.NoError(t, r.Retry(first[0].ID))
		assert.Equal(t, []string{"x", "y", "z"}, r.names(), "in their old places")
		assert.ErrorIs(t, r.Retry(first[0].ID), fs.ErrNotExist)
		assert.Equal(t, 0, r.Stats().Failed)
		assert.Empty(t, r.files("failed", ""))
		r.open().run().empty()
		assert.Equal(t, []string{"x", "y", "z"}, r.cloud.got("a"))
		assert.Equal(t, []string{"x", "y", "z"}, r.cloud.got("b"), "it has had them")
		assert.Equal(t, first[0].ID, r.cloud.received["a"][0].Entry.ID)
		assert.Equal(t, payload("content of x"), r.cloud.received["a"][0].Payload)
		assert.ErrorIs(t, r.Retry(first[0].ID), fs.ErrNotExist)
		assert.ErrorIs(t, r.Retry("../x"), fs.ErrNotExist)

		// While it runs; and it fails again.
		r.cloud.script("send a w", permanent("one"), permanent("two"))
		w := r.put("w")[0]
		r.empty()
		for _, reason := range []string{"two", ""} {
			require.NoError(t, r.Retry(w.ID))
			r.empty()
			failed, err := r.Failed()
			require.NoError(t, err)
			if reason == "" {
				require.Empty(t, failed)
				break
			}
			require.Len(t, failed, 1)
			assert.Equal(t, []Refusal{{"a", reason}}, failed[0].Refused)
		}
		assert.Equal(t, "w", r.cloud.got("a")[3])
		assert.Len(t, r.log.lines("File that has failed is sent again"), 4)
	})
}

func TestDiscard(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a").open()
		entries := setAsideOf(r, "x", "y")
		require.NoError(t, r.Discard(entries[0].ID))
		assert.ErrorIs(t, r.Discard(entries[0].ID), fs.ErrNotExist)
		assert.ErrorIs(t, r.Retry(entries[0].ID), fs.ErrNotExist)
		assert.Equal(t, 1, r.Stats().Failed)
		assert.Len(t, r.files("failed", ""), 2)
		assert.Len(t, r.log.lines("File that has failed was discarded"), 1)
		assert.Equal(t, 1, r.open().Stats().Failed)
	})
}

// What was taken in between two Runs is sent by the second, though the targets are the same.
func TestRunAgain(t *testing.T) {
	r := newRig(t, disktest.New(1), "a").open()
	r.put("x")
	r.run().empty()
	r.stop()
	r.stop = nil
	r.put("y")
	r.run().empty()
	assert.Equal(t, []string{"x", "y"}, r.cloud.got("a"))
}

// TestRetryAndDiscardAtOnce: of two that decide about one file, one has its way.
func TestRetryAndDiscardAtOnce(t *testing.T) {
	r := newRig(t, disktest.New(1), "a").open()
	for i := range 20 {
		name := fmt.Sprint("f", i)
		e := setAsideOf(r, name)[0]
		var both sync.WaitGroup
		results := make([]error, 4)
		for i := range results {
			both.Go(func() {
				if i%2 == 0 {
					results[i] = r.Retry(e.ID)
				} else {
					results[i] = r.Discard(e.ID)
				}
			})
		}
		both.Wait()
		r.empty()
		done := 0
		for _, err := range results {
			if err == nil {
				done++
			}
		}
		assert.Equal(t, 1, done, "%v", results)
		assert.Equal(t, results[0] == nil || results[2] == nil, slices.Contains(r.cloud.got("a"), name))
		assert.Equal(t, 0, r.Stats().Failed)
		r.stop()
		r.stop = nil
	}
}

// decided is a world in which files fail, and somebody has one sent again and another discarded, until both are done.
type decided struct {
	mu        sync.Mutex
	fs        *disktest.FS
	again     bool // the reason is gone
	ids       map[string]string
	received  []string
	gone      map[string]bool
	discarded bool // acknowledged
	wrong     []error
}

func (w *decided) Targets() []string { return []string{"t"} }

func (w *decided) Prepare(context.Context, Entry, func() (disk.File, error)) (any, error) {
	return nil, nil
}

func (w *decided) Send(_ context.Context, _ string, batch []Prepared) []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	results := make([]error, len(batch))
	for i, p := range batch {
		e := p.Entry
		switch {
		case w.fs.IsCut():
			results[i] = errDown
		case !w.again && e.Name != "fine":
			results[i] = permanent("never")
		default:
			if w.gone[e.Name] || w.ids[e.Name] != "" && w.ids[e.Name] != e.ID || e.Name == "discarded" && w.discarded {
				w.wrong = append(w.wrong, fmt.Errorf("%s was sent again, with the id %s", e.Name, e.ID))
			}
			w.ids[e.Name] = e.ID
			w.received = append(w.received, e.Name)
		}
	}
	return results
}

func (w *decided) Audit(_ context.Context, batch []Prepared) []error {
	return make([]error, len(batch))
}

func (w *decided) left(e Entry, why Gone) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone[e.Name] = why == Delivered
}

// live delivers, and decides about what has failed.
func (w *decided) live(fsys *disktest.FS, put bool) (err error) {
	w.fs = fsys
	if err := disk.MkdirAll(fsys, "drop", 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fsys.OnCut(cancel)
	o, err := Open(Options{FS: fsys, Deliverer: w, Reserve: -1, Grace: time.Millisecond, Gone: w.left, MinBackoff: time.Microsecond, MaxBackoff: 10 * time.Microsecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	for _, name := range []string{"again", "discarded", "fine"} {
		if put {
			if err := writeFile(fsys, "drop/"+name, contentOf(name)); err != nil {
				return err
			}
			entries, errs := o.Put(ctx, []Item{{Path: "drop/" + name, Name: name}})
			if errs[0] != nil {
				return errs[0]
			}
			w.mu.Lock()
			w.ids[name] = entries[0].ID
			w.mu.Unlock()
		}
	}
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-done)
	}()
	empty := func() {
		for o.Stats().Entries > 0 && ctx.Err() == nil {
			time.Sleep(20 * time.Microsecond)
		}
	}
	empty()
	w.mu.Lock()
	w.again = true
	w.mu.Unlock()
	failed, err := o.Failed()
	if err != nil {
		return err
	}
	for _, f := range failed {
		if ctx.Err() != nil {
			break
		}
		if f.ID == w.ids["discarded"] && w.discarded {
			w.wrong = append(w.wrong, errors.New("what was discarded is back"))
		}
		switch f.Name {
		case "again":
			if err := o.Retry(f.ID); err != nil {
				return err
			}
			empty() // so that the operations come in one order
		case "discarded":
			if err := o.Discard(f.ID); err != nil {
				return err
			}
			w.discarded = true
		case "": // Discard was cut short: the file is there, and its record is not
			if f.ID != w.ids["discarded"] {
				w.wrong = append(w.wrong, errors.New("the name is lost"))
			}
			if err := o.Discard(f.ID); err != nil {
				return err
			}
		}
	}
	empty()
	return nil
}

func (w *decided) check(fsys *disktest.FS) error {
	for name := range fsys.Files() {
		if base, suffix := cutSuffix(name); suffix == dataSuffix {
			w.wrong = append(w.wrong, fmt.Errorf("%s is left: %s", name, base))
		}
	}
	return errors.Join(w.wrong...)
}

// decisions is its scenario.
func decisions() disktest.Scenario {
	w := &decided{ids: map[string]string{}, gone: map[string]bool{}}
	var accepted bool
	return disktest.Scenario{
		Run: func(fsys *disktest.FS) error {
			// A disk that fails comes back while the program runs: it must go on by itself.
			timer := time.AfterFunc(5*time.Millisecond, fsys.Heal)
			defer timer.Stop()
			err := w.live(fsys, true)
			accepted = err == nil && !fsys.IsCut()
			return err
		},
		Recover: func(fsys *disktest.FS) error { return w.live(fsys, false) },
		Check: func(fsys *disktest.FS) error {
			if accepted && !slices.Contains(w.received, "again") {
				w.wrong = append(w.wrong, errors.New("it was not sent again"))
			}
			return w.check(fsys)
		},
	}
}

func TestEveryCrashOfDecisions(t *testing.T) {
	disktest.EveryCrash(t, disktest.Options{Seeds: 3, Setup: twoNames}, decisions)
}

func TestEveryFaultOfDecisions(t *testing.T) {
	disktest.EveryFault(t, disktest.Options{Setup: twoNames}, decisions)
}
