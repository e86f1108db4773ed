package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
)

// drops are the files that sites send: those of testdata, some with names that no Go module may hold, and a large one.
type dropped struct {
	name, sha256, contentType string
	size                      int64
	open                      func() io.Reader
	bulk                      bool
}

func drops(t *testing.T) []dropped {
	types := map[string]string{
		".txt": "text/plain", ".zip": "application/zip", ".jpg": "image/jpeg", ".pdf": "application/pdf", ".dat": "application/octet-stream",
		".bin": "application/octet-stream", ".dcm": "application/dicom", ".csv": "text/csv", ".xml": "application/xml", ".log": "text/plain",
		".hl7": "application/hl7-v2",
	}
	var all []dropped
	add := func(name string, content []byte) {
		all = append(all, dropped{name: name, sha256: hexSum(content), contentType: types[filepath.Ext(name)], size: int64(len(content)),
			open: func() io.Reader { return bytes.NewReader(content) }, bulk: len(content) > 196_000})
	}
	dir := filepath.Join("..", "..", "testdata", "files")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(entries), 10)
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		add(e.Name(), content)
	}
	add(`say "hi" & 'bye' <1>;$(x) %41.txt`, []byte("a\r\nb\nc\r"))
	add("Gr\xf6\xdfe.txt", []byte("latin-1 in the name"))
	size := largeSize(t)
	hash := sha256.New()
	_, err = io.Copy(hash, pattern(size))
	require.NoError(t, err)
	return append(all, dropped{name: "large.bin", sha256: hex.EncodeToString(hash.Sum(nil)), contentType: "application/octet-stream", size: size,
		open: func() io.Reader { return pattern(size) }, bulk: true})
}

// largeSize is 16 MiB, or what FTPNODE_TEST_LARGE says: "1GiB".
func largeSize(t *testing.T) int64 {
	text := os.Getenv("FTPNODE_TEST_LARGE")
	if text == "" {
		return 16 << 20
	}
	size, err := nodeconfig.ParseSize(text)
	require.NoError(t, err, "FTPNODE_TEST_LARGE")
	return size
}

// The main job: every file arrives on every edge as it was sent, whatever the client says its type is.
func TestEveryFileArrives(t *testing.T) {
	t.Parallel()
	// A client's MFMT comes within the settle time, also on a machine that is busy.
	config := strings.Replace(testConfig(t, ""), `"settle": "10ms"`, `"settle": "5s"`, 1)
	r := newRig(t, echotest.Options{Targets: []string{"archive", "erp"}, Tenant: echotest.Tenant{Audit: true},
		Node: echotest.Node{Config: config}}).start()
	files := drops(t)
	modified := time.Date(2019, 2, 3, 4, 5, 6, 0, time.UTC)
	began := time.Now().Add(-time.Second)
	var want []dropped
	for _, mode := range []string{"A", "I"} {
		c := r.login()
		c.command(200, "TYPE %s", mode)
		c.command(257, "MKD dir-%s", mode)
		for _, f := range files {
			f.name = "dir-" + mode + "/" + f.name
			c.upload(f.name, f.open())
			c.expect(226)
			c.command(213, "MFMT %s %s", mdtm(modified), f.name)
			want = append(want, f)
		}
		c.command(221, "QUIT")
	}

	for _, edge := range []string{"archive", "erp"} {
		messages := r.arrived(edge, len(want))
		require.Len(t, messages, len(want))
		for i, f := range want {
			m := messages[i]
			got, err := r.cloud.Decode(t.Context(), m, io.Discard)
			require.NoError(t, err, f.name)
			assert.Equal(t, f.sha256, got.SHA256, f.name)
			assert.Equal(t, f.size, got.Size, f.name)
			assert.Equal(t, f.size, got.ContentLength, f.name)
			assert.Equal(t, strings.NewReplacer("\xf6", "%F6", "\xdf", "%DF").Replace(f.name), got.Name)
			assert.Equal(t, f.contentType, got.ContentType, f.name)
			assert.Equal(t, f.bulk, got.Bulk, f.name)
			assert.Equal(t, "2019-02-03T04:05:06.000Z", got.ModificationDateTime, f.name)
			assert.Equal(t, "ftp-node", m.GroupID)
			assert.Equal(t, m.TrackingID, m.DedupID)
			assert.Regexp(t, `^[0-9a-f]{12}4[0-9a-f]{19}$`, m.TrackingID)

			meta := metadataOf(t, got.Metadata)
			assert.Equal(t, "scanner", meta.User)
			assert.Equal(t, "127.0.0.1", meta.RemoteAddress)
			assert.Equal(t, f.sha256, meta.SHA256)
			at, err := time.Parse(time.RFC3339, meta.ReceivedDateTime)
			require.NoError(t, err)
			assert.WithinRange(t, at, began, time.Now())

			record := r.audited(m.TrackingID)[m.TrackingID]
			assert.Equal(t, "echo.file", record.MessageType)
			assert.Equal(t, "ftp-node", record.Node)
			assert.Equal(t, got.Name, record.Attributes["name"])
			assert.EqualValues(t, f.size, record.Attributes["content_length"])
			assert.Equal(t, f.contentType, record.Attributes["content_type"])
			assert.Equal(t, got.ModificationDateTime, record.Attributes["modification_datetime"])
			assert.Equal(t, f.sha256, record.Attributes["sha256"])
		}
	}
	r.settled(len(want))
	assert.Len(t, r.cloud.Messages("archive"), len(want), "nothing arrives twice")
	assert.Equal(t, r.trackingIDs("archive"), r.trackingIDs("erp"))
	assert.Len(t, r.log.find("[INFO] File accepted", "user=scanner"), len(want))
}

