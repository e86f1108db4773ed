package echostream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/Khan/genqlient/graphql"
	"github.com/aws/aws-sdk-go-v2/aws"
)

// maxAnswer bounds what is read of an answer of the API: a node's configs, message types and edges are a few
// hundred KiB at most.
const maxAnswer = 16 << 20

// APIError is what EchoStream's API says when it does not do what it was asked to.
type APIError struct {
	Operation string // such as "GetNode"
	Status    int    // of HTTP; GraphQL errors come with 200
	Problems  []APIProblem
}

// APIProblem is one of the errors in an answer.
type APIProblem struct {
	Type    string // such as "UnauthorizedException"; may be empty
	Path    string // of the field, such as "GetNode.sendEdges"; may be empty
	Message string
}

// Error lists every problem.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the API refused %s", e.Operation)
	if e.Status != http.StatusOK {
		fmt.Fprintf(&b, " with HTTP status %d", e.Status)
	}
	for i, p := range e.Problems {
		b.WriteString([]string{": ", "; "}[min(i, 1)])
		if p.Type != "" {
			b.WriteString(p.Type + ": ")
		}
		b.WriteString(p.Message)
		if p.Path != "" {
			b.WriteString(" (" + p.Path + ")")
		}
	}
	return b.String()
}

// dispensable are the fields that a node can do without: a user who may not read them gets the rest. An edge, a config
// or a message type's name that was kept back is not among them, or it would look as if there were none. For
// each of them GetNode asks apart from what is indispensable.
var dispensable = []string{"auditor", "loggingLevel", "mounts", "ports", "readme", "sampleMessage"}

// onlyDispensable reports whether the API answered, but for dispensable fields.
func (e *APIError) onlyDispensable() bool {
	for _, p := range e.Problems {
		if p.Type != "Unauthorized" || !slices.Contains(dispensable, p.Path[strings.LastIndex(p.Path, ".")+1:]) {
			return false
		}
	}
	return e.Status == http.StatusOK
}

func (e *APIError) unauthorized() bool {
	if e.Status == http.StatusUnauthorized {
		return true
	}
	for _, p := range e.Problems {
		if p.Type == "UnauthorizedException" {
			return true
		}
	}
	return false
}

// hint is what a person should look at after the API's answer, or "".
func (e *APIError) hint() string {
	kind := ""
	for _, p := range e.Problems {
		switch {
		case p.Type == "Unauthorized":
			return "look at TENANT, and see to it that EchoStream lets the node's user read its node and its app"
		case p.Type == "ValidationError", p.Type == "MalformedHttpRequestException", strings.HasPrefix(p.Message, "Validation error"):
			return "EchoStream's API has changed: use a newer version of this program"
		}
		kind = p.Type
	}
	switch {
	case e.unauthorized():
		return "check APPSYNC_ENDPOINT, USER_POOL_ID and CLIENT_ID: new tokens were refused too"
	case e.Status == http.StatusOK, retryLater(e.Status, kind):
		return ""
	}
	return "check APPSYNC_ENDPOINT, and look at what is on the way: a proxy, a firewall or a captive portal"
}

// transport carries the operations of package api to AWS AppSync.
type transport struct {
	url     string
	http    aws.HTTPClient
	tokens  tokens
	timeout time.Duration
}

// MakeRequest implements graphql.Client. A token that the API refuses is replaced once: it may have been
// revoked, or expired on the way. All of it, a log-in that has to be waited for among it, takes twice the timeout at most.
func (t *transport) MakeRequest(ctx context.Context, req *graphql.Request, resp *graphql.Response) error {
	ctx, cancel := context.WithTimeout(ctx, 2*t.timeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		token, err := t.tokens.Token(ctx)
		if err != nil {
			return err
		}
		err = t.post(ctx, token, req, resp)
		var refused *APIError
		if !errors.As(err, &refused) || !refused.unauthorized() {
			return err
		}
		t.tokens.Invalidate(token)
		if attempt == 2 {
			return err
		}
	}
}

func (t *transport) post(ctx context.Context, token string, req *graphql.Request, resp *graphql.Response) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	body, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("writing the query %s: %w", req.OpName, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking the API for %s: %w", req.OpName, withoutURLs(err))
	}
	r.Header.Set("Authorization", token) // AppSync wants it bare, without "Bearer"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	answer, err := t.http.Do(r)
	if err != nil {
		return fmt.Errorf("asking the API for %s: %w", req.OpName, withoutURLs(err))
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("reading the API's answer to %s: %w", req.OpName, withoutURLs(err))
	}
	if len(text) > maxAnswer {
		return fmt.Errorf("reading the API's answer to %s: it is longer than %d bytes", req.OpName, maxAnswer)
	}
	return decode(req.OpName, answer.StatusCode, text, resp)
}

func decode(operation string, status int, text []byte, resp *graphql.Response) error {
	var envelope struct {
		Data   json.RawMessage
		Errors []struct {
			ErrorType  string
			Message    string
			Path       []any
			Extensions struct{ ErrorType string }
		}
	}
	err := json.Unmarshal(text, &envelope)
	if status != http.StatusOK || len(envelope.Errors) > 0 {
		refused := &APIError{Operation: operation, Status: status}
		for _, e := range envelope.Errors {
			if e.ErrorType == "" {
				e.ErrorType = e.Extensions.ErrorType
			}
			var path []string
			for _, step := range e.Path {
				path = append(path, fmt.Sprint(step))
			}
			refused.Problems = append(refused.Problems, APIProblem{
				Type: shorten(e.ErrorType), Path: shorten(strings.Join(path, ".")), Message: shorten(e.Message)})
		}
		if refused.onlyDispensable() {
			_ = json.Unmarshal(envelope.Data, resp.Data) // for those who can do with less
			return refused
		}
		return withHint(refused, refused.hint())
	}
	if err != nil {
		return withHint(fmt.Errorf("the API's answer to %s is not JSON: %w", operation, err), "check APPSYNC_ENDPOINT, and "+onTheWay)
	}
	if len(envelope.Data) == 0 || string(envelope.Data) == "null" {
		return fmt.Errorf("the API's answer to %s has neither data nor errors", operation)
	}
	if err := json.Unmarshal(envelope.Data, resp.Data); err != nil {
		return withHint(fmt.Errorf("the API's answer to %s does not match the schema: %w", operation, err),
			"EchoStream's API has changed: use a newer version of this program")
	}
	return nil
}
