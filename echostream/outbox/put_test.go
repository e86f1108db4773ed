package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// countedFile counts what Put does with Item.File.
type countedFile struct {
	disk.File
	syncs, closes atomic.Int32
}

func (f *countedFile) Sync() error  { f.syncs.Add(1); return f.File.Sync() }
func (f *countedFile) Close() error { f.closes.Add(1); return f.File.Close() }

// written makes a file that is written and not synced.
func (r *rig) written(name, content string) (Item, *countedFile) {
	r.t.Helper()
	item := Item{Path: "drop/" + name, Name: name}
	f, err := r.fs.OpenFile(item.Path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	require.NoError(r.t, err)
	require.NoError(r.t, disk.WriteAll(f, []byte(content)))
	require.NoError(r.t, r.fs.SyncDir("drop"))
	file := &countedFile{File: f}
	item.File = file
	return item, file
}

func TestPutWithFile(t *testing.T) {
	large := strings.Repeat("x", syncFirst+1)
	for name, c := range map[string]struct {
		content string
		fault   disktest.Fault
		change  func(*Item)
		ctx     func() context.Context
		err     string
	}{
		"small":                {content: "abc"},
		"empty":                {},
		"large":                {content: large},
		"ctx ended":            {content: "abc", ctx: func() context.Context { ctx, cancel := context.WithCancel(context.Background()); cancel(); return ctx }, err: "canceled"},
		"stat":                 {content: "abc", fault: disktest.Fault{Kind: disktest.Lstat, Path: "drop/f"}, err: "input/output"},
		"sync":                 {content: "abc", fault: disktest.Fault{Kind: disktest.Sync, Path: "drop/f"}, err: "input/output"},
		"sync, large":          {content: large, fault: disktest.Fault{Kind: disktest.Sync, Path: "drop/f"}, err: "input/output"},
		"close":                {content: "abc", fault: disktest.Fault{Kind: disktest.Close, Path: "drop/f"}, err: "input/output"},
		"close, large":         {content: large, fault: disktest.Fault{Kind: disktest.Close, Path: "drop/f"}, err: "input/output"},
		"journal":              {content: "abc", fault: disktest.Fault{Kind: disktest.Sync, Path: "outbox/*.journal"}, err: "writing the journal"},
		"segment":              {content: "abc", fault: disktest.Fault{Kind: disktest.Create, Path: "outbox/*.journal"}, err: "making a journal segment"},
		"rename":               {content: "abc", fault: disktest.Fault{Kind: disktest.Rename, Path: "drop/f"}, err: "input/output"},
		"rename is done":       {content: "abc", fault: disktest.Fault{Kind: disktest.Rename, Path: "drop/f", Done: true}},
		"directory":            {content: "abc", fault: disktest.Fault{Kind: disktest.SyncDir, Path: "outbox", Nth: 2}, err: "input/output"},
		"meta":                 {content: "abc", change: func(i *Item) { i.Meta = json.RawMessage("{") }, err: "expected a JSON value"},
		"replaces what is due": {content: "abc", change: func(i *Item) { i.Replaces = "due" }, err: ErrDue.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := disktest.New(1)
			r := newRig(t, fsys, "t").open()
			due := r.write("due", "x")
			item, file := r.written("f", c.content)
			if c.change != nil {
				c.change(&item)
			}
			if item.Replaces != "" {
				item.Replaces = r.take(due)[0].ID
			}
			if c.fault.Kind != disktest.Any {
				fsys.Inject(c.fault)
			}
			ctx := context.Background()
			if c.ctx != nil {
				ctx = c.ctx()
			}
			_, errs := r.Put(ctx, []Item{item})
			assert.EqualValues(t, 1, file.closes.Load(), "it is closed once")
			fsys.Heal()
			if c.err == "" {
				require.NoError(t, errs[0])
				assert.EqualValues(t, 1, file.syncs.Load())
				r.crash(disktest.Nothing()).run().empty()
				assert.Equal(t, payload(c.content), r.cloud.received["t"][0].Payload)
				return
			}
			require.ErrorContains(t, errs[0], c.err)
			assert.ErrorContains(t, errs[0], `"f"`)
			for _, policy := range []disktest.Policy{disktest.Killed(), disktest.Everything()} {
				data, err := readFile(r.fs, item.Path)
				require.NoError(t, err, "it stands where it stood")
				assert.Equal(t, c.content, data)
				assert.NotContains(t, r.names(), "f")
				_, ok := r.Lookup(item.Key)
				assert.False(t, ok)
				r.crash(policy)
			}
		})
	}
}

