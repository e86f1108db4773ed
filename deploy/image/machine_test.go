//go:build image

package image

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// Addresses in a machine's network namespace, which nothing else is in.
const (
	cloudAddress   = "10.79.0.1" // where containers find EchoStream
	machineAddress = "10.79.0.2" // where devices find the machine. Not 127.0.0.1: there docker-proxy ends TCP, and answers for its client
)

// machine is the host that a managed app runs on: a Docker engine of its own in a network namespace of its own, so that it can
// be shut down, and all of its containers be listed and removed, as the app does.
type machine struct {
	t         *testing.T
	namespace string
	dir       string // the engine's, on the test's disk
	log       *os.File
	engine    *exec.Cmd
	ended     chan error // once, when the engine has
}

// newMachine starts a machine that has the images of the node.
func newMachine(t *testing.T) *machine {
	t.Helper()
	for _, tool := range []string{"dockerd", "ip", "iptables"} {
		_, err := exec.LookPath(tool)
		require.NoError(t, err, "this tool is needed (as root)")
	}
	dir, err := os.MkdirTemp("", "ftpnode-machine-") // short: an engine's sockets stand in it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	m := &machine{t: t, namespace: name(t, "machine"), dir: dir}
	m.log, err = os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := command("", "tail", "-n", "50", m.log.Name())
			t.Logf("the engine says:\n%s", log)
		}
		m.log.Close()
	})
	m.must("ip", "netns", "add", m.namespace)
	t.Cleanup(func() { m.must("ip", "netns", "delete", m.namespace) })
	for _, args := range []string{"link set lo up", "address add " + cloudAddress + "/32 dev lo", "address add " + machineAddress + "/32 dev lo"} {
		m.must("ip", append([]string{"-n", m.namespace}, strings.Fields(args)...)...)
	}
	m.boot()
	t.Cleanup(func() {
		if containers := strings.Fields(m.docker("ps", "-aq")); len(containers) > 0 {
			m.docker(append([]string{"rm", "-f", "-v"}, containers...)...)
		}
		m.shutdown()
	})
	images := filepath.Join(dir, "images")
	must(t, "save", "-o", images, repository()+":1", repository()+":2")
	m.docker("load", "-q", "-i", images)
	return m
}

func (m *machine) must(program string, args ...string) string {
	m.t.Helper()
	out, err := command("", program, args...)
	require.NoError(m.t, err)
	return strings.TrimSpace(out)
}

// docker is must for the machine's engine.
func (m *machine) docker(args ...string) string {
	m.t.Helper()
	return m.must("docker", append([]string{"--host", "unix://" + m.dir + "/docker.sock"}, args...)...)
}

// inside does something in the machine's network namespace: sockets that it makes, and programs that it starts, are in it.
func (m *machine) inside(do func()) {
	m.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		err := m.enter()
		if err == nil {
			do()
		}
		done <- err
	}()
	require.NoError(m.t, <-done)
}

// enter moves the thread into the machine's network namespace.
func (m *machine) enter() error {
	f, err := os.Open("/var/run/netns/" + m.namespace)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

// dial connects from within the machine.
func (m *machine) dial(address string) (conn net.Conn, err error) {
	m.inside(func() { conn, err = net.DialTimeout("tcp", address, 10*time.Second) })
	return conn, err
}

// boot starts the engine, which starts the containers that were not stopped by anyone else.
func (m *machine) boot() {
	m.t.Helper()
	m.engine = exec.Command("dockerd", "--data-root", m.dir+"/data", "--exec-root", m.dir+"/exec",
		"--pidfile", m.dir+"/pid", "--host", "unix://"+m.dir+"/docker.sock")
	m.engine.Stdout, m.engine.Stderr = m.log, m.log
	// A test that panics takes the engine with it. That goes by threads: this one lives as long as the engine does.
	m.engine.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	m.ended = make(chan error, 1)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock
		err := m.enter()
		if err == nil {
			err = m.engine.Start()
		}
		started <- err
		if err == nil {
			m.ended <- m.engine.Wait()
		}
	}()
	require.NoError(m.t, <-started)
	require.Eventually(m.t, func() bool {
		_, err := command("", "docker", "--host", "unix://"+m.dir+"/docker.sock", "version")
		return err == nil
	}, patience, tick, "the engine does not answer")
}

// shutdown is a host's: the engine stops its containers, with the 10 s of grace that it gives those that say nothing else.
func (m *machine) shutdown() {
	m.t.Helper()
	require.NoError(m.t, m.engine.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-m.ended:
		require.NoError(m.t, err, "the engine's end")
	case <-time.After(patience):
		_ = m.engine.Process.Kill()
		require.Fail(m.t, "the engine does not end")
	}
}

// silence has nothing of what is sent to the cloud arrive.
func (m *machine) silence() { m.iptables("-A") }

// speak ends silence.
func (m *machine) speak() { m.iptables("-D") }

func (m *machine) iptables(action string) {
	m.t.Helper()
	m.must("ip", "netns", "exec", m.namespace, "iptables", "-w", action, "INPUT", "-d", cloudAddress, "-j", "DROP")
}

// newCloud starts an EchoStream that the machine's containers reach.
func (m *machine) newCloud(o echotest.Options) (c *echotest.Cloud) {
	m.t.Helper()
	o.Address, o.TempDir = cloudAddress+":0", m.t.TempDir()
	var err error
	m.inside(func() { c, err = echotest.StartCloud(o) })
	require.NoError(m.t, err)
	m.t.Cleanup(c.Close)
	return c
}

// turn has all services of a cloud refuse connections, or answer again.
func (m *machine) turn(c *echotest.Cloud, service func(*echotest.Cloud, echotest.Service)) {
	m.t.Helper()
	m.inside(func() { // it listens, or keeps its ports
		for _, s := range echotest.Services() {
			service(c, s)
		}
	})
}
