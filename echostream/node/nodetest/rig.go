package nodetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// Rig is a cloud and a node, which is started, stopped and killed on the same volume, and the account of what was handed to it.
type Rig struct {
	// Cloud is the EchoStream that the node belongs to. The tenant audits.
	Cloud *echotest.Cloud
	// Dir is the node's volume.
	Dir string

	t       testing.TB
	bridge  Bridge
	env     map[string]string
	log     *output
	current *process // nil while none runs
	killed  bool     // at least once

	mu       sync.Mutex
	fed      []*fed   // in order
	edges    []string // that an item goes to which is handed over now; of a node that receives, where it comes from, in turn
	sources  *sources // of a node that receives
	inBatch  bool     // SQS may fail a part of a batch: those behind it in the batch have overtaken it then
	lastMade int
}

// fed is an item that was handed over.
type fed struct {
	Item
	edges []string
	tries int // that may have left something
	acked bool
	id    string // the tracking id, of what a source sent
}

// New makes a cloud with a node, and starts nothing. A node that sends has edges to "archive" and "erp", one that receives has some from
// "scanner" and "press". What the node does is checked when the test ends: its log, and that it stops in good order if it runs.
func New(t *testing.T, b Bridge) *Rig {
	t.Helper()
	return newRig(t, b, t.TempDir())
}

func newRig(t *testing.T, b Bridge, dir string) *Rig {
	t.Helper()
	b = b.withDefaults()
	opts := echotest.Options{
		Tenant: echotest.Tenant{Audit: true}, MessageTypes: []echotest.MessageType{b.MessageType}, TempDir: t.TempDir(),
		Node: echotest.Node{Name: "node-under-test", Config: b.Config},
	}
	r := &Rig{Dir: dir, t: t, bridge: b, log: &output{}}
	if b.Received == nil {
		r.edges = []string{"archive", "erp"}
		opts.Targets, opts.Node.SendMessageType = r.edges, b.MessageType.Name
	} else {
		r.edges = []string{"scanner", "press"}
		opts.Sources, opts.Targets = r.edges, []string{}
		opts.Node.ReceiveMessageType, opts.Node.SendMessageType = b.MessageType.Name, echotest.None
	}
	r.Cloud = echotest.NewCloud(opts)
	t.Cleanup(r.Cloud.Close)
	r.env = r.Cloud.Environment()
	r.env[b.Data] = dir
	maps.Copy(r.env, b.Env)
	if b.Received != nil {
		r.sources = newSources(t, r.Cloud, b)
	}
	t.Cleanup(func() {
		if r.current != nil {
			r.Stop()
		}
		r.checkLog()
	})
	return r
}

// Feed makes n items, every third of them large, and has the node acknowledge them, one after the other; what a device is refused it
// hands over again, for a minute. For a node that receives they are put into the queues of its sources.
func (r *Rig) Feed(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), waitFor)
	defer cancel()
	for range n {
		require.NoError(r.t, r.feed(ctx), "%s", r.log)
	}
}

// feed hands one item over until it is acknowledged or ctx ends.
func (r *Rig) feed(ctx context.Context) error {
	f := r.next()
	for {
		err := r.try(ctx, f)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not acknowledged: %w", f, err)
		case <-time.After(50 * time.Millisecond): // as an eager device does
		}
	}
}

func (r *Rig) next() *fed {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := &fed{Item: r.bridge.Item(r.lastMade, r.lastMade%3 == 2), edges: slices.Clone(r.edges)}
	if r.sources != nil {
		f.edges = []string{r.edges[r.lastMade%len(r.edges)]}
	}
	r.lastMade++
	r.fed = append(r.fed, f)
	return f
}

func (r *Rig) try(ctx context.Context, f *fed) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r.mu.Lock()
	f.tries++
	r.mu.Unlock()
	var err error
	if r.sources != nil {
		f.id, err = r.sources.send(ctx, f.edges[0], f.Item)
	} else {
		err = r.bridge.Feed(ctx, r.Dir, f.Item)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f.acked = f.acked || err == nil
	return err
}

// acked counts the items that were acknowledged.
func (r *Rig) acked() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.fed {
		if f.acked {
			n++
		}
	}
	return n
}

// goesTo has the items that are handed over from now on go to these edges.
func (r *Rig) goesTo(edges ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.edges = edges
}

// Waiting counts what is in the node's outbox.
func (r *Rig) Waiting() int {
	files, err := filepath.Glob(filepath.Join(r.Dir, "outbox", "*.data"))
	require.NoError(r.t, err)
	return len(files)
}