// What comes behind a file that could not be made durable must not overtake it; another lane goes on.
func TestNothingOvertakesWhatFailed(t *testing.T) {
	for name, change := range map[string]func(i *Item){"its sync": func(*Item) {}, "what it replaces": func(i *Item) { i.Replaces = "due" }} {
		t.Run(name, func(t *testing.T) {
			fsys := disktest.New(1)
			r := newRig(t, fsys, "t").open()
			due := r.put("due")[0]
			var items []Item
			for _, name := range []string{"before", "fails", "behind"} {
				item, _ := r.written(name, "x")
				items = append(items, item)
			}
			other, _ := r.written("other", "x")
			other.Lane = "other"
			if change(&items[1]); items[1].Replaces != "" {
				items[1].Replaces = due.ID
			} else {
				fsys.Inject(disktest.Fault{Kind: disktest.Sync, Path: items[1].Path})
			}
			_, errs := r.Put(context.Background(), append(items, other))
			assert.NoError(t, errs[0])
			assert.Error(t, errs[1])
			assert.ErrorContains(t, errs[2], "not tried, as one before it failed")
			assert.NoError(t, errs[3])
		})
	}
}

// slowDir is a disk on which the syncs of a directory wait.
type slowDir struct {
	*disktest.FS
	syncs <-chan struct{} // nil: they do not wait
}

func (d *slowDir) SyncDir(name string) error {
	if d.syncs != nil && name == "outbox" {
		<-d.syncs
	}
	return d.FS.SyncDir(name)
}

// Calls that come while one is under way are taken in together: one sync of the journal and one of the outbox for all of them. They stay in the order in
// which they came, and one that fails fails alone.
func TestPutsAtOnceShareTheirSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowDir{FS: disktest.New(1)}
		r := newRig(t, slow, "t").open()
		r.put("makes the segment")
		names := numbered("n", 9)
		items := make([]Item, len(names))
		for i, name := range names {
			items[i], _ = r.written(name, "x")
		}
		slow.Inject(disktest.Fault{Kind: disktest.Sync, Path: items[3].Path})
		begin := slow.Len()
		syncs := make(chan struct{})
		slow.syncs = syncs
		failed := make([]error, len(names))
		for i := range items {
			go func() {
				_, errs := r.Put(t.Context(), items[i:i+1])
				failed[i] = errs[0]
			}()
			synctest.Wait()
		}
		close(syncs)
		synctest.Wait()
		for i, err := range failed {
			assert.Equal(t, i == 3, err != nil, "%s: %v", names[i], err)
		}
		_, err := r.fs.Lstat(items[3].Path)
		assert.NoError(t, err, "it stands where it stood")
		assert.Equal(t, slices.Concat([]string{"makes the segment"}, names[:3], names[4:]), r.names())
		count := map[string]int{}
		for _, op := range slow.Ops()[begin:] {
			if op.Kind == disktest.SyncDir || op.Kind == disktest.Sync && path.Ext(op.Path) == journalSuffix {
				count[fmt.Sprint(op.Kind, " ", op.Path)]++
			}
		}
		// Of the first and of the rest; and the line that says that one was given up.
		assert.Equal(t, map[string]int{"syncdir outbox": 2, "sync outbox/" + segmentName(1): 3}, count)
	})
}

