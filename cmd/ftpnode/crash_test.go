package main

import (
	"testing"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// The tests of this file are the proof of the promise for the node as a whole: from the client's bytes to EchoStream's
// acknowledgement, on one simulated volume, which is cut or fails at every operation. They try few mixtures;
//
//	go test ./cmd/ftpnode -run Every -crash.seeds=20
//
// tries more, with -tags proofs also each sync (TestEverySync, minutes). What a failure prints repeats it alone.

func TestEveryCrash(t *testing.T) {
	disktest.InOrder(t, func(t *testing.T) {
		opts := crashOptions()
		opts.MinOps = 200
		disktest.EveryCrash(t, opts, func() disktest.Scenario { return newWorld().scenario() })
	})
}

// A disk that fails for a while costs uploads, and nothing that was acknowledged; when it works again the node goes on by itself.
func TestEveryFault(t *testing.T) {
	disktest.InOrder(t, func(t *testing.T) {
		disktest.EveryFault(t, crashOptions(), func() disktest.Scenario {
			w := newWorld()
			w.faulty, w.retry, w.longest = true, 100*time.Millisecond, 5*time.Second
			return w.scenario()
		})
	})
}

func (w *world) scenario() disktest.Scenario {
	return disktest.Scenario{
		Run:     func(fsys *disktest.FS) error { return w.live(fsys, w.firstLife) },
		Recover: func(fsys *disktest.FS) error { return w.live(fsys, w.laterLife) },
		Check:   w.check,
	}
}

func crashOptions() disktest.Options {
	return disktest.Options{Seeds: 12, Setup: func(fsys *disktest.FS) { fsys.SetClock(time.Now) }}
}
