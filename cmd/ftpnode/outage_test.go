package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/outagetest"
	"github.com/ftpnode/ftpnode/internal/race"
)

const day = 24 * time.Hour

// dropBridge is the node but for the FTP server, and the session that uploads.
func dropBridge(t *testing.T) (_ outagetest.Bridge, session func() *drop.Session) {
	var current *drop.Session
	return outagetest.Bridge{
		Config:  `{"ftp": {"users": [{"name": "scanner", "password": "` + testPassword + `"}]}}`,
		Secrets: []string{testPassword},
		Run: func(ctx context.Context, opts node.Options, serving func(*node.Node, func(string, int64) error)) error {
			b := bridge()
			b.Address, b.Refuse = nil, nil
			b.Serve = func(ctx context.Context, n *node.Node, _ Config) error {
				incoming, err := drop.Open(drop.Options{FS: n.Volume, MinFree: -1, PartialExpiry: 3 * offlineDay(), Log: n.Log, Outbox: n.Outbox, Describe: describer("node")})
				require.NoError(t, err)
				user, err := incoming.User("scanner", "scanner")
				require.NoError(t, err)
				current = user.Session(netip.MustParseAddr("192.0.2.7"))
				serving(n, func(name string, size int64) error { return begin(t, current, name, size).Commit() })
				return incoming.Run(ctx)
			}
			return node.Run(ctx, b, opts)
		},
	}, func() *drop.Session { return current }
}

// begin uploads without coming to an end.
func begin(t *testing.T, s *drop.Session, name string, size int64) *drop.Upload {
	t.Helper()
	u, err := s.Create("/"+name, drop.Start{})
	require.NoError(t, err)
	_, err = io.Copy(u, outagetest.Pattern(size))
	require.NoError(t, err)
	return u
}

// interrupt has a client die in the middle of an upload.
func interrupt(t *testing.T, s *drop.Session, name string) {
	t.Helper()
	require.NoError(t, begin(t, s, name, 1000).Interrupt(errors.New("the client hung up")))
}

// offlineDay is a day of the three weeks. The race detector, which makes it all ten times as slow, sees in the first hours of each what it sees in all.
func offlineDay() time.Duration {
	if race.Enabled {
		return 2 * time.Hour
	}
	return day
}

// Three weeks offline: nothing grows but the files, the log stays readable, and all is delivered in order afterwards,
// though every token, credential and upload URL of before has expired, and in the end also the log-in's refresh token.
func TestThreeWeeksOffline(t *testing.T) {
	bridge, session := dropBridge(t)
	day := offlineDay()
	outagetest.Run(t, bridge, func(r *outagetest.Rig) {
		r.Upload("before.txt", 10)
		r.Upload("before.bin", 300_000) // with an upload URL left for the next one
		r.Pass(time.Minute)
		r.WantDelivered()
		goroutines := r.Goroutines()

		r.Network.Cut(true)
		for d := range 21 - 5 {
			r.Upload(fmt.Sprintf("day-%02d.csv", d), 100)
			interrupt(t, session(), fmt.Sprintf("day-%02d.part-of-it", d))
			r.Pass(day)
		}
		r.Pass(3 * day) // what was interrupted has expired
		r.WantOnlyWaiting()
		changes, before := r.Disk.Len(), r.Goroutines()
		r.Pass(2 * day)
		assert.Equal(t, changes, r.Disk.Len(), "the disk is left alone while nothing comes: %v", r.Disk.Ops()[changes:])
		r.WantGoroutines(before)
		r.Upload("last.bin", 200_000) // not earlier, as each try reads and packs it
		r.Pass(time.Hour)
		r.WantOnlyWaiting()
		r.WantFewLines()
		r.WantReminders(21 * day)
		assert.NotEmpty(t, r.Log.Find("[WARNING] EchoStream cannot be reached", "failures="), "repeated, with a count")

		r.Network.Cut(false)
		r.Pass(time.Hour)
		r.WantDelivered()
		r.WantGoroutines(goroutines)
		r.Log.Wait(t, "[INFO] EchoStream can be reached again", "failures=", "lasted=")
		r.Log.Wait(t, "[INFO] Sending works again", "failures=")
		r.WantFewLines()
	})
}
