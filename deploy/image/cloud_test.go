//go:build image

package image

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// cloud is echolocal in a container.
type cloud struct {
	t         *testing.T
	container string
	network   string
	env       map[string]string // of a node
}

// arrival is a file that a target has received.
type arrival struct {
	target, name string
	size         int64
	bulk         bool
	sha256       string
}

// newCloud starts echolocal in a network of its own. config is the node's.
func newCloud(t *testing.T, config map[string]any, args ...string) *cloud {
	t.Helper()
	c := &cloud{t: t, container: name(t, "cloud"), network: newNetwork(t), env: map[string]string{}}
	text, err := json.Marshal(config)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(file, text, 0o644))

	create := []string{"create", "--name", c.container, "--label", run, "--network", c.network, "--network-alias", "echolocal",
		repository() + ":echolocal", "-listen", "0.0.0.0:8080", "-host", "echolocal", "-received", "/received", "-config", "/config.json"}
	must(t, append(create, args...)...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("echolocal says:\n%s", strings.Join(lines(t, c.container), "\n"))
		}
		must(t, "rm", "-f", "-v", c.container)
	})
	must(t, "cp", file, c.container+":/config.json")
	must(t, "start", c.container)
	require.Eventually(t, func() bool {
		for _, line := range lines(t, c.container) {
			if pair, ok := strings.CutPrefix(line, "export "); ok {
				key, value, _ := strings.Cut(pair, "=")
				c.env[key] = strings.Trim(value, "'")
			}
		}
		return c.env["USER_POOL_ID"] != ""
	}, patience, tick, "echolocal prints no environment")
	// Where its data and FTP are is the image's own business.
	delete(c.env, "FTPNODE_DATA")
	delete(c.env, "FTPNODE_FTP_ADDR")
	return c
}

var arrivedLine = regexp.MustCompile(`^arrived  (\S+)  (".*")  (\d+) bytes  (inline|bulk)  sha256=([0-9a-f]{64})  -> `)

// arrivals gives what has arrived, in its order.
func (c *cloud) arrivals() []arrival {
	c.t.Helper()
	var all []arrival
	for _, line := range lines(c.t, c.container) {
		if !strings.HasPrefix(line, "arrived") {
			continue
		}
		m := arrivedLine.FindStringSubmatch(line)
		require.NotNil(c.t, m, "%s", line)
		file, err := strconv.Unquote(m[2])
		require.NoError(c.t, err)
		size, err := strconv.ParseInt(m[3], 10, 64)
		require.NoError(c.t, err)
		all = append(all, arrival{m[1], file, size, m[4] == "bulk", m[5]})
	}
	return all
}

// requireArrivals waits until files have arrived, and wants exactly these, in this order, byte for byte.
func (c *cloud) requireArrivals(files ...file) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		assert.GreaterOrEqual(t, len(c.arrivals()), len(files))
	}, patience, tick)
	var got, want []arrival
	for _, a := range c.arrivals() {
		a.bulk = false
		got = append(got, a)
	}
	for _, f := range files {
		want = append(want, arrival{"target-1", f.name, int64(len(f.content)), false, f.sum()})
	}
	require.Equal(c.t, want, got)
}

// audited is how many audit records have come.
func (c *cloud) audited() int {
	c.t.Helper()
	return len(slices.DeleteFunc(lines(c.t, c.container), func(l string) bool { return !strings.HasPrefix(l, "audited ") }))
}

// leave takes the cloud out of the network: nobody can reach it, nor look its name up.
func (c *cloud) leave() {
	c.t.Helper()
	must(c.t, "network", "disconnect", c.network, c.container)
}

// join brings it back.
func (c *cloud) join() {
	c.t.Helper()
	must(c.t, "network", "connect", "--alias", "echolocal", c.network, c.container)
}
