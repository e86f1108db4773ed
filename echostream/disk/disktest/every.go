package disktest

import (
	"errors"
	"flag"
	"fmt"
	"github.com/ftpnode/ftpnode/internal/race"
	"math/rand/v2"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// Flags of the test binary, to look at a single state again.
var (
	onlyOp     = flag.Int("crash.op", -1, "EveryCrash and EveryFault: only the operation with this `index`")
	onlyPolicy = flag.String("crash.seed", "", "EveryCrash: only this `policy`: none, all, kill or a seed")
	twoNames   = flag.Bool("crash.twonames", true, "a power cut can leave a renamed file under both names: see FS.SetTwoNames")
	seeds      = flag.Int("crash.seeds", 0, "EveryCrash: this `number` of mixtures for each operation")
)

// Scenario is one life of the program under test. The drivers make it anew for every state they try, so that it may
// hold what the world outside has seen: which uploads were acknowledged, what was sent.
type Scenario struct {
	// Run does the work on an empty disk, until it is done or the power is cut, and leaves nothing running.
	// Its error counts only if the power was not cut and no fault was injected.
	Run func(fsys *FS) error
	// Recover starts the program again on what is left, and lets it come to rest. It is called again if the power is cut
	// in it. Its error counts if the power was not cut. By default, nothing is done.
	Recover func(fsys *FS) error
	// Check says which promise is broken.
	Check func(fsys *FS) error
}

// InOrder runs a test with fake time and its goroutines one at a time, so that the operations of a scenario that has
// goroutines come in the same order each time, as good as always.
func InOrder(t *testing.T, test func(t *testing.T)) {
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	synctest.Test(t, test)
}

// Options of the drivers.
type Options struct {
	// Seeds is how many mixtures are tried for each operation. By default, 20.
	Seeds int
	// FirstSeed is the seed of the first mixture; the others follow it. By default, 1.
	FirstSeed uint64
	// Harmless names, for EverySync, the mutations that may stay unseen, each with the reason. The names are
	// those that EverySync prints. One that is seen all the same, or does not occur, is an error.
	Harmless map[string]string
	// Elsewhere names, for EverySync, the mutations that it does not try, each with the proof that does: of a program whose parts have proofs of
	// their own. One that does not occur is an error.
	Elsewhere map[string]string
	// Unmoved has EverySync move no rename and no unlink: of a program with many goroutines, where it is chance which stands next to a sync.
	Unmoved bool
	// MinOps is how many operations the scenario has at least; with fewer it has lost some of its steps, which is an error. By default, 1.
	MinOps int
	// Setup prepares each new disk: its clock, its capacity. By default, nothing.
	Setup func(fsys *FS)
}

func (o Options) withDefaults() Options {
	if o.Seeds == 0 {
		o.Seeds = 20
	}
	if *seeds > 0 {
		o.Seeds = *seeds
	}
	if o.FirstSeed == 0 {
		o.FirstSeed = 1
	}
	return o
}

func (o Options) policies() []Policy {
	policies := []Policy{Nothing(), Everything(), Killed()}
	for i := range o.Seeds {
		policies = append(policies, Mixture(o.FirstSeed+uint64(i)))
	}
	return policies
}

func (o Options) newFS() *FS {
	f := New(0)
	if o.Setup != nil {
		o.Setup(f)
	}
	return f
}

// Under the race detector raceOps operations are tried at most, evenly spread; if there are more, in raceSeeds mixtures at most. It makes each state ten times as
// slow, and sees in some of them what it sees in all. -crash.seeds has all tried.
const raceOps, raceSeeds = 24, 2

// tries reports whether an operation, of total, is to be tried.
func tries(op, total int) bool {
	switch {
	case *onlyOp >= 0:
		return op == *onlyOp
	case race.Enabled && *seeds == 0:
		return op%max(1, (total+raceOps-1)/raceOps) == 0
	}
	return true
}

// maxFailures is how many broken states a driver reports before it gives up.
const maxFailures = 3

// EveryCrash runs the scenario once to the end, and then for every operation of that run and every policy
// (nothing kept, everything kept, killed, and the mixtures) twice with a crash before that operation: the first time it
// recovers and checks; the second time the power is cut once more in the middle of the recovery, or right after
// it, and it recovers again and checks. It gives the number of states checked. Under the race detector it tries 24 of the
// operations at most, in 2 mixtures, unless -crash.seeds is given.
//
// A failure tells the operation and the policy, the trace of the run, and the flags that repeat it alone:
//
//	go test -run '^TestCrash$' . -crash.op=17 -crash.seed=5
func EveryCrash(t testing.TB, opts Options, scenario func() Scenario) (states int) {
	t.Helper()
	opts = opts.withDefaults()
	total, err := opts.dryRun(scenario)
	if err != nil {
		t.Fatalf("without a crash: %v", err)
	}
	if race.Enabled && *seeds == 0 && total > raceOps {
		opts.Seeds = min(opts.Seeds, raceSeeds)
	}
	policies := opts.policies()
	if *onlyPolicy != "" {
		policy, err := ParsePolicy(*onlyPolicy)
		if err != nil {
			t.Fatal(err)
		}
		policies = []Policy{policy}
	}
	failures := 0
	for op := range total + 1 {
		if !tries(op, total) {
			continue
		}
		for _, policy := range policies {
			n, err := opts.crash(crashState{op: op, policy: policy}, scenario)
			states += n
			if err == nil {
				continue
			}
			t.Errorf("%v\n\nrepeat it: go test -run '^%s$' . -crash.op=%d -crash.seed=%v -crash.twonames=%t",
				err, baseName(t.Name()), op, policy, *twoNames)
			if failures++; failures == maxFailures {
				t.Fatalf("gave up after %d states with %d failures", states, failures)
			}
		}
	}
	t.Logf("%d crash states of %d operations hold", states, total)
	return states
}

// baseName is the name of the top-level test, as -run takes it.
func baseName(name string) string {
	name, _, _ = strings.Cut(name, "/")
	return name
}

// dryRun does the scenario without a crash and gives the number of its operations.
func (o Options) dryRun(scenario func() Scenario) (int, error) {
	f, sc := o.newFS(), scenario()
	if err := sc.Run(f); err != nil {
		return 0, fmt.Errorf("running: %w", err)
	}
	if f.Len() < max(o.MinOps, 1) {
		return 0, fmt.Errorf("the scenario has %d operations, expected at least %d", f.Len(), max(o.MinOps, 1))
	}
	return f.Len(), sc.check(f)
}

// crashState is one crash, and the mutation it happens under.
type crashState struct {
	op     int
	policy Policy
	drop   func(Op) bool // which syncs do nothing
}

// crash does both crashes of a state, and tells how many it did and what they broke.
func (o Options) crash(state crashState, scenario func() Scenario) (states int, err error) {
	f, sc := o.newFS(), scenario()
	after, err := state.start(f, sc)
	if err != nil {
		return 1, err
	}
	if err := sc.recover(after, f); err != nil {
		return 1, err
	}
	if err := sc.check(after); err != nil {
		return 1, failed(err, f, after)
	}
	if sc.Recover == nil {
		return 1, nil
	}

	// Again, with a second crash somewhere in what the recovery did.
	chance := rand.New(rand.NewPCG(uint64(state.op)<<32|state.policy.seed, uint64(len(state.policy.name))))
	second := []Policy{Nothing(), Everything(), Killed(), Mixture(chance.Uint64() >> 32)}[chance.IntN(4)]
	cut := chance.IntN(after.Len() + 1)
	f, sc = o.newFS(), scenario()
	if after, err = state.start(f, sc); err != nil {
		return 2, err
	}
	after.CutAt(cut)
	if err := sc.recover(after, f); err != nil {
		return 2, err
	}
	again := after.Crash(second)
	if err := sc.recover(again, f, after); err != nil {
		return 2, err
	}
	if err := sc.check(again); err != nil {
		return 2, failed(err, f, after, again)
	}
	return 2, nil
}

// start runs the scenario up to the crash and returns what is left.
func (s crashState) start(f *FS, sc Scenario) (*FS, error) {
	f.DropSync(s.drop)
	f.CutAt(s.op)
	if err := sc.Run(f); err != nil && !f.IsCut() {
		return nil, failed(fmt.Errorf("running: %w", err), f)
	}
	return f.Crash(s.policy), nil
}

// recover calls Recover on f. lives are the disks before it.
func (s Scenario) recover(f *FS, lives ...*FS) error {
	if s.Recover == nil {
		return nil
	}
	if err := s.Recover(f); err != nil && !f.IsCut() {
		return failed(fmt.Errorf("recovering: %w", err), append(lives, f)...)
	}
	return nil
}

func (s Scenario) check(f *FS) error {
	if s.Check == nil {
		return errors.New("the scenario has no Check")
	}
	return s.Check(f)
}

// failed adds the traces of the lives to err.
func failed(err error, lives ...*FS) error {
	var b strings.Builder
	for _, f := range lives {
		fmt.Fprintf(&b, "\n%s", f.Trace())
	}
	return &stateError{err, b.String()}
}

// stateError is what is broken in one state.
type stateError struct {
	err    error
	traces string
}

func (e *stateError) Error() string { return e.err.Error() + "\n" + e.traces }
func (e *stateError) Unwrap() error { return e.err }

// EveryFault runs the scenario once to the end, and then for every operation of that run once with each fault: EIO,
// ENOSPC and, for a write, a short write with ENOSPC; each once, and from then on until the scenario's Run has
// ended. Then the disk is sound again and the program goes on with Recover and Check; once as a
// new process, and once after a power cut that keeps nothing unsynced. It gives the number of states checked. Under the race
// detector it tries as many operations as EveryCrash.
//
// The flag -crash.op repeats the faults of one operation.
func EveryFault(t testing.TB, opts Options, scenario func() Scenario) (states int) {
	t.Helper()
	opts = opts.withDefaults()
	f, sc := opts.newFS(), scenario()
	if err := sc.Run(f); err != nil {
		t.Fatalf("without a fault: Run: %v", err)
	}
	failures := 0
	for _, op := range f.Ops() {
		if !tries(op.Index, f.Len()) {
			continue
		}
		for _, fault := range faultsOf(op) {
			for _, policy := range []Policy{Killed(), Nothing()} {
				states++
				err := opts.faulty(fault, policy, scenario)
				if err == nil {
					continue
				}
				t.Errorf("%v (short write: %t, forever: %t) of %v, then %v: %v\n\nrepeat it: go test -run '^%s$' . -crash.op=%d -crash.twonames=%t",
					fault.Err, fault.Short, fault.Forever, op, policy, err, baseName(t.Name()), op.Index, *twoNames)
				if failures++; failures == maxFailures {
					t.Fatalf("gave up after %d states with %d failures", states, failures)
				}
			}
		}
	}
	t.Logf("%d states after faults of %d operations hold", states, f.Len())
	return states
}

func faultsOf(op Op) []Fault {
	var faults []Fault
	for _, forever := range []bool{false, true} {
		fault := Fault{Nth: op.Index + 1, Forever: forever, Err: syscall.EIO}
		faults = append(faults, fault)
		fault.Err = syscall.ENOSPC
		faults = append(faults, fault)
		if op.Kind == Write {
			fault.Short = true
			faults = append(faults, fault)
		}
	}
	return faults
}

func (o Options) faulty(fault Fault, policy Policy, scenario func() Scenario) error {
	f, sc := o.newFS(), scenario()
	f.Inject(fault)
	_ = sc.Run(f) // that it fails is the point; what it may not do is Check's to say
	f.Heal()
	after := f.Crash(policy)
	if err := sc.recover(after, f); err != nil {
		return err
	}
	if err := sc.check(after); err != nil {
		return failed(err, f, after)
	}
	return nil
}
