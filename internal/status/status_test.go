package status_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/status"
	"github.com/ftpnode/ftpnode/internal/status/statustest"
)

var morning = statustest.Morning

func ago(d time.Duration) time.Time { return morning.Add(-d) }

func TestTheFirstLineSaysItAll(t *testing.T) {
	down := status.Trouble{Text: "dial tcp: lookup api.example.com: no such host", Since: ago(13 * time.Minute)}
	denied := status.Trouble{Text: "AccessDenied", Person: true, Advice: "the node's rights in EchoStream"}
	set := func(change func(r *status.Report)) func(*statustest.Node) {
		return func(n *statustest.Node) { n.Set(change) }
	}
	receives := func(sources ...status.Incoming) func(*statustest.Node) {
		return set(func(r *status.Report) {
			r.Sends, r.Receives, r.Targets, r.Recent, r.Sources = false, true, nil, nil, sources
		})
	}
	for name, c := range map[string]struct {
		node  func(*statustest.Node)
		line  string
		state status.State
		sick  string // why it is unhealthy
	}{
		"delivered":    {nil, "All delivered. Last file 09:26:16, delivery-note-20391.pdf", status.OK, ""},
		"never a file": {set(func(r *status.Report) { r.Recent = nil }), "All delivered", status.OK, ""},
		"delivered yesterday": {set(func(r *status.Report) { r.Recent[0].Delivered = ago(24 * time.Hour) }),
			"All delivered. Last file 2026-03-08 09:26:30, delivery-note-20391.pdf", status.OK, ""},
		"cloud down": {func(n *statustest.Node) { n.Wait(12, "x").Set(func(r *status.Report) { r.Cloud.Error = down }) },
			"12 files wait since 09:14:02: EchoStream cannot be reached: dial tcp: lookup api.example.com: no such host", status.Waits, ""},
		"cloud down, nothing waits": {set(func(r *status.Report) { r.Cloud.Error = down }),
			"Nothing waits: EchoStream cannot be reached: dial tcp: lookup api.example.com: no such host", status.Waits, ""},
		"log-in refused": {func(n *statustest.Node) {
			n.Wait(1, "").Set(func(r *status.Report) {
				r.Cloud = status.Cloud{Kept: true, Error: status.Trouble{Text: "NotAuthorizedException", Person: true, Advice: "PASSWORD"}}
			})
		}, "The node needs help, and 1 file waits since 09:14:02: EchoStream cannot be used: PASSWORD (NotAuthorizedException)", status.Help, "EchoStream cannot be used"},
		"stopped": {func(n *statustest.Node) { n.Wait(2, "").Set(func(r *status.Report) { r.Cloud.Stopped = true }) },
			"2 files wait since 09:14:02: the node is stopped in EchoStream; start it there", status.Waits, ""},
		"no edge": {func(n *statustest.Node) { n.Set(func(r *status.Report) { r.Targets = nil }).Wait(2, "") },
			"2 files wait since 09:14:02: the node has no edge in EchoStream to send to; draw one there", status.Waits, ""},
		"SQS denied": {func(n *statustest.Node) { n.Wait(3, "").Set(func(r *status.Report) { r.Targets[1].Error = denied }) },
			`The node needs help, and 3 files wait since 09:14:02: target "erp" refuses files: the node's rights in EchoStream (AccessDenied)`, status.Help, `target "erp" refuses files`},
		"SQS down": {func(n *statustest.Node) {
			n.Wait(3, "").Set(func(r *status.Report) { r.Targets[1].Error = status.Trouble{Text: "503"} })
		}, `3 files wait since 09:14:02: target "erp" cannot be reached: 503`, status.Waits, ""},
		"just accepted": {func(n *statustest.Node) {
			n.Wait(2, "").Set(func(r *status.Report) { r.Waiting.Oldest = &status.File{Accepted: ago(2 * time.Second)} })
		}, "2 files are on the way. Last file 09:26:16, delivery-note-20391.pdf", status.OK, ""},
		"slow": {func(n *statustest.Node) { n.Wait(2, "") }, "2 files wait since 09:14:02: the node does not know why", status.Waits, ""},
		"stuck": {func(n *statustest.Node) {
			n.Wait(2, "").Set(func(r *status.Report) { r.Waiting.Oldest = &status.File{Accepted: ago(time.Hour)} })
		}, "The node needs help, and 2 files wait since 08:26:30: a file waits since 08:26:30, and the node does not know why", status.Help, "does not know why"},
		"held": {func(n *statustest.Node) {
			n.Wait(2, "").Set(func(r *status.Report) { r.Waiting.Held, r.Waiting.Oldest = 2, nil })
		}, "All delivered. Last file 09:26:16, delivery-note-20391.pdf", status.OK, ""},
		"failed": {func(n *statustest.Node) { n.Fail("a.pdf", "too large for a message") },
			"1 file needs help: a.pdf: too large for a message", status.Help, ""},
		"failed, and others wait": {func(n *statustest.Node) {
			n.Fail("a.pdf", "too large").Fail("b.pdf", "x").Wait(12, "").Set(func(r *status.Report) { r.Cloud.Error = down })
		}, "2 files need help, and 12 files wait since 09:14:02: a.pdf: too large; the others: EchoStream cannot be reached: dial tcp: lookup api.example.com: no such host", status.Help, ""},
		"receives": {receives(status.Incoming{Name: "erp", Messages: 3, Last: ago(time.Minute)}), "Receiving", status.OK, ""},
		"a message cannot be handled": {receives(status.Incoming{Name: "erp", Error: status.Trouble{Text: "no space left on device", Since: ago(time.Minute)}}),
			`A message waits since 09:25:30: from "erp": no space left on device`, status.Waits, ""},
		"nothing to receive from": {receives(), "Nothing is received: the node has no edge in EchoStream to receive from; draw one there", status.Waits, ""},
		"starting": {set(func(r *status.Report) { r.Cloud = status.Cloud{}; r.Recent = nil }),
			"The node starts: EchoStream has not answered yet", status.Starting, ""},
		"read-only volume": {set(func(r *status.Report) {
			r.Disk.Error = status.Trouble{Text: "read-only file system", Since: ago(time.Minute)}
		}),
			"The node needs help: the volume /data cannot be written: read-only file system", status.Help, "cannot be written"},
		"nobody may log in": {set(func(r *status.Report) { r.Bridge.Refuses = "the config has no valid user" }),
			"The node needs help: every log-in is refused: the config has no valid user", status.Help, "every log-in is refused"},
		"a name from the devil": {func(n *statustest.Node) { n.Fail("\x1b[2J\u202efdp.exe\n", "x") },
			`1 file needs help: \x1b[2J\u202efdp.exe\n: x`, status.Help, ""},
	} {
		t.Run(name, func(t *testing.T) {
			node := statustest.New()
			if c.node != nil {
				c.node(node)
			}
			r := status.ReportOf(node)
			assert.Equal(t, c.line, r.Line())
			assert.Equal(t, c.state, r.Summary.State)
			if c.sick == "" {
				assert.True(t, r.Health.OK, "%v", r.Health.Problems)
			} else {
				assert.False(t, r.Health.OK)
				assert.Contains(t, strings.Join(r.Health.Problems, "\n"), c.sick)
			}
			var text strings.Builder
			require.NoError(t, r.Text(&text))
			assert.True(t, strings.HasPrefix(text.String(), c.line+"\n"))
			assert.NotContains(t, text.String(), "\x1b")
		})
	}
}

