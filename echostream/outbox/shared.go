package outbox

import "sync"

// shared lets callers who want the same costly thing done at the same time (a sync) have it done once.
// What a caller adds before it waits is covered by a run that begins after that.
type shared[T any] struct {
	run func(*T) error

	mu   sync.Mutex
	cond sync.Cond
	busy bool
	next *round[T]
}

// round is one run and what was added to it.
type round[T any] struct {
	work T
	done bool
	err  error
}

func newShared[T any](run func(*T) error) *shared[T] {
	s := &shared[T]{run: run, next: new(round[T])}
	s.cond.L = &s.mu
	return s
}

// add puts work into the next round.
func (s *shared[T]) add(put func(*T)) *round[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if put != nil {
		put(&s.next.work)
	}
	return s.next
}

// wait runs the round, or waits until somebody else has.
func (s *shared[T]) wait(r *round[T]) error {
	for {
		mine := s.begin(r)
		if mine == nil {
			return r.err
		}
		s.end(mine, s.run(&mine.work))
	}
}

// begin waits until r is done, and returns nil, or until the next round is to be run by the caller.
func (s *shared[T]) begin(r *round[T]) (mine *round[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.busy && !r.done {
		s.cond.Wait()
	}
	if r.done {
		return nil
	}
	mine, s.next, s.busy = s.next, new(round[T]), true
	return mine
}

func (s *shared[T]) end(mine *round[T], err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine.done, mine.err, s.busy = true, err, false
	s.cond.Broadcast()
}
