package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// metric is what was measured, with its unit: seconds, bytes, or a number a second.
type metric string

const (
	rate         metric = "rate"
	messages     metric = "rate to SQS"
	bandwidth    metric = "throughput"
	cpu          metric = "CPU a file"
	allCPU       metric = "CPU a file to SQS"
	clientCPU    metric = "client's CPU a file"
	peakRSS      metric = "peak memory"
	nowRSS       metric = "memory at rest"
	p50          metric = "p50"
	p99          metric = "p99"
	toMessage    metric = "from STOR to SQS"
	readAgain    metric = "bytes read a byte written"
	startSeconds metric = "start"
	listing      metric = "listing a file"
	taking       metric = "taking a file"
	drain        metric = "delivery a file"
	wakeUps      metric = "wake-ups/s"
	growthTime   metric = "time"
	growthMemory metric = "memory"
)

func (m metric) text(v float64) string {
	switch m {
	case rate, messages:
		return fmt.Sprintf("%.0f files/s", v)
	case bandwidth:
		return fmt.Sprintf("%.0f MB/s", v/1e6)
	case peakRSS, nowRSS, growthMemory:
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	case readAgain, wakeUps:
		return fmt.Sprintf("%.2f", v)
	}
	return secondsText(v)
}

// results keeps every value that was measured, in the order in which rows, contenders and metrics came first.
type results struct {
	order  []key
	values map[key][]float64
}

type key struct {
	row, who string
	metric   metric
}

func newResults() *results { return &results{values: map[key][]float64{}} }

func (r *results) add(row, who string, m metric, v float64) {
	k := key{row, who, m}
	if _, ok := r.values[k]; !ok {
		r.order = append(r.order, k)
	}
	r.values[k] = append(r.values[k], v)
}

// median is the middle value, or the mean of the two in the middle; ok is false if nothing was measured.
func (r *results) median(row, who string, m metric) (v float64, ok bool) {
	values := slices.Sorted(slices.Values(r.values[key{row, who, m}]))
	n := len(values)
	if n == 0 {
		return 0, false
	}
	return (values[(n-1)/2] + values[n/2]) / 2, true
}

// contenders of a row, in their order.
func (r *results) contenders(row string) (names []string) {
	for _, k := range r.order {
		if k.row == row && !slices.Contains(names, k.who) {
			names = append(names, k.who)
		}
	}
	return names
}

// target is a line of the first table: a value of ours, alone or as a ratio to another one.
type target struct {
	what    string
	value   key
	against key // none: the value itself is the target's
	least   bool
	bound   float64
}

func (o options) targets() []target {
	many := slices.Max(o.waiting)
	w := func(n int) string { return fmt.Sprintf("%s, %d files", ours, n) }
	list := []target{
		{"4 KiB files, 8 connections, to the last 226, against vsftpd", key{"small-8", ours, rate}, key{"small-8", vsftpd, rate}, true, 1},
		{"… against the bare loop with 8 workers", key{"small-8", ours, rate}, key{"small-8", bare, rate}, true, 0.5},
		{"… over 1 connection, against the bare loop with 1 worker", key{"small-1", ours, rate}, key{"small-1", bare, rate}, true, 0.5},
		{"… over 64 connections, against 8", key{"small-64", ours, rate}, key{"small-8", ours, rate}, true, 1},
		{"CPU a file, upload only, against vsftpd", key{"small-8", ours, cpu}, key{"small-8", vsftpd, cpu}, false, 1},
		{"4 KiB files from the first STOR to the last message, two edges, against the Python way", key{"send", ours, messages}, key{"send", python, messages}, true, 3},
		{"CPU a file, everything, against the Python way", key{"send", ours, allCPU}, key{"send", python, allCPU}, false, 1.0 / 3},
		{"from 226 to SQS beyond the settle time, idle node, p50", key{"latency", ours, p50}, key{}, false, 0.005},
		{"… p99", key{"latency", ours, p99}, key{}, false, 0.020},
		{byteText(float64(o.large)) + " upload, against `dd conv=fsync`", key{"large", ours, bandwidth}, key{"large", dd, bandwidth}, true, 1.3},
		{"… over TLS, against plain", key{"large", ours + " TLS", bandwidth}, key{"large", ours, bandwidth}, true, 0.8},
		{fmt.Sprintf("%.0f MB through bulk, 20 other sessions, peak memory", float64(o.bulk)/1e6), key{"bulk", ours, peakRSS}, key{}, false, 64 << 20},
		{"… bytes read for each byte written", key{"bulk", ours, readAgain}, key{}, false, 2},
	}
	for _, n := range o.waiting {
		room, bound := "in 256 MiB", 3.0
		if n > containerFiles {
			room, bound = "with memory to spare", 15
		}
		list = append(list, target{fmt.Sprintf("start with %d waiting files %s", n, room), key{"waiting", w(n), startSeconds}, key{}, false, bound})
	}
	for _, m := range []metric{listing, taking, drain} {
		list = append(list, target{fmt.Sprintf("… %s with %d waiting, against %d", m, many, fewWaiting), key{"waiting", w(many), m}, key{"waiting", w(fewWaiting), m}, false, 1})
	}
	return append(list,
		target{"500 idle sessions, memory", key{"sessions", ours, nowRSS}, key{}, false, 40 << 20},
		target{"idle, memory", key{"idle", ours, nowRSS}, key{}, false, 20 << 20},
		target{"idle, wake-ups a second", key{"idle", ours, wakeUps}, key{}, false, 2},
	)
}

