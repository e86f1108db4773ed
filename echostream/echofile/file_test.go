package echofile_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/echotest"
)

const secret = "X-Amz-Signature=s3cr3t"

func message(t *testing.T, keys map[string]any) echostream.ReceivedMessage {
	t.Helper()
	body, err := json.Marshal(keys)
	require.NoError(t, err)
	return echostream.ReceivedMessage{Message: echostream.Message{TrackingID: "t1", Body: string(body)}, Sent: time.Now()}
}

// about is a message of data whose content is at url, or inside it.
func about(data []byte, url string) map[string]any {
	sum := sha256.Sum256(data)
	m := map[string]any{
		"name": "a.bin", "contentLength": len(data), "contentType": "application/octet-stream",
		"modificationDateTime": "2026-11-07T16:05:09.123Z", "metadata": map[string]any{"sha256": hex.EncodeToString(sum[:])},
	}
	if url == "" {
		m["content"] = base64.StdEncoding.EncodeToString(data)
	} else {
		m["contentUrl"] = url
	}
	return m
}

func read(t *testing.T, r *echofile.Reader, keys map[string]any) ([]byte, error) {
	t.Helper()
	f, err := r.File(message(t, keys))
	require.NoError(t, err)
	return readFile(t, f)
}

func readFile(t *testing.T, f *echofile.File) ([]byte, error) {
	t.Helper()
	content, err := f.Open(t.Context())
	if err != nil {
		return nil, err
	}
	defer func() { assert.NoError(t, content.Close()) }()
	return io.ReadAll(content)
}

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func encode(t *testing.T, encoding string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	case "flate":
		w, _ = flate.NewWriter(&b, flate.BestSpeed)
	default:
		return data
	}
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// serve answers with stored under encoding; its URL is a secret.
func serve(t *testing.T, encoding string, stored []byte) string {
	t.Helper()
	return handle(t, func(w http.ResponseWriter, r *http.Request) {
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(stored)))
		_, _ = w.Write(stored)
	})
}

func handle(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL + "/key?" + secret
}

func TestFile(t *testing.T) {
	r := &echofile.Reader{}
	keys := about([]byte("hello"), "")
	keys["metadata"].(map[string]any)["nameBytes"] = base64.StdEncoding.EncodeToString([]byte("a\xff"))
	f, err := r.File(message(t, keys))
	require.NoError(t, err)
	assert.Equal(t, "a.bin", f.Name)
	assert.Equal(t, []byte("a\xff"), f.NameBytes)
	assert.Equal(t, int64(5), f.Length)
	assert.Equal(t, "application/octet-stream", f.ContentType)
	assert.Equal(t, time.Date(2026, 11, 7, 16, 5, 9, 123_000_000, time.UTC), f.Modified)
	assert.Len(t, f.SHA256, 64)
	assert.Contains(t, string(f.Metadata), "nameBytes")
	assert.False(t, f.Bulk)

	// What is not there, or of another kind, is left out: it is a file all the same.
	for _, keys := range []map[string]any{
		{"content": ""},
		{"content": "", "name": 7, "contentLength": "five", "modificationDateTime": "yesterday", "metadata": 1},
		{"content": "", "contentLength": -1, "metadata": map[string]any{"sha256": 7, "nameBytes": "%"}},
	} {
		f, err := r.File(message(t, keys))
		require.NoError(t, err)
		assert.Equal(t, int64(-1), f.Length)
		assert.Empty(t, f.Name+f.SHA256+f.ContentType)
		assert.True(t, f.Modified.IsZero())
		data, err := readFile(t, f)
		require.NoError(t, err)
		assert.Empty(t, data)
	}
	for body, want := range map[string]string{
		`no JSON`:                            "not a JSON object",
		`[]`:                                 "not a JSON object",
		`null`:                               "not a JSON object",
		`{}`:                                 `0 of the keys ["content" "contentUrl"]`,
		`{"content":null}`:                   "0 of the keys",
		`{"content":"","contentUrl":"http"}`: "2 of the keys",
		`{"content":7}`:                      `"content" is no string`,
		`{"contentUrl":"https://?` + secret + `"}`:   "not one",
		`{"contentUrl":"http://%zz?` + secret + `"}`: "not one",
	} {
		_, err := r.File(echostream.ReceivedMessage{Message: echostream.Message{TrackingID: "t1", Body: body}})
		require.ErrorContains(t, err, want, body)
		assert.True(t, echostream.IsPermanent(err), body)
		assert.NotContains(t, err.Error(), "s3cr3t")
	}
}

