package echotest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// SQS over its own protocol, AWS JSON 1.0, with the x-amzn-query-error header that tells SDKs the older codes.

const sqsTarget = "AmazonSQS."

// sqsRequest is the input of every operation of ours.
type sqsRequest struct {
	QueueURL string `json:"QueueUrl"`
	sendEntry
	Entries []batchEntry

	MaxNumberOfMessages         *int
	WaitTimeSeconds             *int
	VisibilityTimeout           *int
	ReceiptHandle               string
	ReceiveRequestAttemptID     string `json:"ReceiveRequestAttemptId"`
	AttributeNames              []string
	MessageSystemAttributeNames []string
	MessageAttributeNames       []string
}

type sendEntry struct {
	MessageBody            text
	MessageAttributes      map[string]attribute
	MessageGroupID         string `json:"MessageGroupId"`
	MessageDeduplicationID string `json:"MessageDeduplicationId"`
	DelaySeconds           *int
}

type batchEntry struct {
	ID string `json:"Id"`
	sendEntry
	ReceiptHandle     string
	VisibilityTimeout *int
}

type sendResult struct {
	ID                     string `json:"Id,omitempty"`
	MD5OfMessageBody       string
	MD5OfMessageAttributes string `json:",omitempty"`
	MessageID              string `json:"MessageId"`
	SequenceNumber         string
}

type batchFailure struct {
	ID          string `json:"Id"`
	SenderFault bool
	Code        string
	Message     string
}

type receivedMessage struct {
	MessageID              string `json:"MessageId"`
	ReceiptHandle          string
	MD5OfBody              string
	Body                   string
	Attributes             map[string]string    `json:",omitempty"`
	MD5OfMessageAttributes string               `json:",omitempty"`
	MessageAttributes      map[string]attribute `json:",omitempty"`
}

func (e sendEntry) message() sqsMessage {
	return sqsMessage{body: string(e.MessageBody), attributes: e.MessageAttributes, groupID: e.MessageGroupID, dedupID: e.MessageDeduplicationID}
}

func (e sendEntry) check() *sqsError {
	if e.DelaySeconds != nil && *e.DelaySeconds != 0 {
		return invalid(fmt.Sprintf("Value %d for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type.", *e.DelaySeconds))
	}
	return e.message().check()
}

func (c *Cloud) serveSQS(w http.ResponseWriter, r *http.Request, op string) {
	body, err := readBody(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var in sqsRequest
	jsonErr := json.Unmarshal(body, &in)
	edge := c.edgeOf(in.QueueURL)
	name := ""
	if edge != nil {
		name = edgeName(edge.source, edge.target)
	}
	c.handle(w, r, SQS, op, name, func(w http.ResponseWriter, e effect) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.Header().Set("X-Amzn-Requestid", randomID())
		out, err := any(nil), c.admitSQS(r, body, op, edge, e)
		if err == nil && jsonErr != nil {
			err = &sqsError{code: "SerializationException", message: "The body is not the operation's JSON."}
		}
		if err == nil {
			out, err = c.answerSQS(r, op, in, edge, e)
		}
		if err == nil {
			writeJSON(w, http.StatusOK, out)
			return
		}
		err.write(w)
	})
}

// readBody reads a request's body, of maxRequest bytes at most.
func readBody(r *http.Request) ([]byte, error) {
	body := bytes.NewBuffer(make([]byte, 0, max(0, min(r.ContentLength, maxRequest))+bytes.MinRead))
	_, err := body.ReadFrom(io.LimitReader(r.Body, maxRequest))
	return body.Bytes(), err
}

// text is a long string. encoding/json looks at each of its bytes to undo what is escaped.
type text string

// UnmarshalJSON implements json.Unmarshaler. What it gets is valid.
func (t *text) UnmarshalJSON(quoted []byte) error {
	if len(quoted) < 2 || quoted[0] != '"' || !utf8.Valid(quoted) {
		return json.Unmarshal(quoted, (*string)(t))
	}
	rest := quoted[1 : len(quoted)-1]
	var plain strings.Builder
	plain.Grow(len(rest))
	for {
		before, after, escaped := bytes.Cut(rest, []byte{'\\'})
		plain.Write(before)
		if !escaped {
			*t = text(plain.String())
			return nil
		}
		switch after[0] {
		case '"', '\\', '/':
			plain.WriteByte(after[0])
			rest = after[1:]
		default:
			return json.Unmarshal(quoted, (*string)(t))
		}
	}
}

