package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/internal/freeport"
	"github.com/ftpnode/ftpnode/internal/race"
)

// The test binary is also the node that the tests run.
func TestMain(m *testing.M) {
	switch os.Getenv("ECHOLOCAL_TEST_NODE") {
	case "":
		os.Exit(m.Run())
	case "environment":
		for _, pair := range os.Environ() {
			fmt.Println("env", pair)
		}
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM)
		fmt.Println("node is up")
		<-signals
		fmt.Println("node was asked to end")
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("node is up")
		select {}
	case "failing":
		os.Exit(7)
	}
}

const waitFor, tick = 60 * time.Second, 10 * time.Millisecond

type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) wait(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(o.String(), text) }, waitFor, tick, "no %q in:\n%s", text, o)
}

// started runs echolocal until the test, or stop, ends it.
func started(t *testing.T, args ...string) (out *output, kill func(), stop func() error) {
	out = &output{}
	ctx, cancel := context.WithCancel(context.Background())
	killed := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, killed, args, out, out) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case err = <-ended:
			case <-time.After(waitFor):
				assert.Fail(t, "it does not end", "%s", out)
			}
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return out, sync.OnceFunc(func() { close(killed) }), stop
}

func directories(t *testing.T) []string {
	dir := t.TempDir()
	return []string{"-received", filepath.Join(dir, "received"), "-data", filepath.Join(dir, "data")}
}

func TestNodeGetsTheEnvironmentAndEndsOnCtrlC(t *testing.T) {
	t.Setenv("ECHOLOCAL_TEST_NODE", "environment")
	t.Setenv("NAME", "this-computer")
	t.Setenv("AWS_PROFILE", "production")
	out, _, stop := started(t, append(directories(t), "-ftp", "127.0.0.1:0", "--", os.Args[0])...)
	out.wait(t, "node is up")
	require.NoError(t, stop())
	assert.Contains(t, out.String(), "node was asked to end")
	for _, name := range []string{"APPSYNC_ENDPOINT", "CLIENT_ID", "NODE", "PASSWORD", "TENANT", "USER_POOL_ID", "USER_NAME", "AWS_ENDPOINT_URL", "FTPNODE_DATA", "FTPNODE_FTP_ADDR"} {
		assert.Regexp(t, `(?m)^env `+name+`=.+$`, out.String())
	}
	assert.NotContains(t, out.String(), "env NAME=", "it would win over NODE")
	assert.NotContains(t, out.String(), "env AWS_PROFILE=")
}

