package node

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/redact"
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

// Errors are shown as they are logged: a bridge's own may hold a URL that is as good as a password.
func TestReportHasNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		volume := disktest.New(1)
		err := errors.New(`Get "https://bulk.example/x?X-Amz-Signature=0123abcd": EOF; the password is s3cret-password`)
		box, openErr := outbox.Open(outbox.Options{FS: volume, Deliverer: refusing{err}, MinBackoff: time.Hour, MaxBackoff: time.Hour})
		require.NoError(t, openErr)
		defer box.Close()
		for _, name := range []string{"never", "later"} {
			require.NoError(t, disk.WriteFile(volume, "x", []byte("x"), 0o600))
			_, errs := box.Put(t.Context(), []outbox.Item{{Path: "x", Name: name, Lane: name}})
			require.NoError(t, errs[0])
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- box.Run(ctx) }()
		synctest.Wait()

		l := &life[struct{}]{Node: &Node{Outbox: box, Volume: volume, deliverer: &deliverer{}}, front: &front[struct{}]{}, secrets: &redact.Secrets{}}
		l.secrets.Add("s3cret-password")
		l.bridge.Receive = func(context.Context, *Node, struct{}, echostream.ReceivedMessage) error { return err }
		edges := []echostream.Edge{{Name: "a"}}
		l.definition.Store(&echostream.Definition{Targets: edges, Sources: edges})
		l.received.note("a", err, time.Now())
		l.front.use(wanted[struct{}]{known: true})
		l.front.worked(err)
		r := &reporter[struct{}]{life: l}
		r.missed(err)
		report := r.Report()
		report.Judge()
		text, marshalErr := json.Marshal(report)
		require.NoError(t, marshalErr)
		assert.NotContains(t, string(text), "0123abcd")
		assert.NotContains(t, string(text), "s3cret")
		for where, told := range map[string]string{
			"cloud": report.Cloud.Error.Text, "devices": report.Bridge.Refuses, "source": report.Sources[0].Error.Text,
			"target": report.Targets[0].Error.Text, "oldest": report.Waiting.Oldest.Error, "failed": report.Failed[0].Reason,
		} {
			assert.Contains(t, told, `x?[redacted]": EOF; the password is [redacted]`, where)
		}
		stop()
		require.NoError(t, <-ended)
	})
}

// refusing takes nothing: what is called never, for good.
type refusing struct{ err error }

func (refusing) Targets() []string { return []string{"a"} }
func (refusing) Prepare(context.Context, outbox.Entry, func() (disk.File, error)) (any, error) {
	return nil, nil
}
func (d refusing) Send(_ context.Context, _ string, batch []outbox.Prepared) []error {
	if batch[0].Entry.Name == "never" {
		return []error{echostream.Permanent(d.err)}
	}
	return []error{d.err}
}
func (refusing) Audit(_ context.Context, batch []outbox.Prepared) []error {
	return make([]error, len(batch))
}