// line is the target as a row of a Markdown table.
func (t target) line(r *results) string {
	sign := "≤"
	if t.least {
		sign = "≥"
	}
	value, ok := r.median(t.value.row, t.value.who, t.value.metric)
	against, has := r.median(t.against.row, t.against.who, t.against.metric)
	compared := t.against.row != ""
	reached, other, ratio, bound := "not measured", "", "", t.value.metric.text(t.bound)
	if ok {
		reached = t.value.metric.text(value)
	}
	if compared {
		bound, other = fmt.Sprintf("%.2f", t.bound), "not measured"
		if has {
			other = t.against.metric.text(against) + " (" + t.against.who + ")"
		}
		if ok = ok && has && against > 0; ok {
			value /= against
			ratio = fmt.Sprintf("%.2f", value)
		}
	}
	met := ""
	if ok {
		if met = "no"; t.least && value >= t.bound || !t.least && value <= t.bound {
			met = "yes"
		}
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s %s | %s |\n", t.what, reached, other, ratio, sign, bound, met)
}

// report is both tables.
func (b *bench) report(machine string, at time.Time) string {
	var t strings.Builder
	kind := fmt.Sprintf("medians of %d runs in turn", b.runs)
	if b.runs == 1 {
		kind = "one run"
	}
	if b.quick {
		kind = "a reduced run (-quick): it shows that all of it works, not how fast it is"
	}
	fmt.Fprintf(&t, "%s; %s; %s.\n\n", at.UTC().Format("2006-01-02"), machine, kind)
	t.WriteString("| what | ftpnode | against | ratio | target | met |\n|---|---|---|---|---|---|\n")
	for _, target := range b.targets() {
		t.WriteString(target.line(b.results))
	}
	t.WriteString("\nEverything that was measured:\n\n| what | who | figures |\n|---|---|---|\n")
	for _, r := range rows {
		for _, who := range b.results.contenders(r.name) {
			var figures []string
			for _, k := range b.results.order {
				if k.row == r.name && k.who == who {
					v, _ := b.results.median(k.row, k.who, k.metric)
					figures = append(figures, fmt.Sprintf("%s %s", k.metric, k.metric.text(v)))
				}
			}
			if x, err := strconv.ParseFloat(who, 64); err == nil { // a point of growth
				who = ours + " at " + growthLabel(r.name)(x)
			}
			fmt.Fprintf(&t, "| %s | %s | %s |\n", r.about, who, strings.Join(figures, ", "))
		}
	}
	if slices.Contains(b.rows, "waiting") && !b.cgroup {
		t.WriteString("\nNo cgroup could be made: the starts with waiting files had all of the machine's memory.\n")
	}
	return t.String()
}

// machine says what this ran on, without naming it.
func machine(dir string, fresh bool) string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := "unknown"
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel, _, _ = strings.Cut(strings.TrimSpace(string(text)), "-")
	}
	total := statusOf("/proc/meminfo")["MemTotal"] << 10
	disk := diskType(dir)
	if fresh {
		disk = "a fresh " + disk + " on a loop device"
	}
	return fmt.Sprintf("%d cores (%s), %s, Linux %s, %s, %s", runtime.NumCPU(), model, byteText(float64(total)), kernel, disk, runtime.Version())
}

const beginMark, endMark = "<!-- bench:begin -->\n", "<!-- bench:end -->\n"

// write puts the tables into performance.md, between its marks, and the picture beside it.
func (b *bench) write(docs, tables string) error {
	name := filepath.Join(docs, "performance.md")
	old, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("-docs: %w", err)
	}
	head, rest, begins := strings.Cut(string(old), beginMark)
	_, tail, ends := strings.Cut(rest, endMark)
	if !begins || !ends {
		return fmt.Errorf("-docs: %s has no %q with a %q behind it", name, strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	err = os.WriteFile(name, []byte(head+beginMark+"\n"+tables+"\n"+endMark+tail), 0o644)
	if panels := b.growthPanels(); len(panels) > 0 {
		first, _, _ := strings.Cut(tables, "\n")
		err = errors.Join(err, os.WriteFile(filepath.Join(docs, "growth.svg"), []byte(svg(panels, first)), 0o644))
	}
	return err
}
