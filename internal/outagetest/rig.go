// Package outagetest runs a whole node in fake time: on a simulated disk, with a cloud that it reaches without a network, so that nothing
// keeps the time from passing. Weeks take seconds.
package outagetest

import (
	"bytes"
	"context"
	"io"
	"maps"
	"path"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/internal/logtest"
)

const day = 24 * time.Hour

// maxLines is how many lines of the log an outage of three weeks may take, beside those about files: for each of the
// things that fail at once (two edges, bulk storage, the API) a few at first, and then about one a day.
const maxLines = 150

// Bridge is the node under test.
type Bridge struct {
	Config string // of the node in EchoStream
	// Run is [node.Run] with the bridge, which does not listen. It calls serving when devices can upload, with what lets one of
	// them do so: upload returns when the file is acknowledged.
	Run func(ctx context.Context, opts node.Options, serving func(n *node.Node, upload func(name string, size int64) error)) error
	// Secrets are in no line of the log.
	Secrets []string
}

// Rig is a node with edges to "archive" and "erp" in a tenant that audits, and all that it was given.
type Rig struct {
	T       *testing.T
	Cloud   *echotest.Cloud
	Edges   []string
	Network *Network
	Disk    *disktest.FS
	Log     *logtest.Buffer
	Node    *node.Node
	// Stop stops the node that runs.
	Stop func()

	bridge Bridge
	env    map[string]string
	upload func(name string, size int64) error
	sent   []file // acknowledged, in order
}

type file struct {
	name string
	size int64
}

// Run runs a test with a node that works.
func Run(t *testing.T, b Bridge, test func(*Rig)) {
	var now func() time.Time      // fake once the bubble is there
	t.Setenv("AWS_CA_BUNDLE", "") // for an HTTP client of our own there is no TLS to set up
	cloud := echotest.NewCloud(echotest.Options{
		Targets: []string{"archive", "erp"}, Tenant: echotest.Tenant{Audit: true},
		Node:                 echotest.Node{Config: b.Config},
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
		r := &Rig{
			T: t, Cloud: cloud, Edges: []string{"archive", "erp"}, Network: &Network{cloud: cloud}, Disk: fsys, Log: &logtest.Buffer{},
			bridge: b, env: env,
		}
		r.Start()
		defer func() { r.Stop() }()
		test(r)
		r.Log.Check(t, append(b.Secrets, r.Password())...)
	})
}

// Password is that of the node's log-in.
func (r *Rig) Password() string { return r.env["PASSWORD"] }

// Start runs the node, and waits until devices can upload.
func (r *Rig) Start() {
	began := time.Now()
	serving := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		opts := node.Options{
			Getenv: func(name string) string { return r.env[name] }, Stdout: r.Log, Volume: r.Disk,
			Client: echostream.Options{
				Now: r.Network.now, Elapsed: func() time.Duration { return time.Since(began) }, HTTPClient: r.Network,
			},
		}
		ended <- r.bridge.Run(ctx, opts, func(n *node.Node, upload func(string, int64) error) {
			r.Node, r.upload = n, upload
			close(serving)
		})
	}()
	<-serving
	r.Stop = func() {
		cancel()
		assert.NoError(r.T, <-ended)
	}
}

// Restart is Stop and Start.
func (r *Rig) Restart() {
	r.Stop()
	r.Start()
}

// Upload has a device upload a file, whose bytes are those of [Pattern].
func (r *Rig) Upload(name string, size int64) {
	r.T.Helper()
	// Two that are finished in one instant of the fake time would have the same times on the disk.
	r.Pass(time.Second)
	require.NoError(r.T, r.upload(name, size))
	r.sent = append(r.sent, file{name, size})
}

// Pattern is n bytes that compress badly, and are the same each time.
func Pattern(n int64) io.Reader { return io.LimitReader(new(pattern), n) }

type pattern struct{ state uint64 }

func (p *pattern) Read(b []byte) (int, error) {
	state := p.state // the race detector looks at each access of a field
	for i := range b {
		state = state*6364136223846793005 + 1442695040888963407
		b[i] = byte(state >> 56)
	}
	p.state = state
	return len(b), nil
}

