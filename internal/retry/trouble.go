package retry

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	firstRepeat = time.Minute
	lastRepeat  = 24 * time.Hour
	maxCauses   = 8                // told apart at once; more share one pause
	wellAgain   = time.Hour        // what fails after so long without a failure is new
	tellAgain   = 10 * time.Minute // so long may the log say that it works when it does not
)

// Trouble decides what is said about something that keeps failing: each cause at once, then again after pauses that
// double from a minute to a day, with a count, and one line when it is over. Trouble that comes and goes all the time does
// not start from the beginning each time, and a cause is the same whatever the numbers in its text (ports, request
// ids), so weeks of it do not flood the log. But the log's last word is true: that it fails again is said
// within ten minutes if it was said that it works.
//
// The zero Trouble is ready: all is well. It is not safe for concurrent use. What is to be said it returns, so that the
// caller can say it when it holds no lock.
type Trouble struct {
	since  time.Time // zero: all is well
	count  int
	said   bool      // in this trouble
	fine   bool      // the last word was that it works
	ended  time.Time // of the last trouble
	causes map[string]*cause
	text   string // of the last failure, and its cause: as a rule, the next has the same
	last   *cause
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
		if now.Sub(t.ended) > wellAgain {
			t.causes = nil
		}
	}
	t.count++
	c := t.cause(what + ": " + err.Error())
	if lied := t.fine && now.Sub(t.since) >= tellAgain; now.Before(c.next) && !lied {
		return Line{}
	}
	c.next = now.Add(c.pause)
	c.pause = min(2*c.pause, lastRepeat)
	t.said, t.fine = true, false
	args = append(args, "error", err.Error())
	if t.count > 1 {
		args = append(args, "failures", t.count, "since", now.Sub(t.since).Round(time.Second))
	}
	return Line{level, what, args}
}

// withoutNumbers replaces the words of a text that may be others in the next error of the same cause: those with a digit. The status of an
// HTTP reply is not one of them: 403 is something else than 503.
func withoutNumbers(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		word, digits := wordOf(text[i:])
		switch {
		case word == 0:
			word = 1
			b.WriteByte(text[i])
		case digits == 0 || digits == 3 && word == 3 && saysStatus(text[:i]):
			b.WriteString(text[i : i+word])
		default:
			b.WriteByte('#')
		}
		i += word
	}
	return b.String()
}

// wordOf is the length of the word that text begins with, and how many digits it has.
func wordOf(text string) (length, digits int) {
	for i, r := range text {
		switch {
		case '0' <= r && r <= '9':
			digits++
		case r != '_' && r != '-' && !unicode.IsLetter(r):
			return i, digits
		}
	}
	return len(text), digits
}

// saysStatus reports whether text ends as one that a status follows.
func saysStatus(text string) bool {
	text, spaced := strings.CutSuffix(text, " ")
	if !spaced {
		return false
	}
	text = strings.TrimSuffix(text, ":")
	return slices.ContainsFunc([]string{"status", "statuscode", "status code", "http"}, func(word string) bool {
		at := len(text) - len(word)
		return at >= 0 && strings.EqualFold(text[at:], word)
	})
}

// SameCause reports whether two texts of errors differ in numbers at most.
func SameCause(a, b string) bool { return a == b || withoutNumbers(a) == withoutNumbers(b) }

func (t *Trouble) cause(text string) *cause {
	if t.causes == nil || text != t.text {
		t.text, t.last = text, t.find(withoutNumbers(text))
	}
	return t.last
}

func (t *Trouble) find(text string) *cause {
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
	if since.IsZero() {
		return Line{}
	}
	t.since, t.ended = time.Time{}, now
	if !t.said {
		return Line{}
	}
	t.fine = true
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
