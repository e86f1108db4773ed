package echostream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const (
	maxBatch       = 10
	opSendMessages = "SQS SendMessageBatch"
	// sendTimeout bounds a request, with a second more for each sendRate bytes: it must not use up SQS's five minutes, nor
	// be too short for a slow line.
	sendTimeout = 15 * time.Second
	sendRate    = 8 << 10
)

// Send sends messages to the queue of one of the node's edges, in order, and returns an error for each: nil once
// SQS has taken it.
//
// They go in batches of at most 10 messages and [MaxMessageSize] bytes. What SQS fails out of a batch is sent again at
// once, alone and in order; those after it in that batch count for what SQS said of them. When a message still fails for
// a transient reason, the later ones of its group, unless they were taken already, are not sent and fail too:
// the caller sends them again, all under the same tracking ids.
//
// An error is permanent ([IsPermanent]) if SQS will never take the message, such as one that is too long; it does not
// hold up the others. Everything else is transient. It holds [ErrEdgeGone] if the queue is no more or is closed to the node:
// credentials are older than an edge that is new, so that they are replaced once for an edge that they do not open.
// [IsUnknown] reports whether SQS may have taken the message: send it again well within its five minutes. [NeedsOperator]
// reports whether a person has to do something.
//
// ctx bounds the whole; each request also has 15 s and a second for each 8 KiB, Options.CallTimeout at most, and the
// credentials it may need first twice that. Nothing is sent by a definition that was kept ([ErrKept]). Send does not look at
// node.Stopped: that is the caller's.
func (c *Client) Send(ctx context.Context, node *Definition, queue string, messages []Message) []error {
	s := &sending{
		client: c, node: node, queue: queue, messages: messages,
		errs: make([]error, len(messages)),
		held: map[string]error{},
	}
	if s.at, s.down = at(queue, node.Region); node.Kept {
		s.down = ErrKept
	}
	var batch []int
	size := 0
	for i, m := range messages {
		if err := m.Validate(); err != nil {
			s.errs[i] = Permanent(fmt.Errorf("message %s cannot be sent: %w", m.TrackingID, err))
			continue
		}
		if len(batch) == maxBatch || size+m.Size() > MaxMessageSize {
			s.send(ctx, batch)
			batch, size = nil, 0
		}
		batch = append(batch, i)
		size += m.Size()
	}
	s.send(ctx, batch)
	return s.errs
}

// sending is one call of Send. Messages are known by their index.
type sending struct {
	client   *Client
	node     *Definition
	queue    string
	at       func(*sqs.Options)
	messages []Message
	errs     []error
	held     map[string]error // by group: why nothing more of it may be sent
	down     error            // why nothing more at all may be sent
}

// send sends one batch and, alone, what failed of it.
func (s *sending) send(ctx context.Context, batch []int) {
	batch = s.allowed(batch)
	if len(batch) == 0 {
		return
	}
	failed, err := s.post(ctx, batch)
	switch {
	case err != nil && len(batch) > 1 && aboutContent(err):
		// One message can have SQS refuse a whole batch: find it.
		for _, i := range batch {
			s.send(ctx, []int{i})
		}
		return
	case err != nil && aboutContent(err):
		s.errs[batch[0]] = s.wrap(batch[0], Permanent(err))
		return
	case err != nil:
		s.down = err
		for _, i := range batch {
			s.errs[i] = s.wrap(i, err)
		}
		return
	}
	for _, i := range batch {
		err := failed[i]
		if err == nil {
			continue
		}
		if !IsPermanent(err) && len(s.allowed([]int{i})) == 0 {
			continue
		}
		if !IsPermanent(err) {
			unknown := IsUnknown(err)
			if err = s.again(ctx, i); err != nil && unknown && !IsPermanent(err) {
				err = &unknownError{err, true} // of the first try
			}
		}
		if err != nil && !IsPermanent(err) {
			s.held[s.group(i)] = err
		}
		s.errs[i] = s.wrap(i, err)
	}
}

// again sends a message that SQS failed out of a batch.
func (s *sending) again(ctx context.Context, i int) error {
	s.client.log.DebugContext(ctx, "SQS failed a message of a batch, sending it again", "trackingId", s.messages[i].TrackingID)
	failed, err := s.post(ctx, []int{i})
	if err != nil {
		if aboutContent(err) {
			return Permanent(err)
		}
		s.down = err
		return err
	}
	return failed[i]
}

// allowed takes out, with an error, the messages that may not overtake one that failed.
func (s *sending) allowed(batch []int) []int {
	var allowed []int
	for _, i := range batch {
		switch before := s.held[s.group(i)]; {
		case s.down != nil:
			s.errs[i] = s.wrap(i, &unknownError{fmt.Errorf("not tried: %w", s.down), false})
		case before != nil:
			s.errs[i] = s.wrap(i, &unknownError{fmt.Errorf("not tried, since one before it failed: %w", before), false})
		default:
			allowed = append(allowed, i)
		}
	}
	return allowed
}

func (s *sending) group(i int) string {
	if g := s.messages[i].Group; g != "" {
		return GroupID(g)
	}
	return GroupID(s.node.Name)
}

func (s *sending) wrap(i int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("message %s was not sent: %w", s.messages[i].TrackingID, err)
}