func TestContent(t *testing.T) {
	text := bytes.Repeat([]byte("a;b\r\n"), 100_000)
	zipped := encode(t, "gzip", text)
	for name, test := range map[string]struct {
		data             []byte
		encoding, header string
	}{
		"gzip":               {text, "gzip", "gzip"},
		"deflate":            {text, "zlib", "deflate"},
		"deflate, bare":      {text, "flate", "deflate"},
		"none":               {text, "", ""},
		"identity":           {text, "", "identity"},
		"random":             {random(3 << 20), "gzip", "GZIP"},
		"empty":              {nil, "gzip", "gzip"},
		"empty, not encoded": {nil, "", ""},
		"a gzip file":        {zipped, "gzip", "gzip"},
		"a gzip file as is":  {zipped, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, test.header, encode(t, test.encoding, test.data))
			data, err := read(t, &echofile.Reader{}, about(test.data, url))
			require.NoError(t, err)
			assert.True(t, bytes.Equal(test.data, data), "exactly one encoding is undone")
			keys := about(test.data, url)
			keys["content"] = keys["contentUrl"] // a sender may have one key for both
			delete(keys, "contentUrl")
			data, err = read(t, &echofile.Reader{}, keys)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(test.data, data))
		})
	}
	for _, data := range [][]byte{nil, {0}, []byte("hello"), random(100_000)} {
		got, err := read(t, &echofile.Reader{}, about(data, ""))
		require.NoError(t, err)
		assert.True(t, bytes.Equal(data, got))
	}
	keys := map[string]any{"data": "aGVsbG8="}
	got, err := read(t, &echofile.Reader{ContentField: "data", URLField: "data"}, keys)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(got))
}

func TestContentThatIsNotWhatTheMessageSays(t *testing.T) {
	data := []byte("hello, world")
	zipped := encode(t, "gzip", data)
	with := func(key string, value any) func(map[string]any) {
		return func(m map[string]any) { m[key] = value }
	}
	for name, test := range map[string]struct {
		header string
		stored []byte
		change func(map[string]any)
		want   string
	}{
		"shorter":         {"gzip", zipped, with("contentLength", 13), "it has 12 bytes, the message says 13"},
		"longer":          {"gzip", zipped, with("contentLength", 11), "longer than the 11 bytes"},
		"other":           {"gzip", encode(t, "gzip", []byte("hello, World")), nil, "its SHA-256 is"},
		"not gzip":        {"gzip", data, nil, "its encoding is broken"},
		"half a gzip":     {"gzip", zipped[:len(zipped)-5], nil, "its encoding is broken"},
		"gzip and more":   {"gzip", append(bytes.Clone(zipped), "more"...), nil, "its encoding is broken"},
		"deflate, broken": {"deflate", encode(t, "zlib", data)[:10], nil, "its encoding is broken"},
		"deflate, more":   {"deflate", append(encode(t, "zlib", data), 'x'), nil, "there is more after its end"},
		"other encoding":  {"br", data, nil, `its content encoding is "br"`},
		"two encodings":   {"gzip, gzip", zipped, nil, `its content encoding is "gzip, gzip"`},
		"no base64":       {"", nil, with("content", "a*b="), "it is not base64"},
		"half base64":     {"", nil, with("content", "aGVsbG8"), "it is not base64"},
		"inline, shorter": {"", nil, with("content", "aGVsbG8="), "it has 5 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			keys := about(data, serve(t, test.header, test.stored))
			if test.stored == nil {
				delete(keys, "contentUrl")
			}
			if test.change != nil {
				test.change(keys)
			}
			got, err := read(t, &echofile.Reader{}, keys)
			require.ErrorContains(t, err, test.want)
			assert.True(t, echostream.IsPermanent(err))
			assert.LessOrEqual(t, len(got), len(data))
			assert.NotContains(t, err.Error(), "s3cr3t")
		})
	}
}

