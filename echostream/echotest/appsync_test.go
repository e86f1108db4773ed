package echotest_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

const nodeQuery = `
query getNode($name: String!, $tenant: String!) {
	GetNode(name: $name, tenant: $tenant) {
		__typename
		name
		... on ManagedNode {
			app { __typename name auditRecordsEndpoint config tableAccess tenant { name } }
			config loggingLevel stopped
			mounts { source target }
			ports { containerPort hostAddress hostPort protocol }
			...edges
			sendMessageType { ...type }
			receiveMessageType { ...type }
		}
		... on ExternalNode {
			app { __typename ... on CrossAccountApp { name config } ... on ExternalApp { name } }
			stopped
		}
		tenant { audit config name region table }
	}
}
fragment edges on ManagedNode {
	out: sendEdges { queue source { name } target { name __typename } }
	in: receiveEdges { source { name } }
}
fragment type on MessageType { name auditor sampleMessage readme }`

func TestGetNode(t *testing.T) {
	c, n := start(t, echotest.Options{
		Tenant: echotest.Tenant{Audit: true, Config: `{"a":1}`, Region: "us-east-1"},
		App:    echotest.App{Name: "ftp-app", Config: `{"b":2}`, TableAccess: true},
		Node: echotest.Node{
			Name: "my node", Config: `{"c":3}`, LoggingLevel: "DEBUG",
			Ports:  []echotest.Port{{ContainerPort: 2121, HostPort: 2121}},
			Mounts: []echotest.Mount{{Target: "/data"}},
		},
		Targets: []string{"x", "y"}, Sources: []string{"z"},
	})
	token := *n.tokens().AccessToken
	variables := map[string]any{"name": "my node", "tenant": "acme"}
	get := func() map[string]any {
		return n.query(token, nodeQuery, variables)["GetNode"].(map[string]any)
	}
	node := get()
	assert.Equal(t, "ManagedNode", node["__typename"])
	assert.Equal(t, "my node", node["name"])
	assert.Equal(t, `{"c":3}`, node["config"])
	assert.Equal(t, "DEBUG", node["loggingLevel"])
	assert.Nil(t, node["stopped"])
	assert.Contains(t, node, "stopped")
	assert.Nil(t, node["receiveMessageType"])
	assert.Equal(t, []any{map[string]any{"source": nil, "target": "/data"}}, node["mounts"])
	assert.Equal(t, []any{map[string]any{"containerPort": 2121., "hostAddress": nil, "hostPort": 2121., "protocol": "tcp"}}, node["ports"])
	assert.Equal(t, map[string]any{"audit": true, "config": `{"a":1}`, "name": "acme", "region": "us-east-1", "table": "tenant-table"}, node["tenant"])
	app := node["app"].(map[string]any)
	assert.Equal(t, "ManagedApp", app["__typename"])
	assert.Equal(t, `{"b":2}`, app["config"])
	assert.Equal(t, true, app["tableAccess"])
	out := node["out"].([]any)
	require.Len(t, out, 2)
	assert.Equal(t, "x", out[0].(map[string]any)["target"].(map[string]any)["name"])
	assert.Equal(t, "my node", out[0].(map[string]any)["source"].(map[string]any)["name"])
	assert.Equal(t, []any{map[string]any{"source": map[string]any{"name": "z"}}}, node["in"])
	kind := node["sendMessageType"].(map[string]any)
	assert.Equal(t, "echo.file", kind["name"])
	assert.JSONEq(t, echotest.EchoFile().SampleMessage, kind["sampleMessage"].(string))

	// Everything can change while the cloud runs.
	c.UpdateNode("", func(n *echotest.Node) {
		n.Stopped, n.LoggingLevel, n.Config, n.Ports, n.Mounts = true, "", "", nil, nil
	})
	c.UpdateTenant(func(t *echotest.Tenant) { t.Audit, t.Name = false, "ignored" })
	c.UpdateApp("ftp-app", func(a *echotest.App) { a.Config = "" })
	custom := echotest.EchoFile()
	custom.SampleMessage = `{"other":"keys"}`
	c.SetMessageType(custom)
	c.RemoveEdge("x")
	c.RemoveEdge("my node>y")
	node = get()
	assert.Equal(t, true, node["stopped"])
	for _, key := range []string{"loggingLevel", "config", "ports", "mounts", "out"} {
		assert.Nil(t, node[key], key)
	}
	assert.Equal(t, false, node["tenant"].(map[string]any)["audit"])
	assert.Nil(t, node["app"].(map[string]any)["config"])
	assert.Equal(t, `{"other":"keys"}`, node["sendMessageType"].(map[string]any)["sampleMessage"])

	c.RemoveNode("my node")
	assert.Nil(t, n.query(token, nodeQuery, variables)["GetNode"])
}

