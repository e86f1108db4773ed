package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

const day = 24 * time.Hour

// maxOutageLines is how many lines of the log an outage of three weeks may take, beside those about files: for each of the
// things that fail at once (two edges, bulk storage, the API) a few at first, and then about one a day.
const maxOutageLines = 150

// weeks is how long the node is offline. The race detector sees in the first what it sees in all.
func weeks() int {
	if underRace {
		return 1
	}
	return 3
}

// Three weeks offline: nothing grows but the files, the log stays readable, and all is delivered in order afterwards,
// though every token, credential and upload URL of before has expired, and in the end also the log-in's refresh token.
func TestThreeWeeksOffline(t *testing.T) {
	outage(t, func(r *outageRig) {
		r.upload("before.txt", 10)
		r.upload("before.bin", 300_000) // with an upload URL left for the next one
		r.pass(time.Minute)
		r.wantDelivered()
		goroutines := r.goroutines()

		r.network.cut(true)
		for d := range 7*weeks() - 5 {
			r.upload(fmt.Sprintf("day-%02d.csv", d), 100)
			r.interrupt(fmt.Sprintf("day-%02d.part-of-it", d))
			r.pass(day)
		}
		r.pass(3 * day) // what was interrupted has expired
		r.wantOnlyWaiting()
		changes, before := r.disk.Len(), r.goroutines()
		r.pass(2 * day)
		assert.Equal(t, changes, r.disk.Len(), "the disk is left alone while nothing comes: %v", r.disk.Ops()[changes:])
		r.wantGoroutines(before)
		r.upload("last.bin", 200_000) // not earlier, as each try reads and packs it
		r.pass(time.Hour)
		r.wantOnlyWaiting()
		r.wantFewLines()
		r.wantReminders(time.Duration(7*weeks()) * day)
		assert.NotEmpty(t, r.log.find("[WARNING] EchoStream cannot be reached", "failures="), "repeated, with a count")

		r.network.cut(false)
		r.pass(time.Hour)
		r.wantDelivered()
		r.wantGoroutines(goroutines)
		r.log.wait(t, "[INFO] EchoStream can be reached again", "failures=", "lasted=")
		r.log.wait(t, "[INFO] Sending works again", "failures=")
		r.wantFewLines()
	})
}

// What was out of reach for long comes back, and delivery goes on by itself.
func TestLongOutages(t *testing.T) {
	for name, c := range map[string]struct {
		begin, end func(*outageRig)
		lasts      time.Duration
		line       string // that tells of it
	}{
		"login": {
			// Each try is a whole log-in with its arithmetic, so this one is shorter.
			lasts: 2 * time.Hour,
			begin: func(r *outageRig) {
				r.cloud.SetPassword("ftp-app", "another-password")
				r.cloud.Clock().Advance(31 * day) // nothing of before is valid any more
			},
			end:  func(r *outageRig) { r.cloud.SetPassword("ftp-app", r.password) },
			line: "[ERROR] EchoStream refuses the node's log-in",
		},
		"credentials": {
			lasts: day,
			begin: func(r *outageRig) {
				r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.ExpiredCredentials})
				r.cloud.Fault(echotest.Fault{Service: echotest.Audit, Kind: echotest.ExpiredCredentials})
			},
			end:  func(r *outageRig) { r.cloud.ClearFaults() },
			line: "[ERROR] Sending fails", // new ones are refused too
		},
		"edges": {
			lasts: 6 * time.Hour,
			begin: func(r *outageRig) {
				for _, edge := range r.edges {
					r.cloud.RemoveEdge(edge)
				}
			},
			end: func(r *outageRig) {
				for _, edge := range r.edges {
					r.cloud.AddEdge("", edge)
				}
			},
			line: "[WARNING] No targets: files are kept",
		},
		"one edge refuses": {
			lasts: day,
			begin: func(r *outageRig) {
				r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Edge: "erp", Kind: echotest.Denied})
			},
			end:  func(r *outageRig) { r.cloud.ClearFaults() },
			line: "[ERROR] Sending fails", // a person has to look at the edge
		},
		"SQS throttles": {
			lasts: day,
			begin: func(r *outageRig) { r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Throttled}) },
			end:   func(r *outageRig) { r.cloud.ClearFaults() },
			line:  "[WARNING] Sending fails",
		},
		"bulk storage": {
			lasts: 3 * time.Hour,
			begin: func(r *outageRig) { r.cloud.Fault(echotest.Fault{Service: echotest.S3, Kind: echotest.ExpiredURL}) },
			end:   func(r *outageRig) { r.cloud.ClearFaults() },
			line:  "[WARNING] Preparing files fails",
		},
		"audit": {
			lasts: day,
			begin: func(r *outageRig) { r.cloud.Fault(echotest.Fault{Service: echotest.Audit, Kind: echotest.ServerError}) },
			end:   func(r *outageRig) { r.cloud.ClearFaults() },
			line:  "[WARNING] Auditing fails",
		},
		"the API": {
			lasts: day,
			begin: func(r *outageRig) {
				r.cloud.Fault(echotest.Fault{Service: echotest.AppSync, Kind: echotest.ServerError})
			},
			end:  func(r *outageRig) { r.cloud.ClearFaults() },
			line: "[WARNING] EchoStream cannot be reached",
		},
		"stopped": {
			lasts: 6 * time.Hour,
			begin: func(r *outageRig) { r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = true }) },
			end:   func(r *outageRig) { r.cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false }) },
			line:  "[WARNING] the node is stopped in EchoStream",
		},
	} {
		t.Run(name, func(t *testing.T) {
			outage(t, func(r *outageRig) {
				r.upload("before.txt", 10)
				r.upload("before.bin", 300_000)
				r.pass(time.Minute)
				r.wantDelivered()
				goroutines := r.goroutines()

				c.begin(r)
				r.pass(15 * time.Minute) // the definition is read
				for i := range 6 {
					r.upload(fmt.Sprintf("%d.csv", i), 100)
					if i%4 == 0 { // each try reads and packs it
						r.upload(fmt.Sprintf("%d.bin", i), 200_000)
					}
					r.pass(c.lasts / 10)
				}
				r.pass(c.lasts / 10)
				changes, before := r.disk.Len(), r.goroutines()
				r.pass(c.lasts * 3 / 10)
				assert.Equal(t, changes, r.disk.Len(), "the disk is left alone while nothing comes: %v", r.disk.Ops()[changes:])
				r.wantGoroutines(before)
				r.wantFewLines()
				assert.NotEmpty(t, r.log.find(c.line), "%s", r.log)
				if name != "the API" { // whose absence keeps nothing here
					r.wantReminders(c.lasts)
				}

				c.end(r)
				r.pass(time.Hour)
				r.wantDelivered()
				r.wantGoroutines(goroutines)
				r.wantFewLines()
			})
		})
	}
}