// world is a cloud and a file in its bulk data storage.
type world struct {
	*echotest.Cloud
	data []byte
	url  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cloud := echotest.NewCloud(echotest.Options{TempDir: t.TempDir()})
	t.Cleanup(cloud.Close)
	variables := cloud.Environment()
	env, err := echostream.EnvironmentFrom(func(name string) string { return variables[name] })
	require.NoError(t, err)
	client, err := echostream.New(env, echostream.Options{
		Now: cloud.Clock().Now, AWS: []func(*config.LoadOptions) error{config.WithBaseEndpoint(cloud.URL())},
	})
	require.NoError(t, err)
	w := &world{Cloud: cloud, data: random(2 << 20)}
	object, err := client.NewBulk(echostream.BulkOptions{}).Upload(t.Context(), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(w.data)), nil
	})
	require.NoError(t, err)
	w.url = object.URL
	return w
}

func TestDownloadIsResumed(t *testing.T) {
	w := newWorld(t)
	cut := w.Fault(echotest.Fault{Service: echotest.S3, Operation: "GetObject", Kind: echotest.ReplyCut, Count: 8})
	w.Fault(echotest.Fault{Service: echotest.S3, Operation: "GetObject", Kind: echotest.ServerError, After: 2, Count: 2})
	data, err := read(t, &echofile.Reader{}, about(w.data, w.url))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(w.data, data))
	assert.Equal(t, 8, cut.Hits())
}

func TestDownloadFromStorageThatIgnoresRanges(t *testing.T) {
	data := random(1 << 20)
	var asked atomic.Int64
	url := handle(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		if asked.Add(1) < 4 {
			_, _ = w.Write(data[:int(asked.Load())*200_000])
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(data)
	})
	got, err := read(t, &echofile.Reader{}, about(data, url))
	require.NoError(t, err)
	assert.True(t, bytes.Equal(data, got))
}

