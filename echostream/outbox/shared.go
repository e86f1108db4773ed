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
	s.mu.Lock()
	defer s.mu.Unlock()
	for !r.done {
		if s.busy {
			s.cond.Wait()
			continue
		}
		s.busy = true
		current := s.next
		s.next = new(round[T])
		s.mu.Unlock()
		err := s.run(&current.work)
		s.mu.Lock()
		s.busy, current.done, current.err = false, true, err
		s.cond.Broadcast()
	}
	return r.err
}
