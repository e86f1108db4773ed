package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// outageRig is a whole node but for the FTP server, on a simulated disk, with a cloud that it reaches without a network: so
// that nothing keeps fake time from passing. Weeks take seconds.
type outageRig struct {
	t        *testing.T
	cloud    *echotest.Cloud
	edges    []string
	password string
	network  *outageNetwork
	env      map[string]string

	disk *disktest.FS
	log  *logBuffer
	sent []outageFile // acknowledged, in order

	outbox  *outbox.Outbox
	session *drop.Session
	stop    func()
}

type outageFile struct {
	name string
	size int64
}

// outage runs a test with a node that works.
func outage(t *testing.T, test func(*outageRig)) {
	var now func() time.Time      // fake once the bubble is there
	t.Setenv("AWS_CA_BUNDLE", "") // for an HTTP client of our own there is no TLS to set up
	cloud := echotest.NewCloud(echotest.Options{
		Targets: []string{"archive", "erp"}, Tenant: echotest.Tenant{Audit: true},
		Node:                 echotest.Node{Config: `{"ftp": {"users": [{"name": "scanner", "password": "` + testPassword + `"}]}}`},
		RefreshTokenLifetime: 10 * day,
		Now:                  func() time.Time { return now() },
		TempDir:              t.TempDir(),
	})
	t.Cleanup(cloud.Close)
	env := cloud.Environment()
	for name, value := range env {
		if strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, value)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		now = time.Now
		fsys := disktest.New(1)
		fsys.SetClock(time.Now)
		r := &outageRig{
			t: t, cloud: cloud, edges: []string{"archive", "erp"}, password: env["PASSWORD"], env: env,
			network: &outageNetwork{cloud: cloud}, disk: fsys, log: &logBuffer{},
		}
		r.start()
		defer func() { r.stop() }()
		test(r)
		r.checkLog()
	})
}

// start runs the node, and waits until clients can upload.
func (r *outageRig) start() {
	began := time.Now()
	b := bridge()
	b.Address, b.Refuse = nil, nil
	served := make(chan struct{})
	b.Serve = func(ctx context.Context, n *node.Node, _ Config) error {
		incoming, err := drop.Open(drop.Options{FS: n.Volume, MinFree: -1, Log: n.Log, Outbox: n.Outbox, Describe: describer("node")})
		require.NoError(r.t, err)
		user, err := incoming.User("scanner", "scanner")
		require.NoError(r.t, err)
		r.outbox, r.session = n.Outbox, user.Session(netip.MustParseAddr("192.0.2.7"))
		close(served)
		return incoming.Run(ctx)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- node.Run(ctx, b, node.Options{
			Getenv: func(name string) string { return r.env[name] }, Stdout: r.log, Volume: r.disk,
			Client: echostream.Options{
				Now: r.network.now, Elapsed: func() time.Duration { return time.Since(began) }, HTTPClient: r.network,
			},
		})
	}()
	<-served
	r.stop = func() {
		cancel()
		assert.NoError(r.t, <-ended)
	}
}

func (r *outageRig) restart() {
	r.stop()
	r.start()
}

// begin uploads without coming to an end.
func (r *outageRig) begin(name string, size int64) *drop.Upload {
	r.t.Helper()
	u, err := r.session.Create("/"+name, drop.Start{})
	require.NoError(r.t, err)
	_, err = io.Copy(u, pattern(size))
	require.NoError(r.t, err)
	return u
}

var outageSecret = regexp.MustCompile(`(?i)X-Amz-|Signature=|eyJ[A-Za-z0-9_-]{8}`)

func (r *outageRig) checkLog() {
	for line := range strings.Lines(r.log.everything()) {
		assert.Regexp(r.t, `^\[(CRITICAL|DEBUG|ERROR|INFO|WARNING)\] .*\n$`, line)
		assert.NotRegexp(r.t, outageSecret, line)
		assert.NotContains(r.t, line, testPassword)
		assert.NotContains(r.t, line, r.password)
	}
}

// outageNetwork is an HTTP client that hands each request to the cloud in the same goroutine.
type outageNetwork struct {
	cloud *echotest.Cloud
	down  atomic.Bool
	skew  atomic.Int64 // how far the machine's clock is ahead, in nanoseconds
	// noSQS has connections to SQS refused. lose is how many more of its replies are lost, which the client waits for in vain.
	noSQS atomic.Bool
	lose  atomic.Int64
}

var errOutage = errors.New("connection refused")

func (n *outageNetwork) cut(down bool) { n.down.Store(down) }

func (n *outageNetwork) now() time.Time { return time.Now().Add(time.Duration(n.skew.Load())) }

// Do is that of http.Client.
func (n *outageNetwork) Do(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if n.down.Load() {
		return nil, fmt.Errorf("dial tcp %s: %w", r.URL.Host, errOutage)
	}
	sends := strings.HasSuffix(r.Header.Get("X-Amz-Target"), "SendMessageBatch")
	if sends && n.noSQS.Load() {
		return nil, fmt.Errorf("dial tcp %s: %w", r.URL.Host, errOutage)
	}
	in := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), bytes.NewReader(body))
	in.Header, in.ContentLength = r.Header.Clone(), int64(len(body))
	if r.Host != "" {
		in.Host = r.Host
	}
	if in.Header.Get("Content-Length") == "" && len(body) > 0 {
		in.Header.Set("Content-Length", fmt.Sprint(len(body))) // some signatures have it
	}
	answer := httptest.NewRecorder()
	if !n.serve(answer, in) {
		return nil, io.ErrUnexpectedEOF
	}
	if sends && n.lose.Add(-1) >= 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	response := answer.Result()
	response.Request = r
	return response, nil
}

// serve reports whether there was an answer.
func (n *outageNetwork) serve(w http.ResponseWriter, r *http.Request) (answered bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	n.cloud.ServeHTTP(w, r)
	return true
}
