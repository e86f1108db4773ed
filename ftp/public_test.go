package ftp

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// A passive port that is published under another number is told by that; the connection arrives on its own.
func TestPublicPorts(t *testing.T) {
	const passive, public = 34021, 44021
	n := start(t, func(o *Options, _ *drop.Options) {
		o.PassivePorts = PortRange{First: passive, Last: passive}
		o.PublicPorts = map[int]int{passive: public}
	})
	c := n.login(t)
	addr := pasvAddr(t, c.do(227, "PASV"))
	require.EqualValues(t, public, addr.Port())
	require.Contains(t, c.do(229, "EPSV"), "(|||44021|)")

	c.send("STOR a.txt")
	data := c.data("127.0.0.1:34021")
	_, err := data.Write([]byte("content"))
	require.NoError(t, err)
	require.NoError(t, data.Close())
	c.expect(150)
	c.expect(226)
	n.requireFile(t, "a.txt", []byte("content"))
}
