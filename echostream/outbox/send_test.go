package outbox

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// A batch weighs no more than Options.BatchBytes; what is heavier goes alone.
func TestBatchBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "t")
		r.opts.BatchBytes = 250
		r.open()
		var items []Item
		for i, size := range []int{100, 100, 100, 50, 100, 101, 400, 10, 250, 249, 1, 1} {
			item := r.write(string(rune('a'+i)), strings.Repeat("x", size))
			items = append(items, item)
		}
		r.take(items...)
		r.run()
		synctest.Wait()
		var batches []string
		for _, c := range r.cloud.sends("t") {
			batches = append(batches, strings.Join(c.names, ""))
		}
		assert.Equal(t, []string{"ab", "cde", "f", "g", "h", "i", "jk", "l"}, batches)
		r.halt()
	})
}

// What was sent to all targets, and waits for its audit, is not sent to a target that comes after a restart.
func TestSentIsRemembered(t *testing.T) {
	for name, state := range map[string]func(r *rig){
		"waits for its audit": func(r *rig) { r.cloud.onAudit = down },
		"cannot be removed": func(r *rig) {
			r.fs.(*disktest.FS).Inject(disktest.Fault{Kind: disktest.Unlink, Path: "outbox/*.data", Forever: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := auditRig(t, disktest.New(1)).open()
				names := numbered("f", 25)
				r.put(names...)
				state(r)
				r.run()
				time.Sleep(time.Hour)
				synctest.Wait()
				assert.Equal(t, names, r.cloud.got("a"))
				r.stop()
				r.stop = nil
				r.cloud.onAudit = nil
				r.cloud.setTargets("a", "late")
				r.crash(disktest.Nothing()).run()
				time.Sleep(time.Hour)
				synctest.Wait()
				assert.Zero(t, r.Stats().Entries)
				assert.Equal(t, names, r.cloud.got("a"))
				assert.Empty(t, r.cloud.got("late"))
				r.halt()
			})
		})
	}
}

// What is added while a run goes on is covered by the next one only: its bytes may have come too late for the sync.
func TestSharedRunBeginsAfterWhatItCovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var runs [][]int
		s := newShared(func(work *[]int) error {
			covered := slices.Clone(*work) // as the sync begins
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			runs = append(runs, covered)
			return nil
		})
		for i := range 4 {
			go func() {
				time.Sleep(time.Duration(i) * 300 * time.Millisecond)
				_ = s.wait(s.add(func(work *[]int) { *work = append(*work, i) }))
				mu.Lock()
				defer mu.Unlock()
				assert.True(t, slices.ContainsFunc(runs, func(run []int) bool { return slices.Contains(run, i) }), "%d is covered", i)
			}()
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, [][]int{{0}, {1, 2, 3}}, runs)
	})
}
