package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// What waits is said after waitsFirst, and then after pauses that double up to waitsLast for as long as something waits.
const (
	waitsLook  = time.Minute
	waitsFirst = 5 * time.Minute
	waitsLast  = time.Hour
)

// sayWaiting says what has waited for long, since when and why, until ctx ends: each failure has its own line, with pauses that grow, and
// whoever looks at the log at night sees no more than the last hour of it.
func (n *Node) sayWaiting(ctx context.Context) {
	var next time.Time
	pause := waitsFirst
	for retry.Sleep(ctx, waitsLook) {
		w := n.waiting()
		now := time.Now()
		switch {
		case w.entries == 0 || now.Sub(w.since) < waitsFirst:
			next, pause = time.Time{}, waitsFirst
		case !now.Before(next):
			next, pause = now.Add(pause), min(2*pause, waitsLast)
			w.log(n.Log, now)
		}
	}
}

// waiting is what waits for delivery, and is not held by who put it there.
type waiting struct {
	entries int
	bytes   int64
	since   time.Time // when the oldest was accepted
	name    string    // of the oldest; "" if it is not known
	target  string    // that it waits for
	why     string
}

// waiting finds out what waits: for the target that is farthest behind, or for any while there is none.
func (n *Node) waiting() waiting {
	stats := n.Outbox.Stats()
	w := waiting{entries: stats.Entries - stats.Held, bytes: stats.Bytes, since: stats.Oldest}
	if len(stats.Targets) > 0 {
		w = ofTargets(stats)
	}
	if err := n.Ready(); w.why == "" && err != nil {
		w.why = err.Error()
	}
	return w
}

func ofTargets(stats outbox.Stats) (w waiting) {
	if stats.Unaudited > 0 {
		w = waiting{entries: stats.Unaudited, since: stats.Oldest, why: "it is to be audited"}
	}
	for _, t := range stats.Targets {
		if t.Waiting > 0 && (w.entries == 0 || t.Oldest.Accepted.Before(w.since)) {
			w = waiting{t.Waiting, t.Bytes, t.Oldest.Accepted, t.Oldest.Name, t.Name, t.Error}
		}
	}
	return w
}

func (w waiting) log(log *slog.Logger, now time.Time) {
	attrs := []any{"waiting", w.entries, "bytes", w.bytes, "since", w.since.UTC().Format(time.RFC3339), "longest", now.Sub(w.since).Round(time.Second)}
	for _, a := range [][2]string{{"target", w.target}, {"oldest", w.name}, {"error", w.why}} {
		if a[1] != "" {
			attrs = append(attrs, a[0], a[1])
		}
	}
	log.Warn("Files wait to be delivered", attrs...)
}
