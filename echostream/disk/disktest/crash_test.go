package disktest_test

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// do is what a test does to a disk; the first error ends the test.
type do struct {
	t *testing.T
	*disktest.FS
}

func (d do) open(name string, flag int) disk.File {
	d.t.Helper()
	f, err := d.OpenFile(name, flag, 0o600)
	require.NoError(d.t, err)
	return f
}

func (d do) write(name, data string) disk.File {
	d.t.Helper()
	f := d.open(name, os.O_RDWR|os.O_CREATE)
	_, err := f.Write([]byte(data))
	require.NoError(d.t, err)
	return f
}

// synced makes a file whose bytes are durable, and not its name.
func (d do) synced(name, data string) {
	d.t.Helper()
	f := d.write(name, data)
	require.NoError(d.t, f.Sync())
	require.NoError(d.t, f.Close())
}

func (d do) mkdir(name string)      { d.t.Helper(); require.NoError(d.t, d.Mkdir(name, 0o700)) }
func (d do) rename(from, to string) { d.t.Helper(); require.NoError(d.t, d.Rename(from, to)) }
func (d do) remove(name string)     { d.t.Helper(); require.NoError(d.t, d.Remove(name)) }
func (d do) syncDir(names ...string) {
	d.t.Helper()
	for _, name := range names {
		require.NoError(d.t, d.SyncDir(name))
	}
}

// state is the tree in one line: "a=1 d/ d/b=2".
func state(fsys *disktest.FS) string {
	files := fsys.Files()
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "/") {
			parts = append(parts, name)
		} else {
			parts = append(parts, name+"="+strings.ReplaceAll(files[name], "\x00", "0"))
		}
	}
	return strings.Join(parts, " ")
}

