package echotest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
)

const (
	bucket    = "bulk-data"
	maxObject = 5 << 30 // bytes of one upload
)

// storage is bulk data storage: an S3 bucket that can be used through presigned URLs only.
type storage struct {
	cloud  *Cloud
	dir    string
	signer aws.Credentials // of EchoStream's own, which it presigns with

	mu      sync.Mutex
	objects map[string]*storedObject // by key
	order   []*storedObject          // the oldest first
}

// storedObject is an object as it was uploaded.
type storedObject struct {
	key      string
	etag     string
	file     string // "" if discarded
	encoding string
	size     int64
	at       time.Time
	// Of the decoded content, if the object was discarded:
	contentSize int64
	contentSHA  string
	contentErr  error
}

func newStorage(c *Cloud) (*storage, error) {
	dir, err := os.MkdirTemp(c.opts.TempDir, "echotest-")
	if err != nil {
		return nil, fmt.Errorf("echotest: %w", err)
	}
	signer := newCredentials("AKIA")
	signer.SessionToken = ""
	return &storage{cloud: c, dir: dir, signer: signer, objects: make(map[string]*storedObject)}, nil
}

// receive reads an upload of size bytes into a new file, or just its hash. It is not visible until put.
func (s *storage) receive(key, encoding string, body io.Reader) (*storedObject, error) {
	o := &storedObject{key: key, etag: `"` + randomHex(16) + `"`, encoding: encoding}
	if s.cloud.opts.DiscardObjects {
		return o, o.discard(body)
	}
	f, err := os.CreateTemp(s.dir, "object-")
	if err != nil {
		return nil, err
	}
	o.file = f.Name()
	o.size, err = io.Copy(f, body)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(o.file)
		return nil, err
	}
	return o, nil
}

// discard reads an upload and keeps what Decode tells of it.
func (o *storedObject) discard(body io.Reader) error {
	counted := &counter{r: body}
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h := sha256.New()
		o.contentSize, o.contentErr = decodeTo(h, o.encoding, pr)
		o.contentSHA = hexSum(h)
		_, _ = io.Copy(io.Discard, pr) // a broken encoding is no reason to refuse the upload
	}()
	_, err := io.Copy(pw, counted)
	pw.CloseWithError(err)
	<-done
	o.size = counted.n
	return err
}

// put makes an object visible, and lets those go whose time is up.
func (s *storage) put(o *storedObject) {
	now := s.cloud.clock.Now()
	o.at = now
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	if old := s.objects[o.key]; old != nil && old.file != "" {
		_ = os.Remove(old.file)
		old.file = ""
	}
	s.objects[o.key] = o
	s.order = append(s.order, o)
}

// get finds an object that has not expired.
func (s *storage) get(key string) (*storedObject, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(s.cloud.clock.Now())
	o, ok := s.objects[key]
	return o, ok
}

func (s *storage) expire(now time.Time) {
	for len(s.order) > 0 && now.Sub(s.order[0].at) >= s.cloud.opts.ObjectLifetime {
		o := s.order[0]
		s.order = s.order[1:]
		if s.objects[o.key] == o {
			delete(s.objects, o.key)
		}
		if o.file != "" {
			_ = os.Remove(o.file)
		}
	}
}

// open opens an object's file: it can be read to its end even if it expires meanwhile.
func (o *storedObject) open() (*os.File, error) {
	if o.file == "" {
		return nil, os.ErrNotExist
	}
	return os.Open(filepath.Clean(o.file))
}

// Objects counts what is in bulk data storage now, and its bytes as uploaded.
func (c *Cloud) Objects() (n int, bytes int64) {
	s := c.storage
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(c.clock.Now())
	for _, o := range s.objects {
		bytes += o.size
	}
	return len(s.objects), bytes
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// decodeTo writes the decoded content of r to w; all of it must be one gzip or zlib stream.
func decodeTo(w io.Writer, encoding string, r io.Reader) (int64, error) {
	switch encoding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err != nil {
			return 0, fmt.Errorf("content is not gzip: %w", err)
		}
		n, err := io.Copy(w, z)
		if err != nil {
			return n, fmt.Errorf("content is not gzip: %w", err)
		}
		return n, nil
	case "deflate":
		z, err := zlib.NewReader(r)
		if err != nil {
			return 0, fmt.Errorf("content is not deflate: %w", err)
		}
		n, err := io.Copy(w, z)
		if err != nil {
			return n, fmt.Errorf("content is not deflate: %w", err)
		}
		return n, nil
	case "":
		return io.Copy(w, r)
	}
	return 0, fmt.Errorf("content has the unknown encoding %q", encoding)
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// drop gives up an upload that was not put.
func (s *storage) drop(o *storedObject) {
	if o.file != "" {
		_ = os.Remove(o.file)
	}
}
