package echostream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

const (
	defaultRefresh    = 10 * time.Minute
	defaultVisibility = 30 * time.Second
	maxVisibility     = 12 * time.Hour // SQS's
	defaultGrace      = 5 * time.Second
	// finishTime is what deletes, hand-backs and audit records may take when the grace is over.
	finishTime = 3 * time.Second
	// rereadPause bounds how often the definition is read because an edge is gone.
	rereadPause = 2 * time.Second
)

// Handler handles one message. A nil error acknowledges it: it is deleted from the queue, audited if the tenant audits,
// and does not come again. So what must not be lost has to be durable when the handler returns nil.
//
// After any other error the message comes again when its visibility timeout is over, and until then nothing of its group does.
// If the edge has a maxReceiveCount, it moves to the dead-letter queue in the end. After an error that [IsPermanent],
// ReceiveOptions.SetAside is asked first. A panic counts as an error that is not permanent.
//
// A handler may take its time: the message stays hidden from others meanwhile. ctx ends with the grace after Receive's context.
//
// A message can come more than once: after a crash between the handler's return and the delete, or if somebody else receives from
// the same queue. A handler that must not do a thing twice knows a message by its Source and ID, not by its tracking id: that is
// the same in each message that a node sends on several ways.
type Handler func(ctx context.Context, m ReceivedMessage) error

// ReceivedMessage is a message from one of the node's sources. It does not print its body, which may hold URLs that are
// secret.
//
// The embedded Message is what was sent, as far as it was anything that a node sends. If there was no tracking id, it has one
// that is made of ID. PrevTrackingIDs are none if they could not be read. The body is never checked, nor its size.
type ReceivedMessage struct {
	Message
	// Source is the node that sent it, by the newest definition.
	Source string
	// Type is the name of the node's ReceiveMessageType. EchoStream does not enforce it.
	Type string
	// ID is SQS's message id: that of one message on one edge, and the same each time that it comes.
	ID string
	// Receives is how many times it was received so far, this time included. It is approximate, and 0 if it is not known.
	Receives int
	// Sent is when SQS took it; zero if it is not known.
	Sent time.Time
}

// String names the message without its body.
func (m ReceivedMessage) String() string {
	return fmt.Sprintf("message %s of %d bytes from %q", m.TrackingID, len(m.Body), m.Source)
}

// GoString is String, as a type's.
func (m ReceivedMessage) GoString() string { return "echostream.ReceivedMessage{" + m.String() + "}" }

// LogValue shows what the message is known by, and not the body.
func (m ReceivedMessage) LogValue() slog.Value {
	return slog.GroupValue(slog.String("trackingId", m.TrackingID), slog.String("source", m.Source), slog.String("group", m.Group),
		slog.String("type", m.Type), slog.String("id", m.ID), slog.Int("receives", m.Receives), slog.Int("bytes", len(m.Body)))
}

// ReceiveOptions of [Client.Receive]. The zero value works.
type ReceiveOptions struct {
	// Concurrency is how many messages of an edge are handled at a time, each of another group; more are not asked for
	// meanwhile. By default, 1: one message of an edge after the other.
	Concurrency int
	// Visibility is how long SQS hides a message that was received, in whole seconds up to 12 h. It is renewed at half of it, for
	// as long as the message is held. Where the node may not renew it, choose more than the slowest handler takes. By
	// default, 30 s.
	Visibility time.Duration
	// Grace is how long handlers may go on when Receive's context has ended; then theirs ends. Up to 3 s more are for what has
	// to be told to EchoStream. By default, 5 s.
	Grace time.Duration
	// SetAside gets a message that the handler refused with a permanent error, and that error. If it returns nil, the message is
	// deleted: it is wherever SetAside put it. Else it comes again. It may wait, as a handler may. By default, the error is
	// logged, and the message comes again until the edge's maxReceiveCount sets it aside.
	SetAside func(ctx context.Context, m ReceivedMessage, err error) error
	// Auditors tell what the audit record of a message holds, by message type. They win over [AuditFile] and [AuditText], which are
	// there for echo.file and echo.text. Records of other types have no attributes.
	Auditors map[string]Auditor
	// Definitions gives the node's definition, and each newer one. Nothing is received by a kept one ([Definition].Kept): it is passed
	// over. By default, Receive reads it: at the start, every Refresh, and when an edge turns out to be gone.
	Definitions <-chan *Definition
	// Outdated is called when an edge turns out to be gone, so that Definitions gives a newer one. It must not block. By default, nobody
	// is told.
	Outdated func()
	// Refresh is by default 10 min.
	Refresh time.Duration
}

