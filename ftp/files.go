package ftp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/ftp/internal/engine"
)

// files are the backend's as the engine works on them.
type files struct {
	Session
	s *session
}

// guarded runs an operation of the backend's: a panic becomes an error, as in the engine.
func (s *session) guarded(operation func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", engine.ErrInternal, p)
		}
	}()
	return operation()
}

func (f files) Stat(name string) (fs.FileInfo, error) {
	info, err := f.Session.Stat(name)
	if err != nil {
		return nil, err
	}
	return listed{info}, nil
}

func (f files) ReadDir(name string) ([]fs.FileInfo, error) {
	if err := f.s.awaitListing(); err != nil {
		return nil, err
	}
	list, err := f.Session.ReadDir(name)
	for i, info := range list {
		list[i] = listed{info}
	}
	return list, err
}

func (f files) Open(name string) (io.ReadCloser, error) { return f.s.openDownload(name) }

func (f files) Create(name string, appending bool) (engine.Upload, error) {
	return f.s.openUpload(name, appending)
}

// stat is the backend's.
func (s *session) stat(name string) (info fs.FileInfo, err error) {
	err = s.guarded(func() error { info, err = s.files.Stat(name); return err })
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
		<-c.done
		<-s.srv.listings
	}()
	return nil
}

// listed is a file in a listing: its time in UTC, as the protocol has it, and no control characters in its
// name, which files of other programs may have.
type listed struct{ fs.FileInfo }

func (l listed) Name() string       { return printable(l.FileInfo.Name()) }
func (l listed) ModTime() time.Time { return l.FileInfo.ModTime().UTC() }

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
		s.warn(faultPlainData, "a transfer without TLS was refused; the device must encrypt data connections too (PROT P)")
		return reply(521, "Data connections must be encrypted; send PBSZ 0 and PROT P first.")
	}
	if !s.data.usable() { // else an upload would begin that cannot come
		return reply(425, "Use PASV or EPSV first.")
	}
	verb := c.verb
	if verb == "STOU" {
		verb, arg = "STOR", c.name
	}
	data := s.data
	open := func() (net.Conn, error) { return data.open(c) }
	done := func(r engine.Reply) {
		defer s.recovered()
		defer s.finish(c) // in any case: the session waits for it
		data.done()
		code, text := s.translate(c, r)
		s.transferEnded(c, r.Err, code, text)
		if c.upload != nil {
			s.acknowledge(c, code, text)
		} else {
			s.send(reply(code, text))
		}
	}
	s.transfer(c, verb, arg, open, done)
	return ""
}

// handleStou makes up a name: the given one with a number, if there is one.
func (s *session) handleStou(arg string) string {
	dir, base := path.Split(s.engine.Abs(arg))
	if arg == "" || base == "" {
		base = "upload-" + time.Now().UTC().Format("20060102T150405")
		dir = s.engine.Abs("")
	}
	ext := path.Ext(base)
	c := s.current()
	for range 100 {
		name := path.Join(dir, fmt.Sprintf("%s-%s%s", strings.TrimSuffix(base, ext), strings.ToLower(rand.Text()[:8]), ext))
		if _, err := s.stat(name); errors.Is(err, fs.ErrNotExist) {
			c.name = name
			return s.handleTransfer(arg)
		}
	}
	return reply(450, "No free name was found; try again later.")
}

// handleCwd takes no name, and "~" if there is none of that, for the user's directory.
func (s *session) handleCwd(arg string) string {
	if rest, ok := strings.CutPrefix(arg, "~"); arg == "" || (ok && (rest == "" || rest[0] == '/')) {
		if _, err := s.stat(s.engine.Abs(arg)); arg == "" || errors.Is(err, fs.ErrNotExist) {
			arg = "/" + rest
		}
	}
	return s.changeDir(s.engine.Abs(arg))
}

func (s *session) handlePwd(string) string {
	return reply(257, fmt.Sprintf("%s is the current directory", quoted(s.engine.Dir())))
}

func (s *session) handleCdup(string) string { return s.changeDir(path.Dir(s.engine.Dir())) }

// changeDir is for CWD and CDUP. The drop has to know where sessions stand.
func (s *session) changeDir(dir string) string {
	if err := s.guarded(func() error { return s.files.Chdir(dir) }); err != nil {
		return s.refused(err)
	}
	s.engine.SetDir(dir)
	return reply(250, "Directory successfully changed.")
}

