package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// inEachLife runs a test with a node that runs on, one that is stopped and started and one that is killed and started, each time that the test
// calls again, which gives a new client. The client has 4 s for what it does after its 226.
func inEachLife(t *testing.T, test func(r *rig, c *ftpClient, again func(*ftpClient) *ftpClient)) {
	for name, start := range map[string]func(*rig) *rig{"runs on": nil, "stopped": (*rig).start, "killed": (*rig).startProcess} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := strings.Replace(testConfig(t, ""), `"settle": "10ms"`, `"settle": "4s"`, 1)
			r := newRig(t, echotest.Options{Targets: []string{"archive", "erp"}, Node: echotest.Node{Config: config}})
			login := func() *ftpClient {
				c := r.login()
				c.command(200, "TYPE I")
				return c
			}
			if start == nil {
				r.start()
				test(r, login(), func(c *ftpClient) *ftpClient { return c })
				return
			}
			start(r)
			test(r, login(), func(c *ftpClient) *ftpClient {
				if name == "stopped" {
					c.command(221, "QUIT") // or it is waited for
				}
				r.shutdown()
				start(r)
				return login()
			})
		})
	}
}

// all is what has arrived on both edges, as text makes it of a file and its content. Nothing more is under way then.
func (r *rig) all(n int, text func(f echotest.File, content string) string) []string {
	r.t.Helper()
	var both [][]string
	for _, edge := range []string{"archive", "erp"} {
		r.arrived(edge, n)
		require.Eventually(r.t, func() bool {
			left, err := filepath.Glob(filepath.Join(r.env["FTPNODE_DATA"], "outbox", "*.data"))
			return err == nil && len(left) == 0
		}, waitFor, tick, "%s", r.log)
		var texts []string
		for _, m := range r.cloud.Messages(edge) {
			var content bytes.Buffer
			f, err := r.cloud.Decode(r.t.Context(), m, &content)
			require.NoError(r.t, err)
			texts = append(texts, text(f, content.String()))
		}
		both = append(both, texts)
	}
	assert.Equal(r.t, both[0], both[1], "the edges got the same")
	return both[0]
}

// Each version that was acknowledged arrives, in the order of the replies that ended it, whether it was uploaded under the name or renamed to it.
func TestEveryVersionArrivesInOrder(t *testing.T) {
	t.Parallel()
	inEachLife(t, func(r *rig, c *ftpClient, again func(*ftpClient) *ftpClient) {
		const versions = 24
		var want []string
		for i := range versions {
			content := fmt.Sprintf("version %d", i)
			want = append(want, "plan.csv "+content)
			from := ""
			switch i % 4 {
			case 1:
				from = fmt.Sprintf("plan-%d.csv", i)
			case 3:
				from = "plan.tmp"
			}
			if from == "" {
				c.store("plan.csv", []byte(content))
			} else {
				c.store(from, []byte(content))
				c.command(350, "RNFR %s", from)
				c.command(250, "RNTO plan.csv")
			}
			if i == 6 || i == 13 || i == versions-1 { // right after an upload, and right after a rename of either kind
				c = again(c)
			}
		}
		assert.Equal(t, want, r.all(versions, func(f echotest.File, content string) string { return f.Name + " " + content }))
	})
}

// The order is that of the 226, whatever times are set, and in whatever order.
func TestTimesDoNotChangeTheOrder(t *testing.T) {
	t.Parallel()
	inEachLife(t, func(r *rig, c *ftpClient, again func(*ftpClient) *ftpClient) {
		const files = 6
		modified := func(i int) time.Time { return time.Date(2020, 1, 1, 0, files-i, 0, 0, time.UTC) } // the first one is the newest
		var want []string
		for i := range files {
			c.store(fmt.Sprintf("%d.csv", i), []byte("x"))
			want = append(want, fmt.Sprintf("%d.csv %s", i, modified(i).Format(time.RFC3339)))
		}
		for i := range files {
			i = files - 1 - i
			c.command(213, "MFMT %s %d.csv", mdtm(modified(i)), i)
		}
		again(c)
		assert.Equal(t, want, r.all(files, func(f echotest.File, _ string) string {
			at, err := time.Parse(time.RFC3339, f.ModificationDateTime)
			require.NoError(t, err)
			return f.Name + " " + at.Format(time.RFC3339)
		}))
	})
}

// A folder with a temporary name is finished when it is renamed: its files come after what was finished before that, in their own order.
func TestFolderIsRenamedFromATemporaryName(t *testing.T) {
	t.Parallel()
	inEachLife(t, func(r *rig, c *ftpClient, again func(*ftpClient) *ftpClient) {
		for _, temporary := range []string{"batch.tmp", ".batch"} {
			c.command(257, "MKD %s", temporary)
			c.store(temporary+"/2.csv", []byte("2"))
			c.store(temporary+"/1.csv", []byte("1"))
		}
		c.store("before.csv", []byte("b"))
		c = again(c)
		c.command(350, "RNFR .batch")
		c.command(250, "RNTO first")
		c.command(350, "RNFR batch.tmp")
		c.command(250, "RNTO second")
		c = again(c)
		c.store("after.csv", []byte("a"))
		got := r.all(6, func(f echotest.File, _ string) string { return f.Name })
		assert.Equal(t, []string{"before.csv", "first/2.csv", "first/1.csv", "second/2.csv", "second/1.csv", "after.csv"}, got)
	})
}
