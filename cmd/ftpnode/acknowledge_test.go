package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// newDeliveredRig is a rig whose node answers 226 when a file is delivered. timeout is how long clients wait.
func newDeliveredRig(t *testing.T, timeout string, opts echotest.Options, files ...string) *rig {
	files = append([]string{fmt.Sprintf(`"acknowledge": "delivered", "acknowledgeTimeout": %q`, timeout)}, files...)
	opts.Node.Config = strings.Replace(testConfig(t, ""), `"files": {"settle": "10ms"`, `"files": {`+strings.Join(files, ", "), 1)
	return newRig(t, opts)
}

// put uploads, and gives the code of the last reply: 150 is passed over.
func (c *ftpClient) put(name string, content []byte) int {
	reply := c.command(229, "EPSV")
	port := reply[strings.Index(reply, "|||")+3 : strings.LastIndex(reply, "|")]
	data := dialData(c.t, port)
	defer data.Close()
	if code := c.code("STOR %s", name); code != 150 {
		return code
	}
	_, err := data.Write(content)
	require.NoError(c.t, err)
	require.NoError(c.t, data.Close())
	code, _, err := c.conn.ReadResponse(0)
	require.NoError(c.t, err)
	return code
}

// once holds what an edge got against the contents that must have come, each with one tracking id, and however often with it.
func (r *rig) once(edge string, contents ...string) {
	r.t.Helper()
	ids := map[string]string{}
	for _, m := range r.cloud.Messages(edge) {
		var content bytes.Buffer
		_, err := r.cloud.Decode(r.t.Context(), m, &content)
		require.NoError(r.t, err)
		if id, ok := ids[content.String()]; ok {
			assert.Equal(r.t, id, m.TrackingID, "%.20q came twice to %s", content.String(), edge)
		}
		ids[content.String()] = m.TrackingID
	}
	for _, content := range contents {
		assert.Contains(r.t, ids, content, edge)
	}
	assert.Len(r.t, ids, len(contents), edge)
}

// delivers uploads as a device does: what was not delivered in time is sent again. On a busy machine that may be the case with any file.
func (c *ftpClient) delivers(name string, content []byte) {
	c.t.Helper()
	require.Eventually(c.t, func() bool { return c.put(name, content) == 226 }, waitFor, tick, name)
}

func TestDelivered226(t *testing.T) {
	t.Parallel()
	r := newDeliveredRig(t, "30s", echotest.Options{Targets: []string{"archive", "erp"}, Tenant: echotest.Tenant{Audit: true}}).start()
	require.Contains(t, r.log.wait(t, "FTP is served"), `acknowledge=delivered reason="files.acknowledge says so"`)
	c := r.login()
	large := strings.Repeat("0123456789abcdef", 40_000)
	for name, content := range map[string]string{"a": "content of a", "empty": "", "large": large} {
		c.store(name, []byte(content))
		var id string
		for _, edge := range []string{"archive", "erp"} {
			messages := r.cloud.Messages(edge)
			require.NotEmpty(t, messages, "at the 226 it is there")
			id = messages[len(messages)-1].TrackingID
		}
		var audited bool
		for _, record := range r.cloud.AuditRecords() {
			audited = audited || record.TrackingID == id
		}
		require.True(t, audited, "and in the audit trail")
		require.Equal(t, fmt.Sprint(len(content)), c.command(213, "SIZE %s", name))
	}
	for _, edge := range []string{"archive", "erp"} {
		r.once(edge, "content of a", "", large)
	}
	// Each version counts, also one that is the same.
	c.store("a", []byte("content of a"))
	require.Len(t, r.cloud.Messages("erp"), 4)
}

