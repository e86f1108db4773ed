package echotest

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

// The kinds of faults.
const (
	// Down cuts the connection before anything was done. (Off refuses connections.)
	Down FaultKind = "down"
	// Slow waits for Fault.Delay, then does what was asked.
	Slow FaultKind = "slow"
	// ServerError answers with Fault.Status, and does nothing.
	ServerError FaultKind = "error"
	// Throttled answers as the service does when it is asked too often, and does nothing.
	Throttled FaultKind = "throttled"
	// Partial fails some entries of an SQS batch (Fault.Entries) and does the others.
	Partial FaultKind = "partial"
	// ReplyLost does what was asked, then cuts the connection instead of answering.
	ReplyLost FaultKind = "reply-lost"
	// ReplyCut does what was asked and cuts the connection in the middle of the answer: a download, S3.
	ReplyCut FaultKind = "reply-cut"
	// ExpiredToken refuses the token: a 401 of the API, and of Cognito a refresh token that ended.
	ExpiredToken FaultKind = "expired-token"
	// ExpiredCredentials refuses a signature's credentials as expired: SQS and the audit endpoint.
	ExpiredCredentials FaultKind = "expired-credentials"
	// ExpiredURL refuses a presigned URL as expired: S3.
	ExpiredURL FaultKind = "expired-url"
	// KMS answers for SQS that the key of the queue's encryption cannot be used.
	KMS FaultKind = "kms"
	// EdgeRemoved answers for SQS that the queue does not exist. (RemoveEdge really removes it.)
	EdgeRemoved FaultKind = "edge-removed"
	// Denied answers AccessDenied: SQS, S3 and the audit endpoint; the API answers Unauthorized in errors, for all
	// that was asked for or for Fault.Field alone.
	Denied FaultKind = "denied"
)

// faultKinds lists the kinds and where they can happen; nil is everywhere.
var faultKinds = []struct {
	kind     FaultKind
	services []Service
}{
	{Down, nil},
	{Slow, nil},
	{ServerError, nil},
	{Throttled, nil},
	{Partial, []Service{SQS}},
	{ReplyLost, nil},
	{ReplyCut, []Service{S3}},
	{ExpiredToken, []Service{Cognito, AppSync}},
	{ExpiredCredentials, []Service{SQS, Audit}},
	{ExpiredURL, []Service{S3}},
	{KMS, []Service{SQS}},
	{EdgeRemoved, []Service{SQS}},
	{Denied, []Service{AppSync, SQS, S3, Audit}},
}

// Fault scripts what goes wrong, and when. Each request to Service and Operation (and Edge) is an attempt. Of the
// attempts, the first After pass; of the rest each Every-th may be hit, with Probability, until Count were. Faults
// compose: all that hit the same attempt take effect, delays add up, and the first in the order in which they were set
// says what the answer is. An attempt is counted by each fault on its own.
type Fault struct {
	Service   Service // "" is any
	Operation string  // as Cloud.Requests names it; "" is any
	Edge      string  // for SQS: a target's name, or "source>target"; "" is any
	Kind      FaultKind

	After       int           // attempts that pass first
	Every       int           // By default, 1: each.
	Count       int           // attempts to hit. By default, no end but Clear, or For.
	For         time.Duration // how long it lasts from when it is set, on the cloud's clock. By default, no end.
	Probability float64       // By default, 1.
	Seed        uint64        // of the random source for Probability

	Delay   time.Duration // Slow: By default, 1s.
	Status  int           // ServerError: By default, 503.
	Entries []int         // Partial: the entries to fail, from 0. By default, each second one from the first.
	Field   string        // Denied, AppSync: the field to keep back, as in "MessageType.auditor". By default, everything.
}

// Script is a fault that was set.
type Script struct {
	all *faults

	given    Fault // as it was set
	fault    Fault // with its defaults
	until    time.Time
	random   *rand.Rand
	attempts int
	hits     int
	cleared  bool
}

// Hits counts the attempts that it hit.
func (s *Script) Hits() int {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	return s.hits
}

// Clear ends the fault.
func (s *Script) Clear() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.cleared = true
	s.all.scripts = slices.DeleteFunc(s.all.scripts, func(x *Script) bool { return x == s })
}

// Fault sets a fault, from the next request on. It panics if the fault makes no sense: see ParseFault for one that a
// user writes.
func (c *Cloud) Fault(f Fault) *Script {
	if err := f.check(); err != nil {
		panic("echotest: " + err.Error())
	}
	return c.faults.set(f)
}