// states are all that a power cut can leave: what 400 seeds find.
func states(fsys *disktest.FS) []string {
	found := map[string]bool{}
	for seed := range uint64(400) {
		found[state(fsys.Crash(disktest.Mixture(seed)))] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// powerCut is a case of the model: nothing, everything and all mixtures of what it leaves unsynced.
type powerCut struct {
	name    string
	durable func(d do) // the top is synced after it, and the directory d if it is there
	then    func(d do)
	nothing string
	all     string
	others  []string
	moves   bool // a file to another directory: with two names more can be left
}

func (c powerCut) test(t *testing.T, twoNames bool) {
	d := do{t, disktest.New(1)}
	d.SetTwoNames(twoNames)
	if c.durable != nil {
		c.durable(d)
		d.syncDir(".")
		if _, err := d.Lstat("d"); err == nil {
			d.syncDir("d")
		}
	}
	c.then(d)
	require.Equal(t, c.nothing, state(d.Crash(disktest.Nothing())), "nothing")
	require.Equal(t, c.all, state(d.Crash(disktest.Everything())), "everything")
	want := slices.Compact(slices.Sorted(slices.Values(append(c.others, c.nothing, c.all))))
	require.Equal(t, want, states(d.FS), "mixtures")
}

func TestWhatAPowerCutLeaves(t *testing.T) {
	for _, c := range []powerCut{
		{name: "all synced", nothing: "a=1", all: "a=1",
			then: func(d do) { d.synced("a", "1"); d.syncDir(".") }},
		{name: "a name is not synced with the file", nothing: "", all: "a=1",
			then: func(d do) { d.synced("a", "1") }},
		{name: "a file is not synced with its name", nothing: "a=", all: "a=1", others: []string{"a=0"},
			then: func(d do) { d.write("a", "1"); d.syncDir(".") }},
		{name: "a file is synced under any name", nothing: "b=1", all: "b=1",
			then: func(d do) {
				f := d.write("a", "1")
				d.rename("a", "b")
				require.NoError(d.t, f.Sync())
				d.syncDir(".")
			}},
		{name: "writes are independent", nothing: "a=....", all: "a=AAAA", others: []string{"a=..AA", "a=AA..",
			"a=A...", "a=..A.", "a=A.A.", "a=A.AA", "a=AAA."},
			durable: func(d do) { d.synced("a", "....") },
			then: func(d do) {
				f := d.write("a", "AA")
				_, err := f.Write([]byte("AA"))
				require.NoError(d.t, err)
			}},
		{name: "a truncation", nothing: "a=12345", all: "a=1", durable: func(d do) { d.synced("a", "12345") },
			then: func(d do) { require.NoError(d.t, d.open("a", os.O_RDWR).Truncate(1)) }},
		{name: "a rename is atomic", nothing: "a=1", all: "b=1",
			durable: func(d do) { d.synced("a", "1") },
			then:    func(d do) { d.rename("a", "b") }},
		{name: "a rename that replaces is atomic", nothing: "a=new b=old", all: "b=new",
			durable: func(d do) { d.synced("a", "new"); d.synced("b", "old") },
			then:    func(d do) { d.rename("a", "b") }},
		{name: "the directory a rename came from is synced", moves: true, nothing: "a=1 d/", all: "d/ d/a=1",
			durable: func(d do) { d.mkdir("d"); d.synced("a", "1") },
			then:    func(d do) { d.rename("a", "d/a"); d.syncDir(".") }},
		{name: "the directory a rename went to is synced", moves: true, nothing: "d/ d/a=1", all: "d/ d/a=1",
			durable: func(d do) { d.mkdir("d"); d.synced("a", "1") },
			then:    func(d do) { d.rename("a", "d/a"); d.syncDir("d") }},
		{name: "a chain of renames", nothing: "a=1", all: "c=1", others: []string{"b=1"},
			durable: func(d do) { d.synced("a", "1") },
			then:    func(d do) { d.rename("a", "b"); d.rename("b", "c") }},
		{name: "a name that is used again", nothing: "a=1", all: "a=2 b=1", others: []string{"b=1"},
			durable: func(d do) { d.synced("a", "1") },
			then:    func(d do) { d.rename("a", "b"); d.synced("a", "2") }},
		{name: "a sync takes along what its names depend on", nothing: "a=2 d/ d/a=1", all: "a=2 d/ d/a=1",
			durable: func(d do) { d.mkdir("d"); d.synced("a", "1") },
			then:    func(d do) { d.rename("a", "d/a"); d.synced("a", "2"); d.syncDir(".") }},
		{name: "unlinks are independent", nothing: "a=1 b=2", all: "", others: []string{"a=1", "b=2"},
			durable: func(d do) { d.synced("a", "1"); d.synced("b", "2") },
			then:    func(d do) { d.remove("a"); d.remove("b") }},
		{name: "an unlink comes back with the synced bytes", nothing: "a=1", all: "",
			durable: func(d do) { d.synced("a", "1") },
			then: func(d do) {
				f := d.write("a", "2")
				d.remove("a")
				require.NoError(d.t, f.Close())
			}, others: []string{"a=2"}},
		{name: "a later operation without an earlier one", nothing: "a=1", all: "b=2", others: []string{"", "a=1 b=2"},
			durable: func(d do) { d.synced("a", "1") },
			then:    func(d do) { d.remove("a"); d.synced("b", "2") }},
		{name: "a rename to an unsynced directory", moves: true, nothing: "a=1", all: "e/ e/a=1", others: []string{"a=1 e/"},
			durable: func(d do) { d.synced("a", "1") },
			then:    func(d do) { d.mkdir("e"); d.rename("a", "e/a") }},
		{name: "a lost directory takes along what was synced in it", moves: true, nothing: "", all: "e/ e/a=1",
			durable: func(d do) { d.synced("a", "1") },
			then:    func(d do) { d.mkdir("e"); d.rename("a", "e/a"); d.syncDir("e") }},
		{name: "a removed directory", nothing: "d/ d/a=1", all: "", others: []string{"d/"},
			durable: func(d do) { d.mkdir("d"); d.synced("d/a", "1") },
			then:    func(d do) { d.remove("d/a"); d.remove("d") }},
		{name: "a directory is removed with what left it", nothing: "a=1", all: "a=1",
			durable: func(d do) { d.mkdir("d"); d.synced("d/a", "1") },
			then:    func(d do) { d.rename("d/a", "a"); d.remove("d"); d.syncDir(".") }},
		{name: "directories change places", nothing: "d/ d/e/", all: "e/ e/d/", others: []string{"d/ e/"},
			durable: func(d do) { d.mkdir("d"); d.mkdir("d/e") },
			then:    func(d do) { d.rename("d/e", "e"); d.rename("d", "e/d") }},
		{name: "a failed sync loses the bytes for good", nothing: "a=old", all: "a=old",
			durable: func(d do) { d.synced("a", "old") },
			then: func(d do) {
				f := d.write("a", "new")
				d.Inject(disktest.Fault{Kind: disktest.Sync})
				require.ErrorIs(d.t, f.Sync(), syscall.EIO)
				require.Equal(d.t, "a=new", state(d.FS), "until then they can be read")
				require.NoError(d.t, f.Sync(), "and the kernel has forgotten the error")
			}},
		{name: "a failed sync of a directory changes nothing", nothing: "", all: "a=1",
			then: func(d do) {
				d.synced("a", "1")
				d.Inject(disktest.Fault{Kind: disktest.SyncDir})
				require.ErrorIs(d.t, d.SyncDir("."), syscall.EIO)
			}},
		{name: "a failed sync of a directory can be repeated", nothing: "a=1", all: "a=1",
			then: func(d do) {
				d.synced("a", "1")
				d.Inject(disktest.Fault{Kind: disktest.SyncDir})
				require.ErrorIs(d.t, d.SyncDir("."), syscall.EIO)
				d.syncDir(".")
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(t, false)
			if !c.moves {
				c.test(t, true)
			}
		})
	}
}

// TestTwoNames: what ext4, xfs and btrfs did in these cases stands in the package comment.
func TestTwoNames(t *testing.T) {
	moved := func(d do) { d.mkdir("d"); d.synced("a", "1") }
	for _, c := range []powerCut{
		{name: "nothing is synced", nothing: "a=1 d/", all: "d/ d/a=1", others: []string{"a=1 d/ d/a=1"},
			durable: moved, then: func(d do) { d.rename("a", "d/a") }},
		{name: "the directory it went to is synced", nothing: "a=1 d/ d/a=1", all: "d/ d/a=1",
			durable: moved, then: func(d do) { d.rename("a", "d/a"); d.syncDir("d") }},
		{name: "the directory it came from is synced", nothing: "a=1 d/", all: "d/ d/a=1", others: []string{"a=1 d/ d/a=1"},
			durable: moved, then: func(d do) { d.rename("a", "d/a"); d.syncDir(".") }},
		{name: "both are synced", nothing: "d/ d/a=1", all: "d/ d/a=1",
			durable: moved, then: func(d do) { d.rename("a", "d/a"); d.syncDir("d", ".") }},
		{name: "both are synced, the other way round", nothing: "d/ d/a=1", all: "d/ d/a=1",
			durable: moved, then: func(d do) { d.rename("a", "d/a"); d.syncDir(".", "d") }},
		{name: "within a directory it is atomic", nothing: "b=1", all: "b=1",
			durable: func(d do) { d.synced("a", "1") }, then: func(d do) { d.rename("a", "b"); d.syncDir(".") }},
		{name: "a directory has one name", nothing: "d/ d/e/ d/e/a=1", all: "d/ d/e/ d/e/a=1",
			durable: func(d do) { d.mkdir("d"); d.mkdir("e"); d.synced("e/a", "1"); d.syncDir("e") },
			then:    func(d do) { d.rename("e", "d/e"); d.syncDir("d") }},
		{name: "a file that is replaced is gone", nothing: "a=1 d/ d/b=1", all: "d/ d/b=1",
			durable: func(d do) { moved(d); d.synced("d/b", "2") },
			then:    func(d do) { d.rename("a", "d/b"); d.syncDir("d") }},
		{name: "the old name never was durable", nothing: "d/ d/a=1", all: "d/ d/a=1", others: []string{"a=1 d/ d/a=1"},
			durable: func(d do) { d.mkdir("d") },
			then:    func(d do) { d.synced("a", "1"); d.rename("a", "d/a"); d.syncDir("d") }},
		{name: "a removed file comes back under its old name", nothing: "a=1 d/", all: "d/",
			durable: moved, then: func(d do) { d.rename("a", "d/a"); d.syncDir("d"); d.remove("d/a"); d.syncDir("d") }},
		{name: "and does not when that was synced before", nothing: "d/", all: "d/",
			durable: moved,
			then:    func(d do) { d.rename("a", "d/a"); d.syncDir("d"); d.remove("d/a"); d.syncDir("d", ".") }},
		{name: "the old name is used again", nothing: "a=1 d/ d/a=1", all: "a=2 d/ d/a=1", others: []string{"d/ d/a=1"},
			durable: moved, then: func(d do) { d.rename("a", "d/a"); d.syncDir("d"); d.synced("a", "2") }},
		{name: "the old name is used again, and synced", nothing: "a=2 d/ d/a=1", all: "a=2 d/ d/a=1",
			durable: moved, then: func(d do) { d.rename("a", "d/a"); d.synced("a", "2"); d.syncDir(".") }},
		{name: "two files go the same way", nothing: "a=1 d/ d/a=1 d/b=2", all: "d/ d/a=1 d/b=2",
			others: []string{"a=2 d/ d/a=1 d/b=2"}, durable: moved,
			then: func(d do) {
				d.rename("a", "d/a")
				d.synced("a", "2")
				d.rename("a", "d/b")
				d.syncDir("d")
			}},
		{name: "the file goes on to a third directory", nothing: "a=1 d/ d/e/ d/e/a=1", all: "d/ d/e/ d/e/a=1",
			others:  []string{"a=1 d/ d/a=1 d/e/ d/e/a=1", "d/ d/a=1 d/e/ d/e/a=1"},
			durable: func(d do) { moved(d); d.mkdir("d/e") },
			then:    func(d do) { d.rename("a", "d/a"); d.rename("d/a", "d/e/a"); d.syncDir("d/e") }},
		{name: "a lost directory takes along one of the names", nothing: "a=1", all: "e/ e/a=1",
			others:  []string{"a=1 e/ e/a=1", ""}, // "": the old name was taken away by chance
			durable: func(d do) { d.synced("a", "1") },
			then:    func(d do) { d.mkdir("e"); d.rename("a", "e/a"); d.syncDir("e") }},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, true) })
	}
}

