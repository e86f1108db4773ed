package echotest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

type auditor struct {
	*node
	url, service, region string
	creds                aws.Credentials
}

func newAuditor(t *testing.T, opts echotest.Options) (*echotest.Cloud, *auditor) {
	opts.Node.Name = "my node"
	opts.Tenant.Audit = true
	c, n := start(t, opts)
	data := n.query(*n.tokens().AccessToken, `{ GetApp(name: "ftp-app", tenant: "acme") { ... on ManagedApp { auditRecordsEndpoint } } }`, nil)
	endpoint := data["GetApp"].(map[string]any)["auditRecordsEndpoint"].(string)
	return c, &auditor{node: n, url: endpoint + "/my%20node", service: "lambda", region: "us-east-1", creds: n.credentials()}
}

func (a *auditor) post(body []byte, encoding string, sign ...func(*v4.SignerOptions)) (int, string) {
	r, err := http.NewRequestWithContext(a.ctx, http.MethodPost, a.url, bytes.NewReader(body))
	require.NoError(a.t, err)
	r.Header.Set("Content-Type", "application/json")
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	sum := sha256.Sum256(body)
	require.NoError(a.t, v4.NewSigner().SignHTTP(a.ctx, a.creds, r, hex.EncodeToString(sum[:]), a.service, a.region, a.now(), sign...))
	status, text, _ := a.do(r)
	return status, text
}

func record(changes ...string) string {
	r := `{"attributes":{"name":"a","content_length":1},"datetime":"2026-11-07T16:05:09.123456+00:00","previousTrackingIds":null,"sourceNode":null,"trackingId":"t1"}`
	for i := 0; i < len(changes); i += 2 {
		r = strings.Replace(r, changes[i], changes[i+1], 1)
	}
	return r
}

func auditBody(records ...string) []byte {
	return []byte(`{"messageType":"echo.file","auditRecords":[` + strings.Join(records, ",") + `]}`)
}

func many(n int) []byte {
	records := make([]string, n)
	for i := range records {
		records[i] = record("t1", fmt.Sprintf("t%d", i))
	}
	return auditBody(records...)
}

func TestAudit(t *testing.T) {
	c, a := newAuditor(t, echotest.Options{})
	status, text := a.post(auditBody(record(), record(`"previousTrackingIds":null`, `"previousTrackingIds":["p"]`, `"sourceNode":null`, `"sourceNode":"src"`)), "")
	require.Equal(t, http.StatusOK, status, text)
	got := c.AuditRecords()
	require.Len(t, got, 2)
	assert.Equal(t, "my node", got[0].Node)
	assert.Equal(t, "echo.file", got[0].MessageType)
	assert.Equal(t, "t1", got[0].TrackingID)
	assert.Equal(t, map[string]any{"name": "a", "content_length": 1.}, got[0].Attributes)
	assert.True(t, got[0].DateTime.Equal(time.Date(2026, 11, 7, 16, 5, 9, 123456000, time.UTC)))
	assert.Empty(t, got[0].SourceNode)
	assert.Equal(t, "src", got[1].SourceNode)
	assert.Equal(t, []string{"p"}, got[1].PrevTrackingIDs)

	status, text = a.post(zipped(t, many(11)), "gzip")
	require.Equal(t, http.StatusOK, status, text)
	status, text = a.post(zipped(t, many(500)), "gzip")
	require.Equal(t, http.StatusOK, status, text)
	assert.Len(t, c.AuditRecords(), 513)
	assert.Equal(t, 3, c.Requests(echotest.Audit, "PutRecords"))
}

