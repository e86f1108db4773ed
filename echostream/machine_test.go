package echostream_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/internal/awsenv"
)

// Go reads a machine's proxies and certificates once in a process, so that a test of them needs one of its own.
const childVariable = "ECHOSTREAM_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		if err := child(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	awsenv.Clear()
	sideBySide()
	code := m.Run()
	if left := receiversLeft(); code == 0 && left != "" {
		fmt.Println("left behind by Receive:", left)
		code = 1
	}
	os.Exit(code)
}

// sideBySide lets more tests run at once than there are cores: those that run beside others wait most of the time.
func sideBySide() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "8")
	}
}

// receiversLeft gives a stack of Receive that does not end, or "".
func receiversLeft() (left string) {
	deadline := time.Now().Add(10 * time.Second)
	for stacks := make([]byte, 4<<20); ; time.Sleep(time.Millisecond) {
		left = ""
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			for _, mine := range []string{"echostream.(*Client).Receive", "echostream.(*receiver)", "echostream.(*inbound)", "echostream.(*auditTrail)"} {
				if strings.Contains(stack, mine) {
					left = stack
				}
			}
		}
		if left == "" || time.Now().After(deadline) {
			return left
		}
	}
}

// child does what a node does, with what its environment says and nothing else.
func child() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env, err := echostream.EnvironmentFrom(os.Getenv)
	if err != nil {
		return err
	}
	client, err := echostream.New(env, echostream.Options{})
	if err != nil {
		return err
	}
	node, err := client.Definition(ctx)
	if err != nil {
		return err
	}
	object, err := client.NewBulk(echostream.BulkOptions{}).Upload(ctx, func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("x")), nil
	})
	if err != nil {
		return err
	}
	return client.Send(ctx, node, node.Targets[0].Queue, []echostream.Message{message(object.SHA256)})[0]
}

// proxy tunnels to this machine whatever the host's name, for who knows the password.
type proxy struct {
	password string
	mu       sync.Mutex
	hosts    []string
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	if _, password, _ := user.BasicAuth(); r.Method != http.MethodConnect || password != p.password {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	host, port, _ := net.SplitHostPort(r.Host)
	p.mu.Lock()
	p.hosts = append(p.hosts, host)
	p.mu.Unlock()
	far, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		defer far.Close()
		_, _ = io.Copy(far, near)
	}()
	_, _ = io.Copy(near, far)
}

func TestProxyAndCertificatesOfTheMachine(t *testing.T) {
	cloud := echotest.NewCloud(echotest.Options{TLS: true, Host: "echostream.test", TempDir: t.TempDir()})
	defer cloud.Close()
	p := &proxy{password: "pa55-of-the-proxy"}
	server := httptest.NewServer(p)
	defer server.Close()
	certificates := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(certificates, cloud.CertificatePEM(), 0o600))

	run := func(proxyPassword string) (string, error) {
		self, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = []string{
			childVariable + "=1", "SSL_CERT_FILE=" + certificates, "GOCOVERDIR=" + t.TempDir(),
			"HTTPS_PROXY=" + strings.Replace(server.URL, "://", "://node:"+proxyPassword+"@", 1),
		}
		for name, value := range cloud.Environment() {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}

	out, err := run(p.password)
	require.NoError(t, err, out)
	assert.Empty(t, out)
	require.Len(t, cloud.Messages("target"), 1)
	p.mu.Lock()
	assert.GreaterOrEqual(t, len(p.hosts), 4, "Cognito, the API, S3, SQS")
	for _, host := range p.hosts {
		assert.Equal(t, "echostream.test", host)
	}
	p.mu.Unlock()

	out, err = run("wrong-pa55")
	require.Error(t, err)
	assert.Contains(t, out, "Proxy Authentication Required")
	assert.NotContains(t, out, "wrong-pa55")
	assert.NotContains(t, out, cloud.Environment()["PASSWORD"])
}
