package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// cloud is the part of echostream.Client that delivering needs.
type cloud interface {
	Send(ctx context.Context, node *echostream.Definition, queue string, messages []echostream.Message) []error
	Audit(ctx context.Context, node *echostream.Definition, messageType string, records []echostream.AuditRecord) []error
}

// uploader is bulk storage.
type uploader interface {
	Upload(ctx context.Context, open func() (io.ReadCloser, error)) (echostream.BulkObject, error)
}

// deliverer takes the outbox's entries to EchoStream, by the definition and the config of now.
type deliverer struct {
	cloud cloud
	// now is EchoStream's clock, by which upload URLs end; the machine's may be wrong.
	now func() time.Time
	// outdated is called when an edge of the definition is gone.
	outdated func()
	// hurry reports whether clients wait for EchoStream. By default, none does.
	hurry func() bool

	state   atomic.Pointer[deliveryState]
	trouble atomic.Pointer[error] // of the last call to SQS, S3 or AppSync
}

var _ outbox.Deliverer = (*deliverer)(nil)

// deliveryState is replaced as a whole.
type deliveryState struct {
	node   *echostream.Definition
	config MessageConfig
	bulk   uploader
}

// read reports whether EchoStream has given the definition since the start. By one that was kept nothing is sent and nothing
// leaves: an edge may have been drawn since, the node may have been stopped, the tenant may audit by now.
func (s *deliveryState) read() bool { return s != nil && !s.node.Kept }

func (s *deliveryState) queue(target string) (string, bool) {
	if !s.read() || s.node.Stopped {
		return "", false
	}
	for _, edge := range s.node.Targets {
		if edge.Name == target {
			return edge.Queue, true
		}
	}
	return "", false
}

