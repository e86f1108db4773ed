package echostream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// auditEndpoint checks each request's signature and keeps what it holds.
type auditEndpoint struct {
	t       *testing.T
	api     *graphQL
	clock   *clock // the client's
	mu      sync.Mutex
	answers []int // of the first requests; then 204
	code    string
	refuses func(records []map[string]any) int // if set, and not 0, it is the answer
	paths   []string
	types   []string
	gzip    []bool
	keys    []string
	records [][]map[string]any
}

func (a *auditEndpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/graphql" {
		a.api.ServeHTTP(w, r)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	assert.NoError(a.t, err)
	a.verify(r, body)
	if len(a.answers) > 0 {
		if a.code != "" {
			w.Header().Set("X-Amzn-Errortype", a.code)
		}
		w.WriteHeader(a.answers[0])
		a.answers = a.answers[1:]
		return
	}
	a.paths = append(a.paths, r.URL.EscapedPath())
	a.gzip = append(a.gzip, r.Header.Get("Content-Encoding") == "gzip")
	if r.Header.Get("Content-Encoding") == "gzip" {
		body = gunzip(a.t, body)
	}
	var in struct {
		MessageType  string
		AuditRecords []map[string]any
	}
	assert.NoError(a.t, json.Unmarshal(body, &in))
	if a.refuses != nil {
		if status := a.refuses(in.AuditRecords); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	a.types = append(a.types, in.MessageType)
	a.records = append(a.records, in.AuditRecords)
	w.WriteHeader(http.StatusNoContent)
}

// verify signs the request again and compares.
func (a *auditEndpoint) verify(r *http.Request, body []byte) {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	assert.NoError(a.t, err)
	session := r.Header.Get("X-Amz-Security-Token")
	key := session[len("session of "):]
	a.keys = append(a.keys, key)
	again, err := http.NewRequest(http.MethodPost, "http://"+r.Host+r.URL.EscapedPath(), bytes.NewReader(body))
	assert.NoError(a.t, err)
	for _, name := range []string{"Content-Type", "Content-Encoding"} {
		if v := r.Header.Get(name); v != "" {
			again.Header.Set(name, v)
		}
	}
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: key, SecretAccessKey: "secret of " + key, SessionToken: session}
	assert.NoError(a.t, v4.NewSigner().SignHTTP(context.Background(), creds, again, hex.EncodeToString(sum[:]), "lambda", "eu-west-1", at))
	assert.Equal(a.t, again.Header.Get("Authorization"), r.Header.Get("Authorization"))
}

func newAudit(t *testing.T) (*Client, *auditEndpoint, *Definition) {
	t.Helper()
	a := &auditEndpoint{t: t, api: staticCredentials()}
	now := &clock{t: time.Now()}
	a.clock = now
	c, server, _ := newTestClient(t, a, Options{Now: now.now})
	node := testNode()
	node.AuditRecordsEndpoint = server.URL + "/audit/"
	return c, a, node
}

func TestAudit(t *testing.T) {
	c, a, node := newAudit(t)
	at := time.Date(2026, 11, 22, 9, 8, 7, 123456789, time.FixedZone("CET", 3600))
	errs := c.Audit(t.Context(), node, "echo.file", []AuditRecord{
		{TrackingID: "1", DateTime: at, Attributes: map[string]any{"name": "a.csv", "content_length": 3}},
		{TrackingID: "2", DateTime: at, PrevTrackingIDs: []string{"0"}, SourceNode: "x"},
	})
	require.Equal(t, []error{nil, nil}, errs)
	assert.Equal(t, []string{"/audit/My%20FTP%20node"}, a.paths)
	assert.Equal(t, []string{"echo.file"}, a.types)
	assert.Equal(t, []bool{false}, a.gzip)
	assert.Equal(t, [][]map[string]any{{
		{"trackingId": "1", "datetime": "2026-11-22T08:08:07.123456+00:00", "previousTrackingIds": nil, "sourceNode": nil,
			"attributes": map[string]any{"name": "a.csv", "content_length": 3.0}},
		{"trackingId": "2", "datetime": "2026-11-22T08:08:07.123456+00:00", "previousTrackingIds": []any{"0"}, "sourceNode": "x"},
	}}, a.records)
}

