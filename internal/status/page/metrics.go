package page

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ftpnode/ftpnode/internal/status"
)

// metrics answers Prometheus.
func (p *Page) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{p.report})
	next := promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 20 * time.Second})
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
	{name: "info", help: "The node and its program; always 1.", labels: []string{"node", "tenant", "program", "version"},
		values: func(r status.Report) []value { return []value{{1, []string{r.Node, r.Tenant, r.Program, r.Version}}} }},
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

// collector makes metrics of a report.
type collector struct{ report func() status.Report }

// Describe implements prometheus.Collector. It says nothing: what a report has is seen when it is collected.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(to chan<- prometheus.Metric) {
	r := c.report()
	for _, m := range all {
		kind := prometheus.GaugeValue
		if m.counts {
			kind = prometheus.CounterValue
		}
		d := prometheus.NewDesc(prefix+m.name, m.help, m.labels, nil)
		for _, v := range m.values(r) {
			to <- prometheus.MustNewConstMetric(d, kind, v.number, v.labels...)
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
