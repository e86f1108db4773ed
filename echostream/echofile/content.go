package echofile

import (
	"bufio"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"

	"github.com/ftpnode/ftpnode/echostream"
)

// content is the decoded content, checked.
type content struct {
	file   *File
	r      io.Reader
	closer io.Closer
	hash   hash.Hash // nil if there is nothing to compare with
	n      int64
	err    error // sticky
}

func newHash(sum string) hash.Hash {
	if sum == "" {
		return nil
	}
	return sha256.New()
}

// Read implements io.Reader.
func (c *content) Read(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.r.Read(b)
	if rest := c.file.Length - c.n; c.file.Length >= 0 && int64(n) > rest {
		// It may go on for ever.
		n, err = int(rest), echostream.Permanent(fmt.Errorf("it is longer than the %d bytes that the message says", c.file.Length))
	}
	c.n += int64(n)
	if c.hash != nil {
		c.hash.Write(b[:n])
	}
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF:
		if err = c.check(); err == nil {
			c.err = io.EOF
			return n, io.EOF
		}
	case !c.file.Bulk && !echostream.IsPermanent(err):
		err = echostream.Permanent(fmt.Errorf("it is not base64: %w", err))
	}
	c.err = c.file.wrap(err)
	return n, c.err
}

func (c *content) check() error {
	if c.file.Length >= 0 && c.n != c.file.Length {
		return echostream.Permanent(fmt.Errorf("it has %d bytes, the message says %d", c.n, c.file.Length))
	}
	if c.hash == nil {
		return nil
	}
	if sum := hex.EncodeToString(c.hash.Sum(nil)); sum != c.file.SHA256 {
		return echostream.Permanent(fmt.Errorf("its SHA-256 is %s, the message says %s", sum, c.file.SHA256))
	}
	return nil
}

// Close implements io.Closer.
func (c *content) Close() error {
	if c.err == nil {
		c.err = errors.New("it is closed")
	}
	if c.closer == nil {
		return nil
	}
	return c.closer.Close()
}

// decoded undoes exactly one content encoding.
func decoded(encoding string, raw io.Reader) (io.Reader, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return raw, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(raw)
		if err != nil {
			return nil, broken(err)
		}
		return &decoder{z, raw}, nil
	case "deflate":
		// The name means zlib's format (RFC 9110, 8.4.1.2); some senders leave its frame out.
		head := bufio.NewReader(raw)
		if first, _ := head.Peek(2); len(first) == 2 && first[0]&0x0f == 8 && (int(first[0])<<8|int(first[1]))%31 == 0 {
			z, err := zlib.NewReader(head)
			if err != nil {
				return nil, broken(err)
			}
			return &decoder{z, head}, nil
		}
		return &decoder{flate.NewReader(head), head}, nil
	}
	return nil, echostream.Permanent(fmt.Errorf("its content encoding is %q, expected gzip, deflate or none", encoding))
}

// decoder reads a compressed stream that must end where the raw one does.
type decoder struct {
	io.Reader
	raw io.Reader
}

// Read implements io.Reader.
func (d *decoder) Read(b []byte) (int, error) {
	n, err := d.Reader.Read(b)
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		return n, broken(err)
	}
	if more, rawErr := io.Copy(io.Discard, io.LimitReader(d.raw, 1)); rawErr != nil {
		return n, rawErr
	} else if more > 0 {
		return n, echostream.Permanent(errors.New("its encoding is broken: there is more after its end"))
	}
	return n, io.EOF
}

// broken tells a stream that is not what its encoding says from one that could not be read.
func broken(err error) error {
	var transport *transportError
	if errors.As(err, &transport) {
		return err
	}
	return echostream.Permanent(fmt.Errorf("its encoding is broken: %w", err))
}