func TestDownloadThatCannotGoOn(t *testing.T) {
	data := random(1 << 20)
	for name, test := range map[string]struct {
		then http.HandlerFunc // after half of it
		want string
	}{
		"nothing more": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"another object": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"other"`)
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		}, "another one than before"},
		"another object, said": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPreconditionFailed) }, "HTTP status 412"},
		"another range": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 7-8/9")
			w.WriteHeader(http.StatusPartialContent)
		}, `storage gave the range "bytes 7-8/9"`},
		"too busy": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }, "HTTP status 503"},
		"a stall":  {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no progress"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			url := handle(t, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > 1 {
					test.then(w, r)
					return
				}
				w.Header().Set("Etag", `"1"`)
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				_, _ = w.Write(data[:len(data)/2])
				panic(http.ErrAbortHandler)
			})
			got, err := read(t, &echofile.Reader{Tries: 2, StallTimeout: 200 * time.Millisecond}, about(data, url))
			require.ErrorContains(t, err, test.want)
			assert.False(t, echostream.IsPermanent(err), "%v", err)
			assert.NotContains(t, err.Error(), "s3cr3t")
			assert.LessOrEqual(t, len(got), len(data)/2)
		})
	}
}

func TestDownloadEndsWithItsContext(t *testing.T) {
	url := handle(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	f, err := (&echofile.Reader{}).File(message(t, about([]byte("x"), url)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	content, err := f.Open(ctx)
	require.NoError(t, err)
	defer content.Close()
	why := errors.New("the node stops")
	cancel(why)
	_, err = io.ReadAll(content)
	assert.ErrorIs(t, err, why)
	assert.False(t, echostream.IsPermanent(err))
	_, err = f.Open(ctx)
	assert.ErrorIs(t, err, why)
}

func TestTicketsThatHaveEnded(t *testing.T) {
	w := newWorld(t)
	sent := w.Clock().Now()
	open := func(age time.Duration) error {
		t.Helper()
		m := message(t, about(w.data, w.url))
		m.Sent = sent.Add(-age)
		f, err := (&echofile.Reader{Tries: 1}).File(m)
		require.NoError(t, err)
		_, err = readFile(t, f)
		return err
	}
	require.NoError(t, open(0))
	denied := w.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.Denied})
	err := open(0)
	require.ErrorContains(t, err, "HTTP status 403: AccessDenied")
	assert.False(t, echostream.IsPermanent(err), "within its seven days it may be let in again")
	err = open(8 * 24 * time.Hour)
	assert.True(t, echostream.IsPermanent(err), "%v", err)
	denied.Clear()

	w.Clock().Advance(8 * 24 * time.Hour)
	err = open(0)
	require.ErrorContains(t, err, "no longer in storage")
	assert.True(t, echostream.IsPermanent(err))
	for _, part := range strings.FieldsFunc(w.url, func(r rune) bool { return r == '?' || r == '&' })[1:] {
		assert.NotContains(t, err.Error(), part)
	}
	assert.Equal(t, 1+1+1+1, w.Requests(echotest.S3, "GetObject"), "no further try")

	notFound := func(id, date string) string {
		return handle(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amz-Request-Id", id)
			w.Header().Set("Date", date)
			w.WriteHeader(http.StatusNotFound)
		})
	}
	const times = "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60"
	for name, c := range map[string]struct {
		url       string
		permanent bool
	}{
		"the URL does not tell when it ends":  {notFound("S3", "Thu, 01 Jan 2026 00:02:00 GMT"), false},
		"it has ended":                        {notFound("S3", "Thu, 01 Jan 2026 00:02:00 GMT") + times, true},
		"it has not ended":                    {notFound("S3", "Thu, 01 Jan 2026 00:00:30 GMT") + times, false},
		"storage does not tell the time":      {notFound("S3", "") + times, false},
		"it is a captive portal who tells it": {notFound("", "Thu, 01 Jan 2026 00:02:00 GMT") + times, false},
	} {
		_, err = read(t, &echofile.Reader{}, about(nil, c.url))
		require.ErrorContains(t, err, "HTTP status 404")
		assert.Equal(t, c.permanent, echostream.IsPermanent(err), name)
	}
	ended := handle(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "<Error><Code>ExpiredToken</Code></Error>")
	})
	_, err = read(t, &echofile.Reader{}, about(nil, ended))
	require.ErrorContains(t, err, "HTTP status 400: ExpiredToken")
	assert.True(t, echostream.IsPermanent(err))
}

func TestTicketsAreNotTold(t *testing.T) {
	var referer []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		referer = append(referer, r.Header.Get("Referer"))
		_, _ = io.WriteString(w, "x")
	}))
	defer elsewhere.Close()
	redirect := handle(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	_, err := read(t, &echofile.Reader{}, about([]byte("x"), redirect))
	require.NoError(t, err)
	assert.Equal(t, []string{""}, referer)

	down := httptest.NewServer(nil)
	down.Close()
	loop := ""
	loop = handle(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, loop, http.StatusTemporaryRedirect) })
	for _, url := range []string{down.URL + "/key?" + secret, loop, "https://" + strings.TrimPrefix(loop, "http://")} {
		f, err := (&echofile.Reader{Tries: 1}).File(message(t, about(nil, url)))
		require.NoError(t, err)
		_, err = f.Open(t.Context())
		require.Error(t, err)
		assert.False(t, echostream.IsPermanent(err))
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("test", "file", f, "error", err)
		for _, text := range []string{err.Error(), log.String(), fmt.Sprintf("%v %+v %#v %s %d", f, f, f, f, f), fmt.Sprintf("%+v %#v", err, err.Error())} {
			assert.NotContains(t, text, "s3cr3t")
			assert.NotContains(t, text, "Signature")
		}
	}
}
