//go:build proofs

package outbox

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// Each sync is needed, and so is its place before the rename or unlink that follows it. It takes a minute.
func TestEverySync(t *testing.T) {
	const (
		killed    = "TestRecoveryMakesDurableWhatItReliesOn shows it: it takes a kill and then a power cut"
		withdrawn = "TestKilledWithdrawalsAreDurableAfterOpen shows it: it takes a second segment"
		own       = "it is the test's own"
		temp      = "a temporary file, or a record in failed/ of a file that still stands in outbox/: the next Open does both again"
		dead      = "nothing lives in what is removed; what was withdrawn: " + withdrawn
	)
	opts := disktest.Options{Seeds: 8, Setup: twoNames, Harmless: map[string]string{
		"without sync in outbox.(*recovery).repair":                                                                                killed,
		"without syncdir in outbox.(*recovery).repair":                                                                             killed,
		"without sync in outbox.(*reserve).make":                                                                                   "it is for the room, not for the bytes",
		"without syncdir in outbox.(*world).first via disk.MkdirAll":                                                               own,
		"without syncdir in outbox.(*world).live via disk.MkdirAll":                                                                own,
		"without syncdir in outbox.(*owner).open via disk.MkdirAll":                                                                own,
		"without syncdir in outbox.(*owner).work via disk.MkdirAll":                                                                own,
		"without syncdir in outbox.replaces.func1 via disk.MkdirAll":                                                               own,
		"without syncdir in outbox.single.func1 via disk.MkdirAll":                                                                 own,
		"rename in outbox.(*Outbox).storeAside via disk.WriteFile ahead of sync in outbox.(*Outbox).storeAside via disk.WriteFile": "the record is written again while the file stands in outbox/",
		"unlink in outbox.(*recovery).repair ahead of syncdir in outbox.(*recovery).syncDirs":                                      temp,
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*recovery).repair":                                         dead,
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*recovery).syncDirs":                                       dead,
		"rename in outbox.(*Outbox).rename ahead of syncdir in outbox.(*recovery).repair":                                          "the first is of a folder's Move, the second of outbox/",
		"unlink in outbox.(*Outbox).moveBack ahead of syncdir in outbox.(*recovery).syncDirs":                                      "what has a name at its target, too, was moved there, and syncSources comes before that",
		"unlink in outbox.(*Outbox).removeFile ahead of syncdir in outbox.(*recovery).repair":                                      "where a file is new to outbox/, syncDirs comes between; and a removal that comes undone is made again",
		"unlink in outbox.(*Outbox).removeFile ahead of syncdir in outbox.(*Outbox).storeAside":                                    "two entries: one is set aside, another removed",
		"unlink in outbox.(*recovery).removeSecond ahead of syncdir in outbox.(*recovery).repair":                                  "a file has two names only after a power cut, which has left both: the one in outbox/ is durable",
	}}
	disktest.InOrder(t, func(t *testing.T) {
		disktest.EverySync(t, opts, crashScenario, func() disktest.Scenario { return quietWorld().scenario() }, ownerScenario,
			func() disktest.Scenario { return replaces(false) }, func() disktest.Scenario { return replaces(true) }, single)
	})
}

// So are those of Retry and Discard.
func TestEverySyncOfDecisions(t *testing.T) {
	const elsewhere = "it is none of Retry and Discard: TestEverySync is about it"
	opts := disktest.Options{Seeds: 8, Setup: twoNames, Harmless: map[string]string{
		"rename in outbox.(*Outbox).storeAside via disk.WriteFile ahead of sync in outbox.(*Outbox).storeAside via disk.WriteFile": elsewhere,
		"unlink in outbox.(*Outbox).removeFile ahead of syncdir in outbox.(*Outbox).storeAside":                                    elsewhere,
		"unlink in outbox.(*Outbox).discardFailed ahead of syncdir in outbox.(*recovery).repair":                                   "the first is in failed/, the second of outbox/",
		"unlink in outbox.(*journal).remove ahead of syncdir in outbox.(*recovery).repair":                                         elsewhere,
		"unlink in outbox.(*recovery).removeSecond ahead of syncdir in outbox.(*recovery).repair":                                  elsewhere,
		"unlink in outbox.(*recovery).repair ahead of syncdir in outbox.(*recovery).syncDirs":                                      elsewhere,
		"without sync in outbox.(*recovery).repair":                                                                                elsewhere,
		"without sync in outbox.writeFile via disk.Commit":                                                                         elsewhere,
		"without syncdir in outbox.(*Outbox).storeAside":                                                                           elsewhere,
		"without syncdir in outbox.(*decided).live via disk.MkdirAll":                                                              elsewhere,
		"without syncdir in outbox.(*recovery).repair":                                                                             elsewhere,
		"without syncdir in outbox.(*recovery).repair via disk.MkdirAll":                                                           elsewhere,
		"without syncdir in outbox.writeFile via disk.Commit":                                                                      elsewhere,
	}}
	disktest.InOrder(t, func(t *testing.T) { disktest.EverySync(t, opts, decisions) })
}

// quietWorld is one in which all goes well at once.
func quietWorld() *world {
	w := newWorld()
	w.bDown, w.noAudit = 0, 0
	return w
}

// single is a life that puts one file and delivers it, without a line of the journal in between.
func single() disktest.Scenario {
	reached := newCloud("t")
	put := false
	live := func(fsys *disktest.FS, work func(o *Outbox) error) error {
		if err := disk.MkdirAll(fsys, "drop", 0o700); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		fsys.OnCut(cancel)
		o, err := Open(Options{FS: fsys, Deliverer: reached, Reserve: -1, MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond})
		if err != nil {
			return err
		}
		err = work(o)
		done := make(chan error, 1)
		go func() { done <- o.Run(ctx) }()
		for err == nil && o.Stats().Entries > 0 && ctx.Err() == nil {
			time.Sleep(20 * time.Microsecond)
		}
		cancel()
		return errors.Join(err, <-done, o.Close())
	}
	return disktest.Scenario{
		Run: func(fsys *disktest.FS) error {
			return live(fsys, func(o *Outbox) error {
				if err := writeFile(fsys, "drop/x", "x"); err != nil {
					return err
				}
				_, errs := o.Put(context.Background(), []Item{{Path: "drop/x", Name: "x"}})
				put = errs[0] == nil
				return errs[0]
			})
		},
		Recover: func(fsys *disktest.FS) error { return live(fsys, func(*Outbox) error { return nil }) },
		Check: func(fsys *disktest.FS) error {
			sent := len(reached.got("t")) > 0
			if _, left := fsys.Files()["drop/x"]; put && !sent || sent && left {
				return fmt.Errorf("put %t, delivered %t, left %t", put, sent, left)
			}
			return nil
		},
	}
}
