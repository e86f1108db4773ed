package echotest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

func TestEnvironment(t *testing.T) {
	c, n := start(t, echotest.Options{})
	var names []string
	for name, v := range n.env {
		names = append(names, name)
		assert.NotEmpty(t, v, name)
	}
	slices.Sort(names)
	assert.Equal(t, []string{
		"APPSYNC_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SQS",
		"CLIENT_ID", "NODE", "PASSWORD", "TENANT", "USER_NAME", "USER_POOL_ID",
	}, names)
	assert.Equal(t, c.URL(), n.env["AWS_ENDPOINT_URL"])
	c, n = start(t, echotest.Options{NameVariable: true, Host: "localhost"})
	assert.Equal(t, "ftp-node", n.env["NAME"])
	assert.NotContains(t, n.env, "NODE")
	assert.True(t, strings.HasPrefix(c.URL(), "http://localhost:"))
	assert.Panics(t, func() { c.EnvironmentOf("nobody") })
	// Every service answers at the one address, too.
	for _, name := range []string{"AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER"} {
		n.env[name] = c.URL()
	}
	n.env["APPSYNC_ENDPOINT"] = c.URL() + "/graphql"
	n.env["NODE"] = "ftp-node"
	_, err := n.sqs().SendMessage(n.ctx, send(n.queues()["target"], "x", "", "g"))
	require.NoError(t, err)
}

func TestSeveralEdges(t *testing.T) {
	c, n := start(t, echotest.Options{Targets: []string{"a", "b"}})
	client, queues := n.sqs(), n.queues()
	require.Len(t, queues, 2)
	for _, target := range []string{"a", "b"} {
		_, err := client.SendMessage(n.ctx, send(queues[target], "to "+target, "same", "g"))
		require.NoError(t, err)
		got, err := c.WaitMessages(n.ctx, target, 1)
		require.NoError(t, err)
		require.Len(t, got, 1)
		assert.Equal(t, "to "+target, got[0].Body, "each edge deduplicates for itself")
	}
	assert.Panics(t, func() { c.Messages("") }, "which?")
	c.AddEdge("other", "a")
	assert.Panics(t, func() { c.Messages("a") }, "which?")
	assert.Len(t, c.Messages("ftp-node>a"), 1)
	assert.Empty(t, c.Messages("nobody"))

	_, n = start(t, echotest.Options{Targets: []string{}})
	assert.Empty(t, n.queues())
}

func TestWaitMessagesEnds(t *testing.T) {
	c, _ := start(t, echotest.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err := c.WaitMessages(ctx, "target", 2)
	require.ErrorContains(t, err, "0 of 2 messages on \"target\": enough")
}

func TestPutToANode(t *testing.T) {
	c, _ := start(t, echotest.Options{Sources: []string{"a source"}})
	m := c.Put("a source", "ftp-node", "body", "")
	assert.Len(t, m.TrackingID, 32)
	assert.Equal(t, "a_source", m.GroupID)
	assert.Equal(t, []echotest.Received{m}, c.Messages("ftp-node"))
	c.Put("a source", "ftp-node", "another", "")
	again := c.Put("a source", "ftp-node", "body", m.TrackingID)
	assert.Equal(t, m.MessageID, again.MessageID)
	assert.Equal(t, "body", again.Body)
	assert.Equal(t, 1, again.Duplicates)
	c.Forget()
	assert.Equal(t, m.MessageID, c.Put("a source", "ftp-node", "body", m.TrackingID).MessageID)
	assert.Panics(t, func() { c.Put("nobody", "ftp-node", "body", "") })
	assert.Panics(t, func() { c.Put("a source", "ftp-node", "\x00", "") })
}

func TestOffAndOn(t *testing.T) {
	c, n := start(t, echotest.Options{})
	for _, s := range echotest.Services() {
		t.Run(string(s), func(t *testing.T) {
			address := map[echotest.Service]string{
				echotest.Cognito: n.env["AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER"],
				echotest.AppSync: n.env["APPSYNC_ENDPOINT"],
				echotest.SQS:     n.env["AWS_ENDPOINT_URL_SQS"],
				echotest.S3:      n.env["AWS_ENDPOINT_URL_S3"],
				echotest.Audit:   n.query(*n.tokens().AccessToken, `{ GetApp(name: "ftp-app", tenant: "acme") { ... on ManagedApp { auditRecordsEndpoint } } }`, nil)["GetApp"].(map[string]any)["auditRecordsEndpoint"].(string),
			}[s]
			u, err := url.Parse(address)
			require.NoError(t, err)
			idle, err := net.Dial("tcp", u.Host)
			require.NoError(t, err)
			defer idle.Close()
			for range 3 {
				c.Off(s)
				c.Off(s)
				_, err = net.Dial("tcp", u.Host)
				require.ErrorContains(t, err, "refused")
				c.On(s)
				conn, err := net.Dial("tcp", u.Host)
				require.NoError(t, err)
				conn.Close()
			}
			require.NoError(t, idle.SetReadDeadline(time.Now().Add(10*time.Second)))
			_, err = idle.Read(make([]byte, 1))
			require.Error(t, err)
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "open connections are cut")
		})
	}
	c.Off(echotest.AppSync)
	n.env["APPSYNC_ENDPOINT"] = c.URL() + "/graphql"
	_, err := http.Post(n.env["APPSYNC_ENDPOINT"], "application/json", strings.NewReader("{}"))
	require.ErrorIs(t, err, io.EOF, "nor does it answer at the common address")
	n.tokens()
	assert.Panics(t, func() { c.Off("") })
}

