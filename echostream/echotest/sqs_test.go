package echotest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// sender is a cloud with one edge and an SQS client for it.
type sender struct {
	*node
	cloud  *echotest.Cloud
	client *sqs.Client
	queue  string
}

func newSender(t *testing.T, opts echotest.Options) *sender {
	c, n := start(t, opts)
	c.SetNode(echotest.Node{Name: "target"}) // of the same app: it may receive
	return &sender{n, c, n.sqs(), n.queues()["target"]}
}

func (s *sender) send(body, dedup, group string) (*sqs.SendMessageOutput, error) {
	return s.client.SendMessage(s.ctx, send(s.queue, body, dedup, group))
}

func (s *sender) mustSend(bodies ...string) {
	for _, b := range bodies {
		_, err := s.send(b, "", "g")
		require.NoError(s.t, err)
	}
}

func (s *sender) bodies() (out []string) {
	for _, m := range s.cloud.Messages("target") {
		out = append(out, m.Body)
	}
	return out
}

func entries(bodies ...string) (out []types.SendMessageBatchRequestEntry) {
	for i, b := range bodies {
		out = append(out, types.SendMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), MessageBody: aws.String(b), MessageGroupId: aws.String("g")})
	}
	return out
}

func (s *sender) batch(e []types.SendMessageBatchRequestEntry) (*sqs.SendMessageBatchOutput, error) {
	return s.client.SendMessageBatch(s.ctx, &sqs.SendMessageBatchInput{QueueUrl: &s.queue, Entries: e})
}

func (s *sender) receive(n, wait, visibility int32) []types.Message {
	out, err := s.client.ReceiveMessage(s.ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &s.queue, MaxNumberOfMessages: n, WaitTimeSeconds: wait, VisibilityTimeout: visibility,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"}, MessageAttributeNames: []string{"All"},
	})
	require.NoError(s.t, err)
	return out.Messages
}

func bodiesOf(messages []types.Message) (out []string) {
	for _, m := range messages {
		out = append(out, *m.Body)
	}
	return out
}

func TestDeduplication(t *testing.T) {
	s := newSender(t, echotest.Options{})
	first, err := s.send("one", "id", "g")
	require.NoError(t, err)
	s.cloud.Clock().Advance(4*time.Minute + 59*time.Second)
	second, err := s.send("something else", "id", "other-group")
	require.NoError(t, err)
	assert.Equal(t, *first.MessageId, *second.MessageId)
	assert.Equal(t, *first.SequenceNumber, *second.SequenceNumber)
	got := s.cloud.Messages("target")
	require.Len(t, got, 1)
	assert.Equal(t, 1, got[0].Duplicates)
	assert.Equal(t, "id", got[0].DedupID)
	assert.Equal(t, echotest.EdgeStats{Messages: 1, Duplicates: 1, Bytes: int64(got[0].Size)}, s.cloud.EdgeStats("target"))

	s.cloud.Clock().Advance(2 * time.Second)
	third, err := s.send("something else", "id", "g")
	require.NoError(t, err)
	assert.NotEqual(t, *first.MessageId, *third.MessageId)
	assert.Equal(t, []string{"one", "something else"}, s.bodies())
}

func TestDeduplicationByContent(t *testing.T) {
	s := newSender(t, echotest.Options{})
	s.mustSend("same", "same", "other")
	assert.Equal(t, []string{"same", "other"}, s.bodies())
	sum := sha256.Sum256([]byte("same"))
	assert.Equal(t, hex.EncodeToString(sum[:]), s.cloud.Messages("target")[0].DedupID)
	// What was read and deleted is remembered too.
	for _, m := range s.receive(10, 0, 30) {
		_, err := s.client.DeleteMessage(s.ctx, &sqs.DeleteMessageInput{QueueUrl: &s.queue, ReceiptHandle: m.ReceiptHandle})
		require.NoError(t, err)
	}
	s.mustSend("same")
	s.cloud.Clock().Advance(5 * time.Minute)
	s.mustSend("same")
	assert.Equal(t, []string{"same", "other", "same"}, s.bodies())
}