func (r *rig) trackingIDs(edge string) (ids []string) {
	for _, m := range r.cloud.Messages(edge) {
		ids = append(ids, m.TrackingID)
	}
	return ids
}

// names are those of an edge's messages, in order.
func (r *rig) names(edge string) (names []string) {
	for _, m := range r.cloud.Messages(edge) {
		f, err := r.cloud.Decode(r.t.Context(), m, io.Discard)
		require.NoError(r.t, err)
		names = append(names, f.Name)
	}
	return names
}

// Large and small, inline and bulk: the order in which they were finished holds on each edge, also when SQS and S3 fail a lot.
func TestOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{Targets: []string{"archive", "erp"}}).start()
	for _, f := range []string{
		"sqs:throttled:every=5", "sqs:reply-lost:every=7", "s3:error:every=4", "sqs:expired-credentials:after=4,count=2",
	} {
		fault, err := echotest.ParseFault(f)
		require.NoError(t, err)
		r.cloud.Fault(fault)
	}
	c := r.login()
	c.command(200, "TYPE I")
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("%03d.txt", i)
		size := 10
		if i%10 == 3 {
			size = 300_000
		}
		c.store(name, bytes.Repeat([]byte{byte('a' + i%26)}, size))
		want = append(want, name)
	}
	for _, edge := range []string{"archive", "erp"} {
		r.arrived(edge, len(want))
		assert.Equal(t, want, r.names(edge))
	}
	r.settled(len(want))
	assert.Len(t, r.cloud.Messages("erp"), len(want))
}

// SQS may take a batch in part, and what it took cannot be called back: order then ends within that batch, but everything
// arrives, once.
func TestPartialFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{}).start()
	r.cloud.Off(echotest.SQS) // so that batches fill up
	c := r.login()
	c.command(200, "TYPE I")
	var want []string
	for i := range 15 {
		name := fmt.Sprintf("%02d.txt", i)
		c.store(name, []byte(name))
		want = append(want, name)
	}
	require.Eventually(t, func() bool { return len(r.log.find("File accepted")) == len(want) }, waitFor, tick)
	partial := r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.Partial, Count: 4})
	r.cloud.On(echotest.SQS)
	r.settled(len(want))
	assert.NotZero(t, partial.Hits())
	assert.ElementsMatch(t, want, r.names(""))
}

func TestSameFileTwiceArrivesTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{}).start()
	c := r.login()
	c.command(200, "TYPE I")
	for i := range 2 {
		c.store("same.csv", []byte("the same bytes"))
		r.arrived("", i+1)
	}
	ids := r.trackingIDs("")
	require.Len(t, ids, 2)
	assert.NotEqual(t, ids[0], ids[1])
}

func TestLostReplyArrivesOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{}).start()
	lost := r.cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.ReplyLost, Count: 3})
	r.login().store("once.csv", []byte("x"))
	r.settled(1)
	assert.Equal(t, 3, lost.Hits())
	assert.Len(t, r.cloud.Messages(""), 1)
	assert.Equal(t, 3, r.cloud.EdgeStats("").Duplicates)
}

var acceptedID = regexp.MustCompile(`File accepted trackingId=([0-9a-f]{32})`)

// What waits when the node stops is delivered by the next one, under the tracking id that it had.
func TestRestartWithEntriesWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}}).start()
	r.cloud.Off(echotest.SQS)
	c := r.login()
	c.command(200, "TYPE I")
	want := []string{"one.txt", "two.log", "three.txt"}
	contents := [][]byte{[]byte("1"), bytes.Repeat([]byte("2"), 400_000), []byte("3")}
	for i, name := range want {
		c.store(name, contents[i])
	}
	require.Eventually(t, func() bool { return len(r.log.find("File accepted")) == 3 }, waitFor, tick)
	var ids []string
	for _, line := range r.log.find("File accepted") {
		ids = append(ids, acceptedID.FindStringSubmatch(line)[1])
	}
	assert.ElementsMatch(t, want, strings.Fields(c.list()), "what waits is still listed")
	r.shutdown()
	require.Empty(t, r.cloud.Messages(""))

	r.start()
	assert.ElementsMatch(t, want, strings.Fields(r.login().list()), "also after the restart")
	r.cloud.On(echotest.SQS)
	r.arrived("", 3)
	assert.Equal(t, want, r.names(""))
	assert.Equal(t, ids, r.trackingIDs(""))
	r.audited(ids...)
	r.settled(3)
	assert.Empty(t, strings.Fields(r.login().list()), "gone means delivered")
}

