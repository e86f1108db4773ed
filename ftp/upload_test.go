package ftp

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

func TestBytesAreKept(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	for _, size := range []int{0, 1, 6, 4096, 65536, 65537, 300_000} {
		for _, kind := range []string{"I", "A"} {
			c.do(200, "TYPE %s", kind)
			name := fmt.Sprintf("%s%d", kind, size)
			c.store(name, noise(size))
			n.requireFile(t, name, noise(size))
			require.Equal(t, fmt.Sprint(size), c.do(213, "SIZE %s", name))
			require.Equal(t, string(noise(size)), c.fetch("RETR %s", name))
		}
	}
}

func TestStou(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	for _, command := range []string{"STOU", "STOU scan.pdf"} {
		data := c.passive()
		text := c.do(150, "%s", command)
		name, ok := strings.CutPrefix(text, "FILE: /")
		require.True(t, ok, text)
		_, err := data.Write([]byte("abc"))
		require.NoError(t, err)
		data.Close()
		c.expect(226)
		n.requireFile(t, name, []byte("abc"))
		require.Equal(t, strings.Contains(command, "pdf"), strings.HasSuffix(name, ".pdf"))
	}
}

// interrupt sends content and cuts the data connection so that the server sees it.
func (c *client) interrupt(command string, content []byte) {
	c.t.Helper()
	data := c.passive()
	c.do(150, "%s", command)
	_, err := data.Write(content)
	require.NoError(c.t, err)
	require.Eventually(c.t, func() bool {
		return strings.Contains(c.do(211, "STAT"), fmt.Sprintf("%s bytes so far", grouped(int64(len(content)))))
	}, patience, time.Millisecond)
	require.NoError(c.t, data.SetLinger(0)) // RST
	data.Close()
	c.expect(426)
}

func TestResume(t *testing.T) {
	content := noise(100_000)
	for name, resume := range map[string]func(c *client, size string){
		"REST and STOR": func(c *client, size string) {
			c.do(350, "REST %s", size)
			c.upload(226, "STOR x", content[59_999:])
		},
		"APPE":           func(c *client, size string) { c.upload(226, "APPE x", content[59_999:]) },
		"from the start": func(c *client, size string) { c.store("x", content) },
		"REST, other commands, STOR": func(c *client, size string) {
			c.do(350, "REST %s", size)
			c.do(200, "TYPE I")
			c.upload(226, "STOR x", content[59_999:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, nil)
			n.login(t).interrupt("STOR x", content[:60_000])
			n.requireNoFile(t, "x")
			require.Contains(t, n.log.String(), "level=WARN")
			c := n.login(t)
			size := c.do(213, "SIZE x")
			require.Equal(t, "59999", size, "a byte less than came: see drop")
			resume(c, size)
			n.requireFile(t, "x", content)
		})
	}
}

func TestRefusedUploads(t *testing.T) {
	n := start(t, func(_ *Options, d *drop.Options) { d.MaxSize = 1000; d.SpoolLimit = 1500 })
	c := n.login(t)
	c.do(350, "REST 10")
	require.Contains(t, c.refused(554, "STOR x"), "nothing to resume")
	require.Equal(t, "There is nothing to append to; use STOR.", c.refused(554, "APPE x"))
	c.do(257, "MKD dir")
	c.refused(550, "STOR dir")
	c.refused(553, "STOR "+strings.Repeat("n", 300))
	c.refused(550, "STOR nowhere/x")

	c.do(200, "ALLO 1001")
	require.Contains(t, c.refused(552, "STOR x"), "larger")
	c.store("x", noise(1000))
	c.do(200, "ALLO 600")
	require.Contains(t, c.refused(452, "STOR y"), "No space")

	data := c.passive() // what was not declared is seen when it comes
	c.do(150, "STOR y")
	data.Write(noise(1000))
	data.Close()
	c.expect(452)
	data = c.passive()
	c.do(150, "STOR x")
	data.Write(noise(1001))
	data.Close()
	code, _, _ := c.text.ReadResponse(0)
	require.Contains(t, []int{452, 552}, code)
	n.requireFile(t, "x", noise(1000))
	n.requireNoFile(t, "y")
}

func TestShorterThanDeclared(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	c.do(200, "ALLO 100")
	c.upload(426, "STOR x", noise(99))
	n.requireNoFile(t, "x")
	c.do(200, "ALLO 100")
	c.upload(226, "STOR x", noise(100))
	n.requireFile(t, "x", noise(100))
	c.upload(226, "STOR y", noise(5)) // ALLO is for one transfer
}

