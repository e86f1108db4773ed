package main

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// dedupWindow is how long SQS recognises a message that it has.
const dedupWindow = 5 * time.Minute

// evidence is all that is known in the end.
type evidence struct {
	files    []*file
	edges    []string
	arrivals map[string][]arrival // by edge, in order
	audits   map[string][]echotest.AuditRecord
	overtook map[overtaking]bool
	ends     []time.Time // of the node: kills, or cuts of its power
}

// verdict is what follows from it.
type verdict struct {
	acknowledged, delivered int // files
	copies                  int // that came late enough to be allowed, on all edges
	duplicates, truncated   int // that must not have come
	pieces                  int // of files whose client and node died in one moment
	violations              []string
}

func (v *verdict) violate(format string, args ...any) {
	v.violations = append(v.violations, fmt.Sprintf(format, args...))
}

// verify compares what clients were told with what arrived.
func (e evidence) verify() *verdict {
	v := &verdict{}
	bySum := make(map[string]*file, len(e.files))
	for _, f := range e.files {
		bySum[f.sha256] = f
		if f.acked {
			v.acknowledged++
		}
	}
	for _, edge := range e.edges {
		for _, a := range e.arrivals[edge] {
			if bySum[a.sha256] != nil || a.err != nil {
				continue
			}
			f := e.piece(a)
			if f == nil {
				if f = e.diedTogether(a); f != nil {
					v.pieces++
				}
			}
			if f != nil {
				bySum[a.sha256] = f
				e.files = append(e.files, f)
			}
		}
	}
	ids := map[string]map[*file][]string{} // by edge
	for _, edge := range e.edges {
		ids[edge] = e.verifyEdge(v, edge, bySum)
	}
	for _, f := range e.files {
		first := sorted(ids[e.edges[0]][f])
		if len(first) > 0 {
			v.delivered++
		}
		for _, edge := range e.edges[1:] {
			if other := sorted(ids[edge][f]); !slices.Equal(first, other) {
				v.violate("tracking ids differ: %v has %v on %s and %v on %s", f, first, e.edges[0], other, edge)
			}
		}
	}
	e.verifyAudits(v, bySum, ids[e.edges[0]])
	return v
}

// piece is the upload of a piece of a file that arrived, if its client may have ended one there.
func (e evidence) piece(a arrival) *file {
	for _, f := range e.files {
		if f.pieces > 0 && a.size < f.size && slices.Contains(f.names, a.name) && a.sha256 == sumOf(f.content[:a.size]) {
			times := f.pieces // it may have ended all of them at the same place: lftp's is that of its buffer
			f.pieces--
			return &file{what: f.what + " that its client ended early itself", names: f.names, size: a.size, sha256: a.sha256, wholes: times}
		}
	}
	return nil
}

// atOnce is within what time a node takes back what a client that died has left, on a busy machine.
const atOnce = time.Second

// diedTogether is the upload of a piece that arrived since the node was ended before it could take it back.
func (e evidence) diedTogether(a arrival) *file {
	for _, f := range e.files {
		if f.died.IsZero() || a.size != int64(f.cut) || !slices.Contains(f.names, a.name) || a.sha256 != sumOf(f.content[:f.cut]) {
			continue
		}
		if slices.ContainsFunc(e.ends, func(end time.Time) bool { return end.After(f.died) && end.Sub(f.died) < atOnce }) {
			return &file{what: f.what + " whose client and node died in one moment", names: f.names, size: a.size, sha256: a.sha256, wholes: 1}
		}
	}
	return nil
}

func sorted(ids []string) []string { return slices.Sorted(slices.Values(ids)) }

