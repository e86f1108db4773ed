package status

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Rules for the text: the first line says it all, and is true on its own. Then a block for each thing, with what to do
// where something is wrong. Clocks are of the zone of Report.At, with their date unless it is today's. Names are what devices
// chose: whatever is not printable in them is escaped.

// Line is the report in one line.
func (r *Report) Line() string {
	s := r.Summary
	var b strings.Builder
	b.WriteString(s.Title)
	if !s.Since.IsZero() {
		b.WriteString(" since " + Clock(s.Since, r.At))
	}
	switch {
	case s.Why != "":
		b.WriteString(": " + Visible(s.Why))
	case s.Last != nil:
		fmt.Fprintf(&b, ". Last file %s, %s", Clock(s.Last.Delivered, r.At), Visible(s.Last.Name))
	}
	return b.String()
}

// Text writes r for people.
func (r *Report) Text(w io.Writer) error {
	t := &text{at: r.At}
	t.line(r.Line())
	t.line("")
	t.row("Node", "%s of %s, %s %s, running since %s (%s)", Visible(r.Node), Visible(r.Tenant), r.Program, r.Version, t.clock(r.Since), r.At.Format("MST"))
	switch r.Acknowledge {
	case "stored":
		t.more("a 226 means stored: the file is safe on the volume, and will be delivered")
	case "delivered":
		t.more("a 226 means delivered: every target has the file")
	}
	t.health(r)
	t.cloud(r.Cloud)
	for _, target := range r.Targets {
		t.target(target)
	}
	for _, source := range r.Sources {
		t.source(source)
	}
	if r.Waiting.Held > 0 {
		t.row("Held", "%s under temporary names, until the client renames them", count(r.Waiting.Held, "file", "files"))
	}
	t.failed(r)
	t.bridge(r)
	t.disk(r.Disk)
	_, err := io.WriteString(w, t.b.String())
	return err
}

type text struct {
	b  strings.Builder
	at time.Time
}

func (t *text) line(s string) { t.b.WriteString(strings.TrimRight(s, " ") + "\n") }

const indent = 13

// row is a line with a label.
func (t *text) row(label, format string, args ...any) {
	t.line(fmt.Sprintf("%-*s", indent, label) + Visible(fmt.Sprintf(format, args...)))
}

// more is a further line of a row.
func (t *text) more(format string, args ...any) { t.row("", format, args...) }

func (t *text) clock(at time.Time) string { return Clock(at, t.at) }

// since is a clock and how long ago that was.
func (t *text) since(at time.Time) string {
	return fmt.Sprintf("%s (%s ago)", t.clock(at), Age(t.at.Sub(at)))
}

// last says when something was last; at is zero if it was not since the start.
func (t *text) last(what string, at time.Time) string {
	if at.IsZero() {
		return "no " + what + " since the start"
	}
	return "last " + what + " " + t.since(at)
}

func (t *text) health(r *Report) {
	if r.Health.OK {
		t.row("Health", "healthy")
	}
	for _, problem := range r.Health.Problems {
		t.row("Health", "unhealthy: %s", problem)
	}
}

func (t *text) cloud(c Cloud) {
	switch {
	case c.Error.Text != "":
		t.row("EchoStream", "out of reach since %s: %s", t.since(c.Error.Since), c.Error.Text)
		if c.Error.Advice != "" {
			t.more("look at: %s", c.Error.Advice)
		}
		if !c.Read.IsZero() {
			t.more("the node's definition was read last %s", t.since(c.Read))
		} else if c.Kept {
			t.more("the node runs by the definition that it kept; it sends nothing until it has read it anew")
		}
	case c.Read.IsZero():
		t.row("EchoStream", "has not answered yet")
	default:
		t.row("EchoStream", "logged in; the node's definition was read last %s", t.since(c.Read))
	}
	if c.Stopped {
		t.more("the node is stopped: it takes files, and sends none until it is started in EchoStream")
	}
}

func (t *text) source(in Incoming) {
	if in.Messages == 0 {
		t.row("Source", "%s: no message since the start", Visible(in.Name))
	} else {
		t.row("Source", "%s: %s since the start; the last %s", Visible(in.Name), count(int(in.Messages), "message", "messages"), t.since(in.Last))
	}
	if in.Error.Text != "" {
		t.more("one cannot be handled since %s: %s", t.since(in.Error.Since), in.Error.Text)
	}
}

