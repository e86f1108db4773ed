package echostream_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// world is a cloud, a client of it, and all that the client logged.
type world struct {
	*echotest.Cloud
	machine *machine
	client  *echostream.Client
	node    *echostream.Definition
	log     *lockedBuffer
}

// machine is the client's. As much time passes on it as in the cloud, whatever its clock is set to.
type machine struct {
	cloud *echotest.Clock
	mu    sync.Mutex
	start time.Time
	ahead time.Duration
}

func (m *machine) set(ahead time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ahead = ahead
}

func (m *machine) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cloud.Now().Add(m.ahead)
}

func (m *machine) elapsed() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cloud.Now().Sub(m.start)
}

// pause is time that it does not count.
func (m *machine) pause(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.start = m.start.Add(d)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T, opts echotest.Options) *world {
	t.Helper()
	w := newWorldAt(t, opts, 0)
	w.read(t)
	return w
}

// newWorldAt is a world whose machine's clock is so much ahead, and where nothing was asked yet.
func newWorldAt(t *testing.T, opts echotest.Options, ahead time.Duration) *world {
	t.Helper()
	opts.TempDir = t.TempDir()
	cloud := echotest.NewCloud(opts)
	t.Cleanup(cloud.Close)
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_PROFILE": "", "AWS_CA_BUNDLE": "",
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "NAME": "", "NODE": "",
	} {
		t.Setenv(name, value)
	}
	if pem := cloud.CertificatePEM(); pem != nil {
		file := filepath.Join(t.TempDir(), "ca.pem")
		require.NoError(t, os.WriteFile(file, pem, 0o600))
		t.Setenv("AWS_CA_BUNDLE", file)
	}
	for name, value := range cloud.Environment() {
		t.Setenv(name, value)
	}
	return worldOf(t, cloud, os.Getenv, ahead)
}

// worldOf is the world of a cloud. getenv gives the variables of [echotest.Cloud.Environment].
func worldOf(t *testing.T, cloud *echotest.Cloud, getenv func(string) string, ahead time.Duration, aws ...func(*config.LoadOptions) error) *world {
	t.Helper()
	env, err := echostream.EnvironmentFrom(getenv)
	require.NoError(t, err)
	log := &lockedBuffer{}
	m := &machine{cloud: cloud.Clock(), start: cloud.Clock().Now(), ahead: ahead}
	client, err := echostream.New(env, echostream.Options{
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: m.now, Elapsed: m.elapsed, AWS: aws,
	})
	require.NoError(t, err)
	return &world{cloud, m, client, nil, log}
}

func (w *world) read(t *testing.T) {
	t.Helper()
	var err error
	w.node, err = w.client.Definition(t.Context())
	require.NoError(t, err)
}

// send sends to the first target.
func (w *world) send(t *testing.T, messages ...echostream.Message) []error {
	t.Helper()
	require.NotEmpty(t, w.node.Targets)
	return w.client.Send(t.Context(), w.node, w.node.Targets[0].Queue, messages)
}

func message(body string) echostream.Message {
	return echostream.Message{TrackingID: echostream.NewTrackingID(), Body: body}
}

func bodies(messages []echotest.Received) []string {
	var list []string
	for _, m := range messages {
		list = append(list, m.Body)
	}
	return list
}

func TestCloudNode(t *testing.T) {
	w := newWorld(t, echotest.Options{
		Tenant: echotest.Tenant{Region: "eu-central-1", Audit: true, Config: `{"a":1,"b":1,"c":1}`},
		App:    echotest.App{Name: "app one", Config: `{"b":2,"c":2}`},
		Node: echotest.Node{Name: "FTP node / ü", Config: `{"c":3}`, LoggingLevel: "DEBUG", Stopped: true,
			Ports: []echotest.Port{{ContainerPort: 2121, HostPort: 2121}}, Mounts: []echotest.Mount{{Target: "/data"}}},
		Targets: []string{"zeta", "alpha"}, Sources: []string{"source"},
	})
	n := w.node
	assert.Equal(t, "FTP node / ü", n.Name)
	assert.Equal(t, "acme", n.Tenant)
	assert.Equal(t, "eu-central-1", n.Region)
	assert.Equal(t, "app one", n.App)
	assert.JSONEq(t, `{"a":1,"b":2,"c":3}`, string(n.Config))
	assert.True(t, n.Stopped)
	assert.True(t, n.Audit)
	assert.Equal(t, slog.LevelDebug, *n.LoggingLevel)
	assert.Equal(t, []echostream.Port{{ContainerPort: 2121, HostPort: 2121, Protocol: "tcp"}}, n.Ports)
	assert.Equal(t, []echostream.Mount{{Target: "/data"}}, n.Mounts)
	require.Len(t, n.Targets, 2)
	assert.Equal(t, "alpha", n.Targets[0].Name)
	require.Len(t, n.Sources, 1)
	assert.Equal(t, "source", n.Sources[0].Name)
	var sample map[string]any
	require.NoError(t, json.Unmarshal([]byte(n.SendMessageType.SampleMessage), &sample))
	assert.ElementsMatch(t, []string{"name", "contentLength", "contentType", "modificationDateTime", "content"}, slices.Collect(maps.Keys(sample)))

	w.UpdateNode("FTP node / ü", func(n *echotest.Node) { n.Config = `["no object"]` })
	_, err := w.client.Definition(t.Context())
	assert.ErrorContains(t, err, `config of node "FTP node / ü": an array, expected a JSON object`)
	w.RemoveNode("FTP node / ü")
	_, err = w.client.Definition(t.Context())
	assert.ErrorIs(t, err, echostream.ErrNodeNotFound)
}

