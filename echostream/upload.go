package echostream

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	errTicketExpired = errors.New("the upload URL has expired")
	errStalled       = errors.New("no progress")
)

// store makes one upload.
func (b *Bulk) store(ctx context.Context, t ticket, c *content) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(b.opts.StallTimeout, func() {
		cancel(fmt.Errorf("%w for %s", errStalled, b.opts.StallTimeout))
	})
	defer stall.Stop()

	body := c.reader()
	defer body.Close()
	source := &progress{Reader: body, made: func() { stall.Reset(b.opts.StallTimeout) }}
	var r *http.Request
	var err error
	if b.opts.Post {
		r, err = postRequest(ctx, t.post, source, c.encodedSize)
	} else {
		r, err = putRequest(ctx, t.put, source, c.encodedSize)
	}
	if err != nil {
		return withoutURLs(err)
	}
	answer, err := b.client.opts.HTTPClient.Do(r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err := source.failure(); err != nil {
			return err
		}
		return withoutURLs(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		return refusedUpload(answer)
	}
	if sent := source.count(); sent != c.encodedSize {
		return fmt.Errorf("the answer was HTTP status %d after %d bytes of %d", answer.StatusCode, sent, c.encodedSize)
	}
	if !fromStorage(answer.Header) {
		return withHint(fmt.Errorf("the answer was HTTP status %d, and not S3's", answer.StatusCode), onTheWay)
	}
	return nil
}

// fromStorage reports whether an answer is one of S3's: who says that all is well without having kept anything, such as a proxy that shows its own page,
// knows no tag of what was stored, and gives the answer no name.
func fromStorage(header http.Header) bool {
	return header.Get("Etag") != "" || header.Get("X-Amz-Request-Id") != "" || header.Get("X-Amz-Id-2") != ""
}

// putRequest has exactly the headers that were signed, and the length.
func putRequest(ctx context.Context, to request, body io.Reader, size int64) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, to.url, nil)
	if err != nil {
		return nil, err
	}
	for name, v := range to.values {
		switch http.CanonicalHeaderKey(name) {
		case "Host":
			r.Host = v
		case "Content-Length":
		default:
			r.Header[http.CanonicalHeaderKey(name)] = []string{v}
		}
	}
	withBody(r, body, size)
	return r, nil
}

// postRequest is a form with the signed fields and then, as S3 wants it, the file as its last part.
func postRequest(ctx context.Context, to request, body io.Reader, size int64) (*http.Request, error) {
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, name := range slices.Sorted(maps.Keys(to.values)) {
		if err := w.WriteField(name, to.values[name]); err != nil {
			return nil, err
		}
	}
	if _, err := w.CreateFormFile("file", "bulk_data"); err != nil {
		return nil, err
	}
	head := bytes.Clone(form.Bytes())
	form.Reset()
	if err := w.Close(); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", w.FormDataContentType())
	withBody(r, io.MultiReader(bytes.NewReader(head), body, &form), int64(len(head)+form.Len())+size)
	return r, nil
}

// withBody sets a body of a known length: S3 takes no chunks. net/http sends none for a length of 0 only if the
// body is nil or NoBody, but gzip'd content is never empty.
func withBody(r *http.Request, body io.Reader, size int64) {
	r.Body = io.NopCloser(body)
	r.ContentLength = size
	if size > keepEncoded {
		// Have S3 refuse an upload before all of it is on the way.
		r.Header.Set("Expect", "100-continue")
	}
}

// refusedUpload tells what S3's refusal means.
func refusedUpload(answer *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	var said struct{ Code, Message string }
	_ = xml.Unmarshal(text, &said) // what is not S3's XML has no code
	err := fmt.Errorf("S3 answered with HTTP status %d", answer.StatusCode)
	if said.Code != "" {
		err = fmt.Errorf("%w: %s: %s", err, shorten(said.Code), shorten(said.Message))
	}
	switch {
	case said.Code == "ExpiredToken", strings.Contains(strings.ToLower(said.Message), "expired"):
		// PUT: AccessDenied, "Request has expired"; POST: AccessDenied, "Invalid according to Policy: Policy expired."; or the
		// credentials that signed either are at their end.
		return fmt.Errorf("%w: %w", errTicketExpired, err)
	case said.Code == "InvalidAccessKeyId", said.Code == "InvalidToken":
		return fmt.Errorf("%w: its credentials were replaced: %w", errTicketExpired, err)
	case said.Code == "EntityTooLarge", said.Code == "EntityTooSmall":
		// Without the code, a 413 is not S3's: what is over S3's limit does not get here.
		return Permanent(err)
	}
	return withHint(err, uploadHint(answer.StatusCode, said.Code))
}

// uploadHint is what a person should look at after an answer to an upload, or "".
func uploadHint(status int, code string) string {
	switch code {
	case "BadDigest", "IncompleteBody":
		return "" // it was damaged, or cut off, on the way
	}
	switch {
	case retryLater(status, code):
		return ""
	case code == "":
		return onTheWay
	case code == "SignatureDoesNotMatch":
		return onTheWay + " that changes requests"
	}
	return "ask EchoStream about its bulk data storage, and look at what is on the way: a proxy or a firewall"
}

// progress tells when bytes are taken, counts them, and keeps why there are no more. net/http may still read while the
// answer is being judged.
type progress struct {
	io.Reader
	made func()

	mu    sync.Mutex
	bytes int64
	err   error
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.made()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += int64(n)
	if err != nil && err != io.EOF {
		p.err = err
	}
	return n, err
}

func (p *progress) count() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

func (p *progress) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