// factList is how FEAT and OPTS name them: those that are shown have the mark, and without one the others are left out.
func (s *session) factList(mark string) string {
	var b strings.Builder
	for _, f := range engine.Facts {
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
func (s *session) handleMlst(arg string) string {
	var entry string
	if r := s.engine.Do("MLST", arg, func(_ int, line string) { entry = line }); r.Err != nil {
		return s.refused(r.Err)
	}
	return block(250, "Listing", []string{entry}, "End")
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
func (s *session) handleRnfr(arg string) string {
	s.renaming = ""
	name := s.engine.Abs(arg)
	if _, err := s.stat(name); err != nil {
		return s.refused(err)
	}
	s.renaming = name
	return reply(350, "Ready for RNTO.")
}

func (s *session) handleRnto(arg string) string {
	from := s.renaming
	s.renaming = ""
	if from == "" {
		return reply(503, "RNFR required first.")
	}
	if err := s.guarded(func() error { return s.files.Rename(from, s.engine.Abs(arg)) }); err != nil {
		return s.refused(err)
	}
	return reply(250, "Rename successful.")
}

// handleMfmt is "MFMT 20060102150405 name".
func (s *session) handleMfmt(arg string) string {
	stamp, name, _ := strings.Cut(arg, " ")
	t, err := parseStamp(stamp)
	if err != nil || name == "" {
		return reply(501, "Expected MFMT, YYYYMMDDHHMMSS and a name.")
	}
	return s.setTime(name, t, 213, fmt.Sprintf("Modify=%s; %s", stamp, name))
}

// handleMdtm tells a time, or sets it as old clients do: "MDTM 20060102150405 name", or "MDTM 20060102150405+120 name" with the minutes by
// which their clocks are ahead of UTC, as Serv-U has it.
func (s *session) handleMdtm(arg string) string {
	stamp, name, _ := strings.Cut(arg, " ")
	t, err := parseZoned(stamp)
	if err != nil || name == "" {
		return s.do(arg)
	}
	if _, err := s.stat(s.engine.Abs(arg)); err == nil {
		return s.do(arg) // a name that looks like it
	}
	return s.setTime(name, t, 213, stamp)
}

// handleMff is "MFF Modify=20060102150405;UNIX.mode=0644; name". Facts that the server keeps itself are left out.
func (s *session) handleMff(arg string) string {
	facts, name, _ := strings.Cut(arg, " ")
	if name == "" {
		return reply(501, "Expected MFF, facts and a name.")
	}
	for fact := range strings.SplitSeq(strings.TrimSuffix(facts, ";"), ";") {
		key, value, _ := strings.Cut(fact, "=")
		if !strings.EqualFold(key, "Modify") {
			continue
		}
		t, err := parseStamp(value)
		if err != nil {
			return reply(501, "Expected Modify=YYYYMMDDHHMMSS.")
		}
		return s.setTime(name, t, 213, fmt.Sprintf("Modify=%s; %s", value, name))
	}
	return reply(504, "Only the fact Modify can be set.")
}

// handleSite answers what clients send after an upload, so that they do not take it for a failure.
func (s *session) handleSite(arg string) string {
	sub, rest, _ := strings.Cut(arg, " ")
	switch strings.ToUpper(sub) {
	case "CHMOD":
		_, name, _ := strings.Cut(rest, " ")
		if name == "" {
			return reply(501, "Expected SITE CHMOD, a mode and a name.")
		}
		if _, err := s.stat(s.engine.Abs(name)); err != nil {
			return s.refused(err)
		}
		return reply(200, "SITE CHMOD command ok; the server keeps its own permissions.")
	case "UTIME":
		name, t, err := parseUtime(rest)
		if err != nil {
			return reply(501, "Expected SITE UTIME YYYYMMDDHHMMSS name.")
		}
		return s.setTime(name, t, 200, "SITE UTIME command ok.")
	case "UMASK", "IDLE", "CHGRP", "CHOWN":
		return reply(200, "SITE "+strings.ToUpper(sub)+" command ok; the server keeps its own.")
	case "HELP":
		return reply(214, "SITE CHMOD, UTIME, UMASK, IDLE, HELP.")
	}
	return reply(504, "This SITE command is not known here.")
}

// setTime sets a file's time and answers.
func (s *session) setTime(name string, t time.Time, code int, text string) string {
	if err := s.guarded(func() error { return s.files.Chtimes(s.engine.Abs(name), t) }); err != nil {
		return reply(s.refusal("MFMT", err)) // whatever it is called
	}
	return reply(code, text)
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

func (s *session) openDownload(name string) (io.ReadCloser, error) {
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
	s.begun(c)
	return &download{s: s, c: c, file: f}, nil
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.file.Read(p)
	d.s.count(d.c, n)
	return n, err
}

func (d *download) Close() error { return d.file.Close() }

// begun says that the file of a transfer is open.
func (s *session) begun(c *command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.began = true
}

func (s *session) count(c *command, n int) {
	s.mu.Lock()
	c.bytes += int64(n)
	s.mu.Unlock()
}
