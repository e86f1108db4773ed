package echostream

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/nodelog"
)

func nodeFrom(t *testing.T, answer string) *Definition {
	t.Helper()
	c, _, _ := newTestClient(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, answer)
	}), Options{})
	node, err := c.Definition(t.Context())
	require.NoError(t, err)
	return node
}

func TestManagedNode(t *testing.T) {
	warn := slog.LevelWarn
	want := &Definition{
		Name: "My FTP node", Tenant: "acme", Region: "eu-west-1", App: "the app", Managed: true,
		Config: json.RawMessage(`{"a":1,"b":2}`),
		Targets: []Edge{
			{"a", "https://sqs.eu-west-1.amazonaws.com/1/a.fifo"},
			{"b", "https://sqs.eu-west-1.amazonaws.com/1/b.fifo"},
		},
		SendMessageType:      &MessageType{Name: "echo.file", SampleMessage: "{}", Auditor: "def auditor(*, message, **kwargs): ..."},
		Audit:                true,
		AuditRecordsEndpoint: "https://audit.example.com/",
		LoggingLevel:         &warn,
		Ports:                []Port{{ContainerPort: 2121, HostPort: 2121, Protocol: "tcp"}},
		Mounts:               []Mount{{Target: "/data"}},
	}
	node := nodeFrom(t, nodeAnswer)
	assert.Equal(t, want, node)

	text, err := json.Marshal(node)
	require.NoError(t, err)
	var back *Definition
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, want, back)
}

func TestExternalNode(t *testing.T) {
	answer := `{"data":{"GetNode":{"__typename":"ExternalNode","name":"n","tenant":{"audit":null,"config":null,"name":"acme","region":"us-east-2"},
	  "app":{"__typename":"%s","auditRecordsEndpoint":"https://a.example.com","config":"{\"k\":\"v\"}","name":"x"},
	  "config":null,"receiveEdges":[{"queue":"https://q","source":{"name":"of an unknown kind"}}],
	  "receiveMessageType":{"name":"echo.file","readme":"r"},"receiveAuditor":{"auditor":""},"receiveSample":{"sampleMessage":"s"},
	  "sendEdges":null,"sendMessageType":null,"stopped":true}}}`
	for kind, cross := range map[string]bool{"ExternalApp": false, "CrossAccountApp": true} {
		t.Run(kind, func(t *testing.T) {
			assert.Equal(t, &Definition{
				Name: "n", Tenant: "acme", Region: "us-east-2", App: "x", CrossAccount: cross,
				Config:               json.RawMessage(`{"k":"v"}`),
				Sources:              []Edge{{"of an unknown kind", "https://q"}},
				ReceiveMessageType:   &MessageType{Name: "echo.file", SampleMessage: "s", Readme: "r"},
				Stopped:              true,
				AuditRecordsEndpoint: "https://a.example.com",
			}, nodeFrom(t, fmt.Sprintf(answer, kind)))
		})
	}
}

func TestNodeDoesNotPrintItsConfig(t *testing.T) {
	n := testNode()
	n.Config = json.RawMessage(`{"password":"pa55"}`)
	for _, handler := range []func(io.Writer) slog.Handler{
		func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		func(w io.Writer) slog.Handler { return nodelog.NewHandler(w, nil, nil) },
	} {
		for _, v := range []any{n, *n} {
			var out strings.Builder
			log := slog.New(handler(&out))
			log.Info("read", "node", v)
			assert.Contains(t, out.String(), "eu-west-1")
			log.With("node", v).WithGroup("g").Info("again", slog.Group("h", "node", v))
			assert.NotContains(t, out.String(), "pa55", "%T", v)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{n, *n, []Definition{*n}, struct{ N Definition }{*n}} {
			text := fmt.Sprintf(verb, v)
			assert.Contains(t, text, "My FTP node", "%s of %T", verb, v)
			assert.NotContains(t, text, "pa55", "%s of %T", verb, v)
			assert.NotContains(t, text, "0x70, 0x61", "%s of %T", verb, v)
			assert.NotContains(t, text, "112 97", "%s of %T", verb, v)
		}
	}
}
