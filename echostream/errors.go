package echostream

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ftpnode/ftpnode/internal/retry"
)

var (
	// ErrNodeNotFound is in the error of [Client.Definition] when the tenant has no node of that name.
	ErrNodeNotFound = errors.New("no such node")

	// ErrInvalidConfig is in the error of [Client.Definition] when the config of the tenant, the app or the node is no JSON object.
	ErrInvalidConfig = errors.New("invalid config")

	// ErrEdgeGone is in the errors of [Client.Send] when the edge's queue does not exist any more, or is closed to this
	// node's newest credentials: the edges have changed, and [Client.Definition] knows the new ones.
	ErrEdgeGone = errors.New("the edge is gone, or closed to this node")

	// ErrKept is in the errors of [Client.Send] and [Client.Audit] when the definition is a kept one ([Definition].Kept).
	ErrKept = errors.New("the node's definition was not read from EchoStream since the start")
)

// Permanent marks err as one that no retry will cure; nil stays nil. Everything that is not marked is
// transient: the same call can succeed later.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent reports whether an error in err's chain has a method Permanent() bool that says true.
func IsPermanent(err error) bool { return retry.IsPermanent(err) }

type permanentError struct{ err error }

func (e *permanentError) Error() string   { return e.err.Error() }
func (e *permanentError) Unwrap() error   { return e.err }
func (e *permanentError) Permanent() bool { return true }

// NeedsOperator reports whether err will most likely come again until a person changes something: an error in its chain
// has a method Operator() bool that says true. Its text ends with what to look at. It is transient all the same: go on
// trying, and say it as an ERROR.
func NeedsOperator(err error) bool { return retry.NeedsOperator(err) }

// operatorError is an error with what a person should look at.
type operatorError struct {
	err  error
	hint string
	kind error // such as ErrConfiguration, or nil
}

func (e *operatorError) Error() string        { return e.err.Error() + "; " + e.hint }
func (e *operatorError) Unwrap() error        { return e.err }
func (e *operatorError) Operator() bool       { return true }
func (e *operatorError) Is(target error) bool { return e.kind != nil && errors.Is(e.kind, target) }

// withHint is err as one that needs an operator, or err itself if there is no hint or it has one.
func withHint(err error, hint string) error {
	if err == nil || hint == "" || NeedsOperator(err) {
		return err
	}
	return &operatorError{err: err, hint: hint}
}

// IsUnknown reports whether the outcome of what err is about is unknown: an error in its chain has a method
// Unknown() bool that says true. The target may have taken the message (the reply was lost or late, or the service broke
// down over it), so that it has to be sent again under its tracking id within SQS's five minutes. Otherwise it is certain
// that nothing was taken.
func IsUnknown(err error) bool { return retry.IsUnknown(err) }

// unknownError says of an error whether the target may have taken what was sent.
type unknownError struct {
	err     error
	unknown bool
}

func (e *unknownError) Error() string { return e.err.Error() }
func (e *unknownError) Unwrap() error { return e.err }
func (e *unknownError) Unknown() bool { return e.unknown }

// retryLater reports whether an answer with this HTTP status (0: none is known) and AWS code, "" for none, says that the
// same can succeed soon. Any other refusal is a person's to look at.
func retryLater(status int, code string) bool {
	switch {
	case strings.Contains(code, "Throttl"), strings.Contains(code, "TooManyRequests"), strings.Contains(code, "LimitExceeded"):
		return true
	case strings.HasPrefix(code, "Internal"), strings.HasPrefix(code, "ServiceUnavailable"), strings.HasPrefix(code, "RequestTimeout"):
		return true
	case code == "SlowDown", code == "OverLimit", code == "RequestExpired", code == "RequestInTheFuture", code == "RequestTimeTooSkewed":
		return true
	}
	switch status {
	case http.StatusTemporaryRedirect, http.StatusRequestTimeout, http.StatusConflict, http.StatusMisdirectedRequest,
		http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status < 300 || status >= 500
}

// onTheWay is what to look at after an answer that does not look like the service's own.
const onTheWay = "look at what is on the way: a proxy, a firewall or a captive portal"

// serviceError is what an AWS service answered, and no more: the SDK's own errors also hold requests.
type serviceError struct {
	operation, code, message string
	status                   int // of HTTP; 0: it is about a part of a request
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
		return &serviceError{operation, code, message, httpStatus(err)}
	}
	clean := fmt.Errorf("%s: %w", operation, withoutURLs(err))
	if status := httpStatus(err); !retryLater(status, "") {
		return withHint(clean, onTheWay)
	}
	return clean
}

// httpStatus is that of the answer that err, of the AWS SDK, is about, or 0.
func httpStatus(err error) int {
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) && answer.Response != nil && answer.Response.Response != nil {
		return answer.Response.StatusCode
	}
	return 0
}

// accessDenied reports whether a code says that the credentials are good, but not for this.
func accessDenied(code string) bool {
	return code == "AccessDenied" || code == "AccessDeniedException"
}

// refusedForTime reports whether a code may say that the request was signed at a wrong time.
func refusedForTime(code string) bool {
	switch code {
	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture", "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure":
		return true
	}
	return false
}

// errorCode is the AWS code in err, or "".
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
	clean := cause
	if text != cause.Error() {
		clean = &cleanError{text, cause}
	}
	return withHint(clean, connectionHint(err))
}

// connectionHint is what a person should look at after an error on the way to a service, or "".
func connectionHint(err error) string {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	if _, ok := invalidByTime(err); ok {
		return "check the machine's clock: by it the certificate is not valid yet, or not any more"
	}
	switch {
	case errors.As(err, &unknown):
		return "if a proxy opens TLS connections, give its certificate in AWS_CA_BUNDLE or SSL_CERT_FILE"
	case errors.As(err, &hostname):
		return onTheWay
	case strings.Contains(err.Error(), http.StatusText(http.StatusProxyAuthRequired)):
		return "check the user and the password in HTTPS_PROXY"
	}
	return ""
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

// As does so too, but for what kind of error it is.
func (e *cleanError) As(target any) bool {
	switch target.(type) {
	case *interface{ Permanent() bool }, *interface{ Operator() bool }, *interface{ Unknown() bool }:
		return errors.As(e.cause, target)
	}
	return false
}

// shorten bounds text that a server chose: to its first line, and that to what a log line can take.
func shorten(text string) string {
	const most = 500
	text, _, _ = strings.Cut(strings.ToValidUTF8(strings.TrimSpace(text), "?"), "\n")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return userInfo.ReplaceAllString(query.ReplaceAllString(text, "$1?..."), "://...@")
}
