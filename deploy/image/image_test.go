//go:build image

package image

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The image is what the Dockerfile says, and holds nothing else.
func TestImage(t *testing.T) {
	t.Parallel()
	var image struct {
		Size   int64
		Config struct {
			User, StopSignal string
			Entrypoint, Cmd  []string
			ExposedPorts     map[string]any
			Volumes          map[string]any
			Labels           map[string]string
			Healthcheck      struct{ Test []string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(must(t, "image", "inspect", "--format", "{{json .}}", repository()+":1")), &image))
	fmt.Printf("image size: %d kB\n", image.Size/1000)
	assert.Less(t, image.Size, int64(20_000_000))
	config := image.Config
	assert.Equal(t, "65532:65532", config.User)
	assert.Equal(t, "SIGTERM", config.StopSignal)
	assert.Equal(t, []string{"/ftpnode"}, config.Entrypoint)
	assert.Empty(t, config.Cmd)
	assert.Equal(t, map[string]any{"/data": map[string]any{}}, config.Volumes)
	assert.Equal(t, []string{"CMD", "/ftpnode", "healthcheck"}, config.Healthcheck.Test)
	assert.Equal(t, "1.0.0", config.Labels["org.opencontainers.image.version"])
	assert.Len(t, config.ExposedPorts, 11)
	for _, port := range []string{"2121/tcp", "30000/tcp", "30009/tcp"} {
		assert.Contains(t, config.ExposedPorts, port)
	}

	container := name(t, "image")
	must(t, "create", "--name", container, "--label", run, repository()+":1", "version")
	t.Cleanup(func() { must(t, "rm", "-f", "-v", container) })
	archive, err := exec.Command("docker", "export", container).Output()
	require.NoError(t, err)
	var files []string
	members(t, archive, func(h *tar.Header, content []byte) {
		if len(content) > 0 {
			files = append(files, h.Name)
		}
		if h.Name == "data/" {
			assert.Equal(t, 65532, h.Uid, "the owner of /data")
		}
	})
	assert.ElementsMatch(t, []string{"ftpnode", "etc/ssl/certs/ca-certificates.crt"}, files)
	assert.Equal(t, "1.0.0", must(t, "start", "--attach", container), "ftpnode version")
}

// Without the environment of a node it says what is missing, with a level, and exits.
func TestWithoutAnEnvironment(t *testing.T) {
	t.Parallel()
	container := name(t, "bare")
	out, err := docker("run", "--name", container, "--label", run, repository()+":1")
	t.Cleanup(func() { must(t, "rm", "-f", "-v", container) })
	require.Error(t, err)
	assert.Equal(t, "2", must(t, "inspect", "--format", "{{.State.ExitCode}}", container))
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		assert.Regexp(t, levelTag, line)
	}
	for _, variable := range []string{"APPSYNC_ENDPOINT", "CLIENT_ID", "NAME", "PASSWORD", "TENANT", "USER_POOL_ID", "USER_NAME"} {
		assert.Contains(t, out, variable)
	}
}

// Started as the Managed App does, in each of its ways, the node takes files from real clients and delivers them. It runs alone,
// since it measures.
func TestStartedByTheManagedApp(t *testing.T) {
	for _, c := range []struct {
		name  string
		named bool // the volume
		node  nodeOptions
	}{
		{name: "NODE and an anonymous volume"},
		{name: "NAME and a named volume", named: true, node: nodeOptions{named: true}},
		{name: "nothing but what it needs", node: nodeOptions{more: []string{
			"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			site := newSite(t)
			if c.named {
				c.node.volume = newVolume(t)
			}
			cloud := newCloud(t, site.config(), "-audit")
			n := newNode(t, cloud, site, c.node)
			must(t, "start", n.container)
			require.Eventually(t, func() bool {
				text, ok := greeted(n.address())
				if ok {
					text.Close()
				}
				return ok
			}, patience, 2*time.Millisecond)
			fmt.Printf("start-up: %d ms from the container's start to 220 (%s)\n", n.sinceStart().Milliseconds(), c.name)
			n.waitServed(0)

			n.loginFails(mistyped)
			files := uploads(n)
			cloud.requireArrivals(files...)
			require.Eventually(t, func() bool { return cloud.audited() == len(files) }, patience, tick, "the audit records do not come")
			assert.True(t, slices.ContainsFunc(cloud.arrivals(), func(a arrival) bool { return a.bulk }))
			assert.True(t, slices.ContainsFunc(cloud.arrivals(), func(a arrival) bool { return !a.bulk }))
			n.waitLog("[INFO] ftpnode starts version=1.0.0")
			fmt.Printf("memory when idle: %s (%s)\n", must(t, "stats", "--no-stream", "--format", "{{.MemUsage}}", n.container), c.name)
			n.stop()
		})
	}
}

// uploads sends a file in each way, one after the other.
func uploads(n *node) (sent []file) {
	n.t.Helper()
	curl := func(args ...string) func(file) { return func(f file) { n.upload(f, args...) } }
	lftp := func(settings string) func(file) { return func(f file) { n.lftp(f, settings) } }
	for _, way := range []struct {
		name   string
		size   int
		upload func(file)
	}{
		// The first of each uses the very address and port that PASV names.
		{"curl-pasv", 300_000, curl("--disable-epsv", "--no-ftp-skip-pasv-ip")},
		{"lftp-pasv", 2_000, lftp("set ftp:prefer-epsv no; set ftp:fix-pasv-address no; set ftp:ssl-allow no")},
		{"curl-epsv", 1_000, curl()},
		{"lftp-epsv", 400_000, lftp("set ftp:prefer-epsv yes; set ftp:ssl-allow no")},
		{"curl-ftps", 3_000_000, curl("--ssl-reqd", "--insecure")},
		{"curl-ftps-pasv", 10, curl("--ssl-reqd", "--insecure", "--disable-epsv", "--no-ftp-skip-pasv-ip")},
		{"lftp-ftps", 5_000, lftp("set ftp:ssl-force yes; set ftp:ssl-protect-data yes")},
		{"step-by-step", 0, func(f file) { s := n.login(); s.store(f); s.do(221, "QUIT") }},
	} {
		f := noise(way.name+".bin", way.size)
		way.upload(f)
		sent = append(sent, f)
	}
	return sent
}

// Whatever ends the container, in the midst of delivering: each file arrives once, in its order.
func TestEndedInMidDelivery(t *testing.T) {
	t.Parallel()
	// The third batch gets no answer while its sender lives, and then arrives all the same: what is sent again is a duplicate.
	const hangs = "sqs:slow:delay=5m,after=2,count=1"
	for _, c := range []struct {
		name, fault string
		end         func(*node)
	}{
		{"docker stop", hangs, func(n *node) { n.stop(); n.start() }},
		{"docker stop, while bulk storage hangs", "s3:slow:delay=5m,count=1", func(n *node) { n.stop(); n.start() }},
		{"docker kill", hangs, func(n *node) { n.kill(); n.start() }},
		{"a crash, and started again by the engine", hangs, (*node).crash},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			site := newSite(t)
			cloud := newCloud(t, site.config(), "-fault", c.fault)
			n := started(t, cloud, site, nodeOptions{volume: newVolume(t)})
			s := n.login()
			var files []file
			for i := range 60 {
				size := 3_000
				if i%20 == 5 {
					size = 400_000 // in bulk storage
				}
				f := noise(fmt.Sprintf("file-%02d.bin", i), size)
				s.store(f)
				files = append(files, f)
			}
			require.Eventually(t, func() bool { return len(cloud.arrivals()) > 0 }, patience, tick)
			c.end(n)
			require.NotZero(t, n.waitingAtStart(), "it was to be ended before all is delivered")
			cloud.requireArrivals(files...)
			require.Eventually(t, func() bool { return n.login().list() == "" }, patience, tick, "what is delivered is still listed")
		})
	}
}