func (e *sqsError) write(w http.ResponseWriter) {
	status, fault := e.status, "Sender"
	if status == 0 {
		status = http.StatusBadRequest
	}
	if status >= 500 {
		fault = "Receiver"
	}
	kind := "com.amazon.coral.service#" + e.code
	if e.shape != "" {
		kind = "com.amazonaws.sqs#" + e.shape
	}
	w.Header().Set("X-Amzn-Query-Error", e.code+";"+fault)
	writeJSON(w, status, map[string]string{"__type": kind, "message": e.message})
}

func errNoQueue() *sqsError {
	return &sqsError{shape: "QueueDoesNotExist", code: "AWS.SimpleQueueService.NonExistentQueue", message: "The specified queue does not exist."}
}

func errDenied(action string) *sqsError {
	return &sqsError{code: "AccessDenied", message: "Access to the resource " + action + " is denied.", status: http.StatusForbidden}
}

// edgeOf finds the edge by its queue's URL; host and port do not matter, as they do not to SQS.
func (c *Cloud) edgeOf(queueURL string) *edge {
	u, err := url.Parse(queueURL)
	if err != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queues[u.Path]
}

// admitSQS checks who asks, and applies the faults that refuse.
func (c *Cloud) admitSQS(r *http.Request, body []byte, op string, e *edge, f effect) *sqsError {
	switch f.refuse {
	case ServerError:
		code, message := "InternalFailure", "The request processing has failed because of an unknown error, exception or failure."
		if f.status == http.StatusServiceUnavailable {
			code, message = "ServiceUnavailable", "The request has failed due to a temporary failure of the server."
		}
		return &sqsError{code: code, message: message, status: f.status}
	case Throttled:
		return &sqsError{shape: "RequestThrottled", code: "RequestThrottled", message: "Rate exceeded", status: http.StatusForbidden}
	case ExpiredCredentials:
		return &sqsError{code: errExpiredToken.code, message: errExpiredToken.message, status: http.StatusForbidden}
	case KMS:
		return &sqsError{shape: "KmsDisabled", code: "KMS.DisabledException", message: "The key of the queue is disabled."}
	case EdgeRemoved:
		return errNoQueue()
	case Denied:
		return errDenied(r.URL.Path)
	}
	v, err := c.verifyHeader(r, body, "sqs", c.opts.Tenant.Region)
	if err != nil {
		return &sqsError{code: err.code, message: err.message, status: http.StatusForbidden}
	}
	if e != nil && !c.mayUse(v, op, e) {
		return errDenied(e.queue.url)
	}
	return nil
}

// mayUse reports whether credentials may do op on an edge: an app's if the end that it takes is one of its nodes and they
// were made after it, the machine's if that end is a node of a CrossAccountApp.
func (c *Cloud) mayUse(v vended, op string, e *edge) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.app != "" && v.edges < e.number {
		return false
	}
	switch op {
	case "SendMessage", "SendMessageBatch":
		return c.actsFor(v, e.source)
	case "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch", "ChangeMessageVisibility", "ChangeMessageVisibilityBatch":
		return c.actsFor(v, e.target)
	}
	return c.actsFor(v, e.source) || c.actsFor(v, e.target)
}

// actsFor reports whether credentials are those that a node reaches its queues with. The caller holds c.mu.
func (c *Cloud) actsFor(v vended, name string) bool {
	n, ok := c.nodes[name]
	if ok && c.apps[n.App].Kind == CrossAccountApp {
		return v.app == ""
	}
	return ok && v.app == n.App
}

func (c *Cloud) answerSQS(r *http.Request, op string, in sqsRequest, e *edge, f effect) (any, *sqsError) {
	if in.QueueURL == "" {
		return nil, missing("QueueUrl")
	}
	if e == nil {
		return nil, errNoQueue()
	}
	q := e.queue
	switch op {
	case "SendMessage":
		if err := in.sendEntry.check(); err != nil {
			return nil, err
		}
		return q.accept("", in.message()), nil
	case "SendMessageBatch":
		return q.acceptBatch(in.Entries, f)
	case "ReceiveMessage":
		return c.receive(r, q, in)
	case "DeleteMessage":
		if !q.delete(in.ReceiptHandle) {
			return nil, errReceipt(in.ReceiptHandle)
		}
		return struct{}{}, nil
	case "DeleteMessageBatch":
		return eachEntry(in.Entries, f, func(b batchEntry) bool { return q.delete(b.ReceiptHandle) })
	case "ChangeMessageVisibility":
		d, err := visibility(in.VisibilityTimeout)
		if err != nil {
			return nil, err
		}
		if !q.changeVisibility(in.ReceiptHandle, d) {
			return nil, errReceipt(in.ReceiptHandle)
		}
		return struct{}{}, nil
	case "ChangeMessageVisibilityBatch":
		return eachEntry(in.Entries, f, func(b batchEntry) bool {
			d, err := visibility(b.VisibilityTimeout)
			return err == nil && q.changeVisibility(b.ReceiptHandle, d)
		})
	case "GetQueueAttributes":
		return map[string]any{"Attributes": q.attributes(c.opts.Tenant.Region, in.AttributeNames)}, nil
	default:
		return nil, &sqsError{shape: "UnsupportedOperation", code: "AWS.SimpleQueueService.UnsupportedOperation", message: "No operation " + op}
	}
}

