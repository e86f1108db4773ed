//go:build proofs

package outbox

import (
	"testing"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// Each sync is needed, and so is its place before the rename or unlink that follows it. It takes a minute.
func TestEverySync(t *testing.T) {
	const recovery = "TestRecoveryMakesDurableWhatItReliesOn shows it: it takes a kill and then a power cut"
	const (
		own      = "it is the test's own"
		apart    = "two things: what an earlier life left, and what this one does away with"
		again    = "the next Open does it again as long as the record stands, which no crash of this small world outlives"
		again2   = "a failed/ that has the name again gets the same file once more: what this world sets aside is set aside again"
		forgiven = "TestEditWithMove and TestWithdrawIsDurable show it: it takes a kill, and then a power cut"
	)
	opts := disktest.Options{Seeds: 8, Setup: twoNames, Harmless: map[string]string{
		"without sync in outbox.(*recovery).repair":                                                                                recovery,
		"without syncdir in outbox.(*recovery).repair":                                                                             recovery,
		"without sync in outbox.(*reserve).make":                                                                                   "it is for the room, not for the bytes",
		"without syncdir in outbox.(*Outbox).moveBack":                                                                             again + "; TestWithdrawIsDurable shows it",
		"without syncdir in outbox.(*recovery).removeFound":                                                                        again,
		"without syncdir in outbox.(*recovery).syncDirs":                                                                           forgiven,
		"without syncdir in outbox.(*recovery).undoHalfway":                                                                        again2,
		"without syncdir in outbox.(*world).first via disk.MkdirAll":                                                               own,
		"without syncdir in outbox.(*world).live via disk.MkdirAll":                                                                own,
		"without syncdir in outbox.(*owner).open via disk.MkdirAll":                                                                own,
		"without syncdir in outbox.(*owner).work via disk.MkdirAll":                                                                own,
		"rename in outbox.(*Outbox).storeAside via disk.WriteFile ahead of sync in outbox.(*Outbox).storeAside via disk.WriteFile": "the record is written again while the file stands in outbox/",
		"unlink in outbox.(*recovery).repair ahead of syncdir in outbox.(*recovery).repair":                                        "a temporary file",
		"unlink in outbox.(*recovery).repair ahead of syncdir in outbox.(*recovery).undoHalfway":                                   "a temporary file",
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*recovery).repair":                                         "nothing lives in what is removed",
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*recovery).syncDirs":                                       "nothing lives in what is removed",
		"rename in outbox.(*Outbox).moveBack ahead of syncdir in outbox.(*Outbox).syncSources":                                     apart,
		"rename in outbox.(*Outbox).moveBack ahead of syncdir in outbox.(*recovery).syncDirs":                                      apart,
		"rename in outbox.(*Outbox).rename ahead of syncdir in outbox.(*recovery).repair":                                          apart,
		"unlink in outbox.(*Outbox).moveBack ahead of syncdir in outbox.(*recovery).repair":                                        apart,
		"unlink in outbox.(*Outbox).removeFile ahead of syncdir in outbox.(*Outbox).storeAside":                                    apart,
		"unlink in outbox.(*recovery).removeSecondNames ahead of syncdir in outbox.(*recovery).repair":                             apart,
		"unlink in outbox.(*recovery).undoHalfway ahead of syncdir in outbox.(*recovery).repair":                                   apart,
	}}
	disktest.InOrder(t, func(t *testing.T) {
		disktest.EverySync(t, opts, crashScenario, func() disktest.Scenario { return quietWorld().scenario() }, ownerScenario)
	})
}

// quietWorld is one in which all goes well at once.
func quietWorld() *world {
	w := newWorld()
	w.bDown, w.noAudit = 0, 0
	return w
}
