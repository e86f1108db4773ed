package echostream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// receiving is a call of Receive and what its handler got.
type receiving struct {
	*world
	t     *testing.T
	stop  context.CancelFunc
	ended chan struct{}
	err   error // when ended is closed

	mu   sync.Mutex
	got  []echostream.ReceivedMessage
	seen chan struct{} // closed and replaced at each message
}

// receiverWorld is a world with one source or more. Its test runs beside others, since it waits most of the time: so it must
// not go by the process's environment.
func receiverWorld(t *testing.T, opts echotest.Options) *world {
	t.Helper()
	w := receiverWorldAt(t, opts, 0)
	w.read(t)
	return w
}

// receiverWorldAt is one whose machine's clock is so much ahead, and where nothing was asked yet.
func receiverWorldAt(t *testing.T, opts echotest.Options, ahead time.Duration) *world {
	t.Helper()
	t.Parallel()
	if opts.Sources == nil {
		opts.Sources = []string{"source"}
	}
	if opts.Node.ReceiveMessageType == "" {
		opts.Node.ReceiveMessageType = "echo.file"
	}
	opts.TempDir = t.TempDir()
	cloud := echotest.NewCloud(opts)
	t.Cleanup(cloud.Close)
	variables := cloud.Environment()
	aws := []func(*config.LoadOptions) error{config.WithBaseEndpoint(cloud.URL())}
	if key := variables["AWS_ACCESS_KEY_ID"]; key != "" {
		aws = append(aws, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(
			key, variables["AWS_SECRET_ACCESS_KEY"], variables["AWS_SESSION_TOKEN"])))
	}
	return worldOf(t, cloud, func(name string) string { return variables[name] }, ahead, aws...)
}

// receive runs Receive until the test ends. handle is called when a message was noted; nil acknowledges everything.
func (w *world) receive(t *testing.T, opts echostream.ReceiveOptions, handle echostream.Handler) *receiving {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &receiving{world: w, t: t, stop: stop, ended: make(chan struct{}), seen: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = w.client.Receive(ctx, opts, func(ctx context.Context, m echostream.ReceivedMessage) error {
			r.mu.Lock()
			r.got = append(r.got, m)
			close(r.seen)
			r.seen = make(chan struct{})
			r.mu.Unlock()
			if handle == nil {
				return nil
			}
			return handle(ctx, m)
		})
	}()
	t.Cleanup(func() { r.end() })
	return r
}

// end stops it. TestMain checks that nothing of it is left.
func (r *receiving) end() error {
	r.t.Helper()
	r.stop()
	select {
	case <-r.ended:
	case <-time.After(time.Minute):
		stacks := make([]byte, 1<<20)
		require.Fail(r.t, "Receive does not return", "%s", stacks[:runtime.Stack(stacks, true)])
	}
	return r.err
}

func (r *receiving) messages() []echostream.ReceivedMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *receiving) bodies() (list []string) {
	for _, m := range r.messages() {
		list = append(list, m.Body)
	}
	return list
}

// await waits until the handler was called n times.
func (r *receiving) await(n int) []echostream.ReceivedMessage {
	r.t.Helper()
	timeout := time.After(time.Minute)
	for {
		r.mu.Lock()
		got, seen := slices.Clone(r.got), r.seen
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-seen:
		case <-timeout:
			require.Fail(r.t, "messages are missing", "got %d of %d; the log: %s", len(got), n, r.log)
		}
	}
}

// empty waits until the queue of the edge is empty.
func (w *world) empty(t *testing.T, edge string) {
	t.Helper()
	require.Eventually(t, func() bool {
		visible, inFlight := w.Waiting(edge)
		return visible+inFlight == 0
	}, time.Minute, time.Millisecond)
}

// logged waits until a text was logged.
func (w *world) logged(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), text) }, time.Minute, time.Millisecond, text)
}

const edge = "source>ftp-node"

func (w *world) put(bodies ...string) {
	for _, b := range bodies {
		w.Put("source", "ftp-node", b, "")
	}
}

