package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/node/nodetest"
	"github.com/ftpnode/ftpnode/internal/awsenv"
	"github.com/ftpnode/ftpnode/internal/freeport"
	"github.com/ftpnode/ftpnode/internal/logtest"
)

const testPassword = "a-password-that-no-log-shows"

// quick has everything tried often: tests wait for what comes of it.
var quick = node.Pace{
	FirstRetry: 10 * time.Millisecond, LastRetry: 100 * time.Millisecond, SlowRetry: 200 * time.Millisecond,
	Poll: 100 * time.Millisecond, PollIdle: 50 * time.Millisecond, Patience: 2 * time.Second,
}

const waitFor, tick = 30 * time.Second, 10 * time.Millisecond

// asNode has the test binary be the node, so that it can be killed.
const asNode = "FTPNODE_TEST_AS_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(asNode) != "" {
		main()
	}
	nodetest.Main(m, main)
}

// testConfig is the config of a node whose files are taken at once. more are further sections, as JSON members.
func testConfig(t *testing.T, ftp string, more ...string) string {
	if ftp != "" {
		ftp = ", " + ftp
	}
	config := fmt.Sprintf(`{"ftp": {"users": [{"name": "scanner", "password": %q}], "passivePorts": %q%s},
		"files": {"settle": "10ms", "minFree": "1MB"}`, testPassword, freePorts(t), ftp)
	return strings.Join(append([]string{config}, more...), ", ") + "}"
}

// freePorts finds a few ports in a row that nobody has.
func freePorts(t *testing.T) string {
	const count = 4
	first := freeport.Range(t, count)
	return fmt.Sprintf("%d-%d", first, first+count-1)
}

// rig is a cloud with a node, which can be stopped and started on the same volume.
type rig struct {
	t     *testing.T
	cloud *echotest.Cloud
	env   map[string]string
	log   *logBuffer

	bridge node.Bridge[Config]
	volume disk.FS // by default, FTPNODE_DATA
	pace   node.Pace

	stop func() // the node that runs; nil if none does
}

// newRig starts a cloud. Its node has a valid config unless the options say otherwise.
func newRig(t *testing.T, opts echotest.Options) *rig {
	if opts.Node.Config == "" {
		opts.Node.Config = testConfig(t, "")
	}
	cloud := echotest.NewCloud(opts)
	t.Cleanup(cloud.Close)
	r := &rig{t: t, cloud: cloud, env: cloud.Environment(), log: &logBuffer{}, bridge: bridge(), pace: quick}
	r.env["FTPNODE_DATA"] = t.TempDir()
	r.env["FTPNODE_FTP_ADDR"] = "127.0.0.1:0"
	t.Cleanup(func() {
		r.shutdown()
		r.checkLog()
	})
	return r
}

// start runs the node and waits for its FTP port; the log begins anew.
func (r *rig) start() *rig {
	r.t.Helper()
	r.begin()
	r.log.wait(r.t, "FTP is served")
	return r
}

// begin runs the node.
func (r *rig) begin() {
	require.Nil(r.t, r.stop, "it runs already")
	r.log.Reset()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, r.bridge, r.options()) }()
	r.stop = func() {
		cancel()
		select {
		case err := <-ended:
			assert.NoError(r.t, err)
		case <-time.After(waitFor):
			assert.Fail(r.t, "the node does not stop")
		}
	}
}

// startProcess is start with the node in a process of its own, which shutdown kills.
func (r *rig) startProcess() *rig {
	r.t.Helper()
	require.Nil(r.t, r.stop, "it runs already")
	r.log.Reset()
	program, err := os.Executable()
	require.NoError(r.t, err)
	process := exec.Command(program)
	process.Env = append(os.Environ(), asNode+"=1")
	for name, value := range r.env {
		process.Env = append(process.Env, name+"="+value)
	}
	process.Stdout, process.Stderr = r.log, r.log
	require.NoError(r.t, process.Start())
	r.stop = func() {
		assert.NoError(r.t, process.Process.Kill())
		assert.ErrorContains(r.t, process.Wait(), "killed")
	}
	r.log.wait(r.t, "FTP is served")
	return r
}