// Pass lets time pass; what is due then has been done.
func (r *Rig) Pass(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

// Goroutines counts those that live, when all of them wait.
func (r *Rig) Goroutines() int {
	synctest.Wait()
	return runtime.NumGoroutine()
}

// WantGoroutines wants about as many as before: a few come and go with the work, and with the cloud's listeners. Of thousands of
// tries, none may leave one behind.
func (r *Rig) WantGoroutines(before int) {
	r.T.Helper()
	assert.InDelta(r.T, before, r.Goroutines(), 10, "goroutines stay")
}

// WantDelivered wants all that was acknowledged on each edge, in order and byte for byte, with its audit, and nothing left.
func (r *Rig) WantDelivered() {
	r.T.Helper()
	audited := map[string]bool{}
	for _, record := range r.Cloud.AuditRecords() {
		audited[record.TrackingID] = true
	}
	for _, edge := range r.Edges {
		messages := r.Cloud.Messages(edge)
		require.Len(r.T, messages, len(r.sent), "%s\n%s", edge, r.Log)
		for i, m := range messages {
			want := new(bytes.Buffer)
			_, err := io.Copy(want, Pattern(r.sent[i].size))
			require.NoError(r.T, err)
			got := new(bytes.Buffer)
			file, err := r.Cloud.Decode(r.T.Context(), m, got)
			if r.Cloud.Clock().Now().Sub(m.Sent) < 6*day { // EchoStream keeps no object for longer
				require.NoError(r.T, err)
				require.True(r.T, bytes.Equal(want.Bytes(), got.Bytes()), r.sent[i].name)
			}
			assert.Equal(r.T, r.sent[i].name, file.Name)
			assert.True(r.T, audited[m.TrackingID], r.sent[i].name)
			assert.Zero(r.T, m.Duplicates, r.sent[i].name)
		}
	}
	assert.Equal(r.T, r.ids(r.Edges[0]), r.ids(r.Edges[1]))
	for _, line := range r.Log.Find("[INFO] File accepted") {
		assert.Contains(r.T, r.ids(r.Edges[0]), acceptedID.FindStringSubmatch(line)[1], "the tracking id is that of the start")
	}
	for name := range r.Files() {
		assert.NotContains(r.T, []string{"drop", "in"}, top(name), name)
		assert.False(r.T, top(name) == "outbox" && path.Ext(name) != ".journal" && name != "outbox/reserve", name)
	}
	assert.Zero(r.T, r.Node.Outbox.Stats().Entries)
}

// WantOnlyWaiting wants nothing on the volume but the files that wait, once each, and the little that the node needs.
func (r *Rig) WantOnlyWaiting() {
	r.T.Helper()
	var data, journals, others []string
	bytes := 0
	for name, content := range r.Files() {
		switch ext := path.Ext(name); {
		case top(name) == "outbox" && ext == ".data":
			data = append(data, name)
		case top(name) == "outbox" && ext == ".journal":
			journals = append(journals, name)
			bytes += len(content)
		default:
			others = append(others, name)
		}
	}
	assert.Len(r.T, data, r.Node.Outbox.Stats().Entries)
	assert.NotEmpty(r.T, data)
	assert.Less(r.T, len(journals), 10, "the journal is kept small")
	assert.Less(r.T, bytes, 4096*(len(data)+10), "the journal is kept small")
	assert.Subset(r.T, []string{"definition", "format", "status", "outbox/reserve"}, others) // no temporary file, and nothing in partial, drop and failed
}

// Files are those on the volume, without directories.
func (r *Rig) Files() map[string]string {
	all := r.Disk.Files()
	maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasSuffix(name, "/") })
	return all
}

const reminder = "[WARNING] Files wait to be delivered"

// WantReminders wants the log to say what waits in each hour of an outage, and hardly oftener.
func (r *Rig) WantReminders(lasted time.Duration) {
	r.T.Helper()
	lines := r.Log.Find(reminder, "waiting=", "since=", "error=")
	hours := int(lasted / time.Hour)
	assert.InDelta(r.T, hours, len(lines), float64(3+hours/20), "in %v: %s", lasted, lines)
}

// WantFewLines wants a log that a person can read.
func (r *Rig) WantFewLines() {
	r.T.Helper()
	var lines []string
	for line := range strings.Lines(r.Log.Everything()) {
		// These come once for each file, or hour.
		if !strings.HasPrefix(line, reminder) && !strings.HasPrefix(line, "[INFO] File ") && !ofTheRun.MatchString(line) && !strings.HasPrefix(line, "[WARNING] upload interrupted") && !strings.Contains(line, "expired") {
			lines = append(lines, line)
		}
	}
	assert.Less(r.T, len(lines), maxLines, "the first of them:\n%s", strings.Join(lines[:min(len(lines), 20)], ""))
}

func (r *Rig) ids(edge string) (ids []string) {
	for _, m := range r.Cloud.Messages(edge) {
		ids = append(ids, m.TrackingID)
	}
	return ids
}

// ofTheRun are lines that come once for each run.
var ofTheRun = regexp.MustCompile(`^\[INFO\] \S+ (starts|stops|has stopped)\b`)

var acceptedID = regexp.MustCompile(`File accepted trackingId=([0-9a-f]{32})`)

func top(name string) string {
	top, _, _ := strings.Cut(name, "/")
	return top
}
