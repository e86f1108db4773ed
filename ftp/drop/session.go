package drop

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/guard"
)

// Session is a user's directory as one session sees it: like the directory itself, but it also
// remembers what it uploaded, for a minute after that is gone, as clients still ask about it; and it does not change what another
// session has put in its place.
// Names are slash-separated paths, absolute or relative to the top ("/a/b.csv"); ".." cannot leave
// the top and symlinks are not followed. It is safe for concurrent use.
type Session struct {
	u      *UserDir
	d      *Drop
	remote netip.Addr
	log    *slog.Logger // for what clients could cause over and over: it is counted

	mu    sync.Mutex
	dir   string                  // where it stands, below drop; "": nowhere
	memos map[string]outbox.Entry // uploaded or renamed in this session, by path below drop
	order []string                // of memos: as they came
}

const (
	memoAge = time.Minute // how long a session remembers what is gone
	maxMemo = 1000        // files that a session remembers
)

// Session returns the directory as one session of a client at remote sees it. A session that
// has called Chdir is to be closed.
func (u *UserDir) Session(remote netip.Addr) *Session {
	log := u.d.lines.Logger(guard.Network(remote)).With("user", u.name)
	return &Session{u: u, d: u.d, remote: remote, log: log, memos: map[string]outbox.Entry{}}
}

// path returns the path of name below drop.
func (s *Session) path(name string) (string, error) {
	p, err := clean(name)
	return path.Join(s.u.dir, p), err
}

// pathBelow is path for a name that is not the top itself.
func (s *Session) pathBelow(name string) (string, error) {
	p, err := s.path(name)
	if err == nil && p == s.u.dir {
		err = fmt.Errorf("%w: it is the top directory", ErrName)
	}
	return p, err
}

// do calls do with the path that toPath makes of name. Its error names the file as the client does.
func (s *Session) do(name string, toPath func(string) (string, error), do func(p string) error) error {
	p, err := toPath(name)
	if err == nil {
		err = do(p)
	}
	return named(name, err)
}

func (s *Session) client() client { return client{s.u.name, s.remote} }

// rel is p as the client knows it.
func (s *Session) rel(p string) string { return s.u.rel(p) }

// remember notes what this session has put at p.
func (s *Session) remember(p string, e outbox.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.memos[p]; !ok {
		s.order = append(s.order, p)
	}
	s.memos[p] = e
	for len(s.order) > maxMemo {
		delete(s.memos, s.order[0])
		s.order = s.order[1:]
	}
}

// forget forgets what this session has put at p.
func (s *Session) forget(p string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.memos[p]; ok {
		delete(s.memos, p)
		for i := range s.order {
			if s.order[i] == p {
				s.order = append(s.order[:i:i], s.order[i+1:]...)
				break
			}
		}
	}
}

func (s *Session) memo(p string) (outbox.Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.memos[p]
	return e, ok
}

// recentlyLeft returns what this session has put at p if that has left the outbox a moment ago.
func (s *Session) recentlyLeft(p string) (outbox.Entry, bool) {
	e, ok := s.memo(p)
	if !ok {
		return e, false
	}
	at, ok := s.d.box.Left(e.ID)
	return e, ok && time.Since(at) < memoAge
}

// mayChange reports, by an error, whether e, the newest version of p, is this session's to change: not if it has sent p itself
// and another session has since.
func (s *Session) mayChange(p string, e outbox.Entry) error {
	if own, ok := s.memo(p); ok && own.ID != e.ID {
		return ErrReplaced
	}
	return nil
}

// Open opens a finished file for reading (its writing methods fail), also one that is being delivered.
func (s *Session) Open(name string) (f disk.File, err error) {
	err = s.do(name, s.pathBelow, func(p string) error { f, err = s.d.openFile(p); return err })
	return f, err
}

func (d *Drop) openFile(p string) (disk.File, error) {
	here, err := d.at(p)
	switch {
	case err != nil:
		return nil, err
	case here.dir != nil:
		return nil, syscall.EISDIR
	case here.changeable():
		return d.box.OpenFile(here.entry.ID)
	case here.found != nil:
		return d.fs.OpenFile(path.Join(dropDir, p), 0, 0)
	case here.open != nil || here.kept != nil:
		return nil, ErrIncomplete
	case here.waits:
		return d.box.OpenFile(here.entry.ID)
	}
	return nil, fs.ErrNotExist
}

// Stat describes a file or directory; an upload that is not finished with one byte less than came, so that nobody takes it for finished.
func (s *Session) Stat(name string) (fi fs.FileInfo, err error) {
	err = s.do(name, s.path, func(p string) error { fi, err = s.stat(p); return err })
	return fi, err
}

func (s *Session) stat(p string) (fs.FileInfo, error) {
	here, err := s.d.at(p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // its directory may be gone, and the session remember
		return nil, err
	}
	if fi := here.info(); fi != nil {
		s.d.shown.note(s.client(), path.Dir(p), fi)
		return fi, nil
	}
	if e, ok := s.recentlyLeft(p); ok {
		e.Due = true
		return entryInfo(e), nil
	}
	return nil, fs.ErrNotExist
}

// ReadDir lists a directory, sorted by name, also with what is being uploaded and what is not delivered yet.
func (s *Session) ReadDir(name string) (list []fs.FileInfo, err error) {
	err = s.do(name, s.path, func(p string) error {
		list, err = s.d.list(p)
		s.d.shown.note(s.client(), p, list...)
		return err
	})
	return list, err
}

// Files is how many files there are in the user's top directory: no listing of the session is longer, but for folders.
func (s *Session) Files() int { return s.d.ledger.filesIn(s.u.dir) }

