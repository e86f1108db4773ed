package echostream

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkSend sends batches of messages of 4 KiB files over loopback, to a queue that takes all. An operation is one message;
// the queue is in the same process, and what it allocates counts, but is little: it reads the request and answers a text made
// before.
func BenchmarkSend(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(n, "-messages"), func(b *testing.B) {
			body := strings.Repeat("x", 5600)
			sum := md5.Sum([]byte(body))
			answers := make([]string, maxBatch+1) // by the number of messages
			for i := range answers {
				taken := make([]string, i)
				for j := range taken {
					taken[j] = fmt.Sprintf(`{"Id":"%d","MessageId":"m","MD5OfMessageBody":"%x"}`, j, sum)
				}
				answers[i] = `{"Successful":[` + strings.Join(taken, ",") + `]}`
			}
			api := staticCredentials()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/graphql" {
					api.ServeHTTP(w, r)
					return
				}
				request, _ := io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "application/x-amz-json-1.0")
				_, _ = io.WriteString(w, answers[bytes.Count(request, []byte(`"MessageBody"`))])
			}))
			defer server.Close()
			noMachine(b)
			c, err := New(testEnvironment(server.URL+"/graphql"), Options{HTTPClient: server.Client()})
			require.NoError(b, err)
			c.api.(*transport).tokens = &fakeTokens{}
			messages := make([]Message, n)
			for i := range messages {
				messages[i] = Message{TrackingID: fmt.Sprintf("%032x", i), Body: body}
			}
			b.ReportAllocs()
			sent := 0
			for b.Loop() {
				for _, err := range c.Send(context.Background(), testNode(), server.URL+"/1/q.fifo", messages) {
					require.NoError(b, err)
				}
				sent += n
			}
			b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