// TestALargerDeclaration: ALLO only reserves. The first short upload is refused, since it may be a broken one; the same again is whole, and the client is known
// from then on.
func TestALargerDeclaration(t *testing.T) {
	for name, again := range map[string]func(c *client, code int){
		"STOR": func(c *client, code int) { c.upload(code, "STOR x", noise(99)) },
		"REST": func(c *client, code int) { c.do(350, "REST 99"); c.upload(code, "STOR x", nil) },
		"APPE": func(c *client, code int) { c.upload(code, "APPE x", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, func(_ *Options, d *drop.Options) { d.MaxSize = 1000 })
			c := n.login(t)
			const known = "declares more than its files have"
			c.do(200, "ALLO 512")
			require.Contains(t, c.upload(426, "STOR x", noise(99)), "shorter than declared")
			c.do(200, "ALLO 512")
			c.upload(426, "STOR y", noise(99)) // another file says nothing of this one
			n.requireNoFile(t, "x")
			require.Contains(t, n.log.String(), "ALLO declared 512 bytes, and 99 came")
			require.NotContains(t, n.log.String(), known)
			c = n.login(t)
			c.do(200, "ALLO 512")
			again(c, 226)
			n.requireFile(t, "x", noise(99))
			require.Contains(t, n.log.String(), known)
			c = n.login(t)
			c.do(200, "ALLO 5000") // also more than would be taken
			c.upload(226, "STOR z", noise(100))
			n.requireFile(t, "z", noise(100))
			require.Equal(t, 1, strings.Count(n.log.String(), known))

			other := n.dial(t)
			other.expect(220)
			other.login("blind", "pass")
			other.do(200, "ALLO 512")
			other.upload(426, "STOR z", noise(100))
		})
	}
	// Broken uploads differ: where they end, or what they hold.
	n := start(t, nil)
	c := n.login(t)
	for _, content := range [][]byte{noise(99), noise(98), make([]byte, 98), noise(97)} {
		c.do(200, "ALLO 512")
		c.upload(426, "STOR x", content)
		n.requireNoFile(t, "x")
	}
	c.do(200, "ALLO 512")
	c.do(350, "REST 97")
	c.upload(426, "STOR x", []byte("a piece more"))
	c.do(200, "ALLO 512")
	c.do(350, "REST 97")
	c.upload(226, "STOR x", noise(512)[97:])
	n.requireFile(t, "x", noise(512))
}

// TestDeclaredSizeAndReset: what has the very size that was declared is whole, also if its connection ends in a RST, or not at all.
func TestDeclaredSizeAndReset(t *testing.T) {
	for name, end := range map[string]func(data *net.TCPConn){
		"reset": func(data *net.TCPConn) { data.SetLinger(0); data.Close() },
		"open":  func(*net.TCPConn) {},
	} {
		for size, code := range map[int]int{1000: 226, 999: 426, 1001: 426} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				n := start(t, func(o *Options, _ *drop.Options) { o.StallTimeout = 500 * time.Millisecond })
				c := n.login(t)
				c.do(200, "ALLO 1000")
				data := c.passive()
				c.do(150, "STOR x")
				_, err := data.Write(noise(size))
				require.NoError(t, err)
				require.Eventually(t, func() bool {
					return strings.Contains(c.do(211, "STAT"), fmt.Sprintf("%s bytes so far", grouped(int64(size))))
				}, patience, time.Millisecond)
				end(data)
				c.expect(code)
				if code == 226 {
					n.requireFile(t, "x", noise(size))
				} else {
					n.requireNoFile(t, "x")
				}
			})
		}
	}
	// With REST what was declared may be the rest only.
	n := start(t, nil)
	c := n.login(t)
	c.interrupt("STOR x", noise(20))
	c.do(200, "ALLO 80")
	c.do(350, "REST 20")
	data := c.passive()
	c.do(150, "STOR x")
	_, err := data.Write(noise(80)[20:])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(c.do(211, "STAT"), "60 bytes so far") }, patience, time.Millisecond)
	require.NoError(t, data.SetLinger(0))
	data.Close()
	c.expect(426)
}

func TestAbort(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	for _, abort := range []string{"ABOR", "\xff\xf4\xff\xf2ABOR", "\xf2ABOR", "\xff\xfd\x06ABOR"} {
		data := c.passive()
		c.do(150, "STOR x")
		_, err := data.Write(noise(1000))
		require.NoError(t, err)
		c.send("%s", abort)
		c.expect(426)
		c.expect(226)
		n.requireNoFile(t, "x")
	}
	// One that comes when the file is complete finds it kept: both replies say so.
	c.do(200, "ALLO 3")
	data := c.passive()
	c.do(150, "STOR y")
	_, err := data.Write([]byte("abc"))
	require.NoError(t, err)
	data.Close()
	c.send("ABOR")
	code, _, err := c.text.ReadResponse(0)
	require.NoError(t, err)
	c.expect(226)
	if code == 226 {
		n.requireFile(t, "y", []byte("abc"))
	} else {
		require.Equal(t, 426, code)
		n.requireNoFile(t, "y")
	}
	// And while the data connection is awaited.
	c.do(229, "EPSV")
	c.send("STOR z")
	c.send("ABOR")
	code, _, err = c.text.ReadResponse(0)
	if err == nil && code == 150 {
		code, _, err = c.text.ReadResponse(0)
	}
	require.NoError(t, err)
	require.Equal(t, 426, code)
	c.expect(226)
	c.store("z", []byte("z"))
	n.requireFile(t, "z", []byte("z"))
}

