package echostream

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scriptedStorage vends upload URLs below its own address and takes what is uploaded.
type scriptedStorage struct {
	clock   func() time.Time
	life    time.Duration
	refuse  func(w http.ResponseWriter) bool
	discard bool
	silent  bool // it does not say that it is S3
	mu      sync.Mutex
	base    string
	vended  int
	asked   []map[string]any
	stored  map[string][]byte
	headers map[string]http.Header
	lengths []int64
	fields  map[string][]string // of a POST, in order of arrival
}

func (s *scriptedStorage) vend(variables map[string]any) string {
	s.asked = append(s.asked, variables)
	var places []map[string]any
	for range int(variables["count"].(float64)) {
		s.vended++
		key := fmt.Sprintf("/bulk/%d", s.vended)
		query := "?X-Amz-Date=20261122T080000Z&X-Amz-Expires=3600&X-Amz-Signature=secret"
		places = append(places, map[string]any{
			"expiration":    s.clock().Add(s.life).Unix(),
			"presignedGet":  s.base + key + query,
			"presignedPut":  map[string]string{"url": s.base + key + query, "headers": `{"content-encoding":"gzip","x-amz-tagging":"a=b"}`},
			"presignedPost": map[string]string{"url": s.base + "/bulk", "fields": fmt.Sprintf(`{"key":%q,"policy":"secret","Content-Encoding":"gzip"}`, key)},
		})
	}
	text, _ := json.Marshal(map[string]any{"data": map[string]any{"GetBulkDataStorage": places}})
	return string(text)
}

func (s *scriptedStorage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil && s.refuse(w) {
		return
	}
	s.lengths = append(s.lengths, r.ContentLength)
	if !s.silent {
		w.Header().Set("Etag", `"1"`)
	}
	if s.discard {
		_, _ = io.Copy(io.Discard, r.Body)
		return
	}
	key := r.URL.Path
	if r.Method == http.MethodPut {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client gave up
		}
		s.stored[key], s.headers[key] = body, r.Header
		return
	}
	parts, err := r.MultipartReader()
	if err != nil {
		http.Error(w, "no form", http.StatusBadRequest)
		return
	}
	var names []string
	for {
		part, err := parts.NextPart()
		if err != nil {
			break
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return
		}
		names = append(names, part.FormName())
		switch part.FormName() {
		case "key":
			key = string(value)
		case "file":
			s.stored[key] = value
		}
	}
	s.fields[key] = names
	w.WriteHeader(http.StatusNoContent)
}

func newStorage(t *testing.T, opts BulkOptions) (*Bulk, *scriptedStorage, *clock) {
	t.Helper()
	now := &clock{t: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)}
	s := &scriptedStorage{
		clock: now.now, life: 30 * time.Minute,
		stored: map[string][]byte{}, headers: map[string]http.Header{}, fields: map[string][]string{},
	}
	mux := http.NewServeMux()
	mux.Handle("/graphql", &graphQL{answers: map[string]func(map[string]any) string{"GetBulkDataStorage": s.vend}})
	mux.Handle("/", s)
	c, server, _ := newTestClient(t, mux, Options{Now: now.now})
	s.base = server.URL
	return c.NewBulk(opts), s, now
}

func opener(data []byte) func() (io.ReadCloser, error) {
	// One byte short reads at the start: how a file hands out its bytes must not matter.
	return func() (io.ReadCloser, error) { return io.NopCloser(iotest.HalfReader(bytes.NewReader(data))), nil }
}