func TestDuplicateWithinABatch(t *testing.T) {
	s := newSender(t, echotest.Options{})
	out, err := s.batch(entries("a", "a", "b"))
	require.NoError(t, err)
	require.Len(t, out.Successful, 3)
	assert.Equal(t, *out.Successful[0].MessageId, *out.Successful[1].MessageId)
	assert.Equal(t, []string{"a", "b"}, s.bodies())
}

func TestReceived(t *testing.T) {
	var told []echotest.Received
	s := newSender(t, echotest.Options{OnMessage: func(r echotest.Received) { told = append(told, r) }})
	_, err := s.client.SendMessage(s.ctx, &sqs.SendMessageInput{
		QueueUrl: &s.queue, MessageBody: aws.String("body"), MessageGroupId: aws.String("ftp-node"), MessageDeduplicationId: aws.String("ab12"),
		MessageAttributes: map[string]types.MessageAttributeValue{
			"trackingId":      {DataType: aws.String("String"), StringValue: aws.String("ab12")},
			"prevTrackingIds": {DataType: aws.String("String"), StringValue: aws.String(`["cd","ef"]`)},
		},
	})
	require.NoError(t, err)
	m := s.cloud.Messages("")[0]
	assert.Equal(t, "target", m.Edge)
	assert.Equal(t, "ftp-node", m.Source)
	assert.Equal(t, "ab12", m.TrackingID)
	assert.Equal(t, []string{"cd", "ef"}, m.PrevTrackingIDs)
	assert.Equal(t, "ftp-node", m.GroupID)
	assert.Equal(t, len("body")+len("trackingId")+6+4+len("prevTrackingIds")+6+len(`["cd","ef"]`), m.Size)
	assert.Equal(t, []echotest.Received{m}, told)
	assert.Equal(t, []echotest.Received{m}, s.cloud.Messages("ftp-node>target"))
	s.cloud.Forget()
	assert.Empty(t, s.cloud.Messages("target"))
}

func TestOrderAndGroups(t *testing.T) {
	s := newSender(t, echotest.Options{})
	for i := range 6 {
		_, err := s.send(fmt.Sprintf("%d", i), "", []string{"even", "odd"}[i%2])
		require.NoError(t, err)
	}
	first := s.receive(2, 0, 30)
	require.Equal(t, []string{"0", "2"}, bodiesOf(first), "of one group, in order")
	second := s.receive(10, 0, 30)
	require.Equal(t, []string{"1", "3", "5"}, bodiesOf(second), "a group in flight is blocked")
	require.Empty(t, s.receive(10, 0, 30))

	// One of the two goes, the other becomes visible: only then does the group go on, with that one.
	_, err := s.client.DeleteMessage(s.ctx, &sqs.DeleteMessageInput{QueueUrl: &s.queue, ReceiptHandle: first[0].ReceiptHandle})
	require.NoError(t, err)
	require.Empty(t, s.receive(10, 0, 30))
	s.cloud.Clock().Advance(31 * time.Second)
	assert.Equal(t, []string{"2", "4", "1", "3", "5"}, bodiesOf(s.receive(10, 0, 30)))

	_, err = s.client.DeleteMessage(s.ctx, &sqs.DeleteMessageInput{QueueUrl: &s.queue, ReceiptHandle: first[1].ReceiptHandle})
	require.Equal(t, "ReceiptHandleIsInvalid", code(t, err), "a receipt ends with its visibility timeout")
}

