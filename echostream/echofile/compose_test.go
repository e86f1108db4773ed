package echofile_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

var update = flag.Bool("update", false, "write the golden messages anew")

// memory is a disk.File that is only read.
type memory struct {
	disk.File
	*bytes.Reader
}

func (m memory) Read(b []byte) (int, error)                { return m.Reader.Read(b) }
func (m memory) ReadAt(b []byte, off int64) (int, error)   { return m.Reader.ReadAt(b, off) }
func (m memory) Seek(off int64, whence int) (int64, error) { return m.Reader.Seek(off, whence) }
func (m memory) Close() error                              { return nil }
func opener(content []byte) func() (disk.File, error) {
	return func() (disk.File, error) { return memory{Reader: bytes.NewReader(content)}, nil }
}

func entryOf(name string, content []byte) outbox.Entry {
	return outbox.Entry{
		ID: "0123456789abcdef0123456789abcdef", Name: name, Size: int64(len(content)),
		ModTime: time.Date(2026, 11, 7, 16, 5, 9, 123456789, time.FixedZone("", 3600)),
	}
}

// origin is what a bridge knows of entryOf's file.
var origin = echofile.Origin{
	Received: time.Date(2026, 11, 7, 15, 5, 10, 500e6, time.UTC),
	Fields: []echofile.Field{
		{Key: "user", Attribute: "user", Value: "scanner"},
		{Key: "remoteAddress", Attribute: "remote_address", Value: "192.0.2.7"},
	},
}

// upload stores nothing.
func upload(ctx context.Context, open func() (io.ReadCloser, error)) (echostream.BulkObject, error) {
	f, err := open()
	if err != nil {
		return echostream.BulkObject{}, err
	}
	defer f.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, f)
	return echostream.BulkObject{URL: "https://bulk.example.com/a?b=c&d=e", Size: n, SHA256: hex.EncodeToString(hash.Sum(nil)),
		Expires: time.Date(2026, 11, 14, 16, 0, 0, 0, time.UTC)}, err
}

func composerOf(content string) *echofile.Composer {
	return &echofile.Composer{Content: content, Upload: upload, Now: func() time.Time { return time.Date(2026, 11, 7, 16, 0, 0, 0, time.UTC) }}
}

// valid requires that SQS takes m as e's message.
func valid(t *testing.T, e outbox.Entry, m echofile.Message) {
	t.Helper()
	require.NoError(t, echostream.Message{TrackingID: e.ID, Body: m.Body}.Validate())
}

// The messages that go out are in testdata: a change of them is seen, and meant.
func TestGoldenMessages(t *testing.T) {
	cases := []struct {
		golden, name, mode string
		content            []byte
	}{
		{"inline.json", "orders/2026/4711.csv", "auto", []byte("a;b\r\n1;2\r\n")},
		{"empty.json", "empty.dat", "auto", nil},
		{"bulk.json", "scan.pdf", "bulk", []byte("%PDF-1.7\n")},
		{"name-utf8.json", "Größe <5µm> & 検査 \"x\"\uffff\u2028\x7f.txt", "auto", []byte("x")},
		{"name-latin1.json", "Gr\xf6\xdfe 100%.txt", "auto", []byte("x")},
		{"name-control.json", "a\x01b\x1b[31m\x00c.txt", "auto", []byte("x")},
	}
	for _, c := range cases {
		t.Run(c.golden, func(t *testing.T) {
			e := entryOf(c.name, c.content)
			m, err := composerOf(c.mode).Compose(t.Context(), e, opener(c.content), origin)
			require.NoError(t, err)
			valid(t, e, m)
			file := filepath.Join("testdata", c.golden)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(m.Body+"\n"), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, strings.TrimSpace(string(want)), m.Body)

			f, err := (&echofile.Reader{}).File(echostream.ReceivedMessage{Message: echostream.Message{Body: m.Body}})
			require.NoError(t, err)
			name := f.Name
			if f.NameBytes != nil {
				name = string(f.NameBytes)
			}
			assert.Equal(t, c.name, name, "nothing of the name is lost")
			if f.Bulk {
				assert.NotZero(t, m.Made)
				assert.Equal(t, time.Date(2026, 11, 14, 16, 0, 0, 0, time.UTC), m.Expires)
				return
			}
			assert.Zero(t, m.Expires)
			content, err := f.Open(t.Context())
			require.NoError(t, err)
			read, err := io.ReadAll(content)
			require.NoError(t, err)
			assert.Equal(t, string(c.content), string(read))
		})
	}
}

