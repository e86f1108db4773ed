package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
)

// shelf is a directory of files that cannot be changed, which takes uploads.
type shelf struct {
	fstest.MapFS
	failure error // of what changes something
	events  []string
	taken   bytes.Buffer
}

func newShelf() *shelf {
	modified := time.Date(2024, 2, 29, 12, 34, 56, 0, time.UTC)
	return &shelf{MapFS: fstest.MapFS{
		"a.csv":     {Data: []byte("a;b\n"), Mode: 0o640, ModTime: modified},
		"dir/b.csv": {Data: []byte("b"), Mode: 0o640, ModTime: modified},
		"dir/c.txt": {Data: []byte("c"), Mode: 0o640, ModTime: modified},
	}}
}

func rel(name string) string {
	if name == "/" {
		return "."
	}
	return strings.TrimPrefix(name, "/")
}

func (s *shelf) Stat(name string) (fs.FileInfo, error) { return s.MapFS.Stat(rel(name)) }

func (s *shelf) ReadDir(name string) (list []fs.FileInfo, err error) {
	entries, err := s.MapFS.ReadDir(rel(name))
	for _, e := range entries {
		info, _ := e.Info()
		list = append(list, info)
	}
	return list, err
}

func (s *shelf) Open(name string) (io.ReadCloser, error) { return s.MapFS.Open(rel(name)) }
func (s *shelf) Remove(string) error                     { return s.failure }
func (s *shelf) RemoveDir(string) error                  { return s.failure }
func (s *shelf) Mkdir(string) error                      { return s.failure }

func (s *shelf) Create(name string, appending bool) (Upload, error) {
	s.events = append(s.events, "create")
	return s, nil
}

func (s *shelf) ReadFrom(r io.Reader) (int64, error) {
	s.events = append(s.events, "read")
	return s.taken.ReadFrom(r)
}

func (s *shelf) End(broken error) error {
	s.events = append(s.events, "end")
	if broken != nil {
		return broken
	}
	return s.failure
}

// transfer runs a transfer to its end. What the client sends is sent, what it gets returned.
func (s *session) transfer(verb, arg, sent string) (Reply, string) {
	server, client := net.Pipe()
	got := make(chan string, 1)
	go func() {
		defer client.Close()
		if verb == "STOR" || verb == "APPE" {
			io.WriteString(client, sent)
			got <- ""
			return
		}
		text, _ := io.ReadAll(client)
		got <- string(text)
	}()
	r := s.transferOver(verb, arg, func() (net.Conn, error) { return server, nil })
	server.Close()
	return r, <-got
}

func (s *session) transferOver(verb, arg string, open func() (net.Conn, error)) Reply {
	ended := make(chan Reply, 1)
	s.Transfer(verb, arg, open, func(r Reply) { ended <- r })
	return <-ended
}

type session struct{ *Session }

func begin(t *testing.T, files Files) *session {
	s := New(files)
	t.Cleanup(s.Close)
	return &session{s}
}

func TestCommands(t *testing.T) {
	s := begin(t, newShelf())
	require.Equal(t, Reply{Code: 213, Text: "4"}, s.Do("SIZE", "a.csv", nil))
	require.Equal(t, Reply{Code: 213, Text: "20240229123456"}, s.Do("MDTM", "/dir/../a.csv", nil))
	require.ErrorIs(t, s.Do("SIZE", "dir", nil).Err, syscall.EISDIR)
	require.ErrorIs(t, s.Do("SIZE", "none", nil).Err, fs.ErrNotExist)
	s.SetDir("/dir")
	require.Equal(t, "/dir", s.Dir())
	require.Equal(t, "/a.csv", s.Abs("../a.csv"))
	require.NoError(t, s.Do("SIZE", "b.csv", nil).Err)
	require.Equal(t, syscall.ENAMETOOLONG, s.Do("SIZE", strings.Repeat("x", maxLine), nil).Err)
	require.Equal(t, syscall.ENAMETOOLONG, s.Do("SIZE", "a\r\nDELE a", nil).Err)

	var lines []string
	part := func(code int, line string) { lines = append(lines, line) }
	require.Equal(t, 250, s.Do("MLST", "../a.csv", part).Code)
	require.Equal(t, 213, s.Do("STAT", "b.csv", part).Code)
	require.Equal(t, 212, s.Do("STAT", "/dir", part).Code)
	require.Equal(t, []string{
		"Type=file;Size=4;Modify=20240229123456; ../a.csv",
		" -rw-r----- 1 ftp ftp            1 Feb 29  2024 b.csv",
		" -rw-r----- 1 ftp ftp            1 Feb 29  2024 b.csv",
		" -rw-r----- 1 ftp ftp            1 Feb 29  2024 c.txt",
	}, lines)
}

