package ftp

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// TestFoldersAtTheLimit is of cameras that make a folder an hour, and of one that stands in its own.
func TestFoldersAtTheLimit(t *testing.T) {
	n := start(t, func(_ *Options, d *drop.Options) { d.MaxDirs = 3 })
	standing := n.login(t)
	standing.do(257, "MKD home")
	standing.do(257, "MKD home/today")
	standing.do(250, "CWD home/today")
	c := n.login(t)
	for _, hour := range []string{"1", "2", "3", "4"} {
		require.Equal(t, `"/`+hour+`" created`, c.do(257, "MKD %s", hour))
	}
	require.NoDirExists(t, n.folder("3"))
	standing.store("file", []byte("x"))
	n.requireFile(t, "home/today/file", []byte("x"))

	c.store("3/file", []byte("y"))
	n.requireFile(t, "3/file", []byte("y"))
	require.NoDirExists(t, n.folder("4"))
	require.Equal(t, "No space now; try again later.", c.do(452, "CWD 4"), "all others are needed")
	require.Equal(t, "Could not create file: No such file or directory.", c.refused(550, "STOR never/file"))
	c.do(250, "DELE 3/file")
	c.do(250, "CWD 4")
	require.Equal(t, `"/4" is the current directory`, c.do(257, "PWD"))
	c.do(250, "CDUP")
	require.Equal(t, `"/" is the current directory`, c.do(257, "PWD"))

	standing.do(250, "DELE file")
	c.do(257, "MKD 5")
	require.NoDirExists(t, n.folder("4"))
	standing.conn.Close()
	eventually(t, func() bool { return n.sessionCount() == 1 }, "its session ends")
	c.do(257, "MKD 6")
	require.NoDirExists(t, n.folder("home/today"))
}