// random bytes do not shrink.
func random(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func gunzip(t *testing.T, data []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	require.NoError(t, err)
	plain, err := io.ReadAll(z)
	require.NoError(t, err)
	return plain
}

func TestUpload(t *testing.T) {
	for _, test := range []struct {
		name string
		data []byte
	}{
		{"empty", nil},
		{"text", bytes.Repeat([]byte("a,b;c\r\n"), 100_000)},
		{"a full block", random(64 << 10)},
		{"small enough to keep", random(keepEncoded - 1000)},
		{"read twice", random(3<<20 + 7)},
	} {
		for _, post := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s post=%t", test.name, post), func(t *testing.T) {
				b, s, _ := newStorage(t, BulkOptions{Post: post})
				object, err := b.Upload(t.Context(), opener(test.data))
				require.NoError(t, err)
				sum := sha256.Sum256(test.data)
				stored := s.stored["/bulk/1"]
				assert.Equal(t, hex.EncodeToString(sum[:]), object.SHA256)
				assert.EqualValues(t, len(test.data), object.Size)
				assert.EqualValues(t, len(stored), object.EncodedSize)
				assert.True(t, bytes.Equal(test.data, gunzip(t, stored)))
				assert.Equal(t, s.base+"/bulk/1?X-Amz-Date=20261122T080000Z&X-Amz-Expires=3600&X-Amz-Signature=secret", object.URL)
				assert.Equal(t, time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), object.Expires)
				assert.NotContains(t, fmt.Sprint(object)+object.LogValue().String(), "Signature")
				require.Len(t, s.lengths, 1)
				if post {
					assert.Equal(t, []string{"Content-Encoding", "key", "policy", "file"}, s.fields["/bulk/1"])
					assert.Greater(t, s.lengths[0], object.EncodedSize)
					return
				}
				assert.Equal(t, object.EncodedSize, s.lengths[0])
				h := s.headers["/bulk/1"].Clone()
				assert.Equal(t, []string{"gzip"}, h["Content-Encoding"])
				assert.Equal(t, []string{"a=b"}, h["X-Amz-Tagging"])
				for _, expected := range []string{"Content-Encoding", "X-Amz-Tagging", "Content-Length", "User-Agent", "Accept-Encoding", "Expect"} {
					h.Del(expected)
				}
				assert.Empty(t, h, "a header that was not signed")
			})
		}
	}
}

func TestTicketsAreUsedOnceAndFetchedInBatches(t *testing.T) {
	b, s, now := newStorage(t, BulkOptions{Accelerate: true})
	upload := func() {
		t.Helper()
		_, err := b.Upload(t.Context(), opener([]byte("x")))
		require.NoError(t, err)
	}
	for range 21 {
		upload()
	}
	assert.Len(t, s.stored, 21)
	assert.Len(t, s.asked, 2)
	assert.Equal(t, map[string]any{"tenant": "acme", "count": 20.0, "useAccelerationEndpoint": true}, s.asked[0])

	now.advance(s.life - ticketMargin - time.Second)
	upload()
	assert.Len(t, s.asked, 2)
	now.advance(2 * time.Second) // stale now
	upload()
	assert.Len(t, s.asked, 3)
	assert.Contains(t, s.stored, "/bulk/41")

	now.advance(time.Hour)
	s.life = -time.Hour // the cloud's clock is behind
	upload()
	assert.Contains(t, s.stored, "/bulk/61")
}

