//go:build proofs

package main

import (
	"testing"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// Each sync is needed, and so is its place before the rename or unlink that follows it.
func TestEverySync(t *testing.T) {
	opts := crashOptions()
	opts.Seeds = 1
	setup := opts.Setup
	opts.Setup = func(fsys *disktest.FS) {
		setup(fsys)
		fsys.SetTwoNames(false) // what takes two names to be seen, the outbox's own proof shows
	}
	const (
		ownOutbox  = "the outbox's own proof shows it"
		ownDrop    = "ftp/drop's own proof shows it"
		inRecovery = "TestRecoveryMakesDurableWhatItReliesOn of the outbox shows it; it takes a kill and then a power cut at one moment"
		remade     = "it is made again at the next start, and what was acknowledged is in outbox/"
		apart      = "two things: what an earlier life left, and a directory of this one"
	)
	opts.Harmless = map[string]string{
		"without sync in drop.(*Upload).Sync":                            "Put syncs again; this one only saves time",
		"without sync in drop.(*Upload).sync":                            ownDrop,
		"without syncdir in drop.(*Session).mkdir":                       ownDrop,
		"without syncdir in drop.(*Upload).resume":                       ownDrop,
		"without syncdir in drop.(*uploads).void":                        ownDrop,
		"without syncdir in drop.(*Drop).User via disk.MkdirAll":         remade,
		"without syncdir in drop.Open via disk.MkdirAll":                 remade,
		"without sync in outbox.(*recovery).repair":                      inRecovery,
		"without syncdir in outbox.(*recovery).repair":                   inRecovery,
		"without syncdir in outbox.(*recovery).repair via disk.MkdirAll": "drop.Open syncs the top of the volume again, before a file can come",
		"without syncdir in outbox.(*recovery).removeFound":              "the next Open removes it again as long as the record stands",
		"without syncdir in outbox.(*Outbox).storeAside":                 ownOutbox,
		"without syncdir in outbox.(*Outbox).syncSources":                ownOutbox + ", with two names",
		"rename in outbox.(*Outbox).storeAside via disk.WriteFile ahead of sync in outbox.(*Outbox).storeAside via disk.WriteFile": "the record is written again while the file stands in outbox/",
		"rename in drop.(*uploads).keep ahead of sync in drop.(*Upload).sync":                                                      "ftp/drop's own proof shows that the sync is needed",
		"rename in drop.(*Upload).resume ahead of syncdir in drop.(*Drop).User via disk.MkdirAll":                                  apart,
		"unlink in drop.(*uploads).clear ahead of syncdir in drop.Open via disk.MkdirAll":                                          apart,
		"unlink in drop.(*uploads).removeKept ahead of syncdir in drop.(*Drop).User via disk.MkdirAll":                             apart,
		"unlink in drop.(*uploads).removeKept ahead of syncdir in drop.Open via disk.MkdirAll":                                     apart,
		"unlink in outbox.(*Outbox).removeFile ahead of syncdir in outbox.(*Outbox).syncSources":                                   ownOutbox + ", with two names",
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.Open.func1":                                                 ownOutbox,
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*recovery).repair":                                         "nothing lives in what is removed",
		"unlink in outbox.(*recovery).repair ahead of syncdir in outbox.(*recovery).repair":                                        "a temporary file",
	}
	disktest.InOrder(t, func(t *testing.T) {
		disktest.EverySync(t, opts, func() disktest.Scenario { return newWorld().scenario() })
	})
}
