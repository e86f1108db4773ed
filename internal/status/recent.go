package status

import (
	"slices"
	"sync"
)

// Recents is how many files Recent remembers.
const Recents = 300

// Recent remembers the files that were delivered last. It is safe for concurrent use; its zero value is ready.
type Recent struct {
	mu    sync.Mutex
	files []File
	next  int // where the next one goes, once there are Recents
	sent  Sent
}

// Add notes a file that was delivered.
func (r *Recent) Add(f File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent.Files++
	r.sent.Bytes += f.Bytes
	if len(r.files) < Recents {
		r.files = append(r.files, f)
		return
	}
	r.files[r.next] = f
	r.next = (r.next + 1) % Recents
}

// List is what it remembers, the newest first.
func (r *Recent) List() []File {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Concat(r.files[r.next:], r.files[:r.next])
	slices.Reverse(list)
	return list
}

// Sent counts all that were added.
func (r *Recent) Sent() Sent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}
