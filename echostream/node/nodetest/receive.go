package nodetest

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/awsenv"
)

// visibility is a little more than SQS hides what was received, by default.
const visibility = 31 * time.Second

// sources are the nodes that send to the one under test.
type sources struct {
	cloud *echotest.Cloud
	bulk  *echostream.Bulk
	ready []string // bodies that were made while the cloud was there, of the items to come
	made  int      // bodies so far
	item  func(n int) Item
	plain bool // a body is the content, not echo.file
}

// ahead is how many bodies are made before anything is switched off.
const ahead = 40

func newSources(t *testing.T, cloud *echotest.Cloud, b Bridge) *sources {
	cloud.SetNode(echotest.Node{Name: "scanner"})
	env := cloud.EnvironmentOf("scanner")
	e, err := echostream.EnvironmentFrom(func(name string) string { return env[name] })
	require.NoError(t, err)
	client, err := echostream.New(e, echostream.Options{AWS: awsenv.Options(env)})
	require.NoError(t, err)
	s := &sources{
		cloud: cloud, bulk: client.NewBulk(echostream.BulkOptions{}), plain: b.MessageType.Name != "echo.file",
		item: func(n int) Item { return b.Item(n, n%3 == 2) },
	}
	for range ahead {
		body, err := s.body(t.Context(), s.item(s.made))
		require.NoError(t, err)
		s.ready = append(s.ready, body)
		s.made++
	}
	return s
}

// send puts an item into the queue from a source. Items come in the order of Bridge.Item.
func (s *sources) send(ctx context.Context, source string, item Item) (trackingID string, err error) {
	var body string
	if len(s.ready) > 0 {
		body, s.ready = s.ready[0], s.ready[1:]
	} else if body, err = s.body(ctx, item); err != nil {
		return "", err
	}
	return s.cloud.Put(source, "node-under-test", body, "").TrackingID, nil
}

func (s *sources) body(ctx context.Context, item Item) (string, error) {
	if s.plain {
		return string(item.Content), nil
	}
	c := &echofile.Composer{Upload: s.bulk.Upload}
	e := outbox.Entry{ID: echostream.NewTrackingID(), Name: item.Name, Size: int64(len(item.Content)), ModTime: time.Now()}
	m, err := c.Compose(ctx, e, func() (disk.File, error) { return memory{Reader: bytes.NewReader(item.Content)}, nil }, echofile.Origin{})
	return m.Body, err
}

// memory is a disk.File that is only read.
type memory struct {
	disk.File
	*bytes.Reader
}

func (m memory) Read(b []byte) (int, error)                { return m.Reader.Read(b) }
func (m memory) ReadAt(b []byte, off int64) (int, error)   { return m.Reader.ReadAt(b, off) }
func (m memory) Seek(off int64, whence int) (int64, error) { return m.Reader.Seek(off, whence) }
func (m memory) Close() error                              { return nil }

// verifyReceived is Delivered of a node that receives. r.mu is held.
func (r *Rig) verifyReceived() {
	r.t.Helper()
	for _, edge := range r.Cloud.Edges() {
		require.Eventually(r.t, func() bool {
			visible, inFlight := r.Cloud.Waiting(edge)
			return visible+inFlight == 0
		}, waitFor, tick, "%s: messages stay in the queue\n%s", edge, r.log)
		assert.Empty(r.t, r.Cloud.DeadLetters(edge))
	}
	items, err := r.bridge.Received(r.Dir)
	require.NoError(r.t, err)
	for _, f := range r.fed {
		i := slices.IndexFunc(items, func(got Item) bool { return got.Name == f.Name && bytes.Equal(got.Content, f.Content) })
		if i < 0 {
			assert.Fail(r.t, "lost", "%s was sent, and is not there", f)
			continue
		}
		items = slices.Delete(items, i, i+1)
	}
	assert.Empty(r.t, items, "too often, or of nobody's")
	if r.killed {
		return // what was deleted and not audited yet is so for ever
	}
	require.Eventually(r.t, func() bool {
		audited := map[string]string{}
		for _, record := range r.Cloud.AuditRecords() {
			audited[record.TrackingID] = record.SourceNode
		}
		return !slices.ContainsFunc(r.fed, func(f *fed) bool { return audited[f.id] == "" })
	}, waitFor, tick, "not all is audited\n%s", r.log)
}

// faultsReceiving are those after which a message comes again, or could.
func faultsReceiving(_ *testing.T, r *Rig) {
	for _, f := range []echotest.Fault{
		{Service: echotest.SQS, Operation: "ReceiveMessage", Kind: echotest.ReplyLost, Every: 3, Count: 3},
		{Service: echotest.SQS, Operation: "ReceiveMessage", Kind: echotest.Throttled, Every: 4, Count: 2},
		{Service: echotest.SQS, Operation: "DeleteMessageBatch", Kind: echotest.ReplyLost, Every: 2, Count: 2},
		{Service: echotest.SQS, Operation: "DeleteMessageBatch", Kind: echotest.ServerError, After: 1, Count: 1},
		{Service: echotest.SQS, Kind: echotest.ExpiredCredentials, After: 6, Count: 1},
		{Service: echotest.S3, Operation: "GetObject", Kind: echotest.ReplyCut, Every: 2, Count: 2},
		{Service: echotest.S3, Operation: "GetObject", Kind: echotest.ServerError, After: 2, Count: 1},
		{Service: echotest.Audit, Kind: echotest.ServerError, Count: 2},
	} {
		r.Cloud.Fault(f)
	}
	r.Start()
	r.Feed(12)
	r.Delivered()
}

// edgesReceiving has sources come, go, and hand their queue to another one.
func edgesReceiving(_ *testing.T, r *Rig) {
	r.Start()
	r.Feed(2)
	r.Delivered()
	r.Cloud.AddEdge("late", "node-under-test")
	r.goesTo("scanner", "press", "late")
	r.Restart()
	r.Feed(3)
	r.Delivered()
	r.Cloud.RemoveEdge("press>node-under-test") // and nobody tells the node
	r.goesTo("scanner", "late")
	r.Feed(2)
	r.Delivered()
}

// fullVolumeReceiving holds what there is no room for, and takes it when there is.
func fullVolumeReceiving(_ *testing.T, r *Rig) {
	r.Start()
	r.Feed(3)
	r.Delivered()
	r.ballast()
	r.Feed(3)
	r.WaitLog("[ERROR]", "no space left on device")
	r.removeBallast()
	r.Delivered()
}