// The second node may be written in anything; here it is in Go.
func TestReceiver(t *testing.T) {
	t.Setenv("ECHOLOCAL_TEST_NODE", "environment")
	out, _, _ := started(t, append(directories(t), "-receiver", "drop box", "-ftp", "127.0.0.1:0", "--", os.Args[0])...)
	out.wait(t, "node is up")
	node, receiver := map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(env|export) (\w+)='?(.*?)'?$`).FindAllStringSubmatch(out.String(), -1) {
		if m[1] == "env" {
			node[m[2]] = m[3]
		} else {
			receiver[m[2]] = m[3]
		}
	}
	assert.Equal(t, "drop box", receiver["NODE"])
	assert.Contains(t, receiver["COGNITO_JWKS"], `"keys"`)
	connect := func(variables map[string]string) *echostream.Client {
		env, err := echostream.EnvironmentFrom(func(name string) string { return variables[name] })
		require.NoError(t, err)
		client, err := echostream.New(env, echostream.Options{AWS: []func(*config.LoadOptions) error{config.WithBaseEndpoint(variables["AWS_ENDPOINT_URL"])}})
		require.NoError(t, err)
		return client
	}
	sender := connect(node)
	definition, err := sender.Definition(t.Context())
	require.NoError(t, err)
	queue := ""
	for _, target := range definition.Targets {
		if target.Name == "drop box" {
			queue = target.Queue
		}
	}
	require.NoError(t, sender.Send(t.Context(), definition, queue, []echostream.Message{{TrackingID: echostream.NewTrackingID(), Body: "hello"}})[0])
	ctx, cancel := context.WithTimeout(t.Context(), waitFor)
	defer cancel()
	var got []string
	require.NoError(t, connect(receiver).Receive(ctx, echostream.ReceiveOptions{}, func(_ context.Context, m echostream.ReceivedMessage) error {
		got = append(got, m.Body)
		cancel()
		return nil
	}))
	assert.Equal(t, []string{"hello"}, got)
	for _, taken := range []string{"ftp-node", "target-1"} {
		assert.ErrorIs(t, run(t.Context(), nil, []string{"-receiver", taken}, io.Discard, io.Discard), errUsage)
	}
}

func TestSecondCtrlCKills(t *testing.T) {
	t.Setenv("ECHOLOCAL_TEST_NODE", "stubborn")
	out, kill, stop := started(t, append(directories(t), "--", os.Args[0])...)
	out.wait(t, "node is up")
	kill()
	began := time.Now()
	require.NoError(t, stop())
	assert.Less(t, time.Since(began), stopTime)
}

func TestNodeThatFails(t *testing.T) {
	t.Setenv("ECHOLOCAL_TEST_NODE", "failing")
	err := run(t.Context(), nil, append(directories(t), "--", os.Args[0]), io.Discard, io.Discard)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 7, exitCode(err))

	err = run(t.Context(), nil, append(directories(t), "--", "/no/such/program"), io.Discard, io.Discard)
	require.ErrorContains(t, err, "starting the node")
	assert.Equal(t, 1, exitCode(err))
}

// What is printed can be pasted into a shell.
func TestCloudAlone(t *testing.T) {
	out, _, stop := started(t, append(directories(t), "-targets", "it's, b")...)
	out.wait(t, "Ctrl-C ends it")
	script := out.String() + "\nprintf '%s' \"$NODE|$TENANT|$APPSYNC_ENDPOINT\"\n"
	got, err := exec.Command("sh", "-c", script).Output()
	require.NoError(t, err)
	assert.Regexp(t, `^ftp-node\|acme\|http://127\.0\.0\.1:\d+/graphql$`, string(got))
	require.NoError(t, stop())
}

// gated holds back what is said of arrivals, and with it the next ones, until the gate is open.
type gated struct {
	output
	gate chan struct{}
}

func (g *gated) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("arrived")) {
		<-g.gate
	}
	return g.output.Write(b)
}

// What was acknowledged to a node is written, however much of it there is at the end.
func TestArrivalsAreWrittenBeforeTheEnd(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dirs := directories(t)
	out := &gated{gate: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, nil, dirs, out, out) }()
	out.wait(t, "Ctrl-C ends it")
	for _, line := range regexp.MustCompile(`(?m)^export (\w+)=(.*)$`).FindAllStringSubmatch(out.String(), -1) {
		t.Setenv(line[1], strings.Trim(line[2], "'"))
	}
	env, err := echostream.EnvironmentFrom(os.Getenv)
	require.NoError(t, err)
	client, err := echostream.New(env, echostream.Options{})
	require.NoError(t, err)
	node, err := client.Definition(t.Context())
	require.NoError(t, err)
	bulk := client.NewBulk(echostream.BulkOptions{})
	const files = 20
	for i := range files {
		object, err := bulk.Upload(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil })
		require.NoError(t, err)
		body, err := echostream.MarshalMessage(map[string]any{"name": fmt.Sprint(i), "contentLength": 7, "contentType": "text/plain",
			"modificationDateTime": "2026-11-22T08:00:00.000Z", "contentUrl": object.URL})
		require.NoError(t, err)
		message := echostream.Message{TrackingID: echostream.NewTrackingID(), Body: body}
		require.NoError(t, client.Send(t.Context(), node, node.Targets[0].Queue, []echostream.Message{message})[0])
	}
	other := echostream.Message{TrackingID: echostream.NewTrackingID(), Body: "{\"temperature\": 21.5, \"unit\": \"°C\"}"}
	require.NoError(t, client.Send(t.Context(), node, node.Targets[0].Queue, []echostream.Message{other})[0])
	cancel()
	address := strings.TrimPrefix(os.Getenv("AWS_ENDPOINT_URL"), "http://")
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, waitFor, tick, "the cloud ends")
	close(out.gate)
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(waitFor):
		require.Fail(t, "it does not end", "%s", out)
	}
	for i := range files {
		content, err := os.ReadFile(filepath.Join(dirs[1], "target-1", fmt.Sprint(i)))
		require.NoError(t, err, "%s", out)
		assert.Equal(t, "content", string(content))
	}
	assert.Contains(t, out.String(), "arrived  target-1  trackingId="+other.TrackingID+"  36 bytes  "+other.Body+"\n", "it is no file")
	assert.Contains(t, out.String(), "Summary: 21 sent, 21 arrived, 0 suppressed as duplicates; 0 identical to what the node took, 20 DIFFERENT.\n", "they had no hash")
}

