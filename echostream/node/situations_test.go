package node_test

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/internal/logtest"
	"github.com/ftpnode/ftpnode/internal/outagetest"
)

// Each situation gives one clear line, and when its cause goes away delivery goes on by itself.

func TestMissingVariables(t *testing.T) {
	log := &logtest.Buffer{}
	err := node.Run(t.Context(), noteBridge(), node.Options{Stdout: log, Getenv: func(name string) string {
		return map[string]string{"TENANT": "acme", "PASSWORD": "secret-password", "USER_POOL_ID": "nonsense"}[name]
	}})
	require.ErrorIs(t, err, node.ErrUsage)
	for _, name := range []string{"APPSYNC_ENDPOINT", "CLIENT_ID", "NAME (or NODE)", "USER_NAME", "USER_POOL_ID"} {
		assert.Len(t, log.Find("[CRITICAL] the environment does not say which node this is", "error=", name), 1, name)
	}
	log.Check(t, "secret-password")
}

func TestNameWinsOverNode(t *testing.T) {
	r := newRig(t, echotest.Options{})
	r.env["NAME"], r.env["NODE"] = r.env["NODE"], "another"
	r.start()
	r.taken("a.txt", "x")
	r.arrived("", 1)
}

func TestWrongPassword(t *testing.T) {
	r := newRig(t, echotest.Options{})
	right := r.env["PASSWORD"]
	r.env["PASSWORD"] = "not-the-right-password"
	r.start()
	r.log.Wait(t, "[ERROR] EchoStream refuses the node's log-in", "PASSWORD")
	r.log.Wait(t, "[WARNING] the node does not know its definition yet")
	r.refused()
	require.Eventually(t, func() bool { return r.cloud.Requests(echotest.Cognito, "InitiateAuth") > 5 }, waitFor, tick)
	assert.Len(t, r.log.Find("refuses the node's log-in"), 1, "the same trouble is not repeated each time")

	r.cloud.SetPassword("ftp-app", r.env["PASSWORD"])
	r.log.Wait(t, "[INFO] EchoStream can be reached again")
	r.log.Wait(t, "notes are taken", "greeting=hello")
	r.taken("a.txt", "x")
	r.arrived("", 1)
	r.log.Check(t, right)
}

// It is no matter of the network, and nobody's password is wrong.
func TestConfigThatIsNoObject(t *testing.T) {
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: `["ftp"]`}}).start()
	r.log.Wait(t, "[ERROR] the config in EchoStream is not a JSON object", `config of node`, "an array")
	assert.Empty(t, r.log.Find("EchoStream cannot be reached"))
	r.refused()
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = "{}" })
	r.log.Wait(t, "notes are taken", "greeting=hello")
	r.taken("a.txt", "x")
	r.arrived("", 1)
}

// What is wrong with a config is told, and what is valid runs; what the bridge's check rejects, too.
func TestBadConfig(t *testing.T) {
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: `{"greeting": 7}`}}).start()
	r.log.Wait(t, `[ERROR] invalid config: greeting is 7: it must be text; write it as in "hi". Using the default, hello. key=greeting value=7`)
	r.log.Wait(t, "notes are taken", "greeting=hello")
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = `{"greeting": "ok"}` })
	r.log.Wait(t, `[ERROR] invalid config: greeting is "ok": a device would take it for a reply; write another one. Using the default, hello. key=greeting value=ok`)
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = `{"greeting": "hi"}` })
	r.log.Wait(t, "notes are taken", "greeting=hi")
}

func TestUnknownNode(t *testing.T) {
	r := newRig(t, echotest.Options{})
	definition, _ := r.cloud.Node("ftp-node")
	r.cloud.RemoveNode("ftp-node")
	r.start()
	r.log.Wait(t, "[ERROR] EchoStream has no such node", "NAME (or NODE)", `ftp-node`)
	r.cloud.SetNode(definition)
	r.cloud.AddEdge("", "late")
	r.log.Wait(t, "notes are taken", "greeting=hello")
	r.taken("a.txt", "x")
	r.arrived("late", 1)
}

