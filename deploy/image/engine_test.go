//go:build image

package image

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// patience is for what comes of itself, on a busy machine.
	patience = 90 * time.Second
	tick     = 100 * time.Millisecond
	// commandTime ends a command that hangs.
	commandTime = 3 * time.Minute
)

// run marks all that this process makes on the engine.
var run = "ftpnode-it-" + strings.ToLower(rand.Text()[:8])

// repository names the images, as build.sh does.
func repository() string { return cmp.Or(os.Getenv("FTPNODE_IMAGE"), "ftpnode-test") }

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if out, err := docker("version", "--format", "{{.Server.Version}}"); err != nil {
		fmt.Fprintf(os.Stderr, "FAILED: no Docker engine answers (deploy/image/engine.sh starts one): %v\n%s\n", err, out)
		return 1
	}
	for _, tag := range []string{"1", "2", "echolocal"} {
		if out, err := docker("image", "inspect", repository()+":"+tag); err != nil {
			fmt.Fprintf(os.Stderr, "FAILED: there is no image %s:%s (deploy/image/build.sh makes it): %v\n%s\n", repository(), tag, err, out)
			return 1
		}
	}
	code := m.Run()
	// What a test that panicked or was cut short has left.
	for _, kind := range [][]string{{"ps", "-aq", "rm", "-f", "-v"}, {"volume ls", "-q", "volume", "rm", "-f"}, {"network ls", "-q", "network", "rm"}} {
		list, _ := docker(append(strings.Fields(kind[0]), kind[1], "--filter", "label="+run)...)
		if ids := strings.Fields(list); len(ids) > 0 {
			_, _ = docker(append(kind[2:], ids...)...)
		}
	}
	return code
}

// docker runs the client and gives what it wrote.
func docker(args ...string) (string, error) { return command("", "docker", args...) }

// command runs a program in dir. Its error holds what it wrote.
func command(dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// must is docker for what cannot fail.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := docker(args...)
	require.NoError(t, err)
	return strings.TrimSpace(out)
}

// name gives a name that nothing else on the engine has.
func name(t *testing.T, what string) string {
	t.Helper()
	return run + "-" + what + "-" + strings.ToLower(rand.Text()[:6])
}

// newNetwork makes a user-defined bridge network, as the Managed App does.
func newNetwork(t *testing.T) string {
	t.Helper()
	network := name(t, "net")
	must(t, "network", "create", "--driver", "bridge", "--label", run, network)
	t.Cleanup(func() { must(t, "network", "rm", network) })
	return network
}

// newVolume makes a named volume. It must be asked for before the containers that use it, so that it is removed after them.
func newVolume(t *testing.T, options ...string) string {
	t.Helper()
	volume := name(t, "vol")
	must(t, append(append([]string{"volume", "create", "--label", run}, options...), volume)...)
	t.Cleanup(func() { must(t, "volume", "rm", volume) })
	return volume
}

var given = struct {
	sync.Mutex
	next int
}{next: 30000}

// freePorts gives the first of n ports in a row that nobody listens on, each time others. They begin at 30000, below those
// that the kernel gives to clients.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	given.Lock()
	defer given.Unlock()
	for first := given.next; first+n <= 32768; first += n {
		if allFree(first, n) {
			given.next = first + n
			return first
		}
	}
	t.Fatal("there are no free ports from 30000 to 32767")
	return 0
}

func allFree(first, n int) bool {
	for port := first; port < first+n; port++ {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		listener.Close()
	}
	return true
}

// lines gives what a container has written, line by line.
func lines(t *testing.T, container string) []string {
	t.Helper()
	out := strings.TrimSuffix(must(t, "logs", container), "\n")
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}
