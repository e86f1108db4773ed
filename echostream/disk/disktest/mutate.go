package disktest

import (
	"maps"
	"slices"
	"testing"
)

// EverySync shows that no sync is there without a reason. It takes the syncs away, all of one place in the source
// at a time, and moves each rename and unlink ahead of the sync right before it, and tries crashes until one breaks
// the scenario's Check. A mutation that no crash shows is an error, unless Options.Harmless says why it may be so.
// It gives the mutations that were tried.
//
// With several scenarios it is enough that one of them shows a mutation. A place counts only if one of them comes to it,
// in Run or in Recover. Scenarios that have goroutines are best tried InOrder.
func EverySync(t testing.TB, opts Options, scenarios ...func() Scenario) (mutations []string) {
	t.Helper()
	opts = opts.withDefaults()
	result := map[string]bool{} // by mutation: whether a crash showed it
	for round := range rounds {
		open := func(mutation string) bool {
			if _, elsewhere := opts.Elsewhere[mutation]; elsewhere {
				result[mutation] = false
				return false
			}
			_, harmless := opts.Harmless[mutation]
			return round == 0 && !result[mutation] || round > 0 && result[mutation] == harmless
		}
		absent := func(mutation string) bool { _, occurs := result[mutation]; return !occurs }
		if round > 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(result)), open) &&
			!slices.ContainsFunc(slices.Collect(maps.Keys(opts.Harmless)), absent) &&
			!slices.ContainsFunc(slices.Collect(maps.Keys(opts.Elsewhere)), absent) {
			break
		}
		for _, scenario := range scenarios {
			opts.mutate(t, scenario, open, result)
		}
	}
	for _, mutation := range slices.Sorted(maps.Keys(result)) {
		if proof, elsewhere := opts.Elsewhere[mutation]; elsewhere {
			t.Logf("%s: not tried: %s", mutation, proof)
			continue
		}
		reason, harmless := opts.Harmless[mutation]
		switch {
		case !result[mutation] && !harmless:
			t.Errorf("%q: no crash shows it: either the sync is not needed or a check is missing", mutation)
		case result[mutation] && harmless:
			t.Errorf("%q: a crash shows it, though it should be harmless (%s)", mutation, reason)
		}
		t.Logf("%s: shown: %t %s", mutation, result[mutation], reason)
		mutations = append(mutations, mutation)
	}
	for said, named := range map[string]map[string]string{"harmless": opts.Harmless, "proved elsewhere": opts.Elsewhere} {
		for mutation := range named {
			if _, occurs := result[mutation]; !occurs {
				t.Errorf("%q is said to be %s and does not occur", mutation, said)
			}
		}
	}
	return mutations
}

// rounds is how often a mutation is tried whose result is not as it should be, or looked for if it has not occurred: under load goroutines may
// have come in another order than usual.
const rounds = 3

// mutate tries the mutations of a scenario that are open.
func (o Options) mutate(t testing.TB, scenario func() Scenario, open func(string) bool, result map[string]bool) {
	t.Helper()
	found := o.findSites(t, scenario)
	for _, site := range slices.Sorted(maps.Keys(found.syncs)) {
		if mutation := "without " + site; open(mutation) {
			result[mutation] = o.dropShows(site, found.ops, scenario)
		}
	}
	if o.Unmoved {
		return
	}
	for _, pair := range slices.SortedFunc(maps.Keys(found.moves), movePair.compare) {
		if mutation := pair.String(); open(mutation) {
			if shown, tried := o.moveShows(pair, found.moves[pair], scenario); tried {
				result[mutation] = shown
			}
		}
	}
}

// movePair is a sync and the rename or unlink right after it, by their sites' keys.
type movePair struct{ sync, move string }

func (p movePair) String() string { return p.move + " ahead of " + p.sync }

func (p movePair) compare(q movePair) int {
	if p.String() < q.String() {
		return -1
	}
	return 1
}

