package node_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node"
)

// receiving makes r's node one that only receives. What it has handled is its greeting, of the config, and a body.
func (r *rig) receiving() (handled func() []string) {
	var mu sync.Mutex
	var got []string
	r.bridge.Serve, r.bridge.Refuse, r.bridge.Compose, r.bridge.Address = nil, nil, nil, nil
	r.bridge.Receive = func(_ context.Context, n *node.Node, c noteConfig, m echostream.ReceivedMessage) error {
		if m.Body == "refuse" {
			return echostream.Permanent(errors.New("nobody can read this"))
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, c.Greeting+" "+m.Source+" "+m.Body)
		return nil
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, got...)
	}
}

// A node follows its sources and its config, whether or not EchoStream restarts it.
func TestReceive(t *testing.T) {
	r := newRig(t, echotest.Options{
		Targets: []string{}, Sources: []string{"erp"}, Tenant: echotest.Tenant{Audit: true},
		Node: echotest.Node{Name: "receiver", SendMessageType: echotest.None, ReceiveMessageType: "echo.file"},
	})
	handled := r.receiving()
	var want []string
	put := func(source, body, as string) {
		t.Helper()
		r.cloud.Put(source, "receiver", body, "")
		want = append(want, as)
		require.Eventually(t, func() bool { return len(handled()) == len(want) }, waitFor, tick, "%s", r.log)
		assert.Equal(t, want, handled())
	}
	r.begin()
	put("erp", "one", "hello erp one")
	assert.Empty(t, r.log.Find("No targets"), "a node that only receives needs none")
	assert.Empty(t, r.log.Find("no message type"))

	r.cloud.AddEdge("mes", "receiver")
	put("mes", "two", "hello mes two")
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Config = `{"greeting": "hi"}` })
	r.log.Wait(t, "the config has changed")
	put("erp", "three", "hi erp three")
	r.cloud.RemoveEdge("mes>receiver") // the node is not told, and asks
	r.cloud.AddEdge("mes", "receiver")
	put("mes", "four", "hi mes four")

	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = true })
	r.log.Wait(t, "stopped in EchoStream")
	r.log.Wait(t, "no longer receiving", "source=erp")
	r.cloud.AddEdge("wms", "receiver") // one whose last poll cannot be under way still
	r.cloud.Put("wms", "receiver", "five", "")
	r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false })
	want = append(want, "hi wms five")
	require.Eventually(t, func() bool { return len(handled()) == len(want) }, waitFor, tick, "%s", r.log)
	assert.Equal(t, want, handled())
	require.Eventually(t, func() bool { return len(r.cloud.AuditRecords()) == len(want) }, waitFor, tick, "%s", r.log)
	r.shutdown()
	for _, edge := range r.cloud.Edges() {
		visible, held := r.cloud.Waiting(edge)
		assert.Zero(t, visible+held, "%s: all is deleted", edge)
	}
}

// What can never be handled goes where the bridge wants it.
func TestReceiveSetsAside(t *testing.T) {
	r := newRig(t, echotest.Options{
		Targets: []string{}, Sources: []string{"erp"},
		Node: echotest.Node{Name: "receiver", SendMessageType: echotest.None, ReceiveMessageType: "echo.file"},
	})
	handled := r.receiving()
	aside := make(chan string, 1)
	r.bridge.ReceiveOptions.SetAside = func(_ context.Context, m echostream.ReceivedMessage, err error) error {
		aside <- m.Body + ": " + err.Error()
		return nil
	}
	r.begin()
	r.cloud.Put("erp", "receiver", "refuse", "")
	r.cloud.Put("erp", "receiver", "next", "")
	assert.Equal(t, "refuse: nobody can read this", <-aside)
	require.Eventually(t, func() bool { return len(handled()) == 1 }, waitFor, tick, "%s", r.log)
	assert.Equal(t, []string{"hello erp next"}, handled())
}
