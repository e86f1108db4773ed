package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/internal/program"
)

const (
	startTime = 120 * time.Second // a server must answer within it
	stopTime  = 15 * time.Second
)

// server is a server under measurement. Its processes are the one that was started and all below it.
type server struct {
	name           string
	address        string
	user, password string
	cwd            string // where clients go after the log-in; "" is nowhere
	tls            bool

	cmd     *exec.Cmd
	exited  chan struct{}
	started time.Time
	cloud   *cloud // nil: it knows of none
	cleanup []func()
}

// launch starts the command and waits until it greets an FTP client. All that it says goes to the log.
func (s *server) launch(ctx context.Context, b *bench, cmd *exec.Cmd) error {
	fmt.Fprintf(b.log, "\n== %s %s: %s\n", time.Now().Format(time.TimeOnly), s.name, cmd)
	s.cleanup = append(s.cleanup, func() { fmt.Fprintf(b.log, "== %s %s ends\n", time.Now().Format(time.TimeOnly), s.name) })
	cmd.Stdout, cmd.Stderr = b.log, b.log
	program.OwnGroup(cmd)
	s.cmd, s.exited, s.started = cmd, make(chan struct{}), time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", s.name, err)
	}
	go func() {
		_ = cmd.Wait() // ProcessState tells
		close(s.exited)
	}()
	for {
		err := s.greets()
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("%s ended by itself: %v", s.name, cmd.ProcessState)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Since(s.started) > startTime {
			return fmt.Errorf("%s does not answer %v after its start: %w", s.name, startTime, err)
		}
	}
}

func (s *server) greets() error {
	conn, err := net.DialTimeout("tcp", s.address, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = (&client{conn: conn, buf: make([]byte, 4096)}).reply(220)
	return err
}

// stop ends the server and removes what it was given. It is for defer.
func (s *server) stop() {
	if s.cmd != nil && s.cmd.Process != nil {
		fmt.Fprintf(s.cmd.Stdout, "== %s %s stops\n", time.Now().Format(time.TimeOnly), s.name)
		pids := []int{}
		if t, err := s.tree(); err == nil {
			for _, p := range t {
				pids = append(pids, p.pid)
			}
		}
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.exited:
		case <-time.After(stopTime):
		}
		for _, pid := range pids { // sessions that outlive their server; they are its children, and nobody else has their ids yet
			if pid != s.cmd.Process.Pid {
				kill(pid)
			}
		}
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	for i := len(s.cleanup) - 1; i >= 0; i-- {
		s.cleanup[i]()
	}
	s.cleanup = nil
}

// process is one line of the kernel's table, /proc/PID/stat.
type process struct {
	pid, parent int
	cpu         time.Duration // with that of its children that have ended
}

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on all of Linux's architectures that Go has.
const tick = 10 * time.Millisecond

// tree lists the server's processes.
func (s *server) tree() ([]process, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// The name in parentheses may hold anything; fields count from behind it, state is the third.
		end := bytes.LastIndexByte(text, ')')
		if end < 0 {
			continue
		}
		fields := strings.Fields(string(text[end+1:]))
		if len(fields) < 15 {
			continue
		}
		p := process{}
		p.pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
		p.parent, _ = strconv.Atoi(fields[1])
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(f, 10, 64)
			p.cpu += time.Duration(n) * tick
		}
		all[p.pid] = p
	}
	var tree []process
	for _, p := range all {
		for q, ok := p, true; ok && q.pid > 1; q, ok = all[q.parent] {
			if q.pid == s.cmd.Process.Pid {
				tree = append(tree, p)
				break
			}
		}
	}
	if len(tree) == 0 {
		return nil, fmt.Errorf("%s has no process any more: %v", s.name, s.cmd.ProcessState)
	}
	return tree, nil
}

// cpu is the CPU time of the whole tree so far.
func (s *server) cpu() (sum time.Duration, err error) {
	tree, err := s.tree()
	for _, p := range tree {
		sum += p.cpu
	}
	return sum, err
}

// memory is how much the whole tree has resident: now (VmRSS) and at most so far (VmHWM), in bytes.
func (s *server) memory() (now, peak int64, err error) {
	tree, err := s.tree()
	for _, p := range tree {
		status := statusOf(fmt.Sprintf("/proc/%d/status", p.pid))
		now += status["VmRSS"] << 10
		peak += status["VmHWM"] << 10
	}
	return now, peak, err
}

// switches counts how often a thread of the server's own process gave up a core so far: each is followed by a wake-up.
func (s *server) switches() (n int64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", s.cmd.Process.Pid))
	for _, name := range threads {
		n += statusOf(name)["voluntary_ctxt_switches"]
	}
	return n
}

// io reads a counter of /proc/PID/io: rchar is all that read(2) gave, from files and sockets.
func (s *server) io(counter string) int64 {
	return statusOf(fmt.Sprintf("/proc/%d/io", s.cmd.Process.Pid))[counter]
}

// statusOf reads the numbers of a file with lines "Key: number unit".
func statusOf(name string) map[string]int64 {
	values := map[string]int64{}
	text, _ := os.ReadFile(name) // a process that has ended counts nothing
	for line := range strings.SplitSeq(string(text), "\n") {
		key, rest, _ := strings.Cut(line, ":")
		if fields := strings.Fields(rest); len(fields) > 0 {
			if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
				values[key] = n
			}
		}
	}
	return values
}

// limited makes a cgroup with a limit of memory and returns the command that runs another in it. ok is false where none can
// be made: inside of most containers.
func limited(bytes int64, cmd *exec.Cmd) (in *exec.Cmd, remove func(), ok bool) {
	name := fmt.Sprintf("ftpnode-bench-%d", os.Getpid())
	for _, version := range []struct{ root, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"},
	} {
		dir := filepath.Join(version.root, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		remove := func() { _ = os.Remove(dir) }
		if os.WriteFile(filepath.Join(dir, version.limit), []byte(strconv.FormatInt(bytes, 10)), 0) != nil {
			remove()
			continue
		}
		in := exec.Command("/bin/sh", append([]string{"-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(dir, "cgroup.procs"), cmd.Path}, cmd.Args[1:]...)...)
		in.Env, in.Dir = cmd.Env, cmd.Dir
		return in, remove, true
	}
	return cmd, func() {}, false
}
