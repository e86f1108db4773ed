package echotest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// place is an answer of GetBulkDataStorage.
type place struct {
	Expiration    int64
	PresignedGet  string
	PresignedPost struct{ Fields, URL string }
	PresignedPut  struct{ Headers, URL string }
}

func (p place) fields(t *testing.T) map[string]string {
	var m map[string]string
	require.NoError(t, json.Unmarshal([]byte(p.PresignedPost.Fields), &m))
	return m
}

func (n *node) places(args string) []place {
	data := n.query(*n.tokens().AccessToken, `{ GetBulkDataStorage(tenant: "acme"`+args+`) { expiration presignedGet
		presignedPost { fields url } presignedPut { headers url } } }`, nil)
	text, err := json.Marshal(data["GetBulkDataStorage"])
	require.NoError(n.t, err)
	var out []place
	require.NoError(n.t, json.Unmarshal(text, &out))
	return out
}

func zipped(t *testing.T, content []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(content)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}

func (n *node) put(p place, body io.Reader, change func(*http.Request)) (int, string) {
	r, err := http.NewRequestWithContext(n.ctx, http.MethodPut, p.PresignedPut.URL, body)
	require.NoError(n.t, err)
	var headers map[string]string
	require.NoError(n.t, json.Unmarshal([]byte(p.PresignedPut.Headers), &headers))
	for k, v := range headers {
		r.Header.Set(k, v)
	}
	if change != nil {
		change(r)
	}
	status, text, _ := n.do(r)
	return status, text
}

func (n *node) get(address string) (int, string, http.Header) {
	r, err := http.NewRequestWithContext(n.ctx, http.MethodGet, address, nil)
	require.NoError(n.t, err)
	return n.do(r)
}

func form(t *testing.T, fields map[string]string, file []byte) (*bytes.Buffer, string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for k, v := range fields {
		require.NoError(t, w.WriteField(k, v))
	}
	if file != nil {
		part, err := w.CreateFormFile("file", "bulk_data")
		require.NoError(t, err)
		_, err = part.Write(file)
		require.NoError(t, err)
	}
	require.NoError(t, w.WriteField("after", "is ignored"))
	require.NoError(t, w.Close())
	return &b, w.FormDataContentType()
}

func (n *node) post(address string, body io.Reader, contentType string) (int, string) {
	r, err := http.NewRequestWithContext(n.ctx, http.MethodPost, address, body)
	require.NoError(n.t, err)
	r.Header.Set("Content-Type", contentType)
	status, text, _ := n.do(r)
	return status, text
}

func TestPut(t *testing.T) {
	c, n := start(t, echotest.Options{})
	p := n.places("")[0]
	assert.WithinDuration(t, time.Now().Add(30*time.Minute), time.Unix(p.Expiration, 0), time.Minute)
	assert.JSONEq(t, `{"Content-Encoding":"gzip"}`, p.PresignedPut.Headers)
	status, text, _ := n.get(p.PresignedGet)
	assert.Equal(t, http.StatusNotFound, status, text)

	content := zipped(t, []byte("content"))
	status, text = n.put(p, bytes.NewReader(content), nil)
	require.Equal(t, http.StatusOK, status, text)
	status, text, header := n.get(p.PresignedGet)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, string(content), text)
	assert.Equal(t, "gzip", header.Get("Content-Encoding"))
	count, size := c.Objects()
	assert.Equal(t, 1, count)
	assert.Equal(t, int64(len(content)), size)

	// net/http decodes it by itself.
	resp, err := http.Get(p.PresignedGet)
	require.NoError(t, err)
	defer resp.Body.Close()
	plain, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Equal(t, "content", string(plain))

	c.Clock().Advance(7 * 24 * time.Hour)
	status, _, _ = n.get(p.PresignedGet)
	assert.Equal(t, http.StatusForbidden, status, "the URL ends with the object")
	count, _ = c.Objects()
	assert.Zero(t, count)
}

func TestObjectsEnd(t *testing.T) {
	c, n := start(t, echotest.Options{ObjectLifetime: time.Hour})
	p := n.places("")[0]
	status, _ := n.put(p, strings.NewReader("x"), nil)
	require.Equal(t, http.StatusOK, status)
	c.Clock().Advance(time.Hour)
	status, text, _ := n.get(p.PresignedGet)
	assert.Equal(t, http.StatusNotFound, status)
	assert.Contains(t, text, "NoSuchKey")
}