func TestReceive(t *testing.T) {
	s := newSender(t, echotest.Options{})
	_, err := s.send("hello", "d1", "g")
	require.NoError(t, err)
	m := s.receive(1, 0, 60)[0]
	assert.Equal(t, "g", m.Attributes["MessageGroupId"])
	assert.Equal(t, "d1", m.Attributes["MessageDeduplicationId"])
	assert.Equal(t, "1", m.Attributes["ApproximateReceiveCount"])
	assert.Equal(t, "d1", *m.MessageAttributes["trackingId"].StringValue)
	assert.Equal(t, "5d41402abc4b2a76b9719d911017c592", *m.MD5OfBody)

	attributes, err := s.client.GetQueueAttributes(s.ctx, &sqs.GetQueueAttributesInput{QueueUrl: &s.queue, AttributeNames: []types.QueueAttributeName{"All"}})
	require.NoError(t, err)
	assert.Equal(t, "0", attributes.Attributes["ApproximateNumberOfMessages"])
	assert.Equal(t, "1", attributes.Attributes["ApproximateNumberOfMessagesNotVisible"])
	assert.Equal(t, "true", attributes.Attributes["FifoQueue"])

	_, err = s.client.ChangeMessageVisibility(s.ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: &s.queue, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 0})
	require.NoError(t, err)
	m = s.receive(1, 0, 60)[0]
	assert.Equal(t, "2", m.Attributes["ApproximateReceiveCount"])

	out, err := s.client.DeleteMessageBatch(s.ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &s.queue, Entries: []types.DeleteMessageBatchRequestEntry{
		{Id: aws.String("a"), ReceiptHandle: m.ReceiptHandle}, {Id: aws.String("b"), ReceiptHandle: aws.String("nonsense")},
	}})
	require.NoError(t, err)
	assert.Len(t, out.Successful, 1)
	require.Len(t, out.Failed, 1)
	assert.Equal(t, "b", *out.Failed[0].Id)
	s.cloud.Clock().Advance(time.Hour)
	s.node = newNode(t, s.cloud, s.cloud.Environment())
	s.client = s.sqs()
	assert.Empty(t, s.receive(1, 0, 30))

	// What nobody reads is gone after four days.
	s.mustSend("old")
	s.cloud.Clock().Advance(4 * 24 * time.Hour)
	s.client = s.sqs()
	s.mustSend("new")
	assert.Equal(t, []string{"new"}, bodiesOf(s.receive(10, 0, 30)))
}

func TestLongPoll(t *testing.T) {
	s := newSender(t, echotest.Options{})
	got := make(chan []string, 1)
	poll := func() {
		before := s.cloud.Requests(echotest.SQS, "ReceiveMessage")
		go func() { got <- bodiesOf(s.receive(10, 20, 60)) }()
		require.Eventually(t, func() bool { return s.cloud.Requests(echotest.SQS, "ReceiveMessage") > before }, 10*time.Second, time.Millisecond)
	}
	poll()
	s.mustSend("now")
	require.Equal(t, []string{"now"}, <-got)
	poll()
	s.cloud.Clock().Advance(61 * time.Second)
	require.Equal(t, []string{"now"}, <-got, "visible again")
	poll()
	s.cloud.Put("ftp-node", "target", "of another group", "")
	require.Equal(t, []string{"of another group"}, <-got)
}

func TestLongPollEndsWithTheQueueAndTheCloud(t *testing.T) {
	s := newSender(t, echotest.Options{})
	poll := func() <-chan error {
		before := s.cloud.Requests(echotest.SQS, "ReceiveMessage")
		done := make(chan error, 1)
		go func() {
			_, err := s.client.ReceiveMessage(s.ctx, &sqs.ReceiveMessageInput{QueueUrl: &s.queue, WaitTimeSeconds: 20})
			done <- err
		}()
		require.Eventually(t, func() bool { return s.cloud.Requests(echotest.SQS, "ReceiveMessage") > before }, 10*time.Second, time.Millisecond)
		return done
	}
	done := poll()
	s.cloud.RemoveEdge("target")
	var gone *types.QueueDoesNotExist
	require.ErrorAs(t, <-done, &gone)
	s.queue = s.cloud.AddEdge("", "target")
	done = poll()
	s.cloud.Close()
	<-done // an empty answer, or a closed connection if it came too late
}

