package outbox

import (
	"sync"
	"sync/atomic"
)

// shared lets callers who want the same costly thing done at the same time (a sync) have it done once.
// What a caller adds before it waits is covered by a run that begins after that.
type shared[T any] struct {
	run  func(*T) error
	turn chan struct{} // full while a round runs

	mu   sync.Mutex
	next *round[T]
}

// round is one run and what was added to it.
type round[T any] struct {
	work T
	led  atomic.Bool   // a caller runs it, or waits for its turn to
	done chan struct{} // closed when err is there
	err  error
}

func newShared[T any](run func(*T) error) *shared[T] {
	return &shared[T]{run: run, turn: make(chan struct{}, 1), next: newRound[T]()}
}

func newRound[T any]() *round[T] { return &round[T]{done: make(chan struct{})} }

// add puts work into the next round.
func (s *shared[T]) add(put func(*T)) *round[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if put != nil {
		put(&s.next.work)
	}
	return s.next
}

// wait runs the round when the one before it has ended, or waits until another caller has.
func (s *shared[T]) wait(r *round[T]) error {
	if r.led.Swap(true) {
		<-r.done
		return r.err
	}
	s.turn <- struct{}{}
	s.close()
	r.err = s.run(&r.work)
	<-s.turn
	close(r.done)
	return r.err
}

// close has what is added from now on go into another round.
func (s *shared[T]) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = newRound[T]()
}
