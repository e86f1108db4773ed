package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// Store keeps a few bytes, no secrets, over a restart. Its methods are called one at a time.
type Store interface {
	// Load returns what was saved last. If nothing was, its error is fs.ErrNotExist.
	Load() ([]byte, error)
	// Save replaces what was saved before: after a crash one of the two is there.
	Save([]byte) error
}

const (
	maxSaved = 1 << 20          // bytes
	savePace = 10 * time.Second // between two times of saving
	saveSeen = time.Hour        // after which only times have changed
)

// saved is what the Store keeps, as JSON.
type saved struct {
	Version int          `json:"version"`
	Known   []savedKnown `json:"known"` // the one seen last in front
}

type savedKnown struct {
	User   string       `json:"user"`
	Client netip.Prefix `json:"client"`
	Seen   time.Time    `json:"seen"`
}

const savedVersion = 1

// load remembers what the Store has, all or nothing.
func (g *Guard) load() {
	if g.opts.Store == nil {
		return
	}
	data, err := g.opts.Store.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var s saved
	if err == nil {
		s, err = parse(data)
	}
	if err != nil {
		g.opts.Log.Warn("it is not known any more from where users have logged in; while others guess a user's password, "+
			"its devices may be refused, too, until they have logged in once", "error", err)
		return
	}
	for i := len(s.Known) - 1; i >= 0; i-- {
		g.remember(pair{s.Known[i].User, s.Known[i].Client}, s.Known[i].Seen)
	}
}

func parse(data []byte) (saved, error) {
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return s, err
	}
	if s.Version != savedVersion {
		return s, fmt.Errorf("version is %d, expected %d", s.Version, savedVersion)
	}
	for i, k := range s.Known {
		if k.User == "" || k.Client != Network(k.Client.Addr()) {
			return s, fmt.Errorf("known[%d]: client is %q, expected an IPv4 address with /32 or an IPv6 one with /64, and a user", i, k.Client)
		}
	}
	return s, nil
}

// Keep saves what is known until ctx ends: soon after somebody has logged in from an address for the first time, else once an hour
// at most, and at the end. It returns at once if there is no Store. It is called once.
func (g *Guard) Keep(ctx context.Context) {
	if g.opts.Store == nil {
		return
	}
	var t retry.Trouble
	hour := time.NewTicker(saveSeen)
	defer hour.Stop()
	for ctx.Err() == nil {
		select {
		case <-g.added:
		case <-hour.C:
		case <-ctx.Done():
		}
		g.save(&t)
		retry.Sleep(ctx, savePace)
	}
	g.save(&t)
}

// save saves what is known if it has changed.
func (g *Guard) save(t *retry.Trouble) {
	data, changed := g.snapshot()
	if !changed {
		return
	}
	line := retry.Line{}
	if err := g.opts.Store.Save(data); err != nil {
		g.mu.Lock()
		g.unsaved = true
		g.mu.Unlock()
		line = t.Hit(time.Now(), slog.LevelWarn, "from where users have logged in cannot be saved, and would not be known after a restart", err)
	} else {
		line = t.Over(time.Now(), "from where users have logged in can be saved again")
	}
	line.To(g.opts.Log)
}

// snapshot is what is to be saved.
func (g *Guard) snapshot() (data []byte, changed bool) {
	g.mu.Lock()
	changed, g.unsaved = g.unsaved, false
	s := saved{Version: savedVersion}
	room := maxSaved
	for e := g.known.order.Front(); changed && e != nil; e = e.Next() {
		k := e.Value.(*entry[pair])
		if room -= 6*len(k.key.user) + 150; room < 0 { // at most, with all that JSON needs
			break
		}
		s.Known = append(s.Known, savedKnown{k.key.user, k.key.address, k.trace.last.UTC().Truncate(time.Second)})
	}
	g.mu.Unlock()
	if !changed {
		return nil, false
	}
	data, err := json.Marshal(s)
	if err != nil { // not possible: years have four digits, unless the machine's clock is off by millennia
		return nil, false
	}
	return data, true
}