// While EchoStream audits but its endpoint is down, the entry stays; after a restart it is not sent again, only audited.
func TestRestartBetweenSendingAndAudit(t *testing.T) {
	t.Parallel()
	r := newRig(t, echotest.Options{Tenant: echotest.Tenant{Audit: true}}).start()
	r.cloud.Off(echotest.Audit)
	content := bytes.Repeat([]byte("x"), 500_000)
	r.login().store("big.csv", content)
	id := r.arrived("", 1)[0].TrackingID
	r.log.wait(t, "[WARNING]", "it is tried again")
	r.shutdown()
	r.cloud.On(echotest.Audit)
	r.start()
	record := r.audited(id)[id]
	assert.Equal(t, hexSum(content), record.Attributes["sha256"])
	r.settled(1)
	assert.Equal(t, 1, r.cloud.EdgeStats("").Messages)
	assert.Zero(t, r.cloud.EdgeStats("").Duplicates)
}

// Other programs may put files into a user's directory, also while no node runs.
func TestFilesOfOtherPrograms(t *testing.T) {
	t.Parallel()
	config := strings.Replace(testConfig(t, ""), `"settle": "10ms"`, `"settle": "10ms", "quiet": "1s"`, 1)
	config = strings.Replace(config, `"name": "scanner",`, `"name": "scanner", "directory": "plant-7/line-2",`, 1)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config}})
	dir := filepath.Join(r.env["FTPNODE_DATA"], "drop", "plant-7", "line-2")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "before.csv"), []byte("a"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "left-alone.tmp"), []byte("a"), 0o600))
	r.start()
	r.arrived("", 1)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "later.csv"), []byte("b"), 0o600))
	for _, m := range r.arrived("", 2) {
		f, err := r.cloud.Decode(t.Context(), m, io.Discard)
		require.NoError(t, err)
		meta := metadataOf(t, f.Metadata)
		assert.Equal(t, "scanner", meta.User)
		assert.Empty(t, meta.RemoteAddress, "nobody knows")
	}
	assert.Equal(t, []string{"sub/before.csv", "later.csv"}, r.names(""))
	assert.FileExists(t, filepath.Join(dir, "left-alone.tmp"))
}

func TestOrderByUser(t *testing.T) {
	t.Parallel()
	config := strings.Replace(testConfig(t, "", `"message": {"order": "user"}`), `"users": [`,
		`"users": [{"name": "second user", "password": "`+testPassword+`"}, `, 1)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config}}).start()
	r.login().store("a.txt", []byte("a"))
	c := dialFTP(t, r.address())
	require.Equal(t, 230, c.login("second user", testPassword))
	c.store("b.txt", []byte("b"))
	var groups []string
	for _, m := range r.arrived("", 2) {
		groups = append(groups, m.GroupID)
	}
	assert.ElementsMatch(t, []string{"ftp-node_user_scanner", "ftp-node_user_second_user"}, groups)
}

func TestContentSettings(t *testing.T) {
	t.Parallel()
	config := testConfig(t, "", `"message": {"content": "bulk", "contentField": "data", "urlField": "dataUrl"}`)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config}, ContentKey: "data", URLKey: "dataUrl"}).start()
	r.log.wait(t, "[WARNING] the messages of this node may not be what their receivers expect", "onlyInSample=content", "onlyInOurs=data,dataUrl", "message.contentField")
	r.login().store("a.txt", []byte("hello"))
	f, err := r.cloud.Decode(t.Context(), r.arrived("", 1)[0], io.Discard)
	require.NoError(t, err)
	assert.True(t, f.Bulk)
	assert.Equal(t, hexSum([]byte("hello")), f.SHA256)
}

// What can never be delivered is set aside, said, and does not hold up the rest.
func TestPoisonIsSetAside(t *testing.T) {
	t.Parallel()
	config := testConfig(t, "", `"message": {"content": "inline"}`)
	r := newRig(t, echotest.Options{Node: echotest.Node{Config: config}}).start()
	c := r.login()
	c.command(200, "TYPE I")
	c.store("too-large.bin", make([]byte, 300_000))
	c.store("small.txt", []byte("x"))
	r.arrived("", 1)
	assert.Equal(t, []string{"small.txt"}, r.names(""))
	r.log.wait(t, "[ERROR]", "too-large.bin", "message.content = inline")
	kept, err := filepath.Glob(filepath.Join(r.env["FTPNODE_DATA"], "failed", "*"))
	require.NoError(t, err)
	assert.NotEmpty(t, kept)
}
