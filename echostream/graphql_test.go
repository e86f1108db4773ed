package echostream

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const nodeAnswer = `{"data":{"GetNode":{"__typename":"ManagedNode","name":"My FTP node",
  "tenant":{"audit":true,"config":"{\"a\":1,\"b\":1}","name":"acme","region":"eu-west-1"},
  "app":{"auditRecordsEndpoint":"https://audit.example.com/","config":null,"name":"the app"},
  "config":"{\"b\":2}","loggingLevel":"WARNING",
  "mounts":[{"source":null,"target":"/data"}],
  "ports":[{"containerPort":2121,"hostAddress":null,"hostPort":2121,"protocol":"tcp"}],
  "receiveEdges":[],"receiveMessageType":null,"receiveAuditor":null,"receiveSample":null,
  "sendEdges":[null,{"queue":"https://sqs.eu-west-1.amazonaws.com/1/b.fifo","target":{"name":"b"}},
    {"queue":"https://sqs.eu-west-1.amazonaws.com/1/a.fifo","target":{"name":"a"}}],
  "sendMessageType":{"name":"echo.file","readme":null},
  "sendAuditor":{"auditor":"def auditor(*, message, **kwargs): ..."},"sendSample":{"sampleMessage":"{}"},
  "stopped":null}}}`

func TestAPI(t *testing.T) {
	for _, test := range []struct {
		name    string
		status  int
		answer  string
		want    string // of the error; "" is none
		refused bool   // the token
	}{
		{"answer", 200, nodeAnswer, "", false},
		{"GraphQL error", 200, `{"data":{"GetNode":null},"errors":[{"errorType":"DependencyTimeout","message":"later","path":["GetNode"]},{"message":"x"}]}`,
			"the API refused GetNode: DependencyTimeout: later (GetNode); x", false},
		{"fields kept back", 200, strings.TrimSuffix(nodeAnswer, "}") + `,"errors":[{"errorType":"Unauthorized","message":"Not Authorized to access readme","path":["GetNode","sendMessageType","readme"]}]}`,
			"", false},
		{"the node kept back", 200, `{"data":{"GetNode":null},"errors":[{"errorType":"Unauthorized","message":"Not Authorized","path":["GetNode"]}]}`,
			"the API refused GetNode: Unauthorized: Not Authorized (GetNode)", false},
		{"a message type kept back", 200, strings.TrimSuffix(nodeAnswer, "}") + `,"errors":[{"errorType":"Unauthorized","message":"Not Authorized","path":["GetNode","sendMessageType","name"]}]}`,
			"Unauthorized: Not Authorized (GetNode.sendMessageType.name)", false},
		{"edges kept back", 200, strings.TrimSuffix(nodeAnswer, "}") + `,"errors":[{"errorType":"Unauthorized","message":"Not Authorized","path":["GetNode","sendEdges"]}]}`,
			"Unauthorized: Not Authorized (GetNode.sendEdges)", false},
		{"a field that failed", 200, strings.TrimSuffix(nodeAnswer, "}") + `,"errors":[{"errorType":"Timeout","message":"later","path":["GetNode","sendEdges",0]}]}`,
			"Timeout: later (GetNode.sendEdges.0)", false},
		{"expired token", 401, `{"errors":[{"errorType":"UnauthorizedException","message":"Token has expired."}]}`,
			"the API refused GetNode with HTTP status 401: UnauthorizedException: Token has expired.", true},
		{"expired token with status 200", 200, `{"errors":[{"errorType":"UnauthorizedException","message":"Token has expired."}]}`,
			"UnauthorizedException", true},
		{"down", 503, `<html>down</html>`, "the API refused GetNode with HTTP status 503", false},
		{"not JSON", 200, `<html>`, "the API's answer to GetNode is not JSON", false},
		{"empty", 200, `{}`, "neither data nor errors", false},
		{"unknown kind of node", 200, `{"data":{"GetNode":{"__typename":"TimerNode","name":"n","tenant":{"name":"acme","region":"r"}}}}`, "TimerNode", false},
		{"other kind of node", 200, `{"data":{"GetNode":{"__typename":"WebhookNode","name":"n","tenant":{"name":"acme","region":"r"}}}}`,
			"it is a WebhookNode, expected a ManagedNode or an ExternalNode", false},
		{"wrong type", 200, `{"data":{"GetNode":{"__typename":"ManagedNode","name":7}}}`, "does not match the schema", false},
		{"no such node", 200, `{"data":{"GetNode":null}}`, `reading node "My FTP node" of tenant "acme": no such node`, false},
		{"no app", 200, `{"data":{"GetNode":{"__typename":"ExternalNode","name":"n","tenant":{"name":"acme","region":"r"},"app":null}}}`, "belongs to no app", false},
		{"too long", 200, strings.Repeat(" ", maxAnswer+1), "longer than", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _, tokens := newTestClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Regexp(t, `^token-\d$`, r.Header.Get("Authorization"))
				assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.answer)
			}), Options{})
			node, err := c.Definition(t.Context())
			if test.refused {
				assert.Equal(t, []string{"token-1", "token-2"}, tokens.all())
			} else {
				assert.Empty(t, tokens.all())
			}
			if test.want != "" {
				assert.ErrorContains(t, err, test.want)
				assert.False(t, IsPermanent(err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "My FTP node", node.Name)
		})
	}
}

func TestAPIReplacesARefusedTokenOnce(t *testing.T) {
	c, _, tokens := newTestClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "token-2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, nodeAnswer)
	}), Options{})
	_, err := c.Definition(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"token-1"}, tokens.all())
}

func TestAPITimesOut(t *testing.T) {
	release := make(chan struct{})
	c, _, _ := newTestClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-release:
		}
	}), Options{CallTimeout: 50 * time.Millisecond})
	defer close(release)
	_, err := c.Definition(t.Context())
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	requireNoSecret(t, err, "http://")
}
