package drop

import (
	"io/fs"
	"net/netip"
	"path"
	"sync"
)

// An upload that is not finished is shown with one byte less than came. Many a client that has lost its connection asks for the size, finds it right,
// and takes its file for accepted, when nothing but the end was missing: it was not, and is not sent. One that is told of a byte less sends it again, and
// gets its reply. What a client appends to an unfinished upload goes where it was told that the file ends, if no byte has come since. What was acknowledged is
// shown as it is, and appended to at its end.

// client is one as far as sessions tell it.
type client struct {
	user   string
	remote netip.Addr
}

// shownSizes are the sizes of unfinished uploads that clients were told of, by path below drop.
type shownSizes struct {
	mu    sync.Mutex
	sizes map[string]map[client]int64
}

const (
	maxShown        = 10_000 // paths
	maxShownClients = 20     // of a path
)

// note notes what a client was told of the directory dir.
func (s *shownSizes) note(c client, dir string, list ...fs.FileInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fi := range list {
		if i, ok := fi.(*info); !ok || !i.unfinished {
			continue
		}
		p := path.Join(dir, fi.Name())
		if len(s.sizes) >= maxShown || s.sizes == nil {
			s.sizes = map[string]map[client]int64{}
		}
		if s.sizes[p] == nil || len(s.sizes[p]) >= maxShownClients {
			s.sizes[p] = map[client]int64{}
		}
		s.sizes[p][c] = fi.Size()
	}
}

// of is the size that a client was told of the file at p.
func (s *shownSizes) of(c client, p string) (size int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, ok = s.sizes[p][c]
	return size, ok
}

// continued forgets what a client was told of the file at p, which it goes on with.
func (s *shownSizes) continued(c client, p string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sizes[p], c)
}

// replaced forgets what clients were told of the file at p, in whose place another one begins.
func (s *shownSizes) replaced(p string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sizes, p)
}
