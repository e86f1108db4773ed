package echostream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rawAnswer is an answer to the letter.
type rawAnswer struct {
	status int
	header string // "Name: value", or ""
	body   string
}

func (a rawAnswer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if name, value, ok := strings.Cut(a.header, ": "); ok {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

const html = "<html><body>blocked</body></html>"

// askedOf calls a service that always gives the same answer, and returns the error.
var askedOf = map[string]func(t *testing.T, answer http.Handler) error{
	"SQS": func(t *testing.T, answer http.Handler) error {
		mux := http.NewServeMux()
		mux.Handle("/graphql", staticCredentials())
		mux.Handle("/", answer)
		c, server, _ := newTestClient(t, mux, Options{})
		return c.Send(t.Context(), testNode(), server.URL+"/1/q.fifo", messagesOf("a"))[0]
	},
	"S3": func(t *testing.T, answer http.Handler) error {
		b, s, _ := newStorage(t, BulkOptions{})
		s.refuse = func(w http.ResponseWriter) bool {
			answer.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/", nil))
			return true
		}
		_, err := b.Upload(t.Context(), opener([]byte("x")))
		return err
	},
	"AppSync": func(t *testing.T, answer http.Handler) error {
		c, _, _ := newTestClient(t, answer, Options{})
		_, err := c.Definition(t.Context())
		return err
	},
	"Cognito": func(t *testing.T, answer http.Handler) error {
		server := httptest.NewServer(answer)
		t.Cleanup(server.Close)
		env, err := environmentOf(goodVariables())
		require.NoError(t, err)
		cognito := cognitoidentityprovider.New(cognitoidentityprovider.Options{
			BaseEndpoint: aws.String(server.URL), Region: "eu-west-1", Retryer: aws.NopRetryer{}, HTTPClient: server.Client(),
		})
		_, err = newLogin(env, cognito, time.Minute, slog.New(slog.DiscardHandler), time.Now).Token(t.Context())
		return err
	},
	"audit": func(t *testing.T, answer http.Handler) error {
		mux := http.NewServeMux()
		mux.Handle("/graphql", staticCredentials())
		mux.Handle("/", answer)
		c, server, _ := newTestClient(t, mux, Options{})
		node := testNode()
		node.AuditRecordsEndpoint = server.URL + "/audit/"
		return c.Audit(t.Context(), node, "echo.file", []AuditRecord{{TrackingID: "1"}})[0]
	},
}

// Each answer of each service is for good (this message or content can never go), for now (later it can), or for a
// person (it is tried on, but somebody has to look at something).
func TestKindsOfAnswers(t *testing.T) {
	sqs := func(status int, code string) rawAnswer {
		return rawAnswer{status, "X-Amzn-Query-Error: " + code + ";Sender", `{"__type":"com.amazonaws.sqs#X","message":"m"}`}
	}
	s3 := func(status int, code, message string) rawAnswer {
		return rawAnswer{status, "", "<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>"}
	}
	cognito := func(status int, code string) rawAnswer {
		return rawAnswer{status, "X-Amzn-Errortype: " + code + ":", `{"__type":"` + code + `","message":"m"}`}
	}
	graphql := func(status int, kind, message string) rawAnswer {
		return rawAnswer{status, "", fmt.Sprintf(`{"data":null,"errors":[{"errorType":%q,"message":%q,"path":["GetNode"]}]}`, kind, message)}
	}
	audit := func(status int, kind string) rawAnswer {
		return rawAnswer{status, "X-Amzn-Errortype: " + kind, `{}`}
	}
	page := func(status int) rawAnswer { return rawAnswer{status, "Content-Type: text/html", html} }
	const good, now, person = "for good", "for now", "for a person"
	for _, test := range []struct {
		service string
		kind    string
		answers map[string]rawAnswer
	}{
		{"SQS", good, map[string]rawAnswer{
			"contents": sqs(400, "InvalidMessageContents"), "too long": sqs(400, "AWS.SimpleQueueService.BatchRequestTooLong"),
		}},
		{"SQS", now, map[string]rawAnswer{
			"throttled": sqs(403, "RequestThrottled"), "throttling": sqs(400, "ThrottlingException"), "over limit": sqs(403, "OverLimit"),
			"KMS throttled": sqs(400, "KmsThrottled"), "no queue": sqs(400, "AWS.SimpleQueueService.NonExistentQueue"),
			"internal": sqs(500, "InternalFailure"), "unavailable": sqs(503, "ServiceUnavailable"), "bad gateway": page(502), "timeout": page(408),
			"skew": sqs(403, "RequestTimeTooSkewed"), "too many": page(429), "a page": page(200),
		}},
		{"SQS", person, map[string]rawAnswer{
			"denied": sqs(403, "AccessDenied"), "expired, and again": sqs(403, "ExpiredToken"), "unknown key, and again": sqs(403, "InvalidClientTokenId"),
			"signature": sqs(403, "SignatureDoesNotMatch"), "KMS": sqs(400, "KmsAccessDenied"), "KMS off": sqs(400, "KmsDisabled"), "KMS, old": sqs(400, "KMS.DisabledException"),
			"not FIFO": sqs(400, "InvalidParameterValue"), "no such operation": sqs(400, "AWS.SimpleQueueService.UnsupportedOperation"),
			"too large for a proxy": page(413), "forbidden by a proxy": page(403), "portal": page(302), "gone": page(404),
			"proxy's user": page(407),
		}},
		{"S3", good, map[string]rawAnswer{
			"too large": s3(400, "EntityTooLarge", "m"), "too large, 413": s3(413, "EntityTooLarge", "m"), "too small": s3(400, "EntityTooSmall", "m"),
		}},
		{"S3", now, map[string]rawAnswer{
			"expired": s3(403, "AccessDenied", "Request has expired"), "policy expired": s3(403, "AccessDenied", "Invalid according to Policy: Policy expired."),
			"signer expired": s3(400, "ExpiredToken", "m"), "signer replaced": s3(403, "InvalidAccessKeyId", "m"), "skew": s3(403, "RequestTimeTooSkewed", "m"),
			"slow down": s3(503, "SlowDown", "m"), "request timeout": s3(400, "RequestTimeout", "m"), "internal": s3(500, "InternalError", "m"),
			"conflict": s3(409, "OperationAborted", "m"), "damaged": s3(400, "BadDigest", "m"), "cut": s3(400, "IncompleteBody", "m"),
			"moved for now": s3(307, "TemporaryRedirect", "m"), "bad gateway": page(502), "too many": page(429),
		}},
		{"S3", person, map[string]rawAnswer{
			"denied": s3(403, "AccessDenied", "Access Denied"), "signature": s3(403, "SignatureDoesNotMatch", "m"), "no bucket": s3(404, "NoSuchBucket", "m"),
			"account": s3(403, "AccountProblem", "m"), "moved": s3(301, "PermanentRedirect", "m"), "no chunks": s3(411, "MissingContentLength", "m"),
			"too large for a proxy": page(413), "forbidden by a proxy": page(403), "no Expect": page(417), "proxy's user": page(407),
		}},
		{"AppSync", now, map[string]rawAnswer{
			"throttled": graphql(429, "ThrottlingException", "m"), "throttled, 400": graphql(400, "ThrottlingException", "m"), "down": graphql(500, "InternalFailure", "m"), "bad gateway": page(502),
			"a field": graphql(200, "DependencyTimeout", "m"), "a function": graphql(200, "Lambda:Unhandled", "m"), "empty": {200, "", "{}"}, "timeout": page(408),
		}},
		{"AppSync", person, map[string]rawAnswer{
			"token, and again": graphql(401, "UnauthorizedException", "m"), "not authorized": graphql(200, "Unauthorized", "m"),
			"schema": graphql(200, "", "Validation error of type FieldUndefined"), "malformed": graphql(400, "MalformedHttpRequestException", "m"),
			"firewall": graphql(403, "WAFForbiddenException", "m"), "too large for a proxy": page(413), "portal": page(200), "not there": page(404),
			"no node": {200, "", `{"data":{"GetNode":null}}`}, "another schema": {200, "", `{"data":{"GetNode":7}}`},
			"config": {200, "", `{"data":{"GetNode":{"__typename":"ManagedNode","name":"n","tenant":{"name":"acme","region":"r"},"app":{"name":"a","auditRecordsEndpoint":"x"},"config":"[]"}}}`},
		}},
		{"Cognito", now, map[string]rawAnswer{
			"too many": cognito(400, "TooManyRequestsException"), "limit": cognito(400, "LimitExceededException"), "internal": cognito(500, "InternalErrorException"),
			"unavailable": page(503), "a page": page(200),
		}},
		{"Cognito", person, map[string]rawAnswer{
			"password": cognito(400, "NotAuthorizedException"), "app": cognito(400, "UserLambdaValidationException"), "client": cognito(400, "ResourceNotFoundException"),
			"flow": cognito(400, "InvalidParameterException"), "reset": cognito(400, "PasswordResetRequiredException"), "firewall": cognito(400, "ForbiddenException"),
			"blocked": page(403), "too large for a proxy": page(413),
		}},
		{"audit", good, map[string]rawAnswer{"its content": {422, "", "{}"}}},
		{"audit", now, map[string]rawAnswer{
			"throttled": audit(429, "TooManyRequestsException"), "internal": audit(500, "InternalFailure"), "bad gateway": page(502), "timeout": page(408), "skew": audit(403, "RequestTimeTooSkewed"),
		}},
		{"audit", person, map[string]rawAnswer{
			"denied": audit(403, "AccessDeniedException"), "no reason": {403, "", ""}, "expired, and again": audit(403, "ExpiredTokenException"),
			"signature": audit(403, "InvalidSignatureException"), "bad request": audit(400, "BadRequest"), "not there": audit(404, "ResourceNotFoundException"),
			"too large": audit(413, "RequestTooLargeException"), "too large for a proxy": page(413), "portal": page(302),
		}},
	} {
		for name, answer := range test.answers {
			t.Run(test.service+" "+test.kind+" "+name, func(t *testing.T) {
				err := askedOf[test.service](t, answer)
				require.Error(t, err)
				got := now
				switch {
				case IsPermanent(err):
					got = good
					assert.False(t, NeedsOperator(err))
				case NeedsOperator(err):
					got = person
				}
				assert.Equal(t, test.kind, got, "%v", err)
				requireNoSecret(t, err, "http://", "KEY", "secret of", "session of", "X-Amz-Signature")
			})
		}
	}
}

// dial makes connections as a test wants.
func dial(f func(ctx context.Context) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return f(ctx) }}}
}