func TestReceive(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	previous := []string{echostream.NewTrackingID(), echostream.NewTrackingID()}
	sent := w.PutRaw("source", "ftp-node", echotest.Raw{Body: "0", GroupID: "a_group", Attributes: map[string]string{
		"trackingId": "0123", "prevTrackingIds": fmt.Sprintf("[%q,%q]", previous[0], previous[1])}})
	for i := range 30 {
		w.put(fmt.Sprint(i + 1))
	}
	r := w.receive(t, echostream.ReceiveOptions{}, nil)
	got := r.await(31)
	w.empty(t, edge)
	for i, m := range got {
		assert.Equal(t, fmt.Sprint(i), m.Body, "in order")
		assert.Equal(t, 1, m.Receives)
		assert.Equal(t, "source", m.Source)
		assert.Equal(t, "echo.file", m.Type)
	}
	assert.Equal(t, echostream.Message{TrackingID: "0123", PrevTrackingIDs: previous, Body: "0", Group: "a_group"}, got[0].Message)
	assert.Equal(t, sent.MessageID, got[0].ID)
	assert.WithinDuration(t, sent.Sent, got[0].Sent, time.Millisecond)
	assert.Equal(t, w.Messages(edge)[1].TrackingID, got[1].TrackingID)
	assert.Empty(t, got[1].PrevTrackingIDs)
	assert.LessOrEqual(t, w.Requests(echotest.SQS, "ReceiveMessage"), 6, "ten at a time")
	assert.LessOrEqual(t, w.Requests(echotest.SQS, "ChangeMessageVisibilityBatch"), 2)
	require.NoError(t, r.end())
	assert.NotContains(t, w.log.String(), "level=WARN")
}

// B of 2: in the Python library each of these ends the edge's thread for good.
func TestReceiveWhateverIsAMessage(t *testing.T) {
	w := receiverWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}})
	odd := []echotest.Raw{
		{Body: "bare"},
		{Body: "odd list", Attributes: map[string]string{"trackingId": "1", "prevTrackingIds": "no list"}},
		{Body: "object", Attributes: map[string]string{"trackingId": "2", "prevTrackingIds": `{"a":1}`}},
		{Body: "numbers", Attributes: map[string]string{"trackingId": "3", "prevTrackingIds": `[1]`}},
		{Body: strings.Repeat("x", 1<<20), Attributes: map[string]string{"trackingId": "4"}},
		{Body: "foreign", Attributes: map[string]string{"trackingId": "5", "more": "of them"}},
	}
	var ids []string
	for _, m := range odd {
		ids = append(ids, w.PutRaw("source", "ftp-node", m).MessageID)
	}
	failed := false
	r := w.receive(t, echostream.ReceiveOptions{Visibility: time.Second}, func(_ context.Context, m echostream.ReceivedMessage) error {
		if m.Body == "bare" && !failed {
			failed = true
			return errors.New("not yet")
		}
		return nil
	})
	got := r.await(len(odd) + 1)
	w.empty(t, edge)
	assert.Equal(t, strings.ReplaceAll(ids[0], "-", ""), got[0].TrackingID, "one is made up")
	assert.Equal(t, got[0].TrackingID, got[1].TrackingID, "the same each time")
	for i, m := range got[1:] {
		assert.Equal(t, odd[i].Body, m.Body)
		assert.Empty(t, m.PrevTrackingIDs)
		if i > 0 {
			assert.Equal(t, odd[i].Attributes["trackingId"], m.TrackingID)
		}
	}
	require.NoError(t, r.end())
	assert.Len(t, w.AuditRecords(), len(odd), "each is audited")
}

// B of 4: the Python library hands good messages back with a receive spent because their batch held a bad one.
func TestReceivePoison(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	w.SetMaxReceiveCount(edge, 3)
	w.put("first") // with it the receiver learns that it can take ten at a time
	for _, body := range []string{"poison", "1", "2", "3", "4"} {
		w.put(body)
	}
	for _, body := range []string{"a", "b"} {
		w.PutRaw("source", "ftp-node", echotest.Raw{Body: body, GroupID: "other"})
	}
	r := w.receive(t, echostream.ReceiveOptions{Visibility: time.Second}, func(_ context.Context, m echostream.ReceivedMessage) error {
		if m.Body == "poison" {
			return errors.New("it does not work")
		}
		return nil
	})
	r.await(10)
	w.empty(t, edge)
	require.NoError(t, r.end())
	dead := w.DeadLetters(edge)
	require.Len(t, dead, 1)
	assert.Equal(t, "poison", dead[0].Body)
	var group, other []string
	for _, m := range r.messages() {
		if m.Group == "other" {
			other = append(other, m.Body)
			continue
		}
		group = append(group, m.Body)
		if m.Body != "poison" {
			assert.LessOrEqual(t, m.Receives, 2, "%s has not spent its receives with the poison", m.Body)
		}
	}
	assert.Equal(t, []string{"first", "poison", "poison", "poison", "1", "2", "3", "4"}, group)
	assert.Equal(t, []string{"a", "b"}, other)
	assert.Less(t, slices.Index(r.bodies(), "b"), slices.Index(r.bodies(), "1"), "the other group did not wait")
	assert.Equal(t, 2, strings.Count(w.log.String(), "a message failed"), "the first time and the second, not the third")
}

