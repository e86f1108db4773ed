package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/internal/program"
	"github.com/ftpnode/ftpnode/internal/race"
)

// TestMain lets the test program be the cloud, as the command is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == cloudArgument {
		if err := serveCloud(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	dir, err := os.MkdirTemp("", "bench-test-")
	if err != nil {
		panic(err)
	}
	node = sync.OnceValues(func() (string, error) { return race.Build(dir, "github.com/ftpnode/ftpnode/cmd/ftpnode") })
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// node builds ftpnode, once for all tests.
var node func() (string, error)

// TestQuick is the whole command with our node alone: the peers come from registries, and are .ci/run's.
func TestQuick(t *testing.T) {
	binary, err := node()
	require.NoError(t, err)
	race.QuickExit(t)
	docs := t.TempDir()
	page := filepath.Join(docs, "performance.md")
	require.NoError(t, os.WriteFile(page, []byte("before\n"+beginMark+"old\n"+endMark+"behind\n"), 0o600))
	var out, progress bytes.Buffer
	err = run(t.Context(), []string{
		"-quick", "-node", binary, "-files", "10", "-limit", "20s", "-samples", "2", "-large", "300000", "-bulk", "2000000", "-waiting", "150", "-watch", "1s",
		"-without", "vsftpd,pure-ftpd,python", "-dir", t.TempDir(), "-docs", docs,
		"-rows", "small-8,send,large,bulk,idle,growth-size,growth-edges", // the others wait more than they do
	}, &out, &progress)
	require.NoError(t, err, "%s", &progress)
	tables := out.String()
	for _, what := range []string{
		"… against the bare loop with 8 workers", "… over TLS, against plain", "2 MB through bulk", "… bytes read for each",
		"idle, memory", "idle, wake-ups",
	} {
		_, line, found := strings.Cut(tables, "| "+what)
		line, _, _ = strings.Cut(line, "\n")
		require.True(t, found, what)
		require.NotContains(t, line, "not measured", what)
		require.Regexp(t, `\| (yes|no) \|$`, line)
	}
	require.Contains(t, tables, "| a large file over 1 connection, upload only | ftpnode TLS | throughput ")
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, "before\n"+beginMark+"\n"+tables+"\n"+endMark+"behind\n", string(text))
	picture, err := os.ReadFile(filepath.Join(docs, "growth.svg"))
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(string(picture), "peak memory of the node"))
	requireXML(t, picture)
}

func requireXML(t *testing.T, text []byte) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
	}
}

func TestOptions(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"row":     {[]string{"-rows", "small-1,smal-8"}, `-rows has "smal-8"`},
		"peer":    {[]string{"-without", "proftpd"}, `-without has "proftpd"`},
		"runs":    {[]string{"-runs", "0"}, "-runs is 0, expected at least 1"},
		"waiting": {[]string{"-waiting", "10,x"}, `-waiting has "x"`},
		"more":    {[]string{"small-1"}, `"small-1" is no option`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseOptions(c.args, io.Discard)
			require.ErrorIs(t, err, program.ErrUsage)
			require.ErrorContains(t, err, c.want)
		})
	}
	o, err := parseOptions([]string{"-quick", "-runs", "3"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 3, o.runs, "what is said goes before what -quick reduces")
	require.Equal(t, 200, o.files)
	require.Equal(t, []int{1000}, o.waiting)
}

func TestRowNames(t *testing.T) {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	require.Equal(t, rowNames(), names)
}

// TestVerify: a file that is lost, cut, or there twice fails a measurement.
func TestVerify(t *testing.T) {
	o := cloudOptions{Targets: []string{"a", "b"}}
	message := func(name string, bytes []byte) string {
		text, err := json.Marshal(map[string]any{
			"name": name, "contentLength": len(bytes), "contentType": "text/plain", "modificationDateTime": "2026-11-07T16:05:09.000Z",
			"content": base64.StdEncoding.EncodeToString(bytes),
		})
		require.NoError(t, err)
		return string(text)
	}
	whole := func(name string) []byte { return content(name, 100)() }
	for name, c := range map[string]struct {
		toB  func(put func(name string, bytes []byte))
		want string
	}{
		"all there": {func(put func(string, []byte)) { put("1.dat", whole("1.dat")); put("2.dat", whole("2.dat")) }, ""},
		"lost":      {func(put func(string, []byte)) { put("1.dat", whole("1.dat")) }, "1 files, 2.dat for one, did not arrive at b"},
		"cut":       {func(put func(string, []byte)) { put("1.dat", whole("1.dat")); put("2.dat", whole("2.dat")[:99]) }, "2.dat arrived at b with other bytes"},
		"another's": {func(put func(string, []byte)) { put("1.dat", whole("2.dat")); put("2.dat", whole("2.dat")) }, "1.dat arrived at b with other bytes"},
		"twice": {func(put func(string, []byte)) {
			put("1.dat", whole("1.dat"))
			put("1.dat", whole("1.dat"))
			put("2.dat", whole("2.dat"))
		}, "1.dat arrived at b a second time"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := echotest.NewCloud(echotest.Options{Targets: o.Targets})
			defer cloud.Close()
			for _, name := range []string{"1.dat", "2.dat"} {
				cloud.Put("ftp-node", "a", message(name, whole(name)), "")
			}
			c.toB(func(name string, bytes []byte) { cloud.Put("ftp-node", "b", message(name, bytes), "") })
			a := answerTo(cloud, o, question{Verify: []string{"1.dat", "2.dat"}, Size: 100})
			if c.want == "" {
				require.Empty(t, a.Problem)
			} else {
				require.Contains(t, a.Problem, c.want)
			}
		})
	}
	cloud := echotest.NewCloud(echotest.Options{Targets: o.Targets})
	defer cloud.Close()
	require.Contains(t, answerTo(cloud, o, question{Wait: 1, Seconds: 0.01}).Problem, "0 of 1 messages")
}

