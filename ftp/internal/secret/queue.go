package secret

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
)

// Client is whose password is checked.
type Client struct {
	Network netip.Prefix // that counts as one client
	Known   bool         // someone has logged in from there before
}

// ErrBusy is returned when too many of a client's passwords wait to be checked.
var ErrBusy = errors.New("too many log-ins of this client wait")

const (
	maxWaiting      = 20 // passwords of one client
	maxWaitingKnown = 100
	knownInARow     = 3 // clients, while others wait
)

// queue is where passwords wait to be hashed. Clients from where someone has logged in before go first, but for every fourth
// turn, so that guessers hold up no device, nor devices those that are new. Among equals each client has its turn after each other's,
// however many passwords it sends; its own go in the order in which they came.
type queue struct {
	mu     sync.Mutex
	free   int        // turns that nobody has
	known  []*waiting // in the order of their turns
	others []*waiting
	inARow int // known clients whose turn it was while others waited
}

// waiting are one client's turns to come, at least one.
type waiting struct {
	client Client
	turns  []chan struct{} // closed when it is its turn
}

func newQueue(turns int) *queue { return &queue{free: turns} }

// enter waits for a turn, until ctx ends. After nil, leave must be called.
func (q *queue) enter(ctx context.Context, c Client) error {
	turn, err := q.wait(c)
	if turn == nil || err != nil {
		return err
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		q.giveUp(c, turn)
		return ctx.Err()
	}
}

// wait takes a turn, or puts the client into the queue and returns what is closed when its turn comes.
func (q *queue) wait(c Client) (turn chan struct{}, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free > 0 {
		q.free--
		return nil, nil
	}
	line, most := q.line(c), maxWaiting
	if c.Known {
		most = maxWaitingKnown
	}
	i := find(*line, c)
	if i < 0 {
		i = len(*line)
		*line = append(*line, &waiting{client: c})
	}
	w := (*line)[i]
	if len(w.turns) >= most {
		return nil, ErrBusy
	}
	turn = make(chan struct{})
	w.turns = append(w.turns, turn)
	return turn, nil
}

// giveUp takes a client out of the queue, or gives its turn to the next if it has just come.
func (q *queue) giveUp(c Client, turn chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := q.line(c)
	if i := find(*line, c); i >= 0 {
		w := (*line)[i]
		if j := slices.Index(w.turns, turn); j >= 0 {
			if w.turns = slices.Delete(w.turns, j, j+1); len(w.turns) == 0 {
				*line = slices.Delete(*line, i, i+1)
			}
			return
		}
	}
	q.nextLocked()
}

// leave ends a turn.
func (q *queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nextLocked()
}

func (q *queue) nextLocked() {
	line := &q.known
	switch {
	case len(q.known) == 0 && len(q.others) == 0:
		q.free++
		return
	case len(q.others) == 0:
	case len(q.known) == 0 || q.inARow == knownInARow:
		line, q.inARow = &q.others, 0
	default:
		q.inARow++
	}
	w := (*line)[0]
	*line = slices.Delete(*line, 0, 1)
	close(w.turns[0])
	if w.turns = w.turns[1:]; len(w.turns) > 0 {
		*line = append(*line, w)
	}
}

func (q *queue) line(c Client) *[]*waiting {
	if c.Known {
		return &q.known
	}
	return &q.others
}

func find(line []*waiting, c Client) int {
	return slices.IndexFunc(line, func(w *waiting) bool { return w.client == c })
}
