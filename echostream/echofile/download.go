package echofile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/internal/retry"
)

const (
	// objectLife is how long EchoStream keeps an object.
	objectLife          = 7 * 24 * time.Hour
	defaultStallTimeout = time.Minute
	defaultTries        = 5
	firstPause          = 200 * time.Millisecond
	lastPause           = 5 * time.Second
)

var errStalled = errors.New("there was no progress for too long")

// transportError is an error of the download itself: decoders pass it on, and it is told from theirs.
type transportError struct{ err error }

func (e *transportError) Error() string { return e.err.Error() }
func (e *transportError) Unwrap() error { return e.err }

// statusError is an answer that is no content.
type statusError struct {
	status int
	code   string // S3's, or ""
}

func (e *statusError) Error() string {
	text := "storage answered with HTTP status " + strconv.Itoa(e.status)
	if e.code != "" {
		text += ": " + e.code
	}
	return text
}

// download reads the bytes of an object as they are stored, in as many requests as it takes: resuming is below the decoding,
// since it is the stored bytes that a Range counts. One goroutine uses it.
type download struct {
	file     *File
	ctx      context.Context
	timeout  time.Duration // without progress
	tries    int
	failures int // in a row
	offset   int64

	// Of the first answer:
	begun    bool
	length   int64 // -1 if it is not known
	etag     string
	encoding string

	// Of the request that runs:
	body   io.ReadCloser // or nil
	stall  *time.Timer
	cancel context.CancelCauseFunc
	within context.Context
}

func newDownload(ctx context.Context, f *File) *download {
	d := &download{file: f, ctx: ctx, timeout: f.reader.StallTimeout, tries: f.reader.Tries}
	if d.timeout <= 0 {
		d.timeout = defaultStallTimeout
	}
	if d.tries <= 0 {
		d.tries = defaultTries
	}
	return d
}

// open gives the decoded content.
func (d *download) open() (io.Reader, error) {
	if err := d.connected(); err != nil {
		return nil, err
	}
	return decoded(d.encoding, d)
}

// Read implements io.Reader. It fails only if trying again is of no use, or was not.
func (d *download) Read(b []byte) (int, error) {
	for {
		if err := d.connected(); err != nil {
			return 0, err
		}
		n, err := d.read(b)
		d.offset += int64(n)
		if n > 0 {
			d.failures = 0
			return n, nil // an error comes again
		}
		switch {
		case err == nil:
			continue
		case err == io.EOF:
			return 0, io.EOF // net/http gives another error if there is less than it was told
		}
		d.disconnect()
		if err := d.failed(err); err != nil {
			return 0, err
		}
	}
}

// read reads from the request that runs.
func (d *download) read(b []byte) (int, error) {
	d.stall.Reset(d.timeout)
	n, err := d.body.Read(b)
	if err != nil && err != io.EOF && d.within.Err() != nil {
		err = context.Cause(d.within)
	}
	return n, err
}

// Close implements io.Closer.
func (d *download) Close() error {
	d.disconnect()
	return nil
}

func (d *download) disconnect() {
	if d.body != nil {
		_ = d.body.Close() // nothing of it is missed
		d.body = nil
	}
	if d.cancel != nil {
		d.stall.Stop()
		d.cancel(context.Canceled)
		d.cancel = nil
	}
}

// connected makes sure that a request runs whose body goes on at offset.
func (d *download) connected() error {
	for d.body == nil {
		err := d.connect()
		if err == nil {
			return nil
		}
		d.disconnect()
		if err := d.failed(err); err != nil {
			return err
		}
	}
	return nil
}

// failed waits before another try, or says why there is none.
func (d *download) failed(err error) error {
	if d.ctx.Err() != nil {
		return &transportError{context.Cause(d.ctx)}
	}
	var answer *statusError
	if errors.As(err, &answer) && answer.status/100 != 5 && answer.status != http.StatusTooManyRequests && answer.status != http.StatusRequestTimeout {
		return &transportError{err}
	}
	if d.failures++; d.failures >= d.tries || echostream.IsPermanent(err) {
		return &transportError{err}
	}
	if !retry.Sleep(d.ctx, retry.Backoff(d.failures, firstPause, lastPause)) {
		return &transportError{context.Cause(d.ctx)}
	}
	return nil
}