func TestOtherKindsOfApps(t *testing.T) {
	for kind, field := range map[echotest.AppKind]string{echotest.ExternalApp: "name", echotest.CrossAccountApp: "config"} {
		t.Run(string(kind), func(t *testing.T) {
			_, n := start(t, echotest.Options{App: echotest.App{Name: "other", Kind: kind, Config: "{}"}})
			node := n.query(*n.tokens().AccessToken, nodeQuery, map[string]any{"name": "ftp-node", "tenant": "acme"})["GetNode"].(map[string]any)
			assert.Equal(t, "ExternalNode", node["__typename"])
			app := node["app"].(map[string]any)
			assert.Equal(t, string(kind), app["__typename"])
			assert.Contains(t, app, field)
			assert.NotContains(t, node, "ports")
			assert.Equal(t, kind == echotest.CrossAccountApp, n.env["AWS_ACCESS_KEY_ID"] != "")
		})
	}
}

func TestNodesAtBothEndsOfAnEdge(t *testing.T) {
	c, n := start(t, echotest.Options{Targets: []string{"second"}})
	c.SetNode(echotest.Node{Name: "second"})
	c.AddEdge("second", "third")
	data := n.query(*n.tokens().AccessToken, `query { GetNode(name: "ftp-node", tenant: "acme") { ... on ManagedNode {
		sendEdges { target { __typename name ... on ManagedNode { sendEdges { target { name } } app { name } } } } } } }`, nil)
	text, err := json.Marshal(data)
	require.NoError(t, err)
	assert.JSONEq(t, `{"GetNode":{"sendEdges":[{"target":{"__typename":"ManagedNode","name":"second",
		"sendEdges":[{"target":{"name":"third"}}],"app":{"name":"ftp-app"}}}]}}`, string(text))
	assert.Equal(t, []string{"ftp-node>second", "second>third"}, c.Edges())
	assert.Equal(t, []string{"ftp-node", "second"}, c.Nodes())
}

func TestAuthorization(t *testing.T) {
	_, n := start(t, echotest.Options{})
	token := *n.tokens().AccessToken
	id := *n.tokens().IdToken
	for name, header := range map[string]string{"none": "", "bearer": "Bearer " + token, "made up": "x", "id token": id} {
		t.Run(name, func(t *testing.T) {
			a := n.graphql(header, `{ __typename }`, nil)
			assert.Equal(t, http.StatusUnauthorized, a.Status)
			require.Len(t, a.Errors, 1)
			assert.Equal(t, "UnauthorizedException", a.Errors[0].ErrorType)
			assert.Nil(t, a.Data)
		})
	}
	assert.Equal(t, map[string]any{"__typename": "Query"}, n.query(token, `{ __typename }`, nil))
}