// Whatever fails once, at any operation: a file that Put has not taken stands where it stood, and is not an entry, neither now nor after a kill.
func TestPutThatFailsAtAnyStep(t *testing.T) {
	setup := func() (*rig, *disktest.FS, []Item) {
		fsys := disktest.New(1)
		r := newRig(t, fsys, "t").open()
		old := r.take(r.item("old", held))[0]
		a, _ := r.written("a", "content of a")
		a.Replaces = old.ID
		b, _ := r.written("b", "content of b")
		return r, fsys, []Item{a, b}
	}
	r, fsys, items := setup()
	begin := fsys.Len()
	r.take(items...)
	for op := begin; op < fsys.Len(); op++ {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprint(fsys.Ops()[op].Kind, op, done), func(t *testing.T) {
				r, fsys, items := setup()
				fsys.Inject(disktest.Fault{Nth: op + 1 - fsys.Len(), Done: done})
				_, errs := r.Put(t.Context(), items)
				fsys.Heal()
				for range 2 {
					want := []string{}
					if errs[0] != nil {
						want = append(want, "old")
					}
					for i, name := range []string{"a", "b"} {
						_, err := r.fs.Lstat(items[i].Path)
						if errs[i] == nil {
							want = append(want, name)
							assert.ErrorIs(t, err, fs.ErrNotExist)
						} else {
							assert.NoError(t, err, "%s stands where it stood", name)
						}
					}
					assert.Equal(t, want, r.names())
					r.crash(disktest.Killed())
				}
			})
		}
	}
}

func TestReplaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "t").open().run()
		old := r.take(r.item("old", held))[0]
		first := r.take(r.item("first", func(i *Item) { held(i); i.Replaces = old.ID; i.Key = "user/old" }))[0]
		assert.Equal(t, []string{"first"}, r.names())
		assert.Equal(t, first.ID, r.lookup("user/old").ID)
		_, ok := r.Left(old.ID)
		assert.True(t, ok)
		assert.Len(t, r.files("outbox", dataSuffix), 1)
		// One that has left is no error.
		second := r.take(r.item("second", func(i *Item) { held(i); i.Replaces = old.ID }))[0]
		// Two that replace the same: one of them can.
		_, errs := r.Put(t.Context(), []Item{r.item("3", func(i *Item) { i.Replaces = second.ID }), r.item("4", func(i *Item) { i.Replaces = second.ID })})
		assert.NoError(t, errs[0])
		assert.ErrorContains(t, errs[1], "an item before it does")
		synctest.Wait()
		assert.Equal(t, []string{"3"}, r.cloud.got("t"))
		assert.Equal(t, []string{"first"}, r.names())
		r.halt()
	})
}

// Who looks sees all entries of a Put or none, and they are sent together.
func TestAPutIsSeenAtOnce(t *testing.T) {
	const at = 10 // a batch
	r := newRig(t, disktest.New(1), "t").open().run()
	done := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if n := len(r.Below("user")); n%at != 0 {
				t.Errorf("%d entries are there, expected a multiple of %d", n, at)
				return
			}
		}
	})
	for i := range 100 {
		var items []Item
		for j := range at {
			items = append(items, r.item(fmt.Sprint(i, "-", j), held))
		}
		r.take(items...)
	}
	close(done)
	looking.Wait()
	for i := range 100 {
		r.put(numbered(fmt.Sprint("due", i, "-"), at)...)
	}
	r.eventually(func() bool { return r.Stats().Entries == 100*at }, "some are not sent")
	for _, call := range r.cloud.sends("t") {
		assert.Zero(t, len(call.names)%at, "a Send of %v", call.names)
	}
}