func TestRefusedMessages(t *testing.T) {
	s := newSender(t, echotest.Options{})
	big := strings.Repeat("x", echotest.MaxMessageSize)
	attribute := func(name, kind, value string) func(*sqs.SendMessageInput) {
		return func(in *sqs.SendMessageInput) {
			in.MessageAttributes = map[string]types.MessageAttributeValue{name: {DataType: &kind, StringValue: &value}}
		}
	}
	tests := []struct {
		name   string
		change func(*sqs.SendMessageInput)
		code   string // "" is accepted
	}{
		{"fits exactly", func(in *sqs.SendMessageInput) { in.MessageBody = &big }, ""},
		{"one byte more", func(in *sqs.SendMessageInput) { in.MessageBody = aws.String(big + "x") }, "InvalidParameterValue"},
		{"attributes count", func(in *sqs.SendMessageInput) {
			in.MessageBody = aws.String(big[:len(big)-10])
			attribute("name", "String", "v")(in)
		}, "InvalidParameterValue"},
		{"bytes, not characters", func(in *sqs.SendMessageInput) { in.MessageBody = aws.String(strings.Repeat("é", 131073)) }, "InvalidParameterValue"},
		{"tab and line ends", func(in *sqs.SendMessageInput) { in.MessageBody = aws.String("\t\r\n é € 😀 \ufffd") }, ""},
		{"NUL", func(in *sqs.SendMessageInput) { in.MessageBody = aws.String("a\x00b") }, "InvalidMessageContents"},
		{"escape", func(in *sqs.SendMessageInput) { in.MessageBody = aws.String("a\x1bb") }, "InvalidMessageContents"},
		{"U+FFFE", func(in *sqs.SendMessageInput) { in.MessageBody = aws.String("a\ufffeb") }, "InvalidMessageContents"},
		{"U+FFFF", func(in *sqs.SendMessageInput) { in.MessageBody = aws.String("a\uffffb") }, "InvalidMessageContents"},
		{"empty", func(in *sqs.SendMessageInput) { in.MessageBody = aws.String("") }, "MissingParameter"},
		{"no group", func(in *sqs.SendMessageInput) { in.MessageGroupId = nil }, "MissingParameter"},
		{"group with a space", func(in *sqs.SendMessageInput) { in.MessageGroupId = aws.String("a b") }, "InvalidParameterValue"},
		{"long group", func(in *sqs.SendMessageInput) { in.MessageGroupId = aws.String(strings.Repeat("g", 129)) }, "InvalidParameterValue"},
		{"group of punctuation", func(in *sqs.SendMessageInput) { in.MessageGroupId = aws.String("a!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") }, ""},
		{"deduplication id", func(in *sqs.SendMessageInput) { in.MessageDeduplicationId = aws.String("é") }, "InvalidParameterValue"},
		{"delay", func(in *sqs.SendMessageInput) { in.DelaySeconds = 1 }, "InvalidParameterValue"},
		{"attribute", attribute("name", "String", "v"), ""},
		{"labelled type", attribute("name", "Number.int", "1"), ""},
		{"attribute's name", attribute("AWS.name", "String", "v"), "InvalidParameterValue"},
		{"attribute's characters", attribute("na me", "String", "v"), "InvalidParameterValue"},
		{"attribute's type", attribute("name", "Text", "v"), "InvalidParameterValue"},
		{"attribute's value", attribute("name", "String", ""), "InvalidParameterValue"},
		{"attribute with NUL", attribute("name", "String", "\x00"), "InvalidParameterValue"},
		{"eleven attributes", func(in *sqs.SendMessageInput) {
			in.MessageAttributes = map[string]types.MessageAttributeValue{}
			for i := range 11 {
				in.MessageAttributes[fmt.Sprint(i)] = types.MessageAttributeValue{DataType: aws.String("String"), StringValue: aws.String("v")}
			}
		}, "InvalidParameterValue"},
		{"binary", func(in *sqs.SendMessageInput) {
			in.MessageAttributes = map[string]types.MessageAttributeValue{"b": {DataType: aws.String("Binary"), BinaryValue: []byte{0, 1}}}
		}, ""},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := send(s.queue, fmt.Sprintf("body %d", i), "", "g")
			tt.change(in)
			_, err := s.client.SendMessage(s.ctx, in)
			if tt.code == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, tt.code, code(t, err))
		})
	}
}

