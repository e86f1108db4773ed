//go:build image

package image

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// often has the engine check the health at once. EchoStream leaves it at what the image says.
var often = []string{"--health-interval", "1s", "--health-retries", "2", "--health-start-period", "1s"}

// waiting makes a stopped container whose volume holds files that are not delivered.
func waiting(t *testing.T, cloud *cloud, site site) (*node, []file) {
	t.Helper()
	n := started(t, cloud, site, nodeOptions{volume: newVolume(t), more: often})
	cloud.leave()
	files := []file{noise("one.bin", 1_000), noise("two.bin", 300_000), noise("three.bin", 0)}
	s := n.login()
	for _, f := range files {
		s.store(f)
	}
	n.waitAccepted(len(files))
	n.stop()
	cloud.join()
	return n, files
}

// A volume that a newer program has written is refused, told, and left as it is; the right program goes on with it.
func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	cloud := newCloud(t, site.config())
	n, files := waiting(t, cloud, site)
	now := n.volume()
	n.put(edited(t, now, map[string][]byte{"data/format": []byte("3\n")}))
	before := contents(t, n.volume())

	must(t, "start", n.container)
	n.waitLog("[ERROR]", "written by a newer version", "its format is 3, expected at most 2")
	assert.Contains(t, n.waitHealth("unhealthy"), "FTP at")
	require.Equal(t, "true", n.inspect("{{.State.Running}}"))
	n.stop()
	after := contents(t, n.volume())
	for _, own := range []string{"data/", "data/lock"} { // the lock and the health check are not part of what is kept
		delete(before, own)
		delete(after, own)
	}
	assert.Equal(t, before, after)
	assert.Empty(t, cloud.arrivals())

	n.put(now)
	n.start()
	cloud.requireArrivals(files...)
	n.waitHealth("healthy")
}

// A volume from before there was a mark of its format is read.
func TestVolumeWithoutAFormat(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	cloud := newCloud(t, site.config())
	old, files := waiting(t, cloud, site)
	archive := edited(t, old.volume(), map[string][]byte{"data/format": nil})
	old.checkLogs()
	old.remove()

	n := newNode(t, cloud, site, nodeOptions{volume: newVolume(t)})
	n.put(archive)
	n.start()
	cloud.requireArrivals(files...)
	assert.Contains(t, contents(t, n.volume()), "data/format")
}

// The health check tells a volume that takes no writes, and that it takes them again.
func TestHealthOfTheVolume(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	cloud := newCloud(t, site.config())
	volume := newVolume(t, "--driver", "local", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=32m")
	n := started(t, cloud, site, nodeOptions{volume: volume, more: often})
	assert.Contains(t, n.waitHealth("healthy"), "healthy: the node answers, and does its work")

	filler := file{"filler.tmp", bytes.Repeat([]byte("x"), 40_000_000)}
	_, err := docker("cp", filepath.Join(filler.store(t), filler.name), n.container+":/data/drop/"+user+"/"+filler.name)
	require.Error(t, err, "the volume was to be full")
	assert.Contains(t, n.waitHealth("unhealthy"), "the volume /data cannot be written")
	s := n.login()
	assert.Contains(t, s.refused("STOR refused.bin"), "452 ", "an upload to a full volume")
	s.do(250, "DELE %s", filler.name)
	n.waitHealth("healthy")

	f := noise("fits.bin", 100_000)
	s.store(f)
	cloud.requireArrivals(f)
}

// A cloud that is out of reach is told, and no reason to be unhealthy: the node starts without it, and takes files.
func TestHealthWithoutTheCloud(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	cloud := newCloud(t, site.config())
	dir := t.TempDir() // a volume that outlives the container, or uploads would wait for the cloud
	require.NoError(t, os.Chmod(dir, 0o777))
	n := started(t, cloud, site, nodeOptions{volume: dir, more: often})
	n.waitHealth("healthy")
	n.stop()
	cloud.leave()
	n.start()
	n.waitHealthText("EchoStream cannot be reached")
	n.waitLog("[WARNING]", "the node starts from the definition that it kept")
	f := noise("kept.bin", 100_000)
	n.login().store(f)
	n.waitAccepted(1)
	require.Equal(t, "healthy", n.health().Status)

	cloud.join()
	cloud.requireArrivals(f)
	n.waitHealthText("All delivered")
}

// The image has no shell, and its root may be read-only: the node's commands work all the same.
func TestStatusInTheContainer(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	cloud := newCloud(t, site.config())
	n := started(t, cloud, site, nodeOptions{volume: newVolume(t), more: []string{"--read-only"}})
	f := noise("a.bin", 100_000)
	n.login().store(f)
	cloud.requireArrivals(f)
	var text string
	require.Eventually(t, func() bool {
		text = must(t, "exec", n.container, "/ftpnode", "status")
		return strings.HasPrefix(text, "All delivered. Last file ")
	}, patience, tick)
	assert.Contains(t, text, f.name)
	assert.Contains(t, must(t, "exec", n.container, "/ftpnode", "status", "--json"), `"state": "ok"`)
	assert.Contains(t, must(t, "exec", n.container, "/ftpnode", "retry", "--all"), "No file failed")
	out, err := docker("exec", n.container, "/ftpnode", "accept", "nonsense")
	require.Error(t, err)
	assert.Contains(t, out, "no interrupted upload has this id")
}

// A volume on which the node may not write: it says so, and waits.
func TestVolumeOfSomebodyElse(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	cloud := newCloud(t, site.config())
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755)) // root's
	n := newNode(t, cloud, site, nodeOptions{volume: dir, more: often})
	must(t, "start", n.container)
	n.waitLog("[ERROR] the data volume cannot be used", "permission denied", "chown -R 65532:65532 the directory that is mounted at /data")
	n.waitHealth("unhealthy")
	require.NoError(t, os.Chmod(dir, 0o777))
	f := noise("now.bin", 1_000)
	n.waitHealth("healthy")
	n.login().store(f)
	cloud.requireArrivals(f)
}
