package echostream

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ftpnode/ftpnode/echostream/internal/api"
)

const (
	credentialsDuration = time.Hour // asked for; 900 s to 12 h are allowed
	// refreshAhead is how long before their end credentials are replaced; if they are shorter-lived than twice that, it
	// is after half their life.
	refreshAhead = 5 * time.Minute
	// refreshPause is how long credentials that still work are used after a try to replace them failed.
	refreshPause = 30 * time.Second
)

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
		c.apps[app] = &appCredentials{
			fetch: func(ctx context.Context) (aws.Credentials, error) { return c.fetchCredentials(ctx, app) },
			now:   c.clock.now, log: c.log, turn: make(chan struct{}, 1),
		}
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
// and can only forget what it holds now, not the credentials that a service refused a moment ago.) As long as what it
// holds works, they are replaced in the background, and nobody waits for it.
type appCredentials struct {
	fetch func(context.Context) (aws.Credentials, error)
	now   func() time.Time
	log   *slog.Logger
	turn  chan struct{} // held while fetching

	mu      sync.Mutex
	held    aws.Credentials
	serial  int // of what is held, from 1
	renewAt time.Time
}

// Retrieve implements aws.CredentialsProvider.
func (a *appCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if creds, ok := a.current(); ok {
		if a.due() {
			a.renew(ctx)
		}
		return creds, nil
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		if creds, ok := a.current(); ok {
			return creds, nil
		}
		return aws.Credentials{}, ctx.Err()
	}
	if creds, ok := a.current(); ok {
		return creds, nil // someone else has just fetched them
	}
	creds, err := a.fetch(ctx)
	if err != nil {
		return aws.Credentials{}, err
	}
	a.keep(ctx, creds)
	return creds, nil
}

// renew replaces credentials that still work, unless someone is about it. It does not wait, and does not end with
// the caller: fetch has its own bounds.
func (a *appCredentials) renew(ctx context.Context) {
	select {
	case a.turn <- struct{}{}:
	default:
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer func() { <-a.turn }()
		if !a.due() {
			return // someone else has just fetched them
		}
		creds, err := a.fetch(ctx)
		if err == nil {
			a.keep(ctx, creds)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.renewAt = a.now().Add(refreshPause)
		if !a.held.HasKeys() {
			return // refused meanwhile; whoever needs others will fetch them
		}
		a.log.WarnContext(ctx, "AWS credentials could not be renewed, the old ones are used until they expire",
			"expires", a.held.Expires, "error", err)
	}()
}

func (a *appCredentials) keep(ctx context.Context, creds aws.Credentials) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	a.held = creds
	a.serial++
	a.renewAt = creds.Expires.Add(-min(refreshAhead, creds.Expires.Sub(now)/2))
	a.log.DebugContext(ctx, "got AWS credentials", "expires", creds.Expires)
}

// current gives the credentials that are held, and whether they work.
func (a *appCredentials) current() (aws.Credentials, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held, a.held.HasKeys() && a.now().Before(a.held.Expires)
}

// due reports whether it is time to replace them.
func (a *appCredentials) due() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.now().Before(a.renewAt)
}

// refused forgets the credentials with this key, which a service would not take.
func (a *appCredentials) refused(accessKeyID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held.AccessKeyID == accessKeyID {
		a.held = aws.Credentials{}
	}
}

// serialOf numbers the credentials with this key: those that were fetched later have a greater number.
func (a *appCredentials) serialOf(accessKeyID string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held.AccessKeyID == accessKeyID {
		return a.serial
	}
	return a.serial - 1 // they were replaced meanwhile, or refused
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
	serial := credentials.serialOf(accessKeyID)
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