// verifyEdge looks at what one edge took, and gives the tracking ids of each file.
func (e evidence) verifyEdge(v *verdict, edge string, bySum map[string]*file) map[*file][]string {
	ids := map[*file][]string{}
	owner := map[string]*file{}
	last := map[string]time.Time{}
	var sequence []arrived
	for _, a := range e.arrivals[edge] {
		f := bySum[a.sha256]
		switch {
		case a.err != nil:
			v.violate("cannot be read: %s took message %s: %v", edge, a.trackingID, a.err)
			continue
		case f == nil:
			v.truncated++
			v.violate("truncated: %s took %q with %d bytes, sha256 %.12s, which no client uploaded like that", edge, a.name, a.size, a.sha256)
			continue
		case a.dedupID != a.trackingID:
			v.violate("deduplication: %s took %v with tracking id %s and deduplication id %s, expected the same", edge, f, a.trackingID, a.dedupID)
		case !slices.Contains(f.names, a.name):
			v.violate("wrong name: %s took %v as %q", edge, f, a.name)
		}
		if other := owner[a.trackingID]; other != nil && other != f {
			v.violate("tracking id %s was used twice on %s: for %v and for %v", a.trackingID, edge, other, f)
		}
		before, again := last[a.trackingID]
		last[a.trackingID], owner[a.trackingID] = a.at, f
		if again {
			if a.at.Sub(before) < dedupWindow {
				v.duplicates++
				v.violate("duplicate: %s took %v twice within %v", edge, f, a.at.Sub(before))
			} else {
				v.copies++
			}
			continue
		}
		if ids[f] = append(ids[f], a.trackingID); len(ids[f]) > f.most() {
			v.duplicates++
			v.violate("duplicate: %s took %v %d times, expected %d at most; tracking ids %v", edge, f, len(ids[f]), f.most(), ids[f])
		}
		sequence = append(sequence, arrived{f, a.trackingID})
	}
	for _, f := range e.files {
		if f.acked && len(ids[f]) == 0 {
			v.violate("lost: %v was acknowledged and has not reached %s", f, edge)
		}
	}
	e.verifyOrder(v, edge, sequence)
	return ids
}

// arrived is a file in the order in which an edge took them, first copies only.
type arrived struct {
	file       *file
	trackingID string
}

// finished reports whether it is known when a file was finished: if several uploads may have been, it is not known which.
func (f *file) finished() bool { return f.acked && f.wholes == 1 && !f.late && !f.from.IsZero() }

// before reports whether f is known to have been finished before other: its 226 was read before the end of other was sent. A new name or
// time, given afterwards, does not change its place.
func (f *file) before(other *file) bool { return f.to.Before(other.from) }

// verifyOrder looks for files that arrived before others that were finished before they were. There is one lane for all.
func (e evidence) verifyOrder(v *verdict, edge string, sequence []arrived) {
	known := slices.DeleteFunc(sequence, func(a arrived) bool { return !a.file.finished() })
	// From the end: the file that was finished first of all that arrived later.
	var first *file
	for i := len(known) - 1; i >= 0; i-- {
		early := known[i]
		if first != nil && first.to.Before(early.file.from) {
			for _, late := range known[i+1:] {
				if late.file.before(early.file) && !e.overtook[overtaking{edge, late.trackingID, early.trackingID}] {
					v.violate("order: %s took %v before %v, which was finished %v earlier", edge, early.file, late.file,
						early.file.from.Sub(late.file.to))
					break // one for each is enough
				}
			}
		}
		if first == nil || early.file.to.Before(first.to) {
			first = early.file
		}
	}
}

// verifyAudits wants a record for each file that arrived, and none for others.
func (e evidence) verifyAudits(v *verdict, bySum map[string]*file, ids map[*file][]string) {
	known := map[string]bool{}
	for _, f := range e.files {
		for _, id := range ids[f] {
			known[id] = true
			records := e.audits[id]
			if len(records) == 0 {
				v.violate("audit: %v with tracking id %s has no record", f, id)
			}
			for _, r := range records {
				name, _ := r.Attributes["name"].(string)
				if sum, _ := r.Attributes["sha256"].(string); bySum[sum] != f || !slices.Contains(f.names, name) {
					v.violate("audit: the record of %v says name %q and sha256 %.12s", f, name, sum)
				}
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.audits)) {
		if !known[id] {
			v.violate("audit: there is a record of tracking id %s, under which nothing arrived", id)
		}
	}
}
