package echostream

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clockRig is a service clock on a machine whose time a test sets.
type clockRig struct {
	*serviceClock
	machine time.Time
	up      time.Duration
	log     *strings.Builder
}

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func newClockRig() *clockRig {
	r := &clockRig{machine: noon, log: &strings.Builder{}}
	r.serviceClock = newServiceClock(func() time.Time { return r.machine }, func() time.Duration { return r.up },
		slog.New(slog.NewTextHandler(r.log, nil)))
	return r
}

// pass lets time pass.
func (r *clockRig) pass(d time.Duration) {
	r.machine = r.machine.Add(d)
	r.up += d
}

// answer hears an answer of a service, at date, to a request that took so long.
func (r *clockRig) answer(date time.Time, took time.Duration) {
	r.hear(http.Header{"Date": {date.Format(http.TimeFormat)}, "X-Amzn-Requestid": {"1"}}, r.up-took)
}

func (r *clockRig) lines() int { return strings.Count(r.log.String(), "\n") }

func TestClockGoesByAnswers(t *testing.T) {
	r := newClockRig()
	theirs := noon.Add(-8 * 24 * time.Hour)
	assert.Equal(t, noon, r.now(), "nothing was said yet")
	r.answer(theirs, 0)
	assert.WithinDuration(t, theirs, r.now(), time.Second)
	r.machine = r.machine.Add(1000 * time.Hour) // set
	assert.WithinDuration(t, theirs, r.now(), time.Second)
	r.pass(time.Hour)
	assert.WithinDuration(t, theirs.Add(time.Hour), r.now(), time.Second)
	assert.Zero(t, r.moves())
}

// What is said late or by somebody else changes nothing.
func TestClockKeepsToTheServices(t *testing.T) {
	wrong := noon.Add(-time.Hour).Format(http.TimeFormat)
	for name, header := range map[string]http.Header{
		"a proxy":       {"Date": {wrong}},
		"a cache":       {"Date": {wrong}, "X-Amzn-Requestid": {"1"}, "Age": {"3600"}},
		"no time":       {"X-Amz-Request-Id": {"1"}},
		"not a time":    {"Date": {"yesterday"}, "X-Amz-Request-Id": {"1"}},
		"a long upload": {"Date": {wrong}, "X-Amz-Request-Id": {"1"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newClockRig()
			r.answer(noon, 0)
			before := r.now()
			r.up += 2 * time.Hour
			before = before.Add(2 * time.Hour)
			sent := r.up
			if name == "a long upload" { // its Date may be from when it began
				header.Set("Date", noon.Format(http.TimeFormat))
				sent = 0
			}
			r.hear(header, sent)
			assert.Equal(t, before, r.now())
			assert.Zero(t, r.moves())
		})
	}
}

func TestClockIsSetRight(t *testing.T) {
	r := newClockRig()
	r.answer(noon, 0)
	r.pass(time.Hour)
	r.answer(noon.Add(time.Hour+10*time.Second), time.Second) // drift
	assert.WithinDuration(t, noon.Add(time.Hour+10*time.Second), r.now(), time.Second)
	assert.Zero(t, r.moves())
	r.answer(noon.Add(3*time.Hour), time.Second) // the machine was paused
	assert.WithinDuration(t, noon.Add(3*time.Hour), r.now(), time.Second)
	assert.Equal(t, 1, r.moves())
}

func TestClockIsSaidToBeWrongOnce(t *testing.T) {
	r := newClockRig()
	answer := func() { r.answer(noon.Add(r.up), time.Second) }
	for range 100 {
		answer()
		r.pass(time.Minute)
	}
	assert.Zero(t, r.lines(), "it is right")
	r.machine = r.machine.Add(50 * time.Second)
	answer()
	assert.Zero(t, r.lines(), "it is right enough")
	r.machine = r.machine.Add(-8 * 24 * time.Hour)
	for range 1000 {
		answer()
		r.pass(time.Minute)
	}
	assert.Equal(t, 1, r.lines())
	assert.Contains(t, r.log.String(), `level=WARN msg="the machine's clock is wrong; set it right, for example by NTP`)
	assert.Contains(t, r.log.String(), `off="191h59m10s behind"`)
	r.machine = r.machine.Add(time.Hour)
	answer()
	assert.Equal(t, 1, r.lines(), "not much else")
	r.machine = r.machine.Add(100 * time.Hour)
	answer()
	assert.Equal(t, 2, r.lines(), r.log)
	r.machine = noon.Add(r.up)
	answer()
	assert.Equal(t, 2, r.lines(), "not at once")
	r.pass(clockQuiet)
	answer()
	assert.Equal(t, 3, r.lines())
	assert.Contains(t, r.log.String(), "the machine's clock is right again")
	// One that is set to and fro all the time.
	for i := range 24 * 60 {
		r.pass(time.Minute)
		r.machine = noon.Add(r.up + time.Duration(i%2)*time.Hour)
		answer()
	}
	assert.LessOrEqual(t, r.lines(), 3+24*6)
}

// lateReader looks for the end of the body when the answer is there, as net/http does on a busy machine.
type lateReader struct{ err chan error }

func (l lateReader) Do(r *http.Request) (*http.Response, error) {
	closed, body := make(chan struct{}), r.Body
	go func() {
		<-closed
		_, err := io.Copy(io.Discard, body)
		l.err <- err
	}()
	return &http.Response{StatusCode: 200, Body: closer(func() { close(closed) })}, nil
}

func (c closer) Read([]byte) (int, error) { return 0, io.EOF }

func TestAnswersAreNotCutOffByTheSDK(t *testing.T) {
	late := lateReader{make(chan error, 1)}
	request, err := smithyhttp.NewStackRequest().(*smithyhttp.Request).SetStream(strings.NewReader("body"))
	require.NoError(t, err)
	answer, _, err := smithyhttp.NewClientHandlerWithOptions(timedClient{client: late, clock: newClockRig().serviceClock}).Handle(t.Context(), request)
	require.NoError(t, err)
	require.NoError(t, answer.(*smithyhttp.Response).Body.Close())
	assert.NoError(t, <-late.err)
}

func TestUptime(t *testing.T) {
	up := uptime()
	first := up()
	start := time.Now()
	for time.Since(start) < 5*time.Millisecond {
	}
	assert.GreaterOrEqual(t, up()-first, 5*time.Millisecond)
}