// What answers on the FTP address must be the node that was started.
func TestAddressInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	_, _, stop := started(t, append(directories(t), "-ftp", listener.Addr().String(), "--", os.Args[0])...)
	require.ErrorContains(t, stop(), "the node cannot serve FTP on "+listener.Addr().String())
}

func TestShown(t *testing.T) {
	assert.Equal(t, `{"a": "ä"}`, shown(`{"a": "ä"}`))
	assert.Equal(t, `"MSH|\rPID|"`, shown("MSH|\rPID|"))
	assert.Equal(t, strings.Repeat("x", 2000)+"...", shown(strings.Repeat("x", 2001)))
}

func TestFaultsAreToldNowAndThen(t *testing.T) {
	f, err := echotest.ParseFault("sqs:down")
	require.NoError(t, err)
	counts := newTally([]echotest.Fault{f})
	var told []int
	for range 1234 {
		if hits, say := counts.hit(f); say {
			told = append(told, hits)
		}
	}
	assert.Equal(t, []int{1, 2, 3, 10, 100, 1000}, told)
	assert.Contains(t, counts.String(), "Fault sqs:down hit 1234 requests.\n")
}

// The README's command, with the node as a program of its own: a file goes in by FTP and comes out below received/.
func TestWithTheNode(t *testing.T) {
	binary, err := race.Build(t.TempDir(), "github.com/ftpnode/ftpnode/cmd/ftpnode")
	require.NoError(t, err)
	address := freeAddress(t)
	dirs := directories(t)
	config := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(config, []byte(`{"ftp": {"users": [{"name": "demo", "password": "it's me"}],
		"passivePorts": "`+freePorts(t)+`"}, "files": {"settle": "50ms", "minFree": "1MB"}}`), 0o600))
	out, _, stop := started(t, append(dirs, "-ftp", address, "-config", config, "-targets", "a,b", "-audit",
		"-fault", "sqs:reply-lost:count=1", "-fault", "s3:error:count=1", "--", binary)...)
	out.wait(t, "Ready. Drop a file")
	assert.Contains(t, out.String(), `curl --user 'demo:it'\''s me' --upload-file README.md ftp://`+address+"/\n")

	large := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	put(t, address, "small.txt", []byte("small"))
	put(t, address, "large.txt", large)
	for name, content := range map[string][]byte{"small.txt": []byte("small"), "large.txt": large} {
		where := map[string]string{"small.txt": "inline", "large.txt": "bulk"}[name]
		for _, target := range []string{"a", "b"} {
			kept := filepath.Join(dirs[1], target, name)
			sum := sha256.Sum256(content)
			out.wait(t, fmt.Sprintf("arrived  %s  %q  %d bytes  %s  sha256=%s  -> %s\n", target, name, len(content), where, hex.EncodeToString(sum[:]), kept))
			got, err := os.ReadFile(kept)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(content, got))
		}
		require.Eventually(t, func() bool { return regexp.MustCompile(`audited  [0-9a-f]{32}  ` + name).MatchString(out.String()) }, waitFor, tick)
	}
	require.NoError(t, stop())
	assert.Contains(t, out.String(), "[INFO] ftpnode has stopped")
	assert.Regexp(t, `(?m)^fault  sqs:reply-lost:count=1  hits sqs SendMessageBatch  \(1 so far\)$`, out.String())
	assert.Regexp(t, `(?m)^suppressed  [ab]  trackingId=[0-9a-f]{32}  SQS had it already$`, out.String())
	assert.Regexp(t, `(?m)^Summary: [5-9] sent, 4 arrived, [1-5] suppressed as duplicates; 4 identical to what the node took; 2 audited\.$`, out.String())
	assert.Contains(t, out.String(), "Fault sqs:reply-lost:count=1 hit 1 requests.\nFault s3:error:count=1 hit 1 requests.\n")
}