func errReceipt(string) *sqsError {
	return &sqsError{shape: "ReceiptHandleIsInvalid", code: "ReceiptHandleIsInvalid",
		message: "The input receipt handle is invalid, or it has expired."}
}

func (q *queue) accept(id string, m sqsMessage) sendResult {
	a, _ := q.send(m)
	return sendResult{
		ID: id, MD5OfMessageBody: md5Hex(m.body), MD5OfMessageAttributes: attributesMD5(m.attributes),
		MessageID: a.messageID, SequenceNumber: a.sequence,
	}
}

var entryIDPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

func checkBatch(entries []batchEntry) *sqsError {
	const prefix = "AWS.SimpleQueueService."
	switch {
	case len(entries) == 0:
		return &sqsError{shape: "EmptyBatchRequest", code: prefix + "EmptyBatchRequest", message: "There should be at least one entry in the request."}
	case len(entries) > maxBatch:
		return &sqsError{shape: "TooManyEntriesInBatchRequest", code: prefix + "TooManyEntriesInBatchRequest",
			message: fmt.Sprintf("Maximum number of entries per request are %d. You have sent %d.", maxBatch, len(entries))}
	}
	seen := make(map[string]bool, len(entries))
	for _, b := range entries {
		if !entryIDPattern.MatchString(b.ID) {
			return &sqsError{shape: "InvalidBatchEntryId", code: prefix + "InvalidBatchEntryId",
				message: "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."}
		}
		if seen[b.ID] {
			return &sqsError{shape: "BatchEntryIdsNotDistinct", code: prefix + "BatchEntryIdsNotDistinct", message: "Id " + b.ID + " repeated."}
		}
		seen[b.ID] = true
	}
	return nil
}

// partialFailure is what a fault makes of an entry.
func partialFailure(id string) batchFailure {
	return batchFailure{ID: id, Code: "InternalError", Message: "We encountered an internal error. Please try again."}
}

func (q *queue) acceptBatch(entries []batchEntry, f effect) (any, *sqsError) {
	if err := checkBatch(entries); err != nil {
		return nil, err
	}
	total := 0
	for _, b := range entries {
		total += b.message().size()
	}
	if total > MaxMessageSize {
		return nil, &sqsError{shape: "BatchRequestTooLong", code: "AWS.SimpleQueueService.BatchRequestTooLong",
			message: fmt.Sprintf("Batch requests cannot be longer than %d bytes. You have sent %d bytes.", MaxMessageSize, total)}
	}
	successful, failed := []sendResult{}, []batchFailure{}
	for i, b := range entries {
		if f.fails(i) {
			failed = append(failed, partialFailure(b.ID))
		} else if err := b.sendEntry.check(); err != nil {
			failed = append(failed, batchFailure{ID: b.ID, SenderFault: true, Code: err.code, Message: err.message})
		} else {
			successful = append(successful, q.accept(b.ID, b.message()))
		}
	}
	return batchAnswer(successful, failed), nil
}

func eachEntry(entries []batchEntry, f effect, do func(batchEntry) bool) (any, *sqsError) {
	if err := checkBatch(entries); err != nil {
		return nil, err
	}
	type success struct {
		ID string `json:"Id"`
	}
	successful, failed := []success{}, []batchFailure{}
	for i, b := range entries {
		switch {
		case f.fails(i):
			failed = append(failed, partialFailure(b.ID))
		case !do(b):
			err := errReceipt(b.ReceiptHandle)
			failed = append(failed, batchFailure{ID: b.ID, SenderFault: true, Code: err.code, Message: err.message})
		default:
			successful = append(successful, success{b.ID})
		}
	}
	return batchAnswer(successful, failed), nil
}

// batchAnswer leaves out an empty Failed, as SQS does.
func batchAnswer(successful any, failed []batchFailure) any {
	out := map[string]any{"Successful": successful}
	if len(failed) > 0 {
		out["Failed"] = failed
	}
	return out
}