func TestRefusedAudits(t *testing.T) {
	c, a := newAuditor(t, echotest.Options{})
	for name, tt := range map[string]struct {
		body     []byte
		encoding string
		want     string
	}{
		"501 records":       {many(501), "", "501 records"},
		"none":              {auditBody(), "", "0 records"},
		"gzip of ten":       {zipped(t, many(10)), "gzip", "gzip is for 11 records"},
		"not gzip":          {many(11), "gzip", "not gzip"},
		"other encoding":    {many(11), "deflate", "Content-Encoding"},
		"no JSON":           {[]byte("x"), "", "body"},
		"other message":     {bytes.Replace(many(1), []byte("echo.file"), []byte("echo.json"), 1), "", "messageType"},
		"no message type":   {bytes.Replace(many(1), []byte("echo.file"), nil, 1), "", "messageType is missing"},
		"other key":         {bytes.Replace(many(1), []byte("auditRecords"), []byte("records"), 1), "", "records"},
		"record's key":      {auditBody(record("sourceNode", "source")), "", "source"},
		"key's case":        {auditBody(record("trackingId", "trackingID")), "", "trackingID"},
		"deep attributes":   {auditBody(record(`"name":"a"`, `"name":{"a":1}`)), "", "not flat"},
		"list of attribute": {auditBody(record(`"name":"a"`, `"name":[1]`)), "", "not flat"},
		"local time":        {auditBody(record("+00:00", "")), "", "ISO 8601"},
		"other zone":        {auditBody(record("+00:00", "+02:00")), "", "UTC"},
		"no tracking id":    {auditBody(record(`"t1"`, `""`)), "", "trackingId"},
		"previous as text":  {auditBody(record(`"previousTrackingIds":null`, `"previousTrackingIds":"p"`)), "", "previousTrackingIds"},
	} {
		t.Run(name, func(t *testing.T) {
			status, text := a.post(tt.body, tt.encoding)
			assert.Equal(t, http.StatusBadRequest, status)
			assert.Contains(t, text, tt.want)
		})
	}
	assert.Empty(t, c.AuditRecords())
}

func TestAuditSignature(t *testing.T) {
	for name, change := range map[string]func(*echotest.Cloud, *auditor){
		"service": func(_ *echotest.Cloud, a *auditor) { a.service = "execute-api" },
		"region":  func(_ *echotest.Cloud, a *auditor) { a.region = "us-west-2" },
		"secret":  func(_ *echotest.Cloud, a *auditor) { a.creds.SecretAccessKey += "x" },
		"expired": func(c *echotest.Cloud, _ *auditor) { c.Clock().Advance(2 * time.Hour) },
		"node":    func(_ *echotest.Cloud, a *auditor) { a.url += "2" },
		"app":     func(_ *echotest.Cloud, a *auditor) { a.url = strings.Replace(a.url, "/audit/", "/audit/0", 1) },
		"no node": func(_ *echotest.Cloud, a *auditor) { a.url = strings.TrimSuffix(a.url, "/my%20node") },
		"fault":   func(c *echotest.Cloud, _ *auditor) { c.Fault(echotest.Fault{Kind: echotest.ExpiredCredentials}) },
		"no right": func(c *echotest.Cloud, _ *auditor) {
			c.Fault(echotest.Fault{Service: echotest.Audit, Kind: echotest.Denied})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, a := newAuditor(t, echotest.Options{})
			change(c, a)
			status, text := a.post(many(1), "")
			assert.Equal(t, http.StatusForbidden, status, text)
			assert.Empty(t, c.AuditRecords())
		})
	}
}

// The queues of a CrossAccountApp's node are the machine's; its audit is not.
func TestAuditOfACrossAccountApp(t *testing.T) {
	_, n := start(t, echotest.Options{App: echotest.App{Name: "cross", Kind: echotest.CrossAccountApp}})
	data := n.query(*n.tokens().AccessToken, `{ GetApp(name: "cross", tenant: "acme") { ... on CrossAccountApp { auditRecordsEndpoint } } }`, nil)
	a := &auditor{node: n, url: data["GetApp"].(map[string]any)["auditRecordsEndpoint"].(string) + "/ftp-node", service: "lambda", region: "us-east-1"}
	a.creds = aws.Credentials{AccessKeyID: n.env["AWS_ACCESS_KEY_ID"], SecretAccessKey: n.env["AWS_SECRET_ACCESS_KEY"]}
	status, text := a.post(many(1), "")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, text, "Forbidden")
	a.creds = n.credentialsOf("cross", "CrossAccountApp")
	status, text = a.post(many(1), "")
	assert.Equal(t, http.StatusOK, status, text)
}

// The name has a space: it counts whether the signature's path is escaped once or twice.
func TestAuditPathIsEscapedTwice(t *testing.T) {
	c, a := newAuditor(t, echotest.Options{})
	once := func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }
	status, text := a.post(many(1), "", once)
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, text, "signature")
	assert.Empty(t, c.AuditRecords())
	status, text = a.post(many(1), "")
	assert.Equal(t, http.StatusOK, status, text)
}

func TestAuditFaults(t *testing.T) {
	c, a := newAuditor(t, echotest.Options{})
	c.Fault(echotest.Fault{Service: echotest.Audit, Kind: echotest.ServerError, Status: 500, Count: 1})
	c.Fault(echotest.Fault{Service: echotest.Audit, Kind: echotest.Throttled, Count: 2})
	for _, want := range []int{500, 429, 200} {
		status, _ := a.post(many(1), "")
		assert.Equal(t, want, status)
	}
}
