package outbox

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// world is what outlives a crash besides the disk: the targets, and what everybody was told.
type world struct {
	mu      sync.Mutex
	fs      *disktest.FS // of this life
	bDown   int          // so many calls of Send to b fail
	noAudit int          // so many calls of Audit fail
	wrong   []error

	puts     int                 // calls of Put, in all lives
	rank     map[string]int      // by name: the last call of Put that had it
	finished []string            // files that are durable in drop: the client has its 226
	ids      map[string][]string // tracking ids by name that were ever sent
	received map[string][]string // names by target, each time
	settled  map[string]string   // "TARGET NAME": why it must not be sent there again
	answered map[string]bool     // "TARGET NAME": the target has taken or refused it
	audited  map[string]bool
	audits   map[string]int // calls in this life
	pending  map[string][]string
}

func newWorld() *world {
	return &world{bDown: 3, noAudit: 3, rank: map[string]int{}, ids: map[string][]string{}, received: map[string][]string{},
		settled: map[string]string{}, answered: map[string]bool{}, audited: map[string]bool{}}
}

func contentOf(name string) string { return strings.Repeat("content of "+name+"\n", 3) }

func (w *world) wrongf(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Errorf(format, args...))
}

func (w *world) Targets() []string { return []string{"a", "b"} }

func (w *world) Prepare(_ context.Context, e Entry, open func() (disk.File, error)) (any, error) {
	if e.Name == "poison" {
		return nil, permanent("can never be delivered")
	}
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, e.Size)
	if _, err := f.Read(data); err != nil {
		return nil, err
	}
	return payload(data), nil
}

func (w *world) Send(_ context.Context, target string, batch []Prepared) []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fs.IsCut() {
		return slices.Repeat([]error{errDown}, len(batch)) // nobody is there to call
	}
	// The stream goes on, so what came of the batch before it must be durable, unless it leaves anyway.
	other := map[string]string{"a": "b", "b": "a"}[target]
	for _, name := range w.pending[target] {
		if !w.answered[other+" "+name] {
			w.settled[target+" "+name] = "the stream to " + target + " went on"
		}
	}
	w.pending[target] = nil
	if target == "b" && w.bDown > 0 {
		w.bDown--
		return slices.Repeat([]error{errDown}, len(batch))
	}
	results := make([]error, len(batch))
	for i, p := range batch {
		name := p.Entry.Name
		w.answered[target+" "+name] = true
		if target == "b" && name == "refused" {
			results[i] = permanent("b never takes it")
			continue
		}
		if why := w.settled[target+" "+name]; why != "" {
			w.wrongf("%s was sent to %s again after %s", name, target, why)
		}
		if string(p.Payload.(payload)) != contentOf(name) {
			w.wrongf("%s reached %s as %q", name, target, p.Payload)
		}
		if !slices.Contains(w.ids[name], p.Entry.ID) {
			w.ids[name] = append(w.ids[name], p.Entry.ID)
		}
		w.received[target] = append(w.received[target], name)
		w.pending[target] = append(w.pending[target], name)
	}
	return results
}

func (w *world) Audit(_ context.Context, batch []Prepared) []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fs.IsCut() {
		return slices.Repeat([]error{errDown}, len(batch))
	}
	for _, p := range batch {
		name := p.Entry.Name
		if w.audits[name]++; w.audits[name] > 1 {
			w.settled["a "+name], w.settled["b "+name] = "its audit was retried", "its audit was retried"
		}
	}
	if w.noAudit > 0 {
		w.noAudit--
		return slices.Repeat([]error{errDown}, len(batch))
	}
	for _, p := range batch {
		w.audited[p.Entry.Name] = true
	}
	return make([]error, len(batch))
}

func (w *world) gone(e Entry, _ Gone) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled["a "+e.Name], w.settled["b "+e.Name] = "it was gone", "it was gone"
}