// connect makes a request.
func (d *download) connect() error {
	d.within, d.cancel = context.WithCancelCause(d.ctx)
	cancel := d.cancel
	d.stall = time.AfterFunc(d.timeout, func() { cancel(errStalled) })
	r, err := http.NewRequestWithContext(d.within, http.MethodGet, d.file.content, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept-Encoding", "gzip, deflate") // by itself net/http would undo gzip, and the length would be lost
	if d.offset > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.offset))
		if strings.HasPrefix(d.etag, `"`) {
			r.Header.Set("If-Match", d.etag)
		}
	}
	var client interface {
		Do(*http.Request) (*http.Response, error)
	} = defaultClient
	if d.file.reader.HTTPClient != nil {
		client = d.file.reader.HTTPClient
	}
	answer, err := client.Do(r)
	if err != nil {
		if d.within.Err() != nil {
			return context.Cause(d.within)
		}
		var u *url.Error
		if errors.As(err, &u) {
			return u.Err
		}
		return err
	}
	d.body = answer.Body
	switch {
	case answer.StatusCode == http.StatusOK && answer.Uncompressed:
		return errors.New("the HTTP client has undone the content's encoding, expected one that leaves it")
	case answer.StatusCode == http.StatusOK && !d.begun:
		d.begun, d.length, d.etag = true, answer.ContentLength, answer.Header.Get("Etag")
		d.encoding = strings.Join(answer.Header.Values("Content-Encoding"), ", ")
		return nil
	case answer.StatusCode == http.StatusOK:
		if d.etag != answer.Header.Get("Etag") || d.length != answer.ContentLength {
			return errors.New("the object is another one than before")
		}
		return d.skip(d.offset) // the Range was ignored
	case answer.StatusCode == http.StatusPartialContent && d.offset > 0:
		if from := fmt.Sprintf("bytes %d-", d.offset); !strings.HasPrefix(answer.Header.Get("Content-Range"), from) {
			return fmt.Errorf("storage gave the range %q, expected one from byte %d", answer.Header.Get("Content-Range"), d.offset)
		}
		return nil
	}
	return d.refusal(answer)
}

// skip reads what was read before.
func (d *download) skip(n int64) error {
	block := make([]byte, 64<<10)
	for n > 0 {
		got, err := d.read(block[:min(n, int64(len(block)))])
		n -= int64(got)
		if err == io.EOF && n > 0 {
			return io.ErrUnexpectedEOF
		}
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}

var (
	s3Code = regexp.MustCompile(`<Code>([A-Za-z0-9.]{1,80})</Code>`)
	// S3 says so of a presigned URL whose time is up, with the code AccessDenied.
	s3Expired = regexp.MustCompile(`<Message>Request has expired</Message>`)
)

// refusal is the error of an answer that is no content: permanent if the URL or the object has ended.
func (d *download) refusal(answer *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(d.body, 64<<10))
	e := &statusError{status: answer.StatusCode}
	if code := s3Code.FindSubmatch(text); code != nil {
		e.code = string(code[1])
	}
	over := e.code == "ExpiredToken" || s3Expired.Match(text)
	switch answer.StatusCode {
	case http.StatusForbidden, http.StatusNotFound, http.StatusGone, http.StatusUnauthorized:
		over = over || d.ended(answer.Header)
	}
	if over {
		return echostream.Permanent(fmt.Errorf("it is no longer in storage, which keeps it for seven days, or its URL has ended: %w", e))
	}
	return e
}

// ended reports whether the object has ended by storage's own clock. The machine's may be wrong, and so may that of a proxy or a
// captive portal, whose answer has no id as each of S3's has: a file that is there must not be refused for good by them.
func (d *download) ended(header http.Header) bool {
	date, err := http.ParseTime(header.Get("Date"))
	return err == nil && header.Get("X-Amz-Request-Id") != "" && header.Get("Age") == "" &&
		!d.file.ends.IsZero() && !date.Before(d.file.ends)
}

// urlEnds is when a presigned URL ends by its own words: SigV4's X-Amz-Date and X-Amz-Expires, or SigV2's Expires. Zero if it
// has none.
func urlEnds(u *url.URL) time.Time {
	q := u.Query()
	if signed, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date")); err == nil {
		if seconds, err := strconv.ParseInt(q.Get("X-Amz-Expires"), 10, 32); err == nil {
			return signed.Add(time.Duration(seconds) * time.Second)
		}
	}
	if epoch, err := strconv.ParseInt(q.Get("Expires"), 10, 64); err == nil {
		return time.Unix(epoch, 0)
	}
	return time.Time{}
}
