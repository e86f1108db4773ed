package ftp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/spf13/afero"
)

// driver is the user's directory as the library sees it. Its names are absolute paths.
type driver struct{ s *session }

var (
	_ ftpserver.ClientDriver                      = (*driver)(nil)
	_ ftpserver.ClientDriverExtensionFileList     = (*driver)(nil)
	_ ftpserver.ClientDriverExtentionFileTransfer = (*driver)(nil)
	_ ftpserver.ClientDriverExtensionRemoveDir    = (*driver)(nil)
	_ afero.Fs                                    = (*driver)(nil)
)

// guarded runs an operation of the driver: its error is kept for the reply, a panic becomes one.
//
// ftpserverlib: a panic in the driver is told to the client with its text. It can go when the library replies
// with a text of its own.
func (s *session) guarded(operation func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("panic in a command", "panic", fmt.Sprint(r))
			err = s.failed(errPanic)
		}
	}()
	return s.failed(operation())
}

func (d *driver) GetHandle(name string, flags int, _ int64) (handle ftpserver.FileTransfer, err error) {
	err = d.s.guarded(func() error {
		if flags&os.O_WRONLY == 0 {
			handle, err = d.s.openDownload(name)
		} else {
			handle, err = d.s.openUpload(name, flags&os.O_APPEND != 0)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return handle, nil
}

func (d *driver) Stat(name string) (info os.FileInfo, err error) {
	err = d.s.guarded(func() error {
		found, err := d.s.files.Stat(name)
		if errors.Is(err, fs.ErrNotExist) && d.s.isPattern(name) {
			found, err = d.s.files.Stat(path.Dir(name)) // ReadDir makes of it what it stands for
		}
		if err == nil {
			info = listed{found}
		}
		return err
	})
	return info, err
}

// A listing is in memory until its client has read it. So those of users with more files than longListing take turns, maxListings at a time.
const longListing, maxListings = 2000, 3

// awaitListing waits until a listing may begin. It is over when its command is.
func (s *session) awaitListing() error {
	if counter, ok := s.files.(Counter); !ok || counter.Files() <= longListing {
		return nil
	}
	c := s.current()
	ctx, cancel := s.context()
	defer cancel()
	select {
	case s.srv.listings <- struct{}{}:
	case <-ctx.Done():
		return errStopped
	case <-s.gone:
		return errStopped
	}
	go func() {
		select {
		case <-c.done:
		case <-s.ended:
		}
		<-s.srv.listings
	}()
	return nil
}

// ReadDir lists a directory, or what a pattern as in "NLST *.csv" stands for.
func (d *driver) ReadDir(name string) (infos []os.FileInfo, err error) {
	err = d.s.guarded(func() error {
		if err := d.s.awaitListing(); err != nil {
			return err
		}
		dir, pattern := name, "*"
		if _, err := d.s.files.Stat(name); errors.Is(err, fs.ErrNotExist) && d.s.isPattern(name) {
			dir, pattern = path.Split(name)
			dir = path.Clean(dir)
			d.s.cc.SetListPath(dir)
		}
		entries, err := d.s.files.ReadDir(dir)
		infos = entries[:0] // of the same memory
		for _, e := range entries {
			if ok, err := path.Match(pattern, e.Name()); ok || err != nil || pattern == "*" {
				infos = append(infos, listed{e})
			}
		}
		return err
	})
	return infos, err
}

// isPattern reports whether a list of what the name matches is asked for.
func (s *session) isPattern(name string) bool {
	c := s.current()
	return c != nil && (c.verb == "LIST" || c.verb == "NLST") && strings.ContainsAny(path.Base(name), "*?[")
}

func (d *driver) Remove(name string) error {
	return d.s.guarded(func() error { return d.s.files.Remove(name) })
}

func (d *driver) RemoveDir(name string) error {
	return d.s.guarded(func() error { return d.s.files.RemoveDir(name) })
}

func (d *driver) Mkdir(name string, _ os.FileMode) error {
	return d.s.guarded(func() error { return d.s.files.Mkdir(name) })
}

func (d *driver) Chtimes(name string, _, mtime time.Time) error {
	return d.s.guarded(func() error { return d.s.files.Chtimes(name, mtime) })
}

// What follows is never called: the session answers SITE and RNTO, and the extensions above replace the rest.

func (d *driver) Name() string                                          { return "ftpnode" }
func (d *driver) Create(string) (afero.File, error)                     { return nil, errUnsupported }
func (d *driver) Open(string) (afero.File, error)                       { return nil, errUnsupported }
func (d *driver) OpenFile(string, int, os.FileMode) (afero.File, error) { return nil, errUnsupported }
func (d *driver) Rename(string, string) error                           { return errUnsupported }
func (d *driver) MkdirAll(string, os.FileMode) error                    { return errUnsupported }
func (d *driver) RemoveAll(string) error                                { return errUnsupported }
func (d *driver) Chmod(string, os.FileMode) error                       { return errUnsupported }
func (d *driver) Chown(string, int, int) error                          { return errUnsupported }

// listed is a file in a listing: its time in UTC, as the protocol has it, and no control characters in its
// name, which files of other programs may have.
type listed struct{ fs.FileInfo }

func (l listed) Name() string       { return printable(l.FileInfo.Name()) }
func (l listed) ModTime() time.Time { return l.FileInfo.ModTime().UTC() }

// abs is the path below the user's directory that the library makes of a name, too.
func (s *session) abs(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(s.cc.Path(), name)
}

// handleTransfer is for the commands that open the data connection.
func (s *session) handleTransfer(arg string) string {
	c := s.current()
	if c.verb == "RETR" || isUpload(c.verb) { // a listing leaves what was said of the next file
		c.offset, s.offset = s.offset, 0
	}
	if isUpload(c.verb) {
		c.declared, s.declared = s.declared, -1
	}
	if s.mustProtect() && !s.protected {
		s.log.Warn("a transfer without TLS was refused; the device must encrypt data connections too (PROT P)")
		return s.answer(521, "Data connections must be encrypted; send PBSZ 0 and PROT P first.")
	}
	if !s.data.usable() { // else an upload would begin that cannot come
		return s.answer(425, "Use PASV or EPSV first.")
	}
	if c.verb == "STOU" {
		return "STOR " + c.name
	}
	return s.pass(arg)
}

// handleStou makes up a name: the given one with a number, if there is one.
func (s *session) handleStou(arg string) string {
	dir, base := path.Split(s.abs(arg))
	if arg == "" || base == "" {
		base = "upload-" + time.Now().UTC().Format("20060102T150405")
		dir = s.abs("")
	}
	ext := path.Ext(base)
	c := s.current()
	for range 100 {
		name := path.Join(dir, fmt.Sprintf("%s-%s%s", strings.TrimSuffix(base, ext), strings.ToLower(rand.Text()[:8]), ext))
		if _, err := s.files.Stat(name); errors.Is(err, fs.ErrNotExist) {
			c.name = name
			return s.handleTransfer(arg)
		}
	}
	return s.answer(450, "No free name was found; try again later.")
}

// handleCwd takes no name, and "~" if there is none of that, for the user's directory.
func (s *session) handleCwd(arg string) string {
	if rest, ok := strings.CutPrefix(arg, "~"); arg == "" || (ok && (rest == "" || rest[0] == '/')) {
		if _, err := s.files.Stat(s.abs(arg)); arg == "" || errors.Is(err, fs.ErrNotExist) {
			arg = "/" + rest
		}
	}
	return s.changeDir(s.abs(arg))
}

func (s *session) handleCdup(string) string { return s.changeDir(path.Dir(s.cc.Path())) }

// changeDir is for CWD and CDUP. The drop has to know where sessions stand.
func (s *session) changeDir(dir string) string {
	if err := s.guarded(func() error { return s.files.Chdir(dir) }); err != nil {
		return s.answer(refusal(s.current().verb, err))
	}
	s.cc.SetPath(dir)
	return s.answer(250, "Directory successfully changed.")
}

// facts of MLST and MLSD, in the order of the library's.
var facts = []string{"Type", "Size", "Modify"}

// factList is how FEAT and OPTS name them: those that are shown have the mark, and without one the others are left out.
func (s *session) factList(mark string) string {
	var b strings.Builder
	for _, f := range facts {
		switch {
		case !slices.Contains(s.hidden, f):
			b.WriteString(f + mark + ";")
		case mark != "":
			b.WriteString(f + ";")
		}
	}
	return b.String()
}

// handleMlst tells of one file or directory.
//
// ftpserverlib: the name in its answer is the last part of the path, and "/" has the name of the directory on the disk. It can
// go when it answers with the path.
func (s *session) handleMlst(arg string) string {
	var info fs.FileInfo
	err := s.guarded(func() (err error) { info, err = s.files.Stat(s.abs(arg)); return err })
	if err != nil {
		return s.answer(refusal("MLST", err))
	}
	kind := "file"
	if info.IsDir() {
		kind = "dir"
	}
	if arg == "" {
		arg = s.abs("")
	}
	entry := fmt.Sprintf("Type=%s;Size=%d;Modify=%s; %s", kind, info.Size(), info.ModTime().UTC().Format("20060102150405"), arg)
	return s.answerRaw(block(250, "Listing", []string{withoutFacts(entry, s.hidden)}, "End"))
}

// withoutFacts is an entry of MLST or MLSD without some facts.
func withoutFacts(entry string, hidden []string) string {
	all, name, _ := strings.Cut(entry, " ")
	var b strings.Builder
	for fact := range strings.SplitAfterSeq(all, ";") {
		if key, _, _ := strings.Cut(fact, "="); !slices.Contains(hidden, key) {
			b.WriteString(fact)
		}
	}
	return b.String() + " " + name
}

// factConn is a data connection for MLSD, of which the library writes an entry at a time.
type factConn struct {
	net.Conn
	hidden []string
}

func (c *factConn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write([]byte(withoutFacts(string(p), c.hidden))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// handleList is for LIST and NLST, whose options, as in "LIST -al name", change nothing here.
func (s *session) handleList(arg string) string {
	for strings.HasPrefix(arg, "-") {
		_, rest, _ := strings.Cut(arg, " ")
		arg = strings.TrimLeft(rest, " ")
	}
	return s.handleTransfer(arg)
}

// handleRnfr keeps the file to rename for RNTO.
//
// ftpserverlib: it remembers a former file when another RNFR or an RNTO has failed. It never hears of the two. It can go
// when both forget it.
func (s *session) handleRnfr(arg string) string {
	s.renaming = ""
	name := s.abs(arg)
	if err := s.guarded(func() error { _, err := s.files.Stat(name); return err }); err != nil {
		return s.answer(refusal("RNFR", err))
	}
	s.renaming = name
	return s.answer(350, "Ready for RNTO.")
}

func (s *session) handleRnto(arg string) string {
	from := s.renaming
	s.renaming = ""
	if from == "" {
		return s.answer(503, "RNFR required first.")
	}
	if err := s.guarded(func() error { return s.files.Rename(from, s.abs(arg)) }); err != nil {
		return s.answer(refusal("RNTO", err))
	}
	return s.answer(250, "Rename successful.")
}

// handleMfmt is "MFMT 20060102150405 name".
func (s *session) handleMfmt(arg string) string {
	stamp, name, _ := strings.Cut(arg, " ")
	t, err := parseStamp(stamp)
	if err != nil || name == "" {
		return s.answer(501, "Expected MFMT, YYYYMMDDHHMMSS and a name.")
	}
	return s.setTime(name, t, 213, fmt.Sprintf("Modify=%s; %s", stamp, name))
}

// handleMdtm tells a time, or sets it as old clients do: "MDTM 20060102150405 name", or "MDTM 20060102150405+120 name" with the minutes by
// which their clocks are ahead of UTC, as Serv-U has it.
func (s *session) handleMdtm(arg string) string {
	stamp, name, _ := strings.Cut(arg, " ")
	t, err := parseZoned(stamp)
	if err != nil || name == "" {
		return s.pass(arg)
	}
	if _, err := s.files.Stat(s.abs(arg)); err == nil {
		return s.pass(arg) // a name that looks like it
	}
	return s.setTime(name, t, 213, stamp)
}

// handleMff is "MFF Modify=20060102150405;UNIX.mode=0644; name". Facts that the server keeps itself are left out.
func (s *session) handleMff(arg string) string {
	facts, name, _ := strings.Cut(arg, " ")
	if name == "" {
		return s.answer(501, "Expected MFF, facts and a name.")
	}
	for fact := range strings.SplitSeq(strings.TrimSuffix(facts, ";"), ";") {
		key, value, _ := strings.Cut(fact, "=")
		if !strings.EqualFold(key, "Modify") {
			continue
		}
		t, err := parseStamp(value)
		if err != nil {
			return s.answer(501, "Expected Modify=YYYYMMDDHHMMSS.")
		}
		return s.setTime(name, t, 213, fmt.Sprintf("Modify=%s; %s", value, name))
	}
	return s.answer(504, "Only the fact Modify can be set.")
}

// handleSite answers what clients send after an upload, so that they do not take it for a failure.
//
// ftpserverlib: SITE CHMOD without a path panics, and UTIME is not known. The library never hears of SITE. It
// can go when both are mended and replies can be ours.
func (s *session) handleSite(arg string) string {
	sub, rest, _ := strings.Cut(arg, " ")
	switch strings.ToUpper(sub) {
	case "CHMOD":
		_, name, _ := strings.Cut(rest, " ")
		if name == "" {
			return s.answer(501, "Expected SITE CHMOD, a mode and a name.")
		}
		if _, err := s.files.Stat(s.abs(name)); err != nil {
			return s.answer(refusal("SITE", err))
		}
		return s.answer(200, "SITE CHMOD command ok; the server keeps its own permissions.")
	case "UTIME":
		name, t, err := parseUtime(rest)
		if err != nil {
			return s.answer(501, "Expected SITE UTIME YYYYMMDDHHMMSS name.")
		}
		return s.setTime(name, t, 200, "SITE UTIME command ok.")
	case "UMASK", "IDLE", "CHGRP", "CHOWN":
		return s.answer(200, "SITE "+strings.ToUpper(sub)+" command ok; the server keeps its own.")
	case "HELP":
		return s.answer(214, "SITE CHMOD, UTIME, UMASK, IDLE, HELP.")
	}
	return s.answer(504, "This SITE command is not known here.")
}

// setTime sets a file's time and answers.
func (s *session) setTime(name string, t time.Time, code int, text string) string {
	if err := s.guarded(func() error { return s.files.Chtimes(s.abs(name), t) }); err != nil {
		return s.answer(refusal("MFMT", err))
	}
	return s.answer(code, text)
}

// parseStamp reads YYYYMMDDHHMMSS, with a fraction or without.
func parseStamp(text string) (time.Time, error) {
	return time.Parse("20060102150405", text)
}

// parseZoned is parseStamp, with or without the minutes ahead of UTC.
func parseZoned(text string) (time.Time, error) {
	i := strings.IndexAny(text, "+-")
	if i < 0 {
		return parseStamp(text)
	}
	t, err := parseStamp(text[:i])
	if err != nil {
		return t, err
	}
	minutes, err := strconv.ParseInt(text[i:], 10, 16)
	return t.Add(-time.Duration(minutes) * time.Minute), err
}

// parseUtime reads "YYYYMMDDHHMM[SS] name" and "name atime mtime ctime UTC".
func parseUtime(arg string) (name string, t time.Time, err error) {
	stamp, name, ok := strings.Cut(arg, " ")
	if ok {
		for _, layout := range []string{"20060102150405", "200601021504"} {
			if t, err = time.Parse(layout, stamp); err == nil {
				return name, t, nil
			}
		}
	}
	fields := strings.Split(arg, " ")
	if n := len(fields); n >= 5 && strings.EqualFold(fields[n-1], "UTC") {
		if t, err = parseStamp(fields[n-3]); err == nil {
			return strings.Join(fields[:n-4], " "), t, nil
		}
	}
	return "", time.Time{}, errors.New("no time and name")
}

// download is a file that a client reads.
type download struct {
	s    *session
	c    *command
	file io.ReadSeekCloser
}

func (s *session) openDownload(name string) (ftpserver.FileTransfer, error) {
	c := s.current()
	if !s.account.Readable {
		return nil, errNotReadable
	}
	f, err := s.files.Open(name)
	if err != nil {
		return nil, err
	}
	if c.offset > 0 {
		size, err := f.Seek(0, io.SeekEnd)
		if err == nil && c.offset > size {
			err = errOffset
		}
		if err == nil {
			_, err = f.Seek(c.offset, io.SeekStart)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
	}
	return &download{s: s, c: c, file: f}, nil
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.file.Read(p)
	d.s.count(d.c, n)
	if err != nil && !errors.Is(err, io.EOF) {
		d.s.failed(err)
	}
	return n, err
}

func (d *download) Write([]byte) (int, error)      { return 0, errUnsupported }
func (d *download) Seek(int64, int) (int64, error) { return 0, errUnsupported }
func (d *download) Close() error                   { return d.file.Close() }

func (s *session) count(c *command, n int) {
	s.mu.Lock()
	c.bytes += int64(n)
	s.mu.Unlock()
}
