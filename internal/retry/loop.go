package retry

import (
	"context"
	"log/slog"
	"time"
)

// Loop tries something until it succeeds, with growing pauses, and says so: see [Trouble]. It may be used again, by one goroutine at a time.
type Loop struct {
	Log *slog.Logger
	// Fails says what fails and what comes of it, and at which level.
	Fails func(err error) (level slog.Level, what string)
	// Works says that it works again.
	Works string
	// Args are further attributes of the line.
	Args []any
	// First and Last bound the pauses: see [Backoff].
	First, Last time.Duration
	// Longest replaces Last after some errors. By default, none.
	Longest func(err error) time.Duration

	trouble  Trouble
	failures int
}

// Fails is a Loop.Fails that says the same of each error.
func Fails(level slog.Level, what string) func(error) (slog.Level, string) {
	return func(error) (slog.Level, string) { return level, what }
}

// Until calls try until it returns nil. Its error is that of ctx.
func (l *Loop) Until(ctx context.Context, try func() error) error {
	for ctx.Err() == nil {
		err := try()
		if err == nil {
			l.Worked()
			return nil
		}
		if ctx.Err() != nil {
			break
		}
		l.failures++
		level, what := l.Fails(err)
		l.trouble.Hit(time.Now(), level, what, err, l.Args...).To(l.Log)
		last := l.Last
		if l.Longest != nil {
			last = l.Longest(err)
		}
		Sleep(ctx, Backoff(l.failures, l.First, last))
	}
	return ctx.Err()
}

// Worked notes that what is being tried works, while try has not returned yet.
func (l *Loop) Worked() {
	l.failures = 0
	l.trouble.Over(time.Now(), l.Works).To(l.Log)
}
