//go:build image

package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	user     = "scanner"
	password = "the-password-of-the-scanner"
	mistyped = "the-pasword-of-the-scanner"
)

// site is the config of the node under test, and where its ports stand on this machine.
type site struct {
	control int // mapped to the container's 2121
	passive int // the first of ten, the same in the container and here: PASV and EPSV name them
}

func newSite(t *testing.T) site {
	first := freePorts(t, 11)
	return site{control: first + 10, passive: first}
}

func (s site) config() map[string]any {
	ftp := map[string]any{
		"users":         []any{map[string]any{"name": user, "password": password}},
		"publicAddress": "127.0.0.1",
	}
	if s.passive != 30000 { // the default
		ftp["passivePorts"] = strconv.Itoa(s.passive) + "-" + strconv.Itoa(s.passive+9)
	}
	return map[string]any{"ftp": ftp, "files": map[string]any{"minFree": "1MB", "settle": "100ms"}}
}

// nodeOptions is how a node's container differs from others.
type nodeOptions struct {
	version string   // of the image. By default, "1"
	named   bool     // the node's name comes as NAME. By default, as NODE
	volume  string   // By default, an anonymous one
	more    []string // arguments of docker create
}

// node is ftpnode in a container.
type node struct {
	t         *testing.T
	cloud     *cloud
	site      site
	container string
}

// newNode makes a container as EchoStream's Managed App does, and does not start it.
func newNode(t *testing.T, c *cloud, s site, o nodeOptions) *node {
	t.Helper()
	n := &node{t: t, cloud: c, site: s, container: name(t, "node")}
	if o.version == "" {
		o.version = "1"
	}
	env := maps.Clone(c.env)
	hostname := env["NODE"]
	require.NotEmpty(t, hostname)
	if o.named {
		env["NAME"] = hostname
		delete(env, "NODE")
	}
	data := "/data"
	if o.volume != "" {
		data = o.volume + ":/data"
	}
	args := []string{"create", "--name", n.container, "--label", run, "--hostname", hostname, "--network", c.network,
		"--restart", "unless-stopped", "--log-driver", "json-file", "--volume", data,
		"--publish", "127.0.0.1:" + strconv.Itoa(s.control) + ":2121"}
	for port := s.passive; port < s.passive+10; port++ {
		args = append(args, "--publish", "127.0.0.1:"+strconv.Itoa(port)+":"+strconv.Itoa(port))
	}
	for _, key := range slices.Sorted(maps.Keys(env)) {
		args = append(args, "--env", key+"="+env[key])
	}
	args = append(args, o.more...)
	must(t, append(args, repository()+":"+o.version)...) // and no arguments
	t.Cleanup(func() {
		if n.container == "" {
			return
		}
		n.checkLogs()
		n.remove()
	})
	return n
}

// started is newNode, started and waited for.
func started(t *testing.T, c *cloud, s site, o nodeOptions) *node {
	t.Helper()
	n := newNode(t, c, s, o)
	n.start()
	return n
}

// served counts how often FTP was served to users: before the node knows its definition, it says users=0.
func (n *node) served() int { return n.count("FTP is served") - n.count("users=0") }

// start starts it and waits until users can log in.
func (n *node) start() {
	n.t.Helper()
	before := n.served()
	must(n.t, "start", n.container)
	n.waitServed(before)
}

// waitServed waits until it is served once more than before.
func (n *node) waitServed(before int) {
	n.t.Helper()
	require.Eventually(n.t, func() bool { return n.served() > before }, patience, tick, "FTP is not served")
}

// remove removes the container, and its volume if that is anonymous.
func (n *node) remove() {
	n.t.Helper()
	must(n.t, "rm", "-f", "-v", n.container)
	n.container = ""
}

func (n *node) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.site.control)) }

// stop is what EchoStream does before it changes a node: SIGTERM, and SIGKILL after a while (30 s there). ftpnode promises to
// need less than 10 s; the engine may need some more on a busy machine. Its exit code tells if it did: 137 is that of SIGKILL.
func (n *node) stop() {
	n.t.Helper()
	must(n.t, "stop", "--time", "15", n.container)
	require.Equal(n.t, "0", n.inspect("{{.State.ExitCode}}"), "exit code")
}

// kill ends it without a warning.
func (n *node) kill() {
	n.t.Helper()
	must(n.t, "kill", n.container)
	require.Equal(n.t, "137", n.inspect("{{.State.ExitCode}}"), "exit code")
}

// crash ends the program behind the engine's back, and waits until the engine has started it again.
func (n *node) crash() {
	n.t.Helper()
	pid := n.inspect("{{.State.Pid}}")
	program, err := os.ReadFile("/proc/" + pid + "/cmdline")
	require.NoError(n.t, err, "the engine must be on this machine")
	require.Equal(n.t, "/ftpnode\x00", string(program), "the engine must be on this machine")
	id, err := strconv.Atoi(pid)
	require.NoError(n.t, err)
	restarts, before := n.inspect("{{.RestartCount}}"), n.served()
	require.NoError(n.t, syscall.Kill(id, syscall.SIGKILL))
	require.Eventually(n.t, func() bool {
		return n.inspect("{{.RestartCount}}") != restarts && n.served() > before
	}, patience, tick, "the engine does not start it again")
}

func (n *node) inspect(format string) string {
	n.t.Helper()
	return must(n.t, "inspect", "--format", format, n.container)
}