// What waits over restarts is delivered under the tracking ids that it had.
func TestRestartInALongOutage(t *testing.T) {
	outage(t, func(r *outageRig) {
		r.upload("before.txt", 10)
		r.pass(time.Minute)
		r.network.cut(true)
		for i := range 3 {
			r.upload(fmt.Sprintf("%d.csv", i), 100)
			r.upload(fmt.Sprintf("%d.bin", i), 200_000)
			r.pass(8 * time.Hour) // not longer, as each try to log in begins with arithmetic
			r.restart()
		}
		r.wantOnlyWaiting()
		r.network.cut(false)
		r.pass(time.Hour)
		r.wantDelivered()
	})
}

// A start needs no room: what waits is delivered, and that makes room again.
func TestStartOnAFullDisk(t *testing.T) {
	outage(t, func(r *outageRig) {
		r.network.cut(true)
		r.upload("1.csv", 100)
		r.upload("2.bin", 200_000)
		r.pass(time.Minute)
		r.stop()
		r.disk.SetCapacity(1)
		r.network.cut(false)
		r.start()
		r.pass(time.Minute)
		r.wantDelivered()
		r.log.wait(r.t, "[WARNING] the data volume takes no writes", "no space left on device")

		r.disk.SetCapacity(0)
		r.pass(time.Hour) // the definition is read again
		r.log.wait(r.t, "[INFO] the data volume takes writes again")
		assert.Contains(r.t, r.files()["status"], "EchoStream can be reached")
	})
}

// upload has a client upload a file and read its 226.
func (r *outageRig) upload(name string, size int64) {
	r.t.Helper()
	// Two that are finished in one instant of the fake time would have the same times on the disk.
	r.pass(time.Second)
	u := r.begin(name, size)
	require.NoError(r.t, u.Commit())
	r.sent = append(r.sent, outageFile{name, size})
}

// interrupt has a client die in the middle of an upload.
func (r *outageRig) interrupt(name string) {
	r.t.Helper()
	require.NoError(r.t, r.begin(name, 1000).Interrupt(errors.New("the client hung up")))
}