// shutdown stops the node, if it runs.
func (r *rig) shutdown() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

// options are those of the node; args are its arguments.
func (r *rig) options(args ...string) node.Options {
	return node.Options{Getenv: r.getenv, Stdout: r.log, Args: args, Volume: r.volume, Pace: r.pace,
		Client: echostream.Options{AWS: awsenv.Options(r.env)}}
}

// healthcheck runs the program's health check, and gives what it says.
func (r *rig) healthcheck(dir, address string) (string, error) {
	opts := r.options("healthcheck")
	var out bytes.Buffer
	opts.Stdout = &out
	opts.Getenv = func(name string) string {
		return map[string]string{"FTPNODE_DATA": dir, "FTPNODE_FTP_ADDR": address}[name]
	}
	err := node.Run(r.t.Context(), r.bridge, opts)
	return out.String(), err
}

func (r *rig) getenv(name string) string { return r.env[name] }

var servedAt = regexp.MustCompile(`FTP is served address=(\S+)`)

// address is where FTP is.
func (r *rig) address() string {
	found := servedAt.FindStringSubmatch(r.log.String())
	require.NotNil(r.t, found)
	return found[1]
}

func (r *rig) login() *ftpClient { return loginFTP(r.t, r.address()) }

// arrived waits for n messages on an edge.
func (r *rig) arrived(edge string, n int) []echotest.Received {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*waitFor)
	defer cancel()
	messages, err := r.cloud.WaitMessages(ctx, edge, n)
	require.NoError(r.t, err, "%s", r.log)
	return messages
}

// settled waits until the node has nothing left to deliver: then what has not arrived never will.
func (r *rig) settled(delivered int) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return strings.Count(r.log.String(), "File delivered") >= delivered }, waitFor, tick, "%s", r.log)
}

// checkLog holds the whole log against what holds for every log.
func (r *rig) checkLog() {
	for line := range strings.Lines(r.log.Everything()) {
		assert.Regexp(r.t, `^\[(CRITICAL|DEBUG|ERROR|INFO|WARNING)\] .*\n$`, line)
		assert.NotRegexp(r.t, `(?i)X-Amz-|Signature|eyJ[A-Za-z0-9_-]{8}`, line, "no presigned URL, no token")
		assert.NotContains(r.t, line, testPassword)
		assert.NotContains(r.t, line, r.env["PASSWORD"])
	}
}

// audited waits for the audit records of tracking ids.
func (r *rig) audited(ids ...string) map[string]echotest.AuditRecord {
	r.t.Helper()
	records := map[string]echotest.AuditRecord{}
	require.Eventually(r.t, func() bool {
		for _, record := range r.cloud.AuditRecords() {
			records[record.TrackingID] = record
		}
		for _, id := range ids {
			if _, ok := records[id]; !ok {
				return false
			}
		}
		return true
	}, waitFor, tick)
	return records
}

// metadata is what a message's metadata holds.
type metadata struct {
	User             string `json:"user"`
	RemoteAddress    string `json:"remoteAddress"`
	ReceivedDateTime string `json:"receivedDateTime"`
	SHA256           string `json:"sha256"`
	NameBytes        []byte `json:"nameBytes"`
}

func metadataOf(t *testing.T, raw json.RawMessage) metadata {
	var m metadata
	require.NoError(t, json.Unmarshal(raw, &m))
	return m
}

// logBuffer is the node's standard output.
type logBuffer struct{ logtest.Buffer }

func (l *logBuffer) wait(t *testing.T, texts ...string) (line string) {
	t.Helper()
	return l.Wait(t, texts...)
}

func (l *logBuffer) find(texts ...string) []string { return l.Find(texts...) }
