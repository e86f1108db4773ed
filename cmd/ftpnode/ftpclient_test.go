package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/outagetest"
)

// ftpClient speaks FTP as a device does: line by line, passive mode.
type ftpClient struct {
	t    *testing.T
	conn *textproto.Conn
}

// dialFTP connects and reads the greeting.
func dialFTP(t *testing.T, address string) *ftpClient {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
	c := &ftpClient{t: t, conn: textproto.NewConn(conn)}
	t.Cleanup(func() { c.conn.Close() })
	c.expect(220)
	return c
}

// loginFTP connects as the user of every test.
func loginFTP(t *testing.T, address string) *ftpClient {
	c := dialFTP(t, address)
	require.Equal(t, 230, c.login("scanner", testPassword))
	return c
}

func (c *ftpClient) login(user, password string) int {
	c.command(331, "USER %s", user)
	return c.code("PASS %s", password)
}

// code sends a command and gives the reply's code.
func (c *ftpClient) code(format string, args ...any) int {
	require.NoError(c.t, c.conn.PrintfLine(format, args...))
	line, err := c.conn.ReadLine()
	require.NoError(c.t, err)
	code, err := strconv.Atoi(line[:3])
	require.NoError(c.t, err)
	return code
}

func (c *ftpClient) command(code int, format string, args ...any) string {
	require.NoError(c.t, c.conn.PrintfLine(format, args...))
	return c.expect(code)
}

func (c *ftpClient) expect(code int) string {
	_, message, err := c.conn.ReadResponse(code)
	require.NoError(c.t, err)
	return message
}

// data opens a data connection by EPSV and begins a transfer.
func (c *ftpClient) data(format string, args ...any) net.Conn {
	reply := c.command(229, "EPSV")
	port := reply[strings.Index(reply, "|||")+3 : strings.LastIndex(reply, "|")]
	require.NoError(c.t, c.conn.PrintfLine(format, args...))
	conn := dialData(c.t, port)
	c.expect(150)
	return conn
}

func dialData(t *testing.T, port string) net.Conn {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", port), 10*time.Second)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
	return conn
}

// store uploads, and gives what remains to be read: the reply to the upload.
func (c *ftpClient) upload(name string, content io.Reader) {
	conn := c.data("STOR %s", name)
	_, err := io.Copy(conn, content)
	require.NoError(c.t, err)
	require.NoError(c.t, conn.Close())
}

func (c *ftpClient) store(name string, content []byte) {
	c.upload(name, bytes.NewReader(content))
	c.expect(226)
}

func (c *ftpClient) list() string {
	conn := c.data("NLST")
	names, err := io.ReadAll(conn)
	require.NoError(c.t, err)
	conn.Close()
	c.expect(226)
	return string(names)
}

// pattern is a reader of n bytes that compress badly enough and are the same each time.
func pattern(n int64) io.Reader { return outagetest.Pattern(n) }

func mdtm(t time.Time) string { return fmt.Sprint(t.UTC().Format("20060102150405")) }
