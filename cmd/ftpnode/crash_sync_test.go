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
	const (
		unrelated = "two different things"
		ownOutbox = "the outbox's own proof shows it"
		ownDrop   = "ftp/drop's own proof shows it"
		inOutbox  = "TestRecoveryMakesDurableWhatItReliesOn of the outbox shows it; it takes a kill and then a power cut at one moment"
	)
	opts.Harmless = map[string]string{
		"rename in drop.(*Drop).keep ahead of sync in drop.(*Upload).sync": ownDrop,
		"without sync in drop.(*Upload).sync":                              ownDrop,
		"without sync in drop.(*Drop).syncFile":                            "it is for files of other programs; " + ownDrop,
		"without sync in drop.(*Upload).syncSoFar":                         "Commit syncs again; this one only saves time",
		"without syncdir in drop.(*Drop).User via disk.MkdirAll":           "Commit syncs it again; this is for other programs, which may sync only what they put there",
		"without syncdir in drop.Open via disk.MkdirAll":                   "User syncs drop again, and what is lost with partial was not acknowledged",
		"without sync in outbox.(*recovery).repair":                        inOutbox,
		"without syncdir in outbox.(*recovery).repair via disk.MkdirAll":   "drop.Open syncs the top of the volume again, before a file can come",
		"without syncdir in outbox.(*Outbox).storeAside":                   "until the journal forgets the entry it is set aside again: see the unlink of journal.remove ahead of it",
		"rename in outbox.(*Outbox).storeAside via disk.WriteFile ahead of sync in outbox.(*Outbox).storeAside via disk.WriteFile": "the record is written again while the file stands in outbox/",
		"rename in drop.(*Session).resume ahead of syncdir in drop.(*Drop).User via disk.MkdirAll":                                 unrelated,
		"unlink in drop.(*Drop).clearOpen ahead of syncdir in drop.Open via disk.MkdirAll":                                         unrelated,
		"unlink in drop.(*Drop).remove ahead of syncdir in drop.(*dirSyncs).sync":                                                  "the deleted file need not be durable before",
		"unlink in drop.(*Drop).removeKept ahead of syncdir in drop.(*Drop).User via disk.MkdirAll":                                unrelated,
		"unlink in drop.(*Drop).removeKept ahead of syncdir in drop.Open via disk.MkdirAll":                                        unrelated,
		"unlink in outbox.(*Outbox).removeDelivered ahead of syncdir in drop.(*Drop).User via disk.MkdirAll":                       unrelated,
		"unlink in outbox.(*Outbox).removeDelivered ahead of syncdir in outbox.(*Outbox).storeAside":                               "two entries",
		"unlink in outbox.(*Outbox).removeDelivered ahead of syncdir in outbox.(*Outbox).syncArrivals":                             "two entries: one that leaves, one that comes",
		"unlink in outbox.(*journal).remove ahead of sync in outbox.(*journal).write":                                              ownOutbox,
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*Outbox).storeAside":                                       ownOutbox,
		"unlink in outbox.(*Outbox).removeDelivered ahead of sync in outbox.(*journal).write":                                      ownOutbox,
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*Outbox).syncArrivals":                                     "it only lets a removed file come back, with its id; the entry is sent again, as one that SQS knows",
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*recovery).repair":                                         "nothing lives in what is removed",
		"unlink in outbox.(*recovery).repair ahead of syncdir in outbox.(*recovery).repair":                                        "a temporary file",
	}
	disktest.InOrder(t, func(t *testing.T) {
		disktest.EverySync(t, opts, func() disktest.Scenario { return newWorld().scenario() })
	})
}