// B of 4: what is behind a message that failed does not wait for the visibility timeout, and the message does.
func TestReceiveHandsTheRestOfTheGroupBack(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	w.put("warm up", "bad", "1", "2")
	failing := true
	r := w.receive(t, echostream.ReceiveOptions{}, func(_ context.Context, m echostream.ReceivedMessage) error {
		if m.Body == "bad" && failing {
			return errors.New("not yet")
		}
		return nil
	})
	r.await(2)
	require.Eventually(t, func() bool { visible, inFlight := w.Waiting(edge); return visible == 2 && inFlight == 1 }, time.Minute, time.Millisecond)
	failing = false
	w.Clock().Advance(time.Minute)
	r.await(5)
	w.empty(t, edge)
	assert.Equal(t, []string{"warm up", "bad", "bad", "1", "2"}, r.bodies())
}

// A machine that slept holds messages no more: they come again, and nothing is handled twice or out of order.
func TestReceiveAfterSleep(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	w.put("warm up", "slow", "1", "2", "3")
	r := w.receive(t, echostream.ReceiveOptions{}, func(_ context.Context, m echostream.ReceivedMessage) error {
		if m.Body == "slow" {
			w.Clock().Advance(time.Minute)
		}
		return nil
	})
	got := r.await(5)
	w.empty(t, edge)
	assert.Equal(t, []string{"warm up", "slow", "1", "2", "3"}, r.bodies())
	assert.Equal(t, 1, got[1].Receives)
	assert.Equal(t, 2, got[2].Receives, "it was not begun with a receipt that had ended")
}

// B of 4.
func TestReceivePermanent(t *testing.T) {
	t.Parallel()
	refuse := func(_ context.Context, m echostream.ReceivedMessage) error {
		if strings.HasPrefix(m.Body, "bad") {
			return echostream.Permanent(errors.New("no file"))
		}
		return nil
	}
	t.Run("a hook takes it", func(t *testing.T) {
		w := receiverWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}})
		w.put("bad", "good", "bad, and the hook fails first", "best")
		var asides []string
		r := w.receive(t, echostream.ReceiveOptions{Visibility: time.Second,
			SetAside: func(_ context.Context, m echostream.ReceivedMessage, err error) error {
				asides = append(asides, fmt.Sprint(m.Body, ": ", err))
				if len(asides) == 2 {
					return errors.New("the disk is full")
				}
				return nil
			}}, refuse)
		r.await(5)
		w.empty(t, edge)
		require.NoError(t, r.end())
		assert.Equal(t, []string{"bad: no file", "bad, and the hook fails first: no file", "bad, and the hook fails first: no file"}, asides)
		assert.Equal(t, "best", r.bodies()[4])
		assert.Len(t, w.AuditRecords(), 2, "those that were handled")
	})
	t.Run("no hook", func(t *testing.T) {
		w := receiverWorld(t, echotest.Options{})
		w.SetMaxReceiveCount(edge, 1)
		w.put("bad", "good")
		r := w.receive(t, echostream.ReceiveOptions{Visibility: time.Second}, refuse)
		r.await(2)
		w.empty(t, edge)
		assert.Len(t, w.DeadLetters(edge), 1)
		assert.Contains(t, w.log.String(), "a message was refused for good")
	})
}

func TestReceivePanic(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	w.put("a", "b")
	var once sync.Once
	r := w.receive(t, echostream.ReceiveOptions{Visibility: time.Second}, func(context.Context, echostream.ReceivedMessage) error {
		once.Do(func() { panic("help") })
		return nil
	})
	r.await(3)
	w.empty(t, edge)
	assert.Equal(t, []string{"a", "a", "b"}, r.bodies())
	assert.Contains(t, w.log.String(), "the handler panicked: help")
}

