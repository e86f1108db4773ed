package outbox

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// auditRig is a rig whose audit can be out, with the pauses of a node.
func auditRig(t *testing.T, fsys *disktest.FS) *rig {
	r := newRig(t, fsys, "a")
	r.opts.MinBackoff, r.opts.MaxBackoff = 0, 0 // the defaults
	return r
}

func down(context.Context, []string) error { return errDown }

func TestAuditOutageHoldsNothingUpAndSendsNothingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := auditRig(t, disktest.New(1))
		r.cloud.onAudit = down
		r.open().run()
		var names []string
		for round := range 3 {
			more := numbered(fmt.Sprint(round, "-"), 3*maxUnsettled)
			names = append(names, more...)
			r.put(more...)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			assert.Equal(t, len(names), len(r.cloud.got("a")), "an outage of the audit stops nothing")
			r.open().run() // a clean stop, and a start
		}
		assert.Equal(t, names, r.cloud.got("a"))
		r.halt()
		r.cloud.onAudit = nil
		r.open().run()
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Zero(t, r.Stats().Entries)
		assert.Equal(t, names, r.cloud.got("a"))
		assert.ElementsMatch(t, names, r.cloud.audited)
		r.halt()
	})
}

func TestCleanStopRecordsWhatWaitsForItsAudit(t *testing.T) {
	hangs := func(ctx context.Context, _ []string) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		audit func(ctx context.Context, names []string) error
		disk  *disktest.Fault // until the stop
	}{
		"paused":            {audit: down},
		"hangs":             {audit: hangs},
		"the disk was full": {audit: down, disk: &disktest.Fault{Kind: disktest.Write, Path: "outbox/*.journal", Forever: true, Err: syscall.ENOSPC}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := disktest.New(1)
				r := auditRig(t, fsys)
				r.opts.MinBackoff, r.opts.MaxBackoff = time.Hour, time.Hour
				r.cloud.onAudit = c.audit
				r.open()
				names := numbered("f", 30)
				r.put(names...)
				if c.disk != nil {
					fsys.Inject(*c.disk)
				}
				r.run()
				synctest.Wait()
				require.Equal(t, names, r.cloud.got("a"))
				fsys.Heal()
				sending := make(chan struct{})
				r.cloud.onSend = func(_ context.Context, _ string, names []string) error {
					if names[0] == "last" {
						close(sending)
						time.Sleep(time.Second) // it is sent while Run stops
					}
					return nil
				}
				r.put("last")
				<-sending
				r.halt()
				r.cloud.onSend = nil
				r.open().run()
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				assert.Equal(t, append(names, "last"), r.cloud.got("a"), "all once")
				r.halt()
			})
		})
	}
}

func TestStopOnABrokenDiskEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := disktest.New(1)
		r := auditRig(t, fsys)
		r.cloud.onAudit = down
		r.open()
		r.put(numbered("f", 30)...)
		fsys.Inject(disktest.Fault{Kind: disktest.Sync, Path: "outbox/*.journal", Forever: true})
		r.run()
		time.Sleep(time.Hour)
		synctest.Wait()
		start := time.Now()
		r.stop()
		r.stop = nil
		assert.Equal(t, start, time.Now())
		fsys.Heal()
		r.halt()
	})
}

// What was sent is what fills the disk, so its audit must not wait for a note on that disk.
func TestFullDiskDoesNotKeepWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := disktest.New(1)
		r := auditRig(t, fsys)
		r.cloud.script("audit 1", errDown)
		r.open()
		r.put("1", "2", "3")
		for _, kind := range []disktest.Kind{disktest.Write, disktest.Create} {
			fsys.Inject(disktest.Fault{Kind: kind, Forever: true, Err: syscall.ENOSPC})
		}
		r.run()
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Zero(t, r.Stats().Entries)
		assert.Equal(t, []string{"1", "2", "3"}, r.cloud.got("a"))
		r.halt()
	})
}

func TestEntriesThatCannotBeAuditedKeepNoOtherBack(t *testing.T) {
	for name, auditBatch := range map[string]int{"among others": 500, "more than one call takes": 5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := auditRig(t, disktest.New(1))
				r.opts.AuditBatch = auditBatch
				bad, good := numbered("bad", 10), numbered("good", 50)
				for _, name := range bad {
					r.cloud.script("audit "+name, slices.Repeat([]error{errDown}, 10_000)...)
				}
				r.open().run()
				r.put(bad...)
				time.Sleep(time.Hour)
				r.put(good...)
				time.Sleep(time.Hour)
				synctest.Wait()
				assert.Equal(t, len(bad), r.Stats().Entries, "the others left")
				assert.ElementsMatch(t, good, r.cloud.audited)
				for _, name := range bad {
					r.cloud.script("audit " + name)
				}
				r.open().run()
				time.Sleep(time.Hour)
				synctest.Wait()
				assert.Zero(t, r.Stats().Entries)
				assert.Equal(t, append(bad, good...), r.cloud.got("a"), "all once")
				r.halt()
			})
		})
	}
}

// An entry may be audited, and leave, while it is noted that it was sent.
func TestEntryLeavesWhileItIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := disktest.New(1)
		r := auditRig(t, fsys)
		r.opts.FS = slowJournal{fsys}
		r.cloud.script("audit one", errDown)
		noted := false
		r.cloud.onAudit = func(context.Context, []string) error {
			if len(r.cloud.sends("")) == 1 { // again
				fsys.Heal()
				r.Wake()
				time.Sleep(time.Second)
				r.Outbox.mu.Lock()
				defer r.Outbox.mu.Unlock()
				noted = r.noting.busy
			}
			return nil
		}
		r.open()
		r.put("one")
		fsys.Inject(disktest.Fault{Kind: disktest.Sync, Path: "outbox/*.journal", Forever: true})
		r.run()
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.True(t, noted, "the note was under way")
		assert.Zero(t, r.Stats().Entries)
		assert.Zero(t, r.unsettled, "it is counted once")
		assert.Equal(t, []string{"one"}, r.cloud.got("a"))
		r.halt()
	})
}

// slowJournal is a disk on which a sync of the journal takes a minute.
type slowJournal struct{ disk.FS }

func (s slowJournal) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := s.FS.OpenFile(name, flag, perm)
	if err == nil && path.Ext(name) == journalSuffix {
		f = slowFile{f}
	}
	return f, err
}

type slowFile struct{ disk.File }

func (f slowFile) Sync() error {
	time.Sleep(time.Minute)
	return f.File.Sync()
}