func TestAuditRequests(t *testing.T) {
	for _, test := range []struct {
		records int
		want    []int
		gzip    []bool
	}{
		{0, nil, nil},
		{10, []int{10}, []bool{false}},
		{11, []int{11}, []bool{true}},
		{1003, []int{500, 500, 3}, []bool{true, true, false}},
	} {
		t.Run(fmt.Sprint(test.records), func(t *testing.T) {
			c, a, node := newAudit(t)
			records := make([]AuditRecord, test.records)
			for i := range records {
				records[i].TrackingID = fmt.Sprint(i)
			}
			require.Equal(t, make([]error, test.records), c.Audit(t.Context(), node, "echo.file", records))
			var got []int
			n := 0
			for _, r := range a.records {
				got = append(got, len(r))
				for _, record := range r {
					assert.Equal(t, fmt.Sprint(n), record["trackingId"])
					n++
				}
			}
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.gzip, a.gzip)
		})
	}
}

func TestAuditPath(t *testing.T) {
	for name, want := range map[string]string{
		"a/b?c#d": "/audit/a%2Fb%3Fc%23d", "a+b=c@d": "/audit/a%2Bb%3Dc%40d", "ünit 1": "/audit/%C3%BCnit%201", "..": "/audit/..", "100%": "/audit/100%25",
	} {
		t.Run(name, func(t *testing.T) {
			c, a, node := newAudit(t)
			node.Name = name
			require.NoError(t, c.Audit(t.Context(), node, "echo.file", []AuditRecord{{TrackingID: "1"}})[0])
			assert.Equal(t, []string{want}, a.paths)
		})
	}
}

func TestAuditFailures(t *testing.T) {
	for _, test := range []struct {
		status    int
		permanent bool
	}{{500, false}, {429, false}, {404, false}, {400, false}, {413, false}, {422, true}} {
		c, a, node := newAudit(t)
		a.answers = []int{test.status}
		err := c.Audit(t.Context(), node, "echo.file", []AuditRecord{{TrackingID: "1"}})[0]
		assert.ErrorContains(t, err, fmt.Sprintf("the audit endpoint answered with HTTP status %d", test.status))
		assert.Equal(t, test.permanent, IsPermanent(err))
	}

	c, _, node := newAudit(t)
	node.AuditRecordsEndpoint = "nowhere"
	assert.ErrorContains(t, c.Audit(t.Context(), node, "echo.file", []AuditRecord{{TrackingID: "1"}})[0], "auditRecordsEndpoint is not a URL")
}

// A record that the endpoint refuses does not hold up the others, and is the only one that counts as refused; all are
// recorded once.
func TestAuditFindsTheRefusedRecord(t *testing.T) {
	ids := func(from, to int) (ids []string) {
		for i := from; i < to; i++ {
			ids = append(ids, fmt.Sprint(i))
		}
		return ids
	}
	has := func(id string) func([]map[string]any) bool {
		return func(records []map[string]any) bool {
			return slices.ContainsFunc(records, func(r map[string]any) bool { return r["trackingId"] == id })
		}
	}
	for _, test := range []struct {
		name    string
		refuses func([]map[string]any) int
		refused []string // for good
		status  int      // of that
		down    int      // the first of those that fail for now
		because int      // the status of that
	}{
		{"one of them", func(r []map[string]any) int { return map[bool]int{true: 422}[has("77")(r)] }, []string{"77"}, 422, 600, 0},
		{"some of them", func(r []map[string]any) int {
			return map[bool]int{true: 422}[has("0")(r) || has("77")(r) || has("599")(r)]
		},
			[]string{"0", "77", "599"}, 422, 600, 0},
		{"too much at once", func(r []map[string]any) int { return map[bool]int{true: 413}[len(r) > 100] }, nil, 0, 600, 0},
		{"a bad request", func(r []map[string]any) int { return map[bool]int{true: 400}[has("77")(r)] }, nil, 0, 0, 400},
		{"down in between", func(r []map[string]any) int {
			return map[bool]int{true: 422}[has("77")(r)] + map[bool]int{true: 503}[has("300")(r) && !has("77")(r)]
		}, []string{"77"}, 422, 250, 503},
		{"down with the second request", func(r []map[string]any) int { return map[bool]int{true: 503}[has("500")(r)] }, nil, 0, 500, 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			var records []AuditRecord
			for _, id := range ids(0, 600) {
				records = append(records, AuditRecord{TrackingID: id})
			}
			c, a, node := newAudit(t)
			failed := 0
			a.refuses = func(r []map[string]any) int {
				status := test.refuses(r)
				if status != 0 && status == test.because {
					failed++
				}
				return status
			}
			errs := c.Audit(t.Context(), node, "echo.file", records)
			require.Len(t, errs, 600)
			var got, refused []string
			for _, r := range a.records {
				for _, record := range r {
					got = append(got, record["trackingId"].(string))
				}
			}
			for i, err := range errs {
				switch {
				case i >= test.down:
					assert.ErrorContains(t, err, fmt.Sprint("HTTP status ", test.because))
					assert.False(t, IsPermanent(err))
				case IsPermanent(err):
					assert.ErrorContains(t, err, fmt.Sprint("HTTP status ", test.status))
					refused = append(refused, records[i].TrackingID)
				default:
					assert.NoError(t, err)
				}
			}
			assert.Equal(t, test.refused, refused)
			assert.Equal(t, slices.DeleteFunc(ids(0, test.down), func(id string) bool { return slices.Contains(refused, id) }), got)
			assert.LessOrEqual(t, failed, 1, "the first failure ends the call")
		})
	}
}

