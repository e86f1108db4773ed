package echostream

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
)

var (
	// ErrNodeNotFound is in the error of [Client.Node] when the tenant has no node of that name.
	ErrNodeNotFound = errors.New("no such node")

	// ErrInvalidConfig is in the error of [Client.Node] when the config of the tenant, the app or the node is no JSON object.
	ErrInvalidConfig = errors.New("invalid config")

	// ErrEdgeGone is in the errors of [Client.Send] when the edge's queue does not exist any more or is closed to this
	// node: the edges have changed, and [Client.Node] knows the new ones.
	ErrEdgeGone = errors.New("the edge is gone, or closed to this node")
)

// Permanent marks err as one that no retry will cure; nil stays nil. Everything that is not marked is
// transient: the same call can succeed later.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent tells whether an error in err's chain has a method Permanent() bool that says true.
func IsPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

type permanentError struct{ err error }

func (e *permanentError) Error() string   { return e.err.Error() }
func (e *permanentError) Unwrap() error   { return e.err }
func (e *permanentError) Permanent() bool { return true }

// serviceError is what an AWS service answered, and no more: the SDK's own errors also hold requests.
type serviceError struct {
	operation, code, message string
}

func (e *serviceError) Error() string {
	if e.message == "" {
		return e.operation + ": " + e.code
	}
	return e.operation + ": " + e.code + ": " + e.message
}

// awsError reduces an error of the AWS SDK to what may be logged.
func awsError(operation string, err error) error {
	var answer smithy.APIError
	if errors.As(err, &answer) {
		code, message := answer.ErrorCode(), shorten(answer.ErrorMessage())
		if strings.Contains(code, "Signature") {
			message = "" // it quotes the request, with the session token
		}
		return &serviceError{operation, code, message}
	}
	return fmt.Errorf("%s: %w", operation, withoutURLs(err))
}

// errorCode is the AWS error code in err, or "".
func errorCode(err error) string {
	var answer *serviceError
	if errors.As(err, &answer) {
		return answer.code
	}
	return ""
}

// withoutURLs is err without the URLs that net/http puts into its errors: a presigned URL is a password. What
// remains can still be asked with errors.Is whether a context ended.
func withoutURLs(err error) error {
	if err == nil {
		return nil
	}
	text, cause := err.Error(), err
	for _, u := range urlErrors(err) {
		text = strings.ReplaceAll(text, u.Error(), u.Err.Error())
		cause = u.Err
	}
	text = query.ReplaceAllString(text, "$1?...")
	text = userInfo.ReplaceAllString(text, "://...@")
	if text == cause.Error() {
		return cause
	}
	return &cleanError{text, cause}
}

// Not every URL stands in a *url.Error: a refused redirect or a bad proxy address quotes one in its text.
var (
	query    = regexp.MustCompile(`(https?://[^\s"?]+)\?[^\s"]*`)
	userInfo = regexp.MustCompile(`://[^\s/"]+@`)
)

func urlErrors(err error) []*url.Error {
	var found []*url.Error
	if u, ok := err.(*url.Error); ok {
		found = append(found, u)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			found = append(found, urlErrors(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			found = append(found, urlErrors(inner)...)
		}
	}
	return found
}

type cleanError struct {
	text  string
	cause error
}

func (e *cleanError) Error() string { return e.text }

// Is looks into the cause without handing it out: its own text may hold what was cut.
func (e *cleanError) Is(target error) bool { return errors.Is(e.cause, target) }

// shorten bounds text that a server chose: to its first line, and that to what a log line can take.
func shorten(text string) string {
	const most = 500
	text, _, _ = strings.Cut(strings.ToValidUTF8(strings.TrimSpace(text), "?"), "\n")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return userInfo.ReplaceAllString(query.ReplaceAllString(text, "$1?..."), "://...@")
}