// moveState is one occurrence of a movePair: on the disk of Run, or on that of Recover after a crash.
type moveState struct {
	crash      *crashState // nil: in Run
	sync, move int         // their indexes
}

// at reports whether the operations of state are the pair.
func (p movePair) at(ops []Op, state moveState) bool {
	return state.move < len(ops) && ops[state.sync].Site().Key() == p.sync && ops[state.move].Site().Key() == p.move
}

type sites struct {
	ops   int
	syncs map[string]bool // by Site.Key
	moves map[movePair][]moveState
}

// findSites looks through an unmutated run and its recoveries.
func (o Options) findSites(t testing.TB, scenario func() Scenario) sites {
	t.Helper()
	found := sites{syncs: map[string]bool{}, moves: map[movePair][]moveState{}}
	f, sc := o.newFS(), scenario()
	if err := sc.Run(f); err != nil {
		t.Fatalf("without a mutation: Run: %v", err)
	}
	found.ops = f.Len()
	found.add(f.Ops(), nil)
	for op := range found.ops + 1 {
		for _, policy := range []Policy{Nothing(), Everything(), Killed()} {
			f, sc := o.newFS(), scenario()
			state := crashState{op: op, policy: policy}
			after, err := state.start(f, sc)
			if err == nil {
				err = sc.recover(after, f)
			}
			if err == nil {
				err = sc.check(after)
			}
			if err != nil {
				t.Fatalf("without a mutation: crash before op %d, %v: %v", op, policy, err)
			}
			found.add(after.Ops(), &state)
		}
	}
	return found
}

// maxMoves is how many occurrences of a pair are looked at: each is a few crashes.
const maxMoves = 200

func (s *sites) add(ops []Op, crash *crashState) {
	last := -1
	for i, op := range ops {
		switch {
		case op.Kind.isSync():
			s.syncs[op.Site().Key()] = true
			last = i
		case op.Kind.isMove() && last >= 0:
			pair := movePair{ops[last].Site().Key(), op.Site().Key()}
			if len(s.moves[pair]) < maxMoves {
				s.moves[pair] = append(s.moves[pair], moveState{crash, last, i})
			}
			last = -1
		}
	}
}

// dropShows reports whether a crash breaks the scenario when all syncs of a site do nothing.
func (o Options) dropShows(site string, ops int, scenario func() Scenario) bool {
	drop := func(op Op) bool { return op.Site().Key() == site }
	for _, policy := range o.policies() { // the policies that show most come first
		for op := range ops + 1 {
			if _, err := o.crash(crashState{op: op, policy: policy, drop: drop}, scenario); err != nil {
				return true
			}
		}
	}
	return false
}

// moveShows reports whether a crash right after a rename or unlink breaks the scenario when the sync before it is
// not done by then, and whether that could be tried. Any other crash finds what it finds without the mutation.
func (o Options) moveShows(pair movePair, moves []moveState, scenario func() Scenario) (shown, tried bool) {
	for _, move := range moves {
		for _, policy := range o.policies() {
			f, sc := o.newFS(), scenario()
			lives := []*FS{f}
			last := f
			if move.crash != nil {
				after, err := move.crash.start(f, sc)
				if err != nil {
					return true, true
				}
				lives, last = append(lives, after), after
			}
			last.DropSync(func(op Op) bool { return op.Index == move.sync })
			last.CutAt(move.move + 1)
			if move.crash == nil {
				_ = sc.Run(last)
			} else {
				_ = sc.recover(last, lives...)
			}
			last.DropSync(nil) // the process that made the mistake is gone
			if !pair.at(last.Ops(), move) {
				continue // goroutines came in another order than when the pair was found
			}
			tried = true
			after := last.Crash(policy)
			if sc.recover(after, lives...) != nil || sc.check(after) != nil {
				return true, true
			}
		}
	}
	return false, tried
}
