package echostream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// gzipLevel is the fastest: most bulk data is either compressed already or shrinks well at any level, and each byte is
// compressed twice.
const gzipLevel = gzip.BestSpeed

// keepEncoded is how much gzip'd data is kept from the first pass; beyond it the second pass makes it anew.
const keepEncoded = 1 << 20

var errChanged = errors.New("the content changed while it was being read, expected the same bytes each time")

// content is what is known of an upload after the first pass.
type content struct {
	open              func() (io.ReadCloser, error)
	size, encodedSize int64
	sum               [sha256.Size]byte
	encoded           []byte // all of it, or nil if it was too much to keep
}

func (c *content) hexSum() string { return hex.EncodeToString(c.sum[:]) }

// measure is the first pass.
func measure(ctx context.Context, open func() (io.ReadCloser, error)) (*content, error) {
	c := &content{open: open}
	var kept bytes.Buffer
	var err error
	if c.size, c.sum, err = encode(c.counter(ctx, &kept), open, nil); err != nil {
		return nil, err
	}
	if c.encodedSize <= keepEncoded {
		c.encoded = kept.Bytes()
	}
	return c, nil
}

// counter counts what is written to it and keeps it as long as it is little.
func (c *content) counter(ctx context.Context, kept *bytes.Buffer) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		c.encodedSize += int64(len(p))
		if c.encodedSize > MaxBulkSize {
			return 0, Permanent(fmt.Errorf("it has more than %d bytes after gzip, which is the most that bulk storage takes", int64(MaxBulkSize)))
		}
		if c.encodedSize <= keepEncoded {
			kept.Write(p)
		}
		return len(p), nil
	})
}

// reader gives the encoded bytes: encodedSize of them, or an error before the last one. Close waits until the file
// is closed.
func (c *content) reader() io.ReadCloser {
	if c.encoded != nil {
		return io.NopCloser(bytes.NewReader(c.encoded))
	}
	r, w := io.Pipe()
	second := &secondPass{PipeReader: r, ended: make(chan struct{})}
	go func() {
		defer close(second.ended)
		_, _, err := encode(w, c.open, func(size int64, sum [sha256.Size]byte) error {
			if size != c.size || sum != c.sum {
				return errChanged
			}
			return nil
		})
		w.CloseWithError(err)
	}()
	return second
}

type secondPass struct {
	*io.PipeReader
	ended chan struct{}
}

func (p *secondPass) Close() error {
	err := p.PipeReader.Close() // unblocks the writer
	<-p.ended
	return err
}

// encode writes what open gives to w, gzip'd. The result depends on the bytes alone: the file is read in blocks that are
// full but for the last, and the compressor starts anew. check is asked before the end of the gzip stream is
// written, so that a receiver that knows the length can tell that what it has is not whole.
func encode(w io.Writer, open func() (io.ReadCloser, error), check func(int64, [sha256.Size]byte) error) (size int64, sum [sha256.Size]byte, err error) {
	r, err := open()
	if err != nil {
		return 0, sum, err
	}
	defer r.Close()
	hash := sha256.New()
	z, err := gzip.NewWriterLevel(w, gzipLevel)
	if err != nil {
		return 0, sum, err
	}
	for block := make([]byte, 64<<10); ; {
		n, err := io.ReadFull(r, block)
		hash.Write(block[:n])
		size += int64(n)
		if _, err := z.Write(block[:n]); err != nil {
			return size, sum, err
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return size, sum, err
		}
	}
	hash.Sum(sum[:0])
	if check != nil {
		if err := check(size, sum); err != nil {
			return size, sum, err
		}
	}
	return size, sum, z.Close()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
