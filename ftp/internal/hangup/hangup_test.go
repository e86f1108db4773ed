//go:build linux

package hangup

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func connect(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func TestDetected(t *testing.T) {
	for name, hangUp := range map[string]func(t *testing.T, client *net.TCPConn){
		"close":      func(t *testing.T, c *net.TCPConn) { require.NoError(t, c.Close()) },
		"half close": func(t *testing.T, c *net.TCPConn) { require.NoError(t, c.CloseWrite()) },
		"reset":      func(t *testing.T, c *net.TCPConn) { require.NoError(t, c.SetLinger(0)); require.NoError(t, c.Close()) },
		"close with bytes unread": func(t *testing.T, c *net.TCPConn) {
			_, err := c.Write([]byte("QUIT\r\n"))
			require.NoError(t, err)
			require.NoError(t, c.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := connect(t)
			require.False(t, Detected(server))
			hangUp(t, client)
			require.Eventually(t, func() bool { return Detected(server) }, 5*time.Second, time.Millisecond)
		})
	}
	_, server := connect(t)
	require.NoError(t, server.Close())
	require.True(t, Detected(server))
}
