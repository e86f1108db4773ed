package ftp

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// TestAskingAfterDelivery: clients ask about an upload and set its time when it has gone already.
func TestAskingAfterDelivery(t *testing.T) {
	n := start(t, func(o *Options, d *drop.Options) { o.Settle, d.Settle = time.Millisecond, time.Millisecond })
	c := n.login(t)
	c.store("x.csv", []byte("12345"))
	eventually(t, func() bool { e, _ := n.box.Lookup("dock/x.csv"); return e.Due }, "it is due")
	require.Contains(t, c.fetch("NLST"), "x.csv", "what still waits is listed")
	asked := func() {
		t.Helper()
		require.Equal(t, "5", c.do(213, "SIZE x.csv"))
		c.do(213, "MDTM x.csv")
		c.do(213, "MFMT 20200102030405 x.csv")
		c.do(213, "MFF Modify=20200102030405; x.csv")
		c.do(200, "SITE CHMOD 644 x.csv")
		c.do(200, "SITE UTIME 20200102030405 x.csv")
		require.Contains(t, c.do(250, "MLST x.csv"), "Size=5;")
		c.do(550, "DELE x.csv")
	}
	asked()
	c.do(350, "RNFR x.csv")
	c.do(550, "RNTO y.csv")
	c.refused(550, "APPE x.csv")
	c.do(350, "REST 3")
	c.refused(550, "STOR x.csv")

	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.box.Run(ctx) }()
	defer func() { cancel(); require.NoError(t, <-ran) }()
	require.Equal(t, "x.csv", <-n.got)
	eventually(t, func() bool { return c.fetch("NLST") == "" }, "what is delivered is not listed")
	asked()
	n.login(t).do(550, "SIZE x.csv")
	c.store("x.csv", []byte("again"))
	require.Equal(t, "x.csv", <-n.got)
}