// post makes one request of a batch. It returns what SQS said of each message that it did not take, or why
// it said nothing.
func (s *sending) post(ctx context.Context, batch []int) (map[int]error, error) {
	entries := make([]entry, len(batch))
	for n, i := range batch {
		entries[n] = entry{s.messages[i], s.group(i)}
	}
	answer, err := s.request(ctx, batchJSON(s.queue, entries))
	if err != nil {
		return nil, err
	}

	failed := make(map[int]error, len(batch))
	for _, i := range batch {
		failed[i] = &unknownError{errors.New(opSendMessages + ": the answer does not mention the message"), true}
	}
	index := func(id *string) (int, bool) {
		n, err := strconv.Atoi(aws.ToString(id))
		if err != nil || n < 0 || n >= len(batch) {
			return 0, false
		}
		return batch[n], true
	}
	for _, taken := range answer.Successful {
		if i, ok := index(taken.Id); ok {
			delete(failed, i)
		}
	}
	for _, refused := range answer.Failed {
		if i, ok := index(refused.Id); ok {
			failed[i] = entryError(refused)
		}
	}
	return failed, nil
}

// request sends a batch by the credentials of the node.
func (s *sending) request(ctx context.Context, body []byte) (answer *sqs.SendMessageBatchOutput, err error) {
	credentials := s.client.Credentials(s.node)
	err = s.client.byCredentials(ctx, s.node, credentials, s.queue, func(aws.Credentials) (code string, err error) {
		answer, err = s.call(ctx, body)
		return errorCode(err), withHint(err, queueHint(s.node, err))
	})
	return answer, err
}

// queueHint is what a person should look at after SQS's answer, or "".
func queueHint(node *Definition, err error) string {
	var answer *serviceError
	if !errors.As(err, &answer) || edgeMissing(answer.code) || aboutContent(err) || retryLater(answer.status, answer.code) {
		return ""
	}
	switch code := answer.code; {
	case strings.HasPrefix(strings.ToLower(code), "kms"):
		return "look at the KMS key of the edge in EchoStream"
	case accessDenied(code) && node.CrossAccount, credentialsRefused(code) && node.CrossAccount:
		return "check the AWS credentials of this machine, and that they may use the edge's queue"
	case accessDenied(code), credentialsRefused(code):
		return "new credentials were refused too: look at the edge and at the app in EchoStream"
	case refusedForTime(code):
		return onTheWay + " that changes requests"
	}
	return "look at the edge in EchoStream, and at what is on the way: a proxy or a firewall"
}

func (s *sending) call(ctx context.Context, body []byte) (*sqs.SendMessageBatchOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout(len(body)))
	defer cancel()
	// net/http asks for a connection, gets one, and only then writes. A client that is not net/http's tells neither.
	var asked, connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", opSendMessages, err)
	}
	answer, err := s.client.queues(s.node).SendMessageBatch(ctx,
		&sqs.SendMessageBatchInput{QueueUrl: aws.String(s.queue), Entries: inBody}, s.at, written(body))
	if err == nil {
		return answer, nil
	}
	clean := awsError(opSendMessages, err)
	var gone *types.QueueDoesNotExist
	if errors.As(err, &gone) || edgeGone(errorCode(clean)) {
		return nil, fmt.Errorf("%w: %w", ErrEdgeGone, clean)
	}
	status := httpStatus(err)
	refused := status >= 300 && status < 500 && status != http.StatusRequestTimeout // which a proxy says, of what it passed on
	unsent := asked.Load() && !connected.Load()
	if refused || unsent {
		return nil, clean
	}
	return nil, &unknownError{clean, true}
}

// inBody stands for the entries, which are in the body already: the SDK insists on some.
var inBody = []types.SendMessageBatchRequestEntry{}

// written has a SendMessageBatch sent with this body.
//
// It spares the MD5 of each message. SQS has taken the very bytes: it holds the signature, in which the SHA-256 of the whole request stands,
// against them. And one that it took under a tracking id it would not take again.
func written(body []byte) func(*sqs.Options) {
	return func(o *sqs.Options) {
		o.Protocol = batchProtocol{o.Protocol, body}
		if timed, ok := o.HTTPClient.(timedClient); ok {
			timed.body = body
			o.HTTPClient = timed
		}
		o.DisableMessageChecksumValidation = true
	}
}

// timeout bounds a request of so many bytes.
func (s *sending) timeout(size int) time.Duration {
	return min(sendTimeout+time.Duration(size)*time.Second/sendRate, s.client.opts.CallTimeout)
}

func entryError(refused types.BatchResultErrorEntry) error {
	code := aws.ToString(refused.Code)
	err := error(&serviceError{operation: opSendMessages, code: code, message: shorten(aws.ToString(refused.Message))})
	switch {
	case edgeGone(code):
		return fmt.Errorf("%w: %w", ErrEdgeGone, err)
	case refused.SenderFault && aboutContent(err):
		return Permanent(err)
	case !refused.SenderFault:
		return &unknownError{err, true}
	case !retryLater(http.StatusBadRequest, code):
		return withHint(err, "look at the edge in EchoStream")
	}
	return err
}

func edgeGone(code string) bool { return edgeMissing(code) || accessDenied(code) }

func edgeMissing(code string) bool {
	switch code {
	case "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue", "QueueDoesNotExist":
		return true
	}
	return false
}

// aboutContent reports whether SQS refused what a message holds, so that sending it again is of no use. Everything that is
// not listed is taken for transient: waiting too long is better than setting aside what could be delivered.
func aboutContent(err error) bool {
	var answer *serviceError
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.code {
	case "InvalidMessageContents", "MessageTooLong", "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong":
		return true
	case "InvalidParameterValue":
		// It is also said of a queue that is not what it should be; only its text tells.
		return strings.Contains(answer.message, "must be shorter than")
	}
	return false
}
