package ftp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// memory is a backend whose files are in memory: one directory for all users.
type memory struct {
	mu       sync.Mutex
	files    map[string]*memoryFile
	refusal  error    // of what Create and Login do
	open     int      // sessions
	verdicts []string // on uploads, in their order
}

type memoryFile struct {
	name     string
	content  []byte
	modified time.Time
	dir      bool
	partial  bool
}

func (f *memoryFile) Name() string       { return path.Base(f.name) }
func (f *memoryFile) Size() int64        { return int64(len(f.content)) }
func (f *memoryFile) ModTime() time.Time { return f.modified }
func (f *memoryFile) IsDir() bool        { return f.dir }
func (f *memoryFile) Sys() any           { return nil }
func (f *memoryFile) Mode() fs.FileMode {
	if f.dir {
		return fs.ModeDir | 0o750
	}
	return 0o640
}

func newMemory() *memory {
	return &memory{files: map[string]*memoryFile{"/": {name: "/", dir: true}}}
}

func (m *memory) Login(string, netip.Addr) (Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusal != nil {
		return nil, m.refusal
	}
	m.open++
	return memorySession{m}, nil
}

func (m *memory) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refusal = err
}

// told waits for the verdicts.
func (m *memory) told(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return slices.Equal(m.verdicts, want)
	}, "%v", want)
}

// content is what a finished file holds.
func (m *memory) content(t testing.TB, name string) string {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	require.True(t, f != nil && !f.dir && !f.partial, "%s", name)
	return string(f.content)
}

// change locks the memory, and makes sure that the directory of name is there.
func (m *memory) change(name string, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dir := m.files[path.Dir(name)]; dir == nil || !dir.dir {
		return fs.ErrNotExist
	}
	return do()
}

