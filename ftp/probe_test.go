package ftp_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp"
)

func TestProbe(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { l.Close() })
		return l
	}
	// greet answers each connection, and returns what it is told.
	greet := func(l net.Listener, greeting string) <-chan string {
		told := make(chan string, 10)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(conn, greeting)
				line, _ := bufio.NewReader(conn).ReadString('\n')
				conn.Close()
				told <- line
			}
		}()
		return told
	}
	ready := listen()
	told := greet(ready, "220 ready\r\n")
	require.NoError(t, ftp.Probe(t.Context(), ready.Addr().String()))
	assert.Equal(t, "QUIT\r\n", <-told)

	busy := listen()
	greet(busy, "421 come back later\r\n")
	err := ftp.Probe(t.Context(), busy.Addr().String())
	require.ErrorContains(t, err, `answers "421 come back later", expected 220`)

	gone := listen()
	gone.Close()
	require.ErrorContains(t, ftp.Probe(t.Context(), gone.Addr().String()), "does not answer")

	certificates := httptest.NewTLSServer(nil)
	defer certificates.Close()
	implicit := tls.NewListener(listen(), &tls.Config{Certificates: certificates.TLS.Certificates})
	greet(implicit, "220 ready\r\n")
	require.NoError(t, ftp.Probe(t.Context(), implicit.Addr().String()))
}