// count counts the log's lines with a text.
func (n *node) count(text string) int {
	n.t.Helper()
	count := 0
	for _, line := range lines(n.t, n.container) {
		if strings.Contains(line, text) {
			count++
		}
	}
	return count
}

// waitLog waits for a line with all of the texts.
func (n *node) waitLog(texts ...string) {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		return slices.ContainsFunc(lines(n.t, n.container), func(line string) bool {
			return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) })
		})
	}, patience, tick, "no log line with %q", texts)
}

// waitAccepted waits until n files in all are in the outbox or were.
func (n *node) waitAccepted(count int) {
	n.t.Helper()
	require.Eventually(n.t, func() bool { return n.count("File accepted") >= count }, patience, tick, "%d files are not accepted", count)
}

var waitingLine = regexp.MustCompile(`Sending to targets .* waiting=([0-9]+)`)

// waitingAtStart is how many files waited in the outbox at the last start.
func (n *node) waitingAtStart() (waiting int) {
	n.t.Helper()
	for _, line := range lines(n.t, n.container) {
		if m := waitingLine.FindStringSubmatch(line); m != nil {
			waiting, _ = strconv.Atoi(m[1])
		}
	}
	return waiting
}

var (
	levelTag = regexp.MustCompile(`^\[(CRITICAL|DEBUG|ERROR|INFO|WARNING)\] \S`)
	// Secrets that only the two know: a token of Cognito, AWS credentials, what signs a URL.
	secrets = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8}|\bA[KS]IA[A-Z0-9]{12}|X-Amz-(Signature|Credential|Security-Token)`)
)

// checkLogs checks each line that the container has written so far, and what its health checks have.
func (n *node) checkLogs() {
	n.t.Helper()
	log := lines(n.t, n.container)
	for _, line := range log {
		assert.Regexp(n.t, levelTag, line, "the line must begin with a level")
		n.checkSecrets(line)
	}
	for _, check := range n.health().Log {
		n.checkSecrets(check.Output)
	}
	if n.t.Failed() {
		n.t.Logf("the node says:\n%s", strings.Join(log, "\n"))
	}
}

func (n *node) checkSecrets(text string) {
	n.t.Helper()
	for _, secret := range []string{n.cloud.env["PASSWORD"], password, mistyped} {
		require.NotEmpty(n.t, secret)
		assert.NotContains(n.t, text, secret)
	}
	assert.NotRegexp(n.t, secrets, text)
}

// health is what the engine knows of the container's health.
type health struct {
	Status string
	Log    []struct {
		ExitCode int
		Output   string
	}
}

func (n *node) health() health {
	n.t.Helper()
	var h health
	require.NoError(n.t, json.Unmarshal([]byte(n.inspect("{{json .State.Health}}")), &h))
	return h
}

// waitHealth waits until the engine sees the container as healthy or unhealthy, and gives what the last check wrote.
func (n *node) waitHealth(status string) string {
	n.t.Helper()
	var h health
	require.Eventually(n.t, func() bool {
		h = n.health()
		return h.Status == status && len(h.Log) > 0
	}, patience, tick, "the container does not become %s", status)
	return h.Log[len(h.Log)-1].Output
}

// waitHealthText waits until the checks of a healthy container write a text.
func (n *node) waitHealthText(text string) {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		h := n.health()
		return h.Status == "healthy" && strings.Contains(h.Log[len(h.Log)-1].Output, text)
	}, patience, tick, "the health check does not say %q", text)
}

// volume is the content of /data as a tar archive.
func (n *node) volume() []byte {
	n.t.Helper()
	out, err := exec.Command("docker", "cp", n.container+":/data", "-").Output()
	require.NoError(n.t, err)
	return out
}

// put unpacks an archive of volume into /data. The files keep their owners, without --archive, which wants a passwd file.
func (n *node) put(archive []byte) {
	n.t.Helper()
	cmd := exec.Command("docker", "cp", "-", n.container+":/")
	cmd.Stdin = bytes.NewReader(archive)
	out, err := cmd.CombinedOutput()
	require.NoError(n.t, err, "%s", out)
}

// members reads an archive: a header and the content for each name.
func members(t *testing.T, archive []byte, each func(*tar.Header, []byte)) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		each(header, content)
	}
}

// contents tells what an archive holds: mode, owner and the SHA-256 of each name.
func contents(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	found := map[string]string{}
	members(t, archive, func(h *tar.Header, content []byte) {
		found[h.Name] = strings.Join([]string{h.FileInfo().Mode().String(), strconv.Itoa(h.Uid), h.ModTime.String(), sum(content)}, " ")
	})
	return found
}

// edited is the archive with other contents for some names. nil removes one.
func edited(t *testing.T, archive []byte, changes map[string][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	changed := 0
	members(t, archive, func(h *tar.Header, content []byte) {
		if change, ok := changes[h.Name]; ok {
			changed++
			if change == nil {
				return
			}
			content, h.Size = change, int64(len(change))
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := w.Write(content)
		require.NoError(t, err)
	})
	require.NoError(t, w.Close())
	require.Len(t, changes, changed, "not every file to change is there")
	return out.Bytes()
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// sinceStart is the time from the container's start until now.
func (n *node) sinceStart() time.Duration {
	n.t.Helper()
	at, err := time.Parse(time.RFC3339Nano, n.inspect("{{.State.StartedAt}}"))
	require.NoError(n.t, err)
	return time.Since(at)
}
