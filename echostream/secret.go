package echostream

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/ftpnode/ftpnode/internal/redact"
)

// Secret is a string that does not show itself: not in logs, in no fmt verb, not in JSON. string(s) is its value.
type Secret string

// Format writes "[redacted]", whatever the verb and the flags are.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// String is "[redacted]", or "" for the empty secret: that it is missing is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redact.Mark
}

// GoString is like String.
func (s Secret) GoString() string { return s.String() }

// LogValue is like String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is like String. There is no way back.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
