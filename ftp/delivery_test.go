package ftp

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// mover takes files away as a queue does, to the top of the volume.
type mover struct {
	noTaker
	dir   *string
	taken chan string
}

func (m *mover) Take(_ context.Context, files []drop.File) (ids []string, errs []error) {
	for _, f := range files {
		ids = append(ids, f.Name)
		errs = append(errs, os.Rename(filepath.Join(*m.dir, f.Path), filepath.Join(*m.dir, "taken-"+f.Name)))
		m.taken <- f.Name
	}
	return ids, errs
}

// TestAskingAfterDelivery: clients ask about an upload and set its time when it has gone already.
func TestAskingAfterDelivery(t *testing.T) {
	var dir string
	m := &mover{dir: &dir, taken: make(chan string, 10)}
	n := start(t, func(_ *Options, d *drop.Options) { d.Taker = m; d.Settle = time.Millisecond })
	dir = n.dir
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.drop.Run(ctx) }()
	defer func() { cancel(); require.NoError(t, <-ran) }()

	c := n.login(t)
	c.store("x.csv", []byte("12345"))
	require.Equal(t, "x.csv", <-m.taken)
	require.Contains(t, c.fetch("NLST"), "x.csv", "what still waits is listed")
	eventually(t, func() bool { n.drop.Gone("x.csv"); return c.fetch("NLST") == "" }, "what is delivered is not")
	require.Equal(t, "5", c.do(213, "SIZE x.csv"))
	c.do(213, "MDTM x.csv")
	c.do(213, "MFMT 20200102030405 x.csv")
	c.do(200, "SITE CHMOD 644 x.csv")
	c.do(200, "SITE UTIME 20200102030405 x.csv")
	require.Contains(t, c.do(250, "MLST x.csv"), "Size=5;")
	n.login(t).do(550, "SIZE x.csv")
	c.store("x.csv", []byte("again"))
	require.Equal(t, "x.csv", <-m.taken)
}
