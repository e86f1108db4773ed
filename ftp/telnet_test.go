package ftp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTelnet(t *testing.T) {
	for name, c := range map[string]struct{ send, want []string }{
		"nothing of it":         {[]string{"STOR a", ""}, []string{"STOR a", ""}},
		"doubled":               {[]string{"STOR a\xff\xffb", "STOR \xff\xff\xff\xff"}, []string{"STOR a\xffb", "STOR \xff\xff"}},
		"bare":                  {[]string{"STOR a\xffb", "STOR a\xff\xffb"}, []string{"STOR a\xffb", "STOR a\xff\xffb"}},
		"bare, three":           {[]string{"STOR \xff\xff\xff", "STOR \xff\xff"}, []string{"STOR \xff\xff\xff", "STOR \xff\xff"}},
		"bare, in two":          {[]string{"STOR \xff\xff \xff"}, []string{"STOR \xff\xff \xff"}},
		"like a command":        {[]string{"STOR a\xff\xfb\x80b"}, []string{"STOR a\xff\xfb\x80b"}},
		"UTF-8":                 {[]string{"STOR ÿ日本.csv"}, []string{"STOR ÿ日本.csv"}},
		"in front, and bare":    {[]string{"\xff\xfb\x01STOR \xff", "STOR \xff\xff"}, []string{"STOR \xff", "STOR \xff\xff"}},
		"in front, and doubled": {[]string{"\xff\xf4\xff\xf2STOR \xff\xff"}, []string{"STOR \xff"}},
	} {
		t.Run(name, func(t *testing.T) {
			var tn telnet
			for i, line := range c.send {
				require.Equal(t, c.want[i], tn.single(commandLine([]byte(line))), "%q", line)
			}
		})
	}
}

// TestTelnetNames is the same with files, and with lftp, which doubles.
func TestTelnetNames(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	c.upload(226, "\xff\xfb\x01STOR doubled\xff\xff", []byte("1"))
	n.requireFile(t, "doubled\xff", []byte("1"))
	require.Equal(t, "1", c.do(213, "SIZE doubled\xff\xff"))
	d := n.login(t)
	d.upload(226, "STOR \xe4\xe5\xf0\xe5\xe2\xed\xff", []byte("2"))
	d.upload(226, "STOR \xff\xff", []byte("3"))
	n.requireFile(t, "\xe4\xe5\xf0\xe5\xe2\xed\xff", []byte("2"))
	n.requireFile(t, "\xff\xff", []byte("3"))

	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lftp \xff\xfe.csv"), noise(1000), 0o644))
	out, err := run(t, dir, "lftp", "-c", strings.Join([]string{"set net:max-retries 1", "set cmd:fail-exit yes", "set ftp:use-utf8 no", "set ftp:charset ISO-8859-1",
		"set file:charset ISO-8859-1", "open -u dock,pass ftp://" + n.addr, "mput lftp*"}, "\n"))
	require.NoError(t, err, out)
	n.requireFile(t, "lftp \xff\xfe.csv", noise(1000))
}
