package retry

import (
	"context"
	"log/slog"
	"regexp"
	"time"
)

const (
	firstRepeat = time.Minute
	lastRepeat  = 24 * time.Hour
	maxCauses   = 8 // told apart at once; more share one pause
)

// Trouble decides what is said about something that keeps failing: each cause at once, then again after pauses that
// double from a minute to a day, with a count, and one line when it is over. Trouble that comes and goes does
// not start from the beginning each time, and a cause is the same whatever the numbers in its text (ports, request
// ids), so weeks of it do not flood the log.
//
// The zero Trouble is ready: all is well. It is not safe for concurrent use. What is to be said it returns, so that the
// caller can say it when it holds no lock.
type Trouble struct {
	since  time.Time // zero: all is well
	count  int
	said   bool
	causes map[string]*cause
}

type cause struct {
	next  time.Time // not said before
	pause time.Duration
}

// Hit counts a failure. what says in a few words what fails and what comes of it; err and args go into the line, and
// with the second failure how many there were and since when.
func (t *Trouble) Hit(now time.Time, level slog.Level, what string, err error, args ...any) Line {
	if t.since.IsZero() {
		t.since, t.count, t.said = now, 0, false
		for text, c := range t.causes {
			if now.Sub(c.next) > c.pause {
				delete(t.causes, text) // it was well for longer than the last pause
			}
		}
	}
	t.count++
	c := t.cause(what + ": " + err.Error())
	if now.Before(c.next) {
		return Line{}
	}
	c.next = now.Add(c.pause)
	c.pause = min(2*c.pause, lastRepeat)
	t.said = true
	args = append(args, "error", err.Error())
	if t.count > 1 {
		args = append(args, "failures", t.count, "since", now.Sub(t.since).Round(time.Second))
	}
	return Line{level, what, args}
}

// numbers are the words of a text that may be others in the next error of the same cause.
var numbers = regexp.MustCompile(`[\pL_-]*\d[\pL\d_-]*`)

func (t *Trouble) cause(text string) *cause {
	text = numbers.ReplaceAllString(text, "#")
	if c := t.causes[text]; c != nil {
		return c
	}
	if len(t.causes) >= maxCauses {
		text = "" // what is left over
	}
	if t.causes == nil {
		t.causes = map[string]*cause{}
	}
	if t.causes[text] == nil {
		t.causes[text] = &cause{pause: firstRepeat}
	}
	return t.causes[text]
}

// Over notes that it works, and says so if anybody was told that it did not.
func (t *Trouble) Over(now time.Time, what string, args ...any) Line {
	since := t.since
	t.since = time.Time{}
	if since.IsZero() || !t.said {
		return Line{}
	}
	return Line{slog.LevelInfo, what, append(args, "failures", t.count, "lasted", now.Sub(since).Round(time.Millisecond))}
}

// Failures is how many there were in a row.
func (t *Trouble) Failures() int {
	if t.since.IsZero() {
		return 0
	}
	return t.count
}

// Line is what is to be said; the zero Line is nothing.
type Line struct {
	level slog.Level
	text  string
	args  []any
}

// To says it.
func (l Line) To(log *slog.Logger) {
	if l.text != "" {
		log.Log(context.Background(), l.level, l.text, l.args...)
	}
}
