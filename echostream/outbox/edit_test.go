package outbox

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
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
	"github.com/ftpnode/ftpnode/internal/race"
)

func held(i *Item) { i.Wait, i.Yield = Forever, true }

// names lists the names of what waits, in the order.
func (r *rig) names() (names []string) {
	for e := range r.Entries() {
		names = append(names, e.Name)
	}
	return names
}

func TestEdit(t *testing.T) {
	later := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	for name, c := range map[string]struct {
		edit  Edit
		want  func(*Entry) // of the entry that was there before
		order []string     // by default, as before
	}{
		"nothing":  {},
		"name":     {edit: Edit{Name: ptr("n\xff")}, want: func(e *Entry) { e.Name = "n\xff" }, order: []string{"n\xff", "b", "c"}},
		"key":      {edit: Edit{Key: ptr("user/\xfe")}, want: func(e *Entry) { e.Key = "user/\xfe" }},
		"no key":   {edit: Edit{Key: ptr("")}, want: func(e *Entry) { e.Key = "" }},
		"lane":     {edit: Edit{Lane: ptr("\xfd")}, want: func(e *Entry) { e.Lane = "\xfd" }},
		"meta":     {edit: Edit{Meta: json.RawMessage(`{"x":1}`)}, want: func(e *Entry) { e.Meta = json.RawMessage(`{"x":1}`) }},
		"time":     {edit: Edit{ModTime: &later}, want: func(e *Entry) { e.ModTime = later }},
		"wait":     {edit: Edit{Wait: ptr(time.Hour)}, want: func(e *Entry) { e.Until = time.Now().Add(time.Hour) }},
		"no wait":  {edit: Edit{Wait: ptr(time.Duration(0))}, want: func(e *Entry) { e.Due, e.Yield = true, false }},
		"no yield": {edit: Edit{Yield: ptr(false)}, want: func(e *Entry) { e.Yield = false }},
		"last":     {edit: Edit{Last: true}, order: []string{"b", "c", "a"}},
		"to the key of an older version": {edit: Edit{Key: ptr("user/k")}, want: func(e *Entry) { e.Key = "user/k" },
			order: []string{"a", "b", "c"}},
		"to the key of a later entry": {edit: Edit{Key: ptr("user/c")}, want: func(e *Entry) { e.Key = "user/c" }, order: []string{"b", "c", "a"}},
		"all of it": {edit: Edit{Name: ptr("N"), Key: ptr("user/c"), Lane: ptr("L"), Meta: json.RawMessage(`2`), ModTime: &later, Wait: ptr(time.Minute), Yield: ptr(false), Last: true},
			want: func(e *Entry) {
				e.Name, e.Key, e.Lane, e.Meta, e.ModTime, e.Until, e.Yield = "N", "user/c", "L", json.RawMessage(`2`), later, time.Now().Add(time.Minute), false
			}, order: []string{"b", "c", "N"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, disktest.New(1)).open()
				entries := r.take(r.item("a", held), r.item("b", held), r.item("c", held))
				want := entries[0]
				if c.want != nil {
					c.want(&want)
				}
				if c.order == nil {
					c.order = []string{"a", "b", "c"}
				}
				c.edit.ID = want.ID
				require.NoError(t, r.Edit([]Edit{c.edit}, nil))
				check := func() {
					t.Helper()
					assert.Equal(t, c.order, r.names())
					list := slices.Collect(r.Entries())
					got := list[slices.IndexFunc(list, func(e Entry) bool { return e.ID == want.ID })]
					assert.True(t, want.Until.Equal(got.Until), "%v, expected %v", got.Until, want.Until)
					got.Until = want.Until
					assert.Equal(t, want, got)
					if want.Key != "" {
						assert.Equal(t, want.ID, r.lookup(want.Key).ID)
					}
					if want.Key != "user/a" {
						_, ok := r.Lookup("user/a")
						assert.False(t, ok)
					}
				}
				check()
				for _, policy := range []disktest.Policy{disktest.Nothing(), disktest.Killed()} {
					r.crash(policy)
					check()
				}
			})
		})
	}
}

