package echotest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Received is a message that an edge accepted.
type Received struct {
	Edge   string // the target's name
	Source string // the source's name

	MessageID       string
	SequenceNumber  string
	TrackingID      string            // of the attribute trackingId
	PrevTrackingIDs []string          // of the attribute prevTrackingIds
	Attributes      map[string]string // all attributes
	GroupID         string
	DedupID         string // the sender's, or the SHA-256 of the body
	Body            string // "" with Options.DropBodies, but in OnMessage
	Size            int    // bytes, as SQS counts them: body and attributes
	Sent            time.Time
	Duplicates      int // copies that were suppressed so far
}

// EdgeStats counts what happened on an edge.
type EdgeStats struct {
	Messages   int // accepted
	Duplicates int // suppressed by deduplication
	Bytes      int64
}

// edgeLog is all that an edge ever accepted. It outlives the edge. Its fields are guarded by Cloud.mu.
type edgeLog struct {
	source, target string
	messages       []*Received
	dead           []string // message ids
	stats          EdgeStats
}

// record notes an accepted message and tells OnMessage. The queue's sending is held.
func (c *Cloud) record(log *edgeLog, m sqsMessage, a accepted, now time.Time) *Received {
	c.mu.Lock()
	source := log.source
	c.mu.Unlock()
	r := Received{
		Edge: log.target, Source: source,
		MessageID: a.messageID, SequenceNumber: a.sequence,
		GroupID: m.groupID, DedupID: m.dedupID, Body: m.body, Size: m.size(), Sent: now,
		Attributes: make(map[string]string, len(m.attributes)),
	}
	for name, v := range m.attributes {
		r.Attributes[name] = v.value()
	}
	r.TrackingID = r.Attributes["trackingId"]
	if s := r.Attributes["prevTrackingIds"]; s != "" {
		_ = json.Unmarshal([]byte(s), &r.PrevTrackingIDs) // what is no list stays in Attributes
	}
	kept := r
	if c.opts.DropBodies {
		kept.Body = ""
	}
	c.mu.Lock()
	log.messages = append(log.messages, &kept)
	log.stats.Messages++
	log.stats.Bytes += int64(r.Size)
	c.mu.Unlock()
	if c.opts.OnMessage != nil {
		c.opts.OnMessage(r)
	}
	c.mu.Lock()
	c.arrived()
	c.mu.Unlock()
	return &kept
}

func (c *Cloud) duplicate(log *edgeLog, r *Received) {
	c.mu.Lock()
	log.stats.Duplicates++
	r.Duplicates++
	copied := *r
	c.mu.Unlock()
	if c.opts.OnDuplicate != nil {
		c.opts.OnDuplicate(copied)
	}
}

// deadLetter notes a message that was received too often. The queue's mu is held.
func (c *Cloud) deadLetter(log *edgeLog, m *queued) {
	c.mu.Lock()
	defer c.mu.Unlock()
	log.dead = append(log.dead, m.messageID)
}

// SetMaxReceiveCount makes an edge set a message aside that was received n times and is to be received once more: it then
// is one of DeadLetters. 0 is no limit, as at first. edge is named as for Messages.
func (c *Cloud) SetMaxReceiveCount(edge string, n int) {
	q := c.queueOf(edge)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.redrive = n
}

// DeadLetters returns what an edge set aside, in the order in which it did. edge is named as for Messages.
func (c *Cloud) DeadLetters(edge string) []Received {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.logOf(edge)
	if log == nil {
		return nil
	}
	var out []Received
	for _, id := range log.dead {
		for _, r := range log.messages {
			if r.MessageID == id {
				out = append(out, *r)
			}
		}
	}
	return out
}

// Waiting counts the messages in an edge's queue now: those that can be received, and those that somebody received and
// has not deleted, until they are visible again. edge is named as for Messages.
func (c *Cloud) Waiting(edge string) (visible, inFlight int) { return c.queueOf(edge).counts() }

// queueOf panics if there is no such edge: a test that asks so is wrong.
func (c *Cloud) queueOf(edge string) *queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.logOf(edge)
	for _, e := range c.edges {
		if log != nil && e.queue.log == log {
			return e.queue
		}
	}
	panic(fmt.Sprintf("echotest: no edge %q", edge))
}

