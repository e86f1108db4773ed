package echostream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const (
	maxBatch       = 10
	opSendMessages = "SQS SendMessageBatch"
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
// hold up the others. It holds [ErrEdgeGone] if the queue is no more. Everything else is transient.
//
// ctx bounds the whole; each request also has Options.CallTimeout, and the credentials it may need first twice that. Send does not look at node.Stopped: that is the caller's.
func (c *Client) Send(ctx context.Context, node *Node, queue string, messages []Message) []error {
	s := &sending{
		client: c, node: node, queue: queue, messages: messages,
		errs: make([]error, len(messages)),
		held: map[string]error{},
	}
	s.at, s.down = at(queue, node.Region)
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
	node     *Node
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
			err = s.again(ctx, i)
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
			s.errs[i] = s.wrap(i, fmt.Errorf("not tried: %w", s.down))
		case before != nil:
			s.errs[i] = s.wrap(i, fmt.Errorf("not tried, since one before it failed: %w", before))
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
	entries := make([]types.SendMessageBatchRequestEntry, len(batch))
	for n, i := range batch {
		m := s.messages[i]
		entries[n] = types.SendMessageBatchRequestEntry{
			Id:                     aws.String(strconv.Itoa(n)),
			MessageBody:            aws.String(m.Body),
			MessageAttributes:      m.attributes(),
			MessageGroupId:         aws.String(s.group(i)),
			MessageDeduplicationId: aws.String(m.TrackingID),
		}
	}
	answer, err := s.request(ctx, entries)
	if err != nil {
		return nil, err
	}

	failed := make(map[int]error, len(batch))
	for _, i := range batch {
		failed[i] = errors.New(opSendMessages + ": the answer does not mention the message")
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

// request asks once more, with fresh credentials, if the first were refused.
func (s *sending) request(ctx context.Context, entries []types.SendMessageBatchRequestEntry) (*sqs.SendMessageBatchOutput, error) {
	for attempt := 1; ; attempt++ {
		used, err := s.client.retrieve(ctx, s.client.Credentials(s.node))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", opSendMessages, err)
		}
		answer, err := s.call(ctx, entries)
		if err == nil {
			return answer, nil
		}
		if !credentialsRefused(errorCode(err)) || s.node.CrossAccount {
			return nil, err
		}
		s.client.appCredentials(s.node).refused(used.AccessKeyID)
		if attempt == 2 {
			return nil, err
		}
	}
}

func (s *sending) call(ctx context.Context, entries []types.SendMessageBatchRequestEntry) (*sqs.SendMessageBatchOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, s.client.opts.CallTimeout)
	defer cancel()
	answer, err := s.client.queues(s.node).SendMessageBatch(ctx,
		&sqs.SendMessageBatchInput{QueueUrl: aws.String(s.queue), Entries: entries}, s.at)
	if err == nil {
		return answer, nil
	}
	clean := awsError(opSendMessages, err)
	var gone *types.QueueDoesNotExist
	if errors.As(err, &gone) || edgeGone(errorCode(clean)) {
		return nil, fmt.Errorf("%w: %w", ErrEdgeGone, clean)
	}
	return nil, clean
}

func entryError(refused types.BatchResultErrorEntry) error {
	err := error(&serviceError{opSendMessages, aws.ToString(refused.Code), shorten(aws.ToString(refused.Message))})
	switch code := aws.ToString(refused.Code); {
	case edgeGone(code):
		return fmt.Errorf("%w: %w", ErrEdgeGone, err)
	case refused.SenderFault && aboutContent(err):
		return Permanent(err)
	}
	return err
}

func edgeGone(code string) bool {
	switch code {
	case "AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue", "QueueDoesNotExist", "AccessDenied", "AccessDeniedException":
		return true
	}
	return false
}

// aboutContent tells whether SQS refused what a message holds, so that sending it again is of no use. Everything that is
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
