package outbox

import (
	"maps"
	"math"
	"slices"
	"time"
)

// Stats is the outbox in numbers.
type Stats struct {
	Entries   int           // that have not left
	Bytes     int64         // of those
	Held      int           // of Entries: those that wait Forever
	Unaudited int           // of Entries: those that all targets have, and that are to be audited
	Oldest    time.Time     // when the oldest of Entries that is not Held was accepted; zero if there is none
	Failed    int           // files in failed/
	Targets   []TargetStats // the current ones, in the order of their names
}

// TargetStats is what waits for a target. What is Held is not among it.
type TargetStats struct {
	Name         string
	Waiting      int       // entries that the target has neither acknowledged nor refused
	Bytes        int64     // of those
	Acknowledged time.Time // when the target acknowledged an entry last, since Open; zero if it has not

	// Oldest is the first of the waiting entries in their order; its ID is "" if there is none.
	Oldest   Entry
	Attempts int       // that failed to make it ready, to send it to any target, or to audit it
	Error    string    // why the last attempt for Oldest's lane and this target failed; "" if it did not
	NextTry  time.Time // when the next attempt follows; zero, or past, if nothing but the target is waited for
}

// Stats looks at all entries, at a thousand at a time: it holds nobody up, and costs some milliseconds for each 100,000. What changes meanwhile may be
// counted or not.
func (o *Outbox) Stats() Stats {
	var stats Stats
	var all []*entry
	var targets []*target
	o.locked(func() {
		stats = Stats{Entries: len(o.entries), Bytes: o.bytes, Failed: o.failed}
		all = slices.AppendSeq(make([]*entry, 0, len(o.entries)), maps.Values(o.entries))
		targets = o.active
	})
	oldest := int64(math.MaxInt64)
	first := make([]*entry, len(targets))
	if len(targets) > 0 {
		stats.Targets = make([]TargetStats, len(targets))
	}
	for some := range slices.Chunk(all, 1000) {
		o.locked(func() {
			for _, e := range some {
				if e.isHeld() {
					stats.Held++
					continue
				}
				oldest = min(oldest, e.accepted)
				switch {
				case e.state == sent:
					stats.Unaudited++
				case e.state == waiting || e.state == due:
					for i, t := range targets {
						if e.settledFor(t) {
							continue
						}
						stats.Targets[i].Waiting++
						stats.Targets[i].Bytes += e.size
						if first[i] == nil || byPlace(e, first[i]) < 0 {
							first[i] = e
						}
					}
				}
			}
		})
	}
	if len(all) > stats.Held {
		stats.Oldest = time.Unix(0, oldest).UTC()
	}
	o.locked(func() {
		for i, t := range targets {
			stats.Targets[i].Name, stats.Targets[i].Acknowledged = t.name, t.acknowledged
			if e := first[i]; e != nil {
				o.describe(&stats.Targets[i], e, t)
			}
		}
	})
	return stats
}

// describe tells how it goes with e, the first entry that waits for t.
func (o *Outbox) describe(stats *TargetStats, e *entry, t *target) {
	stats.Oldest, stats.Attempts = o.public(e), int(e.attempts)
	if s := e.lane.stream(t); s.failed != nil {
		stats.Error, stats.NextTry = s.failed.Error(), s.nextTry
		if t.gate.until.After(s.nextTry) {
			stats.NextTry = t.gate.until
		}
	}
}
