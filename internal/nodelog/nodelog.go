// Package nodelog writes a node's log in the form that EchoStream reads.
package nodelog

import (
	"bytes"
	"context"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ftpnode/ftpnode/internal/redact"
)

// LevelCritical is the level of the tag CRITICAL, for what stops the node from doing its work.
const LevelCritical = slog.LevelError + 4

// What EchoStream reads from a node's output:
//
//   - An event is one line "[LEVEL] message key=value ...\n", written at once. The levels are CRITICAL, DEBUG,
//     ERROR, INFO and WARNING. There is no time in it: CloudWatch and Docker keep that of the event.
//   - Nothing that is logged can begin a line or end one: line breaks, control characters, invisible characters and
//     bytes that are not UTF-8 are escaped as in a Go string.
//   - A line can be read back. A message that begins with a quote, or has "=" in it or space around it, is a quoted Go
//     string; else it ends before the first key. A value is a quoted Go string if it is empty or has white space, "=", a
//     quote or a backslash in it. In a key, whatever could end it is "_". Groups stand before the key, with dots.
//   - An event is under 256 KiB, where CloudWatch would cut it: what is too long is cut here, and says so.
const (
	// maxLogEvent leaves room for the 26 bytes that CloudWatch counts for each event.
	maxLogEvent = 256<<10 - 1<<10
	// maxLogValue keeps one huge value from pushing out the ones after it.
	maxLogValue = 32 << 10
	maxLogKey   = 1 << 10

	logCutMark = " truncated=true"
	logTime    = "2006-01-02T15:04:05.000Z07:00"
)

// NewHandler returns a handler that writes events of at least the given level to w in the form that EchoStream
// reads: "[INFO] message key=value", one line and one Write for each event, whatever text is logged. By default (nil)
// the level is Info. The times of events are left out, since whoever collects the lines notes it.
//
// As a second line of defence, it blots out the queries of presigned URLs, Cognito's tokens, passwords in URLs, the
// values of keys like "password" and "token", and the values of secrets, also those that are added later; nil is none.
func NewHandler(w io.Writer, level slog.Leveler, secrets *redact.Secrets) slog.Handler {
	if level == nil {
		level = slog.LevelInfo
	}
	return &logHandler{out: &logWriter{w: w}, level: level, secrets: secrets}
}

// logWriter is shared by a handler and all that are derived from it.
type logWriter struct {
	mu sync.Mutex
	w  io.Writer
}

type logHandler struct {
	out     *logWriter
	level   slog.Leveler
	secrets *redact.Secrets
	// attrs are those of WithAttrs, wrapped in the groups that were open then. They are formatted with each event,
	// not before, so that secrets which became known since are found in them.
	attrs []slog.Attr
	// groups are open for what is to come.
	groups []string
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	derived := *h
	derived.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], inGroups(h.groups, attrs)...)
	return &derived
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	derived := *h
	derived.groups = append(h.groups[:len(h.groups):len(h.groups)], name)
	return &derived
}

func inGroups(groups []string, attrs []slog.Attr) []slog.Attr {
	for i := len(groups) - 1; i >= 0; i-- {
		attrs = []slog.Attr{{Key: groups[i], Value: slog.GroupValue(attrs...)}}
	}
	return attrs
}

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	line := newLogLine(h.secrets)
	defer line.free()
	line.buf = append(line.buf, levelTag(r.Level)...)
	line.message(r.Message)
	for _, a := range h.attrs {
		line.attr("", a)
	}
	prefix := ""
	for _, g := range h.groups {
		prefix += g + "."
	}
	r.Attrs(func(a slog.Attr) bool {
		line.attr(prefix, a)
		return true
	})
	line.end()
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := h.out.w.Write(line.buf)
	return err
}

func levelTag(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "[DEBUG]"
	case l < slog.LevelWarn:
		return "[INFO]"
	case l < slog.LevelError:
		return "[WARNING]"
	case l < LevelCritical:
		return "[ERROR]"
	}
	return "[CRITICAL]"
}

// logLine is a line being made. Before end, it has room left for the mark and the line's end.
type logLine struct {
	buf     []byte
	secrets *redact.Secrets
	cut     bool // something was left out
}

var logLines = sync.Pool{New: func() any { return new(logLine) }}

func newLogLine(secrets *redact.Secrets) *logLine {
	l := logLines.Get().(*logLine)
	*l = logLine{buf: l.buf[:0], secrets: secrets}
	return l
}

func (l *logLine) free() {
	if cap(l.buf) <= 16<<10 { // do not keep what a rare huge event needed
		l.secrets = nil
		logLines.Put(l)
	}
}

func (l *logLine) end() {
	if l.cut {
		l.buf = append(l.buf, logCutMark...)
	}
	l.buf = append(l.buf, '\n')
}

