package outbox

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// journalWrites lists the writes to the journal.
func journalWrites(fsys *disktest.FS) (writes []disktest.Op) {
	for _, op := range fsys.Ops() {
		if op.Kind == disktest.Write && strings.HasSuffix(op.Path, journalSuffix) {
			writes = append(writes, op)
		}
	}
	return writes
}

// An attempt is noted once, and only what it has added: while b refuses, nothing is written; then a line for each entry that b takes and c still waits for.
func TestOnlyProgressIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := disktest.New(1)
		r := newRig(t, fsys, "a", "b", "c")
		r.opts.MinBackoff, r.opts.MaxBackoff = time.Second, time.Second
		var taken atomic.Bool // by b
		r.cloud.onSend = func(_ context.Context, target string, names []string) error {
			if target == "c" || target == "b" && !taken.Load() {
				return errDown
			}
			return nil
		}
		r.open().put("1", "2", "3")
		before := len(journalWrites(fsys))
		pass := func() (written int) {
			time.Sleep(time.Minute)
			synctest.Wait()
			now := len(journalWrites(fsys))
			defer func() { before = now }()
			return now - before
		}
		r.run()
		require.Equal(t, 1, pass(), "a has them")
		attempts := len(r.cloud.sends("a"))
		assert.Zero(t, pass(), "b and c refuse: %v", journalWrites(fsys))
		assert.Len(t, r.cloud.sends("a"), attempts)

		r.cloud.script("send b 2", slices.Repeat([]error{errDown}, 20)...)
		taken.Store(true)
		assert.Equal(t, 2, pass(), "b has 1 and 3, then 2")
		segment, err := readFile(fsys, "outbox/"+r.files("outbox", journalSuffix)[0])
		require.NoError(t, err)
		assert.Equal(t, 3+3+3, strings.Count(segment, `"seq"`), "each was put, reached a and reached b: %s", segment)
		r.halt()
	})
}

// What failed rounds owe to the journal does not grow with the number of failures, whoever asks.
func TestOwedLinesAreBounded(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys, "a").open()
	entries := []Entry{}
	for _, name := range numbered("file", 5) {
		entries = append(entries, r.take(r.item(name, held))...)
	}
	fsys.Inject(disktest.Fault{Kind: disktest.Write, Forever: true, Err: syscall.ENOSPC})
	const together = 4
	for range 50 {
		errs := make(chan error)
		for _, e := range entries[:together] {
			go func() { errs <- r.Edit([]Edit{{ID: entries[0].ID, ModTime: ptr(e.Accepted)}}, nil) }()
		}
		for range together {
			assert.Error(t, <-errs)
		}
		_, putErrs := r.Put(t.Context(), []Item{{Path: "drop/none"}})
		assert.Error(t, errors.Join(putErrs...))
		r.locked(func() { assert.LessOrEqual(t, len(r.journal.owed), 2*together) })
	}
	fsys.Heal()
	require.NoError(t, r.Edit([]Edit{{ID: entries[1].ID, ModTime: ptr(entries[1].Accepted)}}, nil))
	r.locked(func() { assert.Empty(t, r.journal.owed) })
}
