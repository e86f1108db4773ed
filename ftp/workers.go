package ftp

import "time"

// workerPause is how long a goroutine waits for its next transfer.
const workerPause = time.Second

// workers run transfers in goroutines. One that has run a transfer waits for a moment for the next, of any session: a new one would have
// to make its stack large enough again, in several steps, which for a small file costs as much as its data connection's accept.
type workers chan func()

func (w workers) run(transfer func()) {
	select {
	case w <- transfer:
	default:
		go w.work(transfer)
	}
}

func (w workers) work(transfer func()) {
	pause := time.NewTimer(workerPause)
	defer pause.Stop()
	for {
		transfer()
		transfer = nil // and what it refers to, the session, is not held
		pause.Reset(workerPause)
		select {
		case transfer = <-w:
		case <-pause.C:
			return
		}
	}
}
