//go:build image

package image

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// file is one to upload.
type file struct {
	name    string
	content []byte
}

func (f file) sum() string { return sum(f.content) }

// noise is a file that any conversion changes and that does not compress.
func noise(name string, size int) file {
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32.32s", name)))).Read(content)
	return file{name, content}
}

// store keeps it on this machine's disk for clients to send.
func (f file) store(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, f.name), f.content, 0o644))
	return dir
}

// curl gives the arguments of an upload.
func (n *node) curl(f file, more ...string) []string {
	return append([]string{"--silent", "--show-error", "--max-time", "120", "--user", user + ":" + password,
		"--upload-file", f.name, "ftp://" + n.address() + "/" + f.name}, more...)
}

// upload sends a file with curl.
func (n *node) upload(f file, more ...string) {
	n.t.Helper()
	_, err := command(f.store(n.t), "curl", n.curl(f, more...)...)
	require.NoError(n.t, err)
}

// lftp sends a file with lftp and its settings.
func (n *node) lftp(f file, settings string) {
	n.t.Helper()
	script := fmt.Sprintf("set net:max-retries 1; set net:timeout 30; set ssl:verify-certificate no; %s; open -u '%s','%s' ftp://%s; put %s",
		settings, user, password, n.address(), f.name)
	_, err := command(f.store(n.t), "lftp", "-c", script)
	require.NoError(n.t, err)
}

// session is a client that does what it is told, step by step.
type session struct {
	t    *testing.T
	text *textproto.Conn
}

// greeted connects, and reports whether the server says 220.
func greeted(address string) (*textproto.Conn, bool) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, false
	}
	_ = conn.SetDeadline(time.Now().Add(commandTime))
	text := textproto.NewConn(conn)
	if _, _, err := text.ReadResponse(220); err != nil {
		text.Close() // the engine's proxy takes connections for a container that does not listen yet
		return nil, false
	}
	return text, true
}

// login begins a session.
func (n *node) login() *session {
	n.t.Helper()
	var text *textproto.Conn
	require.Eventually(n.t, func() (ok bool) { text, ok = greeted(n.address()); return ok }, patience, tick, "FTP does not answer")
	s := &session{n.t, text}
	n.t.Cleanup(func() { text.Close() })
	s.do(331, "USER %s", user)
	s.do(230, "PASS %s", password)
	s.do(200, "TYPE I")
	return s
}

// loginFails tries a wrong password.
func (n *node) loginFails(wrong string) {
	n.t.Helper()
	text, ok := greeted(n.address())
	require.True(n.t, ok)
	defer text.Close()
	s := &session{n.t, text}
	s.do(331, "USER %s", user)
	s.do(530, "PASS %s", wrong)
	n.waitLog("login failed", user)
}

func (s *session) do(code int, format string, args ...any) string {
	s.t.Helper()
	require.NoError(s.t, s.text.PrintfLine(format, args...))
	return s.expect(code)
}

func (s *session) expect(code int) string {
	s.t.Helper()
	_, message, err := s.text.ReadResponse(code)
	require.NoError(s.t, err)
	return message
}

// begin begins a transfer and gives its data connection.
func (s *session) begin(command string) net.Conn {
	s.t.Helper()
	_, port, _ := strings.Cut(s.do(229, "EPSV"), "|||")
	port, _, _ = strings.Cut(port, "|")
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", port), 10*time.Second)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { conn.Close() })
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(commandTime)))
	s.do(150, "%s", command)
	return conn
}

// store uploads and reads 226.
func (s *session) store(f file) {
	s.t.Helper()
	conn := s.begin("STOR " + f.name)
	_, err := conn.Write(f.content)
	require.NoError(s.t, err)
	require.NoError(s.t, conn.Close())
	s.expect(226)
}

// size asks for the size of a file, finished or not.
func (s *session) size(name string) int {
	s.t.Helper()
	size, err := strconv.Atoi(strings.TrimSpace(s.do(213, "SIZE %s", name)))
	require.NoError(s.t, err)
	return size
}

// refused sends a command that opens no data connection after all, and gives the reply.
func (s *session) refused(command string) string {
	s.t.Helper()
	s.do(229, "EPSV")
	require.NoError(s.t, s.text.PrintfLine("%s", command))
	line, err := s.text.ReadLine()
	require.NoError(s.t, err)
	return line
}

// list gives the names of what waits, one a line.
func (s *session) list() string {
	s.t.Helper()
	conn := s.begin("NLST")
	names, err := io.ReadAll(conn)
	require.NoError(s.t, err)
	s.expect(226)
	return string(names)
}