// get finds what has the name. The memory is locked.
func (m *memory) get(name string) (*memoryFile, error) {
	if f := m.files[name]; f != nil {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

type memorySession struct{ *memory }

func (s memorySession) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

func (s memorySession) Stat(name string) (info fs.FileInfo, err error) {
	err = s.change(name, func() error { info, err = s.get(name); return err })
	return info, err
}

func (s memorySession) Chdir(name string) error {
	info, err := s.Stat(name)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	return err
}

func (s memorySession) ReadDir(name string) (list []fs.FileInfo, err error) {
	err = s.change(name, func() error {
		for at, f := range s.files {
			if path.Dir(at) == name && at != "/" {
				list = append(list, f)
			}
		}
		return nil
	})
	slices.SortFunc(list, func(a, b fs.FileInfo) int { return strings.Compare(a.Name(), b.Name()) })
	return list, err
}

func (s memorySession) Open(name string) (io.ReadSeekCloser, error) {
	var content []byte
	err := s.change(name, func() error {
		f, err := s.get(name)
		if err == nil {
			content = f.content
		}
		return err
	})
	return struct {
		io.ReadSeeker
		io.Closer
	}{bytes.NewReader(content), io.NopCloser(nil)}, err
}

func (s memorySession) Mkdir(name string) error {
	return s.change(name, func() error {
		if s.files[name] != nil {
			return fs.ErrExist
		}
		s.files[name] = &memoryFile{name: name, dir: true}
		return nil
	})
}

func (s memorySession) remove(name string, dir bool) error {
	return s.change(name, func() error {
		f, err := s.get(name)
		switch {
		case err != nil:
			return err
		case dir && !f.dir:
			return syscall.ENOTDIR
		case !dir && f.dir:
			return syscall.EISDIR
		}
		for at := range s.files {
			if strings.HasPrefix(at, name+"/") {
				return syscall.ENOTEMPTY
			}
		}
		delete(s.files, name)
		return nil
	})
}

func (s memorySession) Remove(name string) error    { return s.remove(name, false) }
func (s memorySession) RemoveDir(name string) error { return s.remove(name, true) }

func (s memorySession) Rename(from, to string) error {
	return s.change(to, func() error {
		f, err := s.get(from)
		if err == nil {
			delete(s.files, from)
			f.name, s.files[to] = to, f
		}
		return err
	})
}

func (s memorySession) Chtimes(name string, modified time.Time) error {
	return s.change(name, func() error {
		f, err := s.get(name)
		if err == nil {
			f.modified = modified
		}
		return err
	})
}

func (s memorySession) Create(name string, how Start) (u Upload, err error) {
	err = s.change(name, func() error {
		if s.refusal != nil {
			return s.refusal
		}
		f := &memoryFile{name: name, partial: true}
		if former := s.files[name]; how.Append || how.Offset > 0 {
			if former == nil || int64(len(former.content)) < how.Offset {
				return &Error{Code: 554, Text: "There is not so much to resume."}
			}
			f.content = slices.Clone(former.content)
			if !how.Append {
				f.content = f.content[:how.Offset]
			}
		}
		s.files[name] = f
		u = &memoryUpload{s.memory, f, how}
		return nil
	})
	return u, err
}

type memoryUpload struct {
	m   *memory
	f   *memoryFile
	how Start
}

func (u *memoryUpload) Write(p []byte) (int, error) {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	u.f.content = append(u.f.content, p...)
	return len(p), nil
}

func (u *memoryUpload) Size() int64 {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	return u.f.Size()
}

func (u *memoryUpload) Temporary() bool { return path.Ext(u.f.name) == ".part" }

func (u *memoryUpload) Commit() error {
	if err := u.how.Confirm(); err != nil {
		return err
	}
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	u.f.partial = false
	return nil
}

func (u *memoryUpload) Interrupt(reason error) error { u.tell("interrupt"); return nil }
func (u *memoryUpload) Read()                        { u.tell("read") }
func (u *memoryUpload) Interrupted(string)           { u.tell("interrupted") }
func (u *memoryUpload) Doubtful(string)              { u.tell("doubtful") }

func (u *memoryUpload) tell(verdict string) {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	u.m.verdicts = append(u.m.verdicts, verdict+" "+u.f.name)
}

// startOver serves over the backend, for the one user dock, whose password is pass.
func startOver(t testing.TB, backend Backend, change func(*Options)) *node {
	t.Helper()
	n := &node{log: &syncBuffer{}, served: make(chan error, 1)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	opts := Options{
		Listener: listener, Backend: backend, Settle: time.Hour, Log: n.logger(),
		Users: []User{{Name: "dock", Password: "pass", Readable: true}},
	}
	if change != nil {
		change(&opts)
	}
	n.addr = listener.Addr().String()
	n.Server, err = New(opts)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.served <- n.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		n.Close()
		require.NoError(t, <-n.served)
		if t.Failed() {
			t.Log(n.log.String())
		}
	})
	return n
}

// TestAnyBackend drives all of a backend's methods from the wire.
func TestAnyBackend(t *testing.T) {
	m := newMemory()
	n := startOver(t, m, nil)
	c := n.login(t)
	require.Equal(t, "Transfer complete.", c.store("a.csv", []byte("a;b\n")))
	require.Equal(t, "a;b\n", m.content(t, "/a.csv"))
	require.Equal(t, "Transfer complete; the file waits for its last name.", c.store("b.part", []byte("b")))
	m.told(t, "read /a.csv") // the next upload's commands acknowledge the 226 of this one
	c.upload(226, "APPE a.csv", []byte("c;d\n"))
	c.do(350, "REST 6")
	c.upload(226, "STOR a.csv", []byte("D\n"))
	require.Equal(t, "a;b\nc;D\n", m.content(t, "/a.csv"))
	m.told(t, "read /a.csv", "read /b.part", "read /a.csv")

	require.Equal(t, "8", c.do(213, "SIZE a.csv"))
	c.do(213, "MFMT 20240229123456 a.csv")
	require.Equal(t, "20240229123456", c.do(213, "MDTM a.csv"))
	c.do(257, "MKD x")
	c.do(250, "CWD x")
	c.do(350, "RNFR ../a.csv")
	c.do(250, "RNTO c.csv")
	require.Equal(t, "c.csv\r\n", c.fetch("NLST"))
	require.Contains(t, c.fetch("LIST"), " 8 Feb 29  2024 c.csv\r\n")
	require.Equal(t, "Type=file;Size=8;Modify=20240229123456; c.csv\r\n", c.fetch("MLSD"))
	require.Equal(t, "a;b\nc;D\n", c.fetch("RETR c.csv"))
	c.do(350, "REST 4")
	require.Equal(t, "c;D\n", c.fetch("RETR c.csv"))
	require.Equal(t, "Remove directory operation failed: Directory not empty.", c.do(550, "RMD /x"))
	c.do(250, "DELE c.csv")
	c.do(250, "CDUP")
	c.do(250, "RMD x")
	require.Equal(t, "b.part\r\n", c.fetch("NLST"))

	data := c.passive()
	c.do(150, "STOR c.csv")
	_, err := data.Write([]byte("half"))
	require.NoError(t, err)
	c.arrived()
	c.send("ABOR")
	c.expect(426)
	c.expect(226)
	m.told(t, "read /a.csv", "read /b.part", "read /a.csv", "read /a.csv", "interrupt /c.csv")

	c.do(221, "QUIT")
	eventually(t, func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.open == 0 }, "the session is closed")
}

