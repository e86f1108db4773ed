package nodelog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/internal/redact"
)

// writes keeps what each Write got.
type writes struct {
	mu     sync.Mutex
	events []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, string(p))
	return len(p), nil
}

func (w *writes) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

type logEvent struct {
	level, message string
	attrs          []logAttr
}

type logAttr struct{ key, value string }

func (e logEvent) value(key string) string {
	for _, a := range e.attrs {
		if a.key == key {
			return a.value
		}
	}
	return "(no " + key + ")"
}

var eventStart = regexp.MustCompile(`^\[(CRITICAL|DEBUG|ERROR|INFO|WARNING)\] `)

// parseEvent reads an event back by the rules at the top of log.go.
func parseEvent(s string) (logEvent, error) {
	var e logEvent
	line, ok := strings.CutSuffix(s, "\n")
	if !ok || strings.ContainsAny(line, "\r\n") {
		return e, fmt.Errorf("not one line: %q", s)
	}
	tag := eventStart.FindStringSubmatch(line)
	if tag == nil {
		return e, fmt.Errorf("no level tag: %q", s)
	}
	e.level, line = tag[1], line[len(tag[0]):]
	var err error
	if strings.HasPrefix(line, `"`) {
		if e.message, line, err = unquotePrefix(line); err != nil {
			return e, err
		}
	} else if i := strings.IndexByte(line, '='); i < 0 {
		e.message, line = line, ""
	} else {
		i = strings.LastIndexByte(line[:i], ' ')
		if i < 0 {
			return e, fmt.Errorf("no message: %q", s)
		}
		e.message, line = line[:i], line[i:]
	}
	for line != "" {
		key, rest, ok := strings.Cut(line, "=")
		if !ok || key == "" || key[0] != ' ' || strings.ContainsAny(key[1:], " \"") {
			return e, fmt.Errorf("no key at %q", line)
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			if value, line, err = unquotePrefix(rest); err != nil {
				return e, err
			}
		} else {
			end := strings.IndexByte(rest, ' ')
			if end < 0 {
				end = len(rest)
			}
			value, line = rest[:end], rest[end:]
		}
		e.attrs = append(e.attrs, logAttr{key[1:], value})
	}
	return e, nil
}

func unquotePrefix(s string) (value, rest string, err error) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", fmt.Errorf("%w: %q", err, s)
	}
	value, err = strconv.Unquote(quoted)
	return value, s[len(quoted):], err
}

func TestLogLevels(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(NewHandler(&out, slog.Level(-100), nil))
	for _, level := range []slog.Level{-8, slog.LevelDebug, -1, slog.LevelInfo, 3, slog.LevelWarn, 7, slog.LevelError, 11, LevelCritical, 99} {
		log.Log(t.Context(), level, "x")
	}
	assert.Equal(t, "[DEBUG] x\n[DEBUG] x\n[DEBUG] x\n[INFO] x\n[INFO] x\n[WARNING] x\n[WARNING] x\n"+
		"[ERROR] x\n[ERROR] x\n[CRITICAL] x\n[CRITICAL] x\n", out.String())
}

func TestLogThreshold(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(NewHandler(&out, nil, nil))
	log.Debug("no")
	log.Info("yes")
	assert.Equal(t, "[INFO] yes\n", out.String())

	out.Reset()
	level := new(slog.LevelVar)
	level.Set(slog.LevelError)
	log = slog.New(NewHandler(&out, level, nil)).With("a", 1).WithGroup("g")
	log.Warn("no")
	level.Set(slog.LevelDebug)
	log.Debug("yes")
	assert.Equal(t, "[DEBUG] yes a=1\n", out.String())
}

type celsius float64

func (c celsius) String() string { return fmt.Sprintf("%g °C", float64(c)) }

type nilStringer struct{ s string }

func (n *nilStringer) String() string { return n.s }

type panics struct{}

func (panics) Error() string { panic("no") }

type valuer struct{ v slog.Value }

func (v valuer) LogValue() slog.Value { return v.v }

