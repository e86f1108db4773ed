//go:build matrix

package matrix

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// cell is one thing that clients do. Each run has a node of its own and a directory with in.bin, second.bin and what
// the cell adds.
type cell struct {
	id, title string
	change    func(*ftp.Options, *drop.Options)
	prepare   func(r *run)
	hold      bool     // a longer settle time: nothing is sent until the client is done
	want      []file   // delivered, in this order
	unordered bool     // the client decides on the order
	sent      []string // patterns; a command matches each
	check     func(r *run)
}

const (
	cut  = 100_000 // bytes that had come when an upload was cut
	told = cut - 1 // bytes that a client is told of when it asks
)

var (
	content = noise(300_000)
	text    = []byte(strings.Repeat("line\x00\xff one\nline two\n", 5000))
	second  = noise(70_001)
	stamp   = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	big     = bytes.Repeat(noise(1<<20), 100)

	// Names that need care somewhere: on a command line, in a URL, in a listing, in a pattern.
	awkward = []string{"a b.csv", `it's "5%" #1.csv`, "-x [1].csv", "Ünï 文件.csv"}
	foreign = "caf\xe9 \xce\xc4.bin" // Latin-1 and GBK
)

var cells = []cell{
	{id: "binary", title: "binary", want: []file{fileOf("out.bin", content)}, sent: []string{`TYPE I`, `STOR .*out\.bin`}},
	{id: "ascii", title: "ASCII", want: []file{fileOf("out.bin", content)}, sent: []string{`TYPE A.*`, `STOR .*out\.bin`}},
	{id: "empty", title: "empty file", want: []file{fileOf("empty.bin", nil)},
		prepare: func(r *run) { r.local("empty.bin", nil) }, sent: []string{`STOR .*empty\.bin`}},
	{id: "big", title: "100 MB", want: []file{fileOf("big.bin", big)},
		prepare: func(r *run) { require.NoError(r.t, os.Symlink(bigFile, filepath.Join(r.dir, "big.bin"))) },
		sent:    []string{`STOR .*big\.bin`}},
	{id: "rest", title: "resume, REST+STOR", want: []file{fileOf("in.bin", content)},
		prepare: func(r *run) { r.cutUpload("in.bin", content[:cut]) }, sent: []string{fmt.Sprintf(`REST (%d|%d)`, told, cut), `STOR .*in\.bin`}},
	{id: "appe", title: "resume, APPE", want: []file{fileOf("in.bin", content)},
		prepare: func(r *run) { r.cutUpload("in.bin", content[:cut]); r.local("tail.bin", content[cut:]) },
		sent:    []string{`APPE .*in\.bin`}},
	{id: "rename", title: "temp name, rename", want: []file{fileOf("out.bin", content)}, sent: []string{`STOR .*`, `RNFR .*`, `RNTO .*out\.bin`}},
	{id: "overwrite", title: "overwrite", hold: true, want: []file{fileOf("out.bin", content), fileOf("out.bin", second)},
		sent: []string{`(STOR|RNTO) .*out\.bin`}},
	{id: "append", title: "append", hold: true, want: []file{fileOf("out.bin", append(bytes.Clone(content), second...))},
		sent: []string{`STOR .*out\.bin`, `APPE .*out\.bin`}},
	{id: "mkdir", title: "mkdir, subdirectories", want: []file{fileOf("a/b/out.bin", content)}, sent: []string{`MKD .*a`, `STOR .*out\.bin`}},
	{id: "awkward", title: "awkward names",
		prepare: func(r *run) {
			for i, name := range awkward {
				r.local(name, content[:1000+i])
			}
		},
		want: func() (files []file) {
			for i, name := range awkward {
				files = append(files, fileOf(name, content[:1000+i]))
			}
			return files
		}()},
	{id: "bytes", title: "names not in UTF-8", prepare: func(r *run) { r.local(foreign, content) }, want: []file{fileOf(foreign, content)}},
	{id: "parallel", title: "parallel",
		prepare: func(r *run) {
			for i := range parallel {
				r.local(fmt.Sprintf("p%d.bin", i), content[i:])
			}
		},
		want: func() (files []file) {
			for i := range parallel {
				files = append(files, fileOf(fmt.Sprintf("p%d.bin", i), content[i:]))
			}
			return files
		}(),
		unordered: true},
	{id: "ask", title: "SIZE, MDTM, MLST, LIST -al, NLST", want: []file{fileOf("out.bin", content)}, sent: []string{`SIZE .*out\.bin`, `MDTM .*out\.bin`, `LIST.*`, `NLST.*`}},
	{id: "mfmt", title: "MFMT", hold: true, want: []file{{name: "in.bin", sum: fileOf("", content).sum, size: int64(len(content)), modified: stamp}}, sent: []string{`MFMT 20200102030405 .*in\.bin`}},
	{id: "site", title: "SITE CHMOD, UTIME", want: []file{fileOf("in.bin", content)}, sent: []string{`SITE (CHMOD|UTIME)`}},
	{id: "allo", title: "ALLO", want: []file{fileOf("in.bin", content)}, sent: []string{fmt.Sprintf(`ALLO %d.*`, len(content)), `STOR .*in\.bin`}},
	{id: "quit", title: "killed in the middle", check: func(r *run) {
		require.NotZero(r.t, r.node.drop.Usage().Partial.Bytes, "the interrupted upload is kept")
	}},
	{id: "explicit", title: "FTPS explicit", want: []file{fileOf("out.bin", content)}, sent: []string{`AUTH .*`, `PROT P`},
		change: func(o *ftp.Options, _ *drop.Options) { o.TLS = ftp.TLSRequired }},
	{id: "implicit", title: "FTPS implicit", want: []file{fileOf("out.bin", content)}, sent: []string{`STOR .*out\.bin`},
		change: func(o *ftp.Options, _ *drop.Options) { o.TLS = ftp.TLSImplicit }},
	{id: "pasv", title: "PASV", want: []file{fileOf("out.bin", content)}, sent: []string{`PASV`, `STOR .*out\.bin`}},
	{id: "epsv", title: "EPSV", want: []file{fileOf("out.bin", content)}, sent: []string{`EPSV`, `STOR .*out\.bin`}},
	{id: "active", title: "active (PORT, EPRT)", want: []file{fileOf("out.bin", content)}, sent: []string{`(PORT|EPRT) .*`, `STOR .*out\.bin`},
		change: func(o *ftp.Options, _ *drop.Options) { o.ActiveMode = true }},
}