// What goes wrong on the way is for now, but for what only a person can cure.
func TestKindsOfConnectionErrors(t *testing.T) {
	secure := httptest.NewTLSServer(rawAnswer{})
	defer secure.Close()
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	deny := httptest.NewServer(rawAnswer{status: http.StatusProxyAuthRequired})
	defer deny.Close()
	through, err := url.Parse(deny.URL)
	require.NoError(t, err)
	for _, test := range []struct {
		name   string
		client *http.Client
		person bool
		want   string
	}{
		{"refused", dial(func(context.Context) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}), false, "refused"},
		{"no such host", dial(func(context.Context) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		}), false, "no such host"},
		{"unknown certificate", &http.Client{}, true, "AWS_CA_BUNDLE or SSL_CERT_FILE"},
		{"proxy's password", &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(through)}}, true, "HTTPS_PROXY"},
	} {
		t.Run(test.name, func(t *testing.T) {
			noMachine(t)
			c, err := New(testEnvironment(secure.URL+"/graphql"), Options{HTTPClient: test.client})
			require.NoError(t, err)
			c.api.(*transport).tokens = &fakeTokens{}
			_, err = c.Definition(t.Context())
			assert.ErrorContains(t, err, test.want)
			assert.Equal(t, test.person, NeedsOperator(err), "%v", err)
			assert.False(t, IsPermanent(err))
		})
	}
}

