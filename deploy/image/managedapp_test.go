//go:build image

package image

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// managedApp does to the container of a node what EchoStream's Managed App does. It is played here, since the real one needs
// EchoStream; the events that an engine tells of were compared with those of the code of version 0.3.0. Its grace is 30 s, and
// what it removes it removes with its anonymous volumes.
type managedApp struct {
	m     *machine
	node  string // its name, the container's and the host name
	env   map[string]string
	image string // the tag
	mount string // a named volume. By default, none, and the image's VOLUME is anonymous. (The released app fails with any mount)
}

// appNetwork is named like the app.
const appNetwork = "plant-7"

// starts is the app's start: a container that it finds is stopped and, since the app never takes one with ports for the right one, removed.
func (a *managedApp) starts() {
	a.m.t.Helper()
	if a.m.docker("network", "ls", "-q", "--filter", "name=^"+appNetwork+"$") == "" {
		a.m.docker("network", "create", "--driver", "bridge", appNetwork)
	}
	for _, container := range strings.Fields(a.m.docker("ps", "-aq")) {
		a.m.docker("stop", "--time", "30", container)
		a.m.docker("rm", "-f", "-v", container)
	}
	a.create()
	a.m.docker("start", a.node)
	for _, kind := range []string{"container", "image", "volume"} {
		a.m.docker(kind, "prune", "-f")
	}
}

// restarts is an end of the app and its start.
func (a *managedApp) restarts() {
	a.m.t.Helper()
	a.m.docker("stop", "--time", "30", a.node)
	a.starts()
}

// create makes the container.
func (a *managedApp) create() {
	a.m.t.Helper()
	args := []string{"create", "--name", a.node, "--hostname", a.node, "--network", appNetwork, "--restart", "unless-stopped",
		"--publish", "0.0.0.0:2121:2121"}
	for port := 30000; port < 30010; port++ {
		args = append(args, "--publish", fmt.Sprintf("0.0.0.0:%d:%d", port, port))
	}
	for _, key := range slices.Sorted(maps.Keys(a.env)) {
		args = append(args, "--env", key+"="+a.env[key])
	}
	if a.mount != "" {
		args = append(args, "--mount", "type=volume,source="+a.mount+",target=/data")
	}
	a.m.docker(append(args, repository()+":"+a.image)...)
}

// nodeChanged is a change of the node: its config, description, level, start or stop.
func (a *managedApp) nodeChanged() {
	a.m.t.Helper()
	a.m.docker("stop", "--time", "30", a.node)
	a.m.docker("rm", "-f", "-v", a.node)
	a.create()
	a.m.docker("start", a.node)
}

// imageChanged is a change of the node type's image.
func (a *managedApp) imageChanged() {
	a.m.t.Helper()
	a.image = map[string]string{"1": "2", "2": "1"}[a.image]
	a.nodeChanged()
}

// edgeChanged is a change of an edge, of the app or of the tenant: the container stays.
func (a *managedApp) edgeChanged() {
	a.m.t.Helper()
	a.m.docker("restart", "--time", "30", a.node)
}

// hostRestarts is a shutdown and a start of the machine: the engine stops the container and, by its restart policy, starts it again; then the app starts.
func (a *managedApp) hostRestarts() {
	a.m.t.Helper()
	a.m.shutdown()
	a.m.boot()
	require.Equal(a.m.t, "true", a.m.docker("inspect", "--format", "{{.State.Running}}", a.node), "the engine does not start it again")
	assert.Contains(a.m.t, a.m.docker("logs", a.node), "ftpnode has stopped", "the node was killed when its engine stopped")
	a.starts()
}

