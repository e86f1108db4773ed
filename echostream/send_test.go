package echostream

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type sentEntry struct {
	ID                string `json:"Id"`
	MessageBody       string
	MessageGroupID    string `json:"MessageGroupId"`
	DeduplicationID   string `json:"MessageDeduplicationId"`
	MessageAttributes map[string]struct{ DataType, StringValue string }
}

type refusal struct {
	code   string
	sender bool
}

// scriptedSQS answers SendMessageBatch requests. A script says what becomes of a message by its body: the refusals of
// its first, second, ... attempt. After them it is taken.
type scriptedSQS struct {
	api     http.Handler
	mu      sync.Mutex
	batches [][]sentEntry
	taken   []string // bodies
	keys    []string // access keys

	entries  map[string][]refusal
	requests []refusal // of whole requests
	status   int       // of a request that is refused. By default, 400.
	forget   string    // a body that no answer mentions
}

func (s *scriptedSQS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/graphql" {
		s.api.ServeHTTP(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var in struct {
		QueueUrl string
		Entries  []sentEntry
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("X-Amz-Target") != "AmazonSQS.SendMessageBatch" {
		http.Error(w, "not a batch", http.StatusBadRequest)
		return
	}
	_, after, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(after, "/")
	s.keys = append(s.keys, key)
	s.batches = append(s.batches, in.Entries)
	if len(s.requests) > 0 {
		said := s.requests[0]
		s.requests = s.requests[1:]
		if said.code != "" {
			w.Header().Set("X-Amzn-Query-Error", said.code+";Sender")
			w.WriteHeader(cmp.Or(s.status, http.StatusBadRequest))
			fmt.Fprintf(w, `{"__type":"com.amazonaws.sqs#Whatever","message":"said %s"}`, said.code)
			return
		}
	}
	type failure struct {
		ID          string `json:"Id"`
		Code        string
		SenderFault bool
		Message     string
	}
	type success struct {
		ID  string `json:"Id"`
		MID string `json:"MessageId"`
		MD5 string `json:"MD5OfMessageBody"`
	}
	var out struct {
		Successful []success
		Failed     []failure
	}
	for _, e := range in.Entries {
		if e.MessageBody == s.forget {
			continue
		}
		if said := s.entries[e.MessageBody]; len(said) > 0 {
			s.entries[e.MessageBody] = said[1:]
			out.Failed = append(out.Failed, failure{e.ID, said[0].code, said[0].sender, "said " + said[0].code})
			continue
		}
		s.taken = append(s.taken, e.MessageBody)
		sum := md5.Sum([]byte(e.MessageBody))
		out.Successful = append(out.Successful, success{e.ID, "m", hex.EncodeToString(sum[:])})
	}
	slices.Reverse(out.Successful) // their order means nothing
	_ = json.NewEncoder(w).Encode(out)
}

func (s *scriptedSQS) sizes() []int {
	var sizes []int
	for _, b := range s.batches {
		sizes = append(sizes, len(b))
	}
	return sizes
}

func messagesOf(bodies ...string) []Message {
	var messages []Message
	for _, b := range bodies {
		messages = append(messages, Message{TrackingID: NewTrackingID(), Body: b})
	}
	return messages
}

func sendTo(t *testing.T, s *scriptedSQS, messages []Message) []error {
	t.Helper()
	s.api = staticCredentials()
	c, server, _ := newTestClient(t, s, Options{})
	errs := c.Send(t.Context(), testNode(), server.URL+"/1/q.fifo", messages)
	require.Len(t, errs, len(messages))
	return errs
}

func TestSend(t *testing.T) {
	s := &scriptedSQS{}
	messages := messagesOf("one", "two")
	messages[1].PrevTrackingIDs = []string{"a", "b"}
	messages[1].Group = "scanner 1"
	errs := sendTo(t, s, messages)
	assert.Equal(t, []error{nil, nil}, errs)
	require.Equal(t, []int{2}, s.sizes())
	got := s.batches[0]
	assert.Equal(t, "one", got[0].MessageBody)
	assert.Equal(t, "My_FTP_node", got[0].MessageGroupID)
	assert.Equal(t, messages[0].TrackingID, got[0].DeduplicationID)
	assert.Len(t, got[0].MessageAttributes, 1)
	assert.Equal(t, "String", got[0].MessageAttributes["trackingId"].DataType)
	assert.Equal(t, messages[0].TrackingID, got[0].MessageAttributes["trackingId"].StringValue)
	assert.Equal(t, "scanner_1", got[1].MessageGroupID)
	assert.Equal(t, "String", got[1].MessageAttributes["prevTrackingIds"].DataType)
	assert.Equal(t, `["a","b"]`, got[1].MessageAttributes["prevTrackingIds"].StringValue)
	assert.Equal(t, []string{"KEY1"}, s.keys)
}

func TestSendBatches(t *testing.T) {
	body := func(size int) string { return strings.Repeat("x", size-48) } // 48 bytes of attributes
	for _, test := range []struct {
		name  string
		sizes []int
		want  []int
	}{
		{"none", nil, nil},
		{"ten and one", slices.Repeat([]int{50}, 11), []int{10, 1}},
		{"as much as a batch holds", []int{MaxMessageSize - 50, 50, 50}, []int{2, 1}},
		{"one byte more", []int{MaxMessageSize - 50, 51, 50}, []int{1, 2}},
		{"the largest", []int{MaxMessageSize, MaxMessageSize}, []int{1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var messages []Message
			for _, size := range test.sizes {
				messages = append(messages, messagesOf(body(size))...)
				require.Equal(t, size, messages[len(messages)-1].Size())
			}
			s := &scriptedSQS{}
			for _, err := range sendTo(t, s, messages) {
				assert.NoError(t, err)
			}
			assert.Equal(t, test.want, s.sizes())
		})
	}
}

func TestSendFailures(t *testing.T) {
	throttled := refusal{"RequestThrottled", false}
	invalid := refusal{"InvalidMessageContents", true}
	type result string
	const ok, transient, permanent result = "", "transient", "permanent"
	for _, test := range []struct {
		name     string
		messages []Message
		script   *scriptedSQS
		want     []result
		batches  [][]string
		taken    []string
	}{
		{"a failed one is sent again alone",
			messagesOf("a", "b", "c"), &scriptedSQS{entries: map[string][]refusal{"b": {throttled}}},
			[]result{ok, ok, ok}, [][]string{{"a", "b", "c"}, {"b"}}, []string{"a", "c", "b"}},
		{"failed ones are sent again in order",
			messagesOf("a", "b", "c"), &scriptedSQS{entries: map[string][]refusal{"a": {throttled}, "c": {throttled}}},
			[]result{ok, ok, ok}, [][]string{{"a", "b", "c"}, {"a"}, {"c"}}, []string{"b", "a", "c"}},
		{"nothing overtakes one that fails again",
			messagesOf("a", "b", "c"), &scriptedSQS{entries: map[string][]refusal{"a": {throttled, throttled}, "c": {throttled}}},
			[]result{transient, ok, transient}, [][]string{{"a", "b", "c"}, {"a"}}, []string{"b"}},
		{"nor does a later batch",
			messagesOf("a", "1", "2", "3", "4", "5", "6", "7", "8", "9", "late"), &scriptedSQS{entries: map[string][]refusal{"a": {throttled, throttled}}},
			[]result{transient, ok, ok, ok, ok, ok, ok, ok, ok, ok, transient},
			[][]string{{"a", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, {"a"}}, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}},
		{"but another group does",
			[]Message{{TrackingID: "1", Body: "a", Group: "g"}, {TrackingID: "2", Body: "b", Group: "h"}},
			&scriptedSQS{entries: map[string][]refusal{"a": {throttled, throttled}, "b": {throttled}}},
			[]result{transient, ok}, [][]string{{"a", "b"}, {"a"}, {"b"}}, []string{"b"}},
		{"poison holds nothing up",
			messagesOf("a", "b"), &scriptedSQS{entries: map[string][]refusal{"a": {invalid}}},
			[]result{permanent, ok}, [][]string{{"a", "b"}}, []string{"b"}},
		{"poison that shows at the second try",
			messagesOf("a", "b", "c"), &scriptedSQS{entries: map[string][]refusal{"a": {throttled, invalid}, "c": {throttled}}},
			[]result{permanent, ok, ok}, [][]string{{"a", "b", "c"}, {"a"}, {"c"}}, []string{"b", "c"}},
		{"not poison if it is SQS's fault",
			messagesOf("a"), &scriptedSQS{entries: map[string][]refusal{"a": {{"InvalidMessageContents", false}, throttled}}},
			[]result{transient}, [][]string{{"a"}, {"a"}}, nil},
		{"poison that never leaves",
			messagesOf("a", "", "c"), &scriptedSQS{},
			[]result{ok, permanent, ok}, [][]string{{"a", "c"}}, []string{"a", "c"}},
		{"a request refused for one message",
			messagesOf("a", "b"), &scriptedSQS{requests: []refusal{invalid, invalid}},
			[]result{permanent, ok}, [][]string{{"a", "b"}, {"a"}, {"b"}}, []string{"b"}},
		{"a request refused for another reason",
			messagesOf("a", "b"), &scriptedSQS{requests: []refusal{{"InvalidParameterValue", true}}},
			[]result{transient, transient}, [][]string{{"a", "b"}}, nil},
		{"nothing more after that",
			append(messagesOf("1", "2", "3", "4", "5", "6", "7", "8", "9", "10"), Message{TrackingID: "x", Body: "late", Group: "other"}),
			&scriptedSQS{requests: []refusal{throttled}},
			slices.Repeat([]result{transient}, 11), [][]string{{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}}, nil},
		{"down when a failed one is sent again",
			messagesOf("a", "b", "c"), &scriptedSQS{entries: map[string][]refusal{"a": {throttled}, "c": {throttled}}, requests: []refusal{{}, throttled}},
			[]result{transient, ok, transient}, [][]string{{"a", "b", "c"}, {"a"}}, []string{"b"}},
		{"refused for its content when it is sent again",
			messagesOf("a", "b"), &scriptedSQS{entries: map[string][]refusal{"a": {throttled}}, requests: []refusal{{}, invalid}},
			[]result{permanent, ok}, [][]string{{"a", "b"}, {"a"}}, []string{"b"}},
		{"gone for one message",
			messagesOf("a"), &scriptedSQS{entries: map[string][]refusal{"a": slices.Repeat([]refusal{{"AccessDenied", true}}, 2)}},
			[]result{transient}, [][]string{{"a"}, {"a"}}, nil},
		{"an answer that leaves one out",
			messagesOf("a", "b"), &scriptedSQS{forget: "b"},
			[]result{ok, transient}, [][]string{{"a", "b"}, {"b"}}, []string{"a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.script
			errs := sendTo(t, s, test.messages)
			var got []result
			for _, err := range errs {
				switch {
				case err == nil:
					got = append(got, ok)
				case IsPermanent(err):
					got = append(got, permanent)
				default:
					got = append(got, transient)
				}
			}
			assert.Equal(t, test.want, got, "%v", errs)
			var batches [][]string
			for _, b := range s.batches {
				var bodies []string
				for _, e := range b {
					bodies = append(bodies, e.MessageBody)
				}
				batches = append(batches, bodies)
			}
			assert.Equal(t, test.batches, batches)
			assert.Equal(t, test.taken, s.taken)
		})
	}
}

func TestSendToAnEdgeThatIsGone(t *testing.T) {
	for _, code := range []string{"AWS.SimpleQueueService.NonExistentQueue", "AccessDenied", "AccessDeniedException"} {
		// Credentials may be older than the edge: it is closed only if new ones are refused too.
		errs := sendTo(t, &scriptedSQS{requests: slices.Repeat([]refusal{{code, true}}, 2)}, messagesOf("a", "b"))
		for _, err := range errs {
			assert.ErrorIs(t, err, ErrEdgeGone)
			assert.False(t, IsPermanent(err))
			assert.ErrorContains(t, err, "SQS SendMessageBatch: "+code+": said "+code)
		}
	}
	assert.NotErrorIs(t, sendTo(t, &scriptedSQS{requests: []refusal{{"RequestThrottled", false}}}, messagesOf("a"))[0], ErrEdgeGone)
}

func TestSendReplacesRefusedCredentialsOnce(t *testing.T) {
	s := &scriptedSQS{requests: []refusal{{"ExpiredToken", true}}}
	errs := sendTo(t, s, messagesOf("a"))
	assert.NoError(t, errs[0])
	assert.Equal(t, []string{"KEY1", "KEY2"}, s.keys)

	s = &scriptedSQS{requests: slices.Repeat([]refusal{{"InvalidClientTokenId", true}}, 3)}
	errs = sendTo(t, s, messagesOf("a"))
	assert.ErrorContains(t, errs[0], "InvalidClientTokenId")
	assert.False(t, IsPermanent(errs[0]))
	assert.Len(t, s.keys, 2)
	requireNoSecret(t, errs[0], "KEY1", "secret of", "session of")
}

func TestSendTimesOut(t *testing.T) {
	release := make(chan struct{})
	api := staticCredentials()
	c, server, _ := newTestClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/graphql" {
			api.ServeHTTP(w, r)
			return
		}
		<-release
	}), Options{CallTimeout: 200 * time.Millisecond})
	defer close(release)
	errs := c.Send(t.Context(), testNode(), server.URL+"/1/q.fifo", messagesOf("a"))
	assert.ErrorIs(t, errs[0], context.DeadlineExceeded)
	requireNoSecret(t, errs[0], "http://")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs = c.Send(ctx, testNode(), server.URL+"/1/q.fifo", messagesOf("a", "b"))
	assert.ErrorIs(t, errs[0], context.Canceled)
	assert.ErrorIs(t, errs[1], context.Canceled)
}
