package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// fakeCloud takes everything, but for what errs names.
type fakeCloud struct {
	sent    []string         // tracking ids
	errs    map[string]error // by tracking id
	records []echostream.AuditRecord
	types   []string
}

func (c *fakeCloud) Send(_ context.Context, _ *echostream.Definition, _ string, messages []echostream.Message) []error {
	errs := make([]error, len(messages))
	for i, m := range messages {
		if errs[i] = c.errs[m.TrackingID]; errs[i] == nil {
			c.sent = append(c.sent, m.TrackingID)
		}
	}
	return errs
}

func (c *fakeCloud) Audit(_ context.Context, _ *echostream.Definition, messageType string, records []echostream.AuditRecord) []error {
	errs := make([]error, len(records))
	for i, r := range records {
		errs[i] = c.errs[r.TrackingID]
	}
	c.records = append(c.records, records...)
	c.types = append(c.types, messageType)
	return errs
}

var fileMessages = MessageConfig{Content: "auto", ContentField: "content", URLField: "contentUrl"}

type fakeBulk struct{}

func (fakeBulk) Upload(context.Context, func() (io.ReadCloser, error)) (echostream.BulkObject, error) {
	return echostream.BulkObject{URL: "https://bulk.example.com/a", Expires: time.Date(2026, 11, 14, 16, 0, 0, 0, time.UTC)}, nil
}