func TestAttributesMD5(t *testing.T) {
	s := newSender(t, echotest.Options{})
	in := send(s.queue, "derp", "", "g")
	// Known from AWS's answer to the same message.
	in.MessageAttributes = map[string]types.MessageAttributeValue{"timestamp": {DataType: aws.String("Number"), StringValue: aws.String("1493147359900")}}
	out, err := s.client.SendMessage(s.ctx, in)
	require.NoError(t, err)
	assert.Equal(t, "58fd9edd83341c29f1aebba81c31e257", *out.MD5OfMessageBody)
	assert.Equal(t, "235c5c510d26fb653d073faed50ae77c", *out.MD5OfMessageAttributes)
	m := s.receive(1, 0, 30)[0]
	assert.Equal(t, "235c5c510d26fb653d073faed50ae77c", *m.MD5OfMessageAttributes)
}

func TestRefusedBatches(t *testing.T) {
	s := newSender(t, echotest.Options{})
	quarter := strings.Repeat("x", echotest.MaxMessageSize/4)
	var batchErr *types.BatchRequestTooLong
	_, err := s.batch(entries(quarter+"a", quarter+"b", quarter+"c", quarter))
	require.ErrorAs(t, err, &batchErr)
	var many *types.TooManyEntriesInBatchRequest
	_, err = s.batch(entries(strings.Split("abcdefghijk", "")...))
	require.ErrorAs(t, err, &many)
	var empty *types.EmptyBatchRequest
	_, err = s.batch([]types.SendMessageBatchRequestEntry{})
	require.ErrorAs(t, err, &empty)
	same := entries("a", "b")
	same[1].Id = same[0].Id
	var distinct *types.BatchEntryIdsNotDistinct
	_, err = s.batch(same)
	require.ErrorAs(t, err, &distinct)
	bad := entries("a")
	bad[0].Id = aws.String("a b")
	var id *types.InvalidBatchEntryId
	_, err = s.batch(bad)
	require.ErrorAs(t, err, &id)
	assert.Empty(t, s.bodies())

	out, err := s.batch(entries(strings.Split("abcdefghij", "")...))
	require.NoError(t, err)
	assert.Len(t, out.Successful, 10)
	exact := quarter[:len(quarter)-1]
	_, err = s.batch(entries("1"+exact, "2"+exact, "3"+exact, "4"+exact))
	require.NoError(t, err)
}

func TestBatchFailsInPart(t *testing.T) {
	s := newSender(t, echotest.Options{})
	out, err := s.batch(entries("a", "\x01", "c"))
	require.NoError(t, err)
	assert.Len(t, out.Successful, 2)
	require.Len(t, out.Failed, 1)
	assert.Equal(t, "1", *out.Failed[0].Id)
	assert.True(t, out.Failed[0].SenderFault)
	assert.Equal(t, "InvalidMessageContents", *out.Failed[0].Code)

	s.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Partial, Entries: []int{1, 2}, Count: 1})
	assert.NotEmpty(t, s.receive(1, 0, 30), "no batch, no attempt")
	out, err = s.batch(entries("d", "e", "f", "g"))
	require.NoError(t, err)
	require.Len(t, out.Failed, 2)
	assert.Equal(t, "1", *out.Failed[0].Id)
	assert.False(t, out.Failed[0].SenderFault)
	assert.Equal(t, []string{"a", "c", "d", "g"}, s.bodies())

	s.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Partial, Count: 1})
	out, err = s.batch(entries("h", "i", "j"))
	require.NoError(t, err)
	assert.Len(t, out.Failed, 2)
	assert.Equal(t, []string{"a", "c", "d", "g", "i"}, s.bodies())
}

