//go:build proofs

package main

import (
	"testing"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// Each sync is needed. What the proofs of ftp/drop and of the outbox show, with less around it, is not shown again. But each place that syncs is named
// here or is seen to be needed: a new one that nobody has proved is an error. Which rename or unlink stands next to a sync is chance here; the outbox's
// proof moves its own.
func TestEverySync(t *testing.T) {
	opts := crashOptions()
	opts.Seeds, opts.Unmoved = 1, true
	setup := opts.Setup
	opts.Setup = func(fsys *disktest.FS) {
		setup(fsys)
		fsys.SetTwoNames(false) // what takes two names to be seen, the outbox's own proof shows
	}
	const (
		ofDrop     = "TestEverySyncIsNeeded of ftp/drop"
		ofOutbox   = "TestEverySync of the outbox"
		inRecovery = "TestRecoveryMakesDurableWhatItReliesOn of the outbox: it takes a kill and then a power cut at one moment"
	)
	opts.Elsewhere = map[string]string{
		"without sync in drop.(*part).sync":                                 ofDrop,
		"without syncdir in drop.(*Session).mkdir":                          ofDrop,
		"without syncdir in drop.(*part).syncReopened":                      ofDrop,
		"without syncdir in drop.(*uploads).removeKept":                     ofDrop,
		"without sync in outbox.(*recovery).repair":                         inRecovery,
		"without syncdir in outbox.(*recovery).repair":                      inRecovery,
		"without syncdir in outbox.(*recovery).syncDirs":                    ofOutbox,
		"without syncdir in outbox.(*journal).create":                       ofOutbox, // here a rename, with its sync of outbox/, comes before any other line
		"without syncdir in outbox.(*Outbox).storeAside":                    ofOutbox,
		"without syncdir in outbox.(*Outbox).storeAside via disk.WriteFile": ofOutbox,
		"without syncdir in outbox.(*Outbox).syncSources":                   ofOutbox + ", with two names",
	}
	const remade = "it is made again at the next start, and what was acknowledged is in outbox/"
	opts.Harmless = map[string]string{
		"without syncdir in drop.(*Drop).User via disk.MkdirAll":         remade,
		"without syncdir in drop.Open via disk.MkdirAll":                 remade,
		"without syncdir in outbox.(*recovery).repair via disk.MkdirAll": "drop.Open syncs the top of the volume again, before a file can come",
	}
	disktest.InOrder(t, func(t *testing.T) {
		disktest.EverySync(t, opts, func() disktest.Scenario { return newWorld().scenario() })
	})
}