func TestEditIsAllOrNothing(t *testing.T) {
	for name, c := range map[string]struct {
		with Edit
		err  error
		text string
	}{
		"due":      {with: Edit{ID: "due"}, err: ErrDue},
		"left":     {with: Edit{ID: "left"}, err: fs.ErrNotExist},
		"unknown":  {with: Edit{ID: "0123456789abcdef0123456789abcdef"}, err: fs.ErrNotExist},
		"no id":    {with: Edit{ID: "x"}, err: fs.ErrNotExist},
		"twice":    {with: Edit{ID: "held"}, text: "twice"},
		"bad meta": {with: Edit{ID: "other", Meta: json.RawMessage("{")}, text: "expected a JSON value"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, disktest.New(1)).open()
			entries := r.take(r.item("held", held), r.item("other", held), r.item("due", nil), r.item("left", held))
			require.NoError(t, r.Withdraw(entries[3].ID, ""))
			before := slices.Collect(r.Entries())
			if i := slices.Index([]string{"held", "other", "due", "left"}, c.with.ID); i >= 0 {
				c.with.ID = entries[i].ID
			}
			ops := len(r.fs.(*disktest.FS).Ops())
			err := r.Edit([]Edit{{ID: entries[0].ID, Name: ptr("new"), Key: ptr("user/new"), Last: true}, c.with}, nil)
			require.Error(t, err)
			if c.err != nil {
				assert.ErrorIs(t, err, c.err)
			}
			assert.ErrorContains(t, err, c.text)
			assert.Equal(t, before, slices.Collect(r.Entries()))
			assert.Len(t, r.fs.(*disktest.FS).Ops(), ops, "the disk was left alone")
			r.crash(disktest.Everything())
			assert.Equal(t, before, slices.Collect(r.Entries()))
		})
	}
}

// journalFaults are the ways in which a line cannot be written.
var journalFaults = map[string][]disktest.Fault{
	"sync":           {{Kind: disktest.Sync}},
	"write":          {{Kind: disktest.Write}},
	"short write":    {{Kind: disktest.Write, Short: true}},
	"sync, for long": {{Kind: disktest.Sync, Forever: true}},
	// The line is written, and nothing after it.
	"sync, then writes": {{Kind: disktest.Sync, Forever: true}, {Kind: disktest.Write, Nth: 2, Forever: true}},
	stays:               {{Kind: disktest.Sync, Forever: true}, {Kind: disktest.Write, Nth: 2, Forever: true}, {Kind: disktest.Truncate, Forever: true}},
}

// stays is the fault that leaves the line where it is: until the next one is written, a process that begins anew finds it.
const stays = "sync, then writes and truncate"

// An Edit or a Withdraw that the journal does not take leaves all as it was: at once, after a kill, and after later writes.
func TestRefusedLineChangesNothing(t *testing.T) {
	for what, change := range map[string]func(r *rig, ids []string) error{
		"edit": func(r *rig, ids []string) error {
			return r.Edit([]Edit{{ID: ids[0], Name: ptr("x"), Key: ptr("user/c"), Lane: ptr("y"), Meta: json.RawMessage("1"), ModTime: ptr(time.Unix(1, 0)), Wait: ptr(time.Hour), Yield: ptr(false)},
				{ID: ids[1], Last: true}}, nil)
		},
		"edit and move": func(r *rig, ids []string) error {
			return r.Edit([]Edit{{ID: ids[0], Name: ptr("x")}}, &Move{"drop/d", "drop/e"})
		},
		"withdraw":         func(r *rig, ids []string) error { return r.Withdraw(ids[0], "") },
		"withdraw to path": func(r *rig, ids []string) error { return r.Withdraw(ids[0], "drop/back") },
	} {
		for name, faults := range journalFaults {
			for then, go_on := range map[string]func(r *rig){
				"killed": func(r *rig) { r.crash(disktest.Killed()) },
				"cut":    func(r *rig) { r.crash(disktest.Nothing()) },
				"healed, written to, cut": func(r *rig) {
					r.fs.(*disktest.FS).Heal()
					r.take(r.item("later", held))
					r.crash(disktest.Everything())
				},
				"healed, written to, killed": func(r *rig) {
					r.fs.(*disktest.FS).Heal()
					r.take(r.item("later", held))
					r.crash(disktest.Killed())
				},
				"closed": func(r *rig) { r.fs.(*disktest.FS).Heal(); r.open() },
			} {
				if name == stays && (then == "killed" || then == "closed") {
					continue
				}
				t.Run(path.Join(what, name, then), func(t *testing.T) {
					fsys := disktest.New(1)
					r := newRig(t, fsys).open()
					require.NoError(t, fsys.Mkdir("drop/d", 0o700))
					require.NoError(t, fsys.SyncDir("drop"))
					entries := r.take(r.item("a", held), r.item("b", held), r.item("c", held))
					before := slices.Collect(r.Entries())
					for _, fault := range faults {
						fault.Path = "outbox/*.journal"
						fsys.Inject(fault)
					}
					require.Error(t, change(r, []string{entries[0].ID, entries[1].ID}))
					assert.Equal(t, before, slices.Collect(r.Entries()))
					go_on(r)
					after := slices.DeleteFunc(slices.Collect(r.Entries()), func(e Entry) bool { return e.Name == "later" })
					assert.Equal(t, before, after)
					_, err := r.fs.Lstat("drop/d")
					assert.NoError(t, err)
				})
			}
		}
	}
}