// B of 5: the Python library gives a slow handler the message twice, in two threads at once, out of order.
func TestReceiveSlowHandler(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	w.put("slow", "a", "b", "c")
	r := w.receive(t, echostream.ReceiveOptions{Visibility: 2 * time.Second, Concurrency: 4}, func(_ context.Context, m echostream.ReceivedMessage) error {
		if m.Body != "slow" {
			return nil
		}
		before := w.Requests(echotest.SQS, "ChangeMessageVisibilityBatch")
		for w.Requests(echotest.SQS, "ChangeMessageVisibilityBatch") < before+3 { // about two visibilities
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	})
	r.await(4)
	w.empty(t, edge)
	require.NoError(t, r.end())
	assert.Equal(t, []string{"slow", "a", "b", "c"}, r.bodies())
	for _, m := range r.messages() {
		assert.Equal(t, 1, m.Receives, m.Body)
	}
}

// B of 5: EchoStream's own nodes may not change the visibility.
func TestReceiveWhereVisibilityIsDenied(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	denied := w.Fault(echotest.Fault{Service: echotest.SQS, Operation: "ChangeMessageVisibilityBatch", Kind: echotest.Denied})
	w.put("slow", "a", "b", "c")
	r := w.receive(t, echostream.ReceiveOptions{}, func(_ context.Context, m echostream.ReceivedMessage) error {
		if m.Body == "slow" {
			w.Clock().Advance(time.Minute) // it becomes visible under way
		}
		return nil
	})
	r.await(4)
	w.empty(t, edge)
	require.NoError(t, r.end())
	assert.Equal(t, []string{"slow", "a", "b", "c"}, r.bodies(), "the slow one comes again, and is deleted only")
	for _, m := range r.messages() {
		assert.Equal(t, 1, m.Receives, "%s was not taken before its turn", m.Body)
	}
	assert.Equal(t, 1, denied.Hits(), "asked once")
	assert.Equal(t, 1, w.Requests(echotest.AppSync, "GetApp"), "no new credentials for it")
	assert.Equal(t, 1, strings.Count(w.log.String(), "may not renew"))
}

// B of 3.
func TestReceiveLostDeletes(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]echotest.Fault{
		"in part":             {Kind: echotest.Partial, Entries: []int{0}, Count: 3},
		"reply lost":          {Kind: echotest.ReplyLost, Count: 2}, // a client may make up for the first
		"down":                {Kind: echotest.Down, Count: 3},
		"error":               {Kind: echotest.ServerError, Count: 2},
		"denied":              {Kind: echotest.Denied, Count: 1},
		"expired credentials": {Kind: echotest.ExpiredCredentials, Count: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := receiverWorld(t, echotest.Options{})
			fault.Service, fault.Operation = echotest.SQS, "DeleteMessageBatch"
			w.Fault(fault)
			w.put("a", "b", "c")
			r := w.receive(t, echostream.ReceiveOptions{Visibility: 2 * time.Second}, nil)
			r.await(3)
			w.empty(t, edge)
			require.NoError(t, r.end())
			assert.Equal(t, []string{"a", "b", "c"}, r.bodies(), "each is handled once")
		})
	}
}

// B of 1: the reply to a poll is lost, and its messages would be hidden for a while, with a receive spent.
func TestReceiveLostPoll(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	w.put("a", "b")
	lost := w.Fault(echotest.Fault{Service: echotest.SQS, Operation: "ReceiveMessage", Kind: echotest.ReplyLost, Count: 2})
	r := w.receive(t, echostream.ReceiveOptions{}, nil)
	for _, m := range r.await(2) {
		assert.Equal(t, 1, m.Receives)
	}
	assert.Equal(t, 2, lost.Hits())
	w.empty(t, edge)
}

// B of 7.
func TestReceiveThroughTrouble(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]echotest.Fault{
		"kms":                 {Kind: echotest.KMS, Count: 2},
		"throttled":           {Kind: echotest.Throttled, Count: 2},
		"error":               {Kind: echotest.ServerError, Count: 2},
		"down":                {Kind: echotest.Down, Count: 3},
		"expired credentials": {Kind: echotest.ExpiredCredentials, Count: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := receiverWorld(t, echotest.Options{})
			w.put("a")
			fault.Service, fault.Operation = echotest.SQS, "ReceiveMessage"
			script := w.Fault(fault)
			r := w.receive(t, echostream.ReceiveOptions{}, nil)
			r.await(1)
			w.empty(t, edge)
			assert.Equal(t, fault.Count, script.Hits())
			if fault.Kind == echotest.ExpiredCredentials {
				assert.Equal(t, 2, w.Requests(echotest.AppSync, "GetApp"), "renewed at once")
				assert.NotContains(t, w.log.String(), "level=WARN")
			} else {
				assert.Contains(t, w.log.String(), "an edge cannot be received from")
			}
			w.ExpireCredentials()
			w.put("b")
			r.await(2)
			w.empty(t, edge)
			require.NoError(t, r.end())
			assert.Equal(t, []string{"a", "b"}, r.bodies())
		})
	}
}

