package echotest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// hits tells which of n requests to the API a fault hit.
func hits(c *echotest.Cloud, n *node, token string, count int) (out []int) {
	for i := range count {
		if n.graphql(token, `{ __typename }`, nil).Status != http.StatusOK {
			out = append(out, i)
		}
	}
	return out
}

func TestWhenFaultsHit(t *testing.T) {
	c, n := start(t, echotest.Options{})
	token := *n.tokens().AccessToken
	fault := echotest.Fault{Service: echotest.AppSync, Kind: echotest.ServerError}
	with := func(change func(*echotest.Fault)) (*echotest.Script, []int) {
		c.ClearFaults()
		f := fault
		change(&f)
		s := c.Fault(f)
		return s, hits(c, n, token, 10)
	}
	_, got := with(func(f *echotest.Fault) { f.Count = 2 })
	assert.Equal(t, []int{0, 1}, got)
	_, got = with(func(f *echotest.Fault) { f.After, f.Count = 3, 1 })
	assert.Equal(t, []int{3}, got)
	_, got = with(func(f *echotest.Fault) { f.Every = 3 })
	assert.Equal(t, []int{2, 5, 8}, got)
	s, got := with(func(f *echotest.Fault) { f.After, f.Every, f.Count = 1, 4, 5 })
	assert.Equal(t, []int{4, 8}, got)
	assert.Equal(t, 2, s.Hits())
	_, got = with(func(f *echotest.Fault) { f.Operation = "GetNode" })
	assert.Empty(t, got)
	_, got = with(func(f *echotest.Fault) { f.Service, f.Operation = "", "__typename" })
	assert.Len(t, got, 10)

	_, first := with(func(f *echotest.Fault) { f.Probability, f.Seed = 0.5, 7 })
	_, again := with(func(f *echotest.Fault) { f.Probability, f.Seed = 0.5, 7 })
	assert.Equal(t, first, again)
	assert.NotEmpty(t, first)
	assert.Less(t, len(first), 10)

	s, got = with(func(f *echotest.Fault) { f.For = time.Minute })
	assert.Len(t, got, 10)
	c.Clock().Advance(59 * time.Second)
	assert.Len(t, hits(c, n, token, 1), 1)
	c.Clock().Advance(2 * time.Second)
	assert.Empty(t, hits(c, n, token, 1))
	assert.Equal(t, 11, s.Hits())

	s, _ = with(func(*echotest.Fault) {})
	s.Clear()
	assert.Empty(t, hits(c, n, token, 3))
	assert.Equal(t, 10, s.Hits())
}

func TestFaultsCompose(t *testing.T) {
	c, n := start(t, echotest.Options{})
	token := *n.tokens().AccessToken
	c.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.Slow, Delay: 20 * time.Millisecond})
	c.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.Slow, Delay: 30 * time.Millisecond})
	c.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.Throttled, Count: 1})
	c.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.ServerError, Status: 502, Count: 2})
	begin := time.Now()
	var got []int
	for range 3 {
		got = append(got, n.graphql(token, `{ __typename }`, nil).Status)
	}
	assert.Equal(t, []int{429, 502, 200}, got, "the first one answers")
	assert.GreaterOrEqual(t, time.Since(begin), 150*time.Millisecond)
}