// While a replaced entry cannot be removed, what replaces it stays, as its record alone says so; also if that is replaced in turn.
func TestReplacedOneByOneOnADiskThatDoesNotRemove(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys).open()
	old := r.take(r.item("old", held))[0]
	fsys.Inject(disktest.Fault{Kind: disktest.Unlink, Path: old.Path, Forever: true})
	for _, name := range []string{"newer", "newest"} {
		old = r.take(r.item(name, func(i *Item) { held(i); i.Replaces = old.ID }))[0]
		assert.Equal(t, []string{name}, r.names())
	}
	for _, policy := range []disktest.Policy{disktest.Nothing(), disktest.Everything()} {
		r.crash(policy)
		assert.Equal(t, []string{"newest"}, r.names())
	}
	assert.Len(t, r.files("outbox", dataSuffix), 1)
}

// At the start, too, the oldest goes first: the start behind one that was cut short would send what was replaced.
func TestReplacedOneByOneAtTheStart(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys).open()
	oldest := r.take(r.item("oldest", held))[0]
	fsys.Inject(disktest.Fault{Kind: disktest.Unlink, Path: oldest.Path, Forever: true})
	last := oldest
	for i := range 8 {
		last = r.take(r.item(fmt.Sprint(i), func(i *Item) { held(i); i.Replaces = last.ID }))[0]
	}
	fsys = fsys.Crash(disktest.Everything())
	fsys.Inject(disktest.Fault{Kind: disktest.Unlink, Path: oldest.Path, Forever: true})
	r.fs, r.opts.FS, r.Outbox = fsys, fsys, nil
	_, err := Open(r.opts)
	require.Error(t, err)
	assert.Len(t, r.files("outbox", dataSuffix), 9)
	r.crash(disktest.Everything())
	assert.Equal(t, []string{"7"}, r.names())
}

// The old one or the new one, never both, never none; and neither when the new one was withdrawn.
func TestEveryCrashOfReplaces(t *testing.T) {
	for _, withdraw := range []bool{false, true} {
		for name, drive := range map[string]func(t *testing.T, scenario func() disktest.Scenario){
			"crash": func(t *testing.T, s func() disktest.Scenario) {
				disktest.EveryCrash(t, disktest.Options{Seeds: 10, Setup: twoNames}, s)
			},
			"fault": func(t *testing.T, s func() disktest.Scenario) {
				disktest.EveryFault(t, disktest.Options{Setup: twoNames}, s)
			},
		} {
			t.Run(fmt.Sprint(name, withdraw), func(t *testing.T) {
				drive(t, func() disktest.Scenario { return replaces(withdraw) })
			})
		}
	}
}

// replaces is a life that puts an entry, replaces it and may withdraw the new one; then all that waits is delivered.
func replaces(withdraw bool) disktest.Scenario {
	var put, replaced, gone bool
	var acked []string
	reached := newCloud("t")
	open := func(fsys *disktest.FS) (*Outbox, error) {
		if err := disk.MkdirAll(fsys, "drop", 0o700); err != nil {
			return nil, err
		}
		return Open(Options{FS: fsys, Deliverer: reached, Reserve: 1, MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond})
	}
	work := func(o *Outbox, fsys *disktest.FS) error {
		take := func(name, replaces string) (Entry, error) {
			if err := writeFile(fsys, "drop/"+name, name); err != nil {
				return Entry{}, err
			}
			entries, errs := o.Put(context.Background(), []Item{{Path: "drop/" + name, Name: name, Wait: Forever, Replaces: replaces}})
			if errs[0] == nil {
				acked = append(acked, name)
			}
			return entries[0], errs[0]
		}
		old, err := take("old", "")
		if put = err == nil; !put {
			return err
		}
		e, err := take("new", old.ID)
		if replaced = err == nil; !replaced || !withdraw {
			return err
		}
		err = o.Withdraw(e.ID, "")
		gone = err == nil
		return err
	}
	deliver := func(fsys *disktest.FS) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		fsys.OnCut(cancel)
		o, err := open(fsys)
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() { done <- o.Run(ctx) }()
		for e := range o.Entries() {
			if err == nil && !e.Due {
				err = o.Edit([]Edit{{ID: e.ID, Wait: ptr(time.Duration(0))}}, nil)
			}
		}
		for err == nil && o.Stats().Entries > 0 && ctx.Err() == nil {
			time.Sleep(20 * time.Microsecond)
		}
		cancel()
		return errors.Join(err, <-done, o.Close())
	}
	return disktest.Scenario{
		Run: func(fsys *disktest.FS) error {
			o, err := open(fsys)
			if err != nil {
				return err
			}
			if err := errors.Join(work(o, fsys), o.Close()); err != nil {
				return err
			}
			fsys.Heal() // faults of the delivery are those of TestEveryFault
			return deliver(fsys)
		},
		Recover: deliver,
		Check: func(fsys *disktest.FS) error {
			got := reached.got("t")
			slices.Sort(got)
			got = slices.Compact(got) // a power cut after the send sends it again
			if len(got) > 1 || gone && len(got) > 0 || replaced && slices.Contains(got, "old") || put && !withdraw && len(got) == 0 {
				return fmt.Errorf("put %t, replaced %t, withdrawn %t: delivered %v", put, replaced, gone, got)
			}
			for name := range fsys.Files() {
				if dir, base := path.Split(name); path.Ext(name) == dataSuffix || dir == "drop/" && slices.Contains(append(acked, got...), base) {
					return fmt.Errorf("%s is left", name)
				}
			}
			return nil
		},
	}
}

