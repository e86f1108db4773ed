package echostream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// vendor gives out KEY1, KEY2, ... for a while each, or an error.
type vendor struct {
	life time.Duration
	gate chan struct{} // if set, every fetch waits for it or its context

	mu  sync.Mutex
	err error
	n   int
}

func (v *vendor) fetch(ctx context.Context) (aws.Credentials, error) {
	v.mu.Lock()
	v.n++
	n, err, gate := v.n, v.err, v.gate
	v.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return aws.Credentials{}, ctx.Err()
		}
	}
	if err != nil {
		return aws.Credentials{}, err
	}
	return aws.Credentials{AccessKeyID: "KEY" + string(rune('0'+n)), SecretAccessKey: "s", CanExpire: true,
		Expires: time.Now().Add(v.life)}, nil
}

func (v *vendor) set(change func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change()
}

func (v *vendor) asked() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.n
}

// inCredentials runs f in a bubble of fake time, with credentials that are good for life.
func inCredentials(t *testing.T, life time.Duration, f func(t *testing.T, a *appCredentials, v *vendor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := &vendor{life: life}
		f(t, newAppCredentials(v.fetch, time.Now, slog.New(slog.DiscardHandler)), v)
	})
}

func requireKey(t *testing.T, want string, p aws.CredentialsProvider) {
	t.Helper()
	got, err := p.Retrieve(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got.AccessKeyID)
}

// requireKeys asks at the time for new credentials, which are fetched in the background.
func requireKeys(t *testing.T, old, want string, p aws.CredentialsProvider) {
	t.Helper()
	requireKey(t, old, p)
	synctest.Wait()
	requireKey(t, want, p)
	synctest.Wait()
}

func TestCredentialsAreRenewedBeforeTheyExpire(t *testing.T) {
	for _, test := range []struct {
		name         string
		life, before time.Duration
	}{{"long", time.Hour, 5 * time.Minute}, {"short", time.Minute, 30 * time.Second}} {
		t.Run(test.name, func(t *testing.T) {
			inCredentials(t, test.life, func(t *testing.T, a *appCredentials, v *vendor) {
				requireKey(t, "KEY1", a)
				time.Sleep(test.life - test.before - time.Second)
				requireKeys(t, "KEY1", "KEY1", a)
				time.Sleep(2 * time.Second)
				requireKeys(t, "KEY1", "KEY2", a)
				assert.Equal(t, 2, v.asked())
			})
		})
	}
}

func TestCredentialsThatCannotBeRenewedAreUsedToTheirEnd(t *testing.T) {
	inCredentials(t, time.Hour, func(t *testing.T, a *appCredentials, v *vendor) {
		requireKey(t, "KEY1", a)
		v.set(func() { v.err = errors.New("down") })
		time.Sleep(56 * time.Minute)
		requireKeys(t, "KEY1", "KEY1", a)
		assert.Equal(t, 2, v.asked(), "it pauses between tries")
		time.Sleep(31 * time.Second)
		requireKeys(t, "KEY1", "KEY1", a)
		assert.Equal(t, 3, v.asked())
		time.Sleep(time.Hour)
		_, err := a.Retrieve(t.Context())
		assert.EqualError(t, err, "down")
		v.set(func() { v.err = nil })
		requireKey(t, "KEY5", a)
	})
}

// What replaces them may hang: nobody waits for it as long as they work, and it goes on without who began it.
func TestCredentialsAreRenewedInTheBackground(t *testing.T) {
	inCredentials(t, time.Hour, func(t *testing.T, a *appCredentials, v *vendor) {
		requireKey(t, "KEY1", a)
		time.Sleep(56 * time.Minute)
		v.set(func() { v.gate = make(chan struct{}) })
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		for range 4 {
			got, err := a.Retrieve(ctx)
			require.NoError(t, err)
			assert.Equal(t, "KEY1", got.AccessKeyID)
		}
		cancel()
		synctest.Wait()
		assert.Zero(t, time.Since(start)) // fake time
		assert.Equal(t, 2, v.asked())
		close(v.gate)
		synctest.Wait()
		requireKey(t, "KEY2", a)
	})
}

func TestRefusedCredentialsAreForgotten(t *testing.T) {
	inCredentials(t, time.Hour, func(t *testing.T, a *appCredentials, _ *vendor) {
		requireKey(t, "KEY1", a)
		a.refused("KEY0") // of a request that took long
		requireKey(t, "KEY1", a)
		a.refused("KEY1")
		requireKey(t, "KEY2", a)
	})
}

func TestCredentialsAreFetchedOnceForAll(t *testing.T) {
	inCredentials(t, time.Hour, func(t *testing.T, a *appCredentials, v *vendor) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				got, err := a.Retrieve(t.Context())
				assert.NoError(t, err)
				assert.Equal(t, "KEY1", got.AccessKeyID)
			})
		}
		wg.Wait()
		assert.Equal(t, 1, v.asked())
	})
}

func TestCredentialsWaitNoLongerThanTheCaller(t *testing.T) {
	inCredentials(t, time.Hour, func(t *testing.T, a *appCredentials, v *vendor) {
		v.gate = make(chan struct{})
		var other sync.WaitGroup
		other.Go(func() { _, _ = a.Retrieve(t.Context()) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := a.Retrieve(ctx)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		close(v.gate)
		other.Wait()
	})
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
		_, err := c.Credentials(&Definition{App: app}).Retrieve(t.Context())
		assert.ErrorContains(t, err, want)
	}
}

func TestCrossAccountAppUsesTheMachinesCredentials(t *testing.T) {
	noMachine(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "MACHINE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	c, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{HTTPClient: noHTTP{t}})
	require.NoError(t, err)
	requireKey(t, "MACHINE", c.Credentials(&Definition{App: "x", CrossAccount: true}))
}

// The AWS SDK keeps the machine's credentials until they end by the machine's clock.
func TestMachinesCredentialsThatWereRefused(t *testing.T) {
	n := 0
	machine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		fmt.Fprintf(w, `{"AccessKeyId":"KEY%d","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}`, n)
	}))
	defer machine.Close()
	s := &scriptedSQS{requests: []refusal{{"ExpiredToken", true}}}
	server := httptest.NewServer(s)
	defer server.Close()
	noMachine(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", machine.URL)
	c, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{})
	require.NoError(t, err)
	node := testNode()
	node.CrossAccount = true
	require.NoError(t, c.Send(t.Context(), node, server.URL+"/1/q.fifo", messagesOf("a"))[0])
	assert.Equal(t, []string{"KEY1", "KEY2"}, s.keys)

	s.requests = slices.Repeat([]refusal{{"InvalidClientTokenId", true}}, 2)
	err = c.Send(t.Context(), node, server.URL+"/1/q.fifo", messagesOf("a"))[0]
	assert.True(t, NeedsOperator(err))
	assert.ErrorContains(t, err, "check the AWS credentials of this machine")
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