func TestQueuesThatAreNotThere(t *testing.T) {
	s := newSender(t, echotest.Options{})
	s.mustSend("before")
	old := s.queue
	s.cloud.RemoveEdge("target")
	_, err := s.send("x", "", "g")
	var gone *types.QueueDoesNotExist
	require.ErrorAs(t, err, &gone)
	assert.Equal(t, "AWS.SimpleQueueService.NonExistentQueue", gone.ErrorCode())
	s.queue = s.cloud.AddEdge("", "target")
	assert.NotEqual(t, old, s.queue)
	assert.Equal(t, s.queue, s.cloud.AddEdge("", "target"))
	_, err = s.send("x", "", "g")
	require.Equal(t, "AccessDenied", code(t, err), "credentials open no edge that is newer than they are")
	s.client = s.sqs()
	s.mustSend("before")
	assert.Equal(t, []string{"before", "before"}, s.bodies(), "a new queue has no memory, the log has")
	s.queue = old
	_, err = s.send("x", "", "g")
	require.ErrorAs(t, err, &gone)
}

func TestCredentialsAreChecked(t *testing.T) {
	s := newSender(t, echotest.Options{})
	good := s.credentials()
	try := func(creds aws.Credentials) error {
		_, err := s.sqsWith(creds).SendMessage(s.ctx, send(s.queue, "x", "", "g"))
		return err
	}
	require.NoError(t, try(good))
	for name, tt := range map[string]struct {
		change func(*aws.Credentials)
		code   string
	}{
		"key":      {func(c *aws.Credentials) { c.AccessKeyID = "ASIAOTHER" }, "InvalidClientTokenId"},
		"secret":   {func(c *aws.Credentials) { c.SecretAccessKey += "x" }, "SignatureDoesNotMatch"},
		"token":    {func(c *aws.Credentials) { c.SessionToken += "x" }, "InvalidClientTokenId"},
		"no token": {func(c *aws.Credentials) { c.SessionToken = "" }, "InvalidClientTokenId"},
	} {
		creds := good
		tt.change(&creds)
		require.Equal(t, tt.code, code(t, try(creds)), name)
	}
	s.cloud.Clock().Advance(time.Hour)
	require.Equal(t, "ExpiredToken", code(t, try(good)))
	good = s.credentials()
	require.NoError(t, try(good))
	s.cloud.ExpireCredentials()
	require.Equal(t, "ExpiredToken", code(t, try(good)))

	wrongRegion := sqs.New(sqs.Options{
		BaseEndpoint: aws.String(s.env["AWS_ENDPOINT_URL_SQS"]), Region: "eu-west-1", Retryer: aws.NopRetryer{},
		Credentials: staticCredentials(s.credentials()),
	})
	_, err := wrongRegion.SendMessage(s.ctx, send(s.queue, "y", "", "g"))
	require.Equal(t, "SignatureDoesNotMatch", code(t, err))

	r, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.env["AWS_ENDPOINT_URL_SQS"], strings.NewReader("{}"))
	require.NoError(t, err)
	r.Header.Set("X-Amz-Target", "AmazonSQS.SendMessage")
	status, body, header := s.do(r)
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "MissingAuthenticationToken")
	assert.Equal(t, "MissingAuthenticationToken;Sender", header.Get("X-Amzn-Query-Error"))
}

// tamper changes a request after it was signed.
type tamper func(*http.Request)

func (f tamper) Do(r *http.Request) (*http.Response, error) {
	f(r)
	return http.DefaultClient.Do(r)
}