// An external node is not restarted when its config or its ports change: the bridge is called again with them, and with nothing else.
func TestBridgeIsCalledAgain(t *testing.T) {
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: `{"greeting": "one"}`}}).start()
	r.log.Wait(t, "notes are taken", "greeting=one")
	address := r.address()
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = `{"greeting": "one", "other": 1}`; n.LoggingLevel = "DEBUG" })
	r.cloud.AddEdge("", "more")
	r.log.Wait(t, "Sending to targets", "more")
	r.taken("a.txt", "x")
	r.arrived("more", 1)
	assert.Len(t, r.log.Find("notes are taken"), 1, "what the bridge knows has not changed")

	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = `{"greeting": "two"}` })
	r.log.Wait(t, "[INFO] the config has changed; notenode starts anew with it")
	r.log.Wait(t, "notes are taken", "greeting=two")
	assert.Equal(t, address, r.address(), "the port stays open")
	greeting, _ := r.note("b.txt", "x")
	assert.Equal(t, "two", greeting)
}

// What a bridge cannot do now it is called for again, and so is one that ends although nobody told it to.
func TestBridgeThatFails(t *testing.T) {
	r := newRig(t, echotest.Options{})
	fails := make(chan error, 2)
	fails <- fs.ErrPermission
	fails <- nil
	works := r.bridge.Serve
	r.bridge.Serve = func(ctx context.Context, n *node.Node, c noteConfig) error {
		select {
		case err := <-fails:
			return err
		default:
			return works(ctx, n, c)
		}
	}
	r.start()
	r.log.Wait(t, "[ERROR] notenode cannot serve; retrying", "permission denied")
	r.log.Wait(t, "[ERROR] notenode cannot serve; retrying", "it ended although nobody told it to")
	r.log.Wait(t, "[INFO] notenode serves again", "failures=2")
	r.taken("a.txt", "x")
	r.arrived("", 1)
}

func TestNoTargetEdges(t *testing.T) {
	r := newRig(t, echotest.Options{Targets: []string{}}).start()
	r.taken("a.txt", "x")
	r.log.Wait(t, "[WARNING] No targets: files are kept")
	r.cloud.AddEdge("", "late")
	r.arrived("late", 1)
	r.settled(1)
	assert.Len(t, r.log.Find("[WARNING]", "No targets"), 1)
}

func TestStoppedNode(t *testing.T) {
	r := newRig(t, echotest.Options{Node: echotest.Node{Stopped: true}}).start()
	r.log.Wait(t, "[WARNING] the node is stopped in EchoStream")
	r.taken("a.txt", "x")
	reads := r.cloud.Requests(echotest.AppSync, "GetNode")
	require.Eventually(t, func() bool { return r.cloud.Requests(echotest.AppSync, "GetNode") > reads+1 }, waitFor, tick, "it asks whether it is started")
	assert.Empty(t, r.cloud.Messages(""))

	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false })
	r.log.Wait(t, "[INFO] the node is started in EchoStream")
	r.arrived("", 1)
	r.settled(1)
	assert.Len(t, r.log.Find("is stopped in EchoStream"), 1)

	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = true })
	require.Eventually(t, func() bool { return len(r.log.Find("[WARNING] the node is stopped in EchoStream")) == 2 }, waitFor, tick)
	r.taken("b.txt", "x")
	assert.Len(t, r.cloud.Messages(""), 1)
}

func TestCloudDownAtTheFirstStart(t *testing.T) {
	r := newRig(t, echotest.Options{})
	r.cloud.Off(echotest.Cognito)
	r.start()
	r.log.Wait(t, "[WARNING] EchoStream cannot be reached; retrying")
	r.log.Wait(t, "[WARNING] the node does not know its definition yet: it takes nothing new until EchoStream has answered once")
	r.refused()
	r.cloud.On(echotest.Cognito)
	r.log.Wait(t, "[INFO] EchoStream can be reached again")
	r.log.Wait(t, "notes are taken", "greeting=hello")
	r.taken("a.txt", "x")
	r.arrived("", 1)
}

