//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/internal/awsenv"
)

const (
	library = "echostream-node==0.4.6"
	// patience bounds each wait. Starting Python and logging in takes seconds on a busy machine.
	patience = 2 * time.Minute
)

var python string

func TestMain(m *testing.M) {
	awsenv.Clear()
	dir, err := os.MkdirTemp("", "interop-")
	if err == nil {
		python, err = findLibrary(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "EchoStream's Python library cannot be had, and without it nothing is tested:", err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// findLibrary gives a Python that has the library, which it installs if it has to.
func findLibrary(dir string) (string, error) {
	if p := os.Getenv("ECHOSTREAM_PYTHON"); p != "" {
		return p, command(p, "-c", "import echostream_node.threading")
	}
	var base string
	candidates := []string{"python3.12", "python3"}
	if prefix, err := exec.Command("pyenv", "prefix", "3.12").Output(); err == nil {
		candidates = append(candidates, filepath.Join(strings.TrimSpace(string(prefix)), "bin", "python3.12"))
	}
	var tried []error
	for _, c := range candidates {
		err := command(c, "-c", "import sys, venv; assert sys.version_info >= (3, 12), sys.version")
		if err == nil {
			base = c
			break
		}
		tried = append(tried, err)
	}
	if base == "" {
		return "", fmt.Errorf("no Python of 3.12 or newer: %v", tried)
	}
	venv := filepath.Join(dir, "venv")
	if err := command(base, "-m", "venv", venv); err != nil {
		return "", err
	}
	p := filepath.Join(venv, "bin", "python")
	return p, command(p, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", library)
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// world is a cloud with a node of ours and one in Python, and an edge each way.
type world struct {
	*echotest.Cloud
	t      *testing.T
	client *echostream.Client
	node   *echostream.Definition
	orders io.Writer
	lines  <-chan said
}

// said is a line of node.py.
type said struct {
	Ready, Sent, Problem           string
	Body, TrackingID, Source, Type string
	Encoding                       string
	Previous                       []string
	Stored                         []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cloud := echotest.NewCloud(echotest.Options{
		Tenant: echotest.Tenant{Audit: true}, App: echotest.App{Name: "ours", Kind: echotest.ExternalApp},
		Node:    echotest.Node{Name: "ours", ReceiveMessageType: "echo.file"},
		Targets: []string{"python"}, Sources: []string{"python"}, TempDir: t.TempDir(),
	})
	t.Cleanup(cloud.Close)
	cloud.SetApp(echotest.App{Name: "theirs", Kind: echotest.ExternalApp})
	cloud.SetNode(echotest.Node{Name: "python", App: "theirs", ReceiveMessageType: "echo.file"})
	variables := cloud.Environment()
	env, err := echostream.EnvironmentFrom(func(name string) string { return variables[name] })
	require.NoError(t, err)
	client, err := echostream.New(env, echostream.Options{AWS: []func(*config.LoadOptions) error{config.WithBaseEndpoint(cloud.URL())}})
	require.NoError(t, err)
	w := &world{Cloud: cloud, t: t, client: client}
	w.node, err = client.Definition(t.Context())
	require.NoError(t, err)
	w.startPython()
	return w
}

func (w *world) startPython() {
	cmd := exec.Command(python, "testdata/node.py")
	cmd.Env = append(os.Environ(), "COGNITO_JWKS="+string(w.KeySet()), "PYTHONDONTWRITEBYTECODE=1")
	for name, value := range w.EnvironmentOf("python") {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var problems bytes.Buffer
	cmd.Stderr = &problems
	in, err := cmd.StdinPipe()
	require.NoError(w.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, cmd.Start())
	lines := make(chan said, 100)
	w.orders, w.lines = in, lines
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(out)
		scanner.Buffer(nil, 64<<20)
		for scanner.Scan() {
			var s said
			if err := json.Unmarshal(scanner.Bytes(), &s); err != nil {
				s.Problem = "no JSON: " + scanner.Text()
			}
			lines <- s
		}
	}()
	w.t.Cleanup(func() {
		_ = in.Close()
		for range lines {
		}
		err := cmd.Wait()
		if err != nil || w.t.Failed() {
			w.t.Logf("the Python node: %v\n%s", err, problems.String())
		}
	})
	require.Equal(w.t, "python", w.next().Ready)
}

// next is what the Python node says next.
func (w *world) next() said {
	w.t.Helper()
	select {
	case s, ok := <-w.lines:
		require.True(w.t, ok, "the Python node has ended")
		require.Empty(w.t, s.Problem)
		return s
	case <-time.After(patience):
		require.Fail(w.t, "the Python node says nothing")
		return said{}
	}
}

// audits waits for the records of a node.
func (w *world) audits(node string, n int) map[string]echotest.AuditRecord {
	w.t.Helper()
	records := map[string]echotest.AuditRecord{}
	assert.Eventually(w.t, func() bool {
		clear(records)
		for _, r := range w.AuditRecords() {
			if r.Node == node {
				records[r.TrackingID] = r
			}
		}
		return len(records) == n
	}, patience, 10*time.Millisecond, "records of %s", node)
	return records
}

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

func about(name string, data []byte) map[string]any {
	return map[string]any{
		"name": name, "contentLength": len(data), "contentType": "application/octet-stream",
		"modificationDateTime": "2026-11-07T16:05:09.000Z",
	}
}

// What ours sends, theirs receives; theirs audits it with the auditor of the message type, which gives what ours gives.
func TestOursToTheirs(t *testing.T) {
	w := newWorld(t)
	big := random(1 << 20)
	var want []echostream.Message
	for i, data := range [][]byte{[]byte("hello"), nil, big, random(1000)} {
		file := about(fmt.Sprintf("Grüße %d.bin", i), data)
		if len(data) == len(big) {
			object, err := w.client.NewBulk(echostream.BulkOptions{}).Upload(t.Context(), func() (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(data)), nil
			})
			require.NoError(t, err)
			file["contentUrl"] = object.URL
		} else {
			file["content"] = base64.StdEncoding.EncodeToString(data)
		}
		body, err := echostream.MarshalMessage(file)
		require.NoError(t, err)
		m := echostream.Message{TrackingID: echostream.NewTrackingID(), Body: body}
		if i == 3 {
			m.Group = "another group"
			m.PrevTrackingIDs = []string{echostream.NewTrackingID(), echostream.NewTrackingID()}
		}
		want = append(want, m)
	}
	for _, err := range w.client.Send(t.Context(), w.node, w.node.Targets[0].Queue, want) {
		require.NoError(t, err)
	}
	got := map[string]said{}
	for range want {
		s := w.next()
		got[s.TrackingID] = s
	}
	records := w.audits("python", len(want))
	for _, m := range want {
		s := got[m.TrackingID]
		assert.Equal(t, m.Body, s.Body)
		assert.ElementsMatch(t, m.PrevTrackingIDs, s.Previous)
		assert.Equal(t, "ours", s.Source)
		assert.Equal(t, "echo.file", s.Type)
		if strings.Contains(m.Body, "contentUrl") {
			assert.Equal(t, "gzip", s.Encoding)
			z, err := gzip.NewReader(bytes.NewReader(s.Stored))
			require.NoError(t, err)
			data, err := io.ReadAll(z)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(big, data))
		}
		record := records[m.TrackingID]
		assert.Equal(t, "ours", record.SourceNode)
		ours, err := json.Marshal(echostream.AuditFile(echostream.ReceivedMessage{Message: m}))
		require.NoError(t, err)
		theirs, err := json.Marshal(record.Attributes)
		require.NoError(t, err)
		assert.JSONEq(t, string(theirs), string(ours), "our auditor of echo.file gives what EchoStream's gives")
	}
}

// What theirs sends, ours receives, and audits.
func TestTheirsToOurs(t *testing.T) {
	w := newWorld(t)
	big := random(1 << 20)
	type order struct {
		Body     string   `json:"body"`
		Bulk     []byte   `json:"bulk,omitempty"`
		Group    string   `json:"group,omitempty"`
		Previous []string `json:"previous,omitempty"`
		data     []byte
	}
	marshal := func(v any) string {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return string(text)
	}
	inline := about("a.bin", []byte("hello"))
	inline["content"] = []byte("hello")
	other := about("c.bin", []byte("hello")) // theirs loses a message that has the body of one before it
	other["content"] = []byte("hello")
	orders := []order{
		{Body: marshal(inline), data: []byte("hello"), Previous: []string{echostream.NewTrackingID(), echostream.NewTrackingID()}},
		{Body: marshal(about("b.bin", big)), Bulk: big, data: big}, // by POST
		{Body: marshal(other), data: []byte("hello"), Group: "another_group"},
	}
	sent := map[string]order{}
	for _, o := range orders {
		_, err := fmt.Fprintln(w.orders, marshal(o))
		require.NoError(t, err)
		sent[w.next().Sent] = o
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []echostream.ReceivedMessage
	reader := &echofile.Reader{}
	require.NoError(t, w.client.Receive(ctx, echostream.ReceiveOptions{}, func(ctx context.Context, m echostream.ReceivedMessage) error {
		file, err := reader.File(m)
		if !assert.NoError(t, err) {
			return err
		}
		content, err := file.Open(ctx)
		if !assert.NoError(t, err) {
			return err
		}
		defer content.Close()
		data, err := io.ReadAll(content)
		assert.NoError(t, err)
		assert.True(t, bytes.Equal(sent[m.TrackingID].data, data))
		if got = append(got, m); len(got) == len(orders) {
			cancel()
		}
		return err
	}))
	require.Len(t, got, len(orders))
	ours, theirs := w.audits("ours", len(orders)), w.audits("python", len(orders))
	for _, m := range got {
		o, ok := sent[m.TrackingID]
		assert.True(t, ok)
		delete(sent, m.TrackingID)
		assert.ElementsMatch(t, o.Previous, m.PrevTrackingIDs)
		assert.Equal(t, "python", m.Source)
		assert.Equal(t, cmp.Or(o.Group, "python"), m.Group)
		record := ours[m.TrackingID]
		assert.Equal(t, "python", record.SourceNode)
		assert.ElementsMatch(t, o.Previous, record.PrevTrackingIDs)
		assert.Equal(t, theirs[m.TrackingID].Attributes, record.Attributes, "what theirs says of it when it sends it")
	}
}