func (o ReceiveOptions) withDefaults() (ReceiveOptions, error) {
	if o.Concurrency == 0 {
		o.Concurrency = 1
	}
	if o.Visibility == 0 {
		o.Visibility = defaultVisibility
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	if o.Refresh == 0 {
		o.Refresh = defaultRefresh
	}
	switch {
	case o.Concurrency < 0:
		return o, fmt.Errorf("option Concurrency is %d, expected 1 or more", o.Concurrency)
	case o.Visibility < time.Second || o.Visibility > maxVisibility || o.Visibility%time.Second != 0:
		return o, fmt.Errorf("option Visibility is %s, expected whole seconds from 1s to 12h", o.Visibility)
	case o.Grace < 0:
		return o, fmt.Errorf("option Grace is %s, expected 0 or more", o.Grace)
	case o.Refresh < 0:
		return o, fmt.Errorf("option Refresh is %s, expected 0 or more", o.Refresh)
	}
	return o, nil
}

// Receive hands the messages of all the node's sources to h until ctx ends. Each edge is received from apart: messages of one
// group come strictly in order, one at a time; h is called for several edges at once. While the node is stopped nothing is
// received. New, moved, removed and reopened edges are followed.
//
// What fails is logged and tried again, for ever: an edge that is gone, a cloud that cannot be reached. When ctx ends, nothing more
// is asked for, messages that no handler has begun are handed back, handlers get ReceiveOptions.Grace, and what they have done is
// acknowledged and audited. Nothing is left running when Receive returns, so that it waits for a handler that ignores its
// context.
//
// Audit records wait in memory until they are taken, at most 10,000 before no more messages are asked for. The error tells of
// those that were not taken before Receive had to return, or of options that make no sense; else it is nil.
func (c *Client) Receive(ctx context.Context, opts ReceiveOptions, h Handler) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return fmt.Errorf("receiving: %w", err)
	}
	if h == nil {
		return errors.New("receiving: there is no handler")
	}
	handling, endHandling := context.WithCancel(context.WithoutCancel(ctx))
	defer endHandling()
	calls, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	r := &receiver{
		client: c, opts: opts, handler: h, log: c.log, handling: handling, calls: calls,
		gone: make(chan struct{}, 1), edges: map[string]*inbound{},
	}
	r.audit = newAuditTrail(r)
	var auditing sync.WaitGroup
	auditing.Go(func() { r.audit.run(calls) })

	r.follow(ctx)

	defer time.AfterFunc(opts.Grace, endHandling).Stop()
	defer time.AfterFunc(opts.Grace+finishTime, endCalls).Stop()
	r.running.Wait()
	r.audit.finish()
	auditing.Wait()
	if left := r.audit.len(); left > 0 {
		return fmt.Errorf("receiving: %d audit records of messages that were handled were not sent before the end", left)
	}
	return nil
}

// receiver is one call of Receive. The goroutine of Receive owns edges; the rest may be read by all.
type receiver struct {
	client  *Client
	opts    ReceiveOptions
	handler Handler
	log     *slog.Logger
	// handling is the handlers' context, calls that of what must still be said when Receive's own has ended.
	handling, calls context.Context
	audit           *auditTrail
	node            atomic.Pointer[Definition] // the newest definition
	gone            chan struct{}              // an edge is gone

	edges   map[string]*inbound // by queue URL
	running sync.WaitGroup
}

// follow keeps the edges what the newest definition says, until ctx ends.
func (r *receiver) follow(ctx context.Context) {
	if r.opts.Definitions == nil {
		r.read(ctx)
		return
	}
	for {
		select {
		case node, ok := <-r.opts.Definitions:
			if !ok {
				<-ctx.Done()
				return
			}
			if node != nil && !node.Kept {
				r.reconcile(ctx, node)
			}
		case <-ctx.Done():
			return
		}
	}
}

// read is follow for those who have no definition at hand.
func (r *receiver) read(ctx context.Context) {
	var trouble retry.Trouble
	for {
		begun := time.Now()
		node, err := r.client.Definition(ctx)
		pause := r.opts.Refresh
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			trouble.Hit(begun, retry.LevelOf(err), "the node's definition cannot be read, the last one counts", err).To(r.log)
			pause = min(pause, retry.Backoff(trouble.Failures(), time.Second, 30*time.Second))
		default:
			trouble.Over(begun, "the node's definition can be read again").To(r.log)
			r.reconcile(ctx, node)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-r.gone:
			timer.Reset(time.Until(begun.Add(min(pause, rereadPause))))
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// reread asks for a newer definition.
func (r *receiver) reread() {
	if r.opts.Outdated != nil {
		r.opts.Outdated()
	}
	select {
	case r.gone <- struct{}{}:
	default:
	}
}

// reconcile starts, renames and stops edges as node says.
func (r *receiver) reconcile(ctx context.Context, node *Definition) {
	r.node.Store(node)
	sources := map[string]string{}
	if !node.Stopped {
		for _, s := range node.Sources {
			sources[s.Queue] = s.Name
		}
	}
	for queue, e := range r.edges {
		if _, ok := sources[queue]; ok {
			continue
		}
		if e.ctx.Err() == nil {
			r.log.InfoContext(ctx, "no longer receiving from an edge", "source", e.sourceName(), "stopped", node.Stopped)
		}
		e.cancel()
		if e.forgettable() {
			delete(r.edges, queue)
		}
	}
	for _, queue := range slices.Sorted(maps.Keys(sources)) {
		source, e := sources[queue], r.edges[queue]
		if e != nil && e.ctx.Err() == nil {
			if was := e.sourceName(); was != source {
				r.log.InfoContext(ctx, "an edge has another source", "source", source, "was", was)
				e.source.Store(&source)
			}
			continue
		}
		r.log.InfoContext(ctx, "receiving from an edge", "source", source)
		e = newInbound(ctx, r, queue, source, e)
		r.edges[queue] = e
		r.running.Go(e.run)
	}
}

// handle calls the handler.
func (r *receiver) handle(m ReceivedMessage) (err error) {
	defer recovered("the handler", &err)
	return r.handler(r.handling, m)
}

// setAside calls the hook.
func (r *receiver) setAside(m ReceivedMessage, cause error) (err error) {
	defer recovered("SetAside", &err)
	return r.opts.SetAside(r.handling, m, cause)
}