func TestLogForms(t *testing.T) {
	zone := time.FixedZone("", 2*3600)
	tests := []struct {
		name  string
		attrs []any
		want  string
	}{
		{"none", nil, ""},
		{"word", []any{"k", "word"}, " k=word"},
		{"empty", []any{"k", ""}, ` k=""`},
		{"space", []any{"k", "two words"}, ` k="two words"`},
		{"quote", []any{"k", `say "hi"`}, ` k="say \"hi\""`},
		{"equals", []any{"k", "a=b"}, ` k="a=b"`},
		{"backslash", []any{"k", `C:\x`}, ` k="C:\\x"`},
		{"line break", []any{"k", "a\n[ERROR] b\r\n"}, ` k="a\n[ERROR] b\r\n"`},
		{"escape sequence", []any{"k", "\x1b[31mred"}, ` k="\x1b[31mred"`},
		{"line separator", []any{"k", "a\u2028b\u0085"}, ` k="a\u2028b\u0085"`},
		{"right to left", []any{"k", "\u202egpj.exe"}, ` k="\u202egpj.exe"`},
		{"not UTF-8", []any{"k", "a\xffb"}, ` k="a\xffb"`},
		{"UTF-8", []any{"k", "Müller/日本.csv"}, ` k=Müller/日本.csv`},
		{"int", []any{"k", -12}, " k=-12"},
		{"uint", []any{"k", uint64(18446744073709551615)}, " k=18446744073709551615"},
		{"float", []any{"k", 0.5}, " k=0.5"},
		{"bool", []any{"k", true}, " k=true"},
		{"duration", []any{"k", 1500 * time.Millisecond}, " k=1.5s"},
		{"time", []any{"k", time.Date(2026, 1, 2, 3, 4, 5, 6789000, zone)}, " k=2026-01-02T01:04:05.006Z"},
		{"bytes", []any{"k", []byte("a b\x00")}, ` k="a b\x00"`},
		{"JSON", []any{"k", json.RawMessage(`{"a":1}`)}, ` k="{\"a\":1}"`},
		{"error", []any{"err", fmt.Errorf("read: %w", io.ErrUnexpectedEOF)}, ` err="read: unexpected EOF"`},
		{"joined errors", []any{"err", errors.Join(io.EOF, io.EOF)}, ` err="EOF\nEOF"`},
		{"nil error", []any{"err", error(nil)}, " err=<nil>"},
		{"nil", []any{"k", nil}, " k=<nil>"},
		{"stringer", []any{"k", celsius(21.5)}, ` k="21.5 °C"`},
		{"nil stringer", []any{"k", (*nilStringer)(nil)}, " k=<nil>"},
		{"panic", []any{"k", panics{}}, ` k="!PANIC in nodelog.panics"`},
		{"text marshaler", []any{"k", slog.LevelWarn}, " k=WARN"},
		{"slice", []any{"k", []string{"a", "b"}}, ` k="[a b]"`},
		{"struct", []any{"k", struct{ A, B int }{1, 2}}, ` k="{A:1 B:2}"`},
		{"valuer", []any{"k", valuer{slog.IntValue(3)}}, " k=3"},
		{"valuer of a group", []any{"k", valuer{slog.GroupValue(slog.Int("a", 1))}}, " k.a=1"},
		{"group", []any{slog.Group("g", "a", 1, slog.Group("h", "b", 2), slog.Group("none"))}, " g.a=1 g.h.b=2"},
		{"inlined group", []any{slog.Group("", "a", 1)}, " a=1"},
		{"empty attribute", []any{slog.Attr{}}, ""},
		{"empty key", []any{"", 1}, " _=1"},
		{"bad key", []any{"a b=\"c\"\n\\\xff\u202e", 1}, " a_b__c_____=1"},
		{"no value", []any{"k"}, " !BADKEY=k"},
		{"secret", []any{"k", echostream.Secret("hunter2")}, " k=[redacted]"},
		{"secret key", []any{"Password", "hunter2", slog.Group("aws", "sessionToken", []byte("x"))},
			" Password=[redacted] aws.sessionToken=[redacted]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			slog.New(NewHandler(&out, nil, nil)).Info("message here", tt.attrs...)
			assert.Equal(t, "[INFO] message here"+tt.want+"\n", out.String())
			_, err := parseEvent(out.String())
			require.NoError(t, err)
		})
	}
}