// Whatever ends the container, in the midst of an upload: the part is never sent, and the client can finish it. After a stop
// it can go on; after a kill it begins anew, since nothing tells a kill from a power cut.
func TestEndedInMidUpload(t *testing.T) {
	t.Parallel()
	const sent, all = 16_000_000, 24_000_000
	for _, c := range []struct {
		name    string
		end     func(*node)
		resumes bool
	}{
		{"docker stop", func(n *node) { n.stop(); n.start() }, true},
		{"docker kill", func(n *node) { n.kill(); n.start() }, false},
		{"a crash, and started again by the engine", (*node).crash, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			site := newSite(t)
			cloud := newCloud(t, site.config())
			n := started(t, cloud, site, nodeOptions{volume: newVolume(t)})
			before := noise("before.bin", 2_000)
			n.upload(before)
			f := noise("cut.bin", all)
			conn := n.login().begin("STOR " + f.name)
			_, err := conn.Write(f.content[:sent])
			require.NoError(t, err)
			c.end(n)
			s := n.login()
			if c.resumes {
				size := s.size(f.name)
				assert.Positive(t, size)
				assert.LessOrEqual(t, size, sent)
			} else {
				s.do(550, "SIZE %s", f.name)
			}
			s.do(221, "QUIT")
			n.upload(f, "--continue-at", "-")
			cloud.requireArrivals(before, f)
		})
	}
}

// An upload that ends soon after SIGTERM gets its 226, and then counts.
func TestUploadEndsWhileStopping(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	cloud := newCloud(t, site.config())
	n := started(t, cloud, site, nodeOptions{volume: newVolume(t)})
	f := noise("last.bin", 500_000)
	s := n.login()
	conn := s.begin("STOR " + f.name)
	_, err := conn.Write(f.content[:250_000])
	require.NoError(t, err)
	must(t, "kill", "--signal", "TERM", n.container) // what docker stop begins with
	_, err = conn.Write(f.content[250_000:])
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	s.expect(226)
	assert.Equal(t, "0", must(t, "wait", n.container), "exit code")
	n.waitLog("ftpnode stops")
	n.start()
	cloud.requireArrivals(f)
}

// A newer image takes over the volume of an older one, with what waits there.
func TestReplacedByANewerImage(t *testing.T) {
	t.Parallel()
	site, volume := newSite(t), newVolume(t)
	cloud := newCloud(t, site.config(), "-audit")
	old := started(t, cloud, site, nodeOptions{volume: volume})
	old.waitLog("version=1.0.0")
	cloud.leave()
	var files []file
	s := old.login()
	for i := range 12 {
		f := noise(fmt.Sprintf("waits-%02d.bin", i), 1_000+i*40_000)
		s.store(f)
		files = append(files, f)
	}
	old.waitAccepted(len(files))
	old.stop()
	old.checkLogs()
	old.remove()
	require.Empty(t, cloud.arrivals())

	cloud.join()
	n := started(t, cloud, site, nodeOptions{version: "2", volume: volume})
	n.waitLog("version=2.0.0")
	last := noise("new.bin", 1_000)
	n.login().store(last)
	cloud.requireArrivals(append(files, last)...)
	require.Eventually(t, func() bool { return cloud.audited() == len(files)+1 }, patience, tick)
}