// Remove removes a finished file that is not due, an interrupted upload, or both.
func (s *Session) Remove(name string) error {
	return s.do(name, s.pathBelow, s.remove)
}

func (s *Session) remove(p string) error {
	d := s.d
	defer d.names.lock(p)()
	here, err := d.at(p)
	switch {
	case err != nil:
		return err
	case here.dir != nil:
		return syscall.EISDIR
	case here.changeable():
		if err := s.mayChange(p, here.entry); err != nil {
			return err
		}
		if err := d.uploads.removeKept(p); err != nil {
			return err
		}
		if err := d.box.Withdraw(here.entry.ID, ""); err != nil {
			return asDue(err)
		}
		s.removed(p, here.entry.Size)
		return nil
	case here.kept != nil:
		return d.uploads.removeKept(p)
	case here.found != nil:
		if err := d.fs.Remove(path.Join(dropDir, p)); err != nil {
			return err
		}
		d.found.forget(p)
		s.removed(p, here.found.Size())
		return d.fs.SyncDir(path.Join(dropDir, path.Dir(p)))
	case here.open != nil:
		return ErrBusy
	case here.waits:
		return ErrDue
	}
	return fs.ErrNotExist
}

func (s *Session) removed(p string, size int64) {
	s.forget(p)
	s.d.log.Info("a finished file was deleted before it was sent", "user", s.u.name, "name", s.rel(p), "remote", s.remote, "bytes", size)
}

// errMaxDirs says that a user has as many folders as are accepted.
var errMaxDirs = fmt.Errorf("%w: there are as many directories as are accepted, and none of them is empty", ErrFull)

// Mkdir makes a directory; its parent must be there. When it returns nil, the directory is durable. At Options.MaxDirs it takes the place of the
// user's empty one that was not used for the longest time.
func (s *Session) Mkdir(name string) error {
	return s.do(name, s.pathBelow, func(p string) error {
		return s.withFolders(p, func() error { return s.makeDir(p) })
	})
}

func (s *Session) mkdir(p string) error {
	d := s.d
	defer d.names.lock(p)()
	here, err := d.at(p)
	switch {
	case err != nil:
		return err
	case here.dir != nil || here.found != nil || here.changeable():
		return fs.ErrExist
	case here.open != nil:
		return ErrBusy
	case !d.tree.roomBelow(s.u.dir, d.opts.MaxDirs):
		return errMaxDirs
	}
	if err := d.uploads.void(p); err != nil {
		return err
	}
	if err := d.fs.Mkdir(path.Join(dropDir, p), dirPerm); err != nil {
		return err
	}
	d.tree.made(p)
	d.traces.noteBack(p)
	d.used(p)
	return d.fs.SyncDir(path.Join(dropDir, path.Dir(p)))
}

// RemoveDir removes an empty directory. Files in it that are being delivered are no hindrance.
func (s *Session) RemoveDir(name string) error {
	return s.do(name, s.pathBelow, s.removeDir)
}

func (s *Session) removeDir(p string) error {
	d := s.d
	defer d.names.lockAll()()
	here, err := d.at(p)
	if err != nil {
		return err
	}
	if here.dir == nil {
		if here.info() == nil {
			return fs.ErrNotExist
		}
		return syscall.ENOTDIR
	}
	if err := d.unused(p); err != nil {
		return err
	}
	for _, e := range d.box.Below(p) {
		if !e.Due {
			return syscall.ENOTEMPTY
		}
	}
	kept, err := d.uploads.keptIn(p)
	if err != nil {
		return err
	}
	if len(kept) > 0 {
		return syscall.ENOTEMPTY // as the listing shows
	}
	if err := d.fs.Remove(path.Join(dropDir, p)); err != nil {
		return err
	}
	d.tree.forget(p)
	d.traces.forget(p)
	return nil
}

// unused says why the directory p cannot be removed or renamed now.
func (d *Drop) unused(p string) error {
	if d.users.below(p) {
		return fmt.Errorf("%w: it is the top directory of a user", ErrBusy)
	}
	if len(d.uploads.in(p, true)) > 0 {
		return fmt.Errorf("%w: an upload to it is under way", ErrBusy)
	}
	return nil
}

// Chtimes sets the modification time of a finished file or a directory. When it returns nil, that of a file in the outbox is
// durable. On a file that is due, or that the session uploaded and that is gone, it has no effect and no error.
func (s *Session) Chtimes(name string, mtime time.Time) error {
	return s.do(name, s.path, func(p string) error { return s.chtimes(p, mtime) })
}

func (s *Session) chtimes(p string, mtime time.Time) error {
	d := s.d
	defer d.names.lock(p)()
	here, err := d.at(p)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case here.dir != nil:
		return d.fs.Chtimes(path.Join(dropDir, p), mtime)
	case here.kept != nil:
		return ErrIncomplete
	case here.changeable():
		return s.setTime(p, here.entry, mtime)
	case here.found != nil:
		return d.fs.Chtimes(path.Join(dropDir, p), mtime)
	case here.open != nil:
		return ErrIncomplete
	case here.waits:
		return nil
	}
	if _, ok := s.recentlyLeft(p); ok {
		return nil
	}
	return fs.ErrNotExist
}

func (s *Session) setTime(p string, e outbox.Entry, mtime time.Time) error {
	if err := s.mayChange(p, e); err != nil {
		return err
	}
	err := asDue(s.d.box.Edit([]outbox.Edit{{ID: e.ID, ModTime: &mtime}}, nil))
	if errors.Is(err, ErrDue) {
		return nil // as a moment later
	}
	if err == nil {
		if own, ok := s.memo(p); ok {
			own.ModTime = mtime
			s.remember(p, own)
		}
	}
	return err
}
