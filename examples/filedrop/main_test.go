package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node/nodetest"
)

func TestMain(m *testing.M) { nodetest.Main(m, main) }

// bridge keeps both of two files with one name, so that a message that is written twice is seen.
func bridge() nodetest.Bridge {
	return nodetest.Bridge{Data: "FILEDROP_DATA", Config: `{"existing": "keepBoth"}`, Received: stored}
}

// stored reads the folder.
func stored(dir string) (items []nodetest.Item, err error) {
	top := filepath.Join(dir, folder)
	err = filepath.WalkDir(top, func(name string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) && name == top { // it has received nothing yet
			return nil
		}
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), partial) {
			return err
		}
		content, err := os.ReadFile(name)
		relative, _ := filepath.Rel(top, name)
		items = append(items, nodetest.Item{Name: filepath.ToSlash(relative), Content: content})
		return err
	})
	return items, err
}

func TestNode(t *testing.T) {
	t.Parallel()
	nodetest.Suite(t, func(*testing.T) nodetest.Bridge { return bridge() })
}

func TestSafeName(t *testing.T) {
	for name, want := range map[string]string{
		"orders/2026/4711.csv":            "orders/2026/4711.csv",
		"Größe 検査.txt":                    "Größe 検査.txt",
		"../../etc/passwd":                "__/__/etc/passwd",
		"/etc/passwd":                     "etc/passwd",
		"a//b/./c":                        "a/b/_/c",
		".hidden":                         "_hidden",
		`C:\windows\win.ini`:              "C__windows_win.ini",
		"what? \"x\" <1>|*.txt":           "what_ _x_ _1___.txt",
		"a\x00b\x1b[31m\r\n.txt":          "a_b_[31m__.txt",
		"dot at the end.":                 "dot at the end_",
		"blank ":                          "blank_",
		"":                                "_",
		"///":                             "_",
		partial + "1":                     "_filedrop-1",
		"not \xff UTF-8":                  "not _ UTF-8",
		strings.Repeat("a/", 100):         strings.Repeat("a/", 19) + "a",
		strings.Repeat("é", 200):          strings.Repeat("é", 75) + "-" + sum(strings.Repeat("é", 200)),
		strings.Repeat("x", 300) + ".tar": strings.Repeat("x", 150) + "-" + sum(strings.Repeat("x", 300)+".tar") + ".tar",
	} {
		got := safeName(name)
		assert.Equal(t, want, got, "%q", name)
		assert.True(t, fs.ValidPath(got), "%q", got)
		assert.Equal(t, got, safeName(got), "a safe name stays as it is")
	}
}

func sum(s string) string {
	b := sha256.Sum256([]byte(s))
	return hex.EncodeToString(b[:8])
}

func FuzzSafeName(f *testing.F) {
	f.Add("../a\\b")
	f.Add("\u202e.. /.")
	f.Fuzz(func(t *testing.T, name string) {
		got := safeName(name)
		require.True(t, fs.ValidPath(got) && got != ".", "%q", got)
		for part := range strings.SplitSeq(got, "/") {
			require.LessOrEqual(t, len(part), 255)
			require.False(t, strings.HasPrefix(part, "."), "%q", got)
		}
	})
}

// put puts a file into the node's queue.
func put(r *nodetest.Rig, source, name, content string) {
	body, err := json.Marshal(map[string]any{
		"name": name, "contentLength": len(content), "contentType": "text/plain", "modificationDateTime": "2026-11-07T16:05:09.123Z", "content": []byte(content),
	})
	if err != nil {
		panic(err)
	}
	r.Cloud.Put(source, "node-under-test", string(body), "")
}

func TestExisting(t *testing.T) {
	for config, want := range map[string]map[string]string{
		`{"existing": "replace"}`:  {"a/report.txt": "third", "b.txt": "other"},
		`{"existing": "keepBoth"}`: {"a/report.txt": "first", "a/report (2).txt": "second", "a/report (3).txt": "third", "b.txt": "other"},
	} {
		t.Run(config, func(t *testing.T) {
			b := bridge()
			b.Config = config
			r := nodetest.New(t, b)
			r.Start()
			for _, content := range []string{"first", "second", "third"} {
				put(r, "scanner", "a/report.txt", content)
			}
			put(r, "scanner", "b.txt", "other")
			r.WaitLog("File received", "name=b.txt")
			items, err := stored(r.Dir)
			require.NoError(t, err)
			got := map[string]string{}
			for _, item := range items {
				got[item.Name] = string(item.Content)
			}
			assert.Equal(t, want, got)
			info, err := os.Stat(filepath.Join(r.Dir, folder, "b.txt"))
			require.NoError(t, err)
			assert.True(t, info.ModTime().Equal(time.Date(2026, 11, 7, 16, 5, 9, 123e6, time.UTC)), info.ModTime())
		})
	}
}

// A message that was stored, and comes again since nobody could say so, is stored once.
func TestTwiceIsWrittenOnce(t *testing.T) {
	r := nodetest.New(t, bridge())
	r.Cloud.Fault(echotest.Fault{Service: echotest.SQS, Operation: "DeleteMessageBatch", Kind: echotest.Down})
	r.Start()
	r.Feed(1)
	r.WaitLog("File received")
	r.Kill()
	r.Cloud.ClearFaults()
	r.Cloud.Clock().Advance(31 * time.Second) // SQS shows it again
	r.Start()
	r.Feed(1)
	r.Delivered()
}

func TestStatus(t *testing.T) {
	r := nodetest.New(t, bridge())
	r.Start()
	r.Feed(4)
	r.Delivered()
	text, err := r.Command("status")
	require.NoError(t, err)
	assert.Regexp(t, `^Receiving\n`, text)
	assert.Regexp(t, `Source +press: 2 messages since the start`, text)
	assert.Regexp(t, `Source +scanner: 2 messages since the start`, text)
}

// A file cannot have the name of a folder, nor the other way round: these messages are at fault, and the others go on.
func TestNamesThatCannotBe(t *testing.T) {
	r := nodetest.New(t, bridge())
	r.Cloud.SetMaxReceiveCount("scanner>node-under-test", 1)
	r.Start()
	put(r, "press", "a", "a file")
	r.WaitLog("File received", "name=a")
	put(r, "scanner", "a/b.txt", "below a file")
	r.WaitLog("[ERROR]", "a file has the name of the folder")
	put(r, "press", "c", "still works")
	r.WaitLog("File received", "name=c")
}
