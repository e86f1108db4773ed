//go:build nat

package nat

import (
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// content is n bytes that a conversion would change.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = "\r\n\x00\xff\n\r\x1a\r\r\nabcdefg"[(i*7+i/17)%17]
	}
	return b
}

func (p *program) file(want []byte) string {
	p.t.Helper()
	name := filepath.Join(p.t.TempDir(), "file")
	require.NoError(p.t, os.WriteFile(name, want, 0o600))
	return name
}

// How curl finds the data connection: with pasv it believes the reply's address, as most devices do, and as it does not by default.
var (
	pasv = []string{"--disable-epsv", "--no-ftp-skip-pasv-ip"}
	epsv = []string{"--disable-eprt"}
)

// curl uploads from the client; the output tells the dialogue.
func (p *program) curl(to, name string, want []byte, options ...string) (string, error) {
	p.t.Helper()
	args := append([]string{"-q", "-sSv", "-u", "dock:" + password, "-T", p.file(want)}, options...)
	return p.run(client, "curl", append(args, fmt.Sprintf("ftp://%s/%s", net.JoinHostPort(to, fmt.Sprint(ftpPort)), name))...)
}

// lftp uploads from the client; the output tells the dialogue.
func (p *program) lftp(to, name string, want []byte, settings string) (string, error) {
	p.t.Helper()
	return p.run(client, "lftp", "-c", fmt.Sprintf(`debug 9; set ftp:ssl-allow no; set net:timeout 20; set net:max-retries 1; set ftp:fix-pasv-address no; %s;
		open -u dock,%s -p %d %s; put %s -o %s`, settings, password, ftpPort, to, p.file(want), name))
}

// session is a control connection, spoken line by line.
type session struct {
	p     *program
	place string
	local string
	conn  net.Conn
	text  *textproto.Conn
}

// connect opens a control connection from a place and reads the greeting.
func (p *program) connect(place, local string) *session {
	p.t.Helper()
	conn, err := p.dial(place, local, fmt.Sprintf("%s:%d", hostAddress, ftpPort), patience)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { conn.Close() })
	require.NoError(p.t, conn.SetDeadline(time.Now().Add(patience)))
	return &session{p: p, place: place, local: local, conn: conn, text: textproto.NewConn(conn)}
}

func (p *program) login(place, local string) *session {
	p.t.Helper()
	s := p.connect(place, local)
	s.expect(220)
	s.do(331, "USER dock")
	s.do(230, "PASS "+password)
	return s
}

func (s *session) expect(code int) string {
	s.p.t.Helper()
	got, text, err := s.text.ReadResponse(code)
	require.NoError(s.p.t, err, "expected %d, got %d %s", code, got, text)
	return text
}

func (s *session) do(code int, command string) string {
	s.p.t.Helper()
	require.NoError(s.p.t, s.text.PrintfLine("%s", command))
	return s.expect(code)
}

// passive asks for a data connection and gives its port.
func (s *session) passive() int {
	s.p.t.Helper()
	var port int
	text := s.do(229, "EPSV")
	_, err := fmt.Sscanf(text[strings.Index(text, "(")+1:], "|||%d|)", &port)
	require.NoError(s.p.t, err, text)
	return port
}

// data connects to a port of the host.
func (s *session) data(port int) net.Conn {
	s.p.t.Helper()
	conn, err := s.p.dial(s.place, s.local, fmt.Sprintf("%s:%d", hostAddress, port), patience)
	require.NoError(s.p.t, err)
	s.p.t.Cleanup(func() { conn.Close() })
	require.NoError(s.p.t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// pasvAddress is the address in the reply to PASV.
func (s *session) pasvAddress() netip.AddrPort {
	s.p.t.Helper()
	var a [4]byte
	var high, low uint16
	text := s.do(227, "PASV")
	_, err := fmt.Sscanf(text[strings.Index(text, "(")+1:], "%d,%d,%d,%d,%d,%d)", &a[0], &a[1], &a[2], &a[3], &high, &low)
	require.NoError(s.p.t, err, text)
	return netip.AddrPortFrom(netip.AddrFrom4(a), high<<8|low)
}