// B of 1 and 7.
func TestReceiveFollowsTheDefinition(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	r := w.receive(t, echostream.ReceiveOptions{Refresh: 20 * time.Millisecond}, nil)
	w.put("a")
	r.await(1)
	w.empty(t, edge)

	w.AddEdge("second", "ftp-node")
	w.Put("second", "ftp-node", "b", "")
	assert.Equal(t, "second", r.await(2)[1].Source)

	w.MoveEdge("second", "ftp-node", "third")
	w.logged(t, `an edge has another source`)
	w.Put("third", "ftp-node", "c", "")
	assert.Equal(t, "third", r.await(3)[2].Source)

	w.UpdateNode("", func(n *echotest.Node) { n.Stopped = true })
	w.logged(t, `stopped=true`)
	require.Eventually(t, func() bool { return strings.Count(w.log.String(), "stopped=true") == 2 }, time.Minute, time.Millisecond)
	polls := w.Requests(echotest.SQS, "ReceiveMessage")
	w.put("d")
	reads := w.Requests(echotest.AppSync, "GetNode")
	require.Eventually(t, func() bool { return w.Requests(echotest.AppSync, "GetNode") > reads+3 }, time.Minute, time.Millisecond)
	assert.Equal(t, polls, w.Requests(echotest.SQS, "ReceiveMessage"), "stopped means no polling")
	assert.Len(t, r.messages(), 3)

	w.Clock().Advance(time.Minute) // the poll that was cut off may have taken it
	w.UpdateNode("", func(n *echotest.Node) { n.Stopped = false })
	assert.Equal(t, "d", r.await(4)[3].Body)

	w.RemoveEdge(edge)
	w.AddEdge("source", "ftp-node")
	w.put("e")
	assert.Equal(t, "e", r.await(5)[4].Body)
	require.NoError(t, r.end())
	assert.NotContains(t, w.log.String(), "level=ERROR")
}

// B of 7: that the queue is gone ends neither the process nor the other edges, and has the definition read at once.
func TestReceiveRemovedEdge(t *testing.T) {
	w := receiverWorld(t, echotest.Options{Sources: []string{"source", "other"}})
	r := w.receive(t, echostream.ReceiveOptions{}, nil)
	w.put("a")
	w.Put("other", "ftp-node", "b", "")
	r.await(2)
	w.empty(t, edge)
	w.RemoveEdge(edge)
	w.logged(t, "an edge is gone")
	w.AddEdge("source", "ftp-node")
	w.put("c")
	w.Put("other", "ftp-node", "d", "")
	r.await(4)
	assert.Contains(t, w.log.String(), "no longer receiving from an edge")
	require.NoError(t, r.end())
}

// Credentials are narrowed to the edges that there are when they are made.
func TestReceiveFromAnEdgeThatIsNewerThanTheCredentials(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	_, err := w.client.Credentials(w.node).Retrieve(t.Context())
	require.NoError(t, err)
	w.AddEdge("new", "ftp-node")
	w.put("a")
	w.Put("new", "ftp-node", "b", "")
	r := w.receive(t, echostream.ReceiveOptions{}, nil)
	r.await(2)
	assert.Equal(t, 2, w.Requests(echotest.AppSync, "GetApp"))
	assert.NotContains(t, w.log.String(), "level=WARN")
}

// An edge that stays closed has credentials replaced once, and does not disturb the others.
func TestReceiveFromAnEdgeThatIsClosed(t *testing.T) {
	w := receiverWorld(t, echotest.Options{Sources: []string{"source", "other"}})
	denied := w.Fault(echotest.Fault{Service: echotest.SQS, Operation: "ReceiveMessage", Edge: edge, Kind: echotest.Denied})
	r := w.receive(t, echostream.ReceiveOptions{}, nil)
	w.logged(t, "an edge is gone, or closed to this node")
	assert.Equal(t, 2, denied.Hits())
	w.Put("other", "ftp-node", "b", "")
	r.await(1)
	assert.Equal(t, 2, w.Requests(echotest.AppSync, "GetApp"))
	assert.Contains(t, w.log.String(), "level=ERROR", "a person has to look")
	assert.Contains(t, w.log.String(), "look at the edge and at the app in EchoStream")
}