// TestErrorsCarryTheirReply holds what clients read of a backend's errors.
func TestErrorsCarryTheirReply(t *testing.T) {
	m := newMemory()
	n := startOver(t, m, nil)
	m.refuse(&Error{Code: 451, Text: "The disk is not there; try again later.", Err: errors.New("mount: no such device")})
	c := n.dial(t)
	c.expect(220)
	c.do(331, "USER dock")
	require.Equal(t, "The disk is not there; try again later.", c.do(451, "PASS pass"))
	m.refuse(nil)
	c.login("dock", "pass")
	for _, step := range []struct {
		err  error
		code int
		text string
	}{
		{&Error{Code: 452, Text: "Full.", Err: errors.New("secret path")}, 452, "Full."},
		{&Error{Code: 550, Text: "It is locked."}, 550, "Could not create file: It is locked."},
		{&Error{Code: 553, Text: "Not this\r\n226 name."}, 553, "Not this?\n226 name."},
		{fs.ErrPermission, 550, "Could not create file: Permission denied."},
		{errors.New("secret path"), 451, "Trouble on the server; try again later."},
	} {
		m.refuse(step.err)
		require.Equal(t, step.text, c.refused(step.code, "STOR x"))
	}
	require.Contains(t, n.log.String(), "upload refused: the node is full")
}

// faulty panics at everything that is called bad.
type faulty struct{ *memory }

func (b faulty) Login(string, netip.Addr) (Session, error) {
	return brokenSession{memorySession(b)}, nil
}

type brokenSession struct{ memorySession }

func fail(name string) {
	if path.Base(name) == "bad" {
		panic("226 secret")
	}
}

func (s brokenSession) Stat(name string) (fs.FileInfo, error) {
	fail(name)
	return s.memorySession.Stat(name)
}
func (s brokenSession) Rename(from, to string) error {
	fail(to)
	return s.memorySession.Rename(from, to)
}
func (s brokenSession) Create(name string, how Start) (Upload, error) {
	fail(name)
	u, err := s.memorySession.Create(name, how)
	return brokenUpload{u}, err
}

type brokenUpload struct{ Upload }

func (u brokenUpload) Write(p []byte) (int, error) { panic("226 secret") }

// TestPanicInBackend holds that a panic in one command is told as trouble, without its text, and that the next one is served.
func TestPanicInBackend(t *testing.T) {
	m := newMemory()
	n := startOver(t, faulty{m}, nil)
	c := n.login(t)
	const told = "Internal error; try again later."
	require.Equal(t, told, c.do(451, "SIZE bad"))
	require.Equal(t, told, c.do(451, "MLST bad"))
	require.Equal(t, told, c.refused(451, "LIST bad"))
	require.Equal(t, told, c.refused(451, "STOR bad"))
	require.Equal(t, told, c.upload(451, "STOR x", []byte("x")))
	m.told(t, "interrupt /x")
	c.upload(226, "STOR empty", nil)
	c.do(350, "RNFR empty")
	require.Equal(t, told, c.do(451, "RNTO bad"))
	require.Equal(t, told, c.do(451, "SITE CHMOD 644 bad"))
	require.Contains(t, n.log.String(), "panic in a command")
}

// unreadable panics when an upload was read by its client.
type unreadable struct{ *memory }

func (b unreadable) Login(string, netip.Addr) (Session, error) {
	return unreadableSession{memorySession(b)}, nil
}

type unreadableSession struct{ memorySession }

func (s unreadableSession) Create(name string, how Start) (Upload, error) {
	u, err := s.memorySession.Create(name, how)
	return unreadableUpload{u}, err
}

type unreadableUpload struct{ Upload }

func (unreadableUpload) Read() { panic("oh") }

// TestPanicInVerdict: behind the reply, too, it ends the session, which does not wait for its transfer for ever.
func TestPanicInVerdict(t *testing.T) {
	n := startOver(t, unreadable{newMemory()}, func(o *Options) { o.TrustHangups = true })
	c := n.login(t)
	c.upload(226, "STOR x", []byte("x"))
	c.requireClosed()
	eventually(t, func() bool { return n.sessionCount() == 0 }, "it has ended")
	require.Contains(t, n.log.String(), "panic in a session")
	n.login(t)
}

// TestPanicInSession: it ends the session, and nothing else.
func TestPanicInSession(t *testing.T) {
	n := startOver(t, newMemory(), nil)
	n.verbs["NOOP"] = verb{run: func(*session, string) string { panic("oh") }, early: true}
	c := n.dial(t)
	c.expect(220)
	c.send("NOOP")
	c.requireClosed()
	eventually(t, func() bool { return n.sessionCount() == 0 }, "it has ended")
	require.Contains(t, n.log.String(), "panic in a session")
	n.login(t)
}

func TestUserIsChecked(t *testing.T) {
	require.NoError(t, User{Name: "dock", Password: "s3cret"}.Check())
	for want, u := range map[string]User{
		"has no name":          {Password: "s3cret"},
		"control characters":   {Name: "a\nb", Password: "s3cret"},
		"neither password nor": {Name: "dock"},
		"both password and":    {Name: "dock", Password: "s3cret", PasswordHash: "s3cret"},
		"argon2id parameter":   {Name: "dock", PasswordHash: "$argon2id$v=19$m=99999999999999,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWFhYWFh"},
		"neither bcrypt":       {Name: "dock", PasswordHash: "s3cret"},
	} {
		err := u.Check()
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "s3cret")
	}
}
