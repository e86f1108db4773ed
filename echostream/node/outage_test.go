package node_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/internal/outagetest"
	"github.com/ftpnode/ftpnode/internal/race"
)

const day = 24 * time.Hour

// What was out of reach for long comes back, and delivery goes on by itself.
func TestLongOutages(t *testing.T) {
	for name, c := range map[string]struct {
		begin, end func(*outagetest.Rig)
		lasts      time.Duration
		line       string // that tells of it
	}{
		"login": {
			// Each try is a whole log-in with its arithmetic, so this one is shorter.
			lasts: 2 * time.Hour,
			begin: func(r *outagetest.Rig) {
				r.Cloud.SetPassword("ftp-app", "another-password")
				r.Cloud.Clock().Advance(31 * day) // nothing of before is valid any more
			},
			end:  func(r *outagetest.Rig) { r.Cloud.SetPassword("ftp-app", r.Password()) },
			line: "[ERROR] EchoStream refuses the node's log-in",
		},
		"credentials": {
			lasts: day,
			begin: func(r *outagetest.Rig) {
				r.Cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.ExpiredCredentials})
				r.Cloud.Fault(echotest.Fault{Service: echotest.Audit, Kind: echotest.ExpiredCredentials})
			},
			end:  func(r *outagetest.Rig) { r.Cloud.ClearFaults() },
			line: "[ERROR] Sending fails", // new ones are refused too
		},
		"edges": {
			lasts: 6 * time.Hour,
			begin: func(r *outagetest.Rig) {
				for _, edge := range r.Edges {
					r.Cloud.RemoveEdge(edge)
				}
			},
			end: func(r *outagetest.Rig) {
				for _, edge := range r.Edges {
					r.Cloud.AddEdge("", edge)
				}
			},
			line: "[WARNING] No targets: files are kept",
		},
		"one edge refuses": {
			lasts: day,
			begin: func(r *outagetest.Rig) {
				r.Cloud.Fault(echotest.Fault{Service: echotest.SQS, Edge: "erp", Kind: echotest.Denied})
			},
			end:  func(r *outagetest.Rig) { r.Cloud.ClearFaults() },
			line: "[ERROR] Sending fails", // a person has to look at the edge
		},
		"SQS throttles": {
			lasts: day,
			begin: func(r *outagetest.Rig) {
				r.Cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Throttled})
			},
			end:  func(r *outagetest.Rig) { r.Cloud.ClearFaults() },
			line: "[WARNING] Sending fails",
		},
		"bulk storage": {
			lasts: 3 * time.Hour,
			begin: func(r *outagetest.Rig) {
				r.Cloud.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.ExpiredURL})
			},
			end:  func(r *outagetest.Rig) { r.Cloud.ClearFaults() },
			line: "[WARNING] Preparing files fails",
		},
		"audit": {
			lasts: day,
			begin: func(r *outagetest.Rig) {
				r.Cloud.Fault(echotest.Fault{Service: echotest.Audit, Kind: echotest.ServerError})
			},
			end:  func(r *outagetest.Rig) { r.Cloud.ClearFaults() },
			line: "[WARNING] Auditing fails",
		},
		"the API": {
			lasts: day,
			begin: func(r *outagetest.Rig) {
				r.Cloud.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.ServerError})
			},
			end:  func(r *outagetest.Rig) { r.Cloud.ClearFaults() },
			line: "[WARNING] EchoStream cannot be reached",
		},
		"stopped": {
			lasts: 6 * time.Hour,
			begin: func(r *outagetest.Rig) { r.Cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = true }) },
			end:   func(r *outagetest.Rig) { r.Cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false }) },
			line:  "[WARNING] the node is stopped in EchoStream",
		},
	} {
		if race.Enabled {
			c.lasts /= 8 // the race detector sees in three hours what it sees in a day
		}
		t.Run(name, func(t *testing.T) {
			outage(t, func(r *outagetest.Rig) {
				r.Upload("before.txt", 10)
				r.Upload("before.bin", 300_000)
				r.Pass(time.Minute)
				r.WantDelivered()
				goroutines := r.Goroutines()

				c.begin(r)
				r.Pass(15 * time.Minute) // the definition is read
				for i := range 6 {
					r.Upload(fmt.Sprintf("%d.csv", i), 100)
					if i%4 == 0 { // each try reads and packs it
						r.Upload(fmt.Sprintf("%d.bin", i), 200_000)
					}
					r.Pass(c.lasts / 10)
				}
				r.Pass(c.lasts / 10)
				changes, before := r.Disk.Len(), r.Goroutines()
				r.Pass(c.lasts * 3 / 10)
				assert.Equal(t, changes, r.Disk.Len(), "the disk is left alone while nothing comes: %v", r.Disk.Ops()[changes:])
				r.WantGoroutines(before)
				r.WantFewLines()
				assert.NotEmpty(t, r.Log.Find(c.line), "%s", r.Log)
				if name != "the API" && !race.Enabled { // whose absence keeps nothing here
					r.WantReminders(c.lasts)
				}

				c.end(r)
				r.Pass(time.Hour)
				r.WantDelivered()
				r.WantGoroutines(goroutines)
				r.WantFewLines()
			})
		})
	}
}

