package echotest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	graphqlPath = "/graphql"
	auditPath   = "/audit/"

	minCredentials = 900 * time.Second
	maxCredentials = 43200 * time.Second
)

func (c *Cloud) serveGraphQL(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var in struct {
		Query         string         `json:"query"`
		OperationName string         `json:"operationName"`
		Variables     map[string]any `json:"variables"`
	}
	jsonErr := json.Unmarshal(body, &in)
	q, errs := (*query)(nil), []answerError(nil)
	op := "invalid"
	if jsonErr == nil {
		if q, errs = parseQuery(c.schema, in.Query, in.OperationName, in.Variables); q != nil {
			op = q.name()
		}
	}
	c.handle(w, r, AppSync, op, "", func(w http.ResponseWriter, e effect) {
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		w.Header().Set("X-Amzn-Requestid", randomID())
		refuse := func(status int, kind, message string) {
			w.Header().Set("X-Amzn-Errortype", kind)
			writeJSON(w, status, map[string]any{"errors": []map[string]string{{"errorType": kind, "message": message}}})
		}
		switch e.refuse {
		case ServerError:
			refuse(e.status, "InternalFailure", "Something went wrong")
			return
		case Throttled:
			refuse(http.StatusTooManyRequests, "ThrottlingException", "Rate exceeded")
			return
		}
		u, ok := c.cognito.check(r.Header.Get("Authorization"))
		switch {
		case r.Method != http.MethodPost:
			refuse(http.StatusMethodNotAllowed, "MethodNotAllowedException", "Method Not Allowed")
		case r.Header.Get("Authorization") == "":
			refuse(http.StatusUnauthorized, "UnauthorizedException", "Missing authorization header")
		case strings.HasPrefix(r.Header.Get("Authorization"), "Bearer "):
			refuse(http.StatusUnauthorized, "UnauthorizedException", "Unable to parse JWT token.")
		case !ok || e.refuse == ExpiredToken:
			refuse(http.StatusUnauthorized, "UnauthorizedException", "Token has expired.")
		case jsonErr != nil:
			refuse(http.StatusBadRequest, "MalformedHttpRequestException", "Unable to parse GraphQL query.")
		case q == nil:
			writeJSON(w, http.StatusOK, map[string]any{"data": nil, "errors": errs})
		default:
			data, errs := c.run(q, u, e)
			out := map[string]any{"data": data}
			if len(errs) > 0 {
				out["errors"] = errs
			}
			writeJSON(w, http.StatusOK, out)
		}
	})
}

func (c *Cloud) run(q *query, u *user, e effect) (any, []answerError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return q.run(c.root(u, e.refuse == Denied), e.denied)
}

var errUnauthorized = &apiError{"Unauthorized", "Not Authorized to access this resource"}

// root is the Query object as user u sees it. The caller holds c.mu as long as resolvers run.
func (c *Cloud) root(u *user, denied bool) object {
	guard := func(f func(args map[string]any) (any, error)) resolver {
		return func(args map[string]any) (any, error) {
			if denied || args["tenant"] != c.tenant.Name {
				return nil, errUnauthorized
			}
			return f(args)
		}
	}
	return object{"Query", map[string]any{
		"GetNode": guard(func(args map[string]any) (any, error) {
			n, ok := c.nodes[args["name"].(string)]
			if !ok {
				return nil, nil
			}
			if n.App != u.app {
				return nil, errUnauthorized
			}
			return c.nodeObject(n), nil
		}),
		"GetApp": guard(func(args map[string]any) (any, error) {
			app, ok := c.apps[args["name"].(string)]
			if !ok {
				return nil, nil
			}
			if app.Name != u.app {
				return nil, errUnauthorized
			}
			return c.appObject(app), nil
		}),
		"GetBulkDataStorage": guard(c.bulkDataStorage),
		"__schema":           resolver(func(map[string]any) (any, error) { return introspectSchema(c.schema), nil }),
		"__type": resolver(func(args map[string]any) (any, error) {
			if t := c.schema.Types[args["name"].(string)]; t != nil {
				return introspectType(c.schema, t), nil
			}
			return nil, nil
		}),
	}}
}

func (c *Cloud) tenantObject() object {
	return object{"Tenant", map[string]any{
		"audit":  c.tenant.Audit,
		"config": orNil(c.tenant.Config),
		"name":   c.tenant.Name,
		"region": c.tenant.Region,
		"table":  c.tenant.Table,
	}}
}

