package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// TestEveryCrashDelivered is TestEveryCrash where the reply says that a file is delivered. The volume stays, as it does at
// most restarts; where it goes, nothing is left that could be wrong.
func TestEveryCrashDelivered(t *testing.T) {
	disktest.InOrder(t, func(t *testing.T) {
		opts := crashOptions()
		opts.Seeds, opts.MinOps = 2, 100
		disktest.EveryCrash(t, opts, func() disktest.Scenario {
			w := newWorld()
			w.delivered = 50 * time.Millisecond
			scenario := w.scenario()
			scenario.Run = func(fsys *disktest.FS) error { return w.live(fsys, w.firstDelivered) }
			scenario.Recover = func(fsys *disktest.FS) error { return w.live(fsys, w.laterDelivered) }
			return scenario
		})
	})
}

// await is send, or the rename of what was sent, of a client that waits until its file is delivered: when its reply says so, both
// edges and the audit have it.
func (w *world) await(name, content string, send func() error) error {
	if err := send(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range w.idsOf(content) {
		if w.edges["a"].has(id) && w.edges["b"].has(id) && w.audited[id] {
			return nil
		}
	}
	w.wrong = append(w.wrong, fmt.Errorf("%s was acknowledged, and not delivered", name))
	return nil
}

// firstDelivered is the client's work.
func (w *world) firstDelivered(s *drop.Session) error {
	c := &w.client
	put := func(name, content string) func() error {
		return func() error {
			return w.await(name, content, func() error { return c.send(s, name, content, drop.Start{}) })
		}
	}
	// fails wants an error of a step, unless the power was cut.
	fails := func(step func() error, want error) func() error {
		return func() error {
			if err := step(); !errors.Is(err, want) && !w.disk().IsCut() {
				return fmt.Errorf("%v, expected: %w", err, want)
			}
			return nil
		}
	}
	away := func(calls int) func() error {
		return func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.bDown = calls
			return nil
		}
	}
	steps := []func() error{
		func() error { return s.Mkdir("/in") },
		put("/in/a", text("first")),
		put("/b", text("second")),
		// A temporary name is not sent, and its rename waits.
		func() error { return c.send(s, "/c.tmp", text("temporary"), drop.Start{}) },
		func() error {
			return w.await("/in/d", text("temporary"), func() error { return c.rename(s, text("temporary"), "/in/d") })
		},
		// Refused for good, by one or by all.
		fails(put("/d", refusedByB+text(" d")), drop.ErrRefused),
		fails(put("/e", refusedByAll+text(" e")), drop.ErrRefused),
		// Not in time, sent again meanwhile, and again when it is possible: it is one file.
		away(1 << 20),
		fails(put("/f", text("late")), drop.ErrNotDelivered),
		fails(put("/f", text("late")), drop.ErrNotDelivered),
		fails(put("/g", text("behind it")), drop.ErrNotDelivered),
		away(0),
		put("/f", text("late")),
		put("/g", text("behind it")),
		func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if n := len(w.idsOf(text("late"))); n != 1 && !w.fs.IsCut() && w.lives == 1 {
				return fmt.Errorf("what was sent again arrived under %d tracking ids", n)
			}
			return nil
		},
		// Interrupted, and resumed.
		func() error { return c.part(s, "/h", text("version 1"), 900) },
		func() error { return w.await("/h", text("version 1"), func() error { return c.resume(s) }) },
		put("/l", text("last")),
		func() error { return c.part(s, "/i", text("version 2"), 700) },
	}
	var errs []error
	for _, step := range steps {
		if w.disk().IsCut() {
			break
		}
		errs = append(errs, step())
	}
	return errors.Join(errs...)
}

// laterDelivered goes on where the client before was cut off: what was not acknowledged is sent again.
func (w *world) laterDelivered(s *drop.Session) error {
	w.mu.Lock()
	w.bDown = 0
	w.mu.Unlock()
	err := w.laterLife(s)
	for content, f := range w.client.files {
		name := f.names[len(f.names)-1]
		if f.acked > 0 || f.mayWait() || strings.HasPrefix(content, "refused") || w.disk().IsCut() {
			continue
		}
		err = errors.Join(err, w.await(name, content, func() error { return w.client.send(s, name, content, drop.Start{}) }))
	}
	return err
}