// A bridge without Refuse is not called until there is a definition.
func TestBridgeThatRefusesNobody(t *testing.T) {
	r := newRig(t, echotest.Options{})
	r.bridge.Refuse = nil
	r.cloud.Off(echotest.AppSync)
	r.begin()
	r.log.Wait(t, "[WARNING] the node does not know its definition yet")
	assert.Empty(t, r.log.Find("notes are taken"))
	r.cloud.On(echotest.AppSync)
	r.log.Wait(t, "notes are taken", "greeting=hello")
}

func TestCloudDownAtALaterStart(t *testing.T) {
	for _, service := range []echotest.Service{echotest.Cognito, echotest.AppSync} {
		t.Run(string(service), func(t *testing.T) {
			r := newRig(t, echotest.Options{}).start()
			r.shutdown()
			r.cloud.Off(service)
			r.start()
			r.log.Wait(t, "[WARNING] EchoStream has not answered yet: the node starts from the definition that it kept")
			r.taken("a.txt", "x")
			assert.Empty(t, r.cloud.Messages(""))
			r.cloud.On(service)
			r.arrived("", 1)
			r.settled(1)
		})
	}
}

// The kept definition holds passwords. Under another PASSWORD it is of no use to anyone.
func TestKeptDefinitionIsSealed(t *testing.T) {
	const ofADevice = "a-password-of-a-device"
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: `{"password": "` + ofADevice + `"}`}}).start()
	r.shutdown()
	info, err := os.Stat(filepath.Join(r.dir(), "definition"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	err = filepath.WalkDir(r.dir(), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		assert.NotContains(t, string(content), ofADevice, path)
		assert.NotContains(t, string(content), r.env["PASSWORD"], path)
		return err
	})
	require.NoError(t, err)

	r.cloud.Off(echotest.Cognito)
	r.env["PASSWORD"] = "another-password-than-before"
	r.start()
	r.log.Wait(t, "[WARNING] the node cannot start from the definition that it kept", "PASSWORD")
	r.refused()
	r.log.Check(t, ofADevice)
}

// The edges change under way: what was not sent goes to the new ones.
func TestEdgeIsReplaced(t *testing.T) {
	r := newRig(t, echotest.Options{Targets: []string{"archive"}}).start()
	r.taken("1.txt", "1")
	r.arrived("archive", 1)
	r.cloud.RemoveEdge("archive")
	r.cloud.AddEdge("", "archive") // with another queue
	r.taken("2.txt", "2")
	r.arrived("archive", 2)
	r.settled(2) // else the edge that comes may be one of its targets, too
	r.cloud.RemoveEdge("archive")
	r.cloud.AddEdge("", "erp")
	r.taken("3.txt", "3")
	r.arrived("erp", 1)
	r.settled(3)
	assert.Equal(t, []string{"3.txt"}, r.names("erp"))
}

// What a queue has that went with its edge is lost: who draws the edge anew gets what still waits for another one.
func TestEdgeIsDrawnAnewWhileFilesWait(t *testing.T) {
	for name, restart := range map[string]bool{"under way": false, "with a restart": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, echotest.Options{Targets: []string{"archive", "erp"}}).start()
			fault := r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Edge: "erp", Kind: echotest.Throttled})
			r.taken("1.txt", "1")
			r.arrived("archive", 1)
			if restart { // as EchoStream does
				r.shutdown()
			}
			r.cloud.RemoveEdge("archive")
			r.cloud.AddEdge("", "archive") // with another queue
			if restart {
				r.start()
			}
			r.arrived("archive", 2)
			fault.Clear()
			r.settled(1)
			assert.Equal(t, []string{"1.txt"}, r.names("erp"))
			assert.Equal(t, []string{"1.txt", "1.txt"}, r.names("archive"))
		})
	}
}

func TestEverythingGoesDownAndComesBack(t *testing.T) {
	r := newRig(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}}).start()
	for _, s := range echotest.Services() {
		r.cloud.Off(s)
	}
	r.cloud.ExpireAccessTokens()
	r.cloud.RevokeTokens()
	r.cloud.ExpireCredentials()
	r.taken("small.txt", "x")
	r.taken("large.txt", strings.Repeat("x", 400_000))
	r.log.Wait(t, "[WARNING] EchoStream cannot be reached; retrying")
	r.log.Wait(t, "[WARNING]", "it is tried again")
	for _, s := range echotest.Services() {
		r.cloud.On(s)
	}
	r.arrived("", 2)
	r.settled(2)
	require.Eventually(t, func() bool { return len(r.cloud.AuditRecords()) == 2 }, waitFor, tick)
	assert.Equal(t, []string{"small.txt", "large.txt"}, r.names(""))
}

