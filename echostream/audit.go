package echostream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/encoding/httpbinding"
	"github.com/klauspost/compress/gzip"
)

const (
	maxAuditRecords  = 500
	plainAuditRecord = 10 // more of them are gzip'd
	// maxAuditBody is what a Lambda function takes: up to that, whoever says that it is too much stands on the way.
	maxAuditBody = 6 << 20
)

// AuditRecord says that a message was sent or received.
type AuditRecord struct {
	TrackingID      string
	PrevTrackingIDs []string
	// SourceNode is the node that a received message came from. By default, the message was sent.
	SourceNode string
	// DateTime is when it happened, by EchoStream's clock ([Client.Now]).
	DateTime time.Time
	// Attributes are what the message type's auditor would find in the message, and more: strings, numbers,
	// booleans and nil.
	Attributes map[string]any
}

// MarshalJSON writes the record as the audit endpoint wants it.
func (r AuditRecord) MarshalJSON() ([]byte, error) {
	var source *string
	if r.SourceNode != "" {
		source = &r.SourceNode
	}
	var previous []string // null, not an empty list
	if len(r.PrevTrackingIDs) > 0 {
		previous = r.PrevTrackingIDs
	}
	return json.Marshal(struct {
		Attributes map[string]any `json:"attributes,omitempty"`
		DateTime   string         `json:"datetime"`
		Previous   []string       `json:"previousTrackingIds"`
		Source     *string        `json:"sourceNode"`
		TrackingID string         `json:"trackingId"`
	}{r.Attributes, r.DateTime.UTC().Format("2006-01-02T15:04:05.000000-07:00"), previous, source, r.TrackingID})
}

// Audit sends records of messages of one type, in order and in requests of up to 500, and returns an error for each
// record: nil once it is recorded. A record may arrive twice if it is sent again after an error. It sends them whether or
// not the tenant audits: ask node.Audit first.
//
// An error is permanent ([IsPermanent]) if the endpoint refuses the record, alone in a request, for what it holds; it does
// not hold up the others. Everything else is transient, a bad request among it, and ends the call: it is the error
// of all records from there on, whether or not they were tried. [NeedsOperator] reports whether a person has to do something.
// Nothing is recorded by a definition that was kept ([ErrKept]).
func (c *Client) Audit(ctx context.Context, node *Definition, messageType string, records []AuditRecord) []error {
	errs := make([]error, 0, len(records))
	if node.Kept {
		return slices.Repeat([]error{fmt.Errorf("sending audit records of %s: %w", node, ErrKept)}, len(records))
	}
	for part := range slices.Chunk(records, maxAuditRecords) {
		more, err := c.auditApart(ctx, node, messageType, part)
		errs = append(errs, more...)
		if err != nil {
			err = fmt.Errorf("sending audit records of %s: %w", node, err)
			return append(errs, slices.Repeat([]error{err}, len(records)-len(errs))...)
		}
	}
	return errs
}

// auditApart sends records in one request, and in halves those of a request that is refused for what it holds. It gives
// what came of each record up to the first transient error, and that one.
func (c *Client) auditApart(ctx context.Context, node *Definition, messageType string, records []AuditRecord) (errs []error, down error) {
	err := c.audit(ctx, node, messageType, records)
	switch {
	case err == nil:
		return make([]error, len(records)), nil
	case len(records) > 1 && (IsPermanent(err) || errors.Is(err, errTooMuch)):
	case !IsPermanent(err):
		return nil, err
	default:
		return []error{fmt.Errorf("the audit record of message %s was not taken: %w", records[0].TrackingID, err)}, nil
	}
	for half := range slices.Chunk(records, (len(records)+1)/2) {
		more, err := c.auditApart(ctx, node, messageType, half)
		errs = append(errs, more...)
		if err != nil {
			return errs, err
		}
	}
	return errs, nil
}

