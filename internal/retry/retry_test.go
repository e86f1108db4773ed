package retry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// told is a Trouble with a clock and a log.
type told struct {
	Trouble
	now   time.Time
	lines bytes.Buffer
	log   *slog.Logger
}

func newTold() *told {
	t := &told{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	t.log = slog.New(slog.NewTextHandler(&t.lines, nil))
	return t
}

func (t *told) hit(err error) { t.Hit(t.now, slog.LevelWarn, "it fails", err).To(t.log) }
func (t *told) over()         { t.Over(t.now, "fine").To(t.log) }

// hits fails for d, every half a minute.
func (t *told) hits(d time.Duration, err func(i int) error) {
	for i, end := 0, t.now.Add(d); t.now.Before(end); i++ {
		t.hit(err(i))
		t.now = t.now.Add(every)
	}
}

const every = 30 * time.Second

func (t *told) count(text string) int { return strings.Count(t.lines.String(), text) }

const week = 7 * 24 * time.Hour

func same(int) error { return errors.New("cause") }

func TestTroubleIsToldAtOnceThenWithGrowingPausesThenThatItIsOver(t *testing.T) {
	r := newTold()
	r.over()
	assert.Empty(t, r.lines.String(), "nothing was wrong")
	r.hits(week, same)
	assert.Greater(t, r.count("it fails"), 12, "in the end at least once a day")
	assert.Less(t, r.count("it fails"), 25, "a week is no flood")
	assert.Contains(t, r.lines.String(), "failures=3 since=1m0s")
	assert.Equal(t, int(week/every), r.Failures())
	r.hit(errors.New("another"))
	assert.Equal(t, 1, r.count("another"), "something new is told at once")
	r.over()
	assert.Equal(t, 1, r.count("fine failures="))
	assert.Zero(t, r.Failures())
	r.over()
	assert.Equal(t, 1, r.count("fine"))
}

func TestNumbersAreNoNewCause(t *testing.T) {
	for name, text := range map[string]string{
		"port":       "read udp 172.17.0.2:%d->127.0.0.11:53: i/o timeout",
		"request id": "InternalFailure, RequestID: a%dbc-ffde-a1",
	} {
		t.Run(name, func(t *testing.T) {
			r := newTold()
			r.hits(week, func(i int) error { return fmt.Errorf(text, 10_000+i*7) })
			assert.Less(t, r.count("it fails"), 25)
		})
	}
}

func TestAnyTroubleIsBounded(t *testing.T) {
	r := newTold()
	r.hits(week, func(i int) error { return errors.New(strings.Repeat("x", i%100)) })
	assert.Less(t, r.count("it fails"), 9*25)
	assert.LessOrEqual(t, len(r.causes), maxCauses+1)
}

func TestTroubleThatComesAndGoesIsNoFlood(t *testing.T) {
	r := newTold()
	for range int(week / (2 * every)) {
		r.hits(every, same)
		r.over()
		r.now = r.now.Add(every)
	}
	assert.Less(t, r.count("it fails"), 25)
	assert.Equal(t, r.count("it fails"), r.count("fine"))
}

func TestTheLastWordIsTrue(t *testing.T) {
	r := newTold()
	r.hits(week, same)
	r.over()
	before := r.count("it fails")
	r.now = r.now.Add(5 * time.Minute)
	r.hits(9*time.Minute, same)
	assert.Equal(t, before, r.count("it fails"), "it comes and goes")
	r.hits(2*time.Minute, same)
	assert.Equal(t, before+1, r.count("it fails"), "the log says that it works")
	r.over()
	r.now = r.now.Add(2 * time.Hour)
	r.hits(every, same)
	assert.Equal(t, before+2, r.count("it fails"), "another trouble")
}

func TestWithoutNumbers(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		"syncdir outbox: EIO":         "syncdir outbox: EIO",
		"open outbox/0000017.journal": "open outbox/#.journal",
		"10.0.0.2:4021->[fe80::1]:53": "#.#.#.#:#>[#::#]:#",
		"id a-1_é2, Größe 7":          "id #, Größe #",
		"status 503":                  "status 503",
		"Status: 503, try 4":          "Status: 503, try #",
		"StatusCode: 503.":            "StatusCode: 503.",
		"status code 404":             "status code 404",
		"HTTP 500":                    "HTTP 500",
		"status 5030, status 50":      "status #, status #",
		"port 503":                    "port #",
		"503":                         "#",
		"a\xff1\xff":                  "a\xff#\xff",
	} {
		assert.Equal(t, want, withoutNumbers(text), text)
	}
}

func TestSameCause(t *testing.T) {
	assert.True(t, SameCause("read udp 10.0.0.2:4021->1.1.1.1:53: timeout", "read udp 10.0.0.2:59->1.1.1.1:53: timeout"))
	assert.False(t, SameCause("refused", "timeout"))
	assert.False(t, SameCause("the API answered with HTTP status 503", "the API answered with HTTP status 403"))
	assert.False(t, SameCause("https response error StatusCode: 503, RequestID: a1", "https response error StatusCode: 403, RequestID: b2"))
	assert.True(t, SameCause("https response error StatusCode: 503, RequestID: a1", "https response error StatusCode: 503, RequestID: b2"))
}

func TestBackoff(t *testing.T) {
	for failures := range 100 {
		d := Backoff(failures, time.Second, time.Minute)
		assert.LessOrEqual(t, d, time.Minute)
		assert.GreaterOrEqual(t, d, min(time.Second<<min(max(failures-1, 0), 20), time.Minute)/2)
	}
}

// The shortest pause there is is one: in fake time nobody else's turn comes while one is none.
func TestShortestBackoff(t *testing.T) {
	for failures := range 100 {
		assert.Equal(t, time.Duration(1), Backoff(failures, 1, 1))
	}
}

func TestLongBackoffs(t *testing.T) {
	for failures := range 100 {
		assert.LessOrEqual(t, Backoff(failures, 24*time.Hour, 365*24*time.Hour), 365*24*time.Hour)
	}
}

func TestSleep(t *testing.T) {
	assert.True(t, Sleep(context.Background(), 0))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	assert.False(t, Sleep(ctx, time.Hour))
}