// careless reads the bytes in a way that hides the error that comes with the last of them.
type careless struct{ *cloud }

func (c careless) Prepare(_ context.Context, e Entry, open func() (disk.File, error)) (any, error) {
	f, err := open()
	if err != nil {
		return nil, errors.New("hidden")
	}
	defer f.Close()
	data := make([]byte, e.Size)
	_, err = io.ReadFull(f, data)
	return payload(data), err
}

func TestChecksum(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "t")
		r.opts.Deliverer = careless{r.cloud}
		r.open()
		sum := func(i *Item) { i.Checksum = ptr(crc32.Checksum([]byte("content of "+i.Name), castagnoli)) }
		entries := r.take(r.item("good", sum), r.item("bad", sum), r.item("none", nil), r.item("cut", nil))
		damage(t, fsys, entries[1].Path, 3)
		damage(t, fsys, entries[2].Path, 3) // nobody can tell
		f, err := fsys.OpenFile(entries[3].Path, os.O_RDWR, 0)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(1))
		require.NoError(t, f.Close())
		r.open().run().empty()
		assert.Equal(t, []string{"good", "none"}, r.cloud.got("t"))
		aside := readAside(t, fsys, entries[1])
		assert.Contains(t, aside.Failure.Error, "the disk has changed its bytes")
		assert.Equal(t, crc32.Checksum([]byte("content of bad"), castagnoli), *aside.Checksum)
		assert.Contains(t, readAside(t, fsys, entries[3]).Failure.Error, "holds 1 bytes, expected the 14")
		assert.Len(t, r.log.lines("level=ERROR"), 2)
	})
}

// damage changes a byte of a file.
func damage(t *testing.T, fsys disk.FS, name string, at int64) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.Seek(at, io.SeekStart)
	require.NoError(t, err)
	_, err = f.Write([]byte("#"))
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestCheckedFileThatIsSought(t *testing.T) {
	r := newRig(t, disktest.New(1)).open()
	e := r.take(r.item("a", func(i *Item) { i.Checksum = ptr(crc32.Checksum([]byte("content of a"), castagnoli)) }))[0]
	f, err := r.Outbox.open(r.entries[must(parseID(e.ID))])
	require.NoError(t, err)
	for _, offset := range []int64{0, 3, 0} {
		_, err := f.Seek(offset, io.SeekStart)
		require.NoError(t, err)
		data, err := io.ReadAll(f)
		require.NoError(t, err)
		assert.Equal(t, "content of a"[offset:], string(data))
	}
	damage(t, r.fs, e.Path, 5)
	_, err = f.Seek(0, io.SeekStart)
	require.NoError(t, err)
	_, err = io.ReadAll(f)
	assert.ErrorContains(t, err, "the disk has changed its bytes")
	require.NoError(t, f.Close())
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("not ok")
	}
	return v
}

