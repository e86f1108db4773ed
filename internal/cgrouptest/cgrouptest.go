// Package cgrouptest runs processes of tests with as little memory as a container has. It takes Linux, root, and a memory controller of
// cgroups, of version 1 or 2, in which a group may be made.
package cgrouptest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Group is a cgroup that a test has made. It is removed when the test ends; its processes must have ended by then.
type Group struct {
	Dir string // a process enters by writing its id into cgroup.procs there

	t           testing.TB
	limit, peak string // names of files
}

// New makes a group whose processes together may use so many bytes, and no swap.
func New(t testing.TB, bytes int64) *Group {
	t.Helper()
	const top = "/sys/fs/cgroup"
	g := &Group{t: t, limit: "memory.limit_in_bytes", peak: "memory.max_usage_in_bytes"}
	parent := filepath.Join(top, "memory")
	if _, err := os.Stat(filepath.Join(top, "cgroup.controllers")); err == nil {
		g.limit, g.peak = "memory.max", "memory.peak"
		parent = top
		require.NoError(t, os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+memory"), 0), "the memory controller must be free to use")
	}
	var err error
	g.Dir, err = os.MkdirTemp(parent, "ftpnode-test-")
	require.NoError(t, err, "these tests need root and the memory controller of cgroups")
	t.Cleanup(func() {
		// The last process may not be quite gone.
		require.Eventually(t, func() bool { return os.Remove(g.Dir) == nil }, 30*time.Second, 10*time.Millisecond, g.Dir)
	})
	g.write(g.limit, fmt.Sprint(bytes))
	// No swap: a container has none. Not every kernel counts it.
	for name, value := range map[string]string{"memory.swap.max": "0", "memory.memsw.limit_in_bytes": fmt.Sprint(bytes)} {
		if _, err := os.Stat(filepath.Join(g.Dir, name)); err == nil {
			g.write(name, value)
		}
	}
	return g
}

func (g *Group) write(name, value string) {
	g.t.Helper()
	require.NoError(g.t, os.WriteFile(filepath.Join(g.Dir, name), []byte(value), 0))
}

// Peak is the most bytes that the group has used so far, with what the kernel keeps for it and could give up.
func (g *Group) Peak() int64 {
	g.t.Helper()
	n, err := strconv.ParseInt(strings.TrimSpace(g.read(g.peak)), 10, 64)
	require.NoError(g.t, err)
	return n
}

// Anonymous is how many bytes the group's processes use now that the kernel cannot give up.
func (g *Group) Anonymous() int64 {
	g.t.Helper()
	for line := range strings.Lines(g.read("memory.stat")) {
		// "rss" in version 1, "anon" in version 2
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == "rss" || name == "anon" {
			n, err := strconv.ParseInt(value, 10, 64)
			require.NoError(g.t, err)
			return n
		}
	}
	require.Fail(g.t, "memory.stat has neither rss nor anon")
	return 0
}

func (g *Group) read(name string) string {
	g.t.Helper()
	text, err := os.ReadFile(filepath.Join(g.Dir, name))
	require.NoError(g.t, err)
	return string(text)
}