func TestTamperedRequests(t *testing.T) {
	s := newSender(t, echotest.Options{})
	creds := s.credentials()
	for name, change := range map[string]tamper{
		"header": func(r *http.Request) { r.Header.Set("X-Amz-Date", "20200101T000000Z") },
		"target": func(r *http.Request) { r.Header.Set("X-Amz-Target", "AmazonSQS.SendMessageBatch") },
		"path":   func(r *http.Request) { r.URL.Path = "/other" },
		"query":  func(r *http.Request) { r.URL.RawQuery = "a=b" },
		"body": func(r *http.Request) {
			r.Body = http.NoBody
			r.ContentLength = 0
			r.GetBody = nil
		},
		"added": func(r *http.Request) { r.Header.Set("X-Amz-Other", "x") },
	} {
		client := s.sqsWith(creds)
		_, err := client.SendMessage(s.ctx, send(s.queue, name, "", "g"), func(o *sqs.Options) { o.HTTPClient = change })
		require.Error(t, err, name)
		assert.Contains(t, []string{"SignatureDoesNotMatch", "IncompleteSignature"}, code(t, err), name)
	}
	assert.Empty(t, s.bodies())
	_, err := s.sqsWith(creds).SendMessage(s.ctx, send(s.queue, "ok", "", "g"), func(o *sqs.Options) { o.HTTPClient = tamper(func(*http.Request) {}) })
	require.NoError(t, err)
}

func TestOnlyYourEdges(t *testing.T) {
	s := newSender(t, echotest.Options{})
	s.cloud.SetApp(echotest.App{Name: "other-app"})
	s.cloud.SetNode(echotest.Node{Name: "other", App: "other-app"})
	s.queue = s.cloud.AddEdge("other", "elsewhere")
	_, err := s.send("x", "", "g")
	require.Equal(t, "AccessDenied", code(t, err))
}

func TestWhichEndOfAnEdge(t *testing.T) {
	s := newSender(t, echotest.Options{Sources: []string{"source"}})
	s.cloud.SetApp(echotest.App{Name: "other-app"})
	s.cloud.SetNode(echotest.Node{Name: "target", App: "other-app"})
	in, out := s.cloud.AddEdge("source", "ftp-node"), s.queue
	handle, id := aws.String("x"), aws.String("0")
	for op, do := range map[string]func(queue *string) error{
		"send": func(q *string) error {
			_, err := s.client.SendMessage(s.ctx, send(*q, "x", "", "g"))
			return err
		},
		"send a batch": func(q *string) error {
			_, err := s.client.SendMessageBatch(s.ctx, &sqs.SendMessageBatchInput{QueueUrl: q, Entries: entries("x")})
			return err
		},
		"receive": func(q *string) error {
			_, err := s.client.ReceiveMessage(s.ctx, &sqs.ReceiveMessageInput{QueueUrl: q})
			return err
		},
		"delete": func(q *string) error {
			_, err := s.client.DeleteMessage(s.ctx, &sqs.DeleteMessageInput{QueueUrl: q, ReceiptHandle: handle})
			return err
		},
		"delete a batch": func(q *string) error {
			_, err := s.client.DeleteMessageBatch(s.ctx, &sqs.DeleteMessageBatchInput{QueueUrl: q,
				Entries: []types.DeleteMessageBatchRequestEntry{{Id: id, ReceiptHandle: handle}}})
			return err
		},
		"visibility": func(q *string) error {
			_, err := s.client.ChangeMessageVisibility(s.ctx, &sqs.ChangeMessageVisibilityInput{QueueUrl: q, ReceiptHandle: handle})
			return err
		},
		"visibility of a batch": func(q *string) error {
			_, err := s.client.ChangeMessageVisibilityBatch(s.ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: q,
				Entries: []types.ChangeMessageVisibilityBatchRequestEntry{{Id: id, ReceiptHandle: handle}}})
			return err
		},
	} {
		mine, others := out, in
		if !strings.HasPrefix(op, "send") {
			mine, others = in, out
		}
		require.Equal(t, "AccessDenied", code(t, do(&others)), op)
		if err := do(&mine); err != nil {
			require.Equal(t, "ReceiptHandleIsInvalid", code(t, err), op)
		}
	}
	for _, queue := range []string{in, out} {
		_, err := s.client.GetQueueAttributes(s.ctx, &sqs.GetQueueAttributesInput{QueueUrl: &queue})
		require.NoError(t, err)
	}
}