func TestRefusedPuts(t *testing.T) {
	c, n := start(t, echotest.Options{})
	p := n.places(", expiresIn: 60")[0]
	tests := []struct {
		name   string
		body   io.Reader
		change func(*http.Request)
		status int
		code   string
	}{
		{"no length", io.MultiReader(strings.NewReader("x")), nil, 501, "NotImplemented"},
		{"encoding left out", strings.NewReader("x"), func(r *http.Request) { r.Header.Del("Content-Encoding") }, 403, "SignatureDoesNotMatch"},
		{"other encoding", strings.NewReader("x"), func(r *http.Request) { r.Header.Set("Content-Encoding", "deflate") }, 403, "SignatureDoesNotMatch"},
		{"header that was not signed", strings.NewReader("x"), func(r *http.Request) { r.Header.Set("X-Amz-Acl", "public-read") }, 403, "AccessDenied"},
		{"other key", strings.NewReader("x"), func(r *http.Request) { r.URL.Path += "0" }, 403, "SignatureDoesNotMatch"},
		{"longer life", strings.NewReader("x"), func(r *http.Request) {
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "X-Amz-Expires=60", "X-Amz-Expires=600", 1)
		}, 403, "SignatureDoesNotMatch"},
		{"no query", strings.NewReader("x"), func(r *http.Request) { r.URL.RawQuery = "" }, 403, "AccessDenied"},
		{"other key id", strings.NewReader("x"), func(r *http.Request) {
			r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "X-Amz-Credential=AKIA", "X-Amz-Credential=AKIB", 1)
		}, 403, "InvalidAccessKeyId"},
		{"other method", nil, func(r *http.Request) { r.Method = http.MethodDelete }, 405, "MethodNotAllowed"},
		{"right", strings.NewReader("x"), func(r *http.Request) { r.Header.Set("Content-Type", "any") }, 200, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, text := n.put(p, tt.body, tt.change)
			assert.Equal(t, tt.status, status, text)
			assert.Contains(t, text, tt.code)
		})
	}
	c.Clock().Advance(61 * time.Second)
	status, text := n.put(p, strings.NewReader("x"), nil)
	assert.Equal(t, 403, status)
	assert.Contains(t, text, "Request has expired")
}

func TestTooLargePut(t *testing.T) {
	_, n := start(t, echotest.Options{})
	ctx, cancel := context.WithCancel(n.ctx)
	p := n.places("")[0]
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, p.PresignedPut.URL, endless{})
	require.NoError(t, err)
	r.ContentLength = 5<<30 + 1
	r.Header.Set("Content-Encoding", "gzip")
	r.Header.Set("Expect", "100-continue") // the answer comes before the body
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
	resp, err := client.Do(r)
	require.NoError(t, err)
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
	resp.Body.Close()
	cancel()
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestPost(t *testing.T) {
	c, n := start(t, echotest.Options{})
	places := n.places(", count: 3, contentEncoding: deflate, useAccelerationEndpoint: true")
	require.Len(t, places, 3)
	assert.Equal(t, 1, c.Requests(echotest.AppSync, "AccelerateBulkDataStorage"))
	p := places[0]
	fields := p.fields(t)
	body, contentType := form(t, fields, []byte("content"))
	status, text := n.post(p.PresignedPost.URL, body, contentType)
	require.Equal(t, http.StatusNoContent, status, text)
	status, text, header := n.get(p.PresignedGet)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "content", text)
	assert.Equal(t, "deflate", header.Get("Content-Encoding"))
	status, _, _ = n.get(places[1].PresignedGet)
	assert.Equal(t, http.StatusNotFound, status)
}

func TestRefusedPosts(t *testing.T) {
	c, n := start(t, echotest.Options{})
	p := n.places(", expiresIn: 60")[0]
	tests := map[string]struct {
		change func(map[string]string)
		status int
		code   string
	}{
		"right":          {func(map[string]string) {}, 204, ""},
		"other key":      {func(f map[string]string) { f["key"] += "x" }, 403, "AccessDenied"},
		"other encoding": {func(f map[string]string) { f["Content-Encoding"] = "br" }, 403, "AccessDenied"},
		"no encoding":    {func(f map[string]string) { delete(f, "Content-Encoding") }, 403, "AccessDenied"},
		"extra field":    {func(f map[string]string) { f["acl"] = "public-read" }, 403, "Extra input fields"},
		"ignored field":  {func(f map[string]string) { f["x-ignore-me"] = "1" }, 204, ""},
		"signature":      {func(f map[string]string) { f["X-Amz-Signature"] = strings.Repeat("0", 64) }, 403, "SignatureDoesNotMatch"},
		"policy":         {func(f map[string]string) { f["policy"] = "e30=" }, 403, "SignatureDoesNotMatch"},
		"no policy":      {func(f map[string]string) { delete(f, "policy") }, 403, "AccessDenied"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			fields := p.fields(t)
			tt.change(fields)
			body, contentType := form(t, fields, []byte("x"))
			status, text := n.post(p.PresignedPost.URL, body, contentType)
			assert.Equal(t, tt.status, status, text)
			assert.Contains(t, text, tt.code)
		})
	}
	body, contentType := form(t, p.fields(t), nil)
	status, _ := n.post(p.PresignedPost.URL, body, contentType)
	assert.Equal(t, http.StatusBadRequest, status, "no file")
	body, contentType = form(t, p.fields(t), []byte("x"))
	status, _ = n.post(p.PresignedPost.URL, io.MultiReader(body), contentType)
	assert.Equal(t, http.StatusNotImplemented, status, "no length")
	body, _ = form(t, p.fields(t), []byte("x"))
	status, _ = n.post(p.PresignedPost.URL, body, "text/plain")
	assert.Equal(t, http.StatusPreconditionFailed, status, "no form")

	c.Clock().Advance(61 * time.Second)
	body, contentType = form(t, p.fields(t), []byte("x"))
	status, text := n.post(p.PresignedPost.URL, body, contentType)
	assert.Equal(t, 403, status)
	assert.Contains(t, text, "Policy expired")
}