// TestStartOfTheLibrary: a session that only sends files does without it; its first command finds the directory in which the client stands.
func TestStartOfTheLibrary(t *testing.T) {
	s := begin(t, newShelf())
	require.Equal(t, "/", s.Dir())
	s.SetDir("/dir")
	r, _ := s.transfer("STOR", "new", "x")
	require.NoError(t, r.Err)
	require.Nil(t, s.conn)
	require.NoError(t, s.Do("SIZE", "b.csv", nil).Err)
	require.NotNil(t, s.conn)
	s.SetDir("/")
	require.NoError(t, s.Do("SIZE", "a.csv", nil).Err)
}

func TestListings(t *testing.T) {
	s := begin(t, newShelf())
	s.SetDir("/dir")
	for _, c := range []struct{ verb, arg, want string }{
		{"NLST", "", "b.csv\r\nc.txt\r\n"},
		{"NLST", "*.csv", "b.csv\r\n"},
		{"NLST", "/dir/*.csv", "b.csv\r\n"},
		{"NLST", "..", "../a.csv\r\n../dir\r\n"},
		{"NLST", "*.none", ""},
		{"LIST", "b.csv", "-rw-r----- 1 ftp ftp            1 Feb 29  2024 b.csv\r\n"},
		{"MLSD", "", "Type=file;Size=1;Modify=20240229123456; b.csv\r\nType=file;Size=1;Modify=20240229123456; c.txt\r\n"},
	} {
		r, got := s.transfer(c.verb, c.arg, "")
		require.NoError(t, r.Err)
		require.Equal(t, c.want, got, "%s %s", c.verb, c.arg)
	}
	unopened := func() (net.Conn, error) { t.Error("there is nothing to list"); return nil, net.ErrClosed }
	require.ErrorIs(t, s.transferOver("MLSD", "-al", unopened).Err, fs.ErrNotExist)
	r, _ := s.transfer("MLSD", "b.csv", "")
	require.ErrorIs(t, r.Err, syscall.ENOTDIR)
	s.Hide([]string{"Type", "Modify"})
	_, got := s.transfer("MLSD", "", "")
	require.Equal(t, "Size=1; b.csv\r\nSize=1; c.txt\r\n", got)
}

// ended is a shelf that cannot be listed.
type ended struct{ *shelf }

func (ended) ReadDir(string) ([]fs.FileInfo, error) { return nil, io.EOF }

func TestEOFIsAnError(t *testing.T) {
	s := begin(t, ended{newShelf()})
	r := s.transferOver("LIST", "", func() (net.Conn, error) { t.Error("there is nothing to list"); return nil, net.ErrClosed })
	require.Equal(t, io.EOF, r.Err)
}

// TestBrokenListing: what the buffer cannot get rid of at the end is an error, too.
func TestBrokenListing(t *testing.T) {
	s := begin(t, newShelf())
	server, client := net.Pipe()
	client.Close()
	r := s.transferOver("LIST", "", func() (net.Conn, error) { return server, nil })
	require.ErrorIs(t, r.Err, ErrBroken)
}

