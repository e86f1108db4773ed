package echostream_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// count is how often the log has a text.
func (w *world) count(text string) int { return strings.Count(w.log.String(), text) }

const wrongClock = "the machine's clock is wrong"

// deliver does what a node does with a file: it is uploaded, sent and audited.
func (w *world) deliver(t *testing.T, bulk *echostream.Bulk, name string) {
	t.Helper()
	object, err := bulk.Upload(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(name)), nil })
	require.NoError(t, err)
	left := object.Expires.Sub(w.client.Now())
	assert.InDelta(t, 7*day, left, float64(time.Minute), "a sender that looks at it would upload it again")
	m := message(name)
	require.NoError(t, w.send(t, m)[0])
	require.NoError(t, w.client.Audit(t.Context(), w.node, "echo.file",
		[]echostream.AuditRecord{{TrackingID: m.TrackingID, DateTime: w.client.Now()}})[0])
}

// A machine that was 8 days ahead uploaded one file 225 times in 6 hours, sent nothing, and no line named the clock.
func TestMachineClockDecidesNothing(t *testing.T) {
	for _, ahead := range []time.Duration{
		-30 * year, -8 * day, -3 * time.Hour, -10 * time.Minute, 10 * time.Minute, 3 * time.Hour, 8 * day, 30 * year,
	} {
		for _, atStart := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s atStart=%t", ahead, atStart), func(t *testing.T) {
				first := time.Duration(0)
				if atStart {
					first = ahead
				}
				w := newWorldAt(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}}, first)
				w.read(t)
				bulk := w.client.NewBulk(echostream.BulkOptions{})
				w.deliver(t, bulk, "1")
				w.machine.set(ahead)
				w.deliver(t, bulk, "2")
				w.deliver(t, bulk, "3")
				assert.Equal(t, 1, w.Requests(echotest.AppSync, "GetBulkDataStorage"), "upload URLs are good for half an hour")
				assert.Equal(t, 1, w.Requests(echotest.AppSync, "GetApp"), "credentials are for an hour")
				assert.Equal(t, 1, w.Requests(echotest.Cognito, "InitiateAuth"))
				assert.Equal(t, 1, w.count(wrongClock), w.log)
				direction := " ahead"
				if ahead < 0 {
					direction = " behind"
				}
				assert.Contains(t, w.log.String(), `off="`+ahead.Abs().String()+direction+`"`)

				// What ends, ends by the cloud's time.
				w.Clock().Advance(2 * time.Hour)
				w.deliver(t, bulk, "4")
				assert.Equal(t, 2, w.Requests(echotest.AppSync, "GetBulkDataStorage"))
				assert.Equal(t, 2, w.Requests(echotest.AppSync, "GetApp"))
				assert.Equal(t, 1, w.Requests(echotest.Cognito, "RefreshToken"))
				assert.Equal(t, 1, w.count(wrongClock), "it is said once")

				w.machine.set(0)
				w.deliver(t, bulk, "5")
				assert.Equal(t, 1, w.count("the machine's clock is right again"))
				assert.Equal(t, []string{"1", "2", "3", "4", "5"}, bodies(w.Messages("target")))
				assert.Equal(t, 5, w.Requests(echotest.S3, "PutObject"), "one upload each")
				assert.Equal(t, 5, w.Requests(echotest.SQS, "SendMessageBatch"))
				assert.Equal(t, 5, w.Requests(echotest.Audit, "PutRecords"))
				assert.Equal(t, 1, w.Requests(echotest.Cognito, "RespondToAuthChallenge"), "nothing but what is out of date was refused")
			})
		}
	}
}

// The counting of time can be wrong too, such as when a virtual machine was paused: what is refused for its time is
// cured by the refusal.
func TestPausedMachine(t *testing.T) {
	w := newWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}})
	bulk := w.client.NewBulk(echostream.BulkOptions{})
	w.deliver(t, bulk, "1")
	pause := func(d time.Duration) {
		w.machine.pause(d)
		w.Clock().Advance(d)
	}
	pause(20 * time.Minute)
	require.NoError(t, w.send(t, message("2"))[0])
	pause(20 * time.Minute)
	require.NoError(t, w.client.Audit(t.Context(), w.node, "echo.file", []echostream.AuditRecord{{TrackingID: "2", DateTime: w.client.Now()}})[0])
	pause(40 * day)
	require.NoError(t, w.send(t, message("3"))[0])
	w.read(t)
	w.deliver(t, bulk, "4")
	assert.Equal(t, []string{"1", "2", "3", "4"}, bodies(w.Messages("target")))
	assert.Zero(t, w.count(wrongClock), "the machine's is right")
}

// Before the first answer there is only the machine's clock to look at a certificate with.
func TestMachineClockAndCertificates(t *testing.T) {
	for _, ahead := range []time.Duration{-8 * day, 15 * year} {
		t.Run(ahead.String(), func(t *testing.T) {
			w := newWorldAt(t, echotest.Options{TLS: true}, ahead)
			for range 3 {
				_, err := w.client.Definition(t.Context())
				require.Error(t, err)
				assert.ErrorContains(t, err, "check the machine's clock")
				assert.True(t, echostream.NeedsOperator(err))
				assert.False(t, echostream.IsPermanent(err))
			}
			assert.Equal(t, 1, w.count(wrongClock), w.log)
			assert.Contains(t, w.log.String(), "machine="+w.machine.now().UTC().Format("2006-01-02"))

			w.machine.set(0)
			w.read(t)
			require.NoError(t, w.send(t, message("1"))[0])
			// Later it is known what time it is, for new connections too.
			w.machine.set(ahead)
			for _, s := range echotest.Services() {
				w.Off(s)
				w.On(s)
			}
			_, _ = w.client.Definition(t.Context()) // it may find the connection that was cut
			w.read(t)
			m := message("2")
			_ = w.send(t, m)
			require.NoError(t, w.send(t, m)[0])
			assert.Equal(t, 2, w.count(wrongClock), w.log)
			assert.Equal(t, []string{"1", "2"}, bodies(w.Messages("target")))
		})
	}
}

