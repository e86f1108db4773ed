package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// trouble decides when something that keeps failing is worth a line: at once when it begins or turns into
// something else, then after pauses that grow from a minute to a day, with a count. Weeks of it do not flood the log.
// It is for one goroutine.
type trouble struct {
	now func() time.Time

	since time.Time // zero: all is well
	text  string
	count int
	next  time.Time
	pause time.Duration
}

// hit notes a failure and logs it if it is time.
func (t *trouble) hit(log *slog.Logger, level slog.Level, message string, err error, args ...any) {
	now := t.now()
	if t.since.IsZero() {
		t.since, t.count = now, 0
	}
	t.count++
	if text := message + err.Error(); text != t.text {
		t.text, t.pause, t.next = text, time.Minute, now
	}
	if now.Before(t.next) {
		return
	}
	t.next = now.Add(t.pause)
	t.pause = min(2*t.pause, 24*time.Hour)
	args = append(args, "error", err.Error())
	if t.count > 1 {
		args = append(args, "failures", t.count, "since", now.Sub(t.since).Round(time.Second))
	}
	log.Log(context.Background(), level, message, args...)
}

// over notes that it works, and says so if it did not.
func (t *trouble) over(log *slog.Logger, message string) {
	if t.since.IsZero() {
		return
	}
	log.Info(message, "failures", t.count, "lasted", t.now().Sub(t.since).Round(time.Millisecond))
	t.since, t.text = time.Time{}, ""
}

// backoff gives pauses that double from first to last, each shortened at random by up to half, so that nodes that failed
// together do not come back together.
func backoff(failures int, first, last time.Duration) time.Duration {
	d := last
	if shift := failures - 1; shift < 30 && first<<shift < last {
		d = first << shift
	}
	return d/2 + rand.N(d/2+1)
}

// sleep waits, and tells whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