func TestQueriesAreValidated(t *testing.T) {
	_, n := start(t, echotest.Options{})
	token := *n.tokens().AccessToken
	tests := map[string]struct {
		query     string
		variables map[string]any
		kind      string
	}{
		"syntax":             {`{ GetNode(`, nil, "InvalidSyntaxError"},
		"unknown field":      {`{ GetNode(name: "a", tenant: "acme") { nothing } }`, nil, "ValidationError"},
		"field of another":   {`{ GetNode(name: "a", tenant: "acme") { loggingLevel } }`, nil, "ValidationError"},
		"missing argument":   {`{ GetNode(name: "a") { name } }`, nil, "ValidationError"},
		"unknown argument":   {`{ GetNode(name: "a", tenant: "acme", x: 1) { name } }`, nil, "ValidationError"},
		"type":               {`{ GetNode(name: 1, tenant: "acme") { name } }`, nil, "ValidationError"},
		"enum":               {`{ GetBulkDataStorage(tenant: "acme", contentEncoding: br) { presignedGet } }`, nil, "ValidationError"},
		"undefined variable": {`{ GetNode(name: $x, tenant: "acme") { name } }`, nil, "ValidationError"},
		"missing variable":   {`query($x: String!) { GetNode(name: $x, tenant: "acme") { name } }`, nil, "ValidationError"},
		"variable's type":    {`query($x: String!) { GetNode(name: $x, tenant: "acme") { name } }`, map[string]any{"x": 1}, "ValidationError"},
		"int as a string":    {`query($n: Int) { GetBulkDataStorage(tenant: "acme", count: $n) { presignedGet } }`, map[string]any{"n": "1"}, "ValidationError"},
		"fraction":           {`query($n: Int) { GetBulkDataStorage(tenant: "acme", count: $n) { presignedGet } }`, map[string]any{"n": 1.5}, "ValidationError"},
		"enum's case":        {`query($e: ContentEncoding) { GetBulkDataStorage(tenant: "acme", contentEncoding: $e) { presignedGet } }`, map[string]any{"e": "GZIP"}, "ValidationError"},
		"unused fragment":    {`{ __typename } fragment f on Node { name }`, nil, "ValidationError"},
		"two operations":     {`query a { __typename } query b { __typename }`, nil, "BadRequestException"},
		"no selection":       {`{ GetNode(name: "a", tenant: "acme") }`, nil, "ValidationError"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := n.graphql(token, tt.query, tt.variables)
			assert.Equal(t, http.StatusOK, a.Status)
			assert.Nil(t, a.Data)
			require.NotEmpty(t, a.Errors)
			assert.Equal(t, tt.kind, a.Errors[0].ErrorType, a.Errors[0].Message)
		})
	}
	assert.Equal(t, http.StatusBadRequest, n.graphqlRaw(token, []byte("{")).Status)
}

func TestDirectives(t *testing.T) {
	_, n := start(t, echotest.Options{})
	data := n.query(*n.tokens().AccessToken, `query($yes: Boolean!, $no: Boolean!) {
		a: __typename @skip(if: $yes) b: __typename @skip(if: $no) c: __typename @include(if: $yes)
		d: __typename @include(if: $no) ... @include(if: $no) { e: __typename } ... @skip(if: $no) { f: __typename } }`,
		map[string]any{"yes": true, "no": false, "unused": 1})
	assert.Equal(t, map[string]any{"b": "Query", "c": "Query", "f": "Query"}, data)
}

func TestWhatIsNotYours(t *testing.T) {
	c, n := start(t, echotest.Options{})
	c.SetApp(echotest.App{Name: "other-app"})
	c.SetNode(echotest.Node{Name: "other", App: "other-app"})
	token := *n.tokens().AccessToken
	for _, query := range []string{
		`{ GetNode(name: "other", tenant: "acme") { name } }`,
		`{ GetNode(name: "ftp-node", tenant: "umbrella") { name } }`,
		`{ GetApp(name: "other-app", tenant: "acme") { name } }`,
	} {
		a := n.graphql(token, query, nil)
		assert.Equal(t, http.StatusOK, a.Status)
		require.Len(t, a.Errors, 1, query)
		assert.Equal(t, "Unauthorized", a.Errors[0].ErrorType)
		assert.Contains(t, a.Data, a.Errors[0].Path[0])
	}
	a := n.graphql(token, `{ GetBulkDataStorage(tenant: "umbrella") { presignedGet } }`, nil)
	require.Len(t, a.Errors, 1)
	assert.Nil(t, a.Data, "null goes up to the next field that may be null")
	assert.Nil(t, n.query(token, `{ GetApp(name: "none", tenant: "acme") { name } }`, nil)["GetApp"])

	second := newNode(t, c, c.EnvironmentOf("other"))
	assert.NotEqual(t, n.env["USER_NAME"], second.env["USER_NAME"])
	data := second.query(*second.tokens().AccessToken, `{ GetNode(name: "other", tenant: "acme") { name } }`, nil)
	assert.Equal(t, map[string]any{"GetNode": map[string]any{"name": "other"}}, data)
}

