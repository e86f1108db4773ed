package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// A machine that was 8 days ahead uploaded one file 225 times in 6 hours, sent nothing, and no line named the clock.
func TestWrongMachineClock(t *testing.T) {
	const year = 365 * day
	for _, ahead := range []time.Duration{
		-20 * year, -8 * day, -3 * time.Hour, -10 * time.Minute, 10 * time.Minute, 3 * time.Hour, 8 * day, 20 * year,
	} {
		for _, atStart := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s atStart=%t", ahead, atStart), func(t *testing.T) {
				outage(t, func(r *outageRig) {
					r.upload("before.csv", 100)
					r.upload("before.bin", 300_000)
					r.pass(time.Minute)
					if atStart {
						r.stop()
						r.cloud.Clock().Advance(-ahead) // the fake time is the machine's, all over the node
						r.start()
					} else {
						r.network.skew.Store(int64(ahead))
					}
					for i := range 3 {
						r.upload(fmt.Sprintf("%d.csv", i), 100)
						r.upload(fmt.Sprintf("%d.bin", i), 300_000)
						r.pass(2 * time.Hour)
					}
					r.wantDelivered()
					assert.Equal(t, 4, r.cloud.Requests(echotest.S3, "PutObject"), "each file is uploaded once")
					lines := r.log.find("[WARNING] the machine's clock is wrong", "off=")
					assert.Len(t, lines, 1, "%s", r.log)
					now := r.cloud.Clock().Now()
					for _, record := range r.cloud.AuditRecords() {
						if record.Attributes["name"] != "before.csv" && record.Attributes["name"] != "before.bin" {
							assert.WithinDuration(t, now, record.DateTime, 7*time.Hour)
						}
					}
					if atStart {
						return
					}
					r.network.skew.Store(0)
					r.pass(time.Hour)
					assert.Len(t, r.log.find("[INFO] the machine's clock is right again"), 1, "%s", r.log)
				})
			})
		}
	}
}

// EchoStream starts a container anew because an edge was drawn. If GetNode fails then, FTP is served by the definition that was kept; by
// the same, a file would miss the new edge.
func TestKeptDefinitionMissesNoEdge(t *testing.T) {
	outage(t, func(r *outageRig) {
		r.upload("before.csv", 100)
		r.pass(time.Minute)
		r.stop()
		r.cloud.AddEdge("", "new")
		r.failGetNode()
		r.start()
		r.upload("after.csv", 100)
		require.Len(t, r.cloud.Messages("archive"), 1, "FTP is served, and nothing is sent yet")
		r.log.wait(t, "[WARNING]", "sends nothing until then")
		r.pass(time.Minute)
		for edge, want := range map[string]int{"archive": 2, "erp": 2, "new": 1} {
			assert.Len(t, r.cloud.Messages(edge), want, edge)
		}
		assert.Zero(t, r.outbox.Stats().Entries)
	})
}

func TestKeptDefinitionDoesNotSendForAStoppedNode(t *testing.T) {
	outage(t, func(r *outageRig) {
		r.upload("before.csv", 100)
		r.pass(time.Minute)
		r.stop()
		r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = true })
		r.failGetNode()
		r.start()
		r.upload("stopped.csv", 100)
		r.pass(time.Hour)
		assert.Len(t, r.cloud.Messages("archive"), 1)
		assert.Equal(t, 1, r.outbox.Stats().Entries)
		r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false })
		r.pass(time.Minute) // the definition is read every 30 s
		r.wantDelivered()
	})
}

// While it cannot send, for whatever reason, the node reads its definition every half minute.
func TestDefinitionIsReadOftenUntilItSends(t *testing.T) {
	outage(t, func(r *outageRig) {
		r.stop()
		r.cloud.Fault(echotest.Fault{Service: echotest.AppSync, Operation: "GetNode", Kind: echotest.ServerError})
		r.start()
		r.upload("a.csv", 100)
		before := r.cloud.Requests(echotest.AppSync, "GetNode")
		r.pass(2 * time.Hour)
		assert.GreaterOrEqual(t, r.cloud.Requests(echotest.AppSync, "GetNode")-before, 4*60)
		r.cloud.ClearFaults()
		r.pass(31 * time.Second)
		r.wantDelivered()
	})
}

func (r *outageRig) failGetNode() {
	r.cloud.Fault(echotest.Fault{Service: echotest.AppSync, Operation: "GetNode", Kind: echotest.ServerError, Count: 4})
}

// After an outage, one lost reply doubled a file in 11 of 60 runs: the node's own pause was longer than SQS knows a message again.
func TestOneLostReplyAfterAnOutage(t *testing.T) {
	for range 20 {
		outage(t, func(r *outageRig) {
			r.network.noSQS.Store(true)
			r.upload("a.csv", 100)
			r.pass(2 * time.Hour)
			r.network.lose.Store(2) // one for each edge, as a rule
			r.network.noSQS.Store(false)
			r.pass(time.Hour)
			for _, edge := range r.edges {
				assert.Len(t, r.cloud.Messages(edge), 1, edge)
			}
			assert.Zero(t, r.outbox.Stats().Entries)
		})
	}
}

// Replies that are lost for longer than SQS knows a message again (five minutes from when it came) double it: as often as that, and
// not more.
func TestRepliesLostFor20Minutes(t *testing.T) {
	outage(t, func(r *outageRig) {
		r.cloud.RemoveEdge("erp")
		r.pass(11 * time.Minute)
		r.network.lose.Store(1 << 40)
		r.upload("a.csv", 100)
		r.pass(20 * time.Minute)
		r.network.lose.Store(0)
		r.pass(time.Hour)
		copies := r.cloud.Messages("archive")
		assert.Len(t, copies, 4, "one in each five minutes")
		for i := 1; i < len(copies); i++ {
			assert.Equal(t, copies[0].TrackingID, copies[i].TrackingID)
			apart := copies[i].Sent.Sub(copies[i-1].Sent)
			assert.Greater(t, apart, 5*time.Minute)
			assert.Less(t, apart, 6*time.Minute)
		}
		assert.Zero(t, r.outbox.Stats().Entries)
	})
}