func TestLoggingLevel(t *testing.T) {
	r := newRig(t, echotest.Options{Node: echotest.Node{LoggingLevel: "WARNING"}})
	r.begin()
	r.log.Wait(t, "[INFO] notenode starts")
	require.Eventually(t, func() bool { return r.cloud.Requests(echotest.AppSync, "GetNode") > 2 }, waitFor, tick)
	assert.Empty(t, r.log.Find("notes are taken"))
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.LoggingLevel = "DEBUG"; n.Config = `{"greeting": "two"}` })
	r.log.Wait(t, "notes are taken")
	r.taken("a.txt", "x")
	r.arrived("", 1)
	r.log.Wait(t, "[DEBUG]")
}

func TestVolumeIsLocked(t *testing.T) {
	first := newRig(t, echotest.Options{}).start()
	second := newRig(t, echotest.Options{})
	second.env["NOTENODE_DATA"] = first.dir()
	second.begin()
	second.log.Wait(t, "[ERROR] the data volume cannot be used; the node waits for it", "another node runs on this volume")
	first.shutdown()
	second.log.Wait(t, "[INFO] the data volume can be used now")
	second.log.Wait(t, "notes are taken")
}

func TestVolumeOfANewerVersion(t *testing.T) {
	r := newRig(t, echotest.Options{})
	r.bridge.Format = 2
	file := filepath.Join(r.dir(), "format")
	require.NoError(t, os.WriteFile(file, []byte("3\n"), 0o600))
	r.begin()
	r.log.Wait(t, "[ERROR] the data volume cannot be used", "a newer version", "expected at most 2")
	entries, err := os.ReadDir(r.dir())
	require.NoError(t, err)
	assert.Len(t, entries, 2, "it is left as it was, but for the lock")
	require.NoError(t, os.WriteFile(file, []byte("2\n"), 0o600))
	r.log.Wait(t, "notes are taken")
}

func TestVolumeThatIsNone(t *testing.T) {
	r := newRig(t, echotest.Options{})
	dir := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	r.env["NOTENODE_DATA"] = dir
	r.begin()
	r.log.Wait(t, "[ERROR] the data volume cannot be used", dir)
	r.shutdown() // also while it waits
	r.log.Wait(t, "[INFO] notenode has stopped")
}

func TestPortIsTaken(t *testing.T) {
	r := newRig(t, echotest.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r.env["NOTENODE_ADDR"] = l.Addr().String()
	r.begin()
	r.log.Wait(t, "[ERROR] the port cannot be opened; the node waits for it", "address already in use")
	l.Close()
	r.log.Wait(t, "[INFO] the port could be opened")
	r.log.Wait(t, "notes are taken")
}

// What is under way may end; what it brought is delivered by the next start.
func TestStopInMidNote(t *testing.T) {
	r := newRig(t, echotest.Options{}).start()
	conn, err := net.Dial("tcp", r.address())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(waitFor)))
	greeting := make([]byte, len("hello\n"))
	_, err = io.ReadFull(conn, greeting) // the bridge has the connection
	require.NoError(t, err)
	_, err = conn.Write([]byte("a.txt 23\nfirst half, "))
	require.NoError(t, err)
	ended := make(chan struct{})
	stop := r.stop
	go func() { stop(); close(ended) }()
	r.log.Wait(t, "notenode stops")
	_, err = conn.Write([]byte("second half"))
	require.NoError(t, err)
	var answer bytes.Buffer
	_, err = answer.ReadFrom(conn)
	require.NoError(t, err)
	assert.Equal(t, "ok\n", answer.String())
	<-ended
	r.stop = nil
	r.start()
	f, err := r.cloud.Decode(t.Context(), r.arrived("", 1)[0], &answer)
	require.NoError(t, err)
	assert.Equal(t, "a.txt", f.Name)
	assert.Equal(t, "ok\nfirst half, second half", answer.String())
}

