package ftp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// TestVerdictAfterALogOut: an upload's verdict may come when its client has logged out. It is told to the log of its session as it was (the race
// detector tells).
func TestVerdictAfterALogOut(t *testing.T) {
	n := start(t, func(o *Options, _ *drop.Options) { o.Settle = time.Nanosecond })
	c := n.login(t)
	for range 40 {
		data := c.passive()
		c.send("STOR x\r\nREIN")
		c.expect(150)
		_, err := data.Write(noise(10))
		require.NoError(t, err)
		require.NoError(t, data.Close())
		c.expect(226)
		c.expect(220)
		c.login("dock", "pass")
	}
	n.requireFile(t, "x", noise(10))
}

// TestAbortBeforeALogOut: so is an ABOR, which is answered while the commands in front of it are.
func TestAbortBeforeALogOut(t *testing.T) {
	n := start(t, nil)
	c := n.login(t)
	for range 200 {
		data := c.passive()
		c.send("STOR x\r\nREIN")
		c.expect(150)
		require.NoError(t, data.Close())
		c.send("ABOR\r\nUSER dock\r\nPASS pass")
		for code := 0; code != 230; {
			var err error
			code, _, err = c.text.ReadResponse(0)
			require.NoError(t, err)
		}
	}
}