func TestText(t *testing.T) {
	node := statustest.New().Wait(12, "SQS: dial tcp 192.0.2.1:443: i/o timeout").Fail("Lieferschein Größe.pdf", "the message is 262,201 bytes, at most 262,144 are taken")
	node.Set(func(r *status.Report) {
		r.Cloud.Error = status.Trouble{Text: "dial tcp: lookup api.example.com: no such host", Since: ago(13 * time.Minute)}
		r.Targets[0].Error = status.Trouble{Text: "SQS: dial tcp 192.0.2.1:443: i/o timeout"}
		r.Waiting.Held = 1
		r.Bridge.Uploads = []status.Upload{{User: "scanner", Name: "big.tif", Bytes: 81_000_000, Since: ago(9 * time.Second)}}
		r.Bridge.Interrupted = []status.Interrupted{{ID: "press-2/shift.csv", User: "press-2", Name: "shift.csv", Bytes: 812, Since: ago(3 * time.Hour)}}
		r.Bridge.Attempts = []status.Attempt{{At: ago(4 * time.Minute), From: "192.0.2.44", User: "press-2", Count: 7,
			Tried: "EPSV, and no data connection came", Advice: "let the ports 30000-30009 through to the node"}}
	})
	r := status.ReportOf(node)
	var text strings.Builder
	require.NoError(t, r.Text(&text))
	golden := filepath.Join("testdata", "status.txt")
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(text.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), text.String())
}