func TestLogMessages(t *testing.T) {
	tests := []struct{ message, want string }{
		{"Listening on :2121", "Listening on :2121"},
		{"", `""`},
		{" x", `" x"`},
		{"x ", `"x "`},
		{"a=b", `"a=b"`},
		{`say "hi"`, `say "hi"`},
		{`"hi", they say`, `"\"hi\", they say"`},
		{`a\"b`, `a\"b`},
		{"a\n[CRITICAL] b", `"a\n[CRITICAL] b"`},
		{"[CRITICAL] b", "[CRITICAL] b"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		slog.New(NewHandler(&out, nil, nil)).Info(tt.message, "k", "v")
		assert.Equal(t, "[INFO] "+tt.want+" k=v\n", out.String())
		e, err := parseEvent(out.String())
		require.NoError(t, err)
		assert.Equal(t, tt.message, e.message)
	}
}

func TestLogGroupsAndAttrs(t *testing.T) {
	var out bytes.Buffer
	base := slog.New(NewHandler(&out, nil, nil))
	a := base.With("a", 1)
	g := a.WithGroup("g").With("b", 2)
	h := g.WithGroup("h")
	x, y := g.With("x", 1), g.With("y", 2)
	base.Info("m", "k", 0)
	a.Info("m", "k", 0)
	g.Info("m", "k", 0)
	h.Info("m")
	h.With("c", 3).Info("m", "k", 0)
	x.Info("m")
	y.Info("m")
	base.WithGroup("").With().Info("m")
	assert.Equal(t, strings.Join([]string{
		"[INFO] m k=0",
		"[INFO] m a=1 k=0",
		"[INFO] m a=1 g.b=2 g.k=0",
		"[INFO] m a=1 g.b=2",
		"[INFO] m a=1 g.b=2 g.h.c=3 g.h.k=0",
		"[INFO] m a=1 g.b=2 g.x=1",
		"[INFO] m a=1 g.b=2 g.y=2",
		"[INFO] m",
	}, "\n")+"\n", out.String())
}

// Loggers made from the same one must not write into each other's attributes and groups, however many there are.
func TestLogDerivedLoggersAreApart(t *testing.T) {
	var out bytes.Buffer
	attrs, groups := slog.New(NewHandler(&out, nil, nil)), slog.New(NewHandler(&out, nil, nil))
	for i := range 20 {
		ax, ay := attrs.With("x", i), attrs.With("y", i)
		gx, gy := groups.WithGroup("x"), groups.WithGroup("y")
		out.Reset()
		ax.Info("m")
		assert.Contains(t, out.String(), fmt.Sprintf(" x=%d\n", i))
		ay.Info("m")
		assert.Contains(t, out.String(), fmt.Sprintf(" y=%d\n", i))
		out.Reset()
		gx.Info("m", "k", i)
		assert.Contains(t, out.String(), fmt.Sprintf("x.k=%d\n", i))
		gy.Info("m", "k", i)
		assert.Contains(t, out.String(), fmt.Sprintf("y.k=%d\n", i))
		attrs, groups = attrs.With("i", i), groups.WithGroup("g")
	}
}

// oneAtATime is a writer that cannot stand two callers at once.
type oneAtATime struct {
	busy    atomic.Bool
	clashes atomic.Int64
	writes
}

func (w *oneAtATime) Write(p []byte) (int, error) {
	if !w.busy.CompareAndSwap(false, true) {
		w.clashes.Add(1)
	}
	runtime.Gosched()
	defer w.busy.Store(false)
	return w.writes.Write(p)
}

func TestLogEventIsOneWrite(t *testing.T) {
	var out oneAtATime
	log := slog.New(NewHandler(&out, nil, nil))
	const goroutines, events = 8, 50
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			log := log.With("goroutine", g)
			for i := range events {
				log.Info("event\nwith a line break", "i", i, "text", strings.Repeat("x", i*10))
			}
		})
	}
	wg.Wait()
	got := out.take()
	require.Len(t, got, goroutines*events)
	seen := map[string]bool{}
	for _, s := range got {
		e, err := parseEvent(s)
		require.NoError(t, err)
		seen[e.value("goroutine")+"/"+e.value("i")] = true
	}
	assert.Len(t, seen, goroutines*events)
	assert.Zero(t, out.clashes.Load())
}

