package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node/nodetest"
)

// What goes in by FTP comes out in the folder, byte for byte, whatever becomes of the two nodes in between.
func TestFromFTPIntoTheFolder(t *testing.T) {
	r := nodetest.New(t, bridge())
	address, passive := nodetest.Address(t), nodetest.Address(t)
	_, port, _ := strings.Cut(passive, ":")
	r.Cloud.SetNode(echotest.Node{Name: "scanner", Config: fmt.Sprintf(
		`{"ftp": {"users": [{"name": "device", "password": "long-enough-to-be-one"}], "passivePorts": "%s-%s"}, "files": {"settle": "10ms", "minFree": "1MB"}}`, port, port)})
	ftp := newFTPNode(t, r.Cloud.EnvironmentOf("scanner"), address)
	ftp.start()
	r.Start()

	want := map[string][]byte{}
	chance := rand.New(rand.NewPCG(7, 7))
	for n := range 24 {
		content := make([]byte, []int{0, 1, 1000, 190_000, 300_000, 2 << 20}[n%6])
		_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(content)
		name := fmt.Sprintf("folder %d/Größe <%d>.bin", n%3, n)
		want[safeName(name)] = content
		require.Eventually(t, func() bool { return store(address, name, content) == nil }, time.Minute, 20*time.Millisecond, "%s", ftp.log())
		switch chance.IntN(6) {
		case 0:
			ftp.kill()
			ftp.start()
		case 1:
			r.Kill()
			r.Cloud.Clock().Advance(31 * time.Second) // what it held comes again
			r.Start()
		case 2:
			r.Restart()
		}
	}
	arrived := func() map[string]bool {
		items, err := stored(r.Dir)
		require.NoError(t, err)
		names := map[string]bool{}
		for _, item := range items {
			name := item.Name
			if _, ok := want[name]; !ok {
				name = strings.Replace(name, " (2)", "", 1) // a device that was not told sent it again
			}
			require.Contains(t, want, name)
			assert.True(t, bytes.Equal(want[name], item.Content), "%s", item)
			names[name] = true
		}
		return names
	}
	require.Eventually(t, func() bool { return len(arrived()) == len(want) }, 2*time.Minute, 50*time.Millisecond, "%s\n%s", ftp.log(), r.Log())
}

// ftpNode is cmd/ftpnode in processes of its own, one after the other on one volume.
type ftpNode struct {
	t       *testing.T
	dir     string
	env     []string
	command *exec.Cmd // nil while none runs
}

func newFTPNode(t *testing.T, env map[string]string, address string) *ftpNode {
	t.Helper()
	n := &ftpNode{t: t, dir: t.TempDir()}
	build := exec.Command("go", "build", "-o", filepath.Join(n.dir, "ftpnode"), "./cmd/ftpnode")
	build.Dir = filepath.Join("..", "..")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.Mkdir(filepath.Join(n.dir, "data"), 0o700))
	n.env = append(os.Environ(), "FTPNODE_DATA="+filepath.Join(n.dir, "data"), "FTPNODE_FTP_ADDR="+address)
	for name, value := range env {
		n.env = append(n.env, name+"="+value)
	}
	t.Cleanup(n.kill)
	return n
}

func (n *ftpNode) start() {
	n.t.Helper()
	out, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(n.t, err)
	defer out.Close()
	n.command = exec.Command(filepath.Join(n.dir, "ftpnode"))
	n.command.Env, n.command.Stdout, n.command.Stderr = n.env, out, out
	require.NoError(n.t, n.command.Start())
}

func (n *ftpNode) kill() {
	if n.command == nil {
		return
	}
	assert.NoError(n.t, n.command.Process.Kill())
	assert.ErrorContains(n.t, n.command.Wait(), "killed")
	n.command = nil
}

func (n *ftpNode) log() string {
	text, err := os.ReadFile(filepath.Join(n.dir, "log"))
	require.NoError(n.t, err)
	return string(text)
}

// store uploads a file as a device does, with its folder.
func store(address, name string, content []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	control, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	_ = control.SetDeadline(time.Now().Add(20 * time.Second))
	c := textproto.NewConn(control)
	defer c.Close()
	if _, _, err := c.ReadResponse(220); err != nil {
		return err
	}
	folder, _, _ := strings.Cut(name, "/")
	var reply string
	for _, step := range []struct {
		command string
		code    int
	}{{"USER device", 331}, {"PASS long-enough-to-be-one", 230}, {"MKD " + folder, 0}, {"TYPE I", 200}, {"EPSV", 229}} {
		if err := c.PrintfLine("%s", step.command); err != nil {
			return err
		}
		if _, reply, err = c.ReadResponse(step.code); err != nil && step.code != 0 {
			return err
		}
	}
	_, port, _ := strings.Cut(reply, "|||")
	data, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strings.TrimRight(port, "|).")))
	if err != nil {
		return err
	}
	defer data.Close()
	if err := c.PrintfLine("STOR %s", name); err != nil {
		return err
	}
	if _, _, err := c.ReadResponse(150); err != nil {
		return err
	}
	if _, err := data.Write(content); err != nil {
		return err
	}
	if err := data.Close(); err != nil {
		return err
	}
	if _, _, err := c.ReadResponse(226); err != nil {
		return err
	}
	_ = c.PrintfLine("QUIT") // the 226 was read, whatever becomes of this
	_, _, _ = c.ReadResponse(221)
	return nil
}

var dialer = net.Dialer{Timeout: 10 * time.Second}
