package disktest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// steps are how a little queue takes in its files; the zero value is the right order. What is acknowledged must be there.
type steps struct {
	noFileSync, noDirSync, noMkdirSync, renameFirst, ackFirst, trustFailedSync, failingRecovery bool
}

var errLost = errors.New("an acknowledged file is lost")

// queue is the scenario of three files that are put into a queue one after the other.
func (s steps) queue() disktest.Scenario {
	acked := map[string]string{}
	put := func(fsys disk.FS, name, data string) error {
		from, to := "part/"+name, "queue/"+name
		f, err := fsys.OpenFile(from, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write([]byte(data)); err != nil {
			return err
		}
		if s.ackFirst {
			acked[to] = data
		}
		if s.renameFirst {
			if err := fsys.Rename(from, to); err != nil {
				return err
			}
		}
		if !s.noFileSync {
			err := f.Sync()
			if err != nil && s.trustFailedSync {
				err = f.Sync()
			}
			if err != nil {
				return err
			}
		}
		if !s.renameFirst {
			if err := fsys.Rename(from, to); err != nil {
				return err
			}
		}
		if !s.noDirSync {
			if err := fsys.SyncDir("queue"); err != nil {
				return err
			}
		}
		acked[to] = data
		return nil
	}
	start := func(fsys disk.FS) error {
		for _, dir := range []string{"part", "queue"} {
			if s.noMkdirSync {
				if err := fsys.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
					return err
				}
			} else if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
				return err
			}
		}
		return nil
	}
	return disktest.Scenario{
		Run: func(fsys *disktest.FS) error {
			if err := start(fsys); err != nil {
				return err
			}
			var errs []error
			for i := range 3 {
				errs = append(errs, put(fsys, fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 600)))
			}
			return errors.Join(errs...)
		},
		Recover: func(fsys *disktest.FS) error {
			if err := start(fsys); err != nil {
				return err
			}
			if s.failingRecovery {
				if entries, _ := fsys.ReadDir("part"); len(entries) > 0 {
					return errors.New("confused")
				}
			}
			return nil
		},
		Check: func(fsys *disktest.FS) error {
			for name, want := range acked {
				if data, err := fsys.ReadFile(name); string(data) != want {
					return fmt.Errorf("%w: %s: %q %v", errLost, name, data, err)
				}
			}
			files := fsys.Files()
			for name, data := range files {
				if strings.HasPrefix(name, "queue/") && name != "queue/" && len(data) != 600 {
					return fmt.Errorf("%s: %q is incomplete", name, data)
				}
			}
			return nil
		},
	}
}

// recorder is a testing.TB that notes failures.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Logf(string, ...any)       {}
func (r *recorder) Name() string              { return "TestQueue/sub" }
func (r *recorder) Errorf(f string, a ...any) { r.errors = append(r.errors, fmt.Sprintf(f, a...)) }
func (r *recorder) Fatalf(f string, a ...any) {
	r.Errorf(f, a...)
	panic(r)
}

// record runs a driver and gives what it reports.
func record(t *testing.T, driver func(t testing.TB)) []string {
	r := &recorder{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(r) {
				panic(p)
			}
		}()
		driver(r)
	}()
	return r.errors
}

func TestEveryCrash(t *testing.T) {
	states := disktest.EveryCrash(t, disktest.Options{}, steps{}.queue)
	// 2 mkdirs and their syncs, 5 operations for each of 3 files, and the end.
	require.Equal(t, (4+15+1)*(3+20)*2, states)
}

func TestEveryCrashFinds(t *testing.T) {
	for name, wrong := range map[string]steps{
		"no sync of the file":      {noFileSync: true},
		"no sync of the directory": {noDirSync: true},
		"no sync after mkdir":      {noMkdirSync: true},
		"rename before the sync":   {renameFirst: true},
		"acknowledged too early":   {ackFirst: true},
		"a recovery that fails":    {failingRecovery: true},
	} {
		t.Run(name, func(t *testing.T) {
			found := record(t, func(tb testing.TB) { disktest.EveryCrash(tb, disktest.Options{}, wrong.queue) })
			require.NotEmpty(t, found)
			require.Contains(t, found[0], "repeat it: go test -run '^TestQueue$' . -crash.op=")
			require.Contains(t, found[0], "#0 mkdir part", "the trace")
		})
	}
}

