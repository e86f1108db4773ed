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

// collector makes metrics of a report.
type collector struct{ report func() status.Report }

const prefix = "echostream_node_"

var (
	infoDesc         = desc("info", "The node and its program; always 1.", "node", "tenant", "program", "version")
	startDesc        = desc("start_time_seconds", "When the node started, in seconds since 1970.")
	healthyDesc      = desc("healthy", "1 while the node is healthy, otherwise 0.")
	reachableDesc    = desc("cloud_reachable", "1 if EchoStream answered the last time, otherwise 0.")
	readDesc         = desc("definition_read_time_seconds", "When the node's definition was read last, in seconds since 1970; 0: not since the start.")
	waitingDesc      = desc("waiting_files", "Files that are accepted and not delivered to all targets.")
	waitingBytesDesc = desc("waiting_bytes", "Bytes of the waiting files.")
	heldDesc         = desc("held_files", "Waiting files under temporary names.")
	oldestDesc       = desc("oldest_waiting_seconds", "How long the oldest waiting file that is not held waits; 0 if none does.")
	failedDesc       = desc("failed_files", "Files that were set aside and need a person.")
	deliveredDesc    = desc("delivered_files_total", "Files delivered to all targets since the start.")
	sentBytesDesc    = desc("delivered_bytes_total", "Bytes of the delivered files.")
	uploadsDesc      = desc("uploads", "Uploads under way.")
	interruptedDesc  = desc("interrupted_uploads", "Interrupted uploads that can be resumed or accepted.")
	freeDesc         = desc("volume_free_bytes", "Free bytes of the volume.")
	writableDesc     = desc("volume_writable", "1 while the volume takes writes, otherwise 0.")
	targetFilesDesc  = desc("target_waiting_files", "Files that a target has not acknowledged.", "target")
	targetBytesDesc  = desc("target_waiting_bytes", "Bytes of the files that a target has not acknowledged.", "target")
	targetAckedDesc  = desc("target_acknowledged_time_seconds", "When a target acknowledged a file last, in seconds since 1970; 0: not since the start.", "target")
)

var descs = []*prometheus.Desc{
	infoDesc, startDesc, healthyDesc, reachableDesc, readDesc, waitingDesc, waitingBytesDesc, heldDesc, oldestDesc, failedDesc, deliveredDesc,
	sentBytesDesc, uploadsDesc, interruptedDesc, freeDesc, writableDesc, targetFilesDesc, targetBytesDesc, targetAckedDesc,
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(all chan<- *prometheus.Desc) {
	for _, d := range descs {
		all <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(all chan<- prometheus.Metric) {
	r := c.report()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		all <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	total := func(d *prometheus.Desc, value int64) {
		all <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value))
	}
	gauge(infoDesc, 1, r.Node, r.Tenant, r.Program, r.Version)
	gauge(startDesc, seconds(r.Since))
	gauge(healthyDesc, truth(r.Health.OK))
	gauge(reachableDesc, truth(r.Cloud.Error.Text == "" && !r.Cloud.Read.IsZero()))
	gauge(readDesc, seconds(r.Cloud.Read))
	gauge(waitingDesc, float64(r.Waiting.Files))
	gauge(waitingBytesDesc, float64(r.Waiting.Bytes))
	gauge(heldDesc, float64(r.Waiting.Held))
	age := 0.0
	if r.Waiting.Oldest != nil {
		age = max(0, r.At.Sub(r.Waiting.Oldest.Accepted).Seconds())
	}
	gauge(oldestDesc, age)
	gauge(failedDesc, float64(len(r.Failed)))
	total(deliveredDesc, r.Sent.Files)
	total(sentBytesDesc, r.Sent.Bytes)
	gauge(uploadsDesc, float64(len(r.Bridge.Uploads)))
	gauge(interruptedDesc, float64(len(r.Bridge.Interrupted)))
	gauge(freeDesc, float64(r.Disk.Free))
	gauge(writableDesc, truth(r.Disk.Error.Text == ""))
	for _, t := range r.Targets {
		gauge(targetFilesDesc, float64(t.Files), t.Name)
		gauge(targetBytesDesc, float64(t.Bytes), t.Name)
		gauge(targetAckedDesc, seconds(t.LastAcknowledged), t.Name)
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
