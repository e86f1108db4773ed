package echostream

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// No more messages are asked for while too many records wait: none is dropped, and memory is bounded.
func TestAuditTrailIsFull(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	r := &receiver{client: &Client{clock: newServiceClock(time.Now, uptime(), log)}, log: log}
	r.node.Store(&Definition{Audit: true})
	a := newAuditTrail(r)
	for range maxAuditBacklog - 1 {
		a.add(ReceivedMessage{Type: "echo.text"})
	}
	assert.Nil(t, a.full())
	a.add(ReceivedMessage{Type: "echo.file"})
	full := a.full()
	require.NotNil(t, full)
	_, records := a.front()
	assert.Len(t, records, maxAuditRecords)
	for a.len() >= maxAuditBacklog/2 {
		select {
		case <-full:
			require.Fail(t, "there is no room yet")
		default:
		}
		a.remove(len(records))
	}
	<-full
	assert.Nil(t, a.full())
	a.remove(a.len() - 1)
	messageType, records := a.front()
	assert.Equal(t, "echo.file", messageType)
	assert.Len(t, records, 1, "those of one type go together")
}