func freePorts(t *testing.T) string { return strconv.Itoa(freeport.Range(t, 1)) }

func freeAddress(t *testing.T) string { return net.JoinHostPort("127.0.0.1", freePorts(t)) }

// put uploads by FTP.
func put(t *testing.T, address, name string, content []byte) {
	c, err := textproto.Dial("tcp", address)
	require.NoError(t, err)
	defer c.Close()
	do := func(code int, command string) string {
		if command != "" {
			require.NoError(t, c.PrintfLine("%s", command))
		}
		_, message, err := c.ReadResponse(code)
		require.NoError(t, err)
		return message
	}
	do(220, "")
	do(331, "USER demo")
	do(230, "PASS it's me")
	do(200, "TYPE I")
	reply := do(229, "EPSV")
	host, _, _ := net.SplitHostPort(address)
	port := reply[strings.Index(reply, "|||")+3 : strings.LastIndex(reply, "|")]
	require.NoError(t, c.PrintfLine("STOR %s", name))
	data, err := net.Dial("tcp", net.JoinHostPort(host, port))
	require.NoError(t, err)
	do(150, "")
	_, err = data.Write(content)
	require.NoError(t, err)
	require.NoError(t, data.Close())
	do(226, "")
	do(221, "QUIT")
}

func TestStoreKeepsEverythingInside(t *testing.T) {
	outer := t.TempDir()
	s, err := openStore(filepath.Join(outer, "received"))
	require.NoError(t, err)
	defer s.close()
	require.NoError(t, os.Symlink(outer, filepath.Join(outer, "received", "link")))
	keep := func(target, name, content string) (string, error) {
		_, kept, err := s.keep(target, func(w io.Writer) (echotest.File, error) {
			_, err := io.WriteString(w, content)
			return echotest.File{Name: name}, err
		})
		return kept, err
	}
	for _, c := range []struct{ target, name, want string }{
		{"a", "x.txt", "a/x.txt"}, {"a", "x.txt", "a/x (2).txt"}, {"a", "x.txt", "a/x (3).txt"}, {"b", "x.txt", "b/x.txt"},
		{"a", "dir/sub/y", "a/dir/sub/y"}, {"a", "dir/sub/y", "a/dir/sub/y (2)"}, {"a", ".hidden", "a/.hidden"}, {"a", ".hidden", "a/.hidden (2)"},
		{"a", "../../../evil", "a/evil"}, {"a", "/etc/evil", "a/etc/evil"}, {"../..", "up", ".._../up"}, {"..", "up", "_../up"}, {"", "z", "_/z"},
		{"a", "", "a/unnamed"}, {"a", "../..", "a/unnamed (2)"}, {"a", `..\..\evil`, "a/.._.._evil"}, {"a", "a\x1b[31m\nb\x00", "a/a_[31m_b_"},
		{"a", strings.Repeat("ü", 300) + ".txt", "a/" + strings.Repeat("ü", 100)},
	} {
		kept, err := keep(c.target, c.name, c.want)
		require.NoError(t, err, "%q", c.name)
		assert.Equal(t, filepath.Join(outer, "received", c.want), kept)
		content, err := os.ReadFile(kept)
		require.NoError(t, err)
		assert.Equal(t, c.want, string(content), "each file has its own content")
	}
	_, err = keep("link", "evil", "x")
	require.Error(t, err, "a symlink that leads out")
	entries, err := os.ReadDir(outer)
	require.NoError(t, err)
	assert.Len(t, entries, 1)

	_, _, err = s.keep("a", func(w io.Writer) (echotest.File, error) {
		_, _ = io.WriteString(w, "half")
		return echotest.File{Name: "half.txt"}, errors.New("the rest is missing")
	})
	require.ErrorContains(t, err, "the rest is missing")
	assert.NoFileExists(t, filepath.Join(outer, "received", "a", "half.txt"))
	assert.NoFileExists(t, filepath.Join(outer, "received", temporary))
}