// A node whose user may not read the sample, say, still is one that sends, and knows of what type.
func TestCloudKeepsFieldsBack(t *testing.T) {
	w := newWorld(t, echotest.Options{Sources: []string{"source"}, Node: echotest.Node{ReceiveMessageType: "echo.file"}})
	whole := *w.node.SendMessageType
	for _, kept := range []string{"auditor", "sampleMessage", "readme"} {
		t.Run(kept, func(t *testing.T) {
			defer w.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.Denied, Field: "MessageType." + kept}).Clear()
			w.read(t)
			want := whole
			switch kept {
			case "auditor":
				want.Auditor = ""
			case "sampleMessage":
				want.SampleMessage = ""
			}
			assert.Equal(t, &want, w.node.SendMessageType)
			assert.Equal(t, &want, w.node.ReceiveMessageType)
			assert.Contains(t, w.log.String(), "EchoStream kept a part of the node's definition back")
		})
	}
	for _, kept := range []string{"MessageType.name", "ManagedNode.sendMessageType", "ManagedNode.sendEdges", "ManagedNode.config"} {
		script := w.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.Denied, Field: kept})
		_, err := w.client.Definition(t.Context())
		assert.ErrorContains(t, err, "Unauthorized", kept)
		script.Clear()
	}
}

func TestCloudSendUploadAudit(t *testing.T) {
	w := newWorld(t, echotest.Options{
		Tenant: echotest.Tenant{Audit: true}, Node: echotest.Node{Name: "FTP node / ü+1"}, Targets: []string{"a", "b"}, TLS: true,
	})
	big := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(big)
	text := bytes.Repeat([]byte("a;b\r\n"), 80_000)
	var records []echostream.AuditRecord
	var ids []string
	for i, file := range []struct {
		name string
		data []byte
		opts echostream.BulkOptions
	}{
		{"\ufffe\x00.bin", big, echostream.BulkOptions{}}, {"b.bin", big, echostream.BulkOptions{Post: true, Accelerate: true}},
		{"c.csv", text, echostream.BulkOptions{}}, {"empty", nil, echostream.BulkOptions{Post: true}},
	} {
		object, err := w.client.NewBulk(file.opts).Upload(t.Context(), func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(file.data)), nil
		})
		require.NoError(t, err)
		body, err := echostream.MarshalMessage(map[string]any{"name": file.name, "contentLength": len(file.data),
			"contentType": "text/plain", "modificationDateTime": "2026-11-22T08:00:00.000Z", "contentUrl": object.URL})
		require.NoError(t, err)
		m := message(body)
		m.PrevTrackingIDs = []string{echostream.NewTrackingID()}[:i%2]
		ids = append(ids, m.TrackingID)
		for _, target := range w.node.Targets {
			require.NoError(t, w.client.Send(t.Context(), w.node, target.Queue, []echostream.Message{m})[0])
			got := w.Messages(target.Name)[i]
			assert.Equal(t, m.TrackingID, got.TrackingID)
			assert.Equal(t, m.TrackingID, got.DedupID)
			assert.Equal(t, echostream.GroupID(w.node.Name), got.GroupID)
			assert.ElementsMatch(t, m.PrevTrackingIDs, got.PrevTrackingIDs)
			assert.Equal(t, m.Size(), got.Size)
			decoded, err := w.Decode(t.Context(), got, io.Discard)
			require.NoError(t, err)
			sum := sha256.Sum256(file.data)
			assert.Equal(t, hex.EncodeToString(sum[:]), decoded.SHA256)
			assert.Equal(t, object.SHA256, decoded.SHA256)
			assert.Equal(t, file.name, decoded.Name)
		}
		assert.Less(t, time.Until(object.Expires), 7*24*time.Hour+time.Minute)
		assert.Greater(t, time.Until(object.Expires), 30*time.Minute)
		records = append(records, echostream.AuditRecord{TrackingID: m.TrackingID, PrevTrackingIDs: m.PrevTrackingIDs,
			DateTime: w.Clock().Now(), Attributes: map[string]any{"name": file.name}})
	}
	require.Equal(t, make([]error, len(records)), w.client.Audit(t.Context(), w.node, "echo.file", records))
	for range 600 {
		records = append(records, echostream.AuditRecord{TrackingID: echostream.NewTrackingID(), DateTime: w.Clock().Now(), SourceNode: "x"})
	}
	require.Equal(t, make([]error, len(records)), w.client.Audit(t.Context(), w.node, "echo.file", records))
	audited := w.AuditRecords()
	require.Len(t, audited, 608)
	for i, id := range ids {
		assert.Equal(t, id, audited[i].TrackingID)
		assert.Equal(t, w.node.Name, audited[i].Node)
	}
}