func TestTransfers(t *testing.T) {
	files := newShelf()
	s := begin(t, files)
	r, got := s.transfer("RETR", "a.csv", "")
	require.NoError(t, r.Err)
	require.Equal(t, "a;b\n", got)
	r, _ = s.transfer("RETR", "none", "")
	require.ErrorIs(t, r.Err, fs.ErrNotExist)
	server, client := net.Pipe()
	client.Close()
	r = s.transferOver("RETR", "a.csv", func() (net.Conn, error) { return server, nil })
	require.ErrorIs(t, r.Err, ErrBroken)
	r, _ = s.transfer("STOR", "x", "line\nline\r\n\xff")
	require.NoError(t, r.Err)
	require.Equal(t, "line\nline\r\n\xff", files.taken.String())
	files.taken.Reset()
	r, _ = s.transfer("STOR", "empty", "")
	require.NoError(t, r.Err)
	files.failure = errors.New("226 no\r\n226 space")
	r, _ = s.transfer("STOR", "x", "content")
	require.Equal(t, files.failure, r.Err)
	require.Equal(t, files.failure, s.Do("DELE", "a.csv", nil).Err)
	require.NoError(t, s.Do("SIZE", "a.csv", nil).Err, "replies are still told apart")
}

// TestNoDataConnection: the reply comes when what was opened is closed.
func TestNoDataConnection(t *testing.T) {
	files := newShelf()
	s := begin(t, files)
	late := errors.New("too late")
	ended := make(chan Reply, 1)
	s.Transfer("STOR", "x", func() (net.Conn, error) { return nil, late }, func(r Reply) {
		files.events = append(files.events, "done")
		ended <- r
	})
	r := <-ended
	require.ErrorIs(t, r.Err, ErrNoData)
	require.ErrorIs(t, r.Err, late)
	require.Equal(t, []string{"create", "end", "done"}, files.events)
	require.NoError(t, s.Do("SIZE", "a.csv", nil).Err)
}

// TestNoListenerIsLeft: a transfer that was refused before its data connection leaves no port open.
func TestNoListenerIsLeft(t *testing.T) {
	descriptors := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(list)
	}
	s := begin(t, newShelf())
	before := descriptors()
	r, _ := s.transfer("LIST", "none", "")
	require.ErrorIs(t, r.Err, fs.ErrNotExist)
	require.Equal(t, before, descriptors())
	s.transferOver("LIST", "", func() (net.Conn, error) {
		require.Equal(t, before, descriptors())
		return nil, net.ErrClosed
	})
}

// countedConn counts writes.
type countedConn struct {
	net.Conn
	writes int
}

func (c *countedConn) Write(p []byte) (int, error) { c.writes++; return len(p), nil }

func TestListingsAreBuffered(t *testing.T) {
	files := newShelf()
	for i := range 100 {
		files.MapFS[fmt.Sprintf("many/%02d", i)] = &fstest.MapFile{}
	}
	s := begin(t, files)
	for _, verb := range []string{"NLST", "LIST", "MLSD"} {
		server, _ := net.Pipe()
		conn := &countedConn{Conn: server}
		r := s.transferOver(verb, "many", func() (net.Conn, error) { return conn, nil })
		require.NoError(t, r.Err)
		require.Equal(t, 1, conn.writes)
	}
}

// panickingConn is one that panics.
type panickingConn struct{ net.Conn }

func (panickingConn) Write([]byte) (int, error) { panic("oh") }

func TestPanicInConnection(t *testing.T) {
	s := begin(t, newShelf())
	for _, command := range []string{"RETR", "LIST"} {
		server, _ := net.Pipe()
		r := s.transferOver(command, "a.csv", func() (net.Conn, error) { return panickingConn{server}, nil })
		require.ErrorIs(t, r.Err, ErrInternal)
	}
	require.NoError(t, s.Do("SIZE", "a.csv", nil).Err)
}