// What the disk cannot read is told, and holds up nobody for ever; what the machine is short of for now is tried again for ever.
func TestFilesThatCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		kind  disktest.Kind
		errno syscall.Errno
		aside bool
	}{
		"read EIO":    {disktest.Read, syscall.EIO, true},
		"open EIO":    {disktest.Open, syscall.EIO, true},
		"open EMFILE": {disktest.Open, syscall.EMFILE, false},
		"open ENFILE": {disktest.Open, syscall.ENFILE, false},
		"open ENOMEM": {disktest.Open, syscall.ENOMEM, false},
		"open ESTALE": {disktest.Open, syscall.ESTALE, false},
		"read ESTALE": {disktest.Read, syscall.ESTALE, false},
		"read ENOMEM": {disktest.Read, syscall.ENOMEM, false},
		"stat EIO":    {disktest.Lstat, syscall.EIO, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := disktest.New(1)
				r := newRig(t, fsys, "t")
				r.opts.MinBackoff, r.opts.MaxBackoff = 0, 0 // the defaults
				r.open()
				entries := r.take(r.item("bad", nil), r.item("behind", nil), r.item("other", func(i *Item) { i.Lane = "other" }))
				fsys.Inject(disktest.Fault{Kind: c.kind, Path: entries[0].Path, Forever: true, Err: c.errno})
				r.run()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				assert.Equal(t, []string{"other"}, r.cloud.got("t"), "another lane waits for nothing")
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				require.NotEmpty(t, r.log.lines(`name=bad`))
				assert.Contains(t, r.log.lines("Preparing files fails")[0], c.errno.Error())
				if c.aside {
					assert.Equal(t, []string{"other", "behind"}, r.cloud.got("t"))
					assert.Equal(t, Stats{Failed: 1}, r.totals())
					assert.Contains(t, readAside(t, fsys, entries[0]).Failure.Error, "the disk cannot read the file")
				} else {
					assert.Equal(t, []string{"other"}, r.cloud.got("t"))
					fsys.Heal()
					time.Sleep(5 * time.Minute)
					synctest.Wait()
					assert.Equal(t, []string{"other", "bad", "behind"}, r.cloud.got("t"))
				}
				r.halt()
			})
		})
	}
}

// readingAudit reads the files again for their audit, as is done when the payloads are gone.
type readingAudit struct{ *cloud }

func (c readingAudit) Audit(_ context.Context, batch []Prepared) []error {
	errs := make([]error, len(batch))
	for i, p := range batch {
		f, err := p.Open()
		if errs[i] = err; err == nil {
			f.Close()
		}
	}
	return errs
}

// Nor does one that was sent wait for its audit for ever, where nobody could retry or discard it.
func TestFileThatCannotBeReadForItsAudit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := disktest.New(1)
		r := newRig(t, fsys, "t")
		r.opts.MinBackoff, r.opts.MaxBackoff, r.opts.Deliverer = 0, 0, readingAudit{r.cloud}
		r.open()
		entries := r.put("bad", "good")
		r.cloud.onSend = func(context.Context, string, []string) error {
			fsys.Inject(disktest.Fault{Kind: disktest.Open, Path: entries[0].Path, Forever: true})
			return nil
		}
		r.run()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, Stats{Entries: 1, Bytes: entries[0].Size, Unaudited: 1, Oldest: entries[0].Accepted}, r.totals(), "it may be over soon")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		assert.Equal(t, Stats{Failed: 1}, r.totals())
		assert.Contains(t, readAside(t, fsys, entries[0]).Failure.Error, "the disk cannot read the file")
		r.halt()
	})
}