// The node's queues are reached with the same credentials: they are given up only where others can help.
func TestAuditReplacesRefusedCredentials(t *testing.T) {
	for _, test := range []struct {
		name, code string
		status     int
		keys       []string
		fails      bool
	}{
		{"expired", "ExpiredTokenException", 403, []string{"KEY1", "KEY1", "KEY2"}, false},
		{"expired, in full", "com.amazon#ExpiredTokenException:http://internal.amazon.com/", 400, []string{"KEY1", "KEY1", "KEY2"}, false},
		{"unknown", "UnrecognizedClientException", 401, []string{"KEY1", "KEY1", "KEY2"}, false},
		{"from before the right", "AccessDeniedException", 403, []string{"KEY1", "KEY1", "KEY2"}, false},
		{"no code", "", 403, []string{"KEY1", "KEY1", "KEY2"}, false},
		{"no code, and unauthorized", "", 401, []string{"KEY1", "KEY1", "KEY2"}, false},
		{"bad request", "", 400, []string{"KEY1", "KEY1"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, a, node := newAudit(t)
			records := []AuditRecord{{TrackingID: "1"}}
			require.NoError(t, c.Audit(t.Context(), node, "echo.file", records)[0])
			a.answers, a.code = []int{test.status}, test.code
			err := c.Audit(t.Context(), node, "echo.file", records)[0]
			assert.Equal(t, test.fails, err != nil, "%v", err)
			assert.False(t, IsPermanent(err))
			assert.Equal(t, test.keys, a.keys)
			if test.fails {
				assert.True(t, NeedsOperator(err))
				requireNoSecret(t, err, "KEY", "http://")
				requireKey(t, "KEY1", c.Credentials(node))
			}
		})
	}

	c, a, node := newAudit(t)
	a.answers, a.code = []int{403, 403, 403}, "ExpiredTokenException"
	err := c.Audit(t.Context(), node, "echo.file", []AuditRecord{{TrackingID: "1"}})[0]
	assert.ErrorContains(t, err, "the audit endpoint answered with HTTP status 403: ExpiredTokenException")
	assert.False(t, IsPermanent(err))
	assert.Len(t, a.keys, 2)
	requireNoSecret(t, err, "KEY", "http://")
}

// A node that may not audit has its credentials replaced once, not for each try: its queues are reached with the same
// ones.
func TestAuditThatIsDenied(t *testing.T) {
	for _, code := range []string{"AccessDeniedException", ""} {
		c, a, node := newAudit(t)
		for range 3 {
			a.answers, a.code = []int{403, 403}, code
			err := c.Audit(t.Context(), node, "echo.file", []AuditRecord{{TrackingID: "1"}})[0]
			assert.ErrorContains(t, err, "HTTP status 403")
			assert.ErrorContains(t, err, "new credentials were refused too")
			assert.True(t, NeedsOperator(err))
		}
		assert.Equal(t, []string{"KEY1", "KEY2", "KEY2", "KEY2"}, a.keys)
	}
}
