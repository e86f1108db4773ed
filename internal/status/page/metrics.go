package page

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/ftpnode/ftpnode/internal/status"
)

// metrics answers Prometheus.
func (p *Page) metrics() http.Handler {
	metrics.ExposeMetadata(true) // says of the process's metrics what is a counter
	places := make(chan struct{}, 4)
	next := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			http.Error(w, "Four others ask for the metrics at this moment. Try again.", http.StatusServiceUnavailable)
			return
		}
		var text exposition
		text.report(p.report())
		metrics.WriteProcessMetrics(&text)
		metrics.WriteFDMetrics(&text)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write([]byte(text.String()))
	}), 20*time.Second, "The node cannot be asked for its metrics.")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.door.open(r) {
			_, password, ok := r.BasicAuth()
			if !ok {
				w.Header().Set("WWW-Authenticate", `Basic realm="status", charset="UTF-8"`)
				http.Error(w, "status.password of the node's config is required", http.StatusUnauthorized)
				return
			}
			if code, why := p.door.allow(r, password); why != "" {
				http.Error(w, why, code)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// metric is one kind of what /metrics tells.
type metric struct {
	name, help string
	counts     bool // only upwards
	labels     []string
	values     func(r status.Report) []value
}

// value is that of one set of labels.
type value struct {
	number float64
	labels []string
}

// one is the value of a metric without labels.
func one(number func(r status.Report) float64) func(status.Report) []value {
	return func(r status.Report) []value { return []value{{number: number(r)}} }
}

// each is a value for each target.
func each(number func(t status.Target) float64) func(status.Report) []value {
	return func(r status.Report) (values []value) {
		for _, t := range r.Targets {
			values = append(values, value{number(t), []string{t.Name}})
		}
		return values
	}
}

var all = []metric{
	{name: "info", help: "The node and its program; always 1.", labels: []string{"node", "program", "tenant", "version"},
		values: func(r status.Report) []value { return []value{{1, []string{r.Node, r.Program, r.Tenant, r.Version}}} }},
	{name: "start_time_seconds", help: "When the node started, in seconds since 1970.", values: one(func(r status.Report) float64 { return seconds(r.Since) })},
	{name: "healthy", help: "1 while the node is healthy, otherwise 0.", values: one(func(r status.Report) float64 { return truth(r.Health.OK) })},
	{name: "cloud_reachable", help: "1 if EchoStream answered the last time, otherwise 0.",
		values: one(func(r status.Report) float64 { return truth(r.Cloud.Error.Text == "" && !r.Cloud.Read.IsZero()) })},
	{name: "definition_read_time_seconds", help: "When the node's definition was read last, in seconds since 1970; 0: not since the start.",
		values: one(func(r status.Report) float64 { return seconds(r.Cloud.Read) })},
	{name: "waiting_files", help: "Files that are accepted and not delivered to all targets.", values: one(func(r status.Report) float64 { return float64(r.Waiting.Files) })},
	{name: "waiting_bytes", help: "Bytes of the waiting files.", values: one(func(r status.Report) float64 { return float64(r.Waiting.Bytes) })},
	{name: "held_files", help: "Waiting files under temporary names.", values: one(func(r status.Report) float64 { return float64(r.Waiting.Held) })},
	{name: "oldest_waiting_seconds", help: "How long the oldest waiting file that is not held waits; 0 if none does.", values: one(oldest)},
	{name: "failed_files", help: "Files that were set aside and need a person.", values: one(func(r status.Report) float64 { return float64(len(r.Failed)) })},
	{name: "delivered_files_total", help: "Files delivered to all targets since the start.", counts: true,
		values: one(func(r status.Report) float64 { return float64(r.Sent.Files) })},
	{name: "delivered_bytes_total", help: "Bytes of the delivered files.", counts: true, values: one(func(r status.Report) float64 { return float64(r.Sent.Bytes) })},
	{name: "uploads", help: "Uploads under way.", values: one(func(r status.Report) float64 { return float64(len(r.Bridge.Uploads)) })},
	{name: "interrupted_uploads", help: "Interrupted uploads that can be resumed or accepted.",
		values: one(func(r status.Report) float64 { return float64(len(r.Bridge.Interrupted)) })},
	{name: "volume_free_bytes", help: "Free bytes of the volume.", values: one(func(r status.Report) float64 { return float64(r.Disk.Free) })},
	{name: "volume_writable", help: "1 while the volume takes writes, otherwise 0.", values: one(func(r status.Report) float64 { return truth(r.Disk.Error.Text == "") })},
	{name: "target_waiting_files", help: "Files that a target has not acknowledged.", labels: []string{"target"},
		values: each(func(t status.Target) float64 { return float64(t.Files) })},
	{name: "target_waiting_bytes", help: "Bytes of the files that a target has not acknowledged.", labels: []string{"target"},
		values: each(func(t status.Target) float64 { return float64(t.Bytes) })},
	{name: "target_acknowledged_time_seconds", help: "When a target acknowledged a file last, in seconds since 1970; 0: not since the start.", labels: []string{"target"},
		values: each(func(t status.Target) float64 { return seconds(t.LastAcknowledged) })},
}

func oldest(r status.Report) float64 {
	if r.Waiting.Oldest == nil {
		return 0
	}
	return max(0, r.At.Sub(r.Waiting.Oldest.Accepted).Seconds())
}

const prefix = "echostream_node_"

// exposition is a text for Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4. (Prometheus' own library makes it of
// protobuf, which costs 2 MiB of memory, scraped or not; that of VictoriaMetrics, which tells of the process, knows no help and no escapes.)
type exposition struct{ strings.Builder }

// about begins a metric, whose values follow.
func (x *exposition) about(name, kind, help string) {
	fmt.Fprintf(x, "# HELP %s %s\n# TYPE %s %s\n", name, strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help), name, kind)
}

// value is one of a metric. labels are names and values in turn.
func (x *exposition) value(name string, number float64, labels ...string) {
	x.WriteString(name)
	for i := 0; i < len(labels); i += 2 {
		x.WriteString([]string{"{", ","}[min(i, 1)])
		x.WriteString(labels[i] + `="`)
		x.WriteString(strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")))
		x.WriteByte('"')
	}
	if len(labels) > 0 {
		x.WriteByte('}')
	}
	x.WriteString(" " + strconv.FormatFloat(number, 'g', -1, 64) + "\n")
}

// report is what the node tells of itself.
func (x *exposition) report(r status.Report) {
	for _, m := range all {
		kind := "gauge"
		if m.counts {
			kind = "counter" // goes upwards only
		}
		values := m.values(r)
		if len(values) == 0 {
			continue
		}
		x.about(prefix+m.name, kind, m.help)
		for _, v := range values {
			var labels []string
			for i, name := range m.labels {
				labels = append(labels, name, v.labels[i])
			}
			x.value(prefix+m.name, v.number, labels...)
		}
	}
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