// TestTwoNamesAreOneFile: its bytes, its space and what SameFile says; and one of the names can be taken away.
func TestTwoNamesAreOneFile(t *testing.T) {
	for _, policy := range []disktest.Policy{disktest.Nothing(), disktest.Killed()} { // what Nothing left is then passed on
		d := do{t, disktest.New(1)}
		d.SetTwoNames(true)
		d.SetCapacity(100)
		d.mkdir("d")
		d.synced("a", "123456")
		d.syncDir(".")
		d.rename("a", "d/a")
		d.syncDir("d")
		d.FS = d.Crash(disktest.Nothing()).Crash(policy)
		require.Equal(t, "a=123456 d/ d/a=123456", state(d.FS))
		lstat := func(name string) fs.FileInfo {
			info, err := d.Lstat(name)
			require.NoError(t, err)
			return info
		}
		free := func() uint64 {
			free, err := d.Free()
			require.NoError(t, err)
			return free
		}
		require.True(t, disk.SameFile(lstat("a"), lstat("d/a")))
		require.EqualValues(t, 94, free())
		require.NoError(t, d.write("a", "abc").Close())
		require.Equal(t, "a=abc456 d/ d/a=abc456", state(d.FS))
		d.rename("a", "d/a") // as POSIX has it: nothing happens
		require.Equal(t, "a=abc456 d/ d/a=abc456", state(d.FS))

		d.remove("a")
		require.EqualValues(t, 94, free())
		require.Equal(t, "a=123456 d/ d/a=123456", state(d.Crash(disktest.Nothing())), "it is not synced")
		d.FS = d.Crash(disktest.Everything())
		require.Equal(t, "d/ d/a=abc456", state(d.FS))
		d.remove("d/a")
		require.EqualValues(t, 100, free())
	}
}