func TestLogEventIsCutBelowTheLimit(t *testing.T) {
	const limit = 256 << 10
	worst := strings.Repeat("\x00", 1<<20) // four bytes each when quoted
	manyAttrs := make([]any, 0, 60_000)
	for i := range 30_000 {
		manyAttrs = append(manyAttrs, fmt.Sprintf("key%d", i), "some value")
	}
	tests := []struct {
		name    string
		message string
		attrs   []any
	}{
		{"message", worst, nil},
		{"one value", "m", []any{"k", worst}},
		{"many values", "m", []any{"a", worst, "b", worst, "c", worst, "d", worst}},
		{"all", worst, []any{"a", worst, strings.Repeat("k", 1<<20), worst}},
		{"key", "m", []any{strings.Repeat("ä", 1<<20), "v"}},
		{"many attributes", "m", manyAttrs},
		{"error", "m", []any{"err", errors.New(worst)}},
		{"wide", "m", []any{"k", strings.Repeat("ä日", 1<<18)}},
		{"continuation bytes", "m", []any{"k", strings.Repeat("\x80", 1<<18)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out writes
			slog.New(NewHandler(&out, nil, nil)).Info(tt.message, append(tt.attrs, "trackingId", "4bf92f35")...)
			got := out.take()
			require.Len(t, got, 1)
			require.Less(t, len(got[0]), limit-26)
			require.True(t, strings.HasSuffix(got[0], " truncated=true\n"))
			e, err := parseEvent(got[0])
			require.NoError(t, err)
			if tt.name != "many attributes" {
				assert.Equal(t, "4bf92f35", e.value("trackingId"), "what is short must not be lost")
			}
			if tt.name == "wide" {
				assert.True(t, utf8.ValidString(e.value("k")))
			}
		})
	}
	var out bytes.Buffer
	slog.New(NewHandler(&out, nil, nil)).Info("m", "k", strings.Repeat("x", maxLogValue))
	assert.NotContains(t, out.String(), "truncated")
}

func TestLogWriteErrorIsReturned(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	err := NewHandler(w, nil, nil).Handle(t.Context(), slog.NewRecord(time.Time{}, 0, "m", 0))
	require.ErrorIs(t, err, io.ErrClosedPipe)
}