// Wherever a power cut tears what an Edit has written, or what takes it back, all of it counts or nothing: a folder must not be renamed for some of its
// files only.
func TestTornEditIsAllOrNothing(t *testing.T) {
	for torn, more := int64(0), true; more; torn++ {
		r := newRig(t, disktest.New(1)).open()
		require.NoError(t, disk.MkdirAll(r.fs, "drop/old", 0o700))
		var edits []Edit
		for _, e := range r.take(r.item("old/a", held), r.item("old/b", held)) {
			edits = append(edits, Edit{ID: e.ID, Key: ptr("user/new/" + path.Base(e.Key))})
		}
		f, err := r.fs.OpenFile("outbox/"+r.files("outbox", journalSuffix)[0], os.O_RDWR, 0)
		require.NoError(t, err)
		before, err := f.Stat()
		require.NoError(t, err)
		r.fs.(*disktest.FS).Inject(disktest.Fault{Kind: disktest.Rename, Path: "drop/old"}) // Open does it
		require.Error(t, r.Edit(edits, &Move{"drop/old", "drop/new"}))
		after, err := f.Stat()
		require.NoError(t, err)
		more = after.Size()-torn > before.Size()
		require.NoError(t, f.Truncate(after.Size()-torn))
		require.NoError(t, f.Close())
		r.crash(disktest.Everything())
		_, err = r.fs.Lstat("drop/new")
		for _, name := range []string{"a", "b"} {
			_, renamed := r.Lookup("user/new/" + name)
			require.Equal(t, err == nil, renamed, "%s without the last %d bytes", name, torn)
		}
		r.halt()
	}
}

