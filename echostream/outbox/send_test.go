package outbox

import (
	"context"
	"fmt"
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

// The first file goes at once, and those that come within gatherFor of it together; a full batch waits for nothing,
// nor does one whose sender is kept waiting.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "a", "b").open()
		r.run()
		begin := time.Now()
		r.put("first")
		synctest.Wait()
		for _, name := range []string{"second", "third"} {
			time.Sleep(gatherFor / 4)
			r.put(name)
		}
		time.Sleep(gatherFor) // the second batch has gone halfway
		r.put(numbered("many", 10)...)
		synctest.Wait()
		assert.Equal(t, begin.Add(gatherFor*3/2), time.Now())
		time.Sleep(gatherFor)
		r.put("last")
		synctest.Wait()
		r.take(r.item("awaited", func(item *Item) { item.Tentative = &Tentative{} }))
		synctest.Wait()
		for _, target := range []string{"a", "b"} {
			var batches [][]string
			for _, c := range r.cloud.sends(target) {
				batches = append(batches, c.names)
			}
			assert.Equal(t, [][]string{{"first"}, {"second", "third"}, numbered("many", 10), {"last"}, {"awaited"}}, batches)
		}
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

// inLanes makes files of a size for each of some lanes, in turn.
func (r *rig) inLanes(lanes, each int, prefix string, size int) (items []Item) {
	for i := range each {
		for lane := range lanes {
			item := r.write(fmt.Sprintf("%s%d-%d", prefix, lane, i), strings.Repeat("x", size))
			item.Lane = fmt.Sprint(lane)
			items = append(items, item)
		}
	}
	return items
}

// The payloads of many lanes that wait for a target in trouble do not take the room of what goes to another: with 64 lanes it got a batch with each
// attempt of the broken one.
func TestBrokenTargetTakesNoRoomFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "broken", "well")
		r.opts.MinBackoff, r.opts.MaxBackoff = 0, 0 // the defaults
		r.cloud.onSend = func(_ context.Context, target string, _ []string) error {
			if target == "broken" {
				return errDown
			}
			return nil
		}
		r.open()
		r.take(r.inLanes(100, 30, "f", 10)...)
		r.run()
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Len(t, r.cloud.got("well"), 100*30)
		r.halt()
	})
}

// Bulk storage that is away holds up what is behind large files, and no other lane, however many wait for it.
func TestBulkStorageAwayHoldsNoOtherLaneUp(t *testing.T) {
	for name, each := range map[string]struct{ large, small int }{"large files": {20, 0}, "small ones behind a large one": {1, 20}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, disktest.New(1), "t")
				r.opts.MinBackoff, r.opts.MaxBackoff = 0, 0 // the defaults
				r.cloud.onPrepare = func(ctx context.Context, e Entry) error {
					if e.Size <= small {
						return nil
					}
					select {
					case <-time.After(30 * time.Second):
					case <-ctx.Done():
					}
					return errDown
				}
				r.open()
				r.take(slices.Concat(r.inLanes(100, each.large, "large", small+1), r.inLanes(100, each.small, "behind", 1))...)
				r.run()
				time.Sleep(time.Hour)
				var items []Item
				for _, name := range numbered("f", 100) {
					item := r.write(name, "x")
					item.Lane = "another"
					items = append(items, item)
				}
				r.take(items...)
				time.Sleep(time.Minute)
				synctest.Wait()
				assert.Equal(t, numbered("f", 100), r.cloud.got("t"))
				r.halt()
			})
		})
	}
}

// Targets that hang do not have more calls under way than a container's memory has room for: one each, and some more for all of them.
func TestSendsToManyTargetsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const targets = 2 * maxSends
		r := newRig(t, disktest.New(1), numbered("t", targets)...)
		var mu sync.Mutex
		under, most := map[string]int{}, 0
		r.cloud.onSend = func(_ context.Context, target string, _ []string) error {
			mu.Lock()
			defer mu.Unlock()
			under[target]++
			all := 0
			for _, n := range under {
				all += n
			}
			most = max(most, all)
			mu.Unlock()
			time.Sleep(time.Minute)
			mu.Lock()
			under[target]--
			return nil
		}
		r.open()
		r.take(r.inLanes(8, 3, "f", 10)...)
		r.run()
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		assert.Len(t, under, targets, "each has a call under way")
		mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.LessOrEqual(t, most, targets+maxSends)
		assert.Zero(t, r.Stats().Entries)
		r.halt()
	})
}
