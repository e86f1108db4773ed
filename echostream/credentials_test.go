package echostream

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// vendor gives out KEY1, KEY2, ... for a while each, or an error.
type vendor struct {
	clock *clock
	life  time.Duration
	err   error
	n     int
}

func (v *vendor) fetch(context.Context) (aws.Credentials, error) {
	v.n++
	if v.err != nil {
		return aws.Credentials{}, v.err
	}
	return aws.Credentials{AccessKeyID: "KEY" + string(rune('0'+v.n)), SecretAccessKey: "s", CanExpire: true,
		Expires: v.clock.now().Add(v.life)}, nil
}

func newAppCredentials(life time.Duration) (*appCredentials, *vendor) {
	v := &vendor{clock: &clock{t: time.Now()}, life: life}
	return &appCredentials{fetch: v.fetch, now: v.clock.now, log: slog.New(slog.DiscardHandler), turn: make(chan struct{}, 1)}, v
}

func requireKey(t *testing.T, want string, p aws.CredentialsProvider) {
	t.Helper()
	got, err := p.Retrieve(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got.AccessKeyID)
}

func TestCredentialsAreRenewedBeforeTheyExpire(t *testing.T) {
	for _, test := range []struct {
		name         string
		life, before time.Duration
	}{{"long", time.Hour, 5 * time.Minute}, {"short", time.Minute, 30 * time.Second}} {
		t.Run(test.name, func(t *testing.T) {
			a, v := newAppCredentials(test.life)
			requireKey(t, "KEY1", a)
			v.clock.advance(test.life - test.before - time.Second)
			requireKey(t, "KEY1", a)
			v.clock.advance(2 * time.Second)
			requireKey(t, "KEY2", a)
			assert.Equal(t, 2, v.n)
		})
	}
}

func TestCredentialsThatCannotBeRenewedAreUsedToTheirEnd(t *testing.T) {
	a, v := newAppCredentials(time.Hour)
	requireKey(t, "KEY1", a)
	v.err = errors.New("down")
	v.clock.advance(56 * time.Minute)
	requireKey(t, "KEY1", a)
	requireKey(t, "KEY1", a)
	assert.Equal(t, 2, v.n, "it pauses between tries")
	v.clock.advance(31 * time.Second)
	requireKey(t, "KEY1", a)
	assert.Equal(t, 3, v.n)
	v.clock.advance(time.Hour)
	_, err := a.Retrieve(t.Context())
	assert.EqualError(t, err, "down")
	v.err = nil
	requireKey(t, "KEY5", a)
}

func TestRefusedCredentialsAreForgotten(t *testing.T) {
	a, _ := newAppCredentials(time.Hour)
	requireKey(t, "KEY1", a)
	a.refused("KEY0") // of a request that took long
	requireKey(t, "KEY1", a)
	a.refused("KEY1")
	requireKey(t, "KEY2", a)
}

func TestCredentialsAreFetchedOnceForAll(t *testing.T) {
	a, v := newAppCredentials(time.Hour)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			got, err := a.Retrieve(t.Context())
			assert.NoError(t, err)
			assert.Equal(t, "KEY1", got.AccessKeyID)
		})
	}
	wg.Wait()
	assert.Equal(t, 1, v.n)
}

func TestCredentialsWaitNoLongerThanTheCaller(t *testing.T) {
	a, _ := newAppCredentials(time.Hour)
	a.turn <- struct{}{} // someone is fetching
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.Retrieve(ctx)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestCredentialsOfTheApp(t *testing.T) {
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	answers := &graphQL{answers: map[string]func(map[string]any) string{
		"GetAwsCredentials": func(v map[string]any) string {
			switch v["app"] {
			case "none":
				return `{"data":{"GetApp":null}}`
			case "odd":
				return `{"data":{"GetApp":{"__typename":"CrossTenantReceivingApp","name":"odd"}}}`
			}
			assert.Equal(t, map[string]any{"app": "the app", "tenant": "acme", "duration": 3600.0}, v)
			return credentialsAnswer("KEY", expires)
		},
	}}
	c, _, _ := newTestClient(t, answers, Options{})
	got, err := c.Credentials(testNode()).Retrieve(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "secret of KEY", got.SecretAccessKey)
	assert.Equal(t, "session of KEY", got.SessionToken)
	assert.True(t, expires.Equal(got.Expires))
	requireKey(t, "KEY", c.Credentials(testNode()))
	assert.Equal(t, 1, answers.count("GetAwsCredentials"))

	for app, want := range map[string]string{
		"none": `tenant "acme" has no such app`,
		"odd":  "it is a CrossTenantReceivingApp, expected a ManagedApp",
	} {
		_, err := c.Credentials(&Node{App: app}).Retrieve(t.Context())
		assert.ErrorContains(t, err, want)
	}
}

func TestCrossAccountAppUsesTheMachinesCredentials(t *testing.T) {
	noMachine(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "MACHINE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	c, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{HTTPClient: noHTTP{t}})
	require.NoError(t, err)
	requireKey(t, "MACHINE", c.Credentials(&Node{App: "x", CrossAccount: true}))
}

// noHTTP fails the test if anything is asked.
type noHTTP struct{ t *testing.T }

func (n noHTTP) Do(r *http.Request) (*http.Response, error) {
	n.t.Error("a request to " + r.URL.Host)
	return nil, errors.New("no network here")
}

func TestNewReachesOutToNothing(t *testing.T) {
	noMachine(t)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	c, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{HTTPClient: noHTTP{t}})
	require.NoError(t, err)
	c.NewBulk(BulkOptions{})
	c.Credentials(testNode())

	_, err = New(Environment{}, Options{})
	assert.ErrorContains(t, err, "APPSYNC_ENDPOINT")
}