func TestEditWithMove(t *testing.T) {
	setup := func(t *testing.T) (*rig, *disktest.FS, Entry) {
		fsys := disktest.New(1)
		r := newRig(t, fsys).open()
		require.NoError(t, disk.MkdirAll(fsys, "drop/old", 0o700))
		require.NoError(t, disk.WriteFile(fsys, "drop/old/file", []byte("x"), 0o600))
		return r, fsys, r.take(r.item("a", func(i *Item) { held(i); i.Key = "user/old/a" }))[0]
	}
	move := func(r *rig, e Entry) error {
		return r.Edit([]Edit{{ID: e.ID, Key: ptr("user/new/a")}}, &Move{"drop/old", "drop/new"})
	}
	check := func(t *testing.T, r *rig, moved bool) {
		t.Helper()
		at, not := "old", "new"
		if moved {
			at, not = not, at
		}
		data, err := readFile(r.fs, path.Join("drop", at, "file"))
		require.NoError(t, err)
		assert.Equal(t, "x", data)
		_, err = r.fs.Lstat("drop/" + not)
		assert.ErrorIs(t, err, fs.ErrNotExist)
		r.lookup("user/" + at + "/a")
		_, ok := r.Lookup("user/" + not + "/a")
		assert.False(t, ok)
	}
	policies := []disktest.Policy{disktest.Nothing(), disktest.Killed(), disktest.Everything(), disktest.Mixture(1), disktest.Mixture(2)}

	t.Run("is durable", func(t *testing.T) {
		for _, policy := range policies {
			r, _, e := setup(t)
			require.NoError(t, move(r, e))
			check(t, r, true)
			check(t, r.crash(policy), true)
		}
	})
	t.Run("is finished by Open", func(t *testing.T) {
		r, fsys, e := setup(t)
		begin := fsys.Len()
		require.NoError(t, move(r, e))
		end := fsys.Len()
		rename := begin + slices.IndexFunc(fsys.Ops()[begin:], func(op disktest.Op) bool { return op.Kind == disktest.Rename })
		for cut := rename; cut < end; cut++ {
			for _, policy := range policies {
				r, fsys, e := setup(t)
				fsys.CutAt(cut)
				_ = move(r, e)
				check(t, r.crash(policy), true)
				check(t, r.crash(disktest.Nothing()), true)
			}
		}
	})
	t.Run("that fails is taken back", func(t *testing.T) {
		for _, fault := range []disktest.Fault{{Kind: disktest.Rename, Path: "drop/old"}, {Kind: disktest.SyncDir, Path: "drop"}} {
			for _, policy := range policies {
				r, fsys, e := setup(t)
				fsys.Inject(fault)
				require.Error(t, move(r, e))
				check(t, r, false)
				if fault.Kind == disktest.Rename {
					check(t, r.crash(policy), false)
				}
			}
		}
	})
	t.Run("whose error is not true is done", func(t *testing.T) {
		r, fsys, e := setup(t)
		fsys.Inject(disktest.Fault{Kind: disktest.Rename, Path: "drop/old", Done: true})
		require.NoError(t, move(r, e))
		check(t, r, true)
	})
	// The line that says that a Move is done may be refused: the next one says it.
	for name, refuse := range map[string]bool{"": false, "although the disk refused to note it": true} {
		t.Run("is not done twice "+name, func(t *testing.T) {
			r, fsys, e := setup(t)
			if refuse {
				fsys.Inject(disktest.Fault{Kind: disktest.Sync, Path: "outbox/*.journal", Nth: 2})
			}
			require.NoError(t, move(r, e))
			fsys.Heal()
			check(t, r, true)
			if refuse {
				r.take(r.item("later", held))
			}
			// Its owner makes the old directory again, and removes the new one.
			require.NoError(t, r.Edit([]Edit{{ID: e.ID, Key: ptr("user/a")}}, nil))
			require.NoError(t, disk.MkdirAll(fsys, "drop/old", 0o700))
			require.NoError(t, fsys.Remove("drop/new/file"))
			require.NoError(t, fsys.Remove("drop/new"))
			require.NoError(t, fsys.SyncDir("drop"))
			r.crash(disktest.Nothing())
			_, err := r.fs.Lstat("drop/old")
			assert.NoError(t, err)
			_, err = r.fs.Lstat("drop/new")
			assert.ErrorIs(t, err, fs.ErrNotExist)
		})
	}
	t.Run("waits for the one before it", func(t *testing.T) {
		r, fsys, e := setup(t)
		require.NoError(t, disk.MkdirAll(fsys, "drop/x", 0o700))
		done := make(chan error, 2)
		go func() { done <- move(r, e) }()
		go func() { done <- r.Edit(nil, &Move{"drop/x", "drop/y"}) }()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		r.crash(disktest.Nothing())
		check(t, r, true)
		_, err := r.fs.Lstat("drop/y")
		assert.NoError(t, err)
	})
}

