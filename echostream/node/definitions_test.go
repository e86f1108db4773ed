package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/internal/nodelog"
)

// What only a person can end is an ERROR, which says what to look at.
func TestTroubleWithTheDefinitionIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		line string
	}{
		"the app":        {fmt.Errorf("log-in: %w", echostream.ErrAppInactive), "[ERROR] EchoStream refuses this node's app"},
		"the log-in":     {fmt.Errorf("log-in: %w", echostream.ErrConfiguration), "[ERROR] EchoStream refuses the node's log-in"},
		"the node":       {fmt.Errorf("GetNode: %w", echostream.ErrNodeNotFound), "[ERROR] EchoStream has no such node"},
		"the config":     {fmt.Errorf("GetNode: %w", echostream.ErrInvalidConfig), "[ERROR] the config in EchoStream is not a JSON object"},
		"a person":       {fmt.Errorf("GetNode: %w", lookAtTheProxy{}), "[ERROR] EchoStream cannot be used by this node, and somebody"},
		"passes, we say": {errors.New("HTTP status 503"), "[WARNING] EchoStream cannot be reached; retrying"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				ctx, cancel := context.WithCancel(t.Context())
				d := &definitions{
					log:    slog.New(nodelog.NewHandler(&out, nil, nil)),
					read:   func(context.Context) (*echostream.Definition, error) { return nil, c.err },
					failed: func(error) {}, waits: func() bool { return false }, pace: Pace{}.withDefaults(),
				}
				time.AfterFunc(time.Millisecond, cancel)
				d.run(ctx)
				assert.Equal(t, 1, strings.Count(out.String(), "\n"), "%s", &out)
				assert.Contains(t, out.String(), c.line)
				assert.Contains(t, out.String(), c.err.Error())
			})
		})
	}
}

type lookAtTheProxy struct{}

func (lookAtTheProxy) Error() string  { return "HTTP status 407; look at the proxy" }
func (lookAtTheProxy) Operator() bool { return true }