// crashes is an end of the program, which the engine starts again.
func (a *managedApp) crashes() {
	a.m.t.Helper()
	before := a.m.docker("inspect", "--format", "{{.RestartCount}}", a.node)
	pid, err := strconv.Atoi(a.m.docker("inspect", "--format", "{{.State.Pid}}", a.node))
	require.NoError(a.m.t, err)
	require.Positive(a.m.t, pid)
	require.NoError(a.m.t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(a.m.t, func() bool {
		return a.m.docker("inspect", "--format", "{{.RestartCount}}", a.node) != before
	}, patience, tick, "the engine does not start it again")
}

// Whatever the Managed App does to a node's container, in an outage or not: what was acknowledged arrives, and once.
func TestUnderTheManagedApp(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct{ name, mount, says string }{
		{name: "stored", mount: "plant-7-ftp-data", says: `acknowledge=stored reason="files.acknowledge says so"`},
		{name: "delivered", says: `acknowledge=delivered reason="the volume at /data has no name`},
	} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			files := map[string]any{"minFree": "1MB", "settle": "100ms", "acknowledgeTimeout": "3s"}
			if mode.mount != "" {
				files["acknowledge"] = mode.name
			}
			users := []any{}
			for _, d := range deviceNames {
				users = append(users, map[string]any{"name": d, "password": password})
			}
			config, err := json.Marshal(map[string]any{"ftp": map[string]any{"users": users}, "files": files})
			require.NoError(t, err)
			targets := []string{"archive", "erp"}
			cloud := m.newCloud(echotest.Options{Targets: targets, Tenant: echotest.Tenant{Audit: true}, Node: echotest.Node{Name: "plant-7-ftp", Config: string(config)}})
			a := &managedApp{m: m, node: "plant-7-ftp", env: cloud.Environment(), image: "1", mount: mode.mount}
			t.Cleanup(func() {
				if t.Failed() {
					log, _ := command("", "docker", "--host", "unix://"+m.dir+"/docker.sock", "logs", "--tail", "100", a.node)
					t.Logf("the node says:\n%s", log)
				}
			})
			a.starts()
			require.Eventually(t, func() bool { return strings.Contains(m.docker("logs", a.node), mode.says) }, patience, tick,
				"the log does not say %s", mode.says)

			f := newFleet(m)
			defer f.stop()
			f.awaitUploads()
			for _, outage := range []struct {
				name       string
				begin, end func()
			}{
				{"no outage", func() {}, func() {}},
				{"SQS and the audit lose replies", func() {
					for _, s := range []echotest.Service{echotest.SQS, echotest.Audit} {
						cloud.Fault(echotest.Fault{Service: s, Kind: echotest.ReplyLost, Every: 2})
					}
				}, cloud.ClearFaults},
				{"the cloud refuses connections", func() { m.turn(cloud, (*echotest.Cloud).Off) }, func() { m.turn(cloud, (*echotest.Cloud).On) }},
				{"the network is silent", m.silence, m.speak},
			} {
				for _, event := range []struct {
					name  string
					do    func()
					crash bool // nobody asks the program to end
				}{
					{"a change of the node", a.nodeChanged, false},
					{"a change of the image", a.imageChanged, false},
					{"a change of an edge", a.edgeChanged, false},
					{"the app restarts", a.restarts, false},
					{"the host restarts", a.hostRestarts, false},
					{"the program crashes", a.crashes, true},
				} {
					began, again := time.Now(), f.unknown()
					outage.begin()
					f.awaitAttempts()
					f.crash(event.crash)
					event.do()
					f.awaitAttempts()
					outage.end()
					f.awaitUploads()
					f.crash(false)
					t.Logf("%s: %s (%.1f s, %d uploads without a reply that says what became of them)", outage.name, event.name, time.Since(began).Seconds(), f.unknown()-again)
				}
			}
			f.stop()
			a.awaitEmpty()
			f.verify(cloud, targets, mode.name)
		})
	}
}

// awaitEmpty waits until the node has nothing to deliver.
func (a *managedApp) awaitEmpty() {
	a.m.t.Helper()
	var left []string
	empty := func() bool {
		left = nil
		archive := filepath.Join(a.m.dir, "outbox") // a directory, copied
		defer a.m.must("rm", "-rf", archive)
		// A file that is delivered meanwhile breaks the copying.
		if out, err := command("", "docker", "--host", "unix://"+a.m.dir+"/docker.sock", "cp", a.node+":/data/outbox", archive); err != nil {
			left = []string{out}
			return false
		}
		for _, file := range strings.Fields(a.m.must("find", archive, "-type", "f")) {
			if filepath.Ext(file) != ".journal" && filepath.Base(file) != "reserve" {
				left = append(left, filepath.Base(file))
			}
		}
		return len(left) == 0
	}
	for end := time.Now().Add(patience); !empty(); time.Sleep(tick) {
		require.True(a.m.t, time.Now().Before(end), "left in the outbox: %v", left)
	}
}