// ClearFaults ends all faults that were set.
func (c *Cloud) ClearFaults() {
	c.faults.mu.Lock()
	defer c.faults.mu.Unlock()
	for _, s := range c.faults.scripts {
		s.cleared = true
	}
	c.faults.scripts = nil
}

type faults struct {
	clock   *Clock
	mu      sync.Mutex
	scripts []*Script
}

func newFaults(clock *Clock) *faults { return &faults{clock: clock} }

func (f *faults) set(fault Fault) *Script {
	given := fault
	if fault.Every == 0 {
		fault.Every = 1
	}
	if fault.Probability == 0 {
		fault.Probability = 1
	}
	if fault.Delay == 0 {
		fault.Delay = time.Second
	}
	if fault.Status == 0 {
		fault.Status = 503
	}
	fault.Entries = slices.Clone(fault.Entries)
	s := &Script{all: f, given: given, fault: fault, random: rand.New(rand.NewPCG(fault.Seed, 0))}
	if fault.For > 0 {
		s.until = f.clock.Now().Add(fault.For)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scripts = append(f.scripts, s)
	return s
}

// effect is what the faults that hit an attempt do together.
type effect struct {
	delay     time.Duration
	down      bool
	replyLost bool
	replyCut  bool
	refuse    FaultKind // ServerError, Throttled, Expired..., KMS, EdgeRemoved, Denied; "" is none
	status    int       // of ServerError
	partial   bool
	entries   []int           // of partial; empty is each second one
	denied    map[string]bool // fields of the API, as in "MessageType.auditor"
}

// fails reports whether entry i of a batch is to fail.
func (e effect) fails(i int) bool {
	if !e.partial {
		return false
	}
	if len(e.entries) == 0 {
		return i%2 == 0
	}
	return slices.Contains(e.entries, i)
}

// attempt returns what is to happen to a request, and the faults that hit it.
func (f *faults) attempt(service Service, op, edge string) (e effect, hits []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.scripts) == 0 {
		return e, nil
	}
	now := f.clock.Now()
	for _, s := range f.scripts {
		if !s.fault.matches(service, op, edge) || !s.hit(now) {
			continue
		}
		hits = append(hits, s.given)
		switch s.fault.Kind {
		case Down:
			e.down = true
		case Slow:
			e.delay += s.fault.Delay
		case Partial:
			e.partial = true
			e.entries = s.fault.Entries
		case ReplyLost:
			e.replyLost = true
		case ReplyCut:
			e.replyCut = true
		case Denied:
			if s.fault.Field != "" {
				if e.denied == nil {
					e.denied = make(map[string]bool)
				}
				e.denied[s.fault.Field] = true
				continue
			}
			fallthrough
		default:
			if e.refuse == "" {
				e.refuse, e.status = s.fault.Kind, s.fault.Status
			}
		}
	}
	return e, hits
}

func (s *Script) hit(now time.Time) bool {
	if s.fault.Count > 0 && s.hits >= s.fault.Count || !s.until.IsZero() && !now.Before(s.until) {
		return false
	}
	s.attempts++
	n := s.attempts - s.fault.After
	if n <= 0 || n%s.fault.Every != 0 {
		return false
	}
	if s.fault.Probability < 1 && s.random.Float64() >= s.fault.Probability {
		return false
	}
	s.hits++
	return true
}

func (f Fault) matches(service Service, op, edge string) bool {
	if f.Service != "" && f.Service != service || f.Operation != "" && f.Operation != op {
		return false
	}
	switch {
	case !f.possible(service),
		f.Kind == Partial && !strings.HasSuffix(op, "Batch"),
		f.Kind == ExpiredToken && service == Cognito && op != refreshOperation:
		return false // it would be counted and do nothing
	}
	return f.Edge == "" || edge != "" && (f.Edge == edge || hasTarget(edge, f.Edge))
}

// possible reports whether its kind can happen to a service.
func (f Fault) possible(service Service) bool {
	for _, k := range faultKinds {
		if k.kind == f.Kind {
			return k.services == nil || slices.Contains(k.services, service)
		}
	}
	return false
}

func hasTarget(edge, target string) bool {
	n := len(edge) - len(target)
	return n > 0 && edge[n-1] == '>' && edge[n:] == target
}