func TestTornWrites(t *testing.T) {
	const size = 3000
	d := do{t, disktest.New(1)}
	d.synced("a", strings.Repeat("o", 1000))
	d.syncDir(".")
	d.write("a", strings.Repeat("n", size))
	var kept, lost, bytes, sectors, holes, zeros int
	for seed := range uint64(500) {
		data, err := d.Crash(disktest.Mixture(seed)).ReadFile("a")
		require.NoError(t, err)
		s := string(data)
		for i, c := range s {
			require.True(t, c == 'n' || i < 1000 && c == 'o' || i >= 1000 && c == 0, "byte %d is %q", i, c)
		}
		end := len(s) - len(strings.TrimLeft(s, "n"))
		switch {
		case end == size:
			kept++
		case s == strings.Repeat("o", 1000):
			lost++
		case end == 0 && !strings.Contains(s, "n"):
			zeros++
		case strings.Contains(s[end:], "n"):
			holes++
		case end%512 == 0:
			sectors++
		default:
			bytes++
		}
	}
	for name, n := range map[string]int{"kept": kept, "lost": lost, "bytes": bytes, "sectors": sectors, "holes": holes,
		"zeros": zeros} {
		require.Greater(t, n, 10, name)
	}
}

func TestTimesAreDurableWithTheFile(t *testing.T) {
	old, set := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2002, 1, 1, 0, 0, 0, 0, time.UTC)
	d := do{t, disktest.New(1)}
	f := d.write("a", "1")
	require.NoError(t, d.Chtimes("a", old))
	require.NoError(t, f.Sync())
	d.syncDir(".")
	require.NoError(t, d.Chtimes("a", set))
	mtime := func(policy disktest.Policy) time.Time {
		info, err := d.Crash(policy).Lstat("a")
		require.NoError(t, err)
		require.True(t, disk.ChangeTime(info).After(set))
		return info.ModTime()
	}
	require.Equal(t, old, mtime(disktest.Nothing()))
	require.Equal(t, set, mtime(disktest.Everything()))
	found := map[time.Time]bool{}
	for seed := range uint64(20) {
		found[mtime(disktest.Mixture(seed))] = true
	}
	require.Equal(t, map[time.Time]bool{old: true, set: true}, found)
}