func TestCredentialsDuration(t *testing.T) {
	c, n := start(t, echotest.Options{})
	token := *n.tokens().AccessToken
	for _, seconds := range []int{899, 43201} {
		a := n.graphql(token, credentialsQuery, map[string]any{"app": "ftp-app", "tenant": "acme", "duration": seconds})
		require.Len(t, a.Errors, 1)
		assert.Equal(t, "BadRequest", a.Errors[0].ErrorType)
		assert.Nil(t, a.Data["GetApp"])
	}
	expires := n.credentials().Expires
	assert.WithinDuration(t, c.Clock().Now().Add(time.Hour), expires, time.Minute)
}

func TestIntrospection(t *testing.T) {
	_, n := start(t, echotest.Options{})
	data := n.query(*n.tokens().AccessToken, `{
		__schema { queryType { name } mutationType { name } types { kind name } directives { name args { name defaultValue } } }
		__type(name: "ManagedNode") { kind fields { name type { kind name ofType { name } } } interfaces { name } enumValues { name } }
		app: __type(name: "RemoteApp") { possibleTypes { name } fields { name } }
		level: __type(name: "LogLevel") { enumValues { name } }
		query: __type(name: "Query") { fields { name args { name type { kind ofType { name } } defaultValue } } }
		none: __type(name: "Nothing") { name }
	}`, nil)
	assert.Equal(t, map[string]any{"name": "Query"}, data["__schema"].(map[string]any)["queryType"])
	assert.Nil(t, data["none"])
	assert.Equal(t, []any{map[string]any{"name": "CrossAccountApp"}, map[string]any{"name": "ExternalApp"}}, data["app"].(map[string]any)["possibleTypes"])
	assert.Contains(t, data["level"].(map[string]any)["enumValues"], map[string]any{"name": "WARNING"})
	assert.Contains(t, data["__type"].(map[string]any)["fields"],
		map[string]any{"name": "name", "type": map[string]any{"kind": "NON_NULL", "name": nil, "ofType": map[string]any{"name": "String"}}})
	assert.Len(t, data["query"].(map[string]any)["fields"], 3, "not those of introspection")
}

// A field that must not be null takes the object that it stands in with it, and nothing else.
func TestADeniedField(t *testing.T) {
	c, n := start(t, echotest.Options{})
	s := c.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.Denied, Field: "MessageType.sampleMessage"})
	a := n.graphql(*n.tokens().AccessToken, `{ GetNode(name: "ftp-node", tenant: "acme") { name ... on ManagedNode {
		sendMessageType { name sampleMessage } only: sendMessageType { name } } } }`, nil)
	assert.Equal(t, map[string]any{"GetNode": map[string]any{
		"name": "ftp-node", "sendMessageType": nil, "only": map[string]any{"name": "echo.file"}}}, a.Data)
	require.Len(t, a.Errors, 1)
	assert.Equal(t, "Unauthorized", a.Errors[0].ErrorType)
	assert.Equal(t, []any{"GetNode", "sendMessageType", "sampleMessage"}, a.Errors[0].Path)
	assert.Equal(t, 1, s.Hits())
}

func TestAppSyncFaults(t *testing.T) {
	c, n := start(t, echotest.Options{})
	token := *n.tokens().AccessToken
	query := `{ GetNode(name: "ftp-node", tenant: "acme") { name } }`
	for kind, want := range map[echotest.FaultKind]int{
		echotest.ServerError: 503, echotest.Throttled: 429, echotest.ExpiredToken: 401, echotest.Denied: 200,
	} {
		s := c.Fault(echotest.Fault{Service: echotest.AppSync, Operation: "GetNode", Kind: kind, Count: 1})
		assert.Equal(t, http.StatusOK, n.graphql(token, `{ __typename }`, nil).Status)
		a := n.graphql(token, query, nil)
		assert.Equal(t, want, a.Status, kind)
		assert.Len(t, a.Errors, 1, kind)
		assert.Equal(t, 1, s.Hits())
		assert.Empty(t, n.graphql(token, query, nil).Errors)
	}
}