func TestOptions(t *testing.T) {
	parse := func(args ...string) (options, error) { return parseOptions(args, io.Discard) }
	o, err := parse()
	require.NoError(t, err)
	assert.Equal(t, []string{"target-1"}, o.targets)
	assert.Empty(t, o.command)
	o, err = parse("-targets", "3", "-audit", "-fault", "sqs:down", "-fault", "*:slow:delay=2s", "--", "node", "-x")
	require.NoError(t, err)
	assert.Equal(t, []string{"target-1", "target-2", "target-3"}, o.targets)
	assert.Equal(t, []string{"node", "-x"}, o.command)
	assert.Len(t, o.faults, 2)
	o, err = parse("-targets", "0")
	require.NoError(t, err)
	assert.Equal(t, []string{}, o.targets, "none, and not the default")
	o, err = parse("--", "node", "--", "x")
	require.NoError(t, err)
	assert.Equal(t, []string{"node", "--", "x"}, o.command)

	bad := filepath.Join(t.TempDir(), "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte("[]"), 0o600))
	for _, args := range [][]string{
		{"node"}, {"-targets", "a,,b"}, {"-targets", "a,a"}, {"-targets", "-1"}, {"-targets", "101"}, {"-fault", "nonsense"}, {"-config", "/no/such/file"}, {"-config", bad}, {"-colour"},
	} {
		_, err := parse(args...)
		require.ErrorIs(t, err, errUsage, "%v", args)
		assert.Equal(t, 2, exitCode(err))
	}
	broken := filepath.Join(t.TempDir(), "broken.json")
	require.NoError(t, os.WriteFile(broken, []byte("{\n  \"ftp\": {,}\n}"), 0o600))
	_, err = parse("-config", broken)
	require.ErrorContains(t, err, "broken.json:2:11: expected a JSON object")
	_, err = parse("-config", bad)
	require.ErrorContains(t, err, "bad.json:1:1: expected a JSON object")
	full := filepath.Join(t.TempDir(), "full.json")
	require.NoError(t, os.WriteFile(full, []byte(`{"ftp": {"maxConnections": 1000000}}`), 0o600))
	o, err = parse("-config", full, "-passive", "30010-30019", "-log-level", "debug")
	require.NoError(t, err)
	assert.JSONEq(t, `{"ftp": {"maxConnections": 1000000, "passivePorts": "30010-30019"}}`, o.config)
	assert.Contains(t, o.config, "1000000")
	assert.Equal(t, "DEBUG", o.level)
	_, err = parse("-log-level", "loud")
	require.ErrorContains(t, err, "expected debug, info, warning or error")
	_, err = parse("-h")
	require.ErrorIs(t, err, errHelp)
	assert.Zero(t, exitCode(err))
}

// Whether a message that is no file is what the node took, nobody knows.
func TestSummaryWithoutFiles(t *testing.T) {
	assert.Equal(t, "\nSummary: 3 sent, 2 arrived, 1 suppressed as duplicates.\n", (&tally{messages: 2, suppressed: 1}).String())
}

func TestHint(t *testing.T) {
	assert.Contains(t, loginOf(defaultConfig).hint(options{ftp: ":2121"}, nil), "curl --user demo:demo --upload-file README.md ftp://127.0.0.1:2121/\n")
	assert.Contains(t, loginOf(`{"ftp": {"tls": "implicit", "users": [{"name": "h", "passwordHash": "x"}]}}`).hint(options{ftp: "127.0.0.1:990"}, nil),
		"curl --insecure --user USER:PASSWORD --upload-file README.md ftps://127.0.0.1:990/\n")
	assert.Contains(t, loginOf(`{"ftp": {"tls": "required"}}`).hint(options{ftp: "127.0.0.1:1"}, nil), "curl --ssl-reqd --insecure --user")
	assert.Contains(t, login{user: "a"}.hint(options{}, errRefused), `The node does not let the user "a" in; its log says why.`)
	assert.Contains(t, loginOf(`[]`).hint(options{ftp: "127.0.0.1:1"}, nil), "USER:PASSWORD")
}

// A user that the node has left out is not tried until the node bans this machine.
func TestRefusedLogin(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	var logins atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			logins.Add(1)
			text := textproto.NewConn(conn)
			for _, answer := range []string{"220 hello", "331 password", "530 no"} {
				_ = text.PrintfLine("%s", answer)
				_, _ = text.ReadLine()
			}
			text.Close()
		}
	}()
	require.ErrorIs(t, login{user: "a", password: "b"}.wait(t.Context(), listener.Addr().String()), errRefused)
	assert.LessOrEqual(t, logins.Load(), int64(5))
}
