package echostream

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeTokens counts up: "token-1", "token-2" after the first was refused, ...
type fakeTokens struct {
	mu      sync.Mutex
	n       int
	refused []string
}

func (f *fakeTokens) Token(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return "token-" + string(rune('1'+f.n)), nil
}

func (f *fakeTokens) Invalidate(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	f.refused = append(f.refused, token)
}

func (f *fakeTokens) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.refused...)
}

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// noMachine keeps what is configured on this machine out of a test.
func noMachine(t testing.TB) {
	t.Helper()
	for _, name := range []string{
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER",
		"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE",
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
	} {
		t.Setenv(name, "")
	}
	none := t.TempDir() + "/none"
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func testEnvironment(endpoint string) Environment {
	return Environment{
		AppSyncEndpoint: endpoint, ClientID: "client", Name: "My FTP node", Password: "correct horse",
		Tenant: "acme", UserPoolID: "eu-west-1_AbCdEfGhI", UserName: "user",
	}
}

// newTestClient makes a client whose every request goes to handler, on paths of the test's choice.
func newTestClient(t *testing.T, handler http.Handler, opts Options) (*Client, *httptest.Server, *fakeTokens) {
	t.Helper()
	noMachine(t)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	if opts.HTTPClient == nil {
		opts.HTTPClient = server.Client()
	}
	c, err := New(testEnvironment(server.URL+"/graphql"), opts)
	require.NoError(t, err)
	tokens := &fakeTokens{}
	c.api.(*transport).tokens = tokens
	return c, server, tokens
}

func testNode() *Definition {
	return &Definition{Name: "My FTP node", Tenant: "acme", Region: "eu-west-1", App: "the app", Config: json.RawMessage(`{}`)}
}

// graphQL answers each operation with the text that answers has for it.
type graphQL struct {
	mu      sync.Mutex
	answers map[string]func(variables map[string]any) string
	asked   map[string]int
}

func (g *graphQL) count(operation string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[operation]
}

func (g *graphQL) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q struct {
		OperationName string
		Variables     map[string]any
	}
	body, _ := io.ReadAll(r.Body)
	if json.Unmarshal(body, &q) != nil || g.answers[q.OperationName] == nil {
		http.Error(w, "no answer to "+string(body), http.StatusNotImplemented)
		return
	}
	g.mu.Lock()
	if g.asked == nil {
		g.asked = map[string]int{}
	}
	g.asked[q.OperationName]++
	answer := g.answers[q.OperationName](q.Variables)
	g.mu.Unlock()
	_, _ = io.WriteString(w, answer)
}

func credentialsAnswer(key string, expires time.Time) string {
	text, _ := json.Marshal(map[string]any{"data": map[string]any{"GetApp": map[string]any{
		"__typename": "ManagedApp", "name": "the app",
		"GetAwsCredentials": map[string]any{
			"accessKeyId": key, "secretAccessKey": "secret of " + key, "sessionToken": "session of " + key,
			"expiration": expires.UTC().Format(time.RFC3339),
		},
	}}})
	return string(text)
}

// staticCredentials answers GetAwsCredentials with KEY1, KEY2, ..., each for an hour.
func staticCredentials() *graphQL {
	n := 0
	return &graphQL{answers: map[string]func(map[string]any) string{
		"GetAwsCredentials": func(map[string]any) string {
			n++
			return credentialsAnswer("KEY"+string(rune('0'+n)), time.Now().Add(time.Hour))
		},
	}}
}

func requireNoSecret(t *testing.T, err error, secrets ...string) {
	t.Helper()
	require.Error(t, err)
	for _, s := range secrets {
		assert.NotContains(t, err.Error(), s)
	}
}

// writes keeps what each Write got.
type writes struct {
	mu     sync.Mutex
	events []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, string(p))
	return len(p), nil
}

func (w *writes) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}
