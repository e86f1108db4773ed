package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// tally counts what the cloud saw, for the summary at the end.
type tally struct {
	mu                   sync.Mutex
	messages, suppressed int
	identical, different int
	audited              int
	hits                 map[string]int // by fault
	faults               []string       // in the order in which they were given
}

func newTally(faults []echotest.Fault) *tally {
	t := &tally{hits: map[string]int{}}
	for _, f := range faults {
		t.faults = append(t.faults, f.String())
	}
	return t
}

func (t *tally) count(n *int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*n++
}

// hit counts a fault that hit a request, and reports whether to say so: the first three times, then at each power of ten.
func (t *tally) hit(f echotest.Fault) (hits int, say bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hits[f.String()]++
	hits = t.hits[f.String()]
	for n := hits; n >= 10 && n%10 == 0; n /= 10 {
		if n == 10 {
			return hits, true
		}
	}
	return hits, hits <= 3
}

// file counts a file that arrived. It is identical if its length and its hash are those that the node says it took.
func (t *tally) file(f echotest.File) (identical bool) {
	var metadata struct{ SHA256 string }
	_ = json.Unmarshal(f.Metadata, &metadata) // a message without is not known to be identical
	identical = f.Size == f.ContentLength && f.SHA256 == metadata.SHA256
	if identical {
		t.count(&t.identical)
	} else {
		t.count(&t.different)
	}
	return identical
}

// String is the summary.
func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "\nSummary: %d sent, %d arrived, %d suppressed as duplicates",
		t.messages+t.suppressed, t.messages, t.suppressed)
	if t.identical+t.different > 0 || t.messages == 0 { // else no message was a file
		fmt.Fprintf(&b, "; %d identical to what the node took", t.identical)
	}
	if t.different > 0 {
		fmt.Fprintf(&b, ", %d DIFFERENT", t.different)
	}
	if t.audited > 0 {
		fmt.Fprintf(&b, "; %d audited", t.audited)
	}
	b.WriteString(".\n")
	for _, f := range t.faults {
		fmt.Fprintf(&b, "Fault %s hit %d requests.\n", f, t.hits[f])
	}
	return b.String()
}