func TestWithdraw(t *testing.T) {
	for name, c := range map[string]struct {
		to       string
		fault    *disktest.Fault // while it is withdrawn
		recovers func(r *rig)    // by default, nothing is needed
		want     map[string]string
	}{
		"removed":                     {},
		"moved":                       {to: "drop/back", want: map[string]string{"drop/back": "content of a"}},
		"moved to where it stood":     {to: "drop/61", want: map[string]string{"drop/61": "content of a"}},
		"to a directory that is gone": {to: "drop/none/back"},
		"below a file":                {to: "drop/other/back", want: map[string]string{"drop/other": "other"}},
		"to a name that is taken":     {to: "drop/other", want: map[string]string{"drop/other": "other"}},
		"not removed now":             {fault: &disktest.Fault{Kind: disktest.Unlink, Path: "outbox/*.data", Forever: true}, recovers: (*rig).healAndRun},
		"not removed now, at Open":    {fault: &disktest.Fault{Kind: disktest.Unlink, Path: "outbox/*.data", Forever: true}, recovers: func(r *rig) { r.crash(disktest.Nothing()) }},
		"not moved now":               {to: "drop/back", fault: &disktest.Fault{Kind: disktest.Rename, Path: "drop/back"}, recovers: (*rig).healAndRun, want: map[string]string{"drop/back": "content of a"}},
		"not moved now, at Open": {to: "drop/back", fault: &disktest.Fault{Kind: disktest.Rename, Path: "drop/back"}, recovers: func(r *rig) { r.crash(disktest.Killed()) },
			want: map[string]string{"drop/back": "content of a"}},
		"not synced now": {to: "drop/back", fault: &disktest.Fault{Kind: disktest.SyncDir, Path: "drop", Nth: 2}, recovers: (*rig).healAndRun, want: map[string]string{"drop/back": "content of a"}},
		"the move is told to fail and is done": {to: "drop/back", fault: &disktest.Fault{Kind: disktest.Rename, Path: "drop/back", Done: true}, recovers: (*rig).healAndRun,
			want: map[string]string{"drop/back": "content of a"}},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := disktest.New(1)
			r := newRig(t, fsys, "t").open()
			if name == "not removed now" || name == "not moved now" { // with Run running: it hears of it
				r.run()
			}
			require.NoError(t, disk.WriteFile(fsys, "drop/other", []byte("other"), 0o600))
			e := r.take(r.item("a", held), r.item("b", held))[0]
			if c.fault != nil {
				fsys.Inject(*c.fault)
			}
			require.NoError(t, r.Withdraw(e.ID, c.to))
			_, ok := r.Lookup("user/a")
			assert.False(t, ok)
			assert.ErrorIs(t, r.Withdraw(e.ID, ""), fs.ErrNotExist)
			assert.ErrorIs(t, r.Suspend(e.ID), fs.ErrNotExist)
			assert.Equal(t, []string{"b"}, r.names())
			if c.recovers != nil {
				c.recovers(r)
			}
			r.eventually(func() bool { return r.Stats().Entries == 1 }, "it has not left")
			if r.stop != nil {
				r.stop()
				r.stop = nil
			}
			for range 2 { // now, and after a power cut
				_, err := readFile(r.fs, e.Path)
				assert.ErrorIs(t, err, fs.ErrNotExist)
				for _, name := range []string{"drop/back", "drop/61"} {
					data, err := readFile(r.fs, name)
					if want, ok := c.want[name]; ok {
						require.NoError(t, err)
						assert.Equal(t, want, data)
					} else {
						assert.ErrorIs(t, err, fs.ErrNotExist)
					}
				}
				r.crash(disktest.Nothing())
			}
			assert.Equal(t, []string{"b"}, r.names())
			assert.Empty(t, r.cloud.got("t"))
			assert.Empty(t, r.goneList(), "its owner knows")
		})
	}
}

func (r *rig) healAndRun() {
	r.fs.(*disktest.FS).Heal()
	if r.stop == nil {
		r.run()
	}
	r.Wake()
}

func TestWithdrawOfWhatIsDue(t *testing.T) {
	r := newRig(t, disktest.New(1)).open()
	e := r.take(r.item("a", nil))[0]
	assert.ErrorIs(t, r.Withdraw(e.ID, ""), ErrDue)
	assert.ErrorIs(t, r.Suspend(e.ID), ErrDue)
	r.Resume(e.ID)
	r.Resume("x")
	assert.Equal(t, []string{"a"}, r.names())
}