// mover is the scenario of a program that moves what it finds in one directory into another one, also after a restart. If it
// is careful, a file that has both names is none to move.
func mover(careful bool) func() disktest.Scenario {
	work := func(fsys *disktest.FS) error {
		moved, err := fsys.ReadDir("to")
		if err != nil {
			return err
		}
		found, err := fsys.ReadDir("from")
		if err != nil {
			return err
		}
		for _, e := range found {
			from := "from/" + e.Name()
			info, err := e.Info()
			if err != nil {
				return err
			}
			if careful && slices.ContainsFunc(moved, func(other fs.DirEntry) bool {
				there, err := other.Info()
				return err == nil && disk.SameFile(info, there)
			}) {
				if err := errors.Join(fsys.Remove(from), fsys.SyncDir("from")); err != nil {
					return err
				}
				continue
			}
			if err := fsys.Rename(from, fmt.Sprintf("to/%d", len(moved))); err != nil {
				return err
			}
			if err := errors.Join(fsys.SyncDir("to"), fsys.SyncDir("from")); err != nil {
				return err
			}
		}
		return nil
	}
	return func() disktest.Scenario {
		there := false
		return disktest.Scenario{
			Run: func(fsys *disktest.FS) error {
				err := errors.Join(disk.MkdirAll(fsys, "from", 0o700), disk.MkdirAll(fsys, "to", 0o700))
				if err == nil {
					err = disk.WriteFile(fsys, "from/a", []byte("1"), 0o600)
				}
				if err != nil {
					return err
				}
				there = true
				return work(fsys)
			},
			Recover: func(fsys *disktest.FS) error {
				if !there {
					return nil
				}
				return work(fsys)
			},
			Check: func(fsys *disktest.FS) error {
				if entries, err := fsys.ReadDir("to"); there && len(entries) != 1 {
					return fmt.Errorf("%d files arrived (%v)", len(entries), err)
				}
				return nil
			},
		}
	}
}

// TestEveryCrashFindsTwoNames: by nothing else than two names is a file moved twice.
func TestEveryCrashFindsTwoNames(t *testing.T) {
	for _, c := range []struct{ careful, twoNames, found bool }{
		{false, false, false}, {false, true, true}, {true, true, false},
	} {
		found := record(t, func(tb testing.TB) {
			setup := func(fsys *disktest.FS) { fsys.SetTwoNames(c.twoNames) }
			disktest.EveryCrash(tb, disktest.Options{Setup: setup}, mover(c.careful))
		})
		require.Equal(t, c.found, len(found) > 0, "%+v: %v", c, found)
		if c.found {
			require.Contains(t, found[0], "2 files arrived")
		}
	}
}

func TestEveryFault(t *testing.T) {
	// 19 operations with two errors, 3 of them writes that can be short; once and forever; killed and cut.
	require.Equal(t, (19*2+3)*2*2, disktest.EveryFault(t, disktest.Options{}, steps{}.queue))
	found := record(t, func(tb testing.TB) {
		disktest.EveryFault(tb, disktest.Options{}, steps{trustFailedSync: true}.queue)
	})
	require.NotEmpty(t, found)
	require.Contains(t, found[0], errLost.Error())
}

func TestEverySync(t *testing.T) {
	require.Equal(t, []string{
		"rename in disktest_test.steps.queue.func1 ahead of sync in disktest_test.steps.queue.func1",
		"without sync in disktest_test.steps.queue.func1",
		"without syncdir in disktest_test.steps.queue.func1",
		"without syncdir in disktest_test.steps.queue.func2 via disk.MkdirAll",
	}, disktest.EverySync(t, disktest.Options{}, steps{}.queue))
}

// TestEverySyncFinds a sync that nothing needs, one said to be harmless that is not, and one that is not there.
func TestEverySyncFinds(t *testing.T) {
	superfluous := func() disktest.Scenario {
		sc := steps{}.queue()
		run := sc.Run
		sc.Run = func(fsys *disktest.FS) error { return errors.Join(run(fsys), fsys.SyncDir("part")) }
		return sc
	}
	found := record(t, func(tb testing.TB) { disktest.EverySync(tb, disktest.Options{}, superfluous) })
	require.Len(t, found, 1)
	require.Contains(t, found[0], "no crash shows it")

	const needless = "without syncdir in disktest_test.TestEverySyncFinds.func1.1"
	require.Empty(t, record(t, func(tb testing.TB) {
		disktest.EverySync(tb, disktest.Options{Harmless: map[string]string{needless: "a test"}}, superfluous)
	}))
	found = record(t, func(tb testing.TB) {
		disktest.EverySync(tb, disktest.Options{Harmless: map[string]string{
			needless: "a test",
			"without sync in disktest_test.steps.queue.func1": "wrong",
			"without sync in nothing":                         "old",
		}}, superfluous)
	})
	require.Len(t, found, 2)
	require.Contains(t, found[0], "though it should be harmless")
	require.Contains(t, found[1], "does not occur")

	// What another proof is about is not tried, but has to be there.
	var tried []string
	found = record(t, func(tb testing.TB) {
		tried = disktest.EverySync(tb, disktest.Options{Unmoved: true, Elsewhere: map[string]string{
			needless: "a test",
			"without sync in disktest_test.steps.queue.func1": "another",
			"without sync in nothing":                         "old",
		}}, superfluous)
	})
	require.Len(t, found, 1)
	require.Contains(t, found[0], "does not occur")
	require.Equal(t, []string{
		"without syncdir in disktest_test.steps.queue.func1",
		"without syncdir in disktest_test.steps.queue.func2 via disk.MkdirAll",
	}, tried)
}

func BenchmarkCrashState(b *testing.B) {
	for b.Loop() {
		fsys := disktest.New(1)
		fsys.CutAt(40)
		sc := steps{}.queue()
		_ = sc.Run(fsys)
		after := fsys.Crash(disktest.Mixture(1))
		if err := sc.Check(after); err != nil {
			b.Fatal(err)
		}
	}
}