func visibility(seconds *int) (time.Duration, *sqsError) {
	if seconds == nil {
		return defaultVisibility, nil
	}
	if *seconds < 0 || *seconds > 43200 {
		return 0, invalid(fmt.Sprintf("Value %d for parameter VisibilityTimeout is invalid. Reason: Must be >= 0 and <= 43200, if provided.", *seconds))
	}
	return time.Duration(*seconds) * time.Second, nil
}

func (c *Cloud) receive(r *http.Request, q *queue, in sqsRequest) (any, *sqsError) {
	n, wait := 1, 0
	if in.MaxNumberOfMessages != nil {
		if n = *in.MaxNumberOfMessages; n < 1 || n > 10 {
			return nil, invalid(fmt.Sprintf("Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.", n))
		}
	}
	if in.WaitTimeSeconds != nil {
		if wait = *in.WaitTimeSeconds; wait < 0 || wait > 20 {
			return nil, invalid(fmt.Sprintf("Value %d for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided.", wait))
		}
	}
	hidden, err := visibility(in.VisibilityTimeout)
	if err != nil {
		return nil, err
	}
	deadline := time.NewTimer(time.Duration(wait) * time.Second)
	defer deadline.Stop()
	for {
		messages, again, retry := q.receive(n, hidden, in.ReceiveRequestAttemptID)
		if len(messages) > 0 || wait == 0 {
			return receiveAnswer(messages, in), nil
		}
		if c.gone(q) {
			return nil, errNoQueue()
		}
		var visible <-chan time.Time
		if !retry.IsZero() {
			visible = time.After(max(retry.Sub(c.clock.Now()), time.Millisecond))
		}
		select {
		case <-again:
		case <-visible:
		case <-deadline.C:
			return receiveAnswer(nil, in), nil
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		case <-c.closing:
			return receiveAnswer(nil, in), nil
		}
	}
}

func (c *Cloud) gone(q *queue) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queues[q.path] == nil
}

func receiveAnswer(messages []*queued, in sqsRequest) any {
	if len(messages) == 0 {
		return struct{}{}
	}
	out := make([]receivedMessage, len(messages))
	for i, m := range messages {
		attributes := selectAttributes(m.attributes, in.MessageAttributeNames)
		out[i] = receivedMessage{
			MessageID: m.messageID, ReceiptHandle: m.handle, Body: m.body, MD5OfBody: md5Hex(m.body),
			MessageAttributes: attributes, MD5OfMessageAttributes: attributesMD5(attributes),
			Attributes: systemAttributes(m, slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames)),
		}
	}
	return map[string]any{"Messages": out}
}

func selectAttributes(all map[string]attribute, names []string) map[string]attribute {
	out := make(map[string]attribute)
	for name, a := range all {
		for _, want := range names {
			prefix, wild := strings.CutSuffix(want, "*")
			if want == "All" || want == name || wild && strings.HasPrefix(name, strings.TrimSuffix(prefix, ".")) {
				out[name] = a
			}
		}
	}
	return out
}

func systemAttributes(m *queued, names []string) map[string]string {
	all := map[string]string{
		"SenderId":                         "AIDAECHOTEST",
		"SentTimestamp":                    millis(m.sent),
		"ApproximateReceiveCount":          strconv.Itoa(m.receives),
		"ApproximateFirstReceiveTimestamp": millis(m.first),
		"MessageGroupId":                   m.groupID,
		"SequenceNumber":                   m.sequence,
	}
	if m.dedupID != "" {
		all["MessageDeduplicationId"] = m.dedupID
	}
	return chosen(all, names)
}

func (q *queue) attributes(region string, names []string) map[string]string {
	visible, flying := q.counts()
	parts := strings.Split(q.path, "/")
	return chosen(map[string]string{
		"ApproximateNumberOfMessages":           strconv.Itoa(visible),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(flying),
		"ApproximateNumberOfMessagesDelayed":    "0",
		"ContentBasedDeduplication":             "true",
		"FifoQueue":                             "true",
		"MaximumMessageSize":                    strconv.Itoa(MaxMessageSize),
		"MessageRetentionPeriod":                strconv.Itoa(int(retention / time.Second)),
		"QueueArn":                              "arn:aws:sqs:" + region + ":" + accountID + ":" + parts[len(parts)-1],
		"ReceiveMessageWaitTimeSeconds":         "0",
		"VisibilityTimeout":                     strconv.Itoa(int(defaultVisibility / time.Second)),
	}, names)
}

func chosen(all map[string]string, names []string) map[string]string {
	out := make(map[string]string)
	for name, v := range all {
		if slices.Contains(names, name) || slices.Contains(names, "All") {
			out[name] = v
		}
	}
	return out
}

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