// TestHangUps holds the ways in which the control connection can end around an upload.
func TestHangUps(t *testing.T) {
	hangUp := map[string]func(c *client){
		"close":      func(c *client) { c.conn.Close() },
		"half close": func(c *client) { c.conn.(*net.TCPConn).CloseWrite() },
		"reset":      func(c *client) { c.conn.(*net.TCPConn).SetLinger(0); c.conn.Close() },
		"quit and close": func(c *client) {
			c.send("QUIT")
			c.conn.Close()
		},
	}
	for name, end := range hangUp {
		for _, first := range []string{"control", "data"} {
			for _, trust := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s first, trust %v", name, first, trust), func(t *testing.T) {
					if trust && name == "reset" && first == "control" {
						first = "data" // the order makes no difference that a device could rely on
					}
					n := start(t, func(o *Options, _ *drop.Options) {
						if first == "control" {
							o.TrustHangups = trust
						} else {
							o.Users[0].TrustHangups = trust
						}
					})
					c := n.login(t)
					data := c.passive()
					c.do(150, "STOR x")
					_, err := data.Write(noise(70_000))
					require.NoError(t, err)
					if first == "control" {
						end(c)
						data.Close()
					} else {
						data.Close()
						end(c)
					}
					eventually(t, func() bool { return n.sessionCount() == 0 }, "the session ends")
					if trust {
						n.requireFile(t, "x", noise(70_000))
					} else if first == "control" {
						n.requireInterrupted(t, "x", 70_000)
						require.Contains(t, n.log.String(), "without waiting for the reply")
						c := n.login(t)
						require.Equal(t, "69999", c.do(213, "SIZE x"), "all of it came, and it is not taken for accepted")
						c.do(350, "REST 69999")
						c.upload(226, "STOR x", noise(70_000)[69_999:])
						n.requireFile(t, "x", noise(70_000))
					} else if name != "half close" && name != "quit and close" { // which may have come behind the reply, in good order
						require.False(t, n.sent(t, "x"))
					}
				})
			}
		}
	}
}

// complete is how many uploads TestHangUpAfterTheReplyIsFine makes; CI asks for more.
var complete = flag.Int("complete", 20, "how many complete uploads to make that must raise no alarm")

func TestHangUpAfterTheReplyIsFine(t *testing.T) {
	n := start(t, nil)
	for i := range *complete {
		c := n.login(t)
		name := fmt.Sprint("f", i%100)
		c.store(name, noise(i%100*1000))
		require.NoError(t, c.conn.Close())
		n.requireFile(t, name, noise(i%100*1000))
	}
}

func TestDeclaredSizeOutlivesTheClient(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	c.do(200, "ALLO 1000")
	data := c.passive()
	c.do(150, "STOR x")
	_, err := data.Write(noise(1000))
	require.NoError(t, err)
	data.Close()
	c.conn.Close()
	eventually(t, func() bool { return n.sessionCount() == 0 }, "the session ends")
	n.requireFile(t, "x", noise(1000))
}

// It lives as long as it sends anything within the limits: here it takes longer than both, and the limits
// are long enough for a machine that pauses.
func TestSlowUploadIsNotCutOff(t *testing.T) {
	t.Parallel()
	const limit = 3 * time.Second
	n := start(t, func(o *Options, _ *drop.Options) { o.StallTimeout = limit; o.IdleTimeout = limit })
	slow := n.login(t)
	data := slow.passive()
	slow.do(150, "STOR slow")
	var sent bytes.Buffer
	tick := time.NewTicker(limit / 10)
	defer tick.Stop()
	for range 13 {
		<-tick.C
		_, err := data.Write([]byte{byte(sent.Len())})
		require.NoError(t, err)
		sent.WriteByte(byte(sent.Len()))
	}
	data.Close()
	slow.expect(226)
	n.requireFile(t, "slow", sent.Bytes())
}

func TestStall(t *testing.T) {
	const stall = 300 * time.Millisecond
	n := start(t, func(o *Options, _ *drop.Options) { o.StallTimeout = stall; o.IdleTimeout = stall })
	stalled := n.login(t)
	data := stalled.passive()
	stalled.do(150, "STOR stalled")
	_, err := data.Write([]byte("some"))
	require.NoError(t, err)
	require.Contains(t, stalled.expect(426), "nothing came for 300ms")
	n.requireNoFile(t, "stalled")

	absent := n.login(t)
	absent.do(229, "EPSV")
	absent.do(150, "STOR absent")
	require.Contains(t, absent.expect(425), "passive ports")
	require.Contains(t, n.log.String(), "no data connection came: the passive port does not get through")
	eventually(t, func() bool { // the file is closed behind the reply
		return strings.Contains(n.log.String(), `name=absent bytes=0 remote=127.0.0.1 error="no data connection came"`)
	}, "the reason is told")
	require.Contains(t, absent.expect(421), "idle for 300ms")
	absent.requireClosed()
}
