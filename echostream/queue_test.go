package echostream

import (
	"errors"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// capture keeps where a request would have gone.
type capture struct{ url, region string }

func (c *capture) Do(r *http.Request) (*http.Response, error) {
	c.url = r.URL.Scheme + "://" + r.URL.Host
	if m := regexp.MustCompile(`Credential=[^/]+/\d+/([^/]+)/sqs/`).FindStringSubmatch(r.Header.Get("Authorization")); m != nil {
		c.region = m[1]
	}
	return nil, errors.New("captured")
}

func TestWhereAQueueIsAskedFor(t *testing.T) {
	for _, test := range []struct{ name, queue, endpoint, url, region string }{
		{"the tenant's region", "https://sqs.eu-west-1.amazonaws.com/1/q.fifo", "", "https://sqs.eu-west-1.amazonaws.com", "eu-west-1"},
		{"another region", "https://sqs.ap-southeast-2.amazonaws.com/1/q.fifo", "", "https://sqs.ap-southeast-2.amazonaws.com", "ap-southeast-2"},
		{"China", "https://sqs.cn-north-1.amazonaws.com.cn/1/q.fifo", "", "https://sqs.cn-north-1.amazonaws.com.cn", "cn-north-1"},
		{"an old URL", "https://us-west-2.queue.amazonaws.com/1/q.fifo", "", "https://sqs.us-west-2.amazonaws.com", "us-west-2"},
		{"the oldest URL", "https://queue.amazonaws.com/1/q.fifo", "", "https://sqs.us-east-1.amazonaws.com", "us-east-1"},
		{"dual stack", "https://sqs.us-west-2.api.aws/1/q.fifo", "", "https://sqs.us-west-2.amazonaws.com", "us-west-2"},
		{"not in AWS", "http://localhost:9324/000000000000/q.fifo", "", "http://localhost:9324", "eu-west-1"},
		{"an emulator", "https://sqs.us-west-2.amazonaws.com/1/q.fifo", "http://127.0.0.1:4566", "http://127.0.0.1:4566", "us-west-2"},
		{"an emulator's own queue", "http://sqs.localhost.localstack.cloud:4566/1/q.fifo", "http://127.0.0.1:4566", "http://127.0.0.1:4566", "eu-west-1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			noMachine(t)
			t.Setenv("AWS_ACCESS_KEY_ID", "KEY")
			t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
			t.Setenv("AWS_ENDPOINT_URL_SQS", test.endpoint)
			seen := &capture{}
			c, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{HTTPClient: seen})
			require.NoError(t, err)
			node := testNode()
			node.CrossAccount = true
			errs := c.Send(t.Context(), node, test.queue, []Message{{TrackingID: NewTrackingID(), Body: "x"}})
			assert.ErrorContains(t, errs[0], "captured")
			assert.Equal(t, test.url, seen.url)
			assert.Equal(t, test.region, seen.region)
		})
	}
}

func TestAQueueThatIsNoURL(t *testing.T) {
	noMachine(t)
	c, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{HTTPClient: noHTTP{t}})
	require.NoError(t, err)
	for _, queue := range []string{"", "q.fifo", "://", "ftp://host/q.fifo"} {
		errs := c.Send(t.Context(), testNode(), queue, []Message{{TrackingID: NewTrackingID(), Body: "x"}})
		assert.ErrorContains(t, errs[0], "expected a URL")
		assert.False(t, IsPermanent(errs[0]))
	}
}