// A file under a temporary name is held; the reply to its rename says that it is delivered.
func TestDelivered250(t *testing.T) {
	t.Parallel()
	r := newDeliveredRig(t, "3s", echotest.Options{Targets: []string{"erp"}}).start()
	c := r.login()
	c.store("a.tmp", []byte("a"))
	c.command(350, "RNFR a.tmp")
	c.command(250, "RNTO a")
	r.once("erp", "a")

	c.store("b.tmp", []byte("b"))
	slow := r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Slow, Delay: 8 * time.Second, Count: 1})
	c.command(350, "RNFR b.tmp")
	c.command(451, "RNTO b")
	require.Equal(t, 1, slow.Hits())
	require.Equal(t, 550, c.code("RNFR b.tmp"), "it is under way")
	r.settled(2)
	c.store("b.tmp", []byte("b"))
	c.command(350, "RNFR b.tmp")
	c.command(250, "RNTO b")
	r.once("erp", "a", "b")
	require.Equal(t, 550, c.code("RNFR b.tmp"), "it is gone")
}

// Where nothing can be delivered, nothing is taken.
func TestNothingCanBeDelivered(t *testing.T) {
	t.Parallel()
	r := newDeliveredRig(t, "3s", echotest.Options{Targets: []string{"erp"}}).start()
	c := r.login()
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = true })
	r.log.wait(t, "No targets")
	require.Equal(t, 450, c.put("x", []byte("x")))
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false })
	r.log.wait(t, "the node is started")
	require.Equal(t, 226, c.put("1", []byte("1")))
	r.log.Reset()
	r.cloud.RemoveEdge("erp")
	r.log.wait(t, "No targets")
	require.Equal(t, 450, c.put("x", []byte("x")))
	require.Equal(t, 0, r.waiting(), "nothing was taken")
}

// waiting counts the files in the outbox.
func (r *rig) waiting() int {
	files, err := filepath.Glob(filepath.Join(r.env["FTPNODE_DATA"], "outbox", "*.data"))
	require.NoError(r.t, err)
	return len(files)
}

// In an outage the first file is answered 451; then there is 450 before any data, until the definition can be read again. The same file
// is then the one that was attempted.
func TestDeliveredInAnOutage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ off, on func(r *rig) }{
		"SQS down":         {func(r *rig) { r.cloud.Off(echotest.SQS) }, func(r *rig) { r.cloud.On(echotest.AppSync); r.cloud.On(echotest.SQS) }},
		"replies are lost": {func(r *rig) { r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.ReplyLost}) }, func(r *rig) { r.cloud.ClearFaults() }},
		"one edge denies":  {func(r *rig) { r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Edge: "erp", Kind: echotest.Denied}) }, func(r *rig) { r.cloud.ClearFaults() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newDeliveredRig(t, "1s", echotest.Options{Targets: []string{"archive", "erp"}}).start()
			client := r.login()
			client.delivers("before", []byte("before"))
			c.off(r)
			require.Equal(t, 451, client.put("x", []byte("x")))
			if name == "SQS down" {
				r.cloud.Off(echotest.AppSync) // not before: the next look at the definition may come before x
				r.log.wait(t, "[WARNING] EchoStream cannot be reached")
				require.Equal(t, 450, client.put("y", []byte("y")))
			}
			c.on(r)
			client.delivers("x", []byte("x"))
			client.delivers("after", []byte("after"))
			for _, edge := range []string{"archive", "erp"} {
				r.once(edge, "before", "x", "after")
			}
		})
	}
}

// A file that was delivered after its 451 is acknowledged when it comes again, once, also after a restart.
func TestDeliveredAfterIts451(t *testing.T) {
	t.Parallel()
	r := newDeliveredRig(t, "3s", echotest.Options{Targets: []string{"erp"}}).start()
	r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Slow, Delay: 8 * time.Second, Count: 1})
	require.Equal(t, 451, r.login().put("x", []byte("x")))
	r.settled(1)
	r.shutdown()
	r.start()
	c := r.login()
	require.Equal(t, 226, c.put("x", []byte("x")))
	require.Equal(t, "1", c.command(213, "SIZE x"))
	r.log.wait(t, "its sender was not told what became of it")
	require.Len(t, r.cloud.Messages("erp"), 1)
	require.Equal(t, 226, c.put("x", []byte("x")), "a new version")
	require.Len(t, r.cloud.Messages("erp"), 2)
}