// entryOf returns the entry of a file that came by FTP.
func entryOf(name string, content []byte) outbox.Entry {
	return outbox.Entry{
		ID: "0123456789abcdef0123456789abcdef", Name: name, Size: int64(len(content)),
		ModTime: time.Date(2026, 11, 7, 16, 5, 9, 123456789, time.FixedZone("", 3600)),
		Meta:    json.RawMessage(`{"user":"scanner","remoteAddress":"192.0.2.7","received":"2026-11-07T15:05:10.5Z"}`),
	}
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// opener opens a file that is only read.
func opener(content []byte) func() (disk.File, error) {
	return func() (disk.File, error) { return memory{Reader: bytes.NewReader(content)}, nil }
}

type memory struct {
	disk.File
	*bytes.Reader
}

func (m memory) Read(b []byte) (int, error)                { return m.Reader.Read(b) }
func (m memory) ReadAt(b []byte, off int64) (int, error)   { return m.Reader.ReadAt(b, off) }
func (m memory) Seek(off int64, whence int) (int64, error) { return m.Reader.Seek(off, whence) }
func (m memory) Close() error                              { return nil }

func delivererOf(cloud *fakeCloud, node *echostream.Definition) (d *deliverer, outdated *int) {
	outdated = new(int)
	d = &deliverer{cloud: cloud, now: func() time.Time { return time.Date(2026, 11, 7, 16, 0, 0, 0, time.UTC) }, outdated: func() { *outdated++ }}
	if node != nil {
		d.set(deliveryState{node: node, config: fileMessages, bulk: fakeBulk{}})
	}
	return d, outdated
}

func batchOf(t *testing.T, d *deliverer, n int) (batch []outbox.Prepared) {
	for i := range n {
		e := entryOf(fmt.Sprintf("%d.txt", i), []byte("x"))
		e.ID = strings.Repeat(fmt.Sprint(i), 32)
		payload, err := d.Prepare(t.Context(), e, opener([]byte("x")))
		require.NoError(t, err)
		batch = append(batch, outbox.Prepared{Entry: e, Payload: payload, Open: opener([]byte("x"))})
	}
	return batch
}

func twoTargets() *echostream.Definition {
	return &echostream.Definition{Name: "n", Targets: []echostream.Edge{{Name: "a", Queue: "https://q/a"}, {Name: "b", Queue: "https://q/b"}}}
}

func TestTargets(t *testing.T) {
	d, _ := delivererOf(&fakeCloud{}, nil)
	assert.Empty(t, d.Targets(), "nothing is known yet")
	_, err := d.Prepare(t.Context(), entryOf("a", nil), opener(nil))
	require.ErrorIs(t, err, errNoDefinition)
	require.ErrorIs(t, d.Audit(t.Context(), make([]outbox.Prepared, 1))[0], errNoDefinition)
	require.Error(t, d.Send(t.Context(), "a", make([]outbox.Prepared, 1))[0])

	kept := twoTargets()
	kept.Kept = true // whether the tenant audits may be out of date, too
	d, _ = delivererOf(&fakeCloud{}, kept)
	assert.Empty(t, d.Targets())
	_, err = d.Prepare(t.Context(), entryOf("a", nil), opener(nil))
	require.ErrorIs(t, err, errNoDefinition)
	require.ErrorIs(t, d.Audit(t.Context(), make([]outbox.Prepared, 1))[0], errNoDefinition)
	require.Error(t, d.Send(t.Context(), "a", make([]outbox.Prepared, 1))[0])

	d, _ = delivererOf(&fakeCloud{}, twoTargets())
	assert.Equal(t, []string{"a", "b"}, d.Targets())
	stopped := twoTargets()
	stopped.Stopped = true
	d, _ = delivererOf(&fakeCloud{}, stopped)
	assert.Empty(t, d.Targets())
	errs := d.Send(t.Context(), "a", batchOf(t, d, 2))
	require.Len(t, errs, 2)
	for _, err := range errs {
		require.Error(t, err, "also if it was stopped a moment ago")
		assert.False(t, echostream.IsPermanent(err))
	}
}

func TestSendGivesEachItsResult(t *testing.T) {
	cloud := &fakeCloud{}
	d, outdated := delivererOf(cloud, twoTargets())
	batch := batchOf(t, d, 4)
	cloud.errs = map[string]error{batch[1].Entry.ID: errors.New("later"), batch[3].Entry.ID: fmt.Errorf("x: %w", echostream.ErrEdgeGone)}
	errs := d.Send(t.Context(), "a", batch)
	require.NoError(t, errs[0])
	require.ErrorContains(t, errs[1], "later")
	require.NoError(t, errs[2])
	require.ErrorIs(t, errs[3], echostream.ErrEdgeGone)
	assert.Equal(t, 1, *outdated, "the definition is read again")
	require.Error(t, d.Send(t.Context(), "no such target", batch)[0])
}

// A URL that its readers may find dead is not sent; nor is what comes after it.
func TestStaleUploads(t *testing.T) {
	cloud := &fakeCloud{}
	d, _ := delivererOf(cloud, twoTargets())
	d.set(deliveryState{node: twoTargets(), config: MessageConfig{Content: "bulk", ContentField: "content", URLField: "contentUrl"}, bulk: fakeBulk{}})
	batch := batchOf(t, d, 3)
	for i := range batch {
		if i != 1 {
			m := batch[i].Payload.(echofile.Message)
			m.Expires = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
			batch[i].Payload = m
		}
	}
	now := time.Date(2026, 11, 12, 0, 0, 0, 0, time.UTC) // over half of the seven days are gone
	d.now = func() time.Time { return now }
	errs := d.Send(t.Context(), "a", batch)
	require.NoError(t, errs[0])
	var stale interface{ Stale() bool }
	require.ErrorAs(t, errs[1], &stale)
	assert.True(t, stale.Stale())
	require.Error(t, errs[2])
	assert.Equal(t, []string{batch[0].Entry.ID}, cloud.sent)

	batch[0].Payload = nil
	require.ErrorAs(t, d.Send(t.Context(), "a", batch[:1])[0], &stale, "a payload that is gone is made anew")
}

func TestAudit(t *testing.T) {
	cloud := &fakeCloud{}
	node := twoTargets()
	d, _ := delivererOf(cloud, node)
	batch := batchOf(t, d, 2)
	require.Equal(t, make([]error, 2), d.Audit(t.Context(), batch))
	assert.Empty(t, cloud.records, "the tenant does not audit")

	audits := *node
	audits.Audit = true
	d, _ = delivererOf(cloud, &audits)
	batch[1].Payload = nil // as after a restart
	require.Equal(t, make([]error, 2), d.Audit(t.Context(), batch))
	require.Len(t, cloud.records, 2)
	assert.Equal(t, batch[1].Entry.ID, cloud.records[1].TrackingID)
	assert.Equal(t, "1.txt", cloud.records[1].Attributes["name"])
	assert.Equal(t, cloud.records[0].Attributes["sha256"], cloud.records[1].Attributes["sha256"])
	assert.Equal(t, []string{"echo.file"}, cloud.types)

	cloud.records = nil
	batch[0].Payload = nil
	batch[0].Open = func() (disk.File, error) { return nil, syscall.EIO }
	errs := d.Audit(t.Context(), batch)
	require.ErrorIs(t, errs[0], syscall.EIO)
	require.NoError(t, errs[1], "a file that cannot be read keeps no other back")
	require.Len(t, cloud.records, 1)
	assert.Equal(t, batch[1].Entry.ID, cloud.records[0].TrackingID)
	require.Error(t, d.Audit(t.Context(), batch[:1])[0])
	assert.Len(t, cloud.types, 2, "nothing is left to be recorded")
}

func TestAuditGivesEachItsResult(t *testing.T) {
	node := twoTargets()
	node.Audit = true
	cloud := &fakeCloud{}
	d, _ := delivererOf(cloud, node)
	batch := batchOf(t, d, 4)
	batch[0].Payload = nil
	batch[0].Open = func() (disk.File, error) { return nil, syscall.EIO }
	refused, down := echostream.Permanent(errors.New("refused")), errors.New("down")
	cloud.errs = map[string]error{batch[2].Entry.ID: refused, batch[3].Entry.ID: down}
	errs := d.Audit(t.Context(), batch)
	require.Len(t, errs, 4)
	require.ErrorIs(t, errs[0], syscall.EIO)
	assert.Equal(t, []error{nil, refused, down}, errs[1:])
}

// A file whose record was lost is sent with what is known of it; one whose record is not ours never can be, and blocks nothing.
func TestRecordsThatAreNotOurs(t *testing.T) {
	d, _ := delivererOf(&fakeCloud{}, twoTargets())
	e := entryOf("a.bin", []byte("x"))
	e.Accepted = time.Date(2026, 11, 8, 12, 0, 0, 0, time.UTC)
	e.Meta = nil
	m, err := d.Prepare(t.Context(), e, opener([]byte("x")))
	require.NoError(t, err)
	assert.Contains(t, m.(echofile.Message).Body, `"metadata":{"user":"","receivedDateTime":"2026-11-08T12:00:00.000Z","sha256":`)

	for _, meta := range []string{`7`, `{"user":`} {
		e.Meta = json.RawMessage(meta)
		_, err = d.Prepare(t.Context(), e, opener([]byte("x")))
		require.ErrorContains(t, err, "cannot be read")
		assert.True(t, echostream.IsPermanent(err))
	}
}

// EchoStream makes columns of the attributes: their names and types stay, also when the message is gone.
func TestAttributes(t *testing.T) {
	content := []byte("a;b\r\n")
	want := map[string]any{
		"content_length": int64(5), "content_type": "text/csv", "modification_datetime": "2026-11-07T15:05:09.123Z", "name": "x/a.csv",
		"user": "scanner", "remote_address": "192.0.2.7", "received_datetime": "2026-11-07T15:05:10.500Z", "sha256": hexSum(content),
	}
	cloud := &fakeCloud{}
	node := twoTargets()
	node.Audit = true
	d, _ := delivererOf(cloud, node)
	e := entryOf("x/a.csv", content)
	m, err := d.Prepare(t.Context(), e, opener(content))
	require.NoError(t, err)
	for _, payload := range []any{m, nil} {
		errs := d.Audit(t.Context(), []outbox.Prepared{{Entry: e, Payload: payload, Open: opener(content)}})
		require.NoError(t, errs[0])
		assert.Equal(t, want, cloud.records[len(cloud.records)-1].Attributes)
	}
}

// TestGoldenMessage holds a whole message of this node against what its receivers know.
func TestGoldenMessage(t *testing.T) {
	d, _ := delivererOf(&fakeCloud{}, twoTargets())
	content := []byte("a;b\r\n1;2\r\n")
	m, err := d.Prepare(t.Context(), entryOf("orders/2026/4711.csv", content), opener(content))
	require.NoError(t, err)
	want, err := os.ReadFile(filepath.Join("..", "..", "echostream", "echofile", "testdata", "inline.json"))
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSpace(string(want)), m.(echofile.Message).Body)
}