// text takes out what is secret, and what is too long. It must come before quoting: a secret is not found in escapes.
func (l *logLine) text(s string) string {
	s = redact.Text(l.secrets.Redact(s))
	if len(s) <= maxLogValue {
		return s
	}
	l.cut = true
	end := maxLogValue
	for end > maxLogValue-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

func (l *logLine) message(s string) {
	s = l.text(s)
	l.buf = append(l.buf, ' ')
	if s == "" || s[0] == ' ' || s[len(s)-1] == ' ' || s[0] == '"' || needsQuotes(s, "") {
		l.buf = strconv.AppendQuote(l.buf, s)
		return
	}
	l.buf = append(l.buf, s...)
}

func (l *logLine) attr(prefix string, a slog.Attr) {
	a.Value = a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return
	case a.Value.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range a.Value.Group() {
			l.attr(prefix, member)
		}
		return
	}
	start := len(l.buf)
	l.buf = append(l.buf, ' ')
	l.key(prefix + a.Key)
	l.buf = append(l.buf, '=')
	if isSecretKey(a.Key) {
		l.buf = append(l.buf, redact.Mark...)
	} else {
		l.value(a.Value)
	}
	if len(l.buf) > maxLogEvent-len(logCutMark)-1 {
		// A later, shorter one may still fit: a tracking id, for example.
		l.buf, l.cut = l.buf[:start], true
	}
}

// isSecretKey tells the names of values that are never to be shown, should code log them by mistake.
func isSecretKey(key string) bool {
	switch strings.ToLower(key) {
	case "password", "passwordhash", "passwd", "secret", "secretkey", "secretaccesskey", "sessiontoken", "token", "accesstoken",
		"idtoken", "refreshtoken", "authorization", "privatekey", "presignedget", "presignedput", "presignedpost":
		return true
	}
	return false
}

func (l *logLine) key(key string) {
	key = redact.Text(l.secrets.Redact(key))
	if key == "" {
		l.buf = append(l.buf, '_')
		return
	}
	if len(key) > maxLogKey {
		key, l.cut = key[:maxLogKey], true
	}
	for _, r := range key {
		if r == '=' || r == '"' || r == '\\' || r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			r = '_'
		}
		l.buf = utf8.AppendRune(l.buf, r)
	}
}

func (l *logLine) value(v slog.Value) {
	switch v.Kind() {
	case slog.KindBool:
		l.buf = strconv.AppendBool(l.buf, v.Bool())
	case slog.KindDuration:
		l.buf = append(l.buf, v.Duration().String()...)
	case slog.KindFloat64:
		l.buf = strconv.AppendFloat(l.buf, v.Float64(), 'g', -1, 64)
	case slog.KindInt64:
		l.buf = strconv.AppendInt(l.buf, v.Int64(), 10)
	case slog.KindTime:
		l.buf = v.Time().UTC().AppendFormat(l.buf, logTime)
	case slog.KindUint64:
		l.buf = strconv.AppendUint(l.buf, v.Uint64(), 10)
	case slog.KindString:
		l.quoted(v.String())
	default:
		l.quoted(anyText(v.Any()))
	}
}

func (l *logLine) quoted(s string) {
	s = l.text(s)
	if s == "" || needsQuotes(s, ` "\`) {
		l.buf = strconv.AppendQuote(l.buf, s)
		return
	}
	l.buf = append(l.buf, s...)
}

// needsQuotes reports whether s would be read back as something else, or not be one line, if it were written as it is. Those in special would be.
func needsQuotes(s, special string) bool {
	for i, r := range s {
		switch {
		case r == '=' || strings.ContainsRune(special, r):
			return true
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return true
			}
		case !unicode.IsPrint(r):
			return true
		}
	}
	return false
}

// anyText is the text of a value that slog has no kind for. A value that panics must not take the node with it.
func anyText(v any) (text string) {
	defer func() {
		if p := recover(); p != nil {
			if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() {
				text = "<nil>"
				return
			}
			text = fmt.Sprintf("!PANIC in %T", v)
		}
	}()
	switch v := v.(type) {
	case nil:
		return "<nil>"
	case error:
		return v.Error()
	case time.Time:
		return v.UTC().Format(logTime)
	case []byte:
		return string(v)
	case encoding.TextMarshaler:
		b, err := v.MarshalText()
		if err != nil {
			return "!ERROR " + err.Error()
		}
		return string(b)
	case fmt.Stringer:
		return v.String()
	}
	if b, ok := byteSlice(v); ok {
		return string(b)
	}
	return fmt.Sprintf("%+v", v)
}

// byteSlice is the bytes of a type like json.RawMessage.
func byteSlice(v any) ([]byte, bool) {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Slice || rv.Type().Elem().Kind() != reflect.Uint8 {
		return nil, false
	}
	return bytes.Clone(rv.Bytes()), true
}