func TestNothingIsSentByAKeptDefinition(t *testing.T) {
	w := newWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}})
	read := w.node
	kept := *read
	kept.Kept = true
	w.node = &kept
	records := []echostream.AuditRecord{{TrackingID: "1", DateTime: w.client.Now()}}
	for _, errs := range [][]error{w.send(t, message("1"), message("2")), w.client.Audit(t.Context(), w.node, "echo.file", records)} {
		for _, err := range errs {
			assert.ErrorIs(t, err, echostream.ErrKept)
			assert.False(t, echostream.IsPermanent(err))
			assert.False(t, echostream.IsUnknown(err))
		}
	}
	assert.Empty(t, w.Messages("target"))
	assert.Empty(t, w.AuditRecords())
	w.node = read
	require.NoError(t, w.send(t, message("1"))[0])
}

// Credentials are narrowed when they are made: an edge that was drawn since is closed to them.
func TestCredentialsFromBeforeAnEdge(t *testing.T) {
	w := newWorld(t, echotest.Options{Targets: []string{"a"}})
	require.NoError(t, w.send(t, message("1"))[0])
	w.AddEdge("", "b")
	w.AddEdge("", "c")
	w.read(t)
	for _, edge := range w.node.Targets {
		require.NoError(t, w.client.Send(t.Context(), w.node, edge.Queue, []echostream.Message{message("2")})[0])
	}
	assert.Equal(t, 2, w.Requests(echotest.AppSync, "GetApp"), "the new ones open both")
	for target, want := range map[string][]string{"a": {"1", "2"}, "b": {"2"}, "c": {"2"}} {
		assert.Equal(t, want, bodies(w.Messages(target)))
	}
}

// Edges that stay closed have the credentials replaced once each, and once more when the definition changes.
func TestClosedEdges(t *testing.T) {
	w := newWorld(t, echotest.Options{Targets: []string{"a", "b", "open"}})
	w.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Denied, Edge: "a"})
	script := w.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Denied, Edge: "b"})
	round := func() {
		t.Helper()
		for _, edge := range w.node.Targets {
			err := w.client.Send(t.Context(), w.node, edge.Queue, []echostream.Message{message("x")})[0]
			if edge.Name == "open" {
				require.NoError(t, err)
				continue
			}
			assert.ErrorIs(t, err, echostream.ErrEdgeGone)
			assert.ErrorContains(t, err, "AccessDenied")
			assert.ErrorContains(t, err, "new credentials were refused too: look at the edge")
			assert.True(t, echostream.NeedsOperator(err))
			assert.False(t, echostream.IsUnknown(err))
		}
	}
	round()
	assert.Equal(t, 3, w.Requests(echotest.AppSync, "GetApp"))
	for range 3 {
		w.read(t) // the same
		round()
	}
	assert.Equal(t, 3, w.Requests(echotest.AppSync, "GetApp"))
	w.ExpireCredentials()
	round()
	assert.Equal(t, 4, w.Requests(echotest.AppSync, "GetApp"), "new ones were refused before")
	w.UpdateNode(w.node.Name, func(n *echotest.Node) { n.Config = `{"a":1}` })
	w.read(t)
	round()
	assert.Equal(t, 6, w.Requests(echotest.AppSync, "GetApp"))

	// One that was opened, and is closed again, counts as new.
	script.Clear()
	require.NoError(t, w.client.Send(t.Context(), w.node, w.node.Targets[1].Queue, []echostream.Message{message("y")})[0])
	w.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Denied, Edge: "b"})
	round()
	assert.Equal(t, 7, w.Requests(echotest.AppSync, "GetApp"))
}

func TestInactiveApp(t *testing.T) {
	w := newWorldAt(t, echotest.Options{App: echotest.App{Name: "app", Inactive: true}}, 0)
	_, err := w.client.Definition(t.Context())
	assert.ErrorIs(t, err, echostream.ErrAppInactive)
	assert.ErrorIs(t, err, echostream.ErrConfiguration)
	assert.True(t, echostream.NeedsOperator(err))
	assert.ErrorContains(t, err, "EchoStream refuses this app: it was removed, or is not active")
	assert.NotContains(t, err.Error(), "PASSWORD")
	w.UpdateApp("app", func(a *echotest.App) { a.Inactive = false })
	w.read(t)
	require.NoError(t, w.send(t, message("1"))[0])
}

// A reply that was lost is an outcome that is unknown; a connection that was refused is not.
func TestCloudUnknownOutcomes(t *testing.T) {
	w := newWorld(t, echotest.Options{})
	require.NoError(t, w.send(t, message("1"))[0])
	m := message("2")
	script := w.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.ReplyLost})
	assert.True(t, echostream.IsUnknown(w.send(t, m)[0]))
	script.Clear()
	w.Off(echotest.SQS)
	err := w.send(t, m)[0]
	assert.False(t, echostream.IsUnknown(err), "%v", err)
	w.On(echotest.SQS)
	require.NoError(t, w.send(t, m)[0])
	assert.Equal(t, []string{"1", "2"}, bodies(w.Messages("target")))
	assert.NotContains(t, err.Error(), "http://")
}
