// Package guard slows down and shuts out those who guess passwords.
//
// Each failed login of an address makes its next answer wait longer, and too many of them ban it for a
// while. Failures for one user, from wherever they come, ban the user too, save for addresses from which
// that user has logged in before: a guesser cannot lock out the device he wants to be.
//
// An address from which someone has logged in before is given ten times as many failures: behind it may be a
// whole site, which one misconfigured device should not shut out.
//
// Who has logged in from where survives a restart, if there is a [Store] for it: else a guesser would only have to wait for one.
//
// Limits: it remembers [maxEntries] addresses, users and pairs of them each, and forgets the ones that were
// silent longest. An IPv6 address counts as its /64, which is what one client is given.
package guard

import (
	"container/list"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	maxEntries    = 10_000
	trustedFactor = 10
)

// Options say how strict to be.
type Options struct {
	Failures     int           // of one address, until it is banned. By default, 10
	UserFailures int           // for one user, until it is banned. By default, 50
	Ban          time.Duration // how long. By default, 5 minutes; failures are forgotten after as long
	Delay        time.Duration // of the answer to the first failure, twice as long for each further one. By default, 500 ms
	MaxDelay     time.Duration // By default, 8 s
	Now          func() time.Time

	Store Store        // of who has logged in from where. By default, that is forgotten with the Guard
	Log   *slog.Logger // of trouble with the Store. By default, nothing is logged
}

// Guard is safe for concurrent use.
type Guard struct {
	opts Options

	mu        sync.Mutex
	addresses *memory[netip.Prefix]
	users     *memory[string]
	known     *memory[pair]        // the ones that logged in
	trusted   map[netip.Prefix]int // how many of them each address is in
	unsaved   bool                 // they have changed since they were saved

	added chan struct{} // has one if there are new ones
}

type pair struct {
	user    string
	address netip.Prefix
}

// New makes a guard; zero values in opts mean the defaults.
func New(opts Options) *Guard {
	if opts.Failures == 0 {
		opts.Failures = 10
	}
	if opts.UserFailures == 0 {
		opts.UserFailures = 50
	}
	if opts.Ban == 0 {
		opts.Ban = 5 * time.Minute
	}
	if opts.Delay == 0 {
		opts.Delay = 500 * time.Millisecond
	}
	if opts.MaxDelay == 0 {
		opts.MaxDelay = 8 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	g := &Guard{
		opts:      opts,
		addresses: newMemory[netip.Prefix](),
		users:     newMemory[string](),
		known:     newMemory[pair](),
		trusted:   make(map[netip.Prefix]int),
		added:     make(chan struct{}, 1),
	}
	g.known.forgotten = func(p pair) {
		if g.trusted[p.address]--; g.trusted[p.address] == 0 {
			delete(g.trusted, p.address)
		}
	}
	g.load()
	return g
}

// Banned reports whether the address may not connect now.
func (g *Guard) Banned(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.addresses.get(Network(a))
	return t != nil && g.opts.Now().Before(t.banned)
}

// Known reports whether someone has logged in from the address before.
func (g *Guard) Known(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.trusted[Network(a)] > 0
}

// UserBanned reports whether no one may log in as the user from the address now.
func (g *Guard) UserBanned(user string, a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.users.get(user)
	return t != nil && g.opts.Now().Before(t.banned) && g.known.get(pair{user, Network(a)}) == nil
}

// Failed notes a failed login. The answer must wait for delay; ban tells that the address is banned from now on.
// It counts against the user if countUser says so, which must be false for names that no user has: they are not remembered.
func (g *Guard) Failed(user string, countUser bool, a netip.Addr) (delay time.Duration, ban bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.opts.Now()
	t := g.addresses.add(Network(a))
	limit := g.opts.Failures
	if g.trusted[Network(a)] > 0 {
		limit *= trustedFactor
	}
	g.count(t, now, limit)
	if countUser {
		g.count(g.users.add(user), now, g.opts.UserFailures)
	}
	delay = g.opts.MaxDelay
	if shift := t.failures - 1; shift < 16 && g.opts.Delay<<shift < delay {
		delay = g.opts.Delay << shift
	}
	return delay, now.Before(t.banned)
}

func (g *Guard) count(t *trace, now time.Time, limit int) {
	if now.Sub(t.last) > g.opts.Ban {
		t.failures = 0
	}
	t.failures++
	t.last = now
	if t.failures >= limit {
		t.banned = now.Add(g.opts.Ban)
	}
}

// Succeeded notes a login. It forgives the address half of its failures only: else a client with one
// right password could guess others for ever.
func (g *Guard) Succeeded(user string, a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.remember(pair{user, Network(a)}, g.opts.Now()) {
		select {
		case g.added <- struct{}{}:
		default:
		}
	}
	g.unsaved = true
	g.addresses.add(Network(a)).failures /= 2
}

// remember notes that the user was seen at the address, and reports whether that is new. The guard is locked.
func (g *Guard) remember(p pair, seen time.Time) (added bool) {
	added = g.known.get(p) == nil
	g.known.add(p).last = seen
	if added {
		g.trusted[p.address]++
	}
	return added
}

// Network is what counts as one client: an IPv4 address, or the /64 of an IPv6 one.
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // the zero Addr gives the zero Prefix
	return p
}

// trace is what is remembered of one address or user.
type trace struct {
	failures int
	last     time.Time
	banned   time.Time // until then
}

// memory maps keys to traces and forgets the key that was not added to for longest.
type memory[K comparable] struct {
	items map[K]*list.Element
	order *list.List // of entry[K], the newest in front

	forgotten func(K) // called for each, unless nil
}

type entry[K comparable] struct {
	key   K
	trace trace
}

func newMemory[K comparable]() *memory[K] {
	return &memory[K]{items: make(map[K]*list.Element), order: list.New()}
}

func (m *memory[K]) get(key K) *trace {
	if e, ok := m.items[key]; ok {
		return &e.Value.(*entry[K]).trace
	}
	return nil
}

func (m *memory[K]) add(key K) *trace {
	if e, ok := m.items[key]; ok {
		m.order.MoveToFront(e)
		return &e.Value.(*entry[K]).trace
	}
	if len(m.items) >= maxEntries {
		oldest := m.order.Remove(m.order.Back()).(*entry[K])
		delete(m.items, oldest.key)
		if m.forgotten != nil {
			m.forgotten(oldest.key)
		}
	}
	e := &entry[K]{key: key}
	m.items[key] = m.order.PushFront(e)
	return &e.trace
}