func (c *Client) audit(ctx context.Context, node *Definition, messageType string, records []AuditRecord) error {
	body, err := json.Marshal(struct {
		MessageType string        `json:"messageType"`
		Records     []AuditRecord `json:"auditRecords"`
	}{messageType, records})
	if err != nil {
		return Permanent(fmt.Errorf("writing them as JSON: %w", err))
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if len(records) > plainAuditRecord {
		body = gzipped(body)
		header.Set("Content-Encoding", "gzip")
	}
	to, err := auditURL(node)
	if err != nil {
		return err
	}
	return c.byCredentials(ctx, node, c.appCredentials(node), to.String(), func(used aws.Credentials) (string, error) {
		return c.postSigned(ctx, to, header, body, func(r *http.Request) error {
			sum := sha256.Sum256(body)
			return v4.NewSigner().SignHTTP(ctx, used, r, hex.EncodeToString(sum[:]), "lambda", node.Region, c.clock.now())
		})
	})
}

// errTooMuch is in the error of a request that was too long for somebody: half of it may not be.
var errTooMuch = errors.New("the request is too long")

// auditURL is the endpoint and the node's name. Every character of the name that has a meaning anywhere in a URL is
// escaped, so that the signature's own escaping cannot be understood in two ways.
func auditURL(node *Definition) (*url.URL, error) {
	u, err := url.Parse(node.AuditRecordsEndpoint)
	if err != nil || u.Host == "" {
		return nil, withHint(errors.New("the app's auditRecordsEndpoint is not a URL"), "look at the app in EchoStream")
	}
	path, escaped := strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.EscapedPath(), "/")
	u.Path, u.RawPath = path+"/"+node.Name, escaped+"/"+httpbinding.EscapePath(node.Name, true)
	return u, nil
}

// postSigned returns AWS's error code if access is refused, and an error that is permanent if it is the body that is.
func (c *Client) postSigned(ctx context.Context, to *url.URL, header http.Header, body []byte, sign func(*http.Request) error) (code string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.CallTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return "", withoutURLs(err)
	}
	r.Header = header.Clone()
	if err := sign(r); err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	answer, err := c.opts.HTTPClient.Do(r)
	if err != nil {
		return "", withoutURLs(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	if answer.StatusCode/100 == 2 {
		return "", nil
	}
	err = fmt.Errorf("the audit endpoint answered with HTTP status %d", answer.StatusCode)
	// A URL may follow, a name space come before it.
	said, _, _ := strings.Cut(answer.Header.Get("X-Amzn-Errortype"), ":")
	said = said[strings.LastIndex(said, "#")+1:]
	if said != "" {
		err = fmt.Errorf("%w: %s", err, shorten(said))
	}
	switch answer.StatusCode {
	case http.StatusRequestEntityTooLarge:
		err = fmt.Errorf("%w: %w", errTooMuch, err)
		if len(body) > maxAuditBody {
			return "", Permanent(err)
		}
		return "", withHint(err, onTheWay+" that limits how long a request may be")
	case http.StatusUnprocessableEntity:
		// Not a 400: it is not documented what that means, and may be said of all requests for a time, such as when a
		// message type was renamed. Waiting too long is better than setting aside what was delivered.
		return "", Permanent(err)
	case http.StatusUnauthorized, http.StatusForbidden:
		said = cmp.Or(said, unexplained)
	}
	return said, withHint(err, auditHint(answer.StatusCode, said))
}

// auditHint is what a person should look at after the endpoint's answer, or "".
func auditHint(status int, code string) string {
	switch {
	case retryLater(status, code):
		return ""
	case refusedForTime(code):
		return onTheWay + " that changes requests"
	case status == http.StatusUnauthorized, status == http.StatusForbidden, credentialsRefused(code):
		return "new credentials were refused too: look at the app and its auditing in EchoStream"
	case status == http.StatusBadRequest:
		return "look at the node's message type in EchoStream, and its auditor"
	}
	return "look at the app's auditRecordsEndpoint in EchoStream, and at what is on the way: a proxy or a firewall"
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(data) // a bytes.Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}