func TestUploadsAtTheSameTimeUseATicketEach(t *testing.T) {
	b, s, _ := newStorage(t, BulkOptions{})
	var wg sync.WaitGroup
	for range 15 {
		wg.Go(func() {
			_, err := b.Upload(t.Context(), opener([]byte("x")))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Len(t, s.stored, 15)
	assert.Len(t, s.asked, 1)
}

func TestUploadRefused(t *testing.T) {
	answer := func(code, message string) string {
		return "<?xml version=\"1.0\"?><Error><Code>" + code + "</Code><Message>" + message + "</Message><StringToSign>secret</StringToSign></Error>"
	}
	for _, test := range []struct {
		name      string
		status    int
		body      string
		permanent bool
		expired   bool
	}{
		{"expired PUT", 403, answer("AccessDenied", "Request has expired"), false, true},
		{"expired POST", 403, answer("AccessDenied", "Invalid according to Policy: Policy expired."), false, true},
		{"expired signer", 400, answer("ExpiredToken", "The provided token has expired."), false, true},
		{"too large", 400, answer("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"), true, false},
		{"too large for a proxy", 413, "<html>", false, false},
		{"signature", 403, answer("SignatureDoesNotMatch", "no"), false, false},
		{"slow down", 503, answer("SlowDown", "Please reduce your request rate."), false, false},
		{"timeout", 400, answer("RequestTimeout", "Your socket connection was not read from in time"), false, false},
		{"nonsense", 500, "", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, s, _ := newStorage(t, BulkOptions{})
			down := true
			s.refuse = func(w http.ResponseWriter) bool {
				if !down {
					return false
				}
				down = false
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
				return true
			}
			_, err := b.Upload(t.Context(), opener([]byte("x")))
			assert.ErrorContains(t, err, fmt.Sprintf("S3 answered with HTTP status %d", test.status))
			assert.Equal(t, test.permanent, IsPermanent(err))
			assert.Equal(t, test.expired, errors.Is(err, errTicketExpired))
			requireNoSecret(t, err, "secret", "X-Amz", s.base)

			_, err = b.Upload(t.Context(), opener([]byte("x")))
			require.NoError(t, err)
			assert.NotContains(t, s.stored, "/bulk/1", "a ticket is used once")
			if test.expired {
				assert.Contains(t, s.stored, "/bulk/21", "the others expired with it")
			} else {
				assert.Contains(t, s.stored, "/bulk/2")
			}
		})
	}
}

func TestTicketsThatMakeNoSense(t *testing.T) {
	place := func(put, headers, post, fields string) string {
		text, _ := json.Marshal(map[string]any{"data": map[string]any{"GetBulkDataStorage": []any{map[string]any{
			"expiration": time.Now().Add(time.Hour).Unix(), "presignedGet": "https://b.example.com/k",
			"presignedPut":  map[string]string{"url": put, "headers": headers},
			"presignedPost": map[string]string{"url": post, "fields": fields},
		}}}})
		return string(text)
	}
	const bad = "http://[bad?X-Amz-Signature=secret"
	for _, test := range []struct{ name, answer, want string }{
		{"none", `{"data":{"GetBulkDataStorage":[]}}`, "the API gave none, expected up to 20"},
		{"headers", place("", `["secret"]`, "", "{}"), "presignedPut.headers: not a JSON object of strings"},
		{"fields", place("", "{}", "", `{"policy":["secret"]}`), `presignedPost.fields: "policy" is a []interface {}, expected a string`},
		{"URLs", place(bad, "{}", bad, "{}"), "missing ']' in host"},
		{"nothing there", place("http://127.0.0.1:1/k?X-Amz-Signature=secret", "{}", "http://127.0.0.1:1/", "{}"), "connection refused"},
	} {
		for _, post := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s post=%t", test.name, post), func(t *testing.T) {
				c, _, _ := newTestClient(t, &graphQL{answers: map[string]func(map[string]any) string{
					"GetBulkDataStorage": func(map[string]any) string { return test.answer }}}, Options{})
				_, err := c.NewBulk(BulkOptions{Post: post}).Upload(t.Context(), opener([]byte("x")))
				assert.ErrorContains(t, err, test.want)
				assert.False(t, IsPermanent(err))
				requireNoSecret(t, err, "secret", "127.0.0.1:1/")
			})
		}
	}
}

func TestPutRequestHasTheSignedHost(t *testing.T) {
	values, err := stringMap(`{"host":"bucket.example.com","content-length":1,"x-amz-meta-n":7}`)
	require.NoError(t, err)
	r, err := putRequest(t.Context(), request{"http://127.0.0.1/k", values}, bytes.NewReader([]byte("xy")), 2)
	require.NoError(t, err)
	assert.Equal(t, "bucket.example.com", r.Host)
	assert.EqualValues(t, 2, r.ContentLength)
	assert.Equal(t, http.Header{"X-Amz-Meta-N": {"7"}}, r.Header)
}

func TestUploadOfWhatChanges(t *testing.T) {
	big := random(3 << 20)
	other := bytes.Clone(big)
	other[len(other)-1]++
	for name, second := range map[string][]byte{"other bytes": other, "shorter": big[:2<<20], "longer": append(bytes.Clone(big), 'x')} {
		t.Run(name, func(t *testing.T) {
			b, s, _ := newStorage(t, BulkOptions{})
			n := 0
			_, err := b.Upload(t.Context(), func() (io.ReadCloser, error) {
				n++
				return opener([][]byte{big, second}[n-1])()
			})
			assert.ErrorIs(t, err, errChanged)
			assert.False(t, IsPermanent(err))
			assert.Empty(t, s.stored)
		})
	}
}

func TestUploadOfWhatCannotBeRead(t *testing.T) {
	broken := errors.New("input/output error")
	b, s, _ := newStorage(t, BulkOptions{})
	_, err := b.Upload(t.Context(), func() (io.ReadCloser, error) { return nil, broken })
	assert.ErrorIs(t, err, broken)
	_, err = b.Upload(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(broken)), nil })
	assert.ErrorIs(t, err, broken)
	assert.Empty(t, s.asked)

	n := 0
	_, err = b.Upload(t.Context(), func() (io.ReadCloser, error) {
		if n++; n == 2 {
			return io.NopCloser(io.MultiReader(bytes.NewReader(random(2<<20)), iotest.ErrReader(broken))), nil
		}
		return opener(random(3 << 20))()
	})
	assert.ErrorIs(t, err, broken)
	assert.Empty(t, s.stored)
}

