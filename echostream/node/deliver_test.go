package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/nodelog"
)

// fakeCloud takes everything, but for what errs names.
type fakeCloud struct {
	sent    []string         // tracking ids
	errs    map[string]error // by tracking id
	records []echostream.AuditRecord
	types   []string
	now     time.Time
}

func (c *fakeCloud) Now() time.Time { return c.now }

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

// entryOf returns the entry of a file that came by FTP.
func entryOf(name string, content []byte) outbox.Entry {
	return outbox.Entry{
		ID: "0123456789abcdef0123456789abcdef", Name: name, Size: int64(len(content)),
		ModTime: time.Date(2026, 11, 7, 16, 5, 9, 123456789, time.FixedZone("", 3600)),
		Meta:    json.RawMessage(`{"user":"scanner","remoteAddress":"192.0.2.7","received":"2026-11-07T15:05:10.5Z"}`),
	}
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

// oneMessage composes the content of an entry, and its URL if made is not zero.
func oneMessage(made, expires time.Time) Bridge[struct{}] {
	return Bridge[struct{}]{
		MessageType: "echo.file",
		Compose: func(_ context.Context, _ *Node, _ struct{}, e outbox.Entry, open func() (disk.File, error)) (Message, error) {
			f, err := open()
			if err != nil {
				return Message{}, err
			}
			content, err := io.ReadAll(f)
			return Message{Body: string(content), Attributes: map[string]any{"name": e.Name}, Made: made, Expires: expires}, err
		},
	}
}

func delivererOf(cloud *fakeCloud, definition *echostream.Definition) (d *deliverer, outdated *int) {
	outdated = new(int)
	if cloud.now.IsZero() {
		cloud.now = time.Date(2026, 11, 7, 16, 0, 0, 0, time.UTC)
	}
	if definition == nil {
		return &deliverer{cloud: cloud}, outdated
	}
	d = NewDeliverer(cloud, definition, oneMessage(time.Time{}, time.Time{}), struct{}{}).(*deliverer)
	d.outdated = func() { *outdated++ }
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
	batch := batchOf(t, d, 3)
	made := time.Date(2026, 11, 7, 16, 0, 0, 0, time.UTC)
	for i, expires := range []time.Time{time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), made.AddDate(0, 0, 7), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)} {
		withURL := NewDeliverer(cloud, twoTargets(), oneMessage(made, expires), struct{}{})
		var err error
		batch[i].Payload, err = withURL.Prepare(t.Context(), batch[i].Entry, batch[i].Open)
		require.NoError(t, err)
	}
	cloud.now = time.Date(2026, 11, 11, 0, 0, 0, 0, time.UTC) // nearly half of the seven days are gone
	require.Equal(t, make([]error, 3), d.Send(t.Context(), "a", batch))

	cloud.sent, cloud.now = nil, time.Date(2026, 11, 12, 0, 0, 0, 0, time.UTC) // over half of them
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
	definition := twoTargets()
	d, _ := delivererOf(cloud, definition)
	batch := batchOf(t, d, 2)
	require.Equal(t, make([]error, 2), d.Audit(t.Context(), batch))
	assert.Empty(t, cloud.records, "the tenant does not audit")

	audits := *definition
	audits.Audit = true
	d, _ = delivererOf(cloud, &audits)
	batch[1].Payload = nil // as after a restart
	require.Equal(t, make([]error, 2), d.Audit(t.Context(), batch))
	require.Len(t, cloud.records, 2)
	assert.Equal(t, batch[1].Entry.ID, cloud.records[1].TrackingID)
	assert.Equal(t, "1.txt", cloud.records[1].Attributes["name"])
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
	definition := twoTargets()
	definition.Audit = true
	cloud := &fakeCloud{}
	d, _ := delivererOf(cloud, definition)
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

// After a restart an entry has no message: the bridge may know how to make its audit record without one.
func TestAttributesOfABridge(t *testing.T) {
	definition := twoTargets()
	definition.Audit = true
	cloud := &fakeCloud{}
	b := oneMessage(time.Time{}, time.Time{})
	b.Attributes = func(_ context.Context, _ *Node, _ struct{}, e outbox.Entry, _ func() (disk.File, error)) (map[string]any, error) {
		return map[string]any{"anew": e.Name}, nil
	}
	d := NewDeliverer(cloud, definition, b, struct{}{})
	require.Equal(t, []error{nil}, d.Audit(t.Context(), []outbox.Prepared{{Entry: entryOf("a", nil), Open: opener(nil)}}))
	assert.Equal(t, map[string]any{"anew": "a"}, cloud.records[0].Attributes)
}

// fileKeys are those of an echo.file message.
func fileKeys(content, url string) func(struct{}) Keys {
	return func(struct{}) Keys {
		return Keys{
			Each:     [][]string{{"name"}, {"contentLength"}, {"contentType"}, {"modificationDateTime"}, {content, url}},
			Optional: []string{"metadata"}, Advice: "look at the keys",
		}
	}
}

func TestCompareSample(t *testing.T) {
	const common = `"name":1,"contentLength":1,"contentType":1,"modificationDateTime":1`
	byDefault := fileKeys("content", "contentUrl")
	compare := func(t *echostream.MessageType, keys func(struct{}) Keys) string {
		var out bytes.Buffer
		l := &life[struct{}]{Node: &Node{Log: slog.New(nodelog.NewHandler(&out, nil, nil))}, bridge: Bridge[struct{}]{MessageType: "echo.file", Keys: keys}}
		l.compareSample(t)
		return out.String()
	}
	for name, c := range map[string]struct {
		sample string
		keys   func(struct{}) Keys
		warns  []string
	}{
		"one of the two keys": {`{` + common + `,"content":1}`, byDefault, nil},
		"the other one":       {`{` + common + `,"contentUrl":1}`, byDefault, nil},
		"what is optional":    {`{` + common + `,"content":1,"metadata":{}}`, byDefault, nil},
		"another key":         {`{` + common + `,"data":1}`, byDefault, []string{"onlyInSample=data", "onlyInOurs=content,contentUrl", `advice="look at the keys"`}},
		"that key":            {`{` + common + `,"data":1}`, fileKeys("data", "contentUrl"), nil},
		"more":                {`{` + common + `,"content":1,"site":1}`, byDefault, []string{"onlyInSample=site"}},
		"fewer":               {`{"name":1,"contentLength":1,"content":1}`, byDefault, []string{"onlyInOurs=contentType,modificationDateTime"}},
		"XML":                 {`<file/>`, byDefault, []string{"not a JSON object", `advice="look at the keys"`}},
		"nothing":             {``, byDefault, []string{"not a JSON object"}},
		"null":                {`null`, byDefault, []string{"not a JSON object"}},
		"a list":              {`[]`, byDefault, []string{"not a JSON object"}},
		"no keys to compare":  {`<file/>`, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			log := compare(&echostream.MessageType{Name: "echo.file", SampleMessage: c.sample}, c.keys)
			if c.warns == nil {
				assert.Empty(t, log)
				return
			}
			assert.Equal(t, 1, strings.Count(log, "[WARNING]"))
			for _, text := range c.warns {
				assert.Contains(t, log, text)
			}
		})
	}
	assert.Contains(t, compare(&echostream.MessageType{Name: "acme.file", SampleMessage: `{` + common + `,"content":1}`}, byDefault), "messageType=acme.file")
	assert.Contains(t, compare(nil, byDefault), "[WARNING] the node has no message type")
}