// The machine's clock is wrong, and is set under way: nothing goes by it.
func TestReceiveByAWrongClock(t *testing.T) {
	w := receiverWorldAt(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}}, -8*24*time.Hour)
	w.put("warm up", "a", "b", "c")
	r := w.receive(t, echostream.ReceiveOptions{}, func(_ context.Context, m echostream.ReceivedMessage) error {
		if m.Body == "a" {
			w.machine.set(8 * 24 * time.Hour)
		}
		return nil
	})
	r.await(4)
	w.empty(t, edge)
	require.NoError(t, r.end())
	assert.Equal(t, []string{"warm up", "a", "b", "c"}, r.bodies())
	for _, m := range r.messages() {
		assert.Equal(t, 1, m.Receives, m.Body)
	}
	records := w.AuditRecords()
	require.Len(t, records, 4)
	for _, a := range records {
		assert.WithinDuration(t, w.Clock().Now(), a.DateTime, time.Hour)
	}
}

// Edges that a kept definition does not name may be there, and the node may have been stopped: it counts for nothing.
func TestReceiveNothingByADefinitionThatWasKept(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	w.put("a")
	definitions := make(chan *echostream.Definition)
	r := w.receive(t, echostream.ReceiveOptions{Definitions: definitions}, nil)
	kept := *w.node
	kept.Kept = true
	definitions <- &kept
	kept.Stopped = true
	definitions <- &kept // the first one was dealt with
	assert.NotContains(t, w.log.String(), "receiving from an edge")
	definitions <- w.node
	r.await(1)
}

func TestReceiveDefinitionsOfTheCaller(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	definitions := make(chan *echostream.Definition)
	r := w.receive(t, echostream.ReceiveOptions{Definitions: definitions}, nil)
	reads := w.Requests(echotest.AppSync, "GetNode")
	w.put("a")
	definitions <- w.node
	r.await(1)
	w.empty(t, edge)
	w.AddEdge("second", "ftp-node")
	w.read(t)
	w.Put("second", "ftp-node", "b", "")
	definitions <- w.node
	close(definitions)
	assert.Equal(t, "second", r.await(2)[1].Source)
	assert.Equal(t, reads+1, w.Requests(echotest.AppSync, "GetNode"), "the test's own")
}

// 6.
func TestReceiveConcurrently(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	const groups, each, bound = 6, 5, 3
	for i := range each {
		for g := range groups {
			w.PutRaw("source", "ftp-node", echotest.Raw{Body: fmt.Sprint(i), GroupID: fmt.Sprint("g", g)})
		}
	}
	var mu sync.Mutex
	running, most := map[string]bool{}, 0
	together := make(chan struct{})
	r := w.receive(t, echostream.ReceiveOptions{Concurrency: bound}, func(ctx context.Context, m echostream.ReceivedMessage) error {
		mu.Lock()
		assert.False(t, running[m.Group], "one at a time of a group")
		running[m.Group] = true
		if most = max(most, len(running)); most == bound {
			select {
			case <-together:
			default:
				close(together)
			}
		}
		mu.Unlock()
		select {
		case <-together:
		case <-ctx.Done():
		}
		mu.Lock()
		delete(running, m.Group)
		mu.Unlock()
		return nil
	})
	r.await(groups * each)
	w.empty(t, edge)
	require.NoError(t, r.end())
	assert.Equal(t, bound, most)
	got := map[string][]string{}
	for _, m := range r.messages() {
		got[m.Group] = append(got[m.Group], m.Body)
	}
	for group, bodies := range got {
		assert.Equal(t, []string{"0", "1", "2", "3", "4"}, bodies, group)
	}
}

// Sequential: one handler at a time an edge, whatever the groups; edges do not wait for each other.
func TestReceiveSequentially(t *testing.T) {
	w := receiverWorld(t, echotest.Options{Sources: []string{"source", "other"}})
	for g := range 5 {
		w.PutRaw("source", "ftp-node", echotest.Raw{Body: fmt.Sprint(g), GroupID: fmt.Sprint("g", g)})
	}
	w.Put("other", "ftp-node", "x", "")
	var mu sync.Mutex
	running := map[string]bool{}
	other := make(chan struct{})
	r := w.receive(t, echostream.ReceiveOptions{}, func(_ context.Context, m echostream.ReceivedMessage) error {
		mu.Lock()
		assert.False(t, running[m.Source])
		running[m.Source] = true
		mu.Unlock()
		if m.Source == "other" {
			close(other)
		}
		<-other
		mu.Lock()
		running[m.Source] = false
		mu.Unlock()
		return nil
	})
	r.await(6)
	require.NoError(t, r.end())
}

