package drop

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// Session is a user's directory as one session sees it: like the directory itself, but it also
// remembers for a minute what it uploaded and what is gone since, as clients still ask about that.
// Names are slash-separated paths as FTP has them, absolute or relative to the top ("/a/b.csv"); ".." cannot leave
// the top and symlinks are not followed. It is safe for concurrent use.
type Session struct {
	u      *UserDir
	d      *Drop
	remote netip.Addr

	// Guarded by Drop.mu.
	memos map[string]*memo // by path below drop
	order []string         // of memos: as they came
}

// Session returns the directory as one session of a client at remote sees it. The session needs no closing.
func (u *UserDir) Session(remote netip.Addr) *Session {
	return &Session{u: u, d: u.d, remote: remote, memos: map[string]*memo{}}
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

// remember keeps what Stat says of p when it is gone; d.mu is held.
func (s *Session) remember(p string, m *memo) {
	if _, ok := s.memos[p]; !ok {
		s.order = append(s.order, p)
	}
	s.memos[p] = m
	for len(s.order) > 0 {
		first, ok := s.memos[s.order[0]]
		if ok && len(s.order) <= maxMemo && !first.expired() {
			break
		}
		delete(s.memos, s.order[0])
		s.order = s.order[1:]
	}
}

func (m *memo) expired() bool { return !m.gone.IsZero() && time.Since(m.gone) >= memoAge }

// gone returns what the session remembers of p if that is gone, or nil; d.mu is held.
func (s *Session) gone(p string) *memo {
	m := s.memos[p]
	if m == nil || m.gone.IsZero() || m.expired() {
		return nil
	}
	return m
}

// inDirectory says whether p's directory is there, all of its path being directories and no symlinks; d.mu is held.
func (d *Drop) inDirectory(p string) error {
	for _, dir := range ancestors(p) {
		fi, err := d.fs.Lstat(path.Join(dropDir, dir))
		if err != nil {
			return err
		}
		if !fi.IsDir() {
			return syscall.ENOTDIR
		}
	}
	return nil
}

// Open opens a finished file for reading (its writing methods fail), also one that is being delivered.
func (s *Session) Open(name string) (disk.File, error) {
	f, err := s.openFile(name)
	if err != nil {
		return nil, named(name, err)
	}
	return f, nil
}

func (s *Session) openFile(name string) (disk.File, error) {
	p, err := s.pathBelow(name)
	if err != nil {
		return nil, err
	}
	d := s.d
	d.mu.Lock()
	e, err := d.finished(p)
	if err != nil {
		d.mu.Unlock()
		return nil, err
	}
	if e != nil {
		defer d.mu.Unlock()
		f, err := d.openRead(p)
		if errors.Is(err, fs.ErrNotExist) && e.busy() {
			err = ErrBusy // on its way to the Taker
		}
		return f, err
	}
	t := d.taken.get(p)
	_, partial, err := d.partial(p)
	d.mu.Unlock()
	switch opener, ok := d.opts.Taker.(Opener); {
	case err != nil:
		return nil, err
	case partial:
		return nil, ErrIncomplete
	case t == nil:
		return nil, fs.ErrNotExist
	case !ok:
		return nil, ErrBusy
	default:
		return opener.Open(t.id)
	}
}

// finished returns the finished file at p, nil if there is none, or an error if a directory is there, or if p's
// directory is not; d.mu is held.
func (d *Drop) finished(p string) (*entry, error) {
	if err := d.inDirectory(p); err != nil {
		return nil, err
	}
	// A look, since another program may have put it there a moment ago.
	fi, err := d.look(p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if fi != nil && fi.IsDir() {
		return nil, syscall.EISDIR
	}
	e := d.files[p]
	if e != nil && e.state == doomed {
		return nil, nil
	}
	return e, nil
}

// Stat describes a file or directory.
func (s *Session) Stat(name string) (fs.FileInfo, error) {
	p, err := s.path(name)
	if err != nil {
		return nil, named(name, err)
	}
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	fi, err := s.stat(p)
	if err != nil {
		return nil, named(name, err)
	}
	return fi, nil
}

func (s *Session) stat(p string) (fs.FileInfo, error) {
	d := s.d
	switch e, err := d.finished(p); {
	case errors.Is(err, syscall.EISDIR):
		return d.fs.Lstat(path.Join(dropDir, p))
	case errors.Is(err, fs.ErrNotExist):
		// Its directory is gone. What the session remembers may be older.
	case err != nil:
		return nil, err
	case e != nil:
		return e.info(), nil
	default:
		if fi, ok, err := d.partial(p); ok || err != nil {
			return fi, err
		}
		if t := d.taken.get(p); t != nil {
			return t.info(), nil
		}
	}
	if m := s.gone(p); m != nil {
		return m.info(p), nil
	}
	return nil, fs.ErrNotExist
}

// ReadDir lists a directory, sorted by name, also with what is being uploaded and what is not delivered yet.
func (s *Session) ReadDir(name string) ([]fs.FileInfo, error) {
	p, err := s.path(name)
	if err != nil {
		return nil, named(name, err)
	}
	list, err := s.d.list(p)
	if err != nil {
		return nil, named(name, err)
	}
	return list, nil
}

// Remove removes a finished file or an interrupted upload.
func (s *Session) Remove(name string) error {
	p, err := s.pathBelow(name)
	if err == nil {
		err = s.remove(p)
	}
	return named(name, err)
}

func (s *Session) remove(p string) error {
	d := s.d
	d.mu.Lock()
	e, err := d.finished(p)
	if err != nil {
		d.mu.Unlock()
		return err
	}
	if e != nil {
		if e.busy() {
			d.mu.Unlock()
			return ErrBusy
		}
		if err := d.remove(e); err != nil {
			d.mu.Unlock()
			return err
		}
		delete(s.memos, p)
		d.mu.Unlock()
		d.log.Info("a finished file was deleted before it was sent", "user", s.u.name, "name", s.rel(p), "remote", s.remote, "bytes", e.size)
		return d.syncs.sync(path.Join(dropDir, path.Dir(p)))
	}
	busy, taken := d.open[p] != nil, d.taken.get(p) != nil
	removed := false
	if !busy {
		removed, err = d.removeKept(p)
	}
	d.mu.Unlock()
	switch {
	case busy:
		return ErrBusy
	case err != nil:
		return err
	case removed:
		return d.syncs.sync(path.Join(keptDir, path.Dir(p)))
	case taken:
		return fmt.Errorf("%w: it is being delivered", ErrBusy)
	}
	return fs.ErrNotExist
}

// Mkdir makes a directory; its parent must be there. When it returns nil, the directory is durable.
func (s *Session) Mkdir(name string) error {
	p, err := s.pathBelow(name)
	if err == nil {
		err = s.mkdir(p)
	}
	return named(name, err)
}

func (s *Session) mkdir(p string) error {
	d := s.d
	d.mu.Lock()
	err := d.inDirectory(p)
	switch {
	case err != nil:
	case d.open[p] != nil:
		err = ErrBusy
	case d.dirCount[top(p)] >= d.opts.MaxDirs:
		err = fmt.Errorf("%w: there are %d directories, no more are accepted", ErrFull, d.opts.MaxDirs)
	default:
		if err = d.fs.Mkdir(path.Join(dropDir, p), dirPerm); err == nil {
			d.noteDir(p)
		}
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return d.syncDirectories(p)
}

// RemoveDir removes an empty directory. Files in it that are being delivered are no hindrance.
func (s *Session) RemoveDir(name string) error {
	p, err := s.pathBelow(name)
	if err == nil {
		err = s.removeDir(p)
	}
	return named(name, err)
}

func (s *Session) removeDir(p string) error {
	d := s.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.inDirectory(p); err != nil {
		return err
	}
	fi, err := d.fs.Lstat(path.Join(dropDir, p))
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return syscall.ENOTDIR
	}
	if err := d.unused(p); err != nil {
		return err
	}
	kept, err := d.fs.ReadDir(path.Join(keptDir, p))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	for _, k := range kept {
		if !k.IsDir() {
			return syscall.ENOTEMPTY // as the listing shows
		}
	}
	if err := d.fs.Remove(path.Join(dropDir, p)); err != nil {
		return err
	}
	d.forgetDir(p)
	return nil
}

// unused says whether the directory p can be removed or renamed: no user's top is in it, and nothing in it
// is busy; d.mu is held.
func (d *Drop) unused(p string) error {
	for _, u := range d.users {
		if below(u.dir, p) {
			return fmt.Errorf("%w: it is the top directory of a user", ErrBusy)
		}
	}
	for q := range d.open {
		if below(q, p) {
			return fmt.Errorf("%w: an upload to it is under way", ErrBusy)
		}
	}
	for q, e := range d.files {
		if e.busy() && below(q, p) {
			return fmt.Errorf("%w: a file in it is being delivered", ErrBusy)
		}
	}
	return nil
}

// Chtimes sets the modification time of a finished file or a directory. On a file that is being delivered, or that the
// session uploaded and that is gone, it has no effect and no error.
func (s *Session) Chtimes(name string, mtime time.Time) error {
	p, err := s.path(name)
	if err == nil {
		err = s.chtimes(p, mtime)
	}
	return named(name, err)
}

func (s *Session) chtimes(p string, mtime time.Time) error {
	d := s.d
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.finished(p)
	switch {
	case errors.Is(err, syscall.EISDIR):
		return d.fs.Chtimes(path.Join(dropDir, p), mtime)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case e != nil && e.busy():
		return nil // as a moment later, when it is the Taker's
	case e != nil:
		if err := d.fs.Chtimes(path.Join(dropDir, p), mtime); err != nil {
			return err
		}
		fi, err := d.fs.Lstat(path.Join(dropDir, p))
		if err != nil {
			return err
		}
		d.looksLike(e, fi)
		return nil
	}
	if _, ok, err := d.partial(p); ok || err != nil {
		if err == nil {
			err = ErrIncomplete
		}
		return err
	}
	if d.taken.get(p) != nil || s.gone(p) != nil {
		return nil
	}
	return fs.ErrNotExist
}

// Available tells how many more bytes are accepted now, by all limits (AVBL).
func (s *Session) Available() (int64, error) {
	n, err := s.d.ledger.available(s.d.opts.MaxSize)
	if err != nil {
		return 0, named("/", err)
	}
	return n, nil
}

// openRead opens a finished file; d.mu is held, so that it is a regular file and no symlink by now.
func (d *Drop) openRead(p string) (disk.File, error) {
	return d.fs.OpenFile(path.Join(dropDir, p), os.O_RDONLY, 0)
}

// rel is p as the client knows it, for the log.
func (s *Session) rel(p string) string {
	return s.u.rel(p)
}