func (c *Cloud) appObject(app App) object {
	return object{string(app.Kind), map[string]any{
		"GetAwsCredentials": resolver(func(args map[string]any) (any, error) {
			seconds, ok := integer(args["duration"])
			if !ok {
				seconds = 3600
			}
			d := time.Duration(seconds) * time.Second
			if d < minCredentials || d > maxCredentials {
				return nil, &apiError{"BadRequest", fmt.Sprintf("duration must be from 900 to 43200, not %d", seconds)}
			}
			v := c.credentials.vend(app.Name, c.edgesMade, c.clock.Now().Add(d))
			return object{"AwsCredentials", map[string]any{
				"accessKeyId":     v.AccessKeyID,
				"secretAccessKey": v.SecretAccessKey,
				"sessionToken":    v.SessionToken,
				"expiration":      v.Expires.UTC().Format("2006-01-02T15:04:05.000Z"),
			}}, nil
		}),
		"auditRecordsEndpoint": c.url(Audit) + auditPath + auditID(app.Name),
		"config":               orNil(app.Config),
		"name":                 app.Name,
		"tableAccess":          app.TableAccess,
		"tenant":               c.tenantObject(),
	}}
}

func (c *Cloud) nodeObject(n Node) object {
	app := c.apps[n.App]
	o := object{"ExternalNode", map[string]any{
		"app":                c.appObject(app),
		"config":             orNil(n.Config),
		"name":               n.Name,
		"receiveEdges":       c.edgeObjects(func(e *edge) bool { return e.target == n.Name }),
		"receiveMessageType": c.messageTypeObject(n.ReceiveMessageType),
		"sendEdges":          c.edgeObjects(func(e *edge) bool { return e.source == n.Name }),
		"sendMessageType":    c.messageTypeObject(n.SendMessageType),
		"stopped":            nil,
		"tenant":             c.tenantObject(),
	}}
	if n.Stopped {
		o.fields["stopped"] = true
	}
	if app.Kind != ManagedApp {
		return o
	}
	o.typename = "ManagedNode"
	o.fields["loggingLevel"] = orNil(n.LoggingLevel)
	o.fields["mounts"], o.fields["ports"] = nil, nil
	if len(n.Mounts) > 0 {
		var mounts []any
		for _, m := range n.Mounts {
			mounts = append(mounts, object{"Mount", map[string]any{"source": orNil(m.Source), "target": m.Target}})
		}
		o.fields["mounts"] = mounts
	}
	if len(n.Ports) > 0 {
		var ports []any
		for _, p := range n.Ports {
			if p.Protocol == "" {
				p.Protocol = "tcp"
			}
			ports = append(ports, object{"Port", map[string]any{
				"containerPort": p.ContainerPort, "hostAddress": orNil(p.HostAddress),
				"hostPort": p.HostPort, "protocol": p.Protocol,
			}})
		}
		o.fields["ports"] = ports
	}
	return o
}

// edgeObjects lists edges; null if there are none.
func (c *Cloud) edgeObjects(match func(*edge) bool) any {
	var edges []any
	for _, key := range c.edgeOrder {
		if e := c.edges[key]; match(e) {
			edges = append(edges, object{"Edge", map[string]any{
				"queue": e.queue.url, "source": c.peerObject(e.source), "target": c.peerObject(e.target),
			}})
		}
	}
	if edges == nil {
		return nil
	}
	return edges
}

// peerObject is a node at the other end of an edge: its name will be asked for, hardly more.
func (c *Cloud) peerObject(name string) object {
	kind := "ProcessorNode"
	if n, ok := c.nodes[name]; ok {
		kind = "ExternalNode"
		if c.apps[n.App].Kind == ManagedApp {
			kind = "ManagedNode"
		}
	}
	o := object{kind, map[string]any{"name": name, "tenant": c.tenantObject()}}
	if n, ok := c.nodes[name]; ok {
		for _, field := range c.schema.Types[kind].Fields {
			if _, ok := o.fields[field.Name]; !ok {
				// Edges lead in circles: made only when asked for.
				o.fields[field.Name] = resolver(func(args map[string]any) (any, error) {
					v := c.nodeObject(n).fields[field.Name]
					if r, ok := v.(resolver); ok {
						return r(args)
					}
					return v, nil
				})
			}
		}
	}
	return o
}

func (c *Cloud) messageTypeObject(name string) any {
	m, ok := c.messageTypes[name]
	if !ok {
		return nil
	}
	return object{"MessageType", map[string]any{
		"auditor": m.Auditor, "name": m.Name, "readme": orNil(m.Readme), "sampleMessage": m.SampleMessage,
	}}
}

// integer reads an argument that is an Int.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int:
		return int64(v), true
	case float64: // a variable
		return int64(v), true
	}
	return 0, false
}
