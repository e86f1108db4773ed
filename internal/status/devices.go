package status

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"
)

// maxAttempts is how many different ones Devices remembers.
const maxAttempts = 100

// Devices remembers what devices did since the start. It is safe for concurrent use; its zero value is ready.
type Devices struct {
	mu       sync.Mutex
	senders  map[string]Sender
	attempts map[attempted]Attempt
}

// attempted is what is the same in attempts that fail alike.
type attempted struct{ from, user, tried string }

// LoggedIn notes a log-in. The users are those of a config: there are not too many.
func (d *Devices) LoggedIn(user, from string) {
	d.change(user, func(s *Sender) { s.LastLogin, s.From = time.Now(), from })
}

// Uploaded notes a file that was accepted.
func (d *Devices) Uploaded(user string) {
	d.change(user, func(s *Sender) { s.LastUpload = time.Now() })
}

func (d *Devices) change(user string, change func(*Sender)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.senders == nil {
		d.senders = map[string]Sender{}
	}
	s := d.senders[user]
	change(&s)
	d.senders[user] = s
}

// Tried notes an attempt that came to nothing. Its At and Count are not used.
func (d *Devices) Tried(a Attempt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.attempts == nil {
		d.attempts = map[attempted]Attempt{}
	}
	key := attempted{a.From, a.User, a.Tried}
	a.At, a.Count = time.Now(), d.attempts[key].Count+1
	if a.Count == 1 && len(d.attempts) >= maxAttempts {
		oldest, at := key, a.At
		for k, other := range d.attempts {
			if other.At.Before(at) {
				oldest, at = k, other.At
			}
		}
		delete(d.attempts, oldest)
	}
	d.attempts[key] = a
}

// Senders is what is known of the users, in their order.
func (d *Devices) Senders(users []string) []Sender {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]Sender, len(users))
	for i, user := range users {
		list[i] = d.senders[user]
		list[i].Name = user
	}
	return list
}

// Attempts are those that came to nothing, the newest first.
func (d *Devices) Attempts() []Attempt {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := slices.Collect(maps.Values(d.attempts))
	slices.SortFunc(list, func(a, b Attempt) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.From, b.From), cmp.Compare(a.Tried, b.Tried))
	})
	return list
}