func TestMachineCredentials(t *testing.T) {
	c, n := start(t, echotest.Options{App: echotest.App{Name: "cross", Kind: echotest.CrossAccountApp}})
	queue := c.AddEdge("", "target")
	machine := aws.Credentials{AccessKeyID: n.env["AWS_ACCESS_KEY_ID"], SecretAccessKey: n.env["AWS_SECRET_ACCESS_KEY"]}
	_, err := n.sqsWith(machine).SendMessage(n.ctx, send(queue, "x", "", "g"))
	require.NoError(t, err)
	_, err = n.sqsWith(n.credentialsOf("cross", "CrossAccountApp")).SendMessage(n.ctx, send(queue, "y", "", "g"))
	require.Equal(t, "AccessDenied", code(t, err), "its queues are the machine's")
	c.UpdateApp("cross", func(a *echotest.App) { a.Kind = echotest.ManagedApp })
	_, err = n.sqsWith(machine).SendMessage(n.ctx, send(queue, "x", "", "g"))
	require.Equal(t, "AccessDenied", code(t, err))
}

func TestSQSFaults(t *testing.T) {
	s := newSender(t, echotest.Options{})
	for kind, want := range map[echotest.FaultKind]string{
		echotest.ServerError:        "ServiceUnavailable",
		echotest.Throttled:          "RequestThrottled",
		echotest.ExpiredCredentials: "ExpiredToken",
		echotest.EdgeRemoved:        "AWS.SimpleQueueService.NonExistentQueue",
		echotest.Denied:             "AccessDenied",
	} {
		s.cloud.Fault(echotest.Fault{Service: echotest.SQS, Edge: "target", Kind: kind, Count: 1})
		_, err := s.send(string(kind), "", "g")
		require.Equal(t, want, code(t, err))
	}
	assert.Empty(t, s.bodies())

	s.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Down, Count: 1})
	_, err := s.send("down", "", "g")
	require.Error(t, err)
	assert.Empty(t, s.bodies())

	s.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.ReplyLost, Count: 1})
	_, err = s.send("lost", "id", "g")
	require.Error(t, err)
	assert.Equal(t, []string{"lost"}, s.bodies())
	_, err = s.send("lost", "id", "g")
	require.NoError(t, err)
	assert.Equal(t, []string{"lost"}, s.bodies())
	assert.Equal(t, 1, s.cloud.EdgeStats("target").Duplicates)
}

func TestDropBodies(t *testing.T) {
	var told string
	s := newSender(t, echotest.Options{DropBodies: true, OnMessage: func(r echotest.Received) { told = r.Body }})
	s.mustSend("body")
	assert.Equal(t, "body", told)
	assert.Equal(t, []string{""}, s.bodies())
	assert.Equal(t, 4, s.cloud.Messages("target")[0].Size)
	assert.Empty(t, s.receive(1, 0, 30))
}

// TestManyMessages sends more than any window or buffer holds.
func TestManyMessages(t *testing.T) {
	s := newSender(t, echotest.Options{})
	const n = 3000
	var body bytes.Buffer
	for i := 0; i < n; i += 10 {
		batch := make([]string, 10)
		for k := range batch {
			body.Reset()
			fmt.Fprintf(&body, "message %d", i+k)
			batch[k] = body.String()
		}
		_, err := s.batch(entries(batch...))
		require.NoError(t, err)
	}
	got, err := s.cloud.WaitMessages(s.ctx, "target", n)
	require.NoError(t, err)
	require.Len(t, got, n)
	for i, m := range got {
		require.Equal(t, fmt.Sprintf("message %d", i), m.Body)
	}
}