func TestLogHidesSecrets(t *testing.T) {
	const (
		password  = `p"ä\ss w=rd/é`
		presigned = "https://b.s3.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101&X-Amz-Signature=deadbeef"
		jwt       = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
		jwe       = "eyJjdHkiOiJKV1QiLCJlbmMi.a_b-c.d.e.f"
	)
	var out bytes.Buffer
	secrets := new(redact.Secrets)
	log := slog.New(NewHandler(&out, nil, secrets)).With("early", "late secret")
	secrets.Add(password, "abc", "", "late secret", password)
	log.Info("the password is "+password,
		"raw", password,
		"quoted", fmt.Sprintf("%q", password),
		"ascii", fmt.Sprintf("%+q", password),
		"query", url.Values{"p": {password}}.Encode(),
		"path", url.PathEscape(password),
		"json", fmt.Sprintf(`{"p":%s}`, mustJSON(t, password)),
		"bytes", []byte("x"+password),
		"error", fmt.Errorf("login with %s failed", password),
		"url", presigned,
		"urlError", &url.Error{Op: "Put", URL: presigned, Err: io.EOF},
		"jwt", "Authorization: "+jwt,
		"jwe", jwe,
		"proxy", "http://me:hunter2@proxy:3128/",
		"short", "abc",
		"late secret", "x",
	)
	got := out.String()
	for _, secret := range []string{password, "ss w=rd", "ss+w", "ss%20w", "late secret", "deadbeef", "AKIA", "X-Amz", "eyJ", "hunter2", "c2lnbmF0dXJl", "a_b-c"} {
		assert.NotContains(t, got, secret)
	}
	assert.Contains(t, got, "short=abc", "short values are left")
	assert.Contains(t, got, "url=https://b.s3.amazonaws.com/k?[redacted]")
	assert.Contains(t, got, "proxy=http://[redacted]@proxy:3128/")
	_, err := parseEvent(got)
	require.NoError(t, err)
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

// FuzzLog logs whatever is given: each event must be one tagged line that reads back as what was logged.
func FuzzLog(f *testing.F) {
	f.Add(0, "message", "key", "value", "group")
	f.Add(4, "a\n[ERROR] b", "k\n", "v\r\n[INFO] x", "")
	f.Add(8, " =", "", "", "g=")
	f.Add(-4, "\"", "\"", "\\\"", "a b")
	f.Add(12, "\xff\xfe", "\u2028", "\u202e", "\x00")
	f.Add(99, "a k=v", "k", "x truncated=true", "g")
	f.Add(0, "?X-Amz-Signature=1", "token", "eyJhbGciOiJSUzI1NiJ9.a.b", "g")
	f.Fuzz(func(t *testing.T, level int, message, key, value, group string) {
		checkLog(t, slog.Level(level), message, key, value, group)
	})
}

// TestLogRandomText is FuzzLog for every test run, over text made of what could break a line.
func TestLogRandomText(t *testing.T) {
	parts := []string{"\n", "\r", "[ERROR] ", "[", "]", " ", "=", `"`, `\`, "'", "a", "key=v", "\x00", "\xff", "\u2028", "\u202e", "é", "日", "😀",
		"eyJhbGciOiJSUzI1NiJ9.a.b", "https://h/k?X-Amz-Signature=1", "\t", "\u00a0", "\ufffd", "\ufeff", ".", " truncated=true"}
	const seed = 20261107
	random := rand.New(rand.NewPCG(seed, 0))
	text := func() string {
		var b strings.Builder
		for range random.IntN(8) {
			b.WriteString(parts[random.IntN(len(parts))])
		}
		return b.String()
	}
	for range 5000 {
		checkLog(t, slog.Level(random.IntN(24)-8), text(), text(), text(), text())
	}
}

func checkLog(t *testing.T, level slog.Level, message, key, value, group string) {
	t.Helper()
	var out writes
	log := slog.New(NewHandler(&out, slog.Level(-1<<30), nil))
	log = log.With(key, value).WithGroup(group)
	log.Log(t.Context(), level, message, key, value, "err", errors.New(value), "bytes", []byte(value), "n", 1)
	log.Log(t.Context(), level, message)
	got := out.take()
	if level < -1<<30 {
		return
	}
	if len(got) != 2 {
		t.Fatalf("2 events, %d writes", len(got))
	}
	if strings.Count(got[0]+got[1], "\n") != 2 || !utf8.ValidString(got[0]+got[1]) {
		t.Fatalf("not two lines of text: %q", got)
	}
	for i, s := range got {
		if len(s) >= 256<<10 {
			t.Fatalf("%d bytes", len(s))
		}
		e, err := parseEvent(s)
		if err != nil {
			t.Fatal(err)
		}
		if len(message) > maxLogValue || len(value) > maxLogValue || len(key)+len(group) > maxLogKey {
			continue
		}
		if e.message != redact.Text(message) {
			t.Fatalf("message %q read back as %q from %q", message, e.message, s)
		}
		if want := []int{5, 1}[i]; len(e.attrs) != want {
			t.Fatalf("%d attributes, want %d: %q", len(e.attrs), want, s)
		}
		for j, a := range e.attrs {
			want := redact.Text(value)
			if j == 4 {
				want = "1"
			} else if j < 2 && isSecretKey(key) {
				want = redact.Mark
			}
			if a.value != want {
				t.Fatalf("value %q read back as %q from %q", value, a.value, s)
			}
		}
	}
}