func TestPanics(t *testing.T) {
	s := begin(t, nil)
	require.ErrorIs(t, s.Do("SIZE", "x", nil).Err, ErrInternal)
	r := s.transferOver("STOR", "x", nil)
	require.ErrorIs(t, r.Err, ErrInternal)
	r = s.transferOver("LIST", "x", nil)
	require.ErrorIs(t, r.Err, ErrInternal)
}

// endless is an upload whose end panics.
type endless struct{ *shelf }

func (e endless) Create(string, bool) (Upload, error) { return e, nil }
func (e endless) End(error) error                     { panic("oh") }

func TestPanicInEnd(t *testing.T) {
	s := begin(t, endless{newShelf()})
	r, _ := s.transfer("STOR", "x", "content")
	require.ErrorIs(t, r.Err, ErrInternal)
	require.NoError(t, s.Do("SIZE", "a.csv", nil).Err)
}

func TestPanicInOpen(t *testing.T) {
	files := newShelf()
	s := begin(t, files)
	r := s.transferOver("STOR", "x", func() (net.Conn, error) { panic("oh") })
	require.ErrorIs(t, r.Err, ErrInternal)
	require.Equal(t, []string{"create", "end"}, files.events)
}

// TestNoTextOfTheLibrary holds that no reply has more of the library than what a command is answered that has succeeded.
func TestNoTextOfTheLibrary(t *testing.T) {
	for _, verb := range []string{"SIZE", "MDTM", "STOR", "RETR", "LIST", "MLSD", "EPSV", "MKD"} {
		for _, code := range []int{421, 425, 450, 500, 501, 502, 503, 504, 530, 550, 552, 553} {
			var got Reply
			r := &run{verb: verb, done: func(r Reply) { got = r }}
			r.finish(Reply{Code: code, Text: "write tcp 127.0.0.1:30000: broken pipe"})
			require.Error(t, got.Err)
			require.Equal(t, Reply{Err: got.Err}, got)
			require.NotContains(t, got.Err.Error(), "pipe")
		}
	}
}

func TestParser(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  []line
	}{
		"one line":    {[]string{"250 Done"}, []line{{final, 250, "Done"}}},
		"code alone":  {[]string{"250"}, []line{{final, 250, ""}}},
		"preliminary": {[]string{"150 Here", "226 Done"}, []line{{kind: other}, {final, 226, "Done"}}},
		"several": {[]string{"213-STAT x", " 213 no end", "250 of another", "213", "200 Next"},
			[]line{{kind: other}, {part, 213, " 213 no end"}, {part, 213, "250 of another"}, {final, 213, ""}, {final, 200, "Next"}}},
		"no code": {[]string{"", "x", "ab", "0x1 y"}, []line{{kind: other}, {kind: other}, {kind: other}, {kind: other}}},
	} {
		var p parser
		for i, text := range c.lines {
			require.Equal(t, c.want[i], p.parse(text), "%s: %q", name, text)
		}
	}
}

// TestWall holds that nothing else in this module knows the library.
func TestWall(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	require.FileExists(t, filepath.Join(root, "go.mod"))
	own, err := filepath.Abs(".")
	require.NoError(t, err)
	files := 0
	require.NoError(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".go" {
			return err
		}
		files++
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		dir, err := filepath.Abs(filepath.Dir(name))
		require.NoError(t, err)
		if strings.Contains(string(text), `"github.com/fclairamb/ftpserverlib"`) {
			require.Equal(t, own, dir, name)
		}
		return nil
	}))
	require.Greater(t, files, 100)
}

// TestWorkaroundsHaveTests holds that each test that the package comment names is there.
func TestWorkaroundsHaveTests(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	var tests strings.Builder
	for _, dir := range []string{".", "../.."} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		require.NoError(t, err)
		for _, name := range files {
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			tests.Write(text)
		}
	}
	named := regexp.MustCompile(`\bTest\w+`).FindAllString(string(doc), -1)
	require.NotEmpty(t, named)
	for _, name := range named {
		require.True(t, strings.Contains(tests.String(), "func "+name+"("), "%s, which doc.go names, is not there", name)
	}
}
