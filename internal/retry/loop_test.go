package retry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newLoop(lines *bytes.Buffer) *Loop {
	return &Loop{
		Log:   slog.New(slog.NewTextHandler(lines, nil)),
		Fails: Fails(slog.LevelError, "it fails"), Works: "it works", Args: []any{"address", ":1"},
		First: time.Second, Last: time.Minute,
	}
}

func TestLoopTriesUntilItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		l := newLoop(&lines)
		tries, began := 0, time.Now()
		require.NoError(t, l.Until(t.Context(), func() error {
			if tries++; tries < 4 {
				return errors.New("cause")
			}
			return nil
		}))
		assert.Equal(t, 4, tries)
		assert.GreaterOrEqual(t, time.Since(began), (1+2+4)*time.Second/2)
		assert.LessOrEqual(t, time.Since(began), (1+2+4)*time.Second)
		assert.Equal(t, 1, strings.Count(lines.String(), `level=ERROR msg="it fails" address=:1 error=cause`))
		assert.Equal(t, 1, strings.Count(lines.String(), `level=INFO msg="it works" failures=3`))
		assert.Equal(t, 2, strings.Count(lines.String(), "\n"))
	})
}

// What has worked meanwhile begins with a short pause when it fails again.
func TestLoopWorked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		l := newLoop(&lines)
		tries := 0
		var last time.Time
		require.NoError(t, l.Until(t.Context(), func() error {
			tries++
			switch tries {
			case 10:
				l.Worked()
				last = time.Now()
			case 11:
				assert.LessOrEqual(t, time.Since(last), time.Second)
				return nil
			}
			return errors.New("cause")
		}))
		assert.Contains(t, lines.String(), "it works")
	})
}

func TestLoopEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		l := newLoop(&lines)
		l.Longest = func(error) time.Duration { return time.Hour }
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		tries := 0
		require.ErrorIs(t, l.Until(ctx, func() error { tries++; return errors.New("cause") }), context.DeadlineExceeded)
		assert.True(t, 24 <= tries && tries <= 24*2+13, "%d tries: 12 pauses double, then each is half an hour to an hour", tries)

		before := lines.String()
		require.ErrorIs(t, l.Until(ctx, func() error { return errors.New("cause") }), context.DeadlineExceeded)
		ctx, cancel = context.WithCancel(t.Context())
		require.ErrorIs(t, l.Until(ctx, func() error { cancel(); return ctx.Err() }), context.Canceled)
		assert.Equal(t, before, lines.String(), "that it is told to end is no failure")
	})
}