// 10.
func TestReceiveStop(t *testing.T) {
	w := receiverWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}})
	w.put("warm up")
	begun, goOn := make(chan struct{}), make(chan struct{})
	r := w.receive(t, echostream.ReceiveOptions{Grace: time.Minute}, func(ctx context.Context, m echostream.ReceivedMessage) error {
		if m.Body == "a" {
			close(begun)
			<-goOn
			return ctx.Err()
		}
		return nil
	})
	r.await(1)
	w.empty(t, edge)
	w.PutRaw("source", "ftp-node", echotest.Raw{Body: "a", GroupID: "g"})
	<-begun
	polls := w.Requests(echotest.SQS, "ReceiveMessage")
	w.put("b", "c")
	r.stop()
	close(goOn)
	require.NoError(t, r.end())
	visible, inFlight := w.Waiting(edge)
	assert.Equal(t, [2]int{2, 0}, [2]int{visible, inFlight}, "what was not begun can be received at once; what was is deleted")
	assert.Equal(t, []string{"warm up", "a"}, r.bodies())
	assert.Equal(t, polls, w.Requests(echotest.SQS, "ReceiveMessage"), "no poll while full")
	assert.Len(t, w.AuditRecords(), 2)
}

func TestReceiveStopHandsBackWhatItHolds(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	w.put("warm up", "a", "b", "c")
	begun := make(chan struct{})
	r := w.receive(t, echostream.ReceiveOptions{Grace: 10 * time.Millisecond}, func(ctx context.Context, m echostream.ReceivedMessage) error {
		if m.Body == "a" {
			close(begun)
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	<-begun
	require.Eventually(t, func() bool { _, inFlight := w.Waiting(edge); return inFlight == 3 }, time.Minute, time.Millisecond)
	require.NoError(t, r.end())
	visible, inFlight := w.Waiting(edge)
	assert.Equal(t, [2]int{3, 0}, [2]int{visible, inFlight}, "the one whose handler was cut off, too")
	assert.Contains(t, w.log.String(), "not finished before the end")
	next := w.receive(t, echostream.ReceiveOptions{}, nil)
	next.await(3)
	assert.Equal(t, []string{"a", "b", "c"}, next.bodies())
}

// An idle receiver sits in a poll of 20 s; nothing waits for it.
func TestReceiveStopDoesNotWaitForThePoll(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	r := w.receive(t, echostream.ReceiveOptions{}, nil)
	require.Eventually(t, func() bool { return w.Requests(echotest.SQS, "ReceiveMessage") == 1 }, time.Minute, time.Millisecond)
	begun := time.Now()
	require.NoError(t, r.end())
	assert.Less(t, time.Since(begun), 15*time.Second)
}

// 8.
func TestReceiveAudits(t *testing.T) {
	w := receiverWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}})
	down := w.Fault(echotest.Fault{Service: echotest.Audit, Kind: echotest.ServerError, Count: 2})
	bodies := []string{
		`{"name":"a.txt","contentLength":5,"contentType":"text/plain","modificationDateTime":"2026-11-07T16:05:09.000Z","content":"aGVsbG8="}`,
		`{"name":7,"contentLength":"five","contentType":null}`,
		`no JSON`,
		`{"name":"b.txt","contentLength":1.5}`,
	}
	w.put(bodies...)
	previous := w.PutRaw("source", "ftp-node", echotest.Raw{Body: "{}", Attributes: map[string]string{"trackingId": "t", "prevTrackingIds": `["p"]`}})
	failed := false
	r := w.receive(t, echostream.ReceiveOptions{Visibility: time.Second}, func(context.Context, echostream.ReceivedMessage) error {
		if !failed {
			failed = true
			return errors.New("once")
		}
		return nil
	})
	r.await(6)
	w.empty(t, edge)
	require.Eventually(t, func() bool { return len(w.AuditRecords()) == 5 }, time.Minute, time.Millisecond)
	require.NoError(t, r.end())
	assert.Equal(t, 2, down.Hits())
	records := w.AuditRecords()
	require.Len(t, records, 5, "once, after success")
	want := []map[string]any{
		{"name": "a.txt", "content_length": 5.0, "content_type": "text/plain", "modification_datetime": "2026-11-07T16:05:09.000Z"},
		nil, nil, {"name": "b.txt"}, nil,
	}
	for i, a := range records {
		assert.Equal(t, w.Messages(edge)[i].TrackingID, a.TrackingID)
		assert.Equal(t, "source", a.SourceNode)
		assert.Equal(t, "echo.file", a.MessageType)
		assert.Equal(t, want[i], a.Attributes)
	}
	assert.Equal(t, previous.PrevTrackingIDs, records[4].PrevTrackingIDs)
}