// ready says why nothing can be delivered now, as far as that is known.
func (d *deliverer) ready() error {
	s := d.state.Load()
	switch {
	case s == nil || s.node.Kept:
		return errNoDefinition
	case s.node.Stopped:
		return errors.New("the node is stopped")
	case len(s.node.Targets) == 0:
		return errors.New("the node has no edge")
	}
	if err := d.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// came notes how a call to EchoStream's services came out. That it refuses one file for good is no trouble.
func (d *deliverer) came(err error) {
	if err == nil || isPermanent(err) {
		d.trouble.Store(nil)
		return
	}
	d.trouble.Store(&err)
	if d.hurry != nil && d.hurry() {
		d.outdated() // when the definition can be read, files are taken and tried again
	}
}

func isPermanent(err error) bool {
	var permanent interface{ Permanent() bool }
	return errors.As(err, &permanent) && permanent.Permanent()
}

// set changes what is delivered by.
func (d *deliverer) set(s deliveryState) { d.state.Store(&s) }

// Targets implements outbox.Deliverer. A node that is stopped, or has not read its definition yet, has none.
func (d *deliverer) Targets() []string {
	s := d.state.Load()
	if !s.read() || s.node.Stopped {
		return nil
	}
	names := make([]string, len(s.node.Targets))
	for i, edge := range s.node.Targets {
		names[i] = edge.Name
	}
	return names
}

// Prepare implements outbox.Deliverer.
func (d *deliverer) Prepare(ctx context.Context, e outbox.Entry, open func() (disk.File, error)) (any, error) {
	s := d.state.Load()
	if !s.read() {
		return nil, errNoDefinition
	}
	from, err := originOf(e)
	if err != nil {
		return nil, err
	}
	m, err := d.composer(s).Compose(ctx, e, open, from)
	return m, err
}

func (d *deliverer) composer(s *deliveryState) *echofile.Composer {
	return &echofile.Composer{
		Content: s.config.Content, ContentField: s.config.ContentField, URLField: s.config.URLField, Upload: d.uploadTo(s.bulk), Now: d.now,
	}
}

// uploadTo is bulk.Upload, of whose outcome note is taken.
func (d *deliverer) uploadTo(bulk uploader) func(context.Context, func() (io.ReadCloser, error)) (echostream.BulkObject, error) {
	return func(ctx context.Context, open func() (io.ReadCloser, error)) (echostream.BulkObject, error) {
		object, err := bulk.Upload(ctx, open)
		if ctx.Err() == nil {
			d.came(err)
		}
		return object, err
	}
}

var errNoDefinition = errors.New("the node's definition was not read from EchoStream since the start")

// Send implements outbox.Deliverer.
func (d *deliverer) Send(ctx context.Context, target string, batch []outbox.Prepared) []error {
	errs := make([]error, len(batch))
	s := d.state.Load()
	queue, ok := s.queue(target)
	if !ok {
		for i := range errs {
			errs[i] = fmt.Errorf("the node has no edge to %q now", target)
		}
		return errs
	}
	var messages []echostream.Message
	var at []int // where in the batch they stand
	for i, prepared := range batch {
		m, ok := prepared.Payload.(echofile.Message)
		if !ok || stale(m, d.now()) {
			// What comes after it in its lane would overtake it.
			for j := i; j < len(batch); j++ {
				errs[j] = errors.New("not tried, since one before it must be prepared anew")
			}
			errs[i] = staleError{}
			break
		}
		messages, at = append(messages, echostream.Message{
			TrackingID: prepared.Entry.ID, Group: groupOf(s.node.Name, prepared.Entry.Lane), Body: m.Body,
		}), append(at, i)
	}
	if len(messages) == 0 {
		return errs
	}
	var failed error
	for n, err := range d.cloud.Send(ctx, s.node, queue, messages) {
		errs[at[n]] = err
		if errors.Is(err, echostream.ErrEdgeGone) {
			d.outdated()
		}
		if err != nil && !isPermanent(err) {
			failed = err
		}
	}
	if ctx.Err() == nil {
		d.came(failed)
	}
	return errs
}

// stale reports whether the URL in the message will soon be of no use: its readers may need days.
func stale(m echofile.Message, now time.Time) bool {
	return !m.Expires.IsZero() && m.Expires.Sub(now) < m.Expires.Sub(m.Made)/2
}

type staleError struct{}

func (staleError) Error() string { return "the upload in bulk storage is too old to be sent" }
func (staleError) Stale() bool   { return true }

// Audit implements outbox.Deliverer.
func (d *deliverer) Audit(ctx context.Context, batch []outbox.Prepared) []error {
	errs := make([]error, len(batch))
	s := d.state.Load()
	if !s.read() {
		for i := range errs {
			errs[i] = errNoDefinition
		}
		return errs
	}
	if !s.node.Audit {
		return errs
	}
	var records []echostream.AuditRecord
	var at []int // where in the batch they stand
	for i, prepared := range batch {
		var attributes map[string]any
		// A file that cannot be read now must not keep the others here.
		if attributes, errs[i] = d.attributes(ctx, s, prepared); errs[i] != nil {
			continue
		}
		records = append(records, echostream.AuditRecord{TrackingID: prepared.Entry.ID, DateTime: d.now(), Attributes: attributes})
		at = append(at, i)
	}
	if len(records) == 0 {
		return errs
	}
	messageType := fileType
	if t := s.node.SendMessageType; t != nil {
		messageType = t.Name
	}
	for n, err := range d.cloud.Audit(ctx, s.node, messageType, records) {
		errs[at[n]] = err
	}
	return errs
}

// attributes are those of the message, or after a restart made anew.
func (d *deliverer) attributes(ctx context.Context, s *deliveryState, prepared outbox.Prepared) (map[string]any, error) {
	if m, ok := prepared.Payload.(echofile.Message); ok {
		return m.Attributes, nil
	}
	from, err := originOf(prepared.Entry)
	if err != nil {
		return nil, err
	}
	return d.composer(s).Attributes(ctx, prepared.Entry, prepared.Open, from)
}

// fileType is the message type that this node is for.
const fileType = "echo.file"
