package echostream

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"
)

// The request says what the AWS SDK's own would say.
func FuzzBatchProtocol(f *testing.F) {
	for _, seed := range []string{`{"name":"a.csv"}`, "a \"\\\" b\\", "\t\r\n \x7f", "é\u2028\U0001F4C4\ufffd", strings.Repeat("x", 100) + `"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m := Message{TrackingID: NewTrackingID(), Body: text, PrevTrackingIDs: []string{NewTrackingID(), NewTrackingID()}}
		if m.Validate() != nil {
			t.Skip() // post gets none that is not valid
		}
		const queue = "https://sqs.example/1/q.fifo"
		in := &sqs.SendMessageBatchInput{QueueUrl: aws.String(queue)}
		var entries []entry
		for i, m := range []Message{m, {TrackingID: NewTrackingID(), Body: text}} {
			in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{
				Id: aws.String(strconv.Itoa(i)), MessageBody: &m.Body, MessageAttributes: attributesOf(m),
				MessageGroupId: aws.String(`a\"group`), MessageDeduplicationId: &m.TrackingID,
			})
			entries = append(entries, entry{m, `a\"group`})
		}
		head, body := serialized(t, in)
		gotHead, gotBody := serialized(t, &sqs.SendMessageBatchInput{QueueUrl: in.QueueUrl, Entries: inBody}, written(batchJSON(queue, entries)))
		require.Equal(t, head, gotHead)
		require.Equal(t, body, gotBody)
	})
}

// attributesOf are a message's, as the AWS SDK has them.
func attributesOf(m Message) map[string]types.MessageAttributeValue {
	attributes := map[string]types.MessageAttributeValue{
		attributeTrackingID: {DataType: aws.String(attributeType), StringValue: aws.String(m.TrackingID)},
	}
	if len(m.PrevTrackingIDs) > 0 {
		attributes[attributePrevTrackingIDs] = types.MessageAttributeValue{
			DataType: aws.String(attributeType), StringValue: aws.String(m.prevTrackingIDs())}
	}
	return attributes
}

// serialized is the head and the body of the request that the AWS SDK makes of a batch.
func serialized(t *testing.T, in *sqs.SendMessageBatchInput, options ...func(*sqs.Options)) (http.Header, map[string]any) {
	t.Helper()
	var head http.Header
	var body map[string]any
	c := sqs.New(sqs.Options{
		Region: "eu-west-1", Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{},
		HTTPClient: smithyhttp.ClientDoFunc(func(r *http.Request) (*http.Response, error) {
			head = r.Header.Clone()
			head.Del("Amz-Sdk-Invocation-Id")
			text, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			require.EqualValues(t, len(text), r.ContentLength)
			require.NoError(t, json.Unmarshal(text, &body))
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("{}"))}, nil
		}),
	})
	_, err := c.SendMessageBatch(context.Background(), in, options...)
	require.NoError(t, err)
	return head, body
}
