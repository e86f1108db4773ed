// Command bench measures ftpnode beside what else takes files by FTP, on one machine, one disk, and in one run:
//
//	go run ./cmd/bench            (as root, on Debian; about an hour)
//	go run ./cmd/bench -quick     (under two minutes: shows that all of it works, not how fast it is)
//
// The peers are vsftpd and pure-ftpd from Debian and, as the Python way, pyftpdlib with echostream-node from the package index, in
// a virtual environment. The two Debian packages exclude each other, so their files are unpacked below -dir and nothing of the
// machine changes. Each server is started anew on an empty directory for each measurement; they take turns (A B C A B C), and each
// figure is the median of -runs. EchoStream is echotest in a process of its own, the same for ours and the Python way.
//
// It prints two Markdown tables: the targets with what was reached, and everything that was measured. -docs writes both, and the
// picture of what growth costs, into a directory. Nothing is judged by time: a target that is missed is a word in the table. What
// makes bench fail is a peer that cannot be had, a server that does not work, or a file that did not arrive: after each measurement
// every file is looked for (ours and the Python way: its bytes at every edge; upload only: its name in the listing).
//
// Limits:
//   - The peers sync nothing. A power cut takes what they have acknowledged, so a ratio of 1 is more than even.
//   - Client and servers share the cores; the client's own cost is in the second table.
//   - CPU is what the kernel says of the whole process tree, in steps of 10 ms, from after the log-ins to the last reply.
//   - A tree's peak memory is the sum of its processes' (VmHWM): what they share counts in each.
//   - Settings are the defaults, but for what many clients of one address need: limits of sessions, and ours has a passive port for
//     each connection, 10 at least.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/internal/program"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == cloudArgument {
		if err := serveCloud(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench's cloud:", err)
			os.Exit(1)
		}
		return
	}
	program.Main("bench", run)
}

// options are those of the command line.
type options struct {
	quick   bool
	rows    []string
	without []string
	runs    int
	files   int           // at most, of a measurement with small files
	limit   time.Duration // of the uploading in such a measurement
	samples int           // of the latency
	large   int64         // bytes
	bulk    int64         // bytes
	waiting []int
	watch   time.Duration // how long an idle node is watched
	timeout time.Duration
	dir     string
	fresh   bool // measure on a file system made for this run
	docs    string
	node    string
	python  string
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	rows := flags.String("rows", "", "what to measure, with commas between (default: all): "+strings.Join(rowNames(), ", "))
	without := flags.String("without", "", "peers to leave out, with commas between: "+strings.Join(peerNames, ", "))
	waiting := flags.String("waiting", "200000", "numbers of waiting files to start with, with commas between")
	flags.BoolVar(&o.quick, "quick", false, "a reduced run, under two minutes: one run, small sizes")
	flags.IntVar(&o.runs, "runs", 5, "how often each is measured")
	flags.IntVar(&o.files, "files", 8000, "how many small files a measurement has at most")
	flags.DurationVar(&o.limit, "limit", 8*time.Second, "how long a measurement sends small files at most")
	flags.IntVar(&o.samples, "samples", 200, "how many files the latency is taken of")
	flags.Int64Var(&o.large, "large", 1<<30, "`bytes` of the large file")
	flags.Int64Var(&o.bulk, "bulk", 5e9, "`bytes` of the file that goes through bulk storage; 5e9 is the default files.maxSize")
	flags.DurationVar(&o.watch, "watch", 20*time.Second, "how long the idle node is watched")
	flags.DurationVar(&o.timeout, "timeout", 3*time.Hour, "gives up after this time")
	flags.StringVar(&o.dir, "dir", "/var/tmp/ftpnode-bench", "`directory` on the disk to measure; peers are kept in it for the next run")
	flags.BoolVar(&o.fresh, "fresh", false, "measure on an ext4 that is made for this run in a file in -dir, as root: what a disk holds and has deleted changes the figures")
	flags.StringVar(&o.docs, "docs", "", "`directory` whose performance.md and growth.svg are to hold the result")
	flags.StringVar(&o.node, "node", "", "the ftpnode `binary` (default: built from ./cmd/ftpnode)")
	flags.StringVar(&o.python, "python", "", "a Python of version 3.12 or newer (default: the first that is found)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return o, err
	case err != nil:
		return o, fmt.Errorf("%w: %w", program.ErrUsage, err)
	}
	set := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	if o.quick {
		for name, reduce := range map[string]func(){
			"runs": func() { o.runs = 1 }, "files": func() { o.files = 200 }, "limit": func() { o.limit = time.Second },
			"samples": func() { o.samples = 10 }, "large": func() { o.large = 32 << 20 }, "bulk": func() { o.bulk = 32 << 20 },
			"waiting": func() { *waiting = "1000" }, "watch": func() { o.watch = 2 * time.Second },
			"timeout": func() { o.timeout = 5 * time.Minute },
		} {
			if !set[name] {
				reduce()
			}
		}
	}
	problem := ""
	bad := func(format string, args ...any) { problem = fmt.Sprintf(format, args...) }
	o.rows = rowNames()
	if *rows != "" {
		o.rows = strings.Split(*rows, ",")
	}
	for _, name := range o.rows {
		if !slices.Contains(rowNames(), name) {
			bad("-rows has %q, expected some of %s", name, strings.Join(rowNames(), ", "))
		}
	}
	if *without != "" {
		o.without = strings.Split(*without, ",")
	}
	for _, name := range o.without {
		if !slices.Contains(peerNames, name) {
			bad("-without has %q, expected some of %s", name, strings.Join(peerNames, ", "))
		}
	}
	for text := range strings.SplitSeq(*waiting, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 5_000_000 {
			bad("-waiting has %q, expected numbers from 1 to 5000000", text)
		}
		o.waiting = append(o.waiting, n)
	}
	for _, n := range []struct {
		name         string
		value, least int64
	}{
		{"runs", int64(o.runs), 1}, {"files", int64(o.files), 1}, {"samples", int64(o.samples), 1}, {"large", o.large, 1}, {"bulk", o.bulk, 1 << 20},
		{"limit", int64(o.limit), int64(time.Millisecond)}, {"watch", int64(o.watch), int64(time.Second)}, {"timeout", int64(o.timeout), 1},
	} {
		if n.value < n.least {
			bad("-%s is %d, expected at least %d", n.name, n.value, n.least)
		}
	}
	if flags.NArg() > 0 {
		bad("%q is no option", flags.Arg(0))
	}
	if problem != "" {
		fmt.Fprintln(stderr, problem)
		return o, fmt.Errorf("%w: %s", program.ErrUsage, problem)
	}
	return o, nil
}