func TestUploadThatIsAcknowledgedTooSoon(t *testing.T) {
	b, s, _ := newStorage(t, BulkOptions{})
	s.refuse = func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusOK); return true }
	_, err := b.Upload(t.Context(), opener(random(4<<20)))
	assert.Error(t, err)
	assert.False(t, IsPermanent(err))
}

// A proxy that swallows the upload and shows its own page has stored nothing.
func TestUploadThatSomebodyElseAcknowledges(t *testing.T) {
	for _, opts := range []BulkOptions{{}, {Post: true}} {
		b, s, _ := newStorage(t, opts)
		s.silent = true
		_, err := b.Upload(t.Context(), opener([]byte("x")))
		require.ErrorContains(t, err, "not S3's")
		assert.False(t, IsPermanent(err))
		assert.True(t, NeedsOperator(err))
		requireNoSecret(t, err, "secret", "X-Amz", s.base)
		s.silent = false
		_, err = b.Upload(t.Context(), opener([]byte("x")))
		require.NoError(t, err)
	}
}

func TestUploadCloses(t *testing.T) {
	b, _, _ := newStorage(t, BulkOptions{})
	var open int
	_, err := b.Upload(t.Context(), func() (io.ReadCloser, error) {
		open++
		return struct {
			io.Reader
			io.Closer
		}{bytes.NewReader(random(3 << 20)), closer(func() { open-- })}, nil
	})
	require.NoError(t, err)
	assert.Zero(t, open)
}

type closer func()

func (c closer) Close() error { c(); return nil }

// What an upload allocates in all, on both sides, is less than a quarter of what it uploads.
func TestUploadIsStreamed(t *testing.T) {
	const size = 64 << 20
	b, s, _ := newStorage(t, BulkOptions{})
	s.discard = true
	block := random(1 << 20) // beyond the window of gzip, so that it does not shrink
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(&repeat{block: block}, size)), nil
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	object, err := b.Upload(t.Context(), open)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	assert.EqualValues(t, size, object.Size)
	assert.Greater(t, object.EncodedSize, int64(size))
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(size/4))
}

type repeat struct {
	block []byte
	at    int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

func TestUploadThatStalls(t *testing.T) {
	release := make(chan struct{})
	b, s, _ := newStorage(t, BulkOptions{StallTimeout: 100 * time.Millisecond})
	s.refuse = func(http.ResponseWriter) bool { <-release; return true }
	defer close(release)
	_, err := b.Upload(t.Context(), opener(random(3<<20)))
	assert.ErrorIs(t, err, errStalled)
	assert.False(t, IsPermanent(err))
	requireNoSecret(t, err, "secret", "http://")
}

func TestUploadEndsWithItsContext(t *testing.T) {
	b, s, _ := newStorage(t, BulkOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	s.refuse = func(http.ResponseWriter) bool { cancel(); <-release; return true }
	_, err := b.Upload(ctx, opener(random(3<<20)))
	assert.ErrorIs(t, err, context.Canceled)
}

func TestMeasureRefusesWhatIsTooLarge(t *testing.T) {
	c := &content{encodedSize: MaxBulkSize}
	_, err := c.counter(t.Context(), &bytes.Buffer{}).Write([]byte("x"))
	assert.True(t, IsPermanent(err))
	assert.ErrorContains(t, err, "more than 5368709120 bytes after gzip")
}

func TestReadableUntil(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	week := now.Add(7 * 24 * time.Hour)
	for query, want := range map[string]time.Time{
		"": week,
		"?X-Amz-Date=20261122T080000Z&X-Amz-Expires=60":      now.Add(time.Minute),
		"?X-Amz-Date=20261122T080000Z&X-Amz-Expires=6048000": week,
		"?X-Amz-Date=20261122T080000Z&X-Amz-Expires=x":       week,
		"?AWSAccessKeyId=x&Expires=1795334460":               time.Unix(1795334460, 0),
		"?Expires=9999999999":                                week,
	} {
		assert.True(t, want.Equal(readableUntil("https://b.example.com/k"+query, now)), query)
	}
}