func TestParseFault(t *testing.T) {
	tests := map[string]echotest.Fault{
		"sqs:down":                        {Service: echotest.SQS, Kind: echotest.Down},
		"*:down:for=1m":                   {Kind: echotest.Down, For: time.Minute},
		"sqs:reply-lost:count=3,every=10": {Service: echotest.SQS, Kind: echotest.ReplyLost, Count: 3, Every: 10},
		"s3/PutObject:slow:delay=2s":      {Service: echotest.S3, Operation: "PutObject", Kind: echotest.Slow, Delay: 2 * time.Second},
		"sqs/SendMessageBatch:partial:after=1,edge=a>b,entries=0+2": {Service: echotest.SQS, Operation: "SendMessageBatch", Kind: echotest.Partial, After: 1, Edge: "a>b", Entries: []int{0, 2}},
		"audit:error:p=0.25,seed=4,status=500":                      {Service: echotest.Audit, Kind: echotest.ServerError, Probability: .25, Seed: 4, Status: 500},
		"cognito:expired-token":                                     {Service: echotest.Cognito, Kind: echotest.ExpiredToken},
		"sqs:expired-credentials":                                   {Service: echotest.SQS, Kind: echotest.ExpiredCredentials},
		"s3:expired-url":                                            {Service: echotest.S3, Kind: echotest.ExpiredURL},
		"sqs:edge-removed":                                          {Service: echotest.SQS, Kind: echotest.EdgeRemoved},
		"appsync:throttled":                                         {Service: echotest.AppSync, Kind: echotest.Throttled},
		"appsync/GetNode:denied":                                    {Service: echotest.AppSync, Operation: "GetNode", Kind: echotest.Denied},
		"appsync:denied:count=1,field=MessageType.auditor":          {Service: echotest.AppSync, Kind: echotest.Denied, Count: 1, Field: "MessageType.auditor"},
	}
	for text, want := range tests {
		got, err := echotest.ParseFault(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
		again, err := echotest.ParseFault(got.String())
		require.NoError(t, err, got.String())
		assert.Equal(t, want, again)
	}
}

func TestParseFaultErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                        `fault "": want service:kind`,
		"sqs":                     "want service:kind",
		":down":                   "no service, want one of cognito, appsync, sqs, s3, audit or *",
		"sns:down":                `no service "sns", want one of cognito`,
		"sqs:broken":              `no kind "broken", want one of down, slow`,
		"s3:partial":              "partial cannot happen to s3, only to sqs",
		"sqs:down:now":            `option "now": want name=value`,
		"sqs:down:times=3":        "option times: there is no such option, want one of after",
		"sqs:down:count=0":        `option count: "0" is not a whole number from 1`,
		"sqs:down:for=soon":       `option for: "soon" is not a time`,
		"sqs:down:delay=1s":       "delay is an option of slow only",
		"sqs:down:status=500":     "status is an option of error only",
		"sqs:error:status=200":    "status 200 is not from 400 to 599",
		"sqs:down:p=2":            `"2" is not a probability`,
		"sqs:down:p=NaN":          "is not a probability",
		"sqs:down:seed=-1":        "is not a whole number from 0",
		"sqs:partial:entries=0,1": `option "1": want name=value`,
		"sqs:partial:entries=10":  "not a list of numbers",
		"sqs:down:entries=1":      "entries is an option of partial only",
		"s3:down:edge=a":          "edge is an option of sqs only",

		"sqs:denied:field=MessageType.auditor":     "field is an option of appsync:denied only",
		"appsync:down:field=MessageType.auditor":   "field is an option of appsync:denied only",
		"appsync:denied:field=auditor":             `no field "auditor", want one like`,
		"appsync:denied:field=MessageType.nothing": `no field "MessageType.nothing"`,
	} {
		_, err := echotest.ParseFault(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestImpossibleFaultPanics(t *testing.T) {
	c, _ := start(t, echotest.Options{})
	assert.Panics(t, func() { c.Fault(echotest.Fault{Service: "sns", Kind: echotest.Down}) })
	assert.Panics(t, func() { c.Fault(echotest.Fault{Kind: "bang"}) })
}

func FuzzParseFault(f *testing.F) {
	for _, s := range []string{"sqs:reply-lost:count=3,every=10", "*:down:for=1m", "s3/PutObject:slow:delay=2s", "sqs:partial:entries=0+2,p=0.5,seed=9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fault, err := echotest.ParseFault(s)
		if err != nil {
			return
		}
		again, err := echotest.ParseFault(fault.String())
		if err != nil || again.String() != fault.String() {
			t.Fatalf("%q is written %q, which is read as %v (%v)", s, fault.String(), again, err)
		}
	})
}