// What was moved to its owner stays there when the journal has forgotten it; also if the process was killed before it synced the move.
func TestWithdrawIsDurable(t *testing.T) {
	for name, killed := range map[string]bool{"": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			fsys := disktest.New(1)
			r := newRig(t, fsys, "t")
			r.segmentSize = smallSegment
			r.open()
			require.NoError(t, disk.MkdirAll(r.fs, "partial", 0o700)) // nobody else syncs it
			e := r.take(r.item("a", held))[0]
			if killed {
				fsys.DropSync(func(op disktest.Op) bool { return op.Kind == disktest.SyncDir })
			}
			require.NoError(t, r.Withdraw(e.ID, "partial/back"))
			first := r.files("outbox", journalSuffix)[0]
			if killed {
				fsys.DropSync(nil)
				r.crash(disktest.Killed())
			}
			r.run()
			for _, name := range numbered("f", 6) {
				r.take(r.item(name, func(i *Item) { i.Meta = json.RawMessage(`"` + strings.Repeat("m", smallSegment/4) + `"`) }))
			}
			r.empty()
			r.eventually(func() bool { return !slices.Contains(r.files("outbox", journalSuffix), first) }, "the segment that tells of it is kept")
			r.stop()
			r.stop = nil
			r.crash(disktest.Nothing())
			data, err := readFile(r.fs, "partial/back")
			require.NoError(t, err)
			assert.Equal(t, "content of a", data)
			assert.Equal(t, Stats{}, r.totals())
		})
	}
}

// A process that was killed has withdrawn what an old segment tells of: before its file was removed, or before its move was synced. Open makes that
// durable before it removes the segment.
func TestKilledWithdrawalsAreDurableAfterOpen(t *testing.T) {
	state := func(t *testing.T) *rig {
		fsys := disktest.New(1)
		r := newRig(t, fsys)
		r.segmentSize = smallSegment
		r.open()
		require.NoError(t, disk.MkdirAll(r.fs, "partial", 0o700))
		removed, moved := r.take(r.item("removed", held))[0], r.take(r.item("moved", held))[0]
		fsys.Inject(disktest.Fault{Kind: disktest.Unlink, Path: removed.Path, Forever: true})
		require.NoError(t, r.Withdraw(removed.ID, ""))
		fsys.Heal()
		fsys.DropSync(func(op disktest.Op) bool { return op.Kind == disktest.SyncDir })
		require.NoError(t, r.Withdraw(moved.ID, "partial/back"))
		fsys.DropSync(nil)
		r.take(r.item("later", func(i *Item) { held(i); i.Meta = json.RawMessage(`"` + strings.Repeat("m", smallSegment) + `"`) })) // in a second segment
		return r
	}
	r := state(t)
	first := r.files("outbox", journalSuffix)[0]
	r.crash(disktest.Killed())
	require.NotContains(t, r.files("outbox", journalSuffix), first)
	ops := r.fs.(*disktest.FS).Len()
	mixtures := 6
	if race.Enabled { // which sees in one what it sees in all; .ci/prove tries them
		mixtures = 1
	}
	for cut := range ops + 1 {
		r := state(t)
		r.Outbox = nil
		killed := r.fs.(*disktest.FS).Crash(disktest.Killed())
		killed.CutAt(cut)
		opts := r.opts
		opts.FS = killed
		_, _ = Open(opts)
		for seed := range mixtures {
			again := &rig{t: t, fs: killed.Crash(disktest.Mixture(uint64(seed))), opts: opts}
			again.opts.FS = again.fs
			again.open()
			assert.Equal(t, []string{"later"}, again.names(), "cut before %d", cut)
			assert.Empty(t, again.files("failed", ""))
			data, err := readFile(again.fs, "partial/back")
			require.NoError(t, err)
			require.Equal(t, "content of moved", data)
		}
	}
}

// While a directory is renamed, which takes long on a disk that hangs, the journal cannot be made smaller: nobody tries over and over.
func TestNobodySpinsWhileADirectoryIsRenamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1)).open()
		o := r.Outbox
		segments := o.journal.segments
		o.locked(func() {
			o.phase, o.moving = sending, 1
			o.journal.segments = []*segment{{sealed: true, size: maxSegmentSize, live: 1, liveBytes: 1}}
		})
		var work atomic.Bool
		go func() {
			o.nextRemovals(false)
			work.Store(true)
		}()
		synctest.Wait()
		assert.False(t, work.Load())
		o.locked(func() {
			o.moving = 0
			o.cond.Broadcast()
		})
		synctest.Wait()
		assert.True(t, work.Load())
		o.locked(func() { o.phase, o.journal.segments = idle, segments })
	})
}
