package node

import (
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/status"
)

// hungFS is a disk that does not answer while it hangs.
type hungFS struct {
	disk.FS
	hangs atomic.Pointer[chan struct{}]
}

func (h *hungFS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if hangs := h.hangs.Load(); hangs != nil {
		<-*hangs
	}
	return h.FS.OpenFile(name, flag, perm)
}

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := disktest.New(1)
		fsys := &hungFS{FS: sim}
		var p probe
		assert.Empty(t, p.check(fsys))
		assert.Empty(t, sim.Files(), "it leaves nothing behind")

		sim.SetCapacity(1)
		assert.Empty(t, p.check(fsys), "it was looked at just now")
		time.Sleep(probeEvery)
		full := p.check(fsys)
		assert.Contains(t, full.Text, "no space left")
		time.Sleep(probeEvery)
		assert.Equal(t, full, p.check(fsys), "since then")
		sim.SetCapacity(0)
		time.Sleep(probeEvery)
		assert.Empty(t, p.check(fsys))

		// A disk that hangs is told, by all who ask, and keeps none of them for long.
		hangs := make(chan struct{})
		fsys.hangs.Store(&hangs)
		time.Sleep(probeEvery)
		began := time.Now()
		for range 3 {
			assert.Equal(t, status.Trouble{Text: noAnswer, Since: began, Person: true}, p.check(fsys))
		}
		assert.Equal(t, 3*probeWaits, time.Since(began))
		close(hangs)
		fsys.hangs.Store(nil)
		synctest.Wait()
		time.Sleep(probeEvery)
		assert.Empty(t, p.check(fsys))
	})
}

// A file under a temporary name may wait for its client for months: it is not the one that waits for longest.
func TestOldestIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		volume := disktest.New(1)
		box, err := outbox.Open(outbox.Options{FS: volume, Deliverer: &deliverer{}})
		require.NoError(t, err)
		defer box.Close()
		put := func(item outbox.Item) {
			item.Path = "x"
			require.NoError(t, disk.WriteFile(volume, item.Path, []byte("x"), 0o600))
			_, errs := box.Put(t.Context(), []outbox.Item{item})
			require.NoError(t, errs[0])
		}
		r := reporter[struct{}]{life: &life[struct{}]{Node: &Node{Outbox: box}}}
		put(outbox.Item{Name: "a.tmp", Wait: outbox.Forever, Yield: true})
		var report status.Report
		r.waiting(&report)
		assert.Nil(t, report.Waiting.Oldest)

		time.Sleep(time.Hour)
		put(outbox.Item{Name: "b.csv"})
		at := time.Now()
		time.Sleep(time.Minute)
		r.waiting(&report)
		if assert.NotNil(t, report.Waiting.Oldest) {
			assert.Equal(t, "b.csv", report.Waiting.Oldest.Name)
			assert.True(t, report.Waiting.Oldest.Accepted.Equal(at))
		}
		assert.Equal(t, 1, report.Waiting.Held)
	})
}