func (t *text) target(g Target) {
	waits := "nothing waits"
	if g.Files > 0 {
		waits = fmt.Sprintf("%s (%s)", count(g.Files, "file waits", "files wait"), Size(g.Bytes))
	}
	t.row("Target", "%s: %s; %s", Visible(g.Name), waits, t.last("acknowledgement", g.LastAcknowledged))
	if e := g.Error.Text; e != "" && (g.Oldest == nil || g.Oldest.Error != e) {
		t.more("error: %s", e)
	}
	if g.Error.Advice != "" {
		t.more("look at: %s", g.Error.Advice)
	}
	if f := g.Oldest; f != nil {
		t.more("oldest: %s, since %s, id %s", Visible(f.Name), t.since(f.Accepted), f.ID)
		if f.Attempts > 0 {
			next := ""
			if !f.Next.IsZero() {
				next = ", next " + t.clock(f.Next)
			}
			t.more("%s%s: %s", count(f.Attempts, "attempt failed", "attempts failed"), next, f.Error)
		}
	}
}

func (t *text) failed(r *Report) {
	for _, f := range r.Failed {
		t.row("Failed", "%s (%s) since %s, id %s", Visible(f.Name), Size(f.Bytes), t.since(f.Since), f.ID)
		t.more("reason: %s", f.Reason)
	}
	if len(r.Failed) > 0 {
		t.more("send one again: %s retry ID; all: %s retry --all; remove one: %s discard ID", r.Program, r.Program, r.Program)
	}
}

func (t *text) bridge(r *Report) {
	b := r.Bridge
	if b.Refuses != "" {
		t.row("Devices", "all are refused: %s", b.Refuses)
	}
	for _, s := range b.Senders {
		if s.LastLogin.IsZero() && s.LastUpload.IsZero() {
			t.row("User", "%s: not seen since the start", Visible(s.Name))
			continue
		}
		from := ""
		if s.From != "" {
			from = " from " + s.From
		}
		t.row("User", "%s: %s%s, %s", Visible(s.Name), t.last("log-in", s.LastLogin), from, t.last("upload", s.LastUpload))
	}
	for _, u := range b.Uploads {
		t.row("Receiving", "%s of %s: %s so far, since %s", Visible(u.Name), Visible(u.User), Size(u.Bytes), t.since(u.Since))
	}
	for _, u := range b.Interrupted {
		t.row("Interrupted", "%s of %s: %s, since %s, id %s", Visible(u.Name), Visible(u.User), Size(u.Bytes), t.since(u.Since), u.ID)
	}
	if len(b.Interrupted) > 0 {
		t.more("the device can resume them; one that is whole is sent by: %s accept ID", r.Program)
	}
	for _, a := range b.Attempts {
		user, times := "", ""
		if a.User != "" {
			user = " (" + Visible(a.User) + ")"
		}
		if a.Count > 1 {
			times = fmt.Sprintf(", %d times", a.Count)
		}
		t.row("Tried", "%s%s, last %s%s: %s", a.From, user, t.since(a.At), times, a.Tried)
		if a.Advice != "" {
			t.more("%s", a.Advice)
		}
	}
}

func (t *text) disk(d Disk) {
	if d.Error.Text != "" {
		t.row("Volume", "%s cannot be written since %s: %s", d.Dir, t.since(d.Error.Since), d.Error.Text)
		return
	}
	full := ""
	if d.Full {
		full = "; uploads are refused until there is room again"
	}
	t.row("Volume", "%s: %s free%s", d.Dir, Size(d.Free), full)
}

// Clock is a time of day in the zone of now, with its date unless it is today's.
func Clock(at, now time.Time) string {
	at = at.In(now.Location())
	if at.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return at.Format(time.TimeOnly)
	}
	return at.Format(time.DateTime)
}

// Age is a duration as people say it: 12s, 5m, 3h20m, 4d.
func Age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// Size is a number of bytes as people say it: 812 B, 3.4 MB.
func Size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1000, 0
	for value >= 999.95 && unit < 4 {
		value /= 1000
		unit++
	}
	return fmt.Sprintf("%.1f %s", value, [...]string{"kB", "MB", "GB", "TB", "PB"}[unit])
}

// Visible is s with whatever is not printable escaped, as in Go's source: names are chosen by devices.
func Visible(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}
