package engine

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"strings"
	"sync"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"
)

// Files are what the commands of a session work on. Names are absolute paths.
type Files interface {
	// Stat and ReadDir describe files as clients are to see them.
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.FileInfo, error)
	Open(name string) (io.ReadCloser, error)            // RETR
	Create(name string, appending bool) (Upload, error) // STOR and APPE
	Remove(name string) error                           // DELE
	RemoveDir(name string) error
	Mkdir(name string) error
}

// Upload takes what the client sends. Both of its methods are called once, ReadFrom only if there is a data connection.
type Upload interface {
	io.ReaderFrom
	// End ends it. broken is why the transfer broke, or nil. An error takes the place of the 226.
	End(broken error) error
}

// driver is what the library has for the user's directory.
type driver struct {
	afero.Fs // nil: for the methods that are never called, since the extensions below take their place
	s        *Session
}

var (
	_ ftpserver.ClientDriver                   = (*driver)(nil)
	_ ftpserver.ClientDriverExtensionFileList  = (*driver)(nil)
	_ ftpserver.ClientDriverExtensionRemoveDir = (*driver)(nil)
)

func (d *driver) Stat(name string) (info os.FileInfo, err error) {
	r := d.s.running()
	err = r.guarded(func() error {
		info, err = d.s.files.Stat(name)
		if errors.Is(err, fs.ErrNotExist) && r.isPattern(name) {
			info, err = d.s.files.Stat(path.Dir(name)) // ReadDir makes of it what it stands for
		}
		return err
	})
	return info, err
}

// ReadDir lists a directory, or what a pattern as in "NLST *.csv" stands for.
func (d *driver) ReadDir(name string) (list []os.FileInfo, err error) {
	r := d.s.running()
	err = r.guarded(func() error {
		dir, pattern := name, "*"
		if r.isPattern(name) {
			if _, err := d.s.files.Stat(name); errors.Is(err, fs.ErrNotExist) {
				dir, pattern = path.Split(name)
				dir = path.Clean(dir)
				d.s.cc.SetListPath(dir)
			}
		}
		list, err = d.s.files.ReadDir(dir)
		if pattern != "*" {
			list = matching(list, pattern)
		}
		return err
	})
	return list, err
}

// isPattern reports whether a list of what the name matches is asked for.
func (r *run) isPattern(name string) bool {
	return (r.verb == "LIST" || r.verb == "NLST") && strings.ContainsAny(path.Base(name), "*?[")
}

func matching(list []fs.FileInfo, pattern string) []fs.FileInfo {
	some := list[:0] // of the same memory
	for _, info := range list {
		if ok, err := path.Match(pattern, info.Name()); ok || err != nil {
			some = append(some, info)
		}
	}
	return some
}

func (d *driver) Remove(name string) error {
	return d.s.running().guarded(func() error { return d.s.files.Remove(name) })
}

func (d *driver) RemoveDir(name string) error {
	return d.s.running().guarded(func() error { return d.s.files.RemoveDir(name) })
}

func (d *driver) Mkdir(name string, _ os.FileMode) error {
	return d.s.running().guarded(func() error { return d.s.files.Mkdir(name) })
}

// listener is what the library takes for its passive listener. Its connection is the listing's.
type listener struct {
	net.Listener // the library's own, on a port that nobody was told of
	s            *Session
	run          *run
	once         sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	l.Close()
	var opened net.Conn
	err := l.run.guarded(func() (err error) {
		if opened, err = l.run.open(); err != nil {
			return errors.Join(ErrNoData, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	l.run.mu.Lock()
	l.run.opened = true
	l.run.mu.Unlock()
	return &listing{opened, bufio.NewWriterSize(opened, 16<<10), l}, nil
}

func (l *listener) Close() error {
	l.once.Do(func() { l.Listener.Close() })
	return nil
}

// listing is a data connection to which the library writes an entry at a time.
type listing struct {
	net.Conn
	buffer *bufio.Writer
	l      *listener
}

func (c *listing) RemoteAddr() net.Addr { return here }

func (c *listing) Write(p []byte) (int, error) {
	var err error
	if c.l.run.verb == "MLSD" && len(c.l.s.hidden) > 0 {
		_, err = c.buffer.WriteString(c.l.s.shown(string(p)))
	} else {
		_, err = c.buffer.Write(p)
	}
	return len(p), err
}

// Flush is called at the end. The library does not care for its error.
func (c *listing) Flush() error {
	err := c.buffer.Flush()
	if err != nil {
		c.l.run.failed(errors.Join(ErrBroken, err))
	}
	return err
}