// A file goes inline exactly if the whole message fits.
func TestAutoFillsMessages(t *testing.T) {
	fits := func(size int) bool {
		content := make([]byte, size)
		e := entryOf("a.bin", content)
		m, err := composerOf("auto").Compose(t.Context(), e, opener(content), origin)
		require.NoError(t, err)
		valid(t, e, m)
		return m.Expires.IsZero()
	}
	low, high := 0, echostream.MaxMessageSize
	for high-low > 1 {
		if middle := (low + high) / 2; fits(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	content := make([]byte, low)
	e := entryOf("a.bin", content)
	m, err := composerOf("auto").Compose(t.Context(), e, opener(content), origin)
	require.NoError(t, err)
	assert.Greater(t, echostream.Message{TrackingID: e.ID, Body: m.Body}.Size(), echostream.MaxMessageSize-4, "the largest file that fits fills the message but for base64's padding")
}

func TestInlineTooLargeIsPermanent(t *testing.T) {
	for _, size := range []int{196_609, 196_400, 1_000_000} {
		content := make([]byte, size)
		_, err := composerOf("inline").Compose(t.Context(), entryOf("a.bin", content), opener(content), origin)
		require.Error(t, err)
		assert.True(t, echostream.IsPermanent(err))
		assert.ErrorContains(t, err, "message.content = inline")
	}
}

func TestComposeErrorsAreTransient(t *testing.T) {
	broken := func() (disk.File, error) { return nil, errors.New("input/output error") }
	for _, mode := range []string{"auto", "bulk"} {
		_, err := composerOf(mode).Compose(t.Context(), entryOf("a.bin", []byte("x")), broken, origin)
		require.Error(t, err)
		assert.False(t, echostream.IsPermanent(err))
	}
	shorter := entryOf("a.bin", []byte("four"))
	_, err := composerOf("auto").Compose(t.Context(), shorter, opener([]byte("two")[:2]), origin)
	require.Error(t, err, "fewer bytes than the entry has")
}

// A bridge that knows nothing of a file sends what the outbox knows.
func TestOriginByDefault(t *testing.T) {
	e := entryOf("a.bin", []byte("x"))
	e.Accepted = time.Date(2026, 11, 8, 12, 0, 0, 0, time.UTC)
	m, err := composerOf("").Compose(t.Context(), e, opener([]byte("x")), echofile.Origin{})
	require.NoError(t, err)
	assert.Contains(t, m.Body, `"metadata":{"receivedDateTime":"2026-11-08T12:00:00.000Z","sha256":"`+hexSum([]byte("x"))+`"}}`)
	assert.Len(t, m.Attributes, 6)
	assert.Equal(t, "2026-11-08T12:00:00.000Z", m.Attributes["received_datetime"])
}

// What every audit record holds is not the bridge's to change: EchoStream's columns keep their types.
func TestFieldsChangeNoAttribute(t *testing.T) {
	from := echofile.Origin{Fields: []echofile.Field{{Key: "length", Attribute: "content_length", Value: "long"}, {Key: "note", Value: "no column"}}}
	m, err := composerOf("").Compose(t.Context(), entryOf("a.bin", []byte("x")), opener([]byte("x")), from)
	require.NoError(t, err)
	assert.Equal(t, int64(1), m.Attributes["content_length"])
	assert.Len(t, m.Attributes, 6)
	assert.Contains(t, m.Body, `"metadata":{"length":"long","note":"no column","receivedDateTime":`)
}

func TestConfiguredFields(t *testing.T) {
	c := composerOf("auto")
	c.ContentField, c.URLField = "data", "dataUrl"
	for mode, key := range map[string]string{"auto": "data", "bulk": "dataUrl"} {
		c.Content = mode
		made, err := c.Compose(t.Context(), entryOf("a.txt", []byte("hi")), opener([]byte("hi")), origin)
		require.NoError(t, err)
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(made.Body), &m))
		assert.Contains(t, m, key)
		assert.Len(t, m, 6)
		for _, keys := range c.Keys() {
			assert.True(t, slices.ContainsFunc(keys, func(k string) bool { _, ok := m[k]; return ok }), keys)
		}
	}
}

// An audit record is the same whether the message is there or the file must be read again.
func TestAttributes(t *testing.T) {
	content := []byte("a;b\r\n")
	e := entryOf("x/a.csv", content)
	want := map[string]any{
		"content_length": int64(5), "content_type": "text/csv", "modification_datetime": "2026-11-07T15:05:09.123Z", "name": "x/a.csv",
		"user": "scanner", "remote_address": "192.0.2.7", "received_datetime": "2026-11-07T15:05:10.500Z",
		"sha256": hexSum(content),
	}
	for _, mode := range []string{"auto", "bulk"} {
		m, err := composerOf(mode).Compose(t.Context(), e, opener(content), origin)
		require.NoError(t, err)
		assert.Equal(t, want, m.Attributes)
	}
	again, err := composerOf("auto").Attributes(t.Context(), e, opener(content), origin)
	require.NoError(t, err)
	assert.Equal(t, want, again)

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = composerOf("auto").Attributes(ended, e, opener(content), origin)
	require.ErrorIs(t, err, context.Canceled)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func FuzzBody(f *testing.F) {
	f.Add("a.csv", "scanner", []byte("x"))
	f.Add("\xff\x00\uffff\u2028\"\\", "\ufffe", []byte{0, 255})
	f.Add("../../%C3", "", []byte{})
	f.Fuzz(func(t *testing.T, name, user string, content []byte) {
		e := entryOf(name, content)
		from := echofile.Origin{Fields: []echofile.Field{{Key: user, Value: user}}}
		message, err := composerOf("auto").Compose(t.Context(), e, opener(content), from)
		if err != nil {
			require.True(t, echostream.IsPermanent(err), "only a name that is too long")
			return
		}
		valid(t, e, message)
		var m struct {
			Name     string
			Content  *string
			Metadata struct{ NameBytes []byte }
		}
		require.NoError(t, json.Unmarshal([]byte(message.Body), &m))
		if m.Metadata.NameBytes != nil {
			m.Name = string(m.Metadata.NameBytes)
		}
		require.Equal(t, name, m.Name)
		if m.Content != nil {
			back, err := base64.StdEncoding.DecodeString(*m.Content)
			require.NoError(t, err)
			require.True(t, bytes.Equal(content, back))
		}
	})
}