func TestCloudOrderAndSameContent(t *testing.T) {
	w := newWorld(t, echotest.Options{})
	var messages []echostream.Message
	var want []string
	for i := range 100 {
		body := fmt.Sprint("same ", i/2) // each body twice
		messages = append(messages, message(body))
		want = append(want, body)
	}
	for _, err := range w.send(t, messages...) {
		require.NoError(t, err)
	}
	assert.Equal(t, want, bodies(w.Messages("target")))
	assert.Equal(t, 10, w.Requests(echotest.SQS, "SendMessageBatch"))
}

func TestCloudFaultsOfSending(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  echotest.Fault
		failed bool // at the first try
	}{
		{"reply lost", echotest.Fault{Kind: echotest.ReplyLost}, true},
		{"down", echotest.Fault{Kind: echotest.Down}, true},
		{"error", echotest.Fault{Kind: echotest.ServerError}, true},
		{"throttled", echotest.Fault{Kind: echotest.Throttled}, true},
		{"in part", echotest.Fault{Kind: echotest.Partial, Entries: []int{2}}, false},
		{"expired credentials", echotest.Fault{Kind: echotest.ExpiredCredentials}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, echotest.Options{})
			test.fault.Service, test.fault.Count = echotest.SQS, 1
			w.Fault(test.fault)
			messages := []echostream.Message{message("1"), message("2"), message("3")}
			for _, err := range w.send(t, messages...) {
				assert.Equal(t, test.failed, err != nil, "%v", err)
				assert.False(t, echostream.IsPermanent(err))
				assert.NotErrorIs(t, err, echostream.ErrEdgeGone)
			}
			if test.failed {
				for _, err := range w.send(t, messages...) {
					assert.NoError(t, err)
				}
			}
			assert.Equal(t, []string{"1", "2", "3"}, bodies(w.Messages("target")))
		})
	}
}

func TestCloudEdgesChange(t *testing.T) {
	w := newWorld(t, echotest.Options{})
	for fault, count := range map[echotest.FaultKind]int{echotest.Denied: 2, echotest.EdgeRemoved: 1} {
		w.Fault(echotest.Fault{Service: echotest.SQS, Kind: fault, Count: count})
		assert.ErrorIs(t, w.send(t, message("x"))[0], echostream.ErrEdgeGone)
	}
	w.RemoveEdge("target")
	m := message("x")
	assert.ErrorIs(t, w.send(t, m)[0], echostream.ErrEdgeGone)
	w.AddEdge(w.node.Name, "other")
	w.read(t)
	require.NoError(t, w.send(t, m)[0])
	assert.Equal(t, []string{"x"}, bodies(w.Messages("other")))
}

func TestCloudWhatExpires(t *testing.T) {
	w := newWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}})
	bulk := w.client.NewBulk(echostream.BulkOptions{})
	all := func() {
		t.Helper()
		w.read(t)
		require.NoError(t, w.send(t, message("x"))[0])
		_, err := bulk.Upload(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil })
		require.NoError(t, err)
		require.NoError(t, w.client.Audit(t.Context(), w.node, "echo.file",
			[]echostream.AuditRecord{{TrackingID: echostream.NewTrackingID(), DateTime: w.Clock().Now()}})[0])
	}
	all()
	all()
	assert.Equal(t, 1, w.Requests(echotest.AppSync, "GetApp"))
	assert.Equal(t, 1, w.Requests(echotest.AppSync, "GetBulkDataStorage"))

	w.ExpireAccessTokens()
	w.ExpireCredentials()
	all()
	assert.Equal(t, 2, w.Requests(echotest.AppSync, "GetApp"))

	w.RevokeTokens()
	all()
	w.Clock().Advance(58 * time.Minute) // inside the margins
	all()
	require.Eventually(t, func() bool { return w.Requests(echotest.AppSync, "GetApp") == 3 }, time.Minute, time.Millisecond, "in the background")
	assert.Equal(t, 2, w.Requests(echotest.AppSync, "GetBulkDataStorage"))
	w.Clock().Advance(40 * 24 * time.Hour) // the refresh token too
	all()

	for _, f := range []echotest.Fault{
		{Service: echotest.AppSync, Kind: echotest.ExpiredToken},
		{Service: echotest.SQS, Kind: echotest.ExpiredCredentials},
		{Service: echotest.Audit, Kind: echotest.ExpiredCredentials},
	} {
		f.Count = 1
		script := w.Fault(f)
		all()
		assert.Equal(t, 1, script.Hits())
	}

	w.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.ExpiredURL, Count: 1})
	_, err := bulk.Upload(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil })
	assert.ErrorContains(t, err, "the upload URL has expired")
	assert.False(t, echostream.IsPermanent(err))
	all()
}

