package ftp

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// TestDefenceCounts fills a user's directory up to its bounds in files and directories, in all the ways there are.
func TestDefenceCounts(t *testing.T) {
	n := start(t, func(_ *Options, d *drop.Options) { d.MaxFiles, d.MaxDirs = 6, 3 })
	c := n.login(t)
	c.do(257, "MKD a")
	c.do(257, "MKD a/b")
	c.do(257, "MKD c")
	c.store("c/file", []byte("x"))
	c.store("a/b/file", []byte("x"))
	for _, dir := range []string{"d", "a/d", "a/b/d", "/d"} {
		require.Contains(t, c.do(452, "MKD %s", dir), "try again later")
	}
	for i := range 3 {
		c.store(fmt.Sprintf("a/b/file-%d", i), []byte("x"))
	}
	// An interrupted upload is a file as well.
	data := c.passive()
	c.do(200, "ALLO 1000")
	c.do(150, "STOR interrupted")
	_, err := data.Write([]byte("x"))
	require.NoError(t, err)
	data.Close()
	c.expect(426)
	for _, command := range []string{"STOR new", "STOR a/new", "APPE new", "STOU"} {
		require.Contains(t, c.refused(452, "%s", command), "try again later")
	}
	// What is there can be renamed and deleted; then there is room again.
	c.do(350, "RNFR a/b/file-0")
	c.do(250, "RNTO file-0")
	c.refused(452, "STOR new")
	c.do(250, "DELE file-0")
	c.store("new", []byte("x"))
	c.refused(452, "STOR newer")
	c.do(250, "DELE c/file")
	c.do(250, "CWD c")
	c.do(452, "MKD /d")
	c.do(250, "CWD /")
	c.do(257, "MKD d")
	c.do(550, "RMD c")
	c.do(250, "CWD d")
	c.do(452, "MKD /e")

	other := n.dial(t)
	other.expect(220)
	other.login("blind", "pass")
	other.do(257, "MKD a")
	other.store("x", []byte("x"))
	require.FileExists(t, n.stored("blind", "x"))
}

// TestDefenceCommandRate sends as many commands as the connection takes: they are slowed down, all are answered, and
// someone else does not wait for them.
func TestDefenceCommandRate(t *testing.T) {
	n := start(t, func(o *Options, d *drop.Options) { warnings(o, d) })
	flood, other := n.login(t), n.login(t)
	const commands = budgetBurst + 500
	go io.WriteString(flood.conn, strings.Repeat("NOOP\r\n", commands))
	for range 5 {
		flood.expect(200)
		other.store("x", noise(1000))
	}
	for range commands - 5 {
		flood.expect(200)
	}

	// The rate itself, in simulated time: a client that never pauses is made to.
	var b budget
	begin := time.Unix(1e9, 0)
	count := 0
	for now := begin; now.Sub(begin) < 10*time.Second; count++ {
		if !b.spend(now) {
			now = now.Add(budgetPause)
		}
	}
	require.InEpsilon(t, budgetBurst+10*budgetRate, count, 0.1)
}

// TestDefenceCommandLength sends commands of all lengths around the bound.
func TestDefenceCommandLength(t *testing.T) {
	n := start(t, nil)
	for _, length := range []int{255, 256, 1000, maxLine - len("STOR \r\n") - 1, maxLine - len("STOR \r\n")} {
		c := n.login(t)
		data := c.passive()
		c.send("STOR %s", strings.Repeat("x", length))
		code, _, _ := c.text.ReadResponse(0)
		if length <= 255 {
			require.Equal(t, 150, code)
			data.Close()
			c.expect(226)
		} else {
			require.Equal(t, 553, code, "%d bytes", length)
		}
		c.do(200, "NOOP")
	}
	c := n.login(t)
	c.send("STOR %s", strings.Repeat("x", maxLine))
	c.expect(500)
	c.requireClosed()

	before := measure(t)
	endless := n.login(t)
	go func() {
		for {
			if _, err := endless.conn.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
				return
			}
		}
	}()
	endless.expect(500)
	endless.conn.Close()
	eventually(t, func() bool { return measure(t).heap <= before.heap+4<<20 }, "what was sent is not kept")
}

// TestDefenceRefusedAuth holds that commands which come along with an AUTH that is refused are answered, too. (The fuzzer
// found that they were not.)
func TestDefenceRefusedAuth(t *testing.T) {
	for name, first := range map[string]string{"TLS is off": "AUTH TLS", "another": "AUTH KERBEROS_V5", "none": "AUTH", "control characters": "AUTH TLS\x01"} {
		t.Run(name, func(t *testing.T) {
			c := start(t, nil).dial(t)
			c.expect(220)
			c.send("%s\r\nNOOP\r\nAUTH X\r\nNOOP", first)
			for _, refusal := range []bool{true, false, true, false} {
				code, _, _ := c.text.ReadResponse(0)
				require.Equal(t, refusal, code >= 500, "%d", code)
			}
			c.login("dock", "pass")
		})
	}
	t.Run("TLS is on", func(t *testing.T) {
		c := start(t, withTLS(TLSOptional)).dial(t)
		c.expect(220)
		c.do(504, "AUTH KERBEROS_V5")
		c.do(501, "AUTH TLS\x01")
		c.login("dock", "pass")
	})
}

// TestDefenceDescriptors holds that nothing of a refused connection stays.
func TestDefenceDescriptors(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.MaxConnections = 1 })
	before := n.settled(t)
	c := n.login(t)
	for range 100 {
		conn, err := dialFrom("127.0.0.2", n.addr)
		require.NoError(t, err)
		all, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Regexp(t, `^421 [^\r\n]*\r\n$`, string(all))
		conn.Close()
	}
	c.do(221, "QUIT")
	c.conn.Close()
	eventually(t, func() bool { return n.sessionCount() == 0 }, "no session is left")
	requireFootprint(t, before)
	require.NoFileExists(t, n.stored("dock", "x"))
	_, err := os.Stat(n.dir)
	require.NoError(t, err)
}