func TestClocks(t *testing.T) {
	d := do{t, disktest.New(1)}
	stamp := func(fsys *disktest.FS, name string) time.Time {
		info, err := fsys.Lstat(name)
		require.NoError(t, err)
		return disk.ChangeTime(info)
	}
	d.synced("a", "1")
	d.Advance(time.Hour)
	d.synced("b", "1")
	require.Greater(t, stamp(d.FS, "b").Sub(stamp(d.FS, "a")), time.Hour)
	before := stamp(d.FS, "a")
	d.rename("a", "c")
	require.True(t, stamp(d.FS, "c").After(before), "a rename is a change")
	d.syncDir(".")

	after := do{t, d.Crash(disktest.Nothing())}
	after.synced("d", "1")
	require.True(t, stamp(after.FS, "d").After(stamp(d.Crash(disktest.Everything()), "b")), "time goes on")
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	after.SetClock(func() time.Time { return at })
	after.synced("e", "1")
	require.Equal(t, at, stamp(after.FS, "e"))
}

func TestKilled(t *testing.T) {
	d := do{t, disktest.New(1)}
	d.synced("a", "1")
	f := d.write("b", "2")
	d.write("c", "3")
	d.remove("c")
	after := do{t, d.Crash(disktest.Killed())}
	require.Equal(t, "a=1 b=2", state(after.FS))
	_, err := f.Write([]byte("x"))
	require.ErrorIs(t, err, disktest.ErrCrashed)
	require.ErrorIs(t, f.Close(), disktest.ErrCrashed)
	require.Panics(t, func() { d.Crash(disktest.Nothing()) })

	after.syncDir(".")
	require.Equal(t, "a=1 b=", state(after.Crash(disktest.Nothing())), "the bytes of b were never synced")
}