func TestCloudFaultsAreTransient(t *testing.T) {
	w := newWorld(t, echotest.Options{})
	record := []echostream.AuditRecord{{TrackingID: echostream.NewTrackingID(), DateTime: time.Now()}}
	bulk := w.client.NewBulk(echostream.BulkOptions{})
	calls := map[echotest.Service]func() error{
		echotest.AppSync: func() error { _, err := w.client.Definition(t.Context()); return err },
		echotest.SQS:     func() error { return w.send(t, message("x"))[0] },
		echotest.Audit:   func() error { return w.client.Audit(t.Context(), w.node, "echo.file", record)[0] },
		echotest.S3: func() error {
			_, err := bulk.Upload(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil })
			return err
		},
	}
	for service, call := range calls {
		require.NoError(t, call())
		for _, kind := range []echotest.FaultKind{echotest.Down, echotest.ServerError, echotest.Throttled, echotest.Denied} {
			// Twice: a client may make up for a connection that was cut under it.
			script := w.Fault(echotest.Fault{Service: service, Kind: kind, Count: 2})
			err := call()
			script.Clear()
			require.Error(t, err, "%s %s", service, kind)
			assert.False(t, echostream.IsPermanent(err), "%s %s", service, kind)
			assert.NotContains(t, err.Error(), "http://", "%s %s", service, kind)
			require.NoError(t, call(), "%s after %s", service, kind)
		}
		w.Off(service)
		require.Error(t, call(), service)
		w.On(service)
		require.NoError(t, call(), service)
	}
}

func TestCloudKindsOfApps(t *testing.T) {
	for _, kind := range []echotest.AppKind{echotest.ManagedApp, echotest.ExternalApp, echotest.CrossAccountApp} {
		t.Run(string(kind), func(t *testing.T) {
			w := newWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}, App: echotest.App{Name: "x", Kind: kind}})
			assert.Equal(t, kind == echotest.CrossAccountApp, w.node.CrossAccount)
			require.NoError(t, w.send(t, message("x"))[0])
			if kind == echotest.CrossAccountApp {
				assert.Zero(t, w.Requests(echotest.AppSync, "GetApp"))
			}
			require.NoError(t, w.client.Audit(t.Context(), w.node, "echo.file",
				[]echostream.AuditRecord{{TrackingID: echostream.NewTrackingID(), DateTime: time.Now()}})[0])
			assert.Equal(t, 1, w.Requests(echotest.AppSync, "GetApp"))
		})
	}
}

func TestCloudLogHoldsNoSecret(t *testing.T) {
	w := newWorld(t, echotest.Options{Node: echotest.Node{Name: "n", Config: `{"password":"pa55-of-a-site"}`}})
	object, err := w.client.NewBulk(echostream.BulkOptions{}).Upload(t.Context(),
		func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil })
	require.NoError(t, err)
	require.NoError(t, w.send(t, message("x"))[0])
	slog.New(slog.NewTextHandler(w.log, nil)).Info("test", "node", w.node, "object", object)
	credentials, err := w.client.Credentials(w.node).Retrieve(context.Background())
	require.NoError(t, err)
	node, err := json.Marshal(w.node)
	require.NoError(t, err)
	require.Contains(t, string(node), "pa55-of-a-site")
	_, query, _ := strings.Cut(object.URL, "?")
	for what, secret := range map[string]string{
		"password": w.Environment()["PASSWORD"], "config": "pa55-of-a-site", "secret key": credentials.SecretAccessKey,
		"session token": credentials.SessionToken, "URL": query, "signature": "X-Amz-Signature",
	} {
		require.NotEmpty(t, secret)
		assert.NotContains(t, w.log.String(), secret, what)
	}
	assert.Contains(t, w.log.String(), "object.sha256=")
}