func TestLanes(t *testing.T) {
	assert.Equal(t, laneOf("node", "a", "x"), laneOf("node", "b", "y"))
	assert.NotEqual(t, laneOf("user", "a", "x"), laneOf("user", "b", "x"))
	assert.Equal(t, laneOf("user", "a", "x"), laneOf("user", "a", "y"))
	assert.Equal(t, laneOf("file", "a", "x"), laneOf("file", "a", "x"), "the versions of one file keep their order")
	lanes := map[string]bool{}
	for i := range 1000 {
		lanes[laneOf("file", "a", fmt.Sprint(i))] = true
	}
	assert.Len(t, lanes, fileLanes)
}

func TestCompareSample(t *testing.T) {
	config := fileMessages
	cases := []struct {
		name, sample string
		config       MessageConfig
		warns        []string
	}{
		{"one of the two keys", `{"name":1,"contentLength":1,"contentType":1,"modificationDateTime":1,"content":1}`, config, nil},
		{"the other one", `{"name":1,"contentLength":1,"contentType":1,"modificationDateTime":1,"contentUrl":1}`, config, nil},
		{"another key", `{"name":1,"contentLength":1,"contentType":1,"modificationDateTime":1,"data":1}`, config,
			[]string{"onlyInSample=data", "onlyInOurs=content,contentUrl"}},
		{"that key", `{"name":1,"contentLength":1,"contentType":1,"modificationDateTime":1,"data":1}`, MessageConfig{ContentField: "data", URLField: "contentUrl"}, nil},
		{"no JSON", `<file/>`, config, []string{"not a JSON object"}},
		{"more", `{"name":1,"contentLength":1,"contentType":1,"modificationDateTime":1,"content":1,"site":1}`, config, []string{"onlyInSample=site"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			log := &logBuffer{}
			compareSample(&echostream.MessageType{Name: "echo.file", SampleMessage: c.sample}, c.config, slog.New(echostream.NewLogHandler(log, nil)))
			if c.warns == nil {
				assert.Empty(t, log.String())
				return
			}
			assert.Len(t, log.find("[WARNING]"), 1)
			for _, text := range c.warns {
				assert.Contains(t, log.String(), text)
			}
		})
	}
	log := &logBuffer{}
	compareSample(nil, config, slog.New(echostream.NewLogHandler(log, nil)))
	assert.Len(t, log.find("[WARNING] the node has no message type"), 1)
}
