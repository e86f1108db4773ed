package outbox

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
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

// When an outage is over there is much to catch up with, and a call may hang that has not failed yet: nothing new waits for
// either.
func TestLateAuditHoldsNothingUp(t *testing.T) {
	old, recent := numbered("old", 2*maxUnsettled+100), numbered("new", maxUnsettled+100)
	outage := func(r *rig, audited chan struct{}) {
		r.cloud.script("audit "+old[0], errDown)
		r.put(old[0])
		audited <- struct{}{}
		r.put(old[1:]...)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(r.t, r.cloud.got("a"), len(old))
	}
	for name, c := range map[string]struct {
		sent  []string
		begin func(r *rig, audited chan struct{})
	}{
		"after an outage": {old, func(r *rig, audited chan struct{}) {
			outage(r, audited)
			r.Wake()
			audited <- struct{}{} // one batch
		}},
		"after an outage and a restart": {old, func(r *rig, audited chan struct{}) {
			outage(r, audited)
			r.open().run()
			audited <- struct{}{}
		}},
		"after a restart": {old, func(r *rig, audited chan struct{}) {
			outage(r, audited)
			r.open().run()
		}},
		"its first call hangs": {nil, func(*rig, chan struct{}) {}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := auditRig(t, disktest.New(1))
				audited := make(chan struct{})
				r.cloud.onAudit = func(ctx context.Context, _ []string) error {
					select {
					case <-audited:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				r.open().run()
				c.begin(r, audited)
				synctest.Wait()
				require.Zero(t, r.auditTrouble.Failures())
				r.put(recent...)
				time.Sleep(time.Second)
				synctest.Wait()
				want := slices.Concat(c.sent, recent)
				assert.Equal(t, want, r.cloud.got("a"), "no call of Audit has ended meanwhile")
				r.open().run()
				close(audited)
				time.Sleep(time.Second)
				synctest.Wait()
				assert.Zero(t, r.Stats().Entries)
				assert.Equal(t, want, r.cloud.got("a"), "all once")
				assert.ElementsMatch(t, want, r.cloud.audited)
				r.halt()
			})
		})
	}
}

// Notes cost a sync: what leaves at once is written once, also out of a backlog.
func TestNoNotesWhileTheAuditKeepsUp(t *testing.T) {
	for name, at := range map[string]int{"one at a time": 1, "a batch": 10, "two batches": 20, "a backlog": maxUnsettled / 2} {
		for _, targets := range [][]string{{"a"}, {"a", "b"}} {
			t.Run(fmt.Sprintf("%s, %d targets", name, len(targets)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					fsys := disktest.New(1)
					r := newRig(t, fsys, targets...)
					journal := func() (syncs int) {
						for _, op := range fsys.Ops() {
							if op.Kind == disktest.Sync && path.Ext(op.Path) == journalSuffix {
								syncs++
							}
						}
						return syncs
					}
					r.open()
					var names []string
					puts := 0
					for len(names) < maxUnsettled/2 {
						more := numbered(fmt.Sprint("f", puts), at)
						names = append(names, more...)
						r.put(more...)
						if puts++; puts == 1 {
							r.run()
						}
						time.Sleep(gatherFor)
						synctest.Wait()
					}
					assert.ElementsMatch(t, names, r.cloud.audited)
					assert.Equal(t, puts, journal())
					assert.Zero(t, r.unsettled)
					r.halt()
				})
			})
		}
	}
}

