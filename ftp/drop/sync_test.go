//go:build proofs

package drop

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// Each sync of this package is needed: the package without it loses something that it has promised.
func TestEverySyncIsNeeded(t *testing.T) {
	type steps = func(l *life) func(*disktest.FS, *Drop, *Session) error
	namespace := func(l *life) func(*disktest.FS, *Drop, *Session) error {
		return func(_ *disktest.FS, _ *Drop, s *Session) error { return l.folder(s) }
	}
	resumed := func(l *life) func(*disktest.FS, *Drop, *Session) error {
		return func(_ *disktest.FS, _ *Drop, s *Session) error { return l.resumed(s) }
	}
	voided := func(l *life) func(*disktest.FS, *Drop, *Session) error {
		return func(fsys *disktest.FS, _ *Drop, s *Session) error {
			return errors.Join(
				l.part(s, "/g", long("version 1"), 900),
				fsys.SyncDir(keptDir), fsys.SyncDir(keptDir+"/u"), // as time does
				l.part(s, "/g", long("version 2"), 100))
		}
	}
	found := func(l *life) func(*disktest.FS, *Drop, *Session) error {
		return func(fsys *disktest.FS, d *Drop, s *Session) error {
			l.setAway(true) // until the power was cut
			defer l.setAway(false)
			return errors.Join(l.found(fsys, d), s.Mkdir("/later"), s.Mkdir("/last"))
		}
	}
	for use, c := range map[string]struct {
		kind     disktest.Kind
		path     string // or a prefix of it, with "..."
		in       string // the function that syncs
		steps    steps
		twoNames bool
		retry    time.Duration
	}{
		"the folder above, after Mkdir":                    {disktest.SyncDir, "drop/u", "drop.(*Session).mkdir", namespace, false, 1},
		"partial/open, before a resumed upload is written": {disktest.SyncDir, openDir, "drop.(*Upload).resume", resumed, false, 1},
		"partial/kept, before a resumed upload is written": {disktest.SyncDir, keptDir + "/u", "drop.(*Upload).resume", resumed, true, 1},
		"partial/kept, when an interrupted upload is void": {disktest.SyncDir, keptDir + "/u", "drop.(*uploads).removeKept", voided, false, 1},
		"an interrupted upload":                            {disktest.Sync, openDir + "/...", "drop.(*part).sync", resumed, false, 1},
		"a file of another program, before it is taken":    {disktest.Sync, "drop/u/foreign", "drop.(*Drop).syncFound", found, false, time.Second},
	} {
		t.Run(use, func(t *testing.T) {
			disktest.InOrder(t, func(t *testing.T) {
				mutant := &mutant{TB: t}
				dropped := false
				done := make(chan struct{})
				go func() {
					defer close(done)
					opts := crashOptions()
					opts.Seeds = 40 // few of them show it; the first one ends the search
					disktest.EveryCrash(mutant, opts, func() disktest.Scenario {
						l := &life{files: map[string]*upload{}, retry: c.retry}
						run := l.runOnly(c.steps(l))
						return l.scenario(func(fsys *disktest.FS) error {
							fsys.SetTwoNames(c.twoNames)
							fsys.DropSync(func(op disktest.Op) bool {
								prefix, isPrefix := strings.CutSuffix(c.path, "...")
								is := op.Kind == c.kind && (op.Path == c.path || isPrefix && strings.HasPrefix(op.Path, prefix)) && calledBy(c.in)
								dropped = dropped || is
								return is
							})
							return run(fsys)
						})
					})
				}()
				<-done
				require.True(t, dropped, "there is no such sync")
				require.True(t, mutant.failed, "no crash shows that this sync is missing")
			})
		})
	}
}

// calledBy reports whether the function is one of those that are running.
func calledBy(function string) bool {
	pcs := make([]uintptr, 50)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, "/"+function) {
			return true
		}
		if !more {
			return false
		}
	}
}

// mutant notes that a test fails, as it should, and ends it at the first failure.
type mutant struct {
	testing.TB
	failed bool
}

func (m *mutant) Helper()             {}
func (m *mutant) Logf(string, ...any) {}
func (m *mutant) Errorf(string, ...any) {
	m.failed = true
	runtime.Goexit()
}
func (m *mutant) Fatalf(format string, args ...any) {
	m.TB.Errorf(format, args...) // the scenario itself is broken
	runtime.Goexit()
}

func (l *life) setAway(away bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.away = away
}

// runOnly is a first life of only some steps.
func (l *life) runOnly(steps func(fsys *disktest.FS, d *Drop, s *Session) error) func(*disktest.FS) error {
	return func(fsys *disktest.FS) error {
		return l.with(fsys, func(d *Drop, s *Session) error {
			err := steps(fsys, d, s)
			settle()
			return err
		})
	}
}