// What waits over restarts is delivered under the tracking ids that it had.
func TestRestartInALongOutage(t *testing.T) {
	outage(t, func(r *outagetest.Rig) {
		r.Upload("before.txt", 10)
		r.Pass(time.Minute)
		r.Network.Cut(true)
		for i := range 3 {
			r.Upload(fmt.Sprintf("%d.csv", i), 100)
			r.Upload(fmt.Sprintf("%d.bin", i), 200_000)
			r.Pass(time.Duration(times(8)) * time.Hour) // not longer, as each try to log in begins with arithmetic
			r.Restart()
		}
		r.WantOnlyWaiting()
		r.Network.Cut(false)
		r.Pass(time.Hour)
		r.WantDelivered()
	})
}

// A start needs no room: what waits is delivered, and that makes room again.
func TestStartOnAFullDisk(t *testing.T) {
	outage(t, func(r *outagetest.Rig) {
		r.Network.Cut(true)
		r.Upload("1.csv", 100)
		r.Upload("2.bin", 200_000)
		r.Pass(time.Minute)
		r.Stop()
		r.Disk.SetCapacity(1)
		r.Network.Cut(false)
		r.Start()
		r.Pass(time.Minute)
		r.WantDelivered()
		r.Log.Wait(r.T, "[WARNING] the node's definition cannot be kept", "no space left on device")

		r.Disk.SetCapacity(0)
		r.Pass(time.Hour) // the definition is read again
		r.Log.Wait(r.T, "[INFO] the node's definition is kept again")
	})
}

// A machine that was 8 days ahead uploaded one file 225 times in 6 hours, sent nothing, and no line named the clock.
func TestWrongMachineClock(t *testing.T) {
	const year = 365 * day
	for _, ahead := range []time.Duration{
		-20 * year, -8 * day, -3 * time.Hour, -10 * time.Minute, 10 * time.Minute, 3 * time.Hour, 8 * day, 20 * year,
	} {
		if race.Enabled && ahead.Abs() != 3*time.Hour { // the race detector sees in two what it sees in all; .ci/prove tries them
			continue
		}
		for _, atStart := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s atStart=%t", ahead, atStart), func(t *testing.T) {
				outage(t, func(r *outagetest.Rig) {
					r.Upload("before.csv", 100)
					r.Upload("before.bin", 300_000)
					r.Pass(time.Minute)
					if atStart {
						r.Stop()
						r.Cloud.Clock().Advance(-ahead) // the fake time is the machine's, all over the node
						r.Start()
					} else {
						r.Network.Skew.Store(int64(ahead))
					}
					for i := range 3 {
						r.Upload(fmt.Sprintf("%d.csv", i), 100)
						r.Upload(fmt.Sprintf("%d.bin", i), 300_000)
						r.Pass(2 * time.Hour)
					}
					r.WantDelivered()
					assert.Equal(t, 4, r.Cloud.Requests(echotest.S3, "PutObject"), "each file is uploaded once")
					lines := r.Log.Find("[WARNING] the machine's clock is wrong", "off=")
					assert.Len(t, lines, 1, "%s", r.Log)
					now := r.Cloud.Clock().Now()
					for _, record := range r.Cloud.AuditRecords() {
						if record.Attributes["name"] != "before.csv" && record.Attributes["name"] != "before.bin" {
							assert.WithinDuration(t, now, record.DateTime, 7*time.Hour)
						}
					}
					if atStart {
						return
					}
					r.Network.Skew.Store(0)
					r.Pass(time.Hour)
					assert.Len(t, r.Log.Find("[INFO] the machine's clock is right again"), 1, "%s", r.Log)
				})
			})
		}
	}
}

