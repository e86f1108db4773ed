package echotest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

const (
	maxAuditRecords = 500
	minAuditGzip    = 11 // records from which on a body may be gzip'd
	maxAuditBody    = 6 << 20
)

// AuditRecord is a record that the audit endpoint accepted.
type AuditRecord struct {
	Node            string // that sent it
	MessageType     string
	TrackingID      string
	PrevTrackingIDs []string
	SourceNode      string // "" is null: the node made the message itself
	DateTime        time.Time
	Attributes      map[string]any
	Received        time.Time // on the cloud's clock
}

// AuditRecords returns what was audited so far, in order.
func (c *Cloud) AuditRecords() []AuditRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.audits)
}

func (c *Cloud) serveAudit(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAuditBody+1))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	c.handle(w, r, Audit, "PutRecords", "", func(w http.ResponseWriter, e effect) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-Requestid", randomID())
		refuse := func(status int, kind, message string) {
			w.Header().Set("X-Amzn-Errortype", kind)
			writeJSON(w, status, map[string]string{"Message": message})
		}
		switch e.refuse {
		case ServerError:
			refuse(e.status, "InternalFailure", "Internal Server Error")
			return
		case Throttled:
			refuse(http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.")
			return
		case ExpiredCredentials:
			refuse(http.StatusForbidden, "ExpiredTokenException", errExpiredToken.message)
			return
		case Denied:
			refuse(http.StatusForbidden, "AccessDeniedException", "Forbidden")
			return
		}
		if r.Method != http.MethodPost {
			refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "want POST")
			return
		}
		v, aerr := c.verifyHeader(r, body, "lambda", c.opts.Tenant.Region)
		if aerr != nil {
			refuse(http.StatusForbidden, aerr.code, aerr.message)
			return
		}
		node, ok := c.auditNode(r, v)
		if !ok {
			refuse(http.StatusForbidden, "AccessDeniedException", "Forbidden")
			return
		}
		records, err := parseAudit(r.Header.Get("Content-Encoding"), body)
		if err == nil {
			err = c.checkMessageType(node, records)
		}
		if err != nil {
			refuse(http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		c.recordAudit(node, records)
		writeJSON(w, http.StatusOK, struct{}{})
	})
}

// auditID is what an app's audit endpoint goes by: as with EchoStream's, nothing can be read from it.
func auditID(app string) string {
	sum := sha256.Sum256([]byte(app))
	return hex.EncodeToString(sum[:16])
}

// auditNode finds the node that the path /audit/ID/NODE names, and checks that the credentials are those that
// GetAwsCredentials gave to its app: for a CrossAccountApp too.
func (c *Cloud) auditNode(r *http.Request, v vended) (Node, bool) {
	id, name, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), auditPath), "/")
	name, err := url.PathUnescape(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[name]
	return n, ok && err == nil && id == auditID(n.App) && v.app == n.App
}

// parseAudit reads and checks a body.
func parseAudit(encoding string, body []byte) ([]AuditRecord, error) {
	switch encoding {
	case "":
	case "gzip":
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err == nil {
			body, err = io.ReadAll(io.LimitReader(z, maxAuditBody+1))
		}
		if err != nil {
			return nil, fmt.Errorf("the body is not gzip: %w", err)
		}
	default:
		return nil, fmt.Errorf("Content-Encoding is %q, want none or gzip", encoding)
	}
	if len(body) > maxAuditBody {
		return nil, fmt.Errorf("the body has more than %d bytes", maxAuditBody)
	}
	var in struct {
		MessageType  string                       `json:"messageType"`
		AuditRecords []map[string]json.RawMessage `json:"auditRecords"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, fmt.Errorf("the body: %w", err)
	}
	n := len(in.AuditRecords)
	switch {
	case in.MessageType == "":
		return nil, fmt.Errorf("messageType is missing")
	case n == 0 || n > maxAuditRecords:
		return nil, fmt.Errorf("auditRecords has %d records, want 1 to %d", n, maxAuditRecords)
	case encoding != "" && n < minAuditGzip:
		return nil, fmt.Errorf("gzip is for %d records or more, auditRecords has %d", minAuditGzip, n)
	}
	records := make([]AuditRecord, n)
	for i, raw := range in.AuditRecords {
		r, err := parseRecord(raw)
		if err != nil {
			return nil, fmt.Errorf("auditRecords[%d]: %w", i, err)
		}
		r.MessageType = in.MessageType
		records[i] = r
	}
	return records, nil
}

func parseRecord(raw map[string]json.RawMessage) (AuditRecord, error) {
	var r AuditRecord
	var at string
	for key, v := range raw {
		var err error
		switch key {
		case "trackingId":
			err = json.Unmarshal(v, &r.TrackingID)
		case "previousTrackingIds":
			err = json.Unmarshal(v, &r.PrevTrackingIDs)
		case "sourceNode":
			err = json.Unmarshal(v, &r.SourceNode)
		case "datetime":
			err = json.Unmarshal(v, &at)
		case "attributes":
			err = json.Unmarshal(v, &r.Attributes)
		default:
			err = fmt.Errorf("there is no such key")
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", key, err)
		}
	}
	if r.TrackingID == "" {
		return r, fmt.Errorf("trackingId is missing")
	}
	var err error
	if r.DateTime, err = time.Parse(time.RFC3339Nano, at); err != nil {
		return r, fmt.Errorf("datetime %q is not ISO 8601: %w", at, err)
	}
	if _, offset := r.DateTime.Zone(); offset != 0 {
		return r, fmt.Errorf("datetime %q is not UTC", at)
	}
	for name, v := range r.Attributes {
		switch v.(type) {
		case map[string]any, []any:
			return r, fmt.Errorf("attributes.%s is not flat", name)
		}
	}
	return r, nil
}

func (c *Cloud) checkMessageType(n Node, records []AuditRecord) error {
	if t := records[0].MessageType; t != n.SendMessageType && t != n.ReceiveMessageType {
		return fmt.Errorf("messageType %q is not one of node %q", t, n.Name)
	}
	return nil
}

func (c *Cloud) recordAudit(n Node, records []AuditRecord) {
	now := c.clock.Now()
	for i := range records {
		records[i].Node, records[i].Received = n.Name, now
	}
	c.mu.Lock()
	c.audits = append(c.audits, records...)
	c.arrived()
	c.mu.Unlock()
	if c.opts.OnAudit != nil {
		for _, r := range records {
			c.opts.OnAudit(r)
		}
	}
}
