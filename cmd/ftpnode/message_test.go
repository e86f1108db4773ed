package main

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
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
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
		Meta:    json.RawMessage(`{"user":"scanner","remoteAddress":"192.0.2.7","received":"2026-11-07T15:05:10.5Z"}`),
	}
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

func composerOf(content string) composer {
	return composer{
		config: MessageConfig{Content: content, ContentField: "content", URLField: "contentUrl"},
		now:    func() time.Time { return time.Date(2026, 11, 7, 16, 0, 0, 0, time.UTC) },
		upload: upload,
	}
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
			p, err := composerOf(c.mode).compose(t.Context(), entryOf(c.name, c.content), opener(c.content))
			require.NoError(t, err)
			require.NoError(t, p.Validate(), "SQS takes it")
			file := filepath.Join("testdata", c.golden)
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(p.Body+"\n"), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			assert.Equal(t, strings.TrimSpace(string(want)), p.Body)
			assert.Equal(t, "0123456789abcdef0123456789abcdef", p.TrackingID)

			var read struct {
				Name     string
				Metadata struct{ NameBytes []byte }
			}
			require.NoError(t, json.Unmarshal([]byte(p.Body), &read))
			if read.Metadata.NameBytes != nil {
				assert.Equal(t, c.name, string(read.Metadata.NameBytes), "nothing of the name is lost")
			} else {
				assert.Equal(t, c.name, read.Name)
			}
		})
	}
}

// A file goes inline exactly if the whole message fits.
func TestAutoFillsMessages(t *testing.T) {
	fits := func(size int) bool {
		content := make([]byte, size)
		p, err := composerOf("auto").compose(t.Context(), entryOf("a.bin", content), opener(content))
		require.NoError(t, err)
		require.LessOrEqual(t, p.Size(), echostream.MaxMessageSize)
		require.NoError(t, p.Validate())
		return !p.bulk
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
	p, err := composerOf("auto").compose(t.Context(), entryOf("a.bin", content), opener(content))
	require.NoError(t, err)
	assert.Greater(t, p.Size(), echostream.MaxMessageSize-4, "the largest file that fits fills the message but for base64's padding")
}

func TestInlineTooLargeIsPermanent(t *testing.T) {
	for _, size := range []int{196_609, 196_400, 1_000_000} {
		content := make([]byte, size)
		_, err := composerOf("inline").compose(t.Context(), entryOf("a.bin", content), opener(content))
		require.Error(t, err)
		assert.True(t, echostream.IsPermanent(err))
		assert.ErrorContains(t, err, "message.content = inline")
	}
}

func TestComposeErrorsAreTransient(t *testing.T) {
	broken := func() (disk.File, error) { return nil, errors.New("input/output error") }
	for _, mode := range []string{"auto", "bulk"} {
		_, err := composerOf(mode).compose(t.Context(), entryOf("a.bin", []byte("x")), broken)
		require.Error(t, err)
		assert.False(t, echostream.IsPermanent(err))
	}
	shorter := entryOf("a.bin", []byte("four"))
	_, err := composerOf("auto").compose(t.Context(), shorter, opener([]byte("two")[:2]))
	require.Error(t, err, "fewer bytes than the entry has")
}

// A file whose record was lost is sent with what is known of it; one whose record is not ours never can be, and blocks nothing.
func TestRecordsThatAreNotOurs(t *testing.T) {
	e := entryOf("a.bin", []byte("x"))
	e.Accepted = time.Date(2026, 11, 8, 12, 0, 0, 0, time.UTC)
	e.Meta = nil
	p, err := composerOf("auto").compose(t.Context(), e, opener([]byte("x")))
	require.NoError(t, err)
	assert.Equal(t, metadata{ReceivedDateTime: "2026-11-08T12:00:00.000Z", SHA256: hexSum([]byte("x"))}, p.facts.metadata)

	for _, meta := range []string{`7`, `{"user":`} {
		e.Meta = json.RawMessage(meta)
		_, err = composerOf("auto").compose(t.Context(), e, opener([]byte("x")))
		require.ErrorContains(t, err, "cannot be read")
		assert.True(t, echostream.IsPermanent(err))
	}
}

func TestConfiguredFields(t *testing.T) {
	c := composerOf("auto")
	c.config.ContentField, c.config.URLField = "data", "dataUrl"
	for mode, key := range map[string]string{"auto": "data", "bulk": "dataUrl"} {
		c.config.Content = mode
		p, err := c.compose(t.Context(), entryOf("a.txt", []byte("hi")), opener([]byte("hi")))
		require.NoError(t, err)
		var m map[string]any
		require.NoError(t, json.Unmarshal([]byte(p.Body), &m))
		assert.Contains(t, m, key)
		assert.Len(t, m, 6)
	}
}

// An audit record is the same whether the payload is there or the file must be read again.
func TestAttributes(t *testing.T) {
	content := []byte("a;b\r\n")
	e := entryOf("x/a.csv", content)
	want := map[string]any{
		"content_length": int64(5), "content_type": "text/csv", "modification_datetime": "2026-11-07T15:05:09.123Z", "name": "x/a.csv",
		"user": "scanner", "remote_address": "192.0.2.7", "received_datetime": "2026-11-07T15:05:10.500Z",
		"sha256": hexSum(content),
	}
	for _, mode := range []string{"auto", "bulk"} {
		p, err := composerOf(mode).compose(t.Context(), e, opener(content))
		require.NoError(t, err)
		assert.Equal(t, want, p.facts.attributes())
	}
	again, err := factsOf(t.Context(), e, opener(content))
	require.NoError(t, err)
	assert.Equal(t, want, again.attributes())

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = factsOf(ended, e, opener(content))
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
		e.Meta, _ = json.Marshal(received{User: user})
		p, err := composerOf("auto").compose(t.Context(), e, opener(content))
		if err != nil {
			require.True(t, echostream.IsPermanent(err), "only a name that is too long")
			return
		}
		require.NoError(t, p.Validate())
		var m struct {
			Name     string
			Content  *string
			Metadata struct{ NameBytes []byte }
		}
		require.NoError(t, json.Unmarshal([]byte(p.Body), &m))
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