// A restart while a client waits: what was attempted goes on, and what was not is its client's again. Nothing comes twice under two ids.
func TestRestartWhileAClientWaits(t *testing.T) {
	t.Parallel()
	t.Run("attempted", func(t *testing.T) {
		t.Parallel()
		r := newDeliveredRig(t, "30s", echotest.Options{Targets: []string{"archive", "erp"}}).start()
		r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Edge: "erp", Kind: echotest.Denied})
		c := r.login()
		c.upload("x", strings.NewReader("x"))
		r.arrived("archive", 1)
		r.shutdown()
		r.cloud.ClearFaults()
		r.start()
		require.Equal(t, 226, r.login().put("x", []byte("x")))
		r.once("archive", "x")
		r.once("erp", "x")
	})
	t.Run("not attempted", func(t *testing.T) {
		t.Parallel()
		r := newDeliveredRig(t, "30s", echotest.Options{Targets: []string{"erp"}}).start()
		put := r.cloud.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.ServerError})
		large := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
		c := r.login()
		c.upload("x", bytes.NewReader(large))
		require.Eventually(t, func() bool { return put.Hits() > 0 }, waitFor, tick)
		r.shutdown()
		r.cloud.ClearFaults()
		r.start()
		require.Equal(t, 0, r.waiting(), "it is not kept")
		c = r.login()
		require.Equal(t, 550, c.code("SIZE x"))
		require.Equal(t, 226, c.put("x", large))
		r.once("erp", string(large))
	})
}

// What was not attempted when the time is over is taken back, and is not sent when the outage ends.
func TestNotAttemptedInTime(t *testing.T) {
	t.Parallel()
	r := newDeliveredRig(t, "1s", echotest.Options{Targets: []string{"erp"}}).start()
	r.cloud.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.ServerError})
	large := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	c := r.login()
	require.Equal(t, 451, c.put("x", large))
	require.Equal(t, 0, r.waiting())
	require.Equal(t, 550, c.code("SIZE x"))
	r.cloud.ClearFaults()
	c.delivers("other", []byte("other"))
	r.once("erp", "other")
}

// A client that is gone before its file is first sent has not sent it.
func TestClientThatGoesWhileItWaits(t *testing.T) {
	t.Parallel()
	r := newDeliveredRig(t, "30s", echotest.Options{Targets: []string{"erp"}}).start()
	put := r.cloud.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.ServerError, Count: 1000})
	c := r.login()
	c.upload("x", bytes.NewReader(bytes.Repeat([]byte("0123456789abcdef"), 40_000)))
	require.Eventually(t, func() bool { return put.Hits() > 0 }, waitFor, tick)
	c.conn.Close()
	r.cloud.ClearFaults()
	r.log.wait(t, "upload was not delivered and is not kept", "hung up")
	require.Equal(t, 0, r.waiting())
	require.Empty(t, r.cloud.Messages("erp"))
}

// What no edge will ever take is refused, and not kept.
func TestRefusedWhereItIsToBeDelivered(t *testing.T) {
	t.Parallel()
	r := newDeliveredRig(t, "30s", echotest.Options{Targets: []string{"erp"}})
	r.cloud.UpdateNode("", func(n *echotest.Node) {
		n.Config = strings.TrimSuffix(n.Config, "}") + `, "message": {"content": "inline"}}`
	})
	r.start()
	c := r.login()
	require.Equal(t, 552, c.put("x", bytes.Repeat([]byte("0123456789abcdef"), 40_000)))
	r.log.wait(t, "[ERROR] File cannot be delivered and is not kept")
	failed, err := os.ReadDir(filepath.Join(r.env["FTPNODE_DATA"], "failed"))
	require.NoError(t, err)
	require.Empty(t, failed)
	require.Equal(t, 0, r.waiting())
	require.Equal(t, 226, c.put("y", []byte("y")))
	r.once("erp", "y")
}
