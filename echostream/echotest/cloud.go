package echotest

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/vektah/gqlparser/v2/ast"
)

// Service is one of the services that a Cloud offers.
type Service string

// The services of a Cloud.
const (
	Cognito Service = "cognito"
	AppSync Service = "appsync"
	SQS     Service = "sqs"
	S3      Service = "s3"
	// Audit is the audit endpoint. We assume that it goes by AWS's rule for every service but S3: a signature holds the
	// path with its escapes escaped once more. It matters for a node whose name has a space, say.
	// (EchoStream's Python library escapes once, and would be refused for such a node.)
	Audit Service = "audit"
)

// Services lists the services of a Cloud.
func Services() []Service { return []Service{Cognito, AppSync, SQS, S3, Audit} }

const (
	accountID = "123456789012"
	// closeGrace bounds the wait for outstanding requests on Close.
	closeGrace = 10 * time.Second
)

// Options of a Cloud. The zero value is a cloud with one ManagedApp, one node and one target.
type Options struct {
	// Address to listen on. Each service has an address of its own on the same host, with a port that the system
	// chooses, and all of them answer at this one too. By default, "127.0.0.1:0".
	Address string
	// Host is the host name or IP address in all URLs. By default, that of Address.
	Host string
	// TLS makes it HTTPS with a certificate of its own: Cloud.CertificatePEM. By default, it is HTTP.
	TLS bool

	// UserPoolID ("region_id") and ClientID are Cognito's. By default, random ones.
	UserPoolID, ClientID string

	Tenant Tenant
	App    App  // By default, a ManagedApp "ftp-app".
	Node   Node // By default, a node "ftp-node" of that app.
	// Targets of the node: one edge each. By default, one target "target". Use an empty, non-nil slice for none.
	Targets []string
	// Sources of the node: one edge each. By default, none.
	Sources      []string
	MessageTypes []MessageType // more than EchoFile, or another EchoFile

	// NameVariable makes Environment give the node's name as NAME, as documented, and not as NODE, as the released
	// Managed App does.
	NameVariable bool

	AccessTokenLifetime  time.Duration // By default, an hour.
	RefreshTokenLifetime time.Duration // By default, 30 days.
	ObjectLifetime       time.Duration // By default, 7 days.
	// Machine is a pair of AWS credentials that is always accepted: a CrossAccountApp's. By default, a random pair.
	Machine aws.Credentials

	// OnMessage is called for each message that an edge accepted (not for duplicates), in the order of that edge,
	// before the sender gets its reply. It may call the Cloud's methods, but Close and a Put on the same edge; what
	// takes long belongs elsewhere.
	OnMessage func(Received)
	// OnDuplicate is called for each copy of a message that deduplication suppressed, with the message that was accepted.
	OnDuplicate func(Received)
	// OnFault is called for each fault that hits a request, before it takes effect. operation is as for Requests.
	OnFault func(f Fault, s Service, operation string)
	// OnAudit is called for each audit record that was accepted.
	OnAudit func(AuditRecord)
	// DropBodies keeps nothing of a message's body after OnMessage: for long runs. Such messages cannot be received
	// from the queue, nor decoded later.
	DropBodies bool
	// DiscardObjects keeps only size and hash of what is uploaded. A GET of it is a 404; Decode knows its SHA-256.
	DiscardObjects bool
	// TempDir is where a directory for objects is made. By default, os.TempDir.
	TempDir string

	// ContentKey and URLKey name the keys of a file message that hold base64 content or a URL. By default, "content"
	// and "contentUrl".
	ContentKey, URLKey string

	// Now is what the cloud's Clock starts from. By default, time.Now.
	Now func() time.Time
	// Log gets one DEBUG line for each request. By default, nothing is logged. No secret is ever logged.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&o.Address, "127.0.0.1:0")
	set(&o.Tenant.Name, "acme")
	set(&o.Tenant.Region, "us-east-1")
	set(&o.Tenant.Table, "tenant-table")
	set(&o.App.Name, "ftp-app")
	set(&o.Node.Name, "ftp-node")
	set(&o.Node.App, o.App.Name)
	set(&o.ContentKey, "content")
	set(&o.URLKey, "contentUrl")
	if o.Targets == nil {
		o.Targets = []string{"target"}
	}
	if o.AccessTokenLifetime == 0 {
		o.AccessTokenLifetime = time.Hour
	}
	if o.RefreshTokenLifetime == 0 {
		o.RefreshTokenLifetime = 30 * 24 * time.Hour
	}
	if o.ObjectLifetime == 0 {
		o.ObjectLifetime = 7 * 24 * time.Hour
	}
	if o.Machine.AccessKeyID == "" {
		o.Machine = newCredentials("AKIA")
		o.Machine.SessionToken = ""
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Cloud is an EchoStream cloud. Its methods may be called by several goroutines.
type Cloud struct {
	opts        Options
	clock       *Clock
	schema      *ast.Schema
	faults      *faults
	requests    *counters
	cognito     *cognito
	credentials *credentials
	storage     *storage
	log         *slog.Logger
	tls         *tls.Config
	certificate []byte
	closing     chan struct{} // closed when Close begins: ends delays and long polls

	mu           sync.Mutex
	tenant       Tenant
	apps         map[string]App
	nodes        map[string]Node
	messageTypes map[string]MessageType
	edges        map[string]*edge // by edgeName
	edgeOrder    []string
	edgesMade    int              // edges that there ever were
	queues       map[string]*edge // by the queue URL's path
	logs         map[string]*edgeLog
	audits       []AuditRecord
	arrival      chan struct{} // closed and replaced at each message and audit record
	off          map[Service]bool
	closed       bool

	turning   sync.Mutex            // one Off, On or Close at a time
	listeners map[Service]*listener // "" is the one for all
}

// NewCloud starts a cloud. Like httptest.NewServer it panics if it cannot listen, or if the options make no sense:
// use StartCloud where an address comes from a user. The caller calls Close.
func NewCloud(opts Options) *Cloud {
	c, err := StartCloud(opts)
	if err != nil {
		panic(err)
	}
	return c
}

// StartCloud starts a cloud and says what went wrong: the address is taken, or the temporary directory cannot be made.
func StartCloud(opts Options) (*Cloud, error) {
	opts = opts.withDefaults()
	c := &Cloud{
		opts:         opts,
		log:          opts.Log,
		requests:     newCounters(),
		schema:       loadSchema(),
		credentials:  newCredentialStore(opts.Machine),
		closing:      make(chan struct{}),
		tenant:       opts.Tenant,
		apps:         make(map[string]App),
		nodes:        make(map[string]Node),
		messageTypes: map[string]MessageType{EchoFile().Name: EchoFile()},
		edges:        make(map[string]*edge),
		queues:       make(map[string]*edge),
		logs:         make(map[string]*edgeLog),
		arrival:      make(chan struct{}),
		off:          make(map[Service]bool),
		listeners:    make(map[Service]*listener),
	}
	c.clock = newClock(opts.Now, c.wakeQueues)
	c.faults = newFaults(c.clock)
	c.cognito = newCognito(c.clock, opts)
	if opts.TLS {
		if err := c.makeCertificate(); err != nil {
			return nil, err
		}
	}
	if err := c.listen(); err != nil {
		return nil, err
	}
	storage, err := newStorage(c)
	if err != nil {
		c.Close()
		return nil, err
	}
	c.storage = storage
	for _, m := range opts.MessageTypes {
		c.messageTypes[m.Name] = m
	}
	c.setApp(opts.App)
	c.setNode(opts.Node)
	for _, t := range opts.Targets {
		c.addEdge(opts.Node.Name, t)
	}
	for _, s := range opts.Sources {
		c.addEdge(s, opts.Node.Name)
	}
	for _, l := range c.listeners {
		l.start()
	}
	return c, nil
}

// Clock is the cloud's time.
func (c *Cloud) Clock() *Clock { return c.clock }

// URL is the address at which all services answer, without a path.
func (c *Cloud) URL() string { return c.url("") }

// Environment gives the variables that EchoStream starts the cloud's first node with, and those that make any AWS SDK
// talk to this cloud: AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_SQS and so on. It holds the app's password.
func (c *Cloud) Environment() map[string]string { return c.EnvironmentOf(c.opts.Node.Name) }

// EnvironmentOf is Environment for another node; it panics if there is none with this name. A node of a
// CrossAccountApp also gets the machine's credentials (Options.Machine).
func (c *Cloud) EnvironmentOf(node string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[node]
	if !ok {
		panic(fmt.Sprintf("echotest: no node %q", node))
	}
	app := c.apps[n.App]
	env := map[string]string{
		"APPSYNC_ENDPOINT": c.url(AppSync) + graphqlPath,
		"CLIENT_ID":        c.cognito.clientID,
		"PASSWORD":         app.Password,
		"TENANT":           c.tenant.Name,
		"USER_POOL_ID":     c.cognito.poolID,
		"USER_NAME":        app.UserName,

		"AWS_ENDPOINT_URL":                           c.url(""),
		"AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": c.url(Cognito),
		"AWS_ENDPOINT_URL_SQS":                       c.url(SQS),
		"AWS_ENDPOINT_URL_S3":                        c.url(S3),
	}
	name := "NODE"
	if c.opts.NameVariable {
		name = "NAME"
	}
	env[name] = node
	if app.Kind == CrossAccountApp {
		maps.Copy(env, map[string]string{
			"AWS_ACCESS_KEY_ID":     c.opts.Machine.AccessKeyID,
			"AWS_SECRET_ACCESS_KEY": c.opts.Machine.SecretAccessKey,
		})
		if t := c.opts.Machine.SessionToken; t != "" {
			env["AWS_SESSION_TOKEN"] = t
		}
	}
	return env
}

// Close stops listening, as Stop does, and removes stored objects. It can be called more than once.
func (c *Cloud) Close() {
	c.Stop()
	if c.storage != nil {
		_ = os.RemoveAll(c.storage.dir)
	}
}

// Stop stops listening, ends long polls and scripted delays, and waits for requests that are outstanding (10 s at most).
// After it nothing arrives any more, but what has arrived can still be decoded, until Close. It can be called more than
// once.
func (c *Cloud) Stop() {
	c.turning.Lock()
	defer c.turning.Unlock()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.mu.Unlock()
	close(c.closing)
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	var wg sync.WaitGroup
	for _, l := range c.listeners {
		wg.Go(func() { l.shutdown(ctx) })
	}
	wg.Wait()
}

// Off makes a service's address refuse connections, and cuts those that are open.
func (c *Cloud) Off(s Service) { c.turn(s, true) }

// On makes a service answer again, at the same address.
func (c *Cloud) On(s Service) { c.turn(s, false) }

func (c *Cloud) turn(s Service, off bool) {
	l, ok := c.listeners[s]
	if !ok || s == "" {
		panic(fmt.Sprintf("echotest: no service %q", s))
	}
	c.turning.Lock()
	defer c.turning.Unlock()
	c.mu.Lock()
	if c.closed || c.off[s] == off {
		c.mu.Unlock()
		return
	}
	c.off[s] = off
	c.mu.Unlock()
	if off {
		l.stop()
		return
	}
	if err := l.reopen(); err != nil {
		panic(fmt.Sprintf("echotest: turn %s on: %v", s, err))
	}
}

// ServeHTTP answers a request to any of the services; it finds out which. It is what listens at the cloud's addresses.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w = &datedResponse{w, c.clock}
	target := r.Header.Get("X-Amz-Target")
	switch {
	case strings.HasPrefix(target, cognitoTarget):
		c.serveCognito(w, r, strings.TrimPrefix(target, cognitoTarget))
	case strings.HasPrefix(target, sqsTarget):
		c.serveSQS(w, r, strings.TrimPrefix(target, sqsTarget))
	case strings.HasSuffix(r.URL.Path, "/.well-known/jwks.json"):
		c.serveKeys(w, r)
	case r.URL.Path == graphqlPath:
		c.serveGraphQL(w, r)
	case strings.HasPrefix(r.URL.Path, auditPath):
		c.serveAudit(w, r)
	case r.URL.Path == "/"+bucket || strings.HasPrefix(r.URL.Path, "/"+bucket+"/"):
		c.serveS3(w, r)
	default:
		http.NotFound(w, r)
	}
}

// handle counts a request, applies the faults that are scripted for it and lets do answer it. do gets what it is to
// refuse, if anything. edge is the "source>target" of an SQS request, else "".
func (c *Cloud) handle(w http.ResponseWriter, r *http.Request, s Service, op, edge string, do func(http.ResponseWriter, effect)) {
	c.requests.add(s, op)
	c.mu.Lock()
	off := c.off[s]
	c.mu.Unlock()
	if off {
		panic(http.ErrAbortHandler)
	}
	e, hits := c.faults.attempt(s, op, edge)
	if c.opts.OnFault != nil {
		for _, f := range hits {
			c.opts.OnFault(f, s, op)
		}
	}
	start := time.Now()
	if e.delay > 0 {
		select {
		case <-time.After(e.delay):
		case <-r.Context().Done():
		case <-c.closing:
		}
	}
	if e.down {
		c.log.Debug("cut", "service", s, "operation", op)
		panic(http.ErrAbortHandler)
	}
	rec := &response{ResponseWriter: w, lost: e.replyLost, cut: e.replyCut}
	do(rec, e)
	c.log.Debug("answered", "service", s, "operation", op, "edge", edge, "status", rec.status, "took", time.Since(start), "lost", e.replyLost)
	if e.replyLost {
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
}

// datedResponse has the cloud's time in the answer's Date, as it is when the answer begins.
type datedResponse struct {
	http.ResponseWriter
	clock *Clock
}

func (d *datedResponse) WriteHeader(status int) {
	d.Header().Set("Date", d.clock.Now().UTC().Format(http.TimeFormat))
	d.ResponseWriter.WriteHeader(status)
}

func (d *datedResponse) Write(b []byte) (int, error) {
	if d.Header().Get("Date") == "" {
		d.WriteHeader(http.StatusOK)
	}
	return d.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (d *datedResponse) Unwrap() http.ResponseWriter { return d.ResponseWriter }

// response remembers the status, and drops the whole answer if it is to be lost, or half of it if it is to be cut.
type response struct {
	http.ResponseWriter
	lost   bool
	cut    bool
	status int
	header http.Header
	left   int64 // until the cut, once there was a Write
}

func (r *response) Header() http.Header {
	if !r.lost {
		return r.ResponseWriter.Header()
	}
	if r.header == nil {
		r.header = make(http.Header)
	}
	return r.header
}

func (r *response) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	if !r.lost {
		r.ResponseWriter.WriteHeader(status)
	}
}

func (r *response) Write(b []byte) (int, error) {
	first := r.left == 0
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.cut && first {
		length, _ := strconv.ParseInt(r.Header().Get("Content-Length"), 10, 64)
		r.left = max(length/2, 1)
	}
	if r.cut && int64(len(b)) >= r.left {
		_, _ = r.ResponseWriter.Write(b[:r.left])
		_ = http.NewResponseController(r.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	r.left -= int64(len(b))
	if r.lost {
		return len(b), nil
	}
	return r.ResponseWriter.Write(b)
}

// arrived wakes those who wait for messages or audit records. The caller holds c.mu.
func (c *Cloud) arrived() {
	close(c.arrival)
	c.arrival = make(chan struct{})
}

func (c *Cloud) url(s Service) string {
	l := c.listeners[s]
	scheme, host := "http", c.opts.Host
	if c.tls != nil {
		scheme = "https"
	}
	listenHost, port, _ := net.SplitHostPort(l.addr)
	if host == "" {
		host = listenHost
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
