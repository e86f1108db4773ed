package echostream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
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

// The machine's credentials are the first that are set up, in AWS's order.
func TestMachinesCredentials(t *testing.T) {
	const expires = "2099-01-01T00:00:00Z"
	var refuse atomic.Bool
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) { // STS
		if refuse.Load() {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not this role</Message></Error></ErrorResponse>`)
			return
		}
		assert.NoError(t, r.ParseForm())
		assert.Equal(t, url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {"arn:aws:iam::1:role/r"},
			"RoleSessionName": {"s"}, "WebIdentityToken": {"the token"}}, r.PostForm)
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>
			<SessionToken>t/+=</SessionToken><SecretAccessKey>s</SecretAccessKey><Expiration>%s</Expiration><AccessKeyId>WEB</AccessKeyId>
			</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, expires)
	})
	mux.HandleFunc("GET /container", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"AccessKeyId":"CONTAINER %s","SecretAccessKey":"s","Token":"t","Expiration":"%s"}`, r.Header.Get("Authorization"), expires)
	})
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
		_, _ = io.WriteString(w, "token")
	})
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/", func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "token", r.Header.Get("X-Aws-Ec2-Metadata-Token"))
		if r.URL.Path == "/latest/meta-data/iam/security-credentials/" {
			_, _ = io.WriteString(w, "role")
			return
		}
		fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"INSTANCE","SecretAccessKey":"s","Token":"t","Expiration":"%s"}`, expires)
	})

	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	token := write("token", "the token")
	shared := write("credentials", "# kept by hand\n[default]\naws_access_key_id = SHARED\naws_secret_access_key=a=b\n\n[half]\nregion = eu-west-1\n[other]\n"+
		"AWS_Access_Key_Id = OTHER\naws_secret_access_key = s\n aws_session_token = t\n")
	config := write("config", "[default]\nregion = eu-west-1\n[profile there]\naws_access_key_id = CONFIG\naws_secret_access_key = s\n[profile sso]\nsso_session = x\n"+
		"[profile other]\naws_access_key_id = HIDDEN\n")
	instance := map[string]string{"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": server.URL}
	container := map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "auth"}
	files := map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared, "AWS_CONFIG_FILE": config}
	web := map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_ROLE_SESSION_NAME": "s", "AWS_ENDPOINT_URL_STS": server.URL}
	environment := map[string]string{"AWS_ACCESS_KEY_ID": "ENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "s"}

	for _, c := range []struct {
		name      string
		variables []map[string]string
		want      string // the key
		fails     string
	}{
		{"the instance's", []map[string]string{instance}, "INSTANCE", ""},
		{"the instance's, which is off", []map[string]string{instance, {"AWS_EC2_METADATA_DISABLED": "true"}}, "", "disabled"},
		{"the container's", []map[string]string{instance, container}, "CONTAINER auth", ""},
		{"the container's, with a token that changes", []map[string]string{container, {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}}, "CONTAINER the token", ""},
		{"somebody's on the network", []map[string]string{{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/x"}}, "", "expected this machine or AWS's agent, or https"},
		{"the shared files'", []map[string]string{instance, container, files}, "SHARED", ""},
		{"another profile's", []map[string]string{container, files, {"AWS_PROFILE": "other"}}, "OTHER", ""},
		{"a profile's of the config", []map[string]string{container, files, {"AWS_PROFILE": "there"}}, "CONFIG", ""},
		{"those of a profile that is not there", []map[string]string{container, files, {"AWS_PROFILE": "missing"}}, "", `have no keys (aws_access_key_id, aws_secret_access_key) for the profile "missing"`},
		{"those of a profile without keys", []map[string]string{container, files, {"AWS_PROFILE": "half"}}, "", `for the profile "half"`},
		{"those of a profile with SSO", []map[string]string{container, files, {"AWS_PROFILE": "sso"}}, "", `the profile "sso" of AWS's shared files has sso_session; a node understands`},
		{"a web identity's", []map[string]string{container, files, web}, "WEB", ""},
		{"a web identity's without a role", []map[string]string{web, {"AWS_ROLE_ARN": ""}}, "", "AWS_ROLE_ARN is not"},
		{"the environment's", []map[string]string{container, files, web, environment}, "ENVIRONMENT", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			noMachine(t)
			for _, name := range []string{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_DEFAULT_PROFILE"} {
				t.Setenv(name, "")
			}
			for _, variables := range c.variables {
				for name, value := range variables {
					t.Setenv(name, value)
				}
			}
			client, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{})
			require.NoError(t, err)
			got, err := client.Credentials(&Definition{App: "x", CrossAccount: true}).Retrieve(t.Context())
			if c.fails != "" {
				require.ErrorContains(t, err, c.fails)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, got.AccessKeyID)
			if c.want == "SHARED" {
				assert.Equal(t, "a=b", got.SecretAccessKey)
			}
			if got.CanExpire {
				assert.Greater(t, time.Until(got.Expires), 50*time.Minute) // the SDK asks the instance every hour
			}
		})
	}

	refuse.Store(true)
	noMachine(t)
	for name, value := range web {
		t.Setenv(name, value)
	}
	client, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{})
	require.NoError(t, err)
	_, err = client.Credentials(&Definition{App: "x", CrossAccount: true}).Retrieve(t.Context())
	assert.ErrorContains(t, err, "AccessDenied")
	assert.ErrorContains(t, err, "not this role")
	requireNoSecret(t, err, "the token")
}

// What AWS's variables say of endpoints and certificates holds for all of the SDK's clients.
func TestVariablesOfTheMachine(t *testing.T) {
	endpoint := func(t *testing.T) (address string) {
		c, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{})
		require.NoError(t, err)
		o := sqs.NewFromConfig(c.aws).Options()
		uri, err := o.EndpointResolverV2.ResolveEndpoint(t.Context(), sqs.EndpointParameters{
			Region: aws.String(o.Region), Endpoint: o.BaseEndpoint,
			UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
			UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
		})
		require.NoError(t, err)
		return uri.URI.String()
	}
	for _, c := range []struct {
		variables map[string]string
		want      string
	}{
		{nil, "https://sqs.eu-west-1.amazonaws.com"},
		{map[string]string{"AWS_ENDPOINT_URL": "http://all"}, "http://all"},
		{map[string]string{"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_SQS": "http://sqs"}, "http://sqs"},
		{map[string]string{"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_SQS": "http://sqs", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "https://sqs.eu-west-1.amazonaws.com"},
		{map[string]string{"AWS_USE_FIPS_ENDPOINT": "true"}, "https://sqs-fips.eu-west-1.amazonaws.com"},
		{map[string]string{"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://sqs.eu-west-1.api.aws"},
	} {
		t.Run(c.want, func(t *testing.T) {
			noMachine(t)
			os.Unsetenv("AWS_ENDPOINT_URL") // t.Setenv has it set again
			os.Unsetenv("AWS_ENDPOINT_URL_SQS")
			for name, value := range c.variables {
				t.Setenv(name, value)
			}
			assert.Equal(t, c.want, endpoint(t))
		})
	}

	noMachine(t)
	t.Setenv("AWS_CA_BUNDLE", filepath.Join(t.TempDir(), "none.pem"))
	_, err := New(testEnvironment("http://127.0.0.1:1/graphql"), Options{})
	assert.ErrorContains(t, err, "AWS_CA_BUNDLE")
}