func TestCut(t *testing.T) {
	d := do{t, disktest.New(1)}
	d.CutAt(3)
	cuts := 0
	d.OnCut(func() { cuts++; require.True(t, d.IsCut()) })
	f := d.write("a", "1")
	require.NoError(t, f.Sync())
	require.Equal(t, 3, d.Len())
	require.False(t, d.IsCut())
	require.ErrorIs(t, d.SyncDir("."), disktest.ErrCrashed)
	require.True(t, d.IsCut())
	require.Equal(t, 3, d.Len(), "what was not done is not recorded")

	_, err := d.Lstat("a")
	require.ErrorIs(t, err, disktest.ErrCrashed)
	_, err = d.ReadDir(".")
	require.ErrorIs(t, err, disktest.ErrCrashed)
	_, err = d.Free()
	require.ErrorIs(t, err, disktest.ErrCrashed)
	_, err = f.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, disktest.ErrCrashed)
	d.Cut()
	require.Equal(t, 1, cuts)
	require.Equal(t, []string{"#0 create a", "#1 write a [0:1]", "#2 sync a"}, trace(d.FS))

	after := d.Crash(disktest.Mixture(5))
	require.Equal(t, "disk 1; -crash.op=3 -crash.seed=5", after.String())
	require.NoError(t, after.Mkdir("d", 0o700), "the new disk is not cut")
}

func trace(fsys *disktest.FS) []string {
	var lines []string
	for _, op := range fsys.Ops() {
		lines = append(lines, op.String())
	}
	return lines
}

func TestParsePolicy(t *testing.T) {
	for _, policy := range []disktest.Policy{disktest.Nothing(), disktest.Everything(), disktest.Killed(),
		disktest.Mixture(0), disktest.Mixture(7)} {
		parsed, err := disktest.ParsePolicy(policy.String())
		require.NoError(t, err)
		require.Equal(t, policy, parsed)
	}
	_, err := disktest.ParsePolicy("some")
	require.Error(t, err)
}

// TestRandomTrees does operations by chance and checks what must hold of every disk.
func TestRandomTrees(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := do{t, disktest.New(int64(seed))}
		d.SetTwoNames(seed%3 == 0)
		dirs := []string{"."}
		for _, name := range []string{"x", "y", "x/z"} {
			require.NoError(t, disk.MkdirAll(d, name, 0o700))
			dirs = append(dirs, name)
		}
		for i := range 6 {
			d.synced(dirs[i%len(dirs)]+fmt.Sprintf("/f%d", i), fmt.Sprint(i))
		}
		d.syncDir(dirs...)
		onlyRenames := seed%2 == 0
		pick := func() string { return dirs[r.IntN(len(dirs))] + fmt.Sprintf("/f%d", r.IntN(6)) }
		for range 40 {
			switch n := r.IntN(10); {
			case n < 5 || onlyRenames:
				to := pick()
				if _, err := d.Lstat(to); err != nil || !onlyRenames {
					_ = d.Rename(pick(), to)
				}
			case n < 6:
				_ = d.Remove(pick())
			case n < 8:
				d.synced(pick(), fmt.Sprint(n))
			case n < 9:
				_ = d.Rename("x/z", "y/z")
				_ = d.Rename("y/z", "x/z")
			default:
				_ = d.SyncDir(dirs[r.IntN(len(dirs))])
			}
		}
		live := state(d.FS)
		require.Equal(t, live, state(d.Crash(disktest.Everything())))
		for policy := range uint64(30) {
			after := d.Crash(disktest.Mixture(policy))
			require.Equal(t, state(after), state(d.Crash(disktest.Mixture(policy))), "the same seed, the same disk")
			require.Equal(t, state(after), state(after.Crash(disktest.Nothing())), "all that is left is durable")
			if onlyRenames {
				require.Equal(t, contents(d.Crash(disktest.Everything())), contents(after), "no rename loses a file")
			}
		}
		if onlyRenames {
			require.Equal(t, contents(d.Crash(disktest.Everything())), contents(d.Crash(disktest.Nothing())))
		}
		d.FS = d.Crash(disktest.Killed())
		d.syncDir(dirs...)
		require.Equal(t, names(live), names(state(d.Crash(disktest.Nothing()))), "all is synced")
	}
}

// names are those in a state, without the bytes.
func names(state string) []string {
	var all []string
	for name := range strings.FieldsSeq(state) {
		name, _, _ = strings.Cut(name, "=")
		all = append(all, name)
	}
	return all
}

// contents are the bytes of all files, whatever their names and how many each has.
func contents(fsys *disktest.FS) []string {
	var all []string
	for name, data := range fsys.Files() {
		if !strings.HasSuffix(name, "/") {
			all = append(all, data)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
