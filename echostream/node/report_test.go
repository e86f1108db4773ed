package node

import (
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
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
