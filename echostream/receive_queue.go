package echostream

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
)

const (
	opReceiveMessage   = "SQS ReceiveMessage"
	opDeleteMessages   = "SQS DeleteMessageBatch"
	opChangeVisibility = "SQS ChangeMessageVisibilityBatch"

	longPoll = 20 * time.Second // SQS's longest
)

// errReceiptEnded is SQS's word that a receipt counts no more: the message is visible again, or was received since.
var errReceiptEnded = errors.New("the receipt has ended")

// inQueue makes the calls to the queue of an edge that is received from.
type inQueue struct {
	client *Client
	node   func() *Definition // the newest definition
	url    string
}

// receipt is what a message is deleted and hidden by.
type receipt struct{ id, handle string }

// receive asks for up to most messages and waits for the first.
func (q *inQueue) receive(ctx context.Context, most int, attempt string, visibility time.Duration) ([]types.Message, error) {
	in := &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: int32(most), ReceiveRequestAttemptId: &attempt,
		VisibilityTimeout: int32(visibility / time.Second), WaitTimeSeconds: int32(longPoll / time.Second),
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	}
	out, err := call(ctx, q, opReceiveMessage, longPoll, in, (*sqs.Client).ReceiveMessage)
	if err != nil {
		return nil, err
	}
	return out.Messages, nil
}

// delete returns an error for each receipt that was not taken, or why nothing is known of any.
func (q *inQueue) delete(ctx context.Context, receipts []receipt) (map[string]error, error) {
	in := &sqs.DeleteMessageBatchInput{QueueUrl: &q.url}
	for n, r := range receipts {
		in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(n)), ReceiptHandle: &r.handle})
	}
	out, err := call(ctx, q, opDeleteMessages, 0, in, (*sqs.Client).DeleteMessageBatch)
	if err != nil {
		return nil, err
	}
	var done []*string
	for _, s := range out.Successful {
		done = append(done, s.Id)
	}
	return entryErrors(opDeleteMessages, receipts, done, out.Failed), nil
}

// hide makes messages visible after d; 0 hands them back, in this order.
func (q *inQueue) hide(ctx context.Context, receipts []receipt, d time.Duration) (map[string]error, error) {
	in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url}
	for n, r := range receipts {
		in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
			Id: aws.String(strconv.Itoa(n)), ReceiptHandle: &r.handle, VisibilityTimeout: int32(d / time.Second)})
	}
	out, err := call(ctx, q, opChangeVisibility, 0, in, (*sqs.Client).ChangeMessageVisibilityBatch)
	if err != nil {
		return nil, err
	}
	var done []*string
	for _, s := range out.Successful {
		done = append(done, s.Id)
	}
	return entryErrors(opChangeVisibility, receipts, done, out.Failed), nil
}

// entryErrors are the errors of a batch, by message id. What the answer does not mention has failed.
func entryErrors(operation string, receipts []receipt, done []*string, refused []types.BatchResultErrorEntry) map[string]error {
	failed := make(map[string]error, len(receipts))
	for _, r := range receipts {
		failed[r.id] = errors.New(operation + ": the answer does not mention the message")
	}
	index := func(id *string) (string, bool) {
		n, err := strconv.Atoi(aws.ToString(id))
		if err != nil || n < 0 || n >= len(receipts) {
			return "", false
		}
		return receipts[n].id, true
	}
	for _, id := range done {
		if id, ok := index(id); ok {
			delete(failed, id)
		}
	}
	for _, f := range refused {
		if id, ok := index(f.Id); ok {
			failed[id] = marked(&serviceError{operation: operation, code: aws.ToString(f.Code), message: shorten(aws.ToString(f.Message))})
		}
	}
	return failed
}

// marked adds to an error what a receiver branches on.
func marked(err error) error {
	switch code := errorCode(err); {
	case code == "ReceiptHandleIsInvalid", code == "InvalidParameterValue", code == "MessageNotInflight",
		code == "AWS.SimpleQueueService.MessageNotInflight":
		return fmt.Errorf("%w: %w", errReceiptEnded, err)
	case edgeGone(code):
		return fmt.Errorf("%w: %w", ErrEdgeGone, err)
	}
	return err
}

// call makes a request by the credentials of the node. wait is how long SQS may take to answer.
func call[In, Out any](ctx context.Context, q *inQueue, operation string, wait time.Duration, in *In,
	request func(*sqs.Client, context.Context, *In, ...func(*sqs.Options)) (*Out, error)) (out *Out, err error) {
	c, node := q.client, q.node()
	where, err := at(q.url, node.Region)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", operation, err)
	}
	narrowed := ""
	if operation == opReceiveMessage {
		narrowed = q.url // that a node may receive but not change the visibility has other reasons
	}
	err = c.byCredentials(ctx, node, c.Credentials(node), narrowed, func(aws.Credentials) (code string, err error) {
		ctx, cancel := context.WithTimeout(ctx, wait+c.opts.CallTimeout)
		defer cancel()
		if out, err = request(c.queues(node), ctx, in, where); err == nil {
			return "", nil
		}
		err = marked(awsError(operation, err))
		return errorCode(err), withHint(err, queueHint(node, err))
	})
	return out, err
}

// receivedMessage reads what SQS gives. Whatever a message lacks, it is one: nothing here fails.
func receivedMessage(m types.Message, source, messageType string) ReceivedMessage {
	id := aws.ToString(m.MessageId)
	attribute := func(name string) string { return aws.ToString(m.MessageAttributes[name].StringValue) }
	received := ReceivedMessage{
		Message: Message{
			TrackingID: attribute(attributeTrackingID),
			Body:       aws.ToString(m.Body),
			Group:      m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)],
		},
		Source: source, Type: messageType, ID: id,
	}
	if received.TrackingID == "" {
		received.TrackingID = trackingIDOf(id)
	}
	var previous []string
	if json.Unmarshal([]byte(attribute(attributePrevTrackingIDs)), &previous) == nil {
		received.PrevTrackingIDs = previous
	}
	received.Receives, _ = strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	if ms, err := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
		received.Sent = time.UnixMilli(ms)
	}
	return received
}

// trackingIDOf is the tracking id of a message that came without: the same each time that it comes.
func trackingIDOf(messageID string) string {
	if id, err := uuid.Parse(messageID); err == nil {
		return hex.EncodeToString(id[:])
	}
	return NewTrackingID()
}

// recovered makes an error of a panic.
func recovered(whose string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s panicked: %v: %s", whose, p, debug.Stack())
	}
}