// An outcome is known only if SQS said so, or if nothing can have reached it.
func TestUnknownOutcomes(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	cut := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	sqs := func(status int, code string) rawAnswer {
		return rawAnswer{status, "X-Amzn-Query-Error: " + code + ";Sender", `{"__type":"com.amazonaws.sqs#X","message":"m"}`}
	}
	refused := func(context.Context) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
	}
	for _, test := range []struct {
		name    string
		answer  http.Handler
		dial    func(context.Context) (net.Conn, error) // of a client that cannot reach SQS
		slow    bool                                    // it has to wait for the end of the time
		secure  bool                                    // it speaks TLS to a server that does not
		unknown bool
	}{
		{"reply lost", cut, nil, false, false, true},
		{"too late", hang, nil, true, false, true},
		{"broken", sqs(500, "InternalFailure"), nil, false, false, true},
		{"unavailable", sqs(503, "ServiceUnavailable"), nil, false, false, true},
		{"gateway timeout", rawAnswer{504, "", html}, nil, false, false, true},
		{"request timeout of a proxy", rawAnswer{408, "", html}, nil, false, false, true},
		{"not an answer", rawAnswer{200, "", html}, nil, false, false, true},
		{"an answer to something else", rawAnswer{200, "", `{"Successful":[],"Failed":[]}`}, nil, false, false, true},
		{"failed by SQS", rawAnswer{200, "", `{"Successful":[],"Failed":[{"Id":"0","Code":"InternalError","SenderFault":false}]}`}, nil, false, false, true},
		{"refused in the batch", rawAnswer{200, "", `{"Successful":[],"Failed":[{"Id":"0","Code":"X","SenderFault":true}]}`}, nil, false, false, false},
		{"throttled", sqs(403, "RequestThrottled"), nil, false, false, false},
		{"denied", sqs(403, "AccessDenied"), nil, false, false, false},
		{"no queue", sqs(400, "AWS.SimpleQueueService.NonExistentQueue"), nil, false, false, false},
		{"a proxy's no", rawAnswer{403, "", html}, nil, false, false, false},
		{"connection refused", nil, refused, false, false, false},
		{"no such host", nil, func(context.Context) (net.Conn, error) { return nil, &net.DNSError{Err: "no such host"} }, false, false, false},
		{"no connection in time", nil, func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, true, false, false},
		{"no TLS", rawAnswer{}, nil, false, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			api := httptest.NewServer(staticCredentials())
			defer api.Close()
			queue := "http://127.0.0.1:1/q.fifo"
			if test.answer != nil {
				server := httptest.NewServer(test.answer)
				defer server.Close()
				server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
				queue = server.URL + "/q.fifo"
				if test.secure {
					queue = "https" + queue[len("http"):]
				}
			}
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if test.dial != nil && address == "127.0.0.1:1" {
					return test.dial(ctx)
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}}
			defer client.CloseIdleConnections()
			bound := time.Minute
			if test.slow {
				bound = 300 * time.Millisecond
			}
			noMachine(t)
			c, err := New(testEnvironment(api.URL+"/graphql"), Options{HTTPClient: client, CallTimeout: bound})
			require.NoError(t, err)
			c.api.(*transport).tokens = &fakeTokens{}
			_, err = c.Credentials(testNode()).Retrieve(t.Context())
			require.NoError(t, err)

			err = c.Send(t.Context(), testNode(), queue, messagesOf("a"))[0]
			require.Error(t, err)
			assert.Equal(t, test.unknown, IsUnknown(err), "%v", err)
			assert.False(t, IsPermanent(err))
		})
	}
}

