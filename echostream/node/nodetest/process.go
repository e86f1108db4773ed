package nodetest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	waitFor = 60 * time.Second // for what takes a moment; a busy machine may need longer
	tick    = 10 * time.Millisecond
)

// process is one life of the node.
type process struct {
	command *exec.Cmd
	ended   chan struct{} // closed when it has ended
	err     error         // of Wait, then
}

func (r *Rig) command(ctx context.Context, args ...string) *exec.Cmd {
	program, err := os.Executable()
	require.NoError(r.t, err)
	c := exec.CommandContext(ctx, program, args...)
	c.Env = append(os.Environ(), asNode+"=1")
	for name, value := range r.env {
		c.Env = append(c.Env, name+"="+value)
	}
	return c
}

// Start starts the node and waits for its first line. It fails if the node runs.
func (r *Rig) Start() {
	r.t.Helper()
	require.Nil(r.t, r.current, "the node runs already")
	r.log.reset()
	p := &process{command: r.command(context.Background()), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = r.log, r.log
	require.NoError(r.t, p.command.Start())
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	r.current = p
	r.WaitLog("[INFO] ", " starts")
}

// Stop stops the node as EchoStream does, and requires that it ends in good order, within 10 s.
func (r *Rig) Stop() {
	r.t.Helper()
	p := r.take()
	require.NoError(r.t, p.command.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.ended:
		assert.NoError(r.t, p.err, "the exit code after SIGTERM\n%s", r.log)
	case <-time.After(waitFor): // Docker kills it after 10 s; a busy machine gets more
		_ = p.command.Process.Kill()
		<-p.ended
		assert.Fail(r.t, "the node does not stop", "%s", r.log)
	}
}

// Kill kills the node.
func (r *Rig) Kill() {
	r.t.Helper()
	p := r.take()
	r.killed = true
	require.NoError(r.t, p.command.Process.Kill())
	<-p.ended
	assert.ErrorContains(r.t, p.err, "killed", "the node ended by itself\n%s", r.log)
}

// Restart is Stop and Start: EchoStream restarts a node whose edges or config have changed.
func (r *Rig) Restart() {
	r.t.Helper()
	r.Stop()
	r.Start()
}

func (r *Rig) take() *process {
	r.t.Helper()
	require.NotNil(r.t, r.current, "the node does not run")
	p := r.current
	r.current = nil
	return p
}

// Command runs the program with arguments, such as "status", while the node may run, and returns what it prints.
func (r *Rig) Command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitFor)
	defer cancel()
	out, err := r.command(ctx, args...).CombinedOutput()
	r.checkSecrets(string(out))
	return string(out), err
}

// Healthy asks the program whether the node works, as Docker does.
func (r *Rig) Healthy() bool {
	_, err := r.Command("healthcheck")
	return err == nil
}

// Log is what the node has said since its last start.
func (r *Rig) Log() string { return r.log.String() }

// WaitLog waits for a line that holds all of the texts.
func (r *Rig) WaitLog(texts ...string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.log.has(texts...) }, waitFor, tick, "no line with %q in:\n%s", texts, r.log)
}

var (
	levelTag = regexp.MustCompile(`^\[(CRITICAL|DEBUG|ERROR|INFO|WARNING)\] `)
	// secretShape is what a presigned URL or a JSON Web Token looks like.
	secretShape = regexp.MustCompile(`(?i)X-Amz-(Signature|Credential|Security-Token)|eyJ[A-Za-z0-9_-]{8}`)
	crash       = regexp.MustCompile(`panic|DATA RACE|goroutine \d+`)
)

// checkLog holds every line against what holds for every line.
func (r *Rig) checkLog() {
	r.t.Helper()
	for line := range strings.Lines(r.log.everything()) {
		if strings.HasSuffix(line, cutOff) || !strings.HasSuffix(line, "\n") {
			continue // a kill came in the middle of it
		}
		assert.Regexp(r.t, levelTag, line, "EchoStream glues it to the event before")
		assert.NotRegexp(r.t, crash, line)
	}
	r.checkSecrets(r.log.everything())
}

func (r *Rig) checkSecrets(text string) {
	r.t.Helper()
	assert.NotRegexp(r.t, secretShape, text, "the log tells a secret")
	assert.NotContains(r.t, text, r.env["PASSWORD"], "the log tells the password")
}

// cutOff ends a line that a kill has cut off.
const cutOff = "(cut off)\n"

// output is what the node says.
type output struct {
	mu      sync.Mutex
	all     bytes.Buffer
	current int // where the last start's begins
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.Write(b)
}

func (o *output) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := o.all.Len(); n > 0 && o.all.Bytes()[n-1] != '\n' {
		o.all.WriteString(cutOff)
	}
	o.current = o.all.Len()
}

// String is what was said since the last start.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.all.Bytes()[o.current:])
}

func (o *output) everything() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all.String()
}

func (o *output) has(texts ...string) bool {
	for line := range strings.Lines(o.String()) {
		found := true
		for _, text := range texts {
			found = found && strings.Contains(line, text)
		}
		if found {
			return true
		}
	}
	return false
}
