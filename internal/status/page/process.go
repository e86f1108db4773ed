package page

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"
)

// What follows has the names and the meaning that Prometheus' library for Go gives them, for the dashboards that people have.

// runtime is what Go's runtime tells.
func (x *exposition) runtime() {
	gc := debug.GCStats{PauseQuantiles: make([]time.Duration, 5)}
	debug.ReadGCStats(&gc)
	x.about("go_gc_duration_seconds", summary, "A summary of the wall-time pause (stop-the-world) duration in garbage collection cycles.")
	for i, pause := range gc.PauseQuantiles {
		x.value("go_gc_duration_seconds", pause.Seconds(), "quantile", strconv.FormatFloat(float64(i)/4, 'g', -1, 64))
	}
	x.value("go_gc_duration_seconds_sum", gc.PauseTotal.Seconds())
	x.value("go_gc_duration_seconds_count", float64(gc.NumGC))
	x.one("go_gc_gogc_percent", gauge, "Heap size target percentage configured by the user, otherwise 100.", runtimeMetric("/gc/gogc:percent"))
	x.one("go_gc_gomemlimit_bytes", gauge, "Go runtime memory limit configured by the user, otherwise math.MaxInt64.", runtimeMetric("/gc/gomemlimit:bytes"))
	x.one("go_goroutines", gauge, "Number of goroutines that currently exist.", float64(runtime.NumGoroutine()))
	x.about("go_info", gauge, "Information about the Go environment.")
	x.value("go_info", 1, "version", runtime.Version())
	x.one("go_sched_gomaxprocs_threads", gauge, "The current runtime.GOMAXPROCS setting.", float64(runtime.GOMAXPROCS(0)))
	x.one("go_threads", gauge, "Number of OS threads created.", float64(pprof.Lookup("threadcreate").Count()))

	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	for _, of := range []struct {
		name, kind, help string
		number           uint64
	}{
		{"alloc_bytes", gauge, "Number of bytes allocated in heap and currently in use.", m.Alloc},
		{"alloc_bytes_total", counter, "Total number of bytes allocated in heap until now, even if released already.", m.TotalAlloc},
		{"buck_hash_sys_bytes", gauge, "Number of bytes used by the profiling bucket hash table.", m.BuckHashSys},
		{"frees_total", counter, "Total number of heap objects frees.", m.Frees},
		{"gc_sys_bytes", gauge, "Number of bytes used for garbage collection system metadata.", m.GCSys},
		{"heap_alloc_bytes", gauge, "Number of heap bytes allocated and currently in use, same as go_memstats_alloc_bytes.", m.HeapAlloc},
		{"heap_idle_bytes", gauge, "Number of heap bytes waiting to be used.", m.HeapIdle},
		{"heap_inuse_bytes", gauge, "Number of heap bytes that are in use.", m.HeapInuse},
		{"heap_objects", gauge, "Number of currently allocated objects.", m.HeapObjects},
		{"heap_released_bytes", gauge, "Number of heap bytes released to OS.", m.HeapReleased},
		{"heap_sys_bytes", gauge, "Number of heap bytes obtained from system.", m.HeapSys},
		{"mallocs_total", counter, "Total number of heap objects allocated, both live and gc-ed.", m.Mallocs},
		{"mcache_inuse_bytes", gauge, "Number of bytes in use by mcache structures.", m.MCacheInuse},
		{"mcache_sys_bytes", gauge, "Number of bytes used for mcache structures obtained from system.", m.MCacheSys},
		{"mspan_inuse_bytes", gauge, "Number of bytes in use by mspan structures.", m.MSpanInuse},
		{"mspan_sys_bytes", gauge, "Number of bytes used for mspan structures obtained from system.", m.MSpanSys},
		{"next_gc_bytes", gauge, "Number of heap bytes when next garbage collection will take place.", m.NextGC},
		{"other_sys_bytes", gauge, "Number of bytes used for other system allocations.", m.OtherSys},
		{"stack_inuse_bytes", gauge, "Number of bytes obtained from system for stack allocator.", m.StackInuse},
		{"stack_sys_bytes", gauge, "Number of bytes obtained from system for stack allocator.", m.StackSys},
		{"sys_bytes", gauge, "Number of bytes obtained from system.", m.Sys},
	} {
		x.one("go_memstats_"+of.name, of.kind, of.help, float64(of.number))
	}
	x.one("go_memstats_last_gc_time_seconds", gauge, "Number of seconds since 1970 of last garbage collection.", float64(m.LastGC)/1e9)
}

// runtimeMetric is a number that Go's runtime has only here.
func runtimeMetric(name string) float64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0 // of another Go
	}
	return float64(sample[0].Value.Uint64())
}

// process is what Linux tells of the process. Where it does not, metrics are missing. proc is where procfs is mounted.
func (x *exposition) process(proc string) {
	self := filepath.Join(proc, "self")
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(self, name))
		return string(text)
	}
	const tick = 100 // a second: USER_HZ, on all of Linux's architectures that Go has
	// The name in parentheses may hold anything. Fields count from behind it: state is the third of proc(5).
	stat := read("stat")
	if fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]); len(fields) > 21 {
		field := func(n int) float64 { return numberOf(fields[n-3]) }
		x.one("process_cpu_seconds_total", counter, "Total user and system CPU time spent in seconds.", (field(14)+field(15))/tick)
		x.one("process_virtual_memory_bytes", gauge, "Virtual memory size in bytes.", field(23))
		x.one("process_resident_memory_bytes", gauge, "Resident memory size in bytes.", field(24)*float64(os.Getpagesize()))
		machine, _ := os.ReadFile(filepath.Join(proc, "stat"))
		if boot := after(string(machine), "btime"); len(boot) > 0 {
			x.one("process_start_time_seconds", gauge, "Start time of the process since unix epoch in seconds.", numberOf(boot[0])+field(22)/tick)
		}
	}
	limits := read("limits")
	if files := after(limits, "Max open files"); len(files) > 0 {
		x.one("process_max_fds", gauge, "Maximum number of open file descriptors.", numberOf(files[0]))
	}
	if space := after(limits, "Max address space"); len(space) > 0 {
		x.one("process_virtual_memory_max_bytes", gauge, "Maximum amount of virtual memory available in bytes.", numberOf(space[0]))
	}
	if open, err := os.ReadDir(filepath.Join(self, "fd")); err == nil {
		x.one("process_open_fds", gauge, "Number of open file descriptors.", float64(len(open)))
	}
	// Two lines: what the numbers are, and they.
	if _, rest, ok := strings.Cut(read("net/netstat"), "\nIpExt: "); ok {
		head, numbers, _ := strings.Cut(rest, "\nIpExt: ")
		values := strings.Fields(numbers)
		for i, name := range strings.Fields(head) {
			switch {
			case i >= len(values):
			case name == "InOctets":
				x.one("process_network_receive_bytes_total", counter, "Number of bytes received by the process over the network.", numberOf(values[i]))
			case name == "OutOctets":
				x.one("process_network_transmit_bytes_total", counter, "Number of bytes sent by the process over the network.", numberOf(values[i]))
			}
		}
	}
}

// after is what stands in the line that begins with a name.
func after(text, name string) []string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Fields(rest)
		}
	}
	return nil
}

func numberOf(text string) float64 {
	if text == "unlimited" {
		return math.MaxUint64
	}
	n, _ := strconv.ParseFloat(text, 64)
	return n
}