// pass lets time pass; what is due then has been done.
func (r *outageRig) pass(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

// goroutines counts those that live, when all of them wait.
func (r *outageRig) goroutines() int {
	synctest.Wait()
	return runtime.NumGoroutine()
}

// wantGoroutines wants about as many as before: a few come and go with the work, and with the cloud's listeners. Of thousands of
// tries, none may leave one behind.
func (r *outageRig) wantGoroutines(before int) {
	r.t.Helper()
	assert.InDelta(r.t, before, r.goroutines(), 10, "goroutines stay")
}

// wantDelivered wants all that was acknowledged on each edge, in order and byte for byte, with its audit, and nothing left.
func (r *outageRig) wantDelivered() {
	r.t.Helper()
	audited := map[string]bool{}
	for _, record := range r.cloud.AuditRecords() {
		audited[record.TrackingID] = true
	}
	for _, edge := range r.edges {
		messages := r.cloud.Messages(edge)
		require.Len(r.t, messages, len(r.sent), "%s\n%s", edge, r.log)
		for i, m := range messages {
			want := new(bytes.Buffer)
			_, err := io.Copy(want, pattern(r.sent[i].size))
			require.NoError(r.t, err)
			got := new(bytes.Buffer)
			file, err := r.cloud.Decode(r.t.Context(), m, got)
			if r.cloud.Clock().Now().Sub(m.Sent) < 6*day { // EchoStream keeps no object for longer
				require.NoError(r.t, err)
				require.True(r.t, bytes.Equal(want.Bytes(), got.Bytes()), r.sent[i].name)
			}
			assert.Equal(r.t, r.sent[i].name, file.Name)
			assert.True(r.t, audited[m.TrackingID], r.sent[i].name)
			assert.Zero(r.t, m.Duplicates, r.sent[i].name)
		}
	}
	assert.Equal(r.t, r.ids(r.edges[0]), r.ids(r.edges[1]))
	for _, line := range r.log.find("[INFO] File accepted") {
		assert.Contains(r.t, r.ids(r.edges[0]), acceptedID.FindStringSubmatch(line)[1], "the tracking id is that of the start")
	}
	for name := range r.files() {
		assert.NotEqual(r.t, "drop", outageTop(name), name)
		assert.False(r.t, outageTop(name) == "outbox" && path.Ext(name) != ".journal" && name != "outbox/reserve", name)
	}
	assert.Zero(r.t, r.outbox.Stats().Entries)
}

// wantOnlyWaiting wants nothing on the volume but the files that wait, once each, and the little that the node needs.
func (r *outageRig) wantOnlyWaiting() {
	r.t.Helper()
	var data, journals, others []string
	bytes := 0
	for name, content := range r.files() {
		switch ext := path.Ext(name); {
		case outageTop(name) == "outbox" && ext == ".data":
			data = append(data, name)
		case outageTop(name) == "outbox" && ext == ".journal":
			journals = append(journals, name)
			bytes += len(content)
		default:
			others = append(others, name)
		}
	}
	assert.Len(r.t, data, r.outbox.Stats().Entries)
	assert.NotEmpty(r.t, data)
	assert.Less(r.t, len(journals), 10, "the journal is kept small")
	assert.Less(r.t, bytes, 4096*(len(data)+10), "the journal is kept small")
	assert.Subset(r.t, []string{"definition", "format", "status", "outbox/reserve"}, others) // no temporary file, and nothing in partial, drop and failed
}

// files are those on the volume, without directories.
func (r *outageRig) files() map[string]string {
	all := r.disk.Files()
	maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasSuffix(name, "/") })
	return all
}

const reminder = "[WARNING] Files wait to be delivered"

// wantReminders wants the log to say what waits in each hour of an outage, and hardly oftener.
func (r *outageRig) wantReminders(lasted time.Duration) {
	r.t.Helper()
	lines := r.log.find(reminder, "waiting=", "since=", "error=")
	hours := int(lasted / time.Hour)
	assert.InDelta(r.t, hours, len(lines), float64(3+hours/20), "in %v: %s", lasted, lines)
}

// wantFewLines wants a log that a person can read.
func (r *outageRig) wantFewLines() {
	r.t.Helper()
	var lines []string
	for line := range strings.Lines(r.log.everything()) {
		// These come once for each file, or each run, or hour.
		if !strings.HasPrefix(line, reminder) && !strings.HasPrefix(line, "[INFO] File ") && !strings.HasPrefix(line, "[INFO] ftpnode st") && !strings.HasPrefix(line, "[WARNING] upload interrupted") && !strings.Contains(line, "expired") {
			lines = append(lines, line)
		}
	}
	assert.Less(r.t, len(lines), maxOutageLines, "the first of them:\n%s", strings.Join(lines[:min(len(lines), 20)], ""))
}

func (r *outageRig) ids(edge string) (ids []string) {
	for _, m := range r.cloud.Messages(edge) {
		ids = append(ids, m.TrackingID)
	}
	return ids
}

func outageTop(name string) string {
	top, _, _ := strings.Cut(name, "/")
	return top
}