func TestBulkDataStorageArguments(t *testing.T) {
	_, n := start(t, echotest.Options{})
	token := *n.tokens().AccessToken
	for _, args := range []string{"count: 0", "count: 101", "expiresIn: 0", "expiresIn: 604801"} {
		a := n.graphql(token, `{ GetBulkDataStorage(tenant: "acme", `+args+`) { presignedGet } }`, nil)
		require.Len(t, a.Errors, 1, args)
		assert.Equal(t, "BadRequest", a.Errors[0].ErrorType)
	}
	assert.Len(t, n.places(", count: 100"), 100)
}

func TestS3Faults(t *testing.T) {
	c, n := start(t, echotest.Options{})
	p := n.places("")[0]
	for kind, want := range map[echotest.FaultKind]string{
		echotest.ServerError: "ServiceUnavailable", echotest.Throttled: "SlowDown",
		echotest.ExpiredURL: "Request has expired", echotest.Denied: "AccessDenied",
	} {
		c.Fault(echotest.Fault{Service: echotest.S3, Operation: "PutObject", Kind: kind, Count: 1})
		status, text := n.put(p, bytes.NewReader(make([]byte, 4<<20)), nil)
		assert.GreaterOrEqual(t, status, 400)
		assert.Contains(t, text, want)
	}
	count, _ := c.Objects()
	require.Zero(t, count)
	c.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.ReplyLost, Count: 1})
	r, err := http.NewRequestWithContext(n.ctx, http.MethodPut, p.PresignedPut.URL, strings.NewReader("x"))
	require.NoError(t, err)
	r.Header.Set("Content-Encoding", "gzip")
	_, err = (&http.Client{Transport: &http.Transport{}}).Do(r)
	require.Error(t, err)
	count, _ = c.Objects()
	require.Equal(t, 1, count)
}

func message(t *testing.T, keys map[string]any) echotest.Received {
	all := map[string]any{"name": "a/b.bin", "contentLength": 3, "contentType": "x/y", "modificationDateTime": "2026-11-07T16:05:09.000Z", "metadata": map[string]any{"user": "u"}}
	for k, v := range keys {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	body, err := json.Marshal(all)
	require.NoError(t, err)
	return echotest.Received{TrackingID: "t", Body: string(body)}
}

func TestDecode(t *testing.T) {
	c, n := start(t, echotest.Options{})
	var b bytes.Buffer
	f, err := c.Decode(n.ctx, message(t, map[string]any{"content": "AAEC"}), &b)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte{0, 1, 2})
	assert.Equal(t, echotest.File{
		Name: "a/b.bin", ContentLength: 3, ContentType: "x/y", ModificationDateTime: "2026-11-07T16:05:09.000Z",
		Metadata: json.RawMessage(`{"user":"u"}`), Size: 3, SHA256: hex.EncodeToString(sum[:]),
	}, f)
	assert.Equal(t, []byte{0, 1, 2}, b.Bytes())

	p := n.places("")[0]
	status, _ := n.put(p, bytes.NewReader(zipped(t, []byte{0, 1, 2})), nil)
	require.Equal(t, http.StatusOK, status)
	c.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.Down}) // is not in the way
	b.Reset()
	f, err = c.Decode(n.ctx, message(t, map[string]any{"contentUrl": p.PresignedGet}), &b)
	require.NoError(t, err)
	assert.True(t, f.Bulk)
	assert.Equal(t, hex.EncodeToString(sum[:]), f.SHA256)
	assert.Equal(t, []byte{0, 1, 2}, b.Bytes())

	for name, keys := range map[string]map[string]any{
		"neither":      {},
		"both":         {"content": "", "contentUrl": p.PresignedGet},
		"no base64":    {"content": "%"},
		"no name":      {"content": "", "name": nil},
		"length":       {"content": "", "contentLength": "3"},
		"not signed":   {"contentUrl": strings.Split(p.PresignedGet, "?")[0]},
		"other object": {"contentUrl": strings.Replace(p.PresignedGet, "/acme/", "/acme/0", 1)},
	} {
		_, err := c.Decode(n.ctx, message(t, keys), io.Discard)
		require.Error(t, err, name)
		assert.NotContains(t, err.Error(), "X-Amz-Signature", name)
	}
	_, err = c.Decode(n.ctx, echotest.Received{Body: "[]"}, io.Discard)
	require.Error(t, err)

	other, m := start(t, echotest.Options{})
	q := m.places("")[0]
	status, _ = m.put(q, bytes.NewReader(zipped(t, []byte{0, 1, 2})), nil)
	require.Equal(t, http.StatusOK, status)
	f, err = c.Decode(n.ctx, message(t, map[string]any{"contentUrl": q.PresignedGet}), io.Discard)
	require.NoError(t, err, "one of another place is fetched")
	assert.Equal(t, int64(3), f.Size)
	other.Close()
	_, err = c.Decode(n.ctx, message(t, map[string]any{"contentUrl": q.PresignedGet}), io.Discard)
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "X-Amz-Signature")
}