// live runs the outbox until it is empty or the power is cut; put is what is taken in meanwhile.
func (w *world) live(fsys *disktest.FS, put func(o *Outbox) error) error {
	w.mu.Lock()
	w.fs = fsys
	w.audits, w.pending = map[string]int{}, map[string][]string{}
	w.mu.Unlock()
	if err := disk.MkdirAll(fsys, "drop", 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fsys.OnCut(cancel)
	changed := make(chan struct{}, 1)
	o, err := Open(Options{FS: fsys, Deliverer: w, Batch: 2, Reserve: 1, Grace: time.Millisecond,
		MinBackoff: 50 * time.Microsecond, MaxBackoff: 200 * time.Microsecond,
		Gone: func(e Entry, why Gone) {
			w.gone(e, why)
			select {
			case changed <- struct{}{}:
			default:
			}
		}})
	if err != nil {
		return err
	}
	err = put(o)
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	deadline := time.After(20 * time.Second)
	for o.Stats().Entries > 0 && ctx.Err() == nil {
		select {
		case <-changed:
		case <-ctx.Done():
		case <-deadline:
			err = errors.Join(err, fmt.Errorf("stuck: %+v", o.Stats()))
			cancel()
		}
	}
	cancel()
	return errors.Join(err, <-done, o.Close())
}

var crashGroups = [][]string{{"f1", "f2", "f3"}, {"f4", "poison", "f5"}, {"refused", "f6"}}

// first is the life that crashes: files are finished and taken in.
func (w *world) first(fsys *disktest.FS) error {
	// The first group is taken in by a process that ends before it delivers, so that there are two segments.
	w.fs = fsys
	if err := disk.MkdirAll(fsys, "drop", 0o700); err != nil {
		return err
	}
	o, err := Open(Options{FS: fsys, Deliverer: w, Reserve: 1})
	if err != nil {
		return err
	}
	if err := errors.Join(w.takeIn(o, fsys, crashGroups[:1]), o.Close()); err != nil {
		return err
	}
	return w.live(fsys, func(o *Outbox) error { return w.takeIn(o, fsys, crashGroups[1:]) })
}

// takeIn finishes files and puts them in.
func (w *world) takeIn(o *Outbox, fsys *disktest.FS, groups [][]string) error {
	for _, group := range groups {
		for _, name := range group {
			if err := writeFile(fsys, "drop/"+name, contentOf(name)); err != nil {
				return err
			}
			w.finished = append(w.finished, name)
		}
		if err := w.put(o, group); err != nil {
			return err
		}
	}
	return nil
}

// again is every life after a crash: what is left in drop is taken in again, in the order in which it was finished.
func (w *world) again(fsys *disktest.FS) error {
	return w.live(fsys, func(o *Outbox) error {
		files := fsys.Files()
		// Only what is complete is in drop for long: an unfinished one stands in partial/.
		names := slices.DeleteFunc(slices.Clone(w.finished), func(name string) bool { return files["drop/"+name] == "" })
		return w.put(o, names)
	})
}

func (w *world) put(o *Outbox, names []string) error {
	if len(names) == 0 {
		return nil
	}
	items := make([]Item, len(names))
	w.puts++
	for i, name := range names {
		w.rank[name] = w.puts
		items[i] = Item{Path: "drop/" + name, Name: name}
	}
	_, errs := o.Put(context.Background(), items)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return nil
}

// check says which promise is broken once all has come to rest.
func (w *world) check(fsys *disktest.FS) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	files := fsys.Files()
	failed := map[string]bool{}
	for name, content := range files {
		if !strings.HasPrefix(name, "failed/") || path.Ext(name) != dataSuffix {
			continue
		}
		data, ok := files[strings.TrimSuffix(name, dataSuffix)+recordSuffix]
		if !ok {
			w.wrongf("%s has no record", name)
			continue
		}
		aside, err := decodeSetAside(name, []byte(data))
		if err != nil {
			return err
		}
		if content != contentOf(aside.Name) {
			w.wrongf("%s of %q holds %q", name, aside.Name, content)
		}
		failed[aside.Name] = true
	}
	for _, name := range w.finished {
		a, b := slices.Contains(w.received["a"], name), slices.Contains(w.received["b"], name)
		switch name {
		case "poison":
			if !failed[name] || a || b {
				w.wrongf("poison: failed %t, a %t, b %t", failed[name], a, b)
			}
		case "refused":
			if !failed[name] || !a || b {
				w.wrongf("refused: failed %t, a %t, b %t", failed[name], a, b)
			}
		default:
			if !a || !b || !w.audited[name] || failed[name] {
				w.wrongf("%s: a %t, b %t, audited %t, failed %t", name, a, b, w.audited[name], failed[name])
			}
		}
		if len(w.ids[name]) > 1 {
			w.wrongf("%s was sent with the tracking ids %v", name, w.ids[name])
		}
	}
	for name := range files {
		if dir := path.Dir(name); strings.HasSuffix(name, "/") {
			continue
		} else if dir == "outbox" && path.Ext(name) != journalSuffix && path.Base(name) != reserveName || dir == "failed" && disk.IsTemp(name) {
			w.wrongf("%s is left", name)
		}
	}
	// A Put that was cut short may have taken any of its files.
	order := slices.Clone(w.finished)
	slices.SortStableFunc(order, func(a, b string) int { return w.rank[a] - w.rank[b] })
	for target, received := range w.received {
		last := -1
		for _, name := range order {
			if i := slices.Index(received, name); i >= 0 && i < last {
				w.wrongf("%s reached %s before files that were finished earlier: %v", name, target, received)
			} else {
				last = max(last, i)
			}
		}
	}
	return errors.Join(w.wrong...)
}