// A volume that turned read-only: what it can neither remove nor note is one batch for each lane and target, and
// is all that is sent again after a restart.
func TestReadOnlyVolume(t *testing.T) {
	for name, c := range map[string]struct {
		audit   func(context.Context, []string) error
		targets []string
		lanes   int
	}{
		"one target":      {targets: []string{"a"}, lanes: 1},
		"two":             {targets: []string{"a", "b"}, lanes: 1},
		"three lanes":     {targets: []string{"a"}, lanes: 3},
		"audit is out":    {audit: down, targets: []string{"a"}, lanes: 1},
		"many lanes":      {targets: []string{"a"}, lanes: 900},
		"due one by one":  {targets: []string{"a"}, lanes: 0},
		"out, one by one": {audit: down, targets: []string{"a"}, lanes: 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := disktest.New(1)
				r := newRig(t, fsys, c.targets...)
				r.opts.MinBackoff, r.opts.MaxBackoff = 0, 0 // the defaults
				r.cloud.onAudit = c.audit
				r.open()
				var items []Item
				for i, name := range numbered("f", 900) {
					items = append(items, r.item(name, func(item *Item) {
						item.Lane = fmt.Sprint(i % max(c.lanes, 1))
						if c.lanes == 0 {
							item.Wait = time.Duration(i+1) * time.Second
						}
					}))
				}
				r.take(items...)
				fsys.Inject(disktest.Fault{Forever: true, Err: syscall.EROFS})
				r.run()
				long := time.Hour
				if c.lanes == 900 {
					long /= 6 // each of its streams tries again to note what it sent: some runs took half a minute
				}
				time.Sleep(long)
				synctest.Wait()
				sent := map[string]int{}
				for _, target := range c.targets {
					sent[target] = len(r.cloud.got(target))
					assert.NotZero(t, sent[target])
					switch {
					case c.lanes == 900:
						assert.LessOrEqual(t, sent[target], maxUnsettled+maxStreams, "a batch for each lane, and not without bound")
					case c.audit != nil && c.lanes == 0:
						assert.LessOrEqual(t, sent[target], maxUnsettled+1, "nothing is refused as nothing can leave")
					default:
						assert.LessOrEqual(t, sent[target], 10*max(c.lanes, 1))
					}
				}
				assert.NotEmpty(t, r.log.lines("disk fails"))
				r.stop()
				r.stop, r.Outbox = nil, nil
				fsys.Heal()
				r.cloud.onAudit = nil
				r.crash(disktest.Nothing()).run()
				time.Sleep(time.Hour)
				synctest.Wait()
				assert.Zero(t, r.Stats().Entries)
				for _, target := range c.targets {
					assert.LessOrEqual(t, len(r.cloud.got(target)), 900+sent[target])
				}
				r.halt()
			})
		})
	}
}

// A full volume drains: what frees room needs no room, or the reserve.
func TestFullVolumeDrains(t *testing.T) {
	for name, c := range map[string]struct {
		script  map[string][]error
		audit   error // once
		reserve int64
		stuck   bool
	}{
		"all is well":                   {},
		"a target is behind":            {script: map[string][]error{"send b f000": slices.Repeat([]error{errDown}, 8)}},
		"the audit is late":             {audit: errDown},
		"some are set aside":            {script: map[string][]error{"send b f003": {permanent("never")}, "prepare f007": {permanent("never")}}},
		"and has no reserve":            {reserve: -1},
		"far behind, without a reserve": {script: map[string][]error{"send b f000": slices.Repeat([]error{errDown}, 100_000)}, reserve: -1, stuck: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := disktest.New(1)
				r := newRig(t, fsys, "a", "b")
				r.opts.Reserve = cmp.Or(c.reserve, 1<<20)
				r.opts.MinBackoff, r.opts.MaxBackoff = 0, 0 // the defaults
				r.open()
				var items []Item
				for _, name := range numbered("f", 200) {
					items = append(items, r.item(name, nil))
				}
				r.take(items...)
				r.halt() // a new process needs a new segment
				for key, script := range c.script {
					r.cloud.script(key, script...)
				}
				r.cloud.script("audit f000", c.audit)
				fill(t, fsys)
				r.open().run()
				time.Sleep(time.Hour)
				synctest.Wait()
				if c.stuck {
					require.Equal(t, 10, len(r.cloud.got("a")), "the case has teeth: without the reserve nothing goes on")
					r.halt()
					return
				}
				assert.Zero(t, r.Stats().Entries)
				assert.Empty(t, r.files("outbox", dataSuffix))
				assert.Len(t, r.cloud.got("a"), 200-r.Stats().Failed+len(c.script[`send b f003`]))
				r.halt()
			})
		})
	}
}