func TestReceiveAuditorsOfTheCaller(t *testing.T) {
	w := receiverWorld(t, echotest.Options{
		Tenant: echotest.Tenant{Audit: true}, Node: echotest.Node{ReceiveMessageType: "acme.temperature"},
		MessageTypes: []echotest.MessageType{{Name: "acme.temperature"}},
	})
	w.put("21", "broken")
	r := w.receive(t, echostream.ReceiveOptions{Auditors: map[string]echostream.Auditor{
		"acme.temperature": func(m echostream.ReceivedMessage) map[string]any {
			if m.Body == "broken" {
				panic("no number")
			}
			return map[string]any{"celsius": m.Body}
		},
	}}, nil)
	r.await(2)
	require.NoError(t, r.end())
	records := w.AuditRecords()
	require.Len(t, records, 2)
	assert.Equal(t, map[string]any{"celsius": "21"}, records[0].Attributes)
	assert.Nil(t, records[1].Attributes)
}

func TestReceiveTellsOfAuditsThatAreLost(t *testing.T) {
	w := receiverWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}})
	w.Off(echotest.Audit)
	w.put("a", "b")
	r := w.receive(t, echostream.ReceiveOptions{Grace: time.Millisecond}, nil)
	r.await(2)
	w.empty(t, edge)
	assert.ErrorContains(t, r.end(), "2 audit records")
	w.On(echotest.Audit)
}

func TestReceiveDoesNotAuditUnasked(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	w.put("a")
	r := w.receive(t, echostream.ReceiveOptions{}, nil)
	r.await(1)
	w.empty(t, edge)
	require.NoError(t, r.end())
	assert.Zero(t, w.Requests(echotest.Audit, ""))
}

func TestReceiveKindsOfApps(t *testing.T) {
	t.Parallel()
	for _, kind := range []echotest.AppKind{echotest.ManagedApp, echotest.ExternalApp, echotest.CrossAccountApp} {
		t.Run(string(kind), func(t *testing.T) {
			w := receiverWorld(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}, App: echotest.App{Name: "x", Kind: kind}})
			w.put("a")
			r := w.receive(t, echostream.ReceiveOptions{}, nil)
			r.await(1)
			w.empty(t, edge)
			require.NoError(t, r.end())
			assert.Len(t, w.AuditRecords(), 1)
			assert.Equal(t, 1, w.Requests(echotest.AppSync, "GetApp"), "a CrossAccountApp's audits only")
		})
	}
}

func TestReceiveShowsNoBody(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	const secret = "https://bucket/key?X-Amz-Signature=secret"
	w.put(secret)
	var once sync.Once
	r := w.receive(t, echostream.ReceiveOptions{Visibility: time.Second}, func(_ context.Context, m echostream.ReceivedMessage) (err error) {
		once.Do(func() { err = fmt.Errorf("%v %+v %#v %s", m, m, m, m) })
		slog.New(slog.NewTextHandler(w.log, nil)).Info("test", "message", m)
		return err
	})
	r.await(2)
	require.NoError(t, r.end())
	assert.Contains(t, w.log.String(), "message.trackingId=")
	assert.NotContains(t, w.log.String(), "X-Amz-Signature")
}

func TestReceiveOptions(t *testing.T) {
	w := receiverWorld(t, echotest.Options{})
	nothing := func(context.Context, echostream.ReceivedMessage) error { return nil }
	for want, opts := range map[string]echostream.ReceiveOptions{
		"Visibility is 1.5s": {Visibility: 1500 * time.Millisecond},
		"Visibility is 13h":  {Visibility: 13 * time.Hour},
		"Concurrency is -1":  {Concurrency: -1},
		"Grace is -1s":       {Grace: -time.Second},
		"Refresh is -1s":     {Refresh: -time.Second},
	} {
		assert.ErrorContains(t, w.client.Receive(t.Context(), opts, nothing), want)
	}
	assert.ErrorContains(t, w.client.Receive(t.Context(), echostream.ReceiveOptions{}, nil), "no handler")
}
