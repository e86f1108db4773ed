package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

var fileMessages = Config{Message: MessageConfig{Content: "auto", ContentField: "content", URLField: "contentUrl"}}

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

// A file whose record was lost is sent with what is known of it; one whose record is not ours never can be, and blocks nothing.
func TestRecordsThatAreNotOurs(t *testing.T) {
	e := entryOf("a.bin", []byte("x"))
	e.Accepted = time.Date(2026, 11, 8, 12, 0, 0, 0, time.UTC)
	e.Meta = nil
	m, err := compose(t.Context(), new(node.Node), fileMessages, e, opener([]byte("x")))
	require.NoError(t, err)
	assert.Contains(t, m.Body, `"metadata":{"user":"","receivedDateTime":"2026-11-08T12:00:00.000Z","sha256":`)

	for _, meta := range []string{`7`, `{"user":`} {
		e.Meta = json.RawMessage(meta)
		_, err = compose(t.Context(), new(node.Node), fileMessages, e, opener([]byte("x")))
		require.ErrorContains(t, err, "cannot be read")
		assert.True(t, echostream.IsPermanent(err))
		_, err = attributes(t.Context(), new(node.Node), fileMessages, e, opener([]byte("x")))
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
	e := entryOf("x/a.csv", content)
	m, err := compose(t.Context(), new(node.Node), fileMessages, e, opener(content))
	require.NoError(t, err)
	assert.Equal(t, want, m.Attributes)
	anew, err := attributes(t.Context(), new(node.Node), fileMessages, e, opener(content))
	require.NoError(t, err)
	assert.Equal(t, want, anew)
}

// TestGoldenMessage holds a whole message of this node against what its receivers know.
func TestGoldenMessage(t *testing.T) {
	content := []byte("a;b\r\n1;2\r\n")
	m, err := compose(t.Context(), new(node.Node), fileMessages, entryOf("orders/2026/4711.csv", content), opener(content))
	require.NoError(t, err)
	want, err := os.ReadFile(filepath.Join("..", "..", "echostream", "echofile", "testdata", "inline.json"))
	require.NoError(t, err)
	assert.Equal(t, strings.TrimSpace(string(want)), m.Body)
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
