package echostream

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
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
	for _, seed := range []string{`{"name":"a.csv"}`, "a \"\\\" b\\", "\t\r\n \x7f", "é\u2028\U0001F4C4\ufffd", strings.Repeat("x", 100) + `"`, ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m := Message{TrackingID: NewTrackingID(), Body: text, PrevTrackingIDs: []string{NewTrackingID(), NewTrackingID()}}
		if m.Validate() != nil && text != "" {
			t.Skip() // post gets none that is not valid
		}
		in := &sqs.SendMessageBatchInput{QueueUrl: aws.String("https://sqs.example/1/q.fifo")}
		for _, attributes := range []map[string]types.MessageAttributeValue{m.attributes(), Message{TrackingID: "a"}.attributes(), nil} {
			in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{
				Id: aws.String("0"), MessageBody: &m.Body, MessageAttributes: attributes,
				MessageGroupId: aws.String(`a\"group`), MessageDeduplicationId: &m.TrackingID,
			})
		}
		head, body := serialized(t, in, func(p smithyhttp.ClientProtocol) smithyhttp.ClientProtocol { return p })
		gotHead, gotBody := serialized(t, in, func(p smithyhttp.ClientProtocol) smithyhttp.ClientProtocol { return batchProtocol{p} })
		for _, e := range body["Entries"].([]any) {
			if e := e.(map[string]any); e["MessageAttributes"] == nil {
				e["MessageAttributes"] = map[string]any{}
			}
		}
		require.Equal(t, head, gotHead)
		require.Equal(t, body, gotBody)
	})
}

// serialized is the head and the body of the request that a protocol makes of a batch.
func serialized(t *testing.T, in *sqs.SendMessageBatchInput, of func(smithyhttp.ClientProtocol) smithyhttp.ClientProtocol) (http.Header, map[string]any) {
	t.Helper()
	var head http.Header
	var body map[string]any
	c := sqs.New(sqs.Options{
		Region: "eu-west-1", Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{},
		HTTPClient: smithyhttp.ClientDoFunc(func(r *http.Request) (*http.Response, error) {
			head = r.Header.Clone()
			head.Del("Amz-Sdk-Invocation-Id")
			require.NoError(t, json.NewDecoder(r.Body).Decode(&body))
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("{}"))}, nil
		}),
	}, func(o *sqs.Options) { o.Protocol = of(o.Protocol) })
	_, err := c.SendMessageBatch(context.Background(), in)
	require.NoError(t, err)
	return head, body
}