// EchoStream starts a container anew because an edge was drawn. If GetNode fails then, FTP is served by the definition that was kept; by
// the same, a file would miss the new edge.
func TestKeptDefinitionMissesNoEdge(t *testing.T) {
	outage(t, func(r *outagetest.Rig) {
		r.Upload("before.csv", 100)
		r.Pass(time.Minute)
		r.Stop()
		r.Cloud.AddEdge("", "new")
		failGetNode(r)
		r.Start()
		r.Upload("after.csv", 100)
		require.Len(t, r.Cloud.Messages("archive"), 1, "FTP is served, and nothing is sent yet")
		r.Log.Wait(t, "[WARNING]", "sends nothing until then")
		r.Pass(time.Minute)
		for edge, want := range map[string]int{"archive": 2, "erp": 2, "new": 1} {
			assert.Len(t, r.Cloud.Messages(edge), want, edge)
		}
		assert.Zero(t, r.Node.Outbox.Stats().Entries)
	})
}

func TestKeptDefinitionDoesNotSendForAStoppedNode(t *testing.T) {
	outage(t, func(r *outagetest.Rig) {
		r.Upload("before.csv", 100)
		r.Pass(time.Minute)
		r.Stop()
		r.Cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = true })
		failGetNode(r)
		r.Start()
		r.Upload("stopped.csv", 100)
		r.Pass(time.Hour)
		assert.Len(t, r.Cloud.Messages("archive"), 1)
		assert.Equal(t, 1, r.Node.Outbox.Stats().Entries)
		r.Cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false })
		r.Pass(time.Minute) // the definition is read every 30 s
		r.WantDelivered()
	})
}

// While it cannot send, for whatever reason, the node reads its definition every half minute.
func TestDefinitionIsReadOftenUntilItSends(t *testing.T) {
	outage(t, func(r *outagetest.Rig) {
		r.Stop()
		r.Cloud.Fault(echotest.Fault{Service: echotest.AppSync, Operation: "GetNode", Kind: echotest.ServerError})
		r.Start()
		r.Upload("a.csv", 100)
		before := r.Cloud.Requests(echotest.AppSync, "GetNode")
		r.Pass(2 * time.Hour)
		assert.GreaterOrEqual(t, r.Cloud.Requests(echotest.AppSync, "GetNode")-before, 4*60)
		r.Cloud.ClearFaults()
		r.Pass(31 * time.Second)
		r.WantDelivered()
	})
}

func failGetNode(r *outagetest.Rig) {
	r.Cloud.Fault(echotest.Fault{Service: echotest.AppSync, Operation: "GetNode", Kind: echotest.ServerError, Count: 4})
}

// times is n, or a part of it for the race detector.
func times(n int) int {
	if race.Enabled {
		return n / 5
	}
	return n
}

// After an outage, one lost reply doubled a file in 11 of 60 runs: the node's own pause was longer than SQS knows a message again.
func TestOneLostReplyAfterAnOutage(t *testing.T) {
	for range times(20) {
		outage(t, func(r *outagetest.Rig) {
			r.Network.NoSQS.Store(true)
			r.Upload("a.csv", 100)
			r.Pass(2 * time.Hour)
			r.Network.Lose.Store(2) // one for each edge, as a rule
			r.Network.NoSQS.Store(false)
			r.Pass(time.Hour)
			for _, edge := range r.Edges {
				assert.Len(t, r.Cloud.Messages(edge), 1, edge)
			}
			assert.Zero(t, r.Node.Outbox.Stats().Entries)
		})
	}
}

// Replies that are lost for longer than SQS knows a message again (five minutes from when it came) double it: as often as that, and
// not more.
func TestRepliesLostFor20Minutes(t *testing.T) {
	outage(t, func(r *outagetest.Rig) {
		r.Cloud.RemoveEdge("erp")
		r.Pass(11 * time.Minute)
		r.Network.Lose.Store(1 << 40)
		r.Upload("a.csv", 100)
		r.Pass(20 * time.Minute)
		r.Network.Lose.Store(0)
		r.Pass(time.Hour)
		copies := r.Cloud.Messages("archive")
		assert.Len(t, copies, 4, "one in each five minutes")
		for i := 1; i < len(copies); i++ {
			assert.Equal(t, copies[0].TrackingID, copies[i].TrackingID)
			apart := copies[i].Sent.Sub(copies[i-1].Sent)
			assert.Greater(t, apart, 5*time.Minute)
			assert.Less(t, apart, 6*time.Minute)
		}
		assert.Zero(t, r.Node.Outbox.Stats().Entries)
	})
}