// Messages returns what an edge accepted so far, in order, duplicates left out; after a RemoveEdge and AddEdge of the
// same nodes, all of it. edge is a target's name or "source>target"; "" is the only edge there is. It panics if several
// edges could be meant.
func (c *Cloud) Messages(edge string) []Received {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.messages(edge)
}

func (c *Cloud) messages(edge string) []Received {
	log := c.logOf(edge)
	if log == nil {
		return nil
	}
	out := make([]Received, len(log.messages))
	for i, r := range log.messages {
		out[i] = *r
	}
	return out
}

// logOf panics if more than one edge could be meant: a test that asks so is wrong.
func (c *Cloud) logOf(edge string) *edgeLog {
	if edge == "" {
		if len(c.logs) > 1 {
			panic("echotest: there are several edges, name one")
		}
		for _, log := range c.logs {
			return log
		}
		return nil
	}
	keys := c.edgeKeys(edge)
	if len(keys) == 0 {
		return nil
	}
	if len(keys) > 1 {
		panic(fmt.Sprintf("echotest: several edges lead to %q: %v", edge, keys))
	}
	return c.logs[keys[0]]
}

// EdgeStats counts what happened on an edge, named as for Messages.
func (c *Cloud) EdgeStats(edge string) EdgeStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if log := c.logOf(edge); log != nil {
		return log.stats
	}
	return EdgeStats{}
}

// WaitMessages waits until an edge has accepted n messages or more and gives all of them; or what there is, and an
// error, when ctx ends.
func (c *Cloud) WaitMessages(ctx context.Context, edge string, n int) ([]Received, error) {
	for {
		c.mu.Lock()
		have, arrival := 0, c.arrival
		if log := c.logOf(edge); log != nil {
			have = len(log.messages)
		}
		if have >= n {
			defer c.mu.Unlock()
			return c.messages(edge), nil
		}
		c.mu.Unlock()
		select {
		case <-arrival:
		case <-ctx.Done():
			return c.Messages(edge), fmt.Errorf("echotest: %d of %d messages on %q: %w", have, n, edge, context.Cause(ctx))
		}
	}
}

// Forget drops the messages that were recorded, of all edges, and the audit records: for long runs.
func (c *Cloud) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, log := range c.logs {
		log.messages = nil
	}
	c.audits = nil
}

// Put sends a message to a node as its source does: for nodes that receive. trackingID "" makes a new one; one that was
// put a moment ago is a duplicate, and Put gives the first message. It panics if there is no such edge, or if SQS would
// refuse the message.
func (c *Cloud) Put(source, target, body, trackingID string) Received {
	if trackingID == "" {
		trackingID = randomHex(16)
	}
	return c.put(source, target, Raw{Body: body, Attributes: map[string]string{"trackingId": trackingID}, DedupID: trackingID}.message(source), true)
}

// Raw is a message that need not be what a node would send.
type Raw struct {
	Body       string
	Attributes map[string]string // of the type String. By default, none.
	GroupID    string            // By default, the source's.
	DedupID    string            // By default, a random one.
}

func (r Raw) message(source string) sqsMessage {
	m := sqsMessage{body: r.Body, groupID: r.GroupID, dedupID: r.DedupID, attributes: make(map[string]attribute, len(r.Attributes))}
	if m.groupID == "" {
		m.groupID = groupID(source)
	}
	if m.dedupID == "" {
		m.dedupID = randomHex(16)
	}
	for name, value := range r.Attributes {
		m.attributes[name] = attribute{DataType: "String", StringValue: &value}
	}
	return m
}

// PutRaw is Put for any message whatever, also one that SQS would refuse, such as one that is too long.
func (c *Cloud) PutRaw(source, target string, m Raw) Received {
	return c.put(source, target, m.message(source), false)
}

func (c *Cloud) put(source, target string, m sqsMessage, checked bool) Received {
	c.mu.Lock()
	e, ok := c.edges[edgeName(source, target)]
	c.mu.Unlock()
	if !ok {
		panic(fmt.Sprintf("echotest: no edge %q", edgeName(source, target)))
	}
	if err := m.check(); checked && err != nil {
		panic("echotest: put: " + err.message)
	}
	_, r := e.queue.send(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	return *r
}

// groupID is the MessageGroupId that a node uses.
func groupID(node string) string { return strings.ReplaceAll(node, " ", "_") }
