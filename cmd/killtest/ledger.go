package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// file is a content that a client tried to upload, and what may come of it. No two have the same content.
type file struct {
	what   string   // for people: who did what
	names  []string // one of these must it have when it arrives
	size   int64
	sha256 string

	// wholes is how many uploads of it may have been finished: those with a 226, and those that were sent whole and whose
	// reply was not read. An upload that was refused, or of which a piece was sent, is none of them.
	wholes int
	// pieces of content may have been uploaded, too, since the client ended that many uploads by itself and lived on: see noteShortened and dies.
	content []byte
	pieces  int
	// Its client died after so many bytes of it, as far as it knows at this time. A node that is ended in that very moment, before it
	// could take the piece back, does not know afterwards that nobody has read the 226.
	cut  int
	died time.Time
	// late: it was answered 451 although it was sent whole: it may be delivered all the same, and an upload that comes after that joins it.
	late  bool
	acked bool // its 226 was read (and that of its renaming, if it was uploaded under a temporary name)
	// once is how often it may arrive, if that is not wholes: it was published by one rename, or deleted.
	once *int
	// It was finished between from and to. Zero if that is not known.
	from, to time.Time
	// leftover are names under which something of it may stay on the volume, since its client gave up.
	leftover []string
}

// dies notes that its client has died, as r tells. One that lived on with its data ended has uploaded what it sent: no node can tell.
func (f *file) dies(r result) {
	f.died = r.from
	if r.lived {
		f.pieces++
	}
}

// most is how often it may arrive, under different tracking ids.
func (f *file) most() int {
	most := f.wholes
	if f.late {
		most = max(most, 1)
	}
	if f.once != nil {
		return min(*f.once, most)
	}
	return most
}

func (f *file) String() string {
	return fmt.Sprintf("%s: %q, %d bytes, sha256 %.12s", f.what, f.names, f.size, f.sha256)
}

// content makes the bytes of a file: the first line says whose they are, so that no two are the same.
func content(what string, size int, r *rand.Rand) []byte {
	b := append(make([]byte, 0, size+64), what+"\n"...)
	if r.IntN(2) == 0 { // compresses well
		for len(b) < size {
			b = fmt.Appendf(b, "%d;%d;measured\r\n", len(b), r.IntN(100))
		}
		return b
	}
	for len(b) < size {
		v := r.Uint64()
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
	}
	return b
}

// ledger is all that clients did.
type ledger struct {
	mu         sync.Mutex
	files      []*file
	violations []string // seen by the clients themselves
}

// add notes a file before anything of it is sent. Only its client changes it, until it has ended.
func (l *ledger) add(f *file, content []byte) *file {
	f.size, f.sha256 = int64(len(content)), sumOf(content)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, f)
	return f
}

func (l *ledger) violate(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.violations = append(l.violations, fmt.Sprintf(format, args...))
}

// started counts the files so far.
func (l *ledger) started() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.files)
}

func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
