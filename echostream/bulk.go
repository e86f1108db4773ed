package echostream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// MaxBulkSize is the most that one upload to bulk storage can hold, in bytes after gzip.
const MaxBulkSize = 5 << 30

// BulkOptions of a Bulk. The zero value works.
type BulkOptions struct {
	// Accelerate uploads through S3's acceleration endpoint, for nodes that are far from the tenant's region.
	Accelerate bool
	// Post uploads by presigned POST. By default, by PUT.
	Post bool
	// StallTimeout ends an upload that makes no progress. By default, 60 s. There is no limit on the whole.
	StallTimeout time.Duration
}

// Bulk uploads what does not fit a message to EchoStream's bulk data storage. It is safe for concurrent use.
type Bulk struct {
	client  *Client
	opts    BulkOptions
	tickets *ticketStore
}

// NewBulk makes a Bulk; it reaches out to nothing.
func (c *Client) NewBulk(opts BulkOptions) *Bulk {
	if opts.StallTimeout <= 0 {
		opts.StallTimeout = time.Minute
	}
	return &Bulk{client: c, opts: opts, tickets: &ticketStore{
		client: c, accelerate: opts.Accelerate, turn: make(chan struct{}, 1)}}
}

// BulkObject is an upload. It does not print its URL.
type BulkObject struct {
	// URL is for messages. A GET of it answers with Content-Encoding: gzip, which most HTTP clients undo. Who knows
	// it can read the object: it is a secret.
	URL string
	// Expires is when the URL ends, by S3's clock: compare it with [Client.Now].
	Expires time.Time
	// Size and EncodedSize are in bytes, before and after gzip.
	Size, EncodedSize int64
	// SHA256 is that of the bytes before gzip, in hex.
	SHA256 string
}

// String describes the upload without its URL.
func (o BulkObject) String() string {
	return fmt.Sprintf("%d bytes (%d after gzip) with sha256 %s, until %s",
		o.Size, o.EncodedSize, o.SHA256, o.Expires.UTC().Format(time.RFC3339))
}

// LogValue describes the upload without its URL.
func (o BulkObject) LogValue() slog.Value {
	return slog.GroupValue(slog.Int64("size", o.Size), slog.Int64("encodedSize", o.EncodedSize),
		slog.String("sha256", o.SHA256), slog.Time("expires", o.Expires))
}

// Upload stores the bytes that open gives, gzip'd. S3 wants to know the length beforehand, so that they are read twice (from
// a new open each time): once to count, once to send; only what is small is kept in memory instead. They must be the
// same both times; if they are not, nothing is stored and the error says so.
//
// The error is permanent ([IsPermanent]) if this content can never be stored: over [MaxBulkSize], or refused by S3 for what it
// is. Everything else, an expired upload URL among it, is transient; each try uses an upload URL of its own. [NeedsOperator]
// reports whether a person has to do something.
func (b *Bulk) Upload(ctx context.Context, open func() (io.ReadCloser, error)) (BulkObject, error) {
	content, err := measure(ctx, open)
	if err != nil {
		return BulkObject{}, fmt.Errorf("reading what goes to bulk storage: %w", err)
	}
	t, err := b.tickets.take(ctx)
	if err != nil {
		return BulkObject{}, err
	}
	if err := b.store(ctx, t, content); err != nil {
		if errors.Is(err, errTicketExpired) {
			b.tickets.drop()
		}
		return BulkObject{}, fmt.Errorf("uploading %d bytes to bulk storage: %w", content.encodedSize, err)
	}
	return BulkObject{
		URL: t.get, Expires: readableUntil(t.get, b.client.clock.now()),
		Size: content.size, EncodedSize: content.encodedSize, SHA256: content.hexSum(),
	}, nil
}
