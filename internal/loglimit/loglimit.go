// Package loglimit keeps clients from writing the log.
//
// Whatever a client does, the line about it is logged once; what follows is counted, and told after pauses that grow from a
// minute to an hour, with how often it was. Lines are the same if they have the same level, message, client and user, whatever
// else is in them. After an hour of silence all begins anew.
//
// Limits: lines of [maxEntries] kinds are told apart; what comes beyond them is counted by its message alone. Lines below
// [slog.LevelInfo] are not counted: whoever wants to see each command gets a line for each.
//
//	lines := loglimit.New(log)
//	go lines.Run(ctx)
//	lines.Logger(client).With("user", name).Warn("no data connection came")
package loglimit

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	firstPause = time.Minute
	lastPause  = time.Hour
	maxEntries = 2000
	maxOthers  = 50 // messages that are counted alone
)

// Limiter is what all clients' lines go through. It is safe for concurrent use.
type Limiter struct {
	next slog.Handler

	mu      sync.Mutex
	entries map[key]*entry
}

// key is what lines are told apart by.
type key struct {
	client  netip.Prefix // zero: of many
	user    string
	level   slog.Level
	message string
}

// entry counts the lines of a kind.
type entry struct {
	untold int       // lines
	told   time.Time // when the last one was
	pause  time.Duration
	last   time.Time
}

// New makes a limiter in front of log.
func New(log *slog.Logger) *Limiter {
	return &Limiter{next: log.Handler(), entries: make(map[key]*entry)}
}

// Logger is for the lines that a client causes. What it is given by With as "user" must be a user that there is.
func (l *Limiter) Logger(client netip.Prefix) *slog.Logger {
	return slog.New(&handler{Handler: l.next, limiter: l, key: key{client: client}})
}

// Run tells what has been counted, when its time has come and when ctx ends.
func (l *Limiter) Run(ctx context.Context) {
	tick := time.NewTicker(firstPause)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		for _, r := range l.due(time.Now(), ended) {
			_ = l.next.Handle(context.Background(), r) // nobody could be told that it fails
		}
	}
}

// due are the lines to tell now, or all that have not been told. It forgets what was silent for long.
func (l *Limiter) due(now time.Time, all bool) []slog.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []slog.Record
	for k, e := range l.entries {
		switch {
		case e.untold > 0 && (all || !now.Before(e.told.Add(e.pause))):
			r := slog.NewRecord(now, k.level, k.message, 0)
			if k.client.IsSingleIP() {
				r.AddAttrs(slog.Any("remote", k.client.Addr()))
			} else if k.client.IsValid() {
				r.AddAttrs(slog.Any("remote", k.client))
			}
			if k.user != "" {
				r.AddAttrs(slog.String("user", k.user))
			}
			r.AddAttrs(e.tell(now)...)
			lines = append(lines, r)
		case e.untold == 0 && now.Sub(e.last) > lastPause:
			delete(l.entries, k)
		}
	}
	return lines
}

// tell returns how often it was since when, and begins to count anew.
func (e *entry) tell(now time.Time) (attrs []slog.Attr) {
	if !e.told.IsZero() {
		attrs = []slog.Attr{slog.Int("times", e.untold), slog.Duration("since", now.Sub(e.told).Round(time.Second))}
	}
	e.untold, e.told = 0, now
	e.pause = min(max(2*e.pause, firstPause), lastPause)
	return attrs
}

// hit counts a line. It is to be told if ok, with attrs.
func (l *Limiter) hit(k key, now time.Time) (attrs []slog.Attr, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries[k] == nil && len(l.entries) >= maxEntries {
		k.client, k.user = netip.Prefix{}, ""
		if l.entries[k] == nil && len(l.entries) >= maxEntries+maxOthers {
			k.message = "further lines of clients"
		}
	}
	e := l.entries[k]
	if e == nil || now.Sub(e.last) > lastPause && e.untold == 0 {
		e = &entry{}
		l.entries[k] = e
	}
	e.untold++
	e.last = now
	if now.Before(e.told.Add(e.pause)) {
		return nil, false
	}
	return e.tell(now), true
}

// handler is a client's.
type handler struct {
	slog.Handler
	limiter *Limiter
	key     key
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return h.Handler.Handle(ctx, r)
	}
	k := h.key
	k.level, k.message = r.Level, r.Message
	attrs, ok := h.limiter.hit(k, time.Now())
	if !ok {
		return nil
	}
	if len(attrs) > 0 {
		r = r.Clone()
		r.AddAttrs(attrs...)
	}
	return h.Handler.Handle(ctx, r)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.Handler = h.Handler.WithAttrs(attrs)
	for _, a := range attrs {
		if a.Key == "user" {
			c.key.user = a.Value.String()
		}
	}
	return &c
}

func (h *handler) WithGroup(name string) slog.Handler {
	c := *h
	c.Handler = h.Handler.WithGroup(name)
	return &c
}
