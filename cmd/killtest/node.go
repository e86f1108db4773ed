package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/internal/program"
)

// node is the program under test: one process after the other on the same volume.
type node struct {
	binary  string
	env     []string
	log     io.Writer // all that it ever said, with the time of each line
	trigger *trigger
	secrets []string

	mu      sync.Mutex
	starts  int
	faults  []string // what is wrong with its log
	seen    map[string]bool
	current *process
}

// process is one life of the node.
type process struct {
	cmd    *exec.Cmd
	ready  chan struct{} // closed when it serves FTP
	exited chan struct{} // closed when it has ended and all its log was read
	err    error         // of Wait
	killed atomic.Bool
}

// start starts the node.
func (n *node) start() (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	p := &process{cmd: exec.Command(n.binary), ready: make(chan struct{}), exited: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = n.env, w, w
	program.OwnGroup(p.cmd) // Ctrl-C is ours
	if err := p.cmd.Start(); err != nil {
		r.Close()
		return nil, err
	}
	n.mu.Lock()
	n.starts++
	n.current = p
	n.mu.Unlock()
	go func() {
		defer close(p.exited)
		n.read(p, r)
		r.Close()
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// kill is SIGKILL. It does not wait: the kernel lets the process do nothing more.
func (p *process) kill() {
	if p.killed.CompareAndSwap(false, true) {
		_ = p.cmd.Process.Kill()
	}
}

// stop is SIGTERM, and says how the node took it.
func (p *process) stop() error {
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.exited:
	case <-time.After(20 * time.Second):
		p.kill()
		<-p.exited
		return errors.New("the node did not stop within 20 s of SIGTERM, expected 10 s")
	}
	if p.err != nil {
		return fmt.Errorf("the node ended with %w after SIGTERM, expected exit code 0", p.err)
	}
	if took := time.Since(began); took > 10*time.Second {
		return fmt.Errorf("the node took %v to stop after SIGTERM, expected 10 s at most", took.Round(time.Millisecond))
	}
	return nil
}

// events are the lines of the log that are moments.
var events = []struct {
	text   string
	moment moment
}{
	{"[INFO] ftpnode starts", starting},
	{"[INFO] File accepted", claimed},
	{"[INFO] File delivered", delivered},
}

// read follows the log of a process to its end.
func (n *node) read(p *process, r io.Reader) {
	lines := bufio.NewReaderSize(r, 64<<10)
	isReady := false
	for {
		line, err := lines.ReadString('\n')
		_, _ = io.WriteString(n.log, time.Now().Format("15:04:05.000 ")+line)
		if err == nil { // else a kill cut the last one off
			n.check(strings.TrimSuffix(line, "\n"))
		}
		for _, e := range events {
			if strings.HasPrefix(line, e.text) {
				n.trigger.hit(e.moment)
			}
		}
		if !isReady && strings.HasPrefix(line, "[INFO] FTP is served") {
			isReady = true
			close(p.ready)
		}
		if err != nil {
			return
		}
	}
}

var (
	levelTag = regexp.MustCompile(`^\[(CRITICAL|DEBUG|ERROR|INFO|WARNING)\] `)
	// secretShape is what a presigned URL or a JSON Web Token looks like.
	secretShape = regexp.MustCompile(`(?i)X-Amz-(Signature|Credential|Security-Token)|eyJ[A-Za-z0-9_-]{8}`)
	trouble     = regexp.MustCompile(`^\[(CRITICAL|ERROR)\]|panic|DATA RACE|goroutine \d+|was set aside`)
	// forAPerson is what the faults of the cloud cause by design: services that deny access, also to new credentials.
	forAPerson = regexp.MustCompile(`^\[ERROR\] ((Sending|Auditing|Preparing files) fails; .*(new credentials were refused too|Unauthorized)|EchoStream cannot be used by this node, and somebody should look at why; .*Unauthorized)`)
)

// check holds a line against what holds for every line. Each kind of fault is told once.
func (n *node) check(line string) {
	fault := ""
	switch {
	case !levelTag.MatchString(line):
		fault = "a log line does not begin with its level"
	case secretShape.MatchString(line):
		fault = "a log line shows a presigned URL or a token"
	case forAPerson.MatchString(line):
	case trouble.MatchString(line):
		fault = "a log line tells of what must not happen"
	}
	for _, secret := range n.secrets {
		if strings.Contains(line, secret) {
			fault = "a log line shows a password"
			line = strings.ReplaceAll(line, secret, "…")
		}
	}
	if fault == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.seen[fault] {
		return
	}
	if n.seen == nil {
		n.seen = map[string]bool{}
	}
	n.seen[fault] = true
	n.faults = append(n.faults, fault+": "+line)
}

func (n *node) violations() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.faults
}