func TestCloseWaitsForWhatIsOutstanding(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	c, n := start(t, echotest.Options{OnMessage: func(echotest.Received) {
		close(entered)
		<-leave
	}})
	client, queue := n.sqs(), n.queues()["target"]
	sent := make(chan error, 1)
	go func() {
		_, err := client.SendMessage(n.ctx, send(queue, "x", "", "g"))
		sent <- err
	}()
	<-entered
	closed := make(chan struct{})
	go func() {
		c.Close()
		close(closed)
	}()
	// Close has begun when nobody new is let in.
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.URL(), "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, 10*time.Second, time.Millisecond)
	select {
	case <-closed:
		t.Fatal("closed while a request was outstanding")
	default:
	}
	close(leave)
	require.NoError(t, <-sent)
	<-closed
	c.Close()
}

// What has arrived can be decoded between Stop and Close.
func TestStop(t *testing.T) {
	c, n := start(t, echotest.Options{})
	p := n.places("")[0]
	status, _ := n.put(p, bytes.NewReader(zipped(t, []byte("content"))), nil)
	require.Equal(t, http.StatusOK, status)
	m := message(t, map[string]any{"contentUrl": p.PresignedGet})
	c.Stop()
	c.Stop()
	_, err := net.Dial("tcp", strings.TrimPrefix(c.URL(), "http://"))
	require.Error(t, err)
	file, err := c.Decode(t.Context(), m, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, int64(7), file.Size)
	c.Close()
	_, err = c.Decode(t.Context(), m, io.Discard)
	require.Error(t, err)
}

func TestCloseEndsDelays(t *testing.T) {
	c, n := start(t, echotest.Options{})
	c.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.Slow, Delay: time.Hour})
	done := make(chan int, 1)
	go func() { done <- n.graphql("", "{ __typename }", nil).Status }()
	require.Eventually(t, func() bool { return c.Requests(echotest.AppSync, "") == 1 }, 10*time.Second, time.Millisecond)
	c.Close()
	assert.Equal(t, http.StatusUnauthorized, <-done)
}

func TestTLS(t *testing.T) {
	c, n := start(t, echotest.Options{TLS: true})
	for name, v := range n.env {
		if strings.HasPrefix(name, "AWS_") || name == "APPSYNC_ENDPOINT" {
			assert.True(t, strings.HasPrefix(v, "https://"), name)
		}
	}
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(c.CertificatePEM()))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	resp, err := client.Post(n.env["APPSYNC_ENDPOINT"], "application/json", strings.NewReader(`{"query":"{ __typename }"}`))
	require.NoError(t, err)
	resp.Body.Close()
	assert.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	_, err = http.Get(n.env["APPSYNC_ENDPOINT"])
	require.ErrorContains(t, err, "certificate")
}

func TestStartCloudSaysWhatIsWrong(t *testing.T) {
	c, _ := start(t, echotest.Options{})
	_, err := echotest.StartCloud(echotest.Options{Address: strings.TrimPrefix(c.URL(), "http://")})
	require.ErrorContains(t, err, "in use")
	_, err = echotest.StartCloud(echotest.Options{TempDir: "/nonexistent"})
	require.ErrorContains(t, err, "/nonexistent")
	_, err = echotest.StartCloud(echotest.Options{Address: "nonsense"})
	require.ErrorContains(t, err, "nonsense")
}

func TestNothingSecretIsLogged(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	s := newSender(t, echotest.Options{Log: slog.New(slog.NewTextHandler(locked{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	s.mustSend("body")
	creds, tokens, p := s.credentials(), s.tokens(), s.places("")[0]
	status, _ := s.put(p, strings.NewReader("x"), nil)
	require.Equal(t, http.StatusOK, status)
	s.cloud.Close()
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, log.String(), "operation=SendMessage")
	require.Contains(t, log.String(), "operation=PutObject")
	for _, secret := range []string{
		s.env["PASSWORD"], creds.SecretAccessKey, creds.SessionToken, *tokens.AccessToken, *tokens.RefreshToken, "X-Amz-Signature",
	} {
		assert.NotContains(t, log.String(), secret)
	}
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func TestManyAtOnce(t *testing.T) {
	s := newSender(t, echotest.Options{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				_, err := s.client.SendMessage(s.ctx, send(s.queue, fmt.Sprintf("%d-%d", g, i), "", fmt.Sprintf("g%d", g)))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := make(map[string]int)
	for _, m := range s.cloud.Messages("target") {
		assert.Equal(t, fmt.Sprintf("%s-%d", m.GroupID[1:], next[m.GroupID]), m.Body)
		next[m.GroupID]++
	}
	assert.Len(t, next, 8)
}

func BenchmarkSendMessageBatch(b *testing.B) {
	_, n := start(b, echotest.Options{DropBodies: true})
	client, queue := n.sqs(), n.queues()["target"]
	body := strings.Repeat("x", 1000)
	i := 0
	for b.Loop() {
		batch := make([]string, 10)
		for k := range batch {
			batch[k] = fmt.Sprintf("%d %s", i, body)
			i++
		}
		_, err := client.SendMessageBatch(b.Context(), &sqs.SendMessageBatchInput{QueueUrl: &queue, Entries: entries(batch...)})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "messages/s")
}