// Numbers are given once, whatever has left since, and whatever a Put was given that failed.
func TestNumbersAreGivenOnce(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys, "t").open()
	seen := map[string]bool{}
	for i := range 20 {
		if i%3 == 0 {
			item := r.write(fmt.Sprint("fails", i), "x")
			fsys.Inject(disktest.Fault{Kind: disktest.Rename, Path: item.Path})
			_, errs := r.Put(t.Context(), []Item{item})
			require.Error(t, errs[0])
			fsys.Heal()
		}
		e := r.take(r.item(fmt.Sprint(i), held))[0]
		seq, _, _ := strings.Cut(path.Base(e.Path), "-")
		assert.False(t, seen[seq], seq)
		seen[seq] = true
		assert.Equal(t, seq, slices.Max(slices.Collect(maps.Keys(seen))), "they rise")
		switch i % 4 {
		case 0:
			require.NoError(t, r.Withdraw(e.ID, ""))
		case 1:
			require.NoError(t, r.Edit([]Edit{{ID: e.ID, Last: true}}, nil))
		case 2:
			r.fs = fsys
			r.crash(disktest.Killed())
			fsys = r.fs.(*disktest.FS)
		}
	}
}

// The segment that knew the last number by its records may be gone: the header of the one that is left knows it.
func TestNumbersAreGivenOnceThoughTheirSegmentIsGone(t *testing.T) {
	r := newRig(t, disktest.New(1), "t").open()
	entries := r.take(r.item("a", held), r.item("b", nil))
	r.open()
	require.NoError(t, r.Withdraw(entries[0].ID, "")) // a line about the first in a new segment
	r.run().empty()
	r.eventually(func() bool { return len(r.files("outbox", journalSuffix)) == 1 }, "the old segment is kept")
	assert.Greater(t, r.open().take(r.item("c", nil))[0].Path[:len("outbox/0000000000000003")], entries[1].Path[:len("outbox/0000000000000003")])
}

// A place that an Edit has given is not given again, either.
func TestPlaceOfAnEditIsGivenOnce(t *testing.T) {
	r := newRig(t, disktest.New(1)).open()
	entries := r.take(r.item("a", held), r.item("b", held))
	require.NoError(t, r.Edit([]Edit{{ID: entries[0].ID, Last: true}}, nil))
	r.crash(disktest.Nothing())
	c := r.take(r.item("c", func(i *Item) { held(i); i.Key = "user/a" }))[0]
	assert.Equal(t, c.ID, r.lookup("user/a").ID, "the newest version")
	assert.Equal(t, []string{"b", "a", "c"}, r.names())
}

// What an operator has moved back from failed/ is an entry, whenever the power is cut while Open takes it over.
func TestEveryCrashOfTakingBack(t *testing.T) {
	for cut, done := 0, false; !done; cut++ {
		for _, policy := range []disktest.Policy{disktest.Nothing(), disktest.Everything(), disktest.Killed(), disktest.Mixture(1), disktest.Mixture(2)} {
			fsys := disktest.New(1)
			r := newRig(t, fsys, "t").open()
			r.cloud.script("send t a", permanent("never"))
			r.put("a")
			r.run().empty()
			r.open().put("z") // in a new segment: the journal forgets a
			r.run().empty()
			r.eventually(func() bool { return len(r.files("outbox", journalSuffix)) == 1 }, "the old segment is kept")
			r.halt()
			for _, name := range r.files("failed", "") {
				require.NoError(t, fsys.Rename("failed/"+name, "outbox/"+name))
			}
			require.NoError(t, fsys.SyncDir("outbox"))
			require.NoError(t, fsys.SyncDir("failed"))
			fsys.CutAt(fsys.Len() + cut)
			_, err := Open(r.opts)
			done = err == nil && !fsys.IsCut() // and the power is cut right after it
			r.crash(policy).crash(disktest.Nothing()).run().empty()
			require.Equal(t, []string{"z", "a"}, r.cloud.got("t"), "cut before operation %d, %v", cut, policy)
			require.Equal(t, Stats{}, r.totals())
			r.halt()
		}
	}
}
