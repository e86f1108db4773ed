package echotest_test

import (
	"encoding/json"
	"io"
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

// poll receives as a receiver does.
func (s *sender) poll(attempt string) []types.Message {
	s.t.Helper()
	in := &sqs.ReceiveMessageInput{
		QueueUrl: &s.queue, MaxNumberOfMessages: 10, VisibilityTimeout: 30,
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		MessageAttributeNames:       []string{"All"},
	}
	if attempt != "" {
		in.ReceiveRequestAttemptId = &attempt
	}
	out, err := s.client.ReceiveMessage(s.ctx, in)
	require.NoError(s.t, err)
	return out.Messages
}

func received(messages []types.Message) (bodies []string) {
	for _, m := range messages {
		bodies = append(bodies, *m.Body+" "+m.Attributes["ApproximateReceiveCount"])
	}
	return bodies
}

func TestAttemptThatIsMadeAgainGetsWhatItGot(t *testing.T) {
	s := newSender(t, echotest.Options{})
	s.mustSend("a", "b")
	first := s.poll("attempt 1")
	require.Equal(t, []string{"a 1", "b 1"}, received(first))
	assert.Empty(t, s.poll("attempt 2"), "another attempt")
	again := s.poll("attempt 1")
	assert.Equal(t, []string{"a 1", "b 1"}, received(again))
	assert.Equal(t, first[0].ReceiptHandle, again[0].ReceiptHandle)

	_, err := s.client.DeleteMessage(s.ctx, &sqs.DeleteMessageInput{QueueUrl: &s.queue, ReceiptHandle: again[0].ReceiptHandle})
	require.NoError(t, err)
	assert.Empty(t, s.poll("attempt 1"), "what it got was touched")
	s.cloud.Clock().Advance(time.Minute)
	assert.Equal(t, []string{"b 2"}, received(s.poll("attempt 3")))
	s.cloud.Clock().Advance(6 * time.Minute)
	assert.Equal(t, []string{"b 3"}, received(s.poll("attempt 3")), "its five minutes are over")
}

func TestReceivedTooOftenIsADeadLetter(t *testing.T) {
	s := newSender(t, echotest.Options{})
	s.mustSend("a", "b")
	s.cloud.SetMaxReceiveCount("target", 2)
	for n := range 2 {
		require.Len(t, s.poll(""), 2, n)
		assert.Empty(t, s.cloud.DeadLetters("target"))
		s.cloud.Clock().Advance(time.Minute)
	}
	s.mustSend("c")
	assert.Equal(t, []string{"c 1"}, received(s.poll("")))
	dead := s.cloud.DeadLetters("target")
	require.Len(t, dead, 2)
	assert.Equal(t, "a", dead[0].Body)
	visible, inFlight := s.cloud.Waiting("target")
	assert.Equal(t, [2]int{0, 1}, [2]int{visible, inFlight})
}

func TestMovedEdgeKeepsItsQueue(t *testing.T) {
	s := newSender(t, echotest.Options{})
	s.mustSend("a")
	s.cloud.MoveEdge("ftp-node", "target", "other")
	assert.Equal(t, []string{"other>target"}, s.cloud.Edges())
	assert.Equal(t, []string{"a 1"}, received(s.poll("")))
	assert.Equal(t, "other", s.cloud.Put("other", "target", "b", "").Source)
	assert.Len(t, s.cloud.Messages("other>target"), 2)
	assert.Panics(t, func() { s.cloud.MoveEdge("ftp-node", "target", "other") })
}

func TestRawMessages(t *testing.T) {
	s := newSender(t, echotest.Options{})
	s.cloud.PutRaw("ftp-node", "target", echotest.Raw{Body: "bare", GroupID: "g1"})
	s.cloud.PutRaw("ftp-node", "target", echotest.Raw{Body: string(make([]byte, echotest.MaxMessageSize+1)), GroupID: "g1",
		Attributes: map[string]string{"prevTrackingIds": "no list"}})
	got := s.poll("")
	require.Len(t, got, 2)
	assert.Empty(t, got[0].MessageAttributes)
	assert.Equal(t, "g1", got[0].Attributes["MessageGroupId"])
	assert.Equal(t, "no list", *got[1].MessageAttributes["prevTrackingIds"].StringValue)
}

func TestDownloadInParts(t *testing.T) {
	c, n := start(t, echotest.Options{})
	data := n.query(*n.tokens().AccessToken, `{ GetBulkDataStorage(tenant: "acme") { presignedGet presignedPut { headers url } } }`, nil)
	place := data["GetBulkDataStorage"].([]any)[0].(map[string]any)
	put := place["presignedPut"].(map[string]any)
	do := func(method, url string, header map[string]string, body string) (*http.Response, string, error) {
		r, err := http.NewRequestWithContext(n.ctx, method, url, strings.NewReader(body))
		require.NoError(t, err)
		for name, value := range header {
			r.Header.Set(name, value)
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return answer, string(text), err
	}
	var headers map[string]string
	require.NoError(t, json.Unmarshal([]byte(put["headers"].(string)), &headers))
	stored, _, err := do(http.MethodPut, put["url"].(string), headers, "0123456789")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, stored.StatusCode)
	get := place["presignedGet"].(string)

	answer, text, err := do(http.MethodGet, get, map[string]string{"Accept-Encoding": "gzip"}, "")
	require.NoError(t, err)
	assert.Equal(t, "0123456789", text)
	etag := answer.Header.Get("Etag")
	assert.Equal(t, stored.Header.Get("Etag"), etag)
	assert.Equal(t, "gzip", answer.Header.Get("Content-Encoding"))
	assert.Equal(t, int64(10), answer.ContentLength)
	answer, text, err = do(http.MethodGet, get, map[string]string{"Accept-Encoding": "gzip", "Range": "bytes=7-", "If-Match": etag}, "")
	require.NoError(t, err)
	assert.Equal(t, "789", text)
	assert.Equal(t, http.StatusPartialContent, answer.StatusCode)
	assert.Equal(t, "bytes 7-9/10", answer.Header.Get("Content-Range"))
	answer, _, _ = do(http.MethodGet, get, map[string]string{"Range": "bytes=7-", "If-Match": `"other"`}, "")
	assert.Equal(t, http.StatusPreconditionFailed, answer.StatusCode)

	c.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.ReplyCut, Count: 1})
	_, text, err = do(http.MethodGet, get, map[string]string{"Accept-Encoding": "gzip"}, "")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, "01234", text)
}

func TestKeyThatCannotBeUsed(t *testing.T) {
	s := newSender(t, echotest.Options{})
	f, err := echotest.ParseFault("sqs/ReceiveMessage:kms:count=1")
	require.NoError(t, err)
	s.cloud.Fault(f)
	_, err = s.client.ReceiveMessage(s.ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String(s.queue)})
	var disabled *types.KmsDisabled
	require.ErrorAs(t, err, &disabled)
}
