// Package logtest is a node's standard output, as tests read it.
package logtest

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Buffer holds lines "[LEVEL] message key=value". The zero Buffer is empty.
type Buffer struct {
	mu      sync.Mutex
	current strings.Builder
	all     strings.Builder
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.Write(p)
	return b.current.Write(p)
}

// String is what was logged since the last Reset.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.current.String()
}

// Everything is what was logged, whatever was Reset.
func (b *Buffer) Everything() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// Reset begins anew.
func (b *Buffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current.Reset()
}

// Find returns the lines since the last Reset that hold all of the texts.
func (b *Buffer) Find(texts ...string) (found []string) {
	for line := range strings.Lines(b.String()) {
		holds := true
		for _, text := range texts {
			holds = holds && strings.Contains(line, text)
		}
		if holds {
			found = append(found, line)
		}
	}
	return found
}

// Wait waits for a line that holds all of the texts, and returns it.
func (b *Buffer) Wait(t *testing.T, texts ...string) (line string) {
	t.Helper()
	require.Eventually(t, func() bool {
		found := b.Find(texts...)
		if len(found) > 0 {
			line = found[0]
		}
		return len(found) > 0
	}, 30*time.Second, 10*time.Millisecond, "no line with %q in:\n%s", texts, b)
	return line
}

// Check holds everything against what holds for every log: its form, and that no secret is in it.
func (b *Buffer) Check(t *testing.T, secrets ...string) {
	t.Helper()
	for line := range strings.Lines(b.Everything()) {
		assert.Regexp(t, `^\[(CRITICAL|DEBUG|ERROR|INFO|WARNING)\] .*\n$`, line)
		assert.NotRegexp(t, `(?i)X-Amz-|Signature=|eyJ[A-Za-z0-9_-]{8}`, line, "no presigned URL, no token")
		for _, secret := range secrets {
			assert.NotContains(t, line, secret)
		}
	}
}