// bench is one run of the command.
type bench struct {
	options
	self    string // this program, for the cloud
	peers   peers
	work    string // a directory of this run; measurements make theirs in it
	log     *os.File
	results *results
	filled  map[int]string // volumes with that many waiting files
	cgroup  bool           // there is one with a limit of memory
	out     io.Writer      // what goes on
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	b := &bench{options: o, results: newResults(), filled: map[int]string{}, out: stderr}
	if runtime.GOOS != "linux" {
		return fmt.Errorf("bench reads /proc of Linux, and this is %s", runtime.GOOS)
	}
	if (b.has(vsftpd) || b.has(pure)) && os.Geteuid() != 0 {
		return errors.New("vsftpd and pure-ftpd change their user: run bench as root, or -without vsftpd,pure-ftpd")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("-timeout of %v is over", o.timeout))
	defer cancel()
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	// The peers' user must be able to enter it, whatever the umask.
	if err := errors.Join(os.MkdirAll(b.dir, 0o755), os.Chmod(b.dir, 0o755)); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp(b.dir, "run-"); err != nil {
		return err
	}
	if err := os.Chmod(b.work, 0o755); err != nil {
		return err
	}
	if b.log, err = os.Create(filepath.Join(b.dir, "servers.log")); err != nil {
		return err
	}
	defer b.log.Close()
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	if o.fresh {
		unmount, err := b.mountFresh(ctx)
		if err != nil {
			return err
		}
		defer unmount()
	}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	failed := b.measure(ctx)
	text := b.report(machine(b.work, o.fresh), time.Now())
	if _, err := io.WriteString(stdout, text); err != nil {
		return errors.Join(failed, err)
	}
	if failed != nil || o.docs == "" { // what was measured until then is shown, and is not for the docs
		return failed
	}
	return b.write(o.docs, text)
}

// measure fills the results, up to the first failure.
func (b *bench) measure(ctx context.Context) error {
	began := time.Now()
	for _, r := range rows {
		if !slices.Contains(b.rows, r.name) {
			continue
		}
		for pass := range b.runs {
			fmt.Fprintf(b.out, "%5.0fs  %s, run %d of %d\n", time.Since(began).Seconds(), r.name, pass+1, b.runs)
			if err := r.run(ctx, b, r.name); err != nil {
				return fmt.Errorf("%s, run %d: %w; what the servers said is in %s", r.name, pass+1, errors.Join(err, context.Cause(ctx)), b.log.Name())
			}
		}
	}
	return nil
}

// freshBytes is what a fresh file system can hold. Its file grows as it is used.
const freshBytes = 48 << 30

// mountFresh makes a file system with what mkfs.ext4 has by default, a journal too, and has the run work on it. For an ext4 without a journal the
// kernel looks, at each creation of a file, at all inodes that were deleted in the last minutes: that is half a millisecond, for all contenders.
func (b *bench) mountFresh(ctx context.Context) (unmount func(), err error) {
	image, at := filepath.Join(b.work, "disk.img"), filepath.Join(b.work, "disk")
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(freshBytes), f.Close(), os.Mkdir(at, 0o755)); err != nil {
		return nil, err
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, at}} {
		if err := b.tool(ctx, b.work, command[0], command[1:]...); err != nil {
			return nil, fmt.Errorf("-fresh needs root, mkfs.ext4 (Debian's e2fsprogs) and mount: %w", err)
		}
	}
	outside := b.work
	b.work = at
	return func() {
		b.work = outside
		if err := b.tool(context.WithoutCancel(ctx), outside, "umount", at); err != nil {
			fmt.Fprintf(b.out, "%s stays mounted: %v\n", at, err)
		}
	}, nil
}

// prepare builds ours and brings the peers.
func (b *bench) prepare(ctx context.Context) error {
	if b.node == "" {
		node, err := program.Node(ctx, b.work)
		if err != nil {
			return err
		}
		b.node = node
	}
	return b.install(ctx)
}
