package echostream

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/Khan/genqlient/graphql"
	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go/logging"
)

// Options of a Client. The zero value works.
type Options struct {
	// HTTPClient makes every request. By default, one that keeps connections, honours HTTPS_PROXY, SSL_CERT_FILE
	// and AWS_CA_BUNDLE, and has no limit on the time that an upload takes.
	HTTPClient aws.HTTPClient
	// AWS are more options for the AWS SDK's configuration, such as config.WithBaseEndpoint in a test that cannot set
	// variables. They win over what New sets. By default, none.
	AWS []func(*config.LoadOptions) error
	// Log gets what happens between the calls: log-ins, retries. By default, nothing is logged.
	Log *slog.Logger
	// Now is the machine's clock, which may be wrong: see [Client.Now]. By default, time.Now.
	Now func() time.Time
	// Elapsed is the time since some moment, counted by a clock that nobody sets and that goes on while the machine is
	// suspended. By default, that of Now if Now is set; else CLOCK_BOOTTIME on Linux and Go's monotonic clock elsewhere.
	Elapsed func() time.Duration
	// CallTimeout bounds each request but the uploads: to Cognito, the API, SQS and the audit endpoint; [Client.Send] bounds
	// its own more closely. A call may need several of them one after the other (see the package comment). By default, 30 s.
	CallTimeout time.Duration
}

// Client speaks with EchoStream for one node. It is safe for concurrent use and has nothing to close.
type Client struct {
	env  Environment
	opts Options
	log  *slog.Logger
	aws  aws.Config
	api  graphql.Client
	// clock is EchoStream's. Options.Now is the machine's and must decide nothing.
	clock *serviceClock

	mu     sync.Mutex
	apps   map[string]*appCredentials // by app
	sqs    map[string]*sqs.Client     // by app; "" uses the machine's credentials
	node   *Definition                // as it was read last
	closed map[string]int             // by queue or endpoint: the credentials to which it was closed first
}

// Now is the time by EchoStream's clock, as the Date of the last answers gives it and whatever the machine's clock is set
// to; before the first answer it is the machine's. What EchoStream's times are compared with, such as
// [BulkObject].Expires, or what is put into its records must be this. It can jump, when an answer sets it right.
func (c *Client) Now() time.Time { return c.clock.now() }

// tokens are the access tokens of the API.
type tokens interface {
	// Token returns one that should be valid; it logs in if it has to.
	Token(ctx context.Context) (string, error)
	// Invalidate says that the API refused a token.
	Invalidate(token string)
}

// New makes a client and reaches out to nothing: the first call logs in. It reads the standard AWS variables, so
// that AWS_ENDPOINT_URL and its kin point it at an emulator; the region is the user pool's and credentials are
// EchoStream's (but see [Client.Credentials]).
func New(env Environment, opts Options) (*Client, error) {
	if err := env.Validate(); err != nil {
		return nil, err
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case opts.Now == nil:
		opts.Now = time.Now
		if opts.Elapsed == nil {
			opts.Elapsed = uptime()
		}
	case opts.Elapsed == nil:
		start := opts.Now()
		opts.Elapsed = func() time.Duration { return opts.Now().Sub(start) }
	}
	clock := newServiceClock(opts.Now, opts.Elapsed, opts.Log)
	if opts.CallTimeout <= 0 {
		opts.CallTimeout = 30 * time.Second
	}
	var client aws.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 64   // lanes send side by side
		t.WriteBufferSize = 64 << 10 // ten messages of small files go in one write
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		// A clock that is set wrong under way makes no certificate invalid. At the start there is only the machine's.
		t.TLSClientConfig.Time = clock.now
	})
	if opts.HTTPClient != nil {
		client = opts.HTTPClient
	}
	// The region is given, so that nothing asks the machine's metadata service for it. Retrying is the caller's, by
	// one policy.
	load := append([]func(*config.LoadOptions) error{
		config.WithRegion(env.Region()),
		config.WithHTTPClient(client),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithLogger(sdkLogger(opts.Log)),
	}, opts.AWS...)
	cfg, err := config.LoadDefaultConfig(context.Background(), load...)
	if err != nil {
		return nil, fmt.Errorf("reading the AWS configuration of this machine: %w", withoutURLs(err))
	}
	if b, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cfg.HTTPClient = b.Freeze() // else each service gets connections of its own
	}
	cfg.HTTPClient = timedClient{client: cfg.HTTPClient, clock: clock}
	opts.HTTPClient = cfg.HTTPClient

	cognito := cognitoidentityprovider.NewFromConfig(cfg, func(o *cognitoidentityprovider.Options) {
		o.Credentials = aws.AnonymousCredentials{}
	})
	c := &Client{
		env: env, opts: opts, log: opts.Log, aws: cfg, clock: clock,
		api: &transport{
			url: env.AppSyncEndpoint, http: cfg.HTTPClient, timeout: opts.CallTimeout,
			tokens: newLogin(env, cognito, opts.CallTimeout, opts.Log, clock.now),
		},
		apps: map[string]*appCredentials{},
		sqs:  map[string]*sqs.Client{}, closed: map[string]int{},
	}
	return c, nil
}

// sdkLogger takes what the AWS SDK has to say. By itself it would write to stderr, in a format of its own.
func sdkLogger(log *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
		log.Debug("the AWS SDK says", "message", shorten(fmt.Sprintf(format, v...)))
	})
}

// retrieve bounds what a provider of credentials takes, since those of the machine may ask half a dozen places.
func (c *Client) retrieve(ctx context.Context, from aws.CredentialsProvider) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.opts.CallTimeout)
	defer cancel()
	credentials, err := from.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, withoutURLs(err)
	}
	return credentials, nil
}
