package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// Cloud is the part of [echostream.Client] that delivering needs.
type Cloud interface {
	Send(ctx context.Context, d *echostream.Definition, queue string, messages []echostream.Message) []error
	Audit(ctx context.Context, d *echostream.Definition, messageType string, records []echostream.AuditRecord) []error
	Now() time.Time
}

// deliverer takes the outbox's entries to EchoStream, by the definition and the config of now.
type deliverer struct {
	cloud Cloud
	// outdated is called when an edge of the definition is gone, or EchoStream's services cannot be used.
	outdated func()

	state   atomic.Pointer[delivery]
	persons sync.Map              // by target, and "" for Prepare: whether the last attempt failed by what only a person can end
	trouble atomic.Pointer[error] // of the last call to SQS, S3 or AppSync
}

var _ outbox.Deliverer = (*deliverer)(nil)

// delivery is what is delivered by. It is replaced as a whole.
type delivery struct {
	definition  *echostream.Definition
	messageType string // if the definition names none
	waits       bool   // devices are kept waiting until EchoStream has their message
	composer
}

// composer is the bridge, with its config.
type composer struct {
	compose    func(ctx context.Context, e outbox.Entry, open func() (disk.File, error)) (Message, error)
	attributes func(ctx context.Context, e outbox.Entry, open func() (disk.File, error)) (map[string]any, error)
}

// NewDeliverer returns what takes a node's outbox to EchoStream, by one definition and one config, for a program that runs the outbox itself. The
// Node that b's functions get is of no use but for its Name.
func NewDeliverer[C any](cloud Cloud, d *echostream.Definition, b Bridge[C], config C) outbox.Deliverer {
	deliverer := &deliverer{cloud: cloud, outdated: func() {}}
	deliverer.state.Store(&delivery{definition: d, messageType: b.MessageType, composer: composerOf(b, &Node{Name: d.Name}, config)})
	return deliverer
}

// read reports whether EchoStream has given the definition since the start. By one that was kept nothing is sent and nothing
// leaves: an edge may have been drawn since, the node may have been stopped, the tenant may audit by now.
func (s *delivery) read() bool { return s != nil && !s.definition.Kept }

func (s *delivery) queue(target string) (string, bool) {
	if !s.read() || s.definition.Stopped {
		return "", false
	}
	for _, edge := range s.definition.Targets {
		if edge.Name == target {
			return edge.Queue, true
		}
	}
	return "", false
}

// payload is a message ready for sending.
type payload struct {
	echostream.Message
	attributes    map[string]any
	made, expires time.Time // of the URL in it, by EchoStream's clock; zero if there is none
}

// stale reports whether the URL in the message will soon be of no use: its readers may need days.
func (p *payload) stale(now time.Time) bool {
	return !p.expires.IsZero() && p.expires.Sub(now) < p.expires.Sub(p.made)/2
}

var errNoDefinition = errors.New("the node's definition was not read from EchoStream since the start")

// ready says why nothing can be delivered now, as far as that is known.
func (d *deliverer) ready() error {
	s := d.state.Load()
	switch {
	case !s.read():
		return errNoDefinition
	case s.definition.Stopped:
		return errors.New("the node is stopped")
	case len(s.definition.Targets) == 0:
		return errors.New("the node has no edge")
	}
	if err := d.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// waits reports whether devices wait for EchoStream, and cannot be served without it.
func (d *deliverer) waits() bool {
	s := d.state.Load()
	return s != nil && s.waits
}

// came notes how a call to EchoStream's services came out. That it refuses one entry for good is no trouble.
func (d *deliverer) came(err error) {
	if err == nil || echostream.IsPermanent(err) {
		d.trouble.Store(nil)
		return
	}
	d.trouble.Store(&err)
	d.outdated() // is it the cloud that is away? When the definition can be read again, what waits is tried at once
}

// Targets implements outbox.Deliverer. A node that is stopped, or has not read its definition yet, has none.
func (d *deliverer) Targets() []string {
	s := d.state.Load()
	if !s.read() || s.definition.Stopped {
		return nil
	}
	names := make([]string, len(s.definition.Targets))
	for i, edge := range s.definition.Targets {
		names[i] = edge.Name
	}
	return names
}

// Identity tells edges of outbox.Deliverer apart by their queues: one that is drawn anew between the same nodes has another queue, and one that is moved
// to another node keeps its queue.
func (d *deliverer) Identity(target string) string {
	queue, ok := d.state.Load().queue(target)
	if !ok {
		return ""
	}
	sum := sha256.Sum256([]byte(queue))
	return hex.EncodeToString(sum[:8])
}

// Prepare implements outbox.Deliverer.
func (d *deliverer) Prepare(ctx context.Context, e outbox.Entry, open func() (disk.File, error)) (any, error) {
	s := d.state.Load()
	if !s.read() {
		return nil, errNoDefinition
	}
	m, err := s.compose(ctx, e, open)
	if ctx.Err() == nil {
		d.persons.Store("", err != nil && !echostream.IsPermanent(err) && echostream.NeedsOperator(err))
	}
	if err != nil {
		return nil, err
	}
	return &payload{
		Message:    echostream.Message{TrackingID: e.ID, Body: m.Body, Group: groupOf(s.definition.Name, e.Lane)},
		attributes: m.Attributes, made: m.Made, expires: m.Expires,
	}, nil
}

// groupOf is the message group of a lane: SQS keeps the order within a group, and blocks the rest of it while one of its messages
// is worked on. "" is the node's own group.
func groupOf(node, lane string) string {
	if lane == "" {
		return ""
	}
	return node + " " + lane
}

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
	for i, prepared := range batch {
		p, ok := prepared.Payload.(*payload)
		if !ok || p.stale(d.cloud.Now()) {
			// What comes after it in its lane would overtake it.
			for j := i; j < len(batch); j++ {
				errs[j] = errors.New("not tried, since one before it must be prepared anew")
			}
			errs[i] = staleError{}
			break
		}
		messages = append(messages, p.Message)
	}
	if len(messages) == 0 {
		return errs
	}
	var failed error
	for i, err := range d.cloud.Send(ctx, s.definition, queue, messages) {
		errs[i] = err
		if err != nil && !echostream.IsPermanent(err) {
			failed = err
		}
	}
	if ctx.Err() == nil {
		d.persons.Store(target, echostream.NeedsOperator(failed))
		d.came(failed)
	}
	return errs
}

// needsPerson reports whether only a person can end what keeps entries from the target.
func (d *deliverer) needsPerson(target string) bool {
	for _, of := range []string{"", target} {
		if needs, ok := d.persons.Load(of); ok && needs.(bool) {
			return true
		}
	}
	return false
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
	if !s.definition.Audit {
		return errs
	}
	var records []echostream.AuditRecord
	var at []int // where in the batch they stand
	for i, prepared := range batch {
		var attributes map[string]any
		if p, ok := prepared.Payload.(*payload); ok {
			attributes = p.attributes
		} else if attributes, errs[i] = s.attributes(ctx, prepared.Entry, prepared.Open); errs[i] != nil {
			continue // one that cannot be read now must not keep the others here
		}
		records = append(records, echostream.AuditRecord{TrackingID: prepared.Entry.ID, DateTime: d.cloud.Now(), Attributes: attributes})
		at = append(at, i)
	}
	if len(records) == 0 {
		return errs
	}
	messageType := s.messageType
	if t := s.definition.SendMessageType; t != nil {
		messageType = t.Name
	}
	for n, err := range d.cloud.Audit(ctx, s.definition, messageType, records) {
		errs[at[n]] = err
	}
	return errs
}