const parallel = 6 // files at once

// bigFile is a file of 100 MB, for all.
var bigFile string

// run is one client in one cell.
type run struct {
	t      *testing.T
	client *client
	cell   *cell
	node   *node
	dir    string // the client's; also its home
}

func (c *cell) run(t *testing.T, cl *client, action func(*run)) {
	r := &run{t: t, client: cl, cell: c, dir: t.TempDir()}
	r.node = start(t, func(o *ftp.Options, d *drop.Options) {
		for _, change := range []func(*ftp.Options, *drop.Options){c.change, cl.change} {
			if change != nil {
				change(o, d)
			}
		}
		if c.hold {
			d.Settle = 2 * time.Second
		}
	})
	r.local("in.bin", content)
	r.local("second.bin", second)
	if c.prepare != nil {
		c.prepare(r)
	}
	action(r)

	want := make([]file, len(c.want))
	for i, f := range c.want {
		want[i] = f
		if c.id == "ascii" && cl.ascii != nil {
			want[i] = fileOf(f.name, cl.ascii(content))
		}
	}
	r.node.delivered(t, len(want))
	got := r.node.taker.got()
	for i := range got { // times are compared only where they are set
		if i >= len(want) || want[i].modified.IsZero() {
			got[i].modified = time.Time{}
		}
	}
	if c.unordered {
		require.ElementsMatch(t, want, got)
	} else {
		require.Equal(t, fmt.Sprint(want), fmt.Sprint(got))
		for i := range want {
			require.True(t, want[i].modified.Equal(got[i].modified), "modified at %v", got[i].modified)
		}
	}
	if c.id != "quit" {
		require.Zero(t, r.node.drop.Usage().Partial.Files, "nothing is left unfinished")
	}
	patterns := c.sent
	if own, ok := cl.sent[c.id]; ok {
		patterns = own
	}
	for _, pattern := range patterns {
		r.requireSent(pattern)
	}
	if c.check != nil {
		c.check(r)
	}
}

// requireSent is for what the client is to have said.
func (r *run) requireSent(pattern string) {
	r.t.Helper()
	full := regexp.MustCompile(`^(?:` + pattern + `)$`)
	for _, line := range r.node.log.sent() {
		if full.MatchString(line) {
			return
		}
	}
	require.Fail(r.t, "the client did not send "+pattern, "%q", r.node.log.sent())
}

// local makes a file for the client.
func (r *run) local(name string, content []byte) {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, name), content, 0o644))
	require.NoError(r.t, os.Chtimes(filepath.Join(r.dir, name), stamp, stamp))
}

// cutUpload leaves an upload that was cut after its first bytes.
func (r *run) cutUpload(name string, first []byte) {
	r.t.Helper()
	d := r.dial()
	defer d.conn.Close()
	data := d.open("STOR " + name)
	_, err := data.Write(first)
	require.NoError(r.t, err)
	require.Eventually(r.t, func() bool { return r.node.drop.Usage().Partial.Bytes == int64(len(first)) }, patience, time.Millisecond)
	d.conn.Close()
	data.Close()
}

// noise is n bytes that any conversion would change.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = "\r\n\x00\xff\n\r\x1a\r\r\nabcdefg"[(i*7+i/17)%17]
	}
	return b
}