func TestMedianAndTargets(t *testing.T) {
	r := newResults()
	for _, v := range []float64{900, 100, 300} {
		r.add("row", ours, rate, v)
	}
	for _, v := range []float64{100, 200} {
		r.add("row", vsftpd, rate, v)
	}
	r.add("row", ours, p50, 0.004)
	for _, c := range []struct {
		target target
		want   string
	}{
		{target{"a", key{"row", ours, rate}, key{"row", vsftpd, rate}, true, 2}, "| a | 300 files/s | 150 files/s (vsftpd) | 2.00 | ≥ 2.00 | yes |\n"},
		{target{"b", key{"row", ours, rate}, key{"row", vsftpd, rate}, false, 1.9}, "| b | 300 files/s | 150 files/s (vsftpd) | 2.00 | ≤ 1.90 | no |\n"},
		{target{"c", key{"row", ours, p50}, key{}, false, 0.005}, "| c | 4 ms |  |  | ≤ 5 ms | yes |\n"},
		{target{"d", key{"row", ours, rate}, key{"row", pure, rate}, true, 1}, "| d | 300 files/s | not measured |  | ≥ 1.00 |  |\n"},
		{target{"e", key{"row", ours, p99}, key{}, false, 1}, "| e | not measured |  |  | ≤ 1 s |  |\n"},
	} {
		require.Equal(t, c.want, c.target.line(r))
	}
}

// TestTree: the CPU of a server is that of its children, too, also of those that have ended.
func TestTree(t *testing.T) {
	spin := `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done`
	cmd := exec.Command("/bin/sh", "-c", "sh -c '"+spin+"'; sh -c '"+spin+"; echo done; read end'")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s := &server{name: "sh", cmd: cmd}
	line := make([]byte, 5)
	_, err = io.ReadFull(out, line)
	require.NoError(t, err)
	tree, err := s.tree()
	require.NoError(t, err)
	require.Len(t, tree, 2)
	used, err := s.cpu()
	require.NoError(t, err)
	now, peak, err := s.memory()
	require.NoError(t, err)
	require.Positive(t, now)
	require.GreaterOrEqual(t, peak, now)
	in.Close()
	_ = cmd.Wait()
	// Both children did the same; what the kernel says of all, once they have ended, is no less.
	all := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	require.Greater(t, used, all/2)
	require.LessOrEqual(t, used, all+4*tick)
	_, err = s.cpu()
	require.ErrorContains(t, err, "sh has no process any more")
}

func TestAxis(t *testing.T) {
	a := newAxis(10, 200, []float64{0.002, 0.05, 1})
	require.Equal(t, []float64{0.001, 0.01, 0.1, 1}, roundAll(a.ticks()))
	require.InDelta(t, 0, a.at(0.001), 1e-9)
	require.InDelta(t, 200, a.at(1), 1e-9)
	require.InDelta(t, 200.0/3, a.at(0.01), 1e-9)
	flat := newAxis(2, 100, []float64{4, 4})
	require.InDelta(t, 0, flat.at(4), 1e-9, "one power alone has room above it")
}

func roundAll(values []float64) (rounded []float64) {
	for _, v := range values {
		var r float64
		_, _ = fmt.Sscan(fmt.Sprintf("%.9g", v), &r)
		rounded = append(rounded, r)
	}
	return rounded
}

// TestStopsWhenAsked: nothing is left running.
func TestStopsWhenAsked(t *testing.T) {
	binary, err := node()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var progress bytes.Buffer
	done := make(chan error, 1)
	dir := t.TempDir()
	go func() {
		done <- run(ctx, []string{"-node", binary, "-rows", "idle", "-watch", "10m", "-without", "vsftpd,pure-ftpd,python", "-dir", dir}, io.Discard, &progress)
	}()
	log := filepath.Join(dir, "servers.log")
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(log)
		return bytes.Contains(text, []byte("FTP is served"))
	}, 2*time.Minute, 10*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Contains(t, string(text), "ftpnode has stopped")
	left, err := filepath.Glob(filepath.Join(dir, "run-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestClientTellsRefusals: what a server says no to is an error with its words.
func TestClientTellsRefusals(t *testing.T) {
	control, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer control.Close()
	data, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer data.Close()
	go func() {
		conn, err := control.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		lines := bufio.NewScanner(conn)
		_, _ = io.WriteString(conn, "220-two\r\n220 lines\r\n")
		for lines.Scan() {
			verb, _, _ := strings.Cut(lines.Text(), " ")
			answer := map[string]string{"USER": "331 who", "PASS": "230 in", "TYPE": "200 ok", "STOR": "452 full",
				"EPSV": fmt.Sprintf("229 (|||%d|)", data.Addr().(*net.TCPAddr).Port)}[verb]
			if answer == "" {
				return
			}
			_, _ = io.WriteString(conn, answer+"\r\n")
		}
	}()
	c, err := dial(t.Context(), &server{name: "scripted", address: control.Addr().String(), user: "u", password: "p"})
	require.NoError(t, err)
	defer c.close()
	require.ErrorContains(t, c.store("a.dat", content("a.dat", 10)), `STOR a.dat: expected 150, got "452 full"`)
}