func TestOtherKeys(t *testing.T) {
	c, n := start(t, echotest.Options{ContentKey: "data"})
	f, err := c.Decode(n.ctx, message(t, map[string]any{"data": "AAEC", "content": 5}), io.Discard)
	require.NoError(t, err)
	assert.Equal(t, int64(3), f.Size)
}

// TestStorage keeps an upload on disk, or only its hash.
func TestStorage(t *testing.T) {
	for _, discard := range []bool{false, true} {
		t.Run(fmt.Sprintf("discard %v", discard), func(t *testing.T) {
			dir := t.TempDir()
			c := echotest.NewCloud(echotest.Options{DiscardObjects: discard, TempDir: dir})
			t.Cleanup(c.Close)
			n := newNode(t, c, c.Environment())
			content := make([]byte, 2<<20)
			_, err := rand.NewChaCha8([32]byte{}).Read(content)
			require.NoError(t, err)
			sum := sha256.Sum256(content)
			p := n.places("")[0]
			status, _ := n.put(p, bytes.NewReader(zipped(t, content)), nil)
			require.Equal(t, http.StatusOK, status)
			f, err := c.Decode(n.ctx, message(t, map[string]any{"contentUrl": p.PresignedGet}), io.Discard)
			require.NoError(t, err)
			assert.Equal(t, int64(len(content)), f.Size)
			assert.Equal(t, hex.EncodeToString(sum[:]), f.SHA256)
			status, _, _ = n.get(p.PresignedGet)
			assert.Equal(t, map[bool]int{false: 200, true: 404}[discard], status)
			c.Close()
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, left, "Close removes what was stored")
		})
	}
}

func TestBrokenEncoding(t *testing.T) {
	for _, discard := range []bool{false, true} {
		c, n := start(t, echotest.Options{DiscardObjects: discard})
		p := n.places("")[0]
		status, _ := n.put(p, strings.NewReader("this is not gzip"), nil)
		require.Equal(t, http.StatusOK, status, "S3 does not look")
		_, err := c.Decode(n.ctx, message(t, map[string]any{"contentUrl": p.PresignedGet}), io.Discard)
		require.ErrorContains(t, err, "gzip")
	}
}

func TestUploadThatIsCut(t *testing.T) {
	c, n := start(t, echotest.Options{})
	p := n.places("")[0]
	ctx, cancel := context.WithCancel(n.ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, p.PresignedPut.URL, &cutter{cancel: cancel})
	require.NoError(t, err)
	r.ContentLength = 1 << 20
	r.Header.Set("Content-Encoding", "gzip")
	_, err = (&http.Client{Transport: &http.Transport{}}).Do(r)
	require.ErrorIs(t, err, context.Canceled)
	c.Close() // waits for the request
	count, _ := c.Objects()
	assert.Zero(t, count)
}

// cutter gives some bytes and then cancels.
type cutter struct {
	n      int
	cancel func()
}

func (c *cutter) Read(b []byte) (int, error) {
	if c.n += len(b); c.n > 500<<10 {
		c.cancel()
		return 0, context.Canceled
	}
	return len(b), nil
}
