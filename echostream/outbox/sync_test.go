//go:build proofs

package outbox

import (
	"testing"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// Each sync is needed, and so is its place before the rename or unlink that follows it. It takes a minute.
func TestEverySync(t *testing.T) {
	const recovery = "TestRecoveryMakesDurableWhatItReliesOn shows it: it takes a kill and then a power cut"
	opts := disktest.Options{Seeds: 8, Setup: twoNames, Harmless: map[string]string{
		"without sync in outbox.(*recovery).repair":                                                                                recovery,
		"without syncdir in outbox.(*recovery).repair":                                                                             recovery,
		"unlink in outbox.(*recovery).repair ahead of syncdir in outbox.(*recovery).repair":                                        "a temporary file",
		"rename in outbox.(*Outbox).storeAside via disk.WriteFile ahead of sync in outbox.(*Outbox).storeAside via disk.WriteFile": "the record is written again while the file stands in outbox/",
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*recovery).repair":                                         "nothing lives in what is removed",
		"without syncdir in outbox.(*world).first via disk.MkdirAll":                                                               "it is the test's own",
		"without syncdir in outbox.(*world).live via disk.MkdirAll":                                                                "it is the test's own",
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
