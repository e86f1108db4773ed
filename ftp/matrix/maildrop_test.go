// Code generated from cmd/ftpnode/backend.go by copybackend. DO NOT EDIT.

//go:build matrix

package matrix

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// maildrop is the drop as the FTP server uses it.
type maildrop struct {
	drop        *drop.Drop
	directories map[string]string // of users, by name. By default, the name

	mu   sync.Mutex
	open map[string]*drop.UserDir // by user
}

func newMaildrop(d *drop.Drop, directories map[string]string) *maildrop {
	return &maildrop{drop: d, directories: directories, open: make(map[string]*drop.UserDir)}
}

// user makes and opens the user's directory. One that could not be made is tried again.
func (m *maildrop) user(name string) (*drop.UserDir, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dir := m.open[name]; dir != nil {
		return dir, nil
	}
	dir, err := m.drop.User(name, cmp.Or(m.directories[name], name))
	if err != nil {
		return nil, err
	}
	m.open[name] = dir
	return dir, nil
}

func (m *maildrop) Login(user string, remote netip.Addr) (ftp.Session, error) {
	dir, err := m.user(user)
	if err != nil {
		return nil, answered(err)
	}
	return maildropSession{dir.Session(remote)}, nil
}

// maildropSession is a session of the drop. The methods that it does not show here are the drop's.
type maildropSession struct{ *drop.Session }

var _ ftp.Counter = maildropSession{}

func (s maildropSession) Stat(name string) (fs.FileInfo, error) {
	info, err := s.Session.Stat(name)
	return info, answered(err)
}

func (s maildropSession) ReadDir(name string) ([]fs.FileInfo, error) {
	list, err := s.Session.ReadDir(name)
	return list, answered(err)
}

func (s maildropSession) Open(name string) (io.ReadSeekCloser, error) {
	f, err := s.Session.Open(name)
	if err != nil {
		return nil, answered(err)
	}
	return f, nil
}

func (s maildropSession) Create(name string, how ftp.Start) (ftp.Upload, error) {
	u, err := s.Session.Create(name, drop.Start{
		Offset: how.Offset, Append: how.Append, Declared: how.Declared, Confirm: how.Confirm, Unread: true,
	})
	switch {
	case errors.Is(err, drop.ErrNoPartial) && how.Append:
		return nil, &ftp.Error{Code: 554, Text: "There is nothing to append to; use STOR.", Err: err}
	case err != nil:
		return nil, answered(err)
	}
	return maildropUpload{u}, nil
}

func (s maildropSession) Chdir(name string) error      { return answered(s.Session.Chdir(name)) }
func (s maildropSession) Remove(name string) error     { return answered(s.Session.Remove(name)) }
func (s maildropSession) RemoveDir(name string) error  { return answered(s.Session.RemoveDir(name)) }
func (s maildropSession) Mkdir(name string) error      { return answered(s.Session.Mkdir(name)) }
func (s maildropSession) Rename(from, to string) error { return answered(s.Session.Rename(from, to)) }
func (s maildropSession) Chtimes(name string, modified time.Time) error {
	return answered(s.Session.Chtimes(name, modified))
}

// maildropUpload is an upload of the drop.
type maildropUpload struct{ *drop.Upload }

func (u maildropUpload) Write(p []byte) (int, error) {
	n, err := u.Upload.Write(p)
	return n, answered(err)
}

func (u maildropUpload) Commit() error {
	err := u.Upload.Commit()
	if errors.Is(err, drop.ErrIncomplete) {
		return &ftp.Error{Code: 426, Text: "The file is shorter than declared; what came so far is kept and can be resumed.", Err: err}
	}
	return answered(err)
}

// answers are the replies to the drop's errors, which it does not have itself.
var answers = []struct {
	err  error
	code int
	text string
}{
	{drop.ErrFull, 452, "No space now; try again later."},
	{drop.ErrTooLarge, 552, "The file is larger than what is accepted here."},
	{drop.ErrNotReady, 450, "Nothing can be delivered now; try again later."},
	{drop.ErrNotDelivered, 451, "The file could not be delivered in time; send it again."},
	{drop.ErrRefused, 552, "The file is refused where it is to be delivered."},
	{drop.ErrBusy, 450, "The file is in use; try again later."},
	{drop.ErrDue, 550, "The file is being delivered and can no longer be changed."},
	{drop.ErrReplaced, 550, "Another session has sent this file anew."},
	{drop.ErrName, 553, "This name is not allowed."},
	{drop.ErrNoPartial, 554, "There is nothing to resume; send the file from its start."},
	{drop.ErrOffset, 554, "The offset is beyond what was received; ask SIZE."},
	{drop.ErrIncomplete, 550, "The upload of this file is not complete."},
	{drop.ErrSuperseded, 426, "A newer upload of the same name took its place."},
}

// answered is an error of the drop with its reply.
func answered(err error) error {
	if err == nil {
		return nil
	}
	for _, a := range answers {
		if errors.Is(err, a.err) {
			return &ftp.Error{Code: a.code, Text: a.text, Err: err}
		}
	}
	return err
}