// What was not tried is not unknown, whatever became of what was before it; what was tried twice is if one try is.
func TestUnknownOutcomesOfABatch(t *testing.T) {
	internal, sender := refusal{"InternalError", false}, refusal{"Whatever", true}
	late := Message{TrackingID: "x", Body: "late", Group: "other"}
	for _, test := range []struct {
		name     string
		script   *scriptedSQS
		messages []Message
		want     []bool
	}{
		{"the request broke", &scriptedSQS{requests: []refusal{{"InternalFailure", false}}},
			append(messagesOf("1", "2", "3", "4", "5", "6", "7", "8", "9", "10"), late), append(slices.Repeat([]bool{true}, 10), false)},
		{"the first try", &scriptedSQS{entries: map[string][]refusal{"a": {internal, sender}}}, messagesOf("a"), []bool{true}},
		{"the second try", &scriptedSQS{entries: map[string][]refusal{"a": {sender, internal}}}, messagesOf("a"), []bool{true}},
		{"neither", &scriptedSQS{entries: map[string][]refusal{"a": {sender, sender}}}, messagesOf("a"), []bool{false}},
		{"one that may not overtake", &scriptedSQS{entries: map[string][]refusal{"a": {internal, internal}, "b": {sender}}}, messagesOf("a", "b"), []bool{true, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.script.status = http.StatusInternalServerError
			var got []bool
			for _, err := range sendTo(t, test.script, test.messages) {
				require.Error(t, err)
				got = append(got, IsUnknown(err))
			}
			assert.Equal(t, test.want, got)
		})
	}
}

// Several tries fit into SQS's five minutes, and a slow line (70 kbit/s) can still send what is largest.
func TestSendTimeout(t *testing.T) {
	noMachine(t)
	for _, test := range []struct {
		size        int
		bound, want time.Duration
	}{
		{100, 0, 15 * time.Second}, {64 << 10, 0, 23 * time.Second}, {MaxMessageSize, 0, 30 * time.Second}, {100, time.Second, time.Second},
	} {
		c, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{HTTPClient: noHTTP{t}, CallTimeout: test.bound})
		require.NoError(t, err)
		got := (&sending{client: c}).timeout(test.size)
		assert.Equal(t, test.want, got.Truncate(time.Second))
	}
}