// A bridge that does not return is not waited for, as EchoStream would kill the container.
func TestBridgeThatDoesNotEnd(t *testing.T) {
	var free chan struct{} // nil: it ends
	served := func(ctx context.Context) {
		<-ctx.Done()
		if free != nil {
			<-free
		}
	}
	outageOf(t, served, func(r *outagetest.Rig) {
		free = make(chan struct{})
		r.Upload("a.csv", 100)
		began := time.Now()
		r.Stop()
		assert.Less(t, time.Since(began), 10*time.Second)
		r.Log.Wait(t, "[WARNING] notenode stops although something still runs")
		close(free)
		r.Start()
		r.Pass(time.Minute)
		r.WantDelivered()
	})
}

func TestHealthcheck(t *testing.T) {
	r := newRig(t, echotest.Options{}).start()
	dir, address := r.dir(), r.address()
	before, err := os.ReadDir(dir)
	require.NoError(t, err)
	out, err := r.healthcheck(dir, address)
	require.NoError(t, err)
	assert.Contains(t, out, "All delivered")
	assert.Contains(t, out, "healthy")
	after, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, after, len(before), "it leaves nothing behind")

	r.cloud.Off(echotest.AppSync)
	r.log.Wait(t, "EchoStream cannot be reached")
	out, err = r.healthcheck(dir, address)
	require.NoError(t, err, "no fault of the node's")
	assert.Contains(t, out, "EchoStream cannot be reached")
	r.cloud.On(echotest.AppSync)

	_, err = r.healthcheck(filepath.Join(dir, "gone"), address)
	require.ErrorContains(t, err, "the running node cannot be asked: none runs there: ")
	_, err = r.healthcheck(dir, "nonsense")
	require.ErrorContains(t, err, "expected a host and a port")
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	_, err = r.healthcheck(dir, ":"+port)
	require.NoError(t, err, "every address is also this machine's own")
	r.shutdown()
	_, err = r.healthcheck(dir, address)
	require.ErrorContains(t, err, "does not answer")
}

func TestCommandLine(t *testing.T) {
	var out bytes.Buffer
	none := func(string) string { return "" }
	run := func(b node.Bridge[noteConfig], args ...string) error {
		out.Reset()
		return node.Run(t.Context(), b, node.Options{Getenv: none, Stdout: &out, Args: args})
	}
	require.NoError(t, run(noteBridge(), "version"))
	assert.NotEmpty(t, strings.TrimSpace(out.String()))
	released := noteBridge()
	released.Version = "1.2.3"
	require.NoError(t, run(released, "--version"))
	assert.Equal(t, "1.2.3\n", out.String())
	for _, arg := range []string{"help", "-h", "--help"} {
		require.NoError(t, run(noteBridge(), arg), arg)
		assert.Contains(t, out.String(), "usage: notenode [command]", arg)
		assert.Contains(t, out.String(), "NOTENODE_DATA (by default /data)", arg)
	}
	err := run(noteBridge(), "sing")
	require.ErrorIs(t, err, node.ErrUsage)
	assert.Contains(t, err.Error(), "usage: notenode [healthcheck | status [--json] | retry ID… | retry --all | discard ID… | accept ID… | version]")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r := newRig(t, echotest.Options{})
	require.NoError(t, node.Run(ended, r.bridge, node.Options{Getenv: r.getenv, Stdout: &out}), "told to stop before it began")
}

func TestDataVolumeWithoutAName(t *testing.T) {
	r := newRig(t, echotest.Options{})
	mounts := func(source string) func(*echotest.Node) {
		return func(n *echotest.Node) { n.Mounts = []echotest.Mount{{Source: source, Target: r.dir()}} }
	}
	r.cloud.UpdateNode("", mounts("volume-of-the-node"))
	r.start()
	assert.Empty(t, r.log.Find("the data volume has no name"))
	r.shutdown()

	r.cloud.UpdateNode("", mounts(""))
	r.start()
	r.log.Wait(t, "[WARNING] the data volume has no name", "target=")
}