func TestTextOfANodeThatHasJustStarted(t *testing.T) {
	node := statustest.New().Set(func(r *status.Report) {
		r.Targets = []status.Target{{Name: "erp"}}
		r.Bridge.Senders = []status.Sender{{Name: "a", LastLogin: ago(time.Minute), From: "192.0.2.31"}, {Name: "b"}}
	})
	var text strings.Builder
	r := status.ReportOf(node)
	require.NoError(t, r.Text(&text))
	assert.Contains(t, text.String(), `
Target       erp: nothing waits; no acknowledgement since the start
User         a: last log-in 09:25:30 (1m ago) from 192.0.2.31, no upload since the start
User         b: not seen since the start
`)
}

// running is a node whose channel is in dir.
func running(t *testing.T, dir string, node status.Source) {
	t.Helper()
	l, err := status.Listen(dir)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- status.Serve(ctx, l, node) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-ended) })
}

func command(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := status.Command(t.Context(), dir, args, &out)
	return out.String(), err
}

func TestTextOfSources(t *testing.T) {
	node := statustest.New().Set(func(r *status.Report) {
		r.Sends, r.Receives, r.Targets = false, true, nil
		r.Sources = []status.Incoming{
			{Name: "erp", Messages: 1, Last: ago(time.Minute)},
			{Name: "mes", Error: status.Trouble{Text: "not now", Since: ago(time.Hour)}},
		}
	})
	var text strings.Builder
	r := status.ReportOf(node)
	require.NoError(t, r.Text(&text))
	assert.Contains(t, text.String(), `
Source       erp: 1 message since the start; the last 09:25:30 (1m ago)
Source       mes: no message since the start
             one cannot be handled since 08:26:30 (1h00m ago): not now
`)
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	node := statustest.New().Fail("a.pdf", "too large").Fail("b.pdf", "x").Fail("c.pdf", "x")
	node.Set(func(r *status.Report) {
		r.Bridge.Interrupted = []status.Interrupted{{ID: "scanner/half & whole.csv", User: "scanner", Name: "half & whole.csv", Bytes: 5}}
	})
	running(t, dir, node)
	failed := node.Report().Failed

	text, err := command(t, dir, "status")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(text, "3 files need help: a.pdf: too large\n"), text)
	text, err = command(t, dir, "status", "--json")
	require.NoError(t, err)
	var r status.Report
	require.NoError(t, json.Unmarshal([]byte(text), &r))
	assert.Equal(t, status.Help, r.Summary.State)
	assert.Equal(t, failed, r.Failed)

	text, err = command(t, dir, "retry", failed[0].ID)
	require.NoError(t, err)
	assert.Equal(t, "Sent again: "+failed[0].ID+" a.pdf\n", text)
	text, err = command(t, dir, "retry", "nonsense", failed[1].ID)
	assert.ErrorContains(t, err, `no failed file has the id "nonsense"`)
	assert.Equal(t, "Sent again: "+failed[1].ID+" b.pdf\n", text, "the others are")
	text, err = command(t, dir, "discard", failed[2].ID)
	require.NoError(t, err)
	assert.Equal(t, "Discarded: "+failed[2].ID+" c.pdf\n", text)
	text, err = command(t, dir, "accept", "scanner/half & whole.csv")
	require.NoError(t, err)
	assert.Equal(t, "Accepted: scanner/half & whole.csv half & whole.csv\n", text)
	assert.Len(t, node.Find("", 10), 3)

	node.Fail("d.pdf", "x").Fail("e.pdf", "x")
	text, err = command(t, dir, "retry", "--all")
	require.NoError(t, err)
	assert.Equal(t, 2, strings.Count(text, "Sent again: "), text)
	text, err = command(t, dir, "retry", "--all")
	require.NoError(t, err)
	assert.Equal(t, "No file failed: there is nothing to send again\n", text)
}

func TestWrongArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"stats"}, {"status", "x"}, {"status", "--all"}, {"retry"}, {"retry", "--all", "x"}, {"discard"}, {"accept"}, {"discard", "--all"}} {
		_, err := command(t, t.TempDir(), args...)
		assert.ErrorIs(t, err, status.ErrUsage, "%q", args)
	}
}

func TestNoNode(t *testing.T) {
	dir := t.TempDir()
	_, err := command(t, dir, "status")
	require.ErrorIs(t, err, status.ErrNoNode)
	assert.ErrorIs(t, err, fs.ErrNotExist)

	// A node that was killed leaves its socket.
	l, err := net.Listen("unix", filepath.Join(dir, "status.socket"))
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	_, err = command(t, dir, "status")
	require.ErrorIs(t, err, status.ErrNoNode)
	running(t, dir, statustest.New())
	_, err = command(t, dir, "status")
	require.NoError(t, err)
}

func TestOnlyTheNodesUserMayAsk(t *testing.T) {
	dir := t.TempDir()
	running(t, dir, statustest.New())
	fi, err := os.Stat(filepath.Join(dir, "status.socket"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), fi.Mode().Perm())
}

// A Unix socket's address has room for about 100 bytes.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	require.NoError(t, os.MkdirAll(dir, 0o750))
	running(t, dir, statustest.New())
	_, err := command(t, dir, "status")
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(dir, "status.socket"))
}

// Some volumes take no sockets.
func TestVolumeWithoutSockets(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "status.socket", "in the way"), 0o750)) // which no Remove takes away
	running(t, dir, statustest.New())
	text, err := command(t, dir, "status")
	require.NoError(t, err)
	assert.Contains(t, text, "All delivered")
	other := fmt.Sprintf("/dev/shm/echostream-node-%x", sha256.Sum256([]byte(dir)))
	t.Cleanup(func() { os.RemoveAll(other) })
	fi, err := os.Stat(other)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), fi.Mode().Perm())

	// One that somebody else could enter is not used.
	require.NoError(t, os.Chmod(other, 0o777))
	_, err = command(t, dir, "status")
	assert.ErrorIs(t, err, status.ErrNoNode)
	_, err = status.Listen(dir)
	assert.Error(t, err)
}

func TestRecent(t *testing.T) {
	var r status.Recent
	assert.Empty(t, r.List())
	for i := range status.Recents + 7 {
		r.Add(status.File{Name: fmt.Sprint(i), Bytes: 2})
		assert.Equal(t, fmt.Sprint(i), r.List()[0].Name)
	}
	list := r.List()
	require.Len(t, list, status.Recents)
	assert.Equal(t, "7", list[len(list)-1].Name)
	assert.Equal(t, status.Sent{Files: status.Recents + 7, Bytes: 2 * (status.Recents + 7)}, r.Sent())
}

func TestQuantities(t *testing.T) {
	for want, got := range map[string]string{
		"812 B": status.Size(812), "1.0 kB": status.Size(1000), "3.4 MB": status.Size(3_400_000), "1.0 MB": status.Size(999_990), "2.0 PB": status.Size(2e15),
		"0s": status.Age(-time.Second), "59s": status.Age(59 * time.Second), "5m": status.Age(5*time.Minute + 59*time.Second),
		"3h05m": status.Age(3*time.Hour + 5*time.Minute), "4d": status.Age(100 * time.Hour),
	} {
		assert.Equal(t, want, got)
	}
}
