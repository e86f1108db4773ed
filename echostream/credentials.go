package echostream

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ftpnode/ftpnode/echostream/internal/api"
)

// credentialsDuration is asked for; 900 s to 12 h are allowed.
const credentialsDuration = time.Hour

// Credentials are the AWS credentials that the node uses for its queues. They come from EchoStream and are replaced
// before they expire; only the node of a CrossAccountApp uses those of the machine it runs on (AWS's default chain:
// environment, shared files, container and instance roles).
func (c *Client) Credentials(node *Definition) aws.CredentialsProvider {
	if node.CrossAccount {
		return c.aws.Credentials
	}
	return c.appCredentials(node)
}

// appCredentials are those that EchoStream gives to an app, also to a CrossAccountApp: it audits with them.
func (c *Client) appCredentials(node *Definition) *appCredentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apps[node.App] == nil {
		app := node.App
		c.apps[app] = newAppCredentials(
			func(ctx context.Context) (aws.Credentials, error) { return c.fetchCredentials(ctx, app) }, c.clock.now, c.log)
	}
	return c.apps[node.App]
}

func (c *Client) fetchCredentials(ctx context.Context, app string) (aws.Credentials, error) {
	answer, err := api.GetAwsCredentials(ctx, c.api, app, c.env.Tenant, int(credentialsDuration/time.Second))
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("getting AWS credentials for app %q: %w", app, err)
	}
	if answer.GetApp == nil {
		return aws.Credentials{}, withHint(
			fmt.Errorf("getting AWS credentials for app %q: tenant %q has no such app", app, c.env.Tenant), "look at the app in EchoStream")
	}
	holder, ok := answer.GetApp.(interface {
		GetGetAwsCredentials() api.CredentialsFields
	})
	if !ok {
		return aws.Credentials{}, fmt.Errorf("getting AWS credentials for app %q: it is a %s, expected a ManagedApp, an ExternalApp or a CrossAccountApp",
			app, value(answer.GetApp.GetTypename()))
	}
	got := holder.GetGetAwsCredentials()
	if got.AccessKeyId == "" || got.SecretAccessKey == "" || got.Expiration.IsZero() {
		return aws.Credentials{}, fmt.Errorf("getting AWS credentials for app %q: the answer lacks a key or the expiration", app)
	}
	return aws.Credentials{
		AccessKeyID: got.AccessKeyId, SecretAccessKey: got.SecretAccessKey, SessionToken: got.SessionToken,
		CanExpire: true, Expires: got.Expiration, Source: "EchoStream",
	}, nil
}

// appCredentials keeps credentials and replaces them in time. (aws.CredentialsCache would do so by its own clock,
// and can only forget what it holds now, not the credentials that a service refused a moment ago.)
type appCredentials struct{ *renewed[aws.Credentials] }

func newAppCredentials(fetch func(context.Context) (aws.Credentials, error), now func() time.Time, log *slog.Logger) *appCredentials {
	return &appCredentials{&renewed[aws.Credentials]{
		what: "AWS credentials", now: now, log: log,
		fetch: func(ctx context.Context) (aws.Credentials, time.Time, error) {
			creds, err := fetch(ctx)
			return creds, creds.Expires, err
		},
		ahead: func(life time.Duration) time.Duration { return min(5*time.Minute, life/2) },
	}}
}

// Retrieve implements aws.CredentialsProvider.
func (a *appCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) { return a.get(ctx) }

// refused forgets the credentials with this key, which a service would not take.
func (a *appCredentials) refused(accessKeyID string) { a.forget(hasKey(accessKeyID)) }

// generation numbers the credentials with this key: those that were fetched later have a greater number.
func (a *appCredentials) generation(accessKeyID string) int { return a.serialOf(hasKey(accessKeyID)) }

func hasKey(id string) func(aws.Credentials) bool {
	return func(c aws.Credentials) bool { return c.AccessKeyID == id }
}

// byCredentials makes a request by the credentials of a provider, and once more if what the first was refused for is cured:
// credentials that are replaced, or a clock that the refusal set right. try also returns AWS's code of a refusal. to is the
// queue or endpoint that credentials may be too old for; "" if access that is denied says nothing of their age.
func (c *Client) byCredentials(ctx context.Context, node *Definition, from aws.CredentialsProvider, to string, try func(aws.Credentials) (code string, err error)) error {
	for attempt := 1; ; attempt++ {
		used, err := c.retrieve(ctx, from)
		if err != nil {
			return err
		}
		moves := c.clock.moves()
		code, err := try(used)
		if err == nil {
			if to != "" {
				c.opened(to)
			}
			return nil
		}
		own, isOwn := from.(*appCredentials)
		cured := false
		switch {
		case refusedForTime(code) && c.clock.moves() != moves:
			cured = true
		case !isOwn:
			cured = credentialsRefused(code) && c.forgetMachine()
		case credentialsRefused(code):
			own.refused(used.AccessKeyID)
			cured = true
		case to != "" && (accessDenied(code) || code == unexplained):
			cured = c.renewFor(to, node, used.AccessKeyID)
		}
		if !cured || attempt == 2 {
			return err
		}
	}
}

// unexplained is the code of a refusal that has none: of the credentials, for all that is known.
const unexplained = "(none)"

// renewFor reports whether other credentials may open a queue or endpoint that is closed to those with this key, and
// forgets these. They are narrowed when they are made, so that those from before an edge do not open it. But one that stays
// closed has credentials replaced once, until [Client.Definition] reads another definition: each request for new ones costs,
// and everything else goes by the same ones.
func (c *Client) renewFor(to string, node *Definition, accessKeyID string) bool {
	credentials := c.appCredentials(node)
	serial := credentials.generation(accessKeyID)
	c.mu.Lock()
	first, again := c.closed[to]
	if !again {
		c.closed[to] = serial
	}
	c.mu.Unlock()
	if again && serial > first {
		return false
	}
	credentials.refused(accessKeyID)
	return true
}

// opened notes that credentials open a queue or endpoint.
func (c *Client) opened(to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.closed, to)
}

// forgetMachine has the machine's credentials read again, and reports whether they can be others then. (The AWS SDK
// keeps them until they end by the machine's clock.)
func (c *Client) forgetMachine() bool {
	cache, ok := c.aws.Credentials.(*aws.CredentialsCache)
	if ok {
		cache.Invalidate()
	}
	return ok
}

// credentialsRefused reports whether AWS turned a request down for its credentials' sake.
func credentialsRefused(code string) bool {
	switch code {
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
		"InvalidSecurity", "InvalidAccessKeyId", "InvalidToken":
		return true
	}
	return false
}