// fill makes a volume full to the last byte.
func fill(t *testing.T, fsys *disktest.FS) {
	t.Helper()
	used := int64(0)
	for _, content := range fsys.Files() {
		used += int64(len(content))
	}
	fsys.SetCapacity(used)
}

// A record that is refused is so by its own result: the others, which are recorded, are not sent again.
func TestRefusedAuditRecordIsThatOfItsEntryOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := auditRig(t, disktest.New(1))
		names := numbered("f", 100)
		r.cloud.script("audit "+names[7], permanent("bad record"))
		r.open()
		r.put(names...)
		r.run()
		synctest.Wait()
		var tried []string
		for _, call := range r.cloud.sends("") {
			tried = append(tried, call.names...)
		}
		assert.ElementsMatch(t, names, tried, "each once")
		assert.Equal(t, Stats{Failed: 1}, r.totals())
		assert.Contains(t, r.goneList(), "failed "+names[7])
		r.halt()
	})
}

// A note that has nothing to write does not tell how the disk is.
func TestNoteOfWhatHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := auditRig(t, disktest.New(1)).open()
		r.put("one")
		var e *entry
		for _, e = range r.entries {
		}
		r.run()
		synctest.Wait()
		require.Equal(t, left, e.state)
		wrote, err := r.note([]*entry{e}, (*entry).toNote)
		assert.False(t, wrote)
		assert.NoError(t, err)
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
				time.Sleep(time.Second)
				synctest.Wait()
				sent := names
				if c.disk != nil {
					sent = names[:10] // neither removed nor noted: no more than one batch
				}
				require.Equal(t, sent, r.cloud.got("a"))
				fsys.Heal()
				sending := make(chan struct{})
				r.cloud.onSend = func(_ context.Context, _ string, names []string) error {
					if slices.Contains(names, "last") {
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
		var noting atomic.Bool
		r.opts.FS = slowJournal{fsys, &noting}
		noted := false
		r.cloud.onAudit = func(context.Context, []string) error {
			time.Sleep(time.Second)
			noted = noted || noting.Load()
			return nil
		}
		r.open()
		names := numbered("f", 2*r.Outbox.opts.Batch)
		r.put(names...)
		r.run()
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.True(t, noted, "the note was under way")
		assert.Zero(t, r.Stats().Entries)
		assert.Zero(t, r.unsettled, "each is counted once")
		assert.Equal(t, names, r.cloud.got("a"))
		r.halt()
	})
}

// slowJournal is a disk on which a sync of the journal takes a minute.
type slowJournal struct {
	disk.FS
	syncing *atomic.Bool
}

func (s slowJournal) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := s.FS.OpenFile(name, flag, perm)
	if err == nil && path.Ext(name) == journalSuffix {
		f = slowFile{f, s.syncing}
	}
	return f, err
}

type slowFile struct {
	disk.File
	syncing *atomic.Bool
}

func (f slowFile) Sync() error {
	f.syncing.Store(true)
	defer f.syncing.Store(false)
	time.Sleep(time.Minute)
	return f.File.Sync()
}

// operator says that only a person can end it.
type operator string

func (o operator) Error() string { return string(o) }
func (operator) Operator() bool  { return true }

func TestWhatOnlyAPersonCanEndIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for level, err := range map[string]error{"WARN": errDown, "ERROR": fmt.Errorf("sending: %w", operator("look at the edge"))} {
			r := newRig(t, disktest.New(1), "a")
			r.cloud.onSend = func(context.Context, string, []string) error { return err }
			r.cloud.onAudit = func(context.Context, []string) error { return err }
			r.open().run()
			r.put("x")
			time.Sleep(time.Minute)
			assert.NotEmpty(t, r.log.lines("level="+level+" msg=\"Sending fails"), r.log)
			r.halt()
			r.cloud.onSend = nil
			r.open().run()
			time.Sleep(time.Minute)
			assert.NotEmpty(t, r.log.lines("level="+level+" msg=\"Auditing fails"), r.log)
			r.halt()
		}
	})
}
