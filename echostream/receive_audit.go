package echostream

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// maxAuditBacklog is how many records may wait before no more messages are asked for.
const maxAuditBacklog = 10_000

// Auditor tells what the audit record of a message holds, as the Python auditor of the message's type would: strings, numbers,
// booleans and nil by name. EchoStream makes columns of them, so that a name must stand for one kind of value for ever: what a
// message lacks, or has of another kind, is left out.
type Auditor func(m ReceivedMessage) map[string]any

// AuditFile is the [Auditor] of echo.file: content_length, content_type, modification_datetime and name.
func AuditFile(m ReceivedMessage) map[string]any {
	var file map[string]json.RawMessage
	if json.Unmarshal([]byte(m.Body), &file) != nil {
		return nil
	}
	attributes := map[string]any{}
	var length *int64
	if json.Unmarshal(file["contentLength"], &length) == nil && length != nil {
		attributes["content_length"] = *length
	}
	for key, name := range map[string]string{
		"contentType": "content_type", "modificationDateTime": "modification_datetime", "name": "name",
	} {
		var text *string
		if json.Unmarshal(file[key], &text) == nil && text != nil {
			attributes[name] = *text
		}
	}
	return attributes
}

// AuditText is the [Auditor] of echo.text: nothing. (What EchoStream's own takes from a text is not published; a tenant can read
// it in its message type library.)
func AuditText(ReceivedMessage) map[string]any { return nil }

func (r *receiver) auditor(messageType string) Auditor {
	if a := r.opts.Auditors[messageType]; a != nil {
		return a
	}
	switch messageType {
	case "echo.file":
		return AuditFile
	case "echo.text":
		return AuditText
	}
	return func(ReceivedMessage) map[string]any { return nil }
}

// auditTrail sends the audit records of what was handled, in order. What fails is tried again and holds up nothing, until too many
// wait.
type auditTrail struct {
	r    *receiver
	more chan struct{}
	last chan struct{} // closed when no more come

	mu      sync.Mutex
	waiting []audited
	room    chan struct{} // closed when there is room again; nil while there is
}

type audited struct {
	messageType string
	AuditRecord
}

func newAuditTrail(r *receiver) *auditTrail {
	return &auditTrail{r: r, more: make(chan struct{}, 1), last: make(chan struct{})}
}

// add makes the record of a message that was handled just now, if the tenant audits.
func (a *auditTrail) add(m ReceivedMessage) {
	if !a.r.node.Load().Audit {
		return
	}
	if m.Type == "" {
		a.r.log.Warn("a message cannot be audited: the node has no receiveMessageType", "source", m.Source, "trackingId", m.TrackingID)
		return
	}
	record := AuditRecord{
		TrackingID: m.TrackingID, PrevTrackingIDs: m.PrevTrackingIDs, SourceNode: m.Source,
		DateTime: a.r.client.Now(), Attributes: a.attributes(m),
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, audited{m.Type, record})
	if len(a.waiting) >= maxAuditBacklog && a.room == nil {
		a.room = make(chan struct{})
	}
	signal(a.more)
}

func (a *auditTrail) attributes(m ReceivedMessage) (attributes map[string]any) {
	var err error
	defer func() {
		if err != nil {
			a.r.log.Error("an auditor failed, the record has no attributes", "type", m.Type, "trackingId", m.TrackingID, "error", err)
		}
	}()
	defer recovered("the auditor", &err)
	return a.r.auditor(m.Type)(m)
}

// full is nil if there is room for more records, else it is closed when there is.
func (a *auditTrail) full() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.room
}

func (a *auditTrail) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

// finish says that no more come.
func (a *auditTrail) finish() { close(a.last) }

// run sends records until no more come and none is left, or ctx ends.
func (a *auditTrail) run(ctx context.Context) {
	var trouble retry.Trouble
	for ctx.Err() == nil {
		messageType, records := a.front()
		if len(records) == 0 {
			select {
			case <-a.more:
				continue
			case <-a.last:
			}
			if messageType, records = a.front(); len(records) == 0 {
				return
			}
		}
		errs := a.r.client.Audit(ctx, a.r.node.Load(), messageType, records)
		done := len(errs)
		for i, err := range errs {
			if err != nil && !IsPermanent(err) {
				done = i
				break
			}
			if err != nil {
				a.r.log.Error("an audit record was refused for good", "trackingId", records[i].TrackingID, "error", err)
			}
		}
		a.remove(done)
		if done == len(records) {
			trouble.Over(time.Now(), "audit records are taken again").To(a.r.log)
			continue
		}
		trouble.Hit(time.Now(), retry.LevelOf(errs[done]), "audit records are not taken, they wait", errs[done], "waiting", a.len()).To(a.r.log)
		retry.Sleep(ctx, retry.Backoff(trouble.Failures(), 500*time.Millisecond, time.Minute))
	}
}

// front gives the first records, those of one message type.
func (a *auditTrail) front() (messageType string, records []AuditRecord) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.waiting[:min(len(a.waiting), maxAuditRecords)] {
		if len(records) > 0 && w.messageType != messageType {
			break
		}
		messageType, records = w.messageType, append(records, w.AuditRecord)
	}
	return messageType, records
}

func (a *auditTrail) remove(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = slices.Delete(a.waiting, 0, n)
	if a.room != nil && len(a.waiting) < maxAuditBacklog/2 {
		close(a.room)
		a.room = nil
	}
}