// count is how many items have come through so far.
func (r *Rig) count() int {
	if r.sources == nil {
		return r.Cloud.EdgeStats("archive").Messages
	}
	items, err := r.bridge.Received(r.Dir)
	require.NoError(r.t, err)
	return len(items)
}

// Delivered waits until everything that was acknowledged has left the node, and requires that it has arrived on every edge: whole,
// in order, no more often than it was handed over, under one tracking id, and audited. Of a node that receives it requires that it has
// made one item of each message, has deleted it, and audited it. It looks at all since the test began.
func (r *Rig) Delivered() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sources != nil {
		r.verifyReceived()
		return
	}
	want := map[string]int{}
	for _, f := range r.fed {
		for _, edge := range f.edges {
			if f.acked {
				want[edge]++
			}
		}
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), waitFor)
	defer cancel()
	for edge, n := range want {
		_, err := r.Cloud.WaitMessages(ctx, edge, n)
		require.NoError(r.t, err, "%s has %d of %d\n%s", edge, r.Cloud.EdgeStats(edge).Messages, n, r.log)
	}
	// What is gone from the outbox is not sent again.
	require.Eventually(r.t, func() bool { return r.Waiting() == 0 }, waitFor, tick, "the outbox is not empty\n%s", r.log)
	aside, err := filepath.Glob(filepath.Join(r.Dir, "failed", "*"))
	require.NoError(r.t, err)
	require.Empty(r.t, aside, "set aside\n%s", r.log)

	audited := map[string]bool{}
	for _, record := range r.Cloud.AuditRecords() {
		audited[record.TrackingID] = true
	}
	ids := map[*fed]map[string][]string{} // tracking ids, by item and edge
	for edge := range want {
		r.verify(edge, audited, ids)
	}
	for f, byEdge := range ids {
		for _, edge := range f.edges[1:] {
			assert.ElementsMatch(r.t, byEdge[f.edges[0]], byEdge[edge], "the tracking ids of %s on %s and %s", f, f.edges[0], edge)
		}
	}
}

// verify looks at one edge. r.mu is held.
func (r *Rig) verify(edge string, audited map[string]bool, ids map[*fed]map[string][]string) {
	r.t.Helper()
	byContent := map[string]*fed{}
	for _, f := range r.fed {
		byContent[string(f.Content)] = f
	}
	var sequence []*fed // first copies
	for _, m := range r.Cloud.Messages(edge) {
		item, err := r.bridge.Read(r.t.Context(), r.Cloud, m)
		require.NoError(r.t, err)
		f := byContent[string(item.Content)]
		if f == nil || !slices.Contains(f.edges, edge) {
			assert.Fail(r.t, "nobody has handed this over", "%s took %s", edge, item)
			continue
		}
		if item.Name != "" {
			assert.Equal(r.t, f.Name, item.Name)
		}
		assert.Equal(r.t, m.TrackingID, m.DedupID)
		assert.True(r.t, audited[m.TrackingID], "%s has no audit record", f)
		if ids[f] == nil {
			ids[f] = map[string][]string{}
		}
		if ids[f][edge] = append(ids[f][edge], m.TrackingID); len(ids[f][edge]) == 1 {
			sequence = append(sequence, f)
		}
	}
	var order []*fed
	for _, f := range r.fed {
		switch n := len(ids[f][edge]); {
		case !slices.Contains(f.edges, edge):
			continue
		case f.acked && n == 0:
			assert.Fail(r.t, "lost", "%s was acknowledged and has not reached %s", f, edge)
		case n > f.tries:
			assert.Fail(r.t, "too often", "%s was handed over %d times and has reached %s %d times", f, f.tries, edge, n)
		}
		if len(ids[f][edge]) > 0 {
			order = append(order, f)
		}
	}
	if !r.inBatch && !slices.Equal(order, sequence) {
		assert.Fail(r.t, "out of order", "%s took\n%sexpected\n%s", edge, names(sequence), names(order))
	}
}

func names(items []*fed) string {
	var b strings.Builder
	for _, f := range items {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// ballast fills the volume.
func (r *Rig) ballast() {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(r.Dir, "ballast"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(r.t, err)
	defer f.Close()
	for _, size := range []int{64 << 10, 4 << 10, 1} {
		for block := bytes.Repeat([]byte{1}, size); err == nil; {
			_, err = f.Write(block)
		}
		require.ErrorContains(r.t, err, "no space left")
		err = nil
	}
}

func (r *Rig) removeBallast() {
	r.t.Helper()
	require.NoError(r.t, os.Remove(filepath.Join(r.Dir, "ballast")))
}
