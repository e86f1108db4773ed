//go:build powercut && linux

package disktest_test

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/internal/powercut"
)

func TestMain(m *testing.M) { powercut.Main(m) }

// on does things to a volume, the real one or the simulated one; its first error stays.
type on struct {
	disk.FS
	err error
}

func (o *on) do(err error) { o.err = errors.Join(o.err, err) }

func (o *on) mkdir(name string)    { o.do(disk.MkdirAll(o, name, 0o700)) }
func (o *on) move(from, to string) { o.do(o.Rename(from, to)) }
func (o *on) sync(dirs ...string) {
	for _, dir := range dirs {
		o.do(o.SyncDir(dir))
	}
}

// file makes a file whose bytes are durable, and not its name.
func (o *on) file(name, data string) {
	f, err := o.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		err = errors.Join(disk.WriteAll(f, []byte(data)), f.Sync(), f.Close())
	}
	o.do(err)
}

// tree is the state of a volume in one line, as state is of the simulated one.
func tree(t *testing.T, fsys disk.FS) string {
	var parts []string
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := fsys.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			name := path.Join(dir, e.Name())
			switch {
			case name == "lost+found": // of ext4
			case e.IsDir():
				parts = append(parts, name+"/")
				walk(name)
			default:
				f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
				require.NoError(t, err)
				b := make([]byte, 100)
				n, _ := f.Read(b)
				require.NoError(t, f.Close())
				parts = append(parts, name+"="+string(b[:n]))
			}
		}
	}
	walk(".")
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// TestPowerCutLeavesWhatTheModelSays compares real file systems with the simulated disk: what a power cut leaves of a real one is
// among what it can leave of that.
func TestPowerCutLeavesWhatTheModelSays(t *testing.T) {
	// The first lines are those of the package comment. Before each case, all that start has made is synced.
	start := func(o *on) {
		for _, dir := range []string{"a", "b", "c", "a/d"} {
			o.mkdir(dir)
		}
		o.file("a/x", "1")
		o.file("a/d/y", "2")
		o.sync("a/d", "a", "b", "c", ".")
	}
	cases := []struct {
		name string
		then func(o *on)
	}{
		{"neither directory", func(o *on) { o.move("a/x", "b/x") }},
		{"b", func(o *on) { o.move("a/x", "b/x"); o.sync("b") }},
		{"a", func(o *on) { o.move("a/x", "b/x"); o.sync("a") }},
		{"a, b", func(o *on) { o.move("a/x", "b/x"); o.sync("a", "b") }},
		{"b, a", func(o *on) { o.move("a/x", "b/x"); o.sync("b", "a") }},
		{"b/x itself", func(o *on) {
			o.move("a/x", "b/x")
			f, err := o.OpenFile("b/x", os.O_RDWR, 0)
			if err == nil {
				err = errors.Join(f.Sync(), f.Close())
			}
			o.do(err)
		}},
		{"b, removed, b", func(o *on) { o.move("a/x", "b/x"); o.sync("b"); o.do(o.Remove("b/x")); o.sync("b") }},
		{"b, removed, b, a", func(o *on) { o.move("a/x", "b/x"); o.sync("b"); o.do(o.Remove("b/x")); o.sync("b", "a") }},
		{"b, another a/x", func(o *on) {
			o.move("a/x", "b/x")
			o.sync("b")
			f, err := o.OpenFile("a/x", os.O_WRONLY|os.O_CREATE, 0o600)
			if err == nil {
				err = f.Close()
			}
			o.do(err)
		}},
		{"b, another a/x, its bytes", func(o *on) { o.move("a/x", "b/x"); o.sync("b"); o.file("a/x", "3") }},
		{"b, another a/x to b/z, b", func(o *on) {
			o.move("a/x", "b/x")
			o.sync("b")
			o.file("a/x", "3")
			o.move("a/x", "b/z")
			o.sync("b")
		}},
		{"a directory, b", func(o *on) { o.move("a/d", "b/d"); o.sync("b") }},
		{"a directory, a", func(o *on) { o.move("a/d", "b/d"); o.sync("a") }},
		{"a directory, then from it to c, c", func(o *on) { o.move("a/d", "b/d"); o.move("b/d/y", "c/y"); o.sync("c") }},
		{"within a", func(o *on) { o.move("a/x", "a/z") }},
		{"within a, a", func(o *on) { o.move("a/x", "a/z"); o.sync("a") }},
		{"on to c, c", func(o *on) { o.move("a/x", "b/z"); o.move("b/z", "c/x"); o.sync("c") }},
		{"b, on to c, c", func(o *on) { o.move("a/x", "b/z"); o.sync("b"); o.move("b/z", "c/x"); o.sync("c") }},
		{"b, back, a", func(o *on) { o.move("a/x", "b/x"); o.sync("b"); o.move("b/x", "a/x"); o.sync("a") }},
		{"over another, b", func(o *on) { o.file("b/x", "3"); o.sync("b"); o.move("a/x", "b/x"); o.sync("b") }},
		{"a new file, b", func(o *on) { o.file("a/z", "3"); o.move("a/z", "b/z"); o.sync("b") }},
		{"a new directory, b, e", func(o *on) { o.mkdir("b/e"); o.move("a/x", "b/e/x"); o.sync("b/e") }},
	}
	for _, kind := range powercut.Kinds() {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			volume := powercut.New(t, kind, dir)
			for _, c := range cases {
				simulated := disktest.New(1)
				simulated.SetTwoNames(true)
				model := &on{FS: simulated}
				start(model)
				c.then(model)
				require.NoError(t, model.err, c.name)
				possible := states(simulated)

				left := onReal(t, dir, volume, start, c.then)
				t.Logf("%-35s %s", c.name, left)
				require.Contains(t, possible, left, c.name)
			}
		})
	}
}

// onReal does a case to the volume, cuts its power, and gives what is left.
func onReal(t *testing.T, dir string, volume *powercut.Volume, start, then func(*on)) string {
	t.Helper()
	live, err := disk.Open(dir)
	require.NoError(t, err)
	empty(t, live, ".")
	o := &on{FS: live}
	start(o)
	o.do(volume.Sync()) // a whole commit: only then two names are possible on btrfs
	then(o)
	require.NoError(t, o.err)
	volume.Cut()
	require.NoError(t, live.Close())
	volume.Restore()
	after, err := disk.Open(dir)
	require.NoError(t, err)
	defer after.Close()
	return tree(t, after)
}

// empty removes all that is in a directory.
func empty(t *testing.T, fsys disk.FS, dir string) {
	entries, err := fsys.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			empty(t, fsys, name)
		}
		if err := fsys.Remove(name); name != "lost+found" && !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
		}
	}
}