func crashScenario() disktest.Scenario { return newWorld().scenario() }

func (w *world) scenario() disktest.Scenario {
	return disktest.Scenario{Run: w.first, Recover: w.again, Check: w.check}
}

// twoNames has a power cut leave a renamed file both its names, until both directories are synced.
func twoNames(fsys *disktest.FS) { fsys.SetTwoNames(true) }

// TestEveryCrash tries few mixtures; -crash.seeds=20 tries more.
func TestEveryCrash(t *testing.T) {
	disktest.EveryCrash(t, disktest.Options{Seeds: 3, Setup: twoNames}, crashScenario)
}

func TestEveryFault(t *testing.T) {
	disktest.EveryFault(t, disktest.Options{Setup: twoNames}, func() disktest.Scenario {
		w := newWorld()
		return disktest.Scenario{
			Run: func(fsys *disktest.FS) error {
				// The disk comes back while the program runs: it must go on by itself.
				timer := time.AfterFunc(5*time.Millisecond, fsys.Heal)
				defer timer.Stop()
				return w.first(fsys)
			},
			Recover: w.again, Check: w.check,
		}
	})
}

// TestRecoveryMakesDurableWhatItReliesOn kills a process between an operation and its sync. What the next process has
// found and used must not be undone by a power cut.
func TestRecoveryMakesDurableWhatItReliesOn(t *testing.T) {
	for _, what := range []struct {
		name string
		drop func(op disktest.Op) bool
	}{
		{"rename", func(op disktest.Op) bool { return op.Kind == disktest.SyncDir && op.Path == "outbox" }},
		{"progress", func(op disktest.Op) bool { return op.Kind == disktest.Sync && path.Ext(op.Path) == journalSuffix }},
	} {
		t.Run(what.name, func(t *testing.T) {
			fsys := disktest.New(1)
			r := newRig(t, fsys, "a", "b").open()
			r.cloud.onSend = func(_ context.Context, target string, _ []string) error {
				if target == "b" {
					return errDown
				}
				return nil
			}
			var id string
			if what.name == "rename" {
				r.put("first") // makes the segment, and its name durable
				fsys.DropSync(what.drop)
				id = r.put("second")[0].ID
			} else {
				id = r.put("second")[0].ID
				fsys.DropSync(what.drop)
			}
			r.run()
			r.eventually(func() bool { return slices.Contains(r.cloud.got("a"), "second") }, "a did not get it")
			r.halt()
			killed := fsys.Crash(disktest.Killed())
			killed.DropSync(nil)
			r.opts.FS, r.fs = killed, killed
			r.open()
			cut := killed.Crash(disktest.Nothing())
			r.opts.FS, r.fs = cut, cut
			r.Outbox = nil
			r.cloud.onSend = nil
			r.open().run().empty()
			require.Equal(t, id, r.cloud.received["b"][len(r.cloud.received["b"])-1].Entry.ID)
			count := 0
			for _, name := range r.cloud.got("a") {
				if name == "second" {
					count++
				}
			}
			require.Equal(t, 1, count, "a gets it once")
			require.Empty(t, r.files("drop", ""))
		})
	}
}

// A power cut left a file that was set aside its name in the outbox, too: it waits again, and is delivered now. Its name in failed/ must not come back.
func TestSettingAsideThatCameUndoneStaysSo(t *testing.T) {
	fsys := disktest.New(1)
	fsys.SetTwoNames(true)
	r := newRig(t, fsys, "a").open()
	r.put("x")
	r.cloud.script("send a x", permanent("not yet"))
	fsys.DropSync(func(op disktest.Op) bool { return op.Kind == disktest.SyncDir && op.Path == "outbox" })
	r.run().empty()
	r.stop()
	r.stop = nil
	fsys.DropSync(nil)
	r.crash(disktest.Nothing())
	require.Empty(t, r.files("failed", dataSuffix))
	r.run().empty()
	require.Equal(t, []string{"x"}, r.cloud.got("a"))
	r.stop()
	r.stop = nil
	r.crash(disktest.Nothing())
	require.Empty(t, r.files("failed", dataSuffix))
	require.Equal(t, Stats{}, r.totals())
}
