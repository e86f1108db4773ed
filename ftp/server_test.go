package ftp

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUpload(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	content := noise(5 << 20)
	require.Equal(t, "Transfer complete.", c.store("a b.csv", content))
	n.requireFile(t, "a b.csv", content)
	require.Equal(t, "Transfer complete; the file waits for its last name.", c.store("a.part", []byte("temporary")))
	c.do(213, "SIZE a b.csv")
	require.Equal(t, string(content), c.fetch("RETR a b.csv"))
	c.do(221, "QUIT")
	c.requireClosed()
	eventually(t, func() bool { return n.sessionCount() == 0 }, "the session ends")
}
