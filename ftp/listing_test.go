package ftp

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// A listing is in memory until its client has read it: long ones wait for each other, and nobody else waits for them.
func TestLongListingsTakeTurns(t *testing.T) {
	const files = longListing + 1
	n := start(t, func(_ *Options, d *drop.Options) {
		require.NoError(t, disk.MkdirAll(d.FS, "drop/dock", 0o750))
		for i := range files {
			f, err := d.FS.OpenFile(fmt.Sprint("drop/dock/", i), os.O_CREATE|os.O_WRONLY, 0o640)
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
	})
	for range maxListings {
		n.listings <- struct{}{}
	}
	gone := n.login(t)
	gone.passive()
	gone.send("NLST")
	require.NoError(t, gone.conn.Close())

	waits := n.login(t)
	answer := make(chan string, 1)
	go func() { answer <- waits.fetch("NLST") }()
	other := n.dial(t)
	other.expect(220)
	other.do(331, "USER blind")
	other.do(230, "PASS pass")
	require.Empty(t, other.fetch("NLST"))
	eventually(t, func() bool { return n.sessionCount() == 2 }, "one hung up, and waits no more")
	require.Empty(t, answer)

	<-n.listings
	require.Equal(t, files, strings.Count(<-answer, "\n"))
	eventually(t, func() bool { return len(n.listings) == maxListings-1 }, "its turn is over")
}
