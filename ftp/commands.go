package ftp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/ftp/internal/engine"
	"github.com/ftpnode/ftpnode/internal/control"
)

const (
	maxJunk = 50 // unknown commands in a row
	maxVerb = 12
)

// verb is a command that the server knows.
type verb struct {
	run   func(s *session, arg string) (reply string) // "": it is answered by itself
	early bool                                        // allowed before the login
	names string                                      // its argument holds a file's name: "optional" or "required"
}

const (
	noName       = ""
	optionalName = "optional"
	requiredName = "required"
)

// aliases are old names of commands. LIST's and others' own old forms are dealt with by their functions.
var aliases = map[string]string{"XCWD": "CWD", "XCUP": "CDUP", "XPWD": "PWD", "XMKD": "MKD", "XRMD": "RMD"}

func newVerbs() map[string]verb {
	return map[string]verb{
		"USER": {run: (*session).handleAnyUser, early: true},
		"PASS": {run: (*session).handlePass, early: true},
		"ACCT": {run: say(202, "No account is needed."), early: true},
		"AUTH": {run: (*session).handleAuth, early: true},
		"PBSZ": {run: (*session).handlePbsz, early: true},
		"PROT": {run: (*session).handleProt, early: true},
		"CCC":  {run: say(533, "The control connection stays encrypted."), early: true},
		"QUIT": {run: (*session).handleQuit, early: true},
		"NOOP": {run: say(200, "NOOP ok."), early: true},
		"FEAT": {run: (*session).handleFeat, early: true},
		"HELP": {run: (*session).handleHelp, early: true},
		"OPTS": {run: (*session).handleOpts, early: true},
		"CLNT": {run: say(200, "Good to know."), early: true},
		"CSID": {run: say(200, "Name=ftpnode;"), early: true},
		"SYST": {run: say(215, "UNIX Type: L8"), early: true},
		"LANG": {run: say(200, "Replies are in English."), early: true},
		"STAT": {run: (*session).handleStat, names: optionalName},
		"ABOR": {run: say(226, "ABOR successful: no transfer to ABOR.")},
		"ALLO": {run: (*session).handleAllo},
		"REST": {run: (*session).handleRest},
		"TYPE": {run: (*session).handleType},
		"MODE": {run: choice("MODE", "S", "Mode set to S.")},
		"STRU": {run: choice("STRU", "F", "Structure set to F.")},
		"SITE": {run: (*session).handleSite},
		"REIN": {run: (*session).handleRein, early: true},
		"SMNT": {run: say(202, "There is nothing to mount.")},
		"MFF":  {run: (*session).handleMff, names: requiredName},
		"MDTM": {run: (*session).handleMdtm, names: requiredName},
		"MFMT": {run: (*session).handleMfmt, names: requiredName},
		"PASV": {run: (*session).handlePasv},
		"EPSV": {run: (*session).handleEpsv},
		"PORT": {run: (*session).handlePort},
		"EPRT": {run: (*session).handlePort},
		"STOR": {run: (*session).handleTransfer, names: requiredName},
		"APPE": {run: (*session).handleTransfer, names: requiredName},
		"RETR": {run: (*session).handleTransfer, names: requiredName},
		"STOU": {run: (*session).handleStou, names: optionalName},
		"LIST": {run: (*session).handleList, names: optionalName},
		"NLST": {run: (*session).handleList, names: optionalName},
		"MLSD": {run: (*session).handleTransfer, names: optionalName},
		"MLST": {run: (*session).handleMlst, names: optionalName},
		"SIZE": {run: (*session).do, names: requiredName},
		"CWD":  {run: (*session).handleCwd, names: optionalName},
		"CDUP": {run: (*session).handleCdup},
		"PWD":  {run: (*session).handlePwd},
		"MKD":  {run: (*session).do, names: requiredName},
		"RMD":  {run: (*session).do, names: requiredName},
		"DELE": {run: (*session).do, names: requiredName},
		"RNFR": {run: (*session).handleRnfr, names: requiredName},
		"RNTO": {run: (*session).handleRnto, names: requiredName},
	}
}

// parse splits a command.
func parse(line string) (verb, arg string) {
	verb, arg, _ = strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	if original, ok := aliases[verb]; ok {
		verb = original
	}
	return verb, arg
}

// dispatch answers a command, or begins a transfer.
func (s *session) dispatch(line string) {
	name, arg := parse(line)
	if name == "AUTH" {
		defer s.readOn()
	}
	c := s.begin(name, arg)
	if c == nil {
		return
	}
	executed := false
	defer func() {
		if !executed { // it has panicked, and nobody else ends it
			s.finish(c)
		}
	}()
	text := s.execute(name, arg)
	executed = true
	if text != "" {
		s.send(text)
		s.finish(c)
	}
}

// execute returns the reply to the command that has begun; "" if it is answered by itself.
func (s *session) execute(name, arg string) string {
	s.note(s.current(), name, arg)
	if s.secure {
		s.sinceTLS++
	}
	if !s.budget.spend(time.Now()) {
		select {
		case <-time.After(budgetPause):
		case <-s.done:
		}
	}
	v, known := s.srv.verbs[name]
	if name != "PASS" { // its argument may be anything
		if i := strings.IndexFunc(arg, control.Func(arg)); i >= 0 {
			return reply(501, "Control characters are not allowed.")
		}
	}
	if s.account == nil {
		if s.early++; s.early > maxEarly {
			return s.dismiss("Too many commands without a login; goodbye.")
		}
		if known && !v.early {
			return reply(530, "Please login with USER and PASS.")
		}
	}
	if !known {
		if f, ok := foreign(name, arg); ok {
			s.faulty(f, "", false)
		}
		if s.junk++; s.junk > maxJunk {
			return s.dismiss("Too many unknown commands; goodbye.")
		}
		if len(name) > maxVerb {
			name = name[:maxVerb]
		}
		return reply(500, fmt.Sprintf("Unknown command: %s.", quoted(printableASCII(name))))
	}
	s.junk = 0
	if v.names == requiredName && arg == "" {
		return reply(501, name+" needs a name.")
	}
	return v.run(s, arg)
}

// note logs a command, so that an operator sees what a device does. What may hold a secret is left out.
func (s *session) note(c *command, name, arg string) {
	if !c.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	switch _, known := s.srv.verbs[name]; {
	case !known, name == "PASS", name == "ACCT", name == "USER":
		arg = ""
	case name == "SITE":
		arg, _, _ = strings.Cut(arg, " ")
	}
	if len(name) > maxVerb {
		name = name[:maxVerb]
	}
	c.log.Debug("command", "verb", printableASCII(name), "argument", loggable(arg))
}

// dismiss ends the session instead of answering.
func (s *session) dismiss(text string) string {
	s.bye(true, 421, text)
	s.finish(s.current())
	return ""
}

// do has the engine run the command.
func (s *session) do(arg string) string {
	c := s.current()
	return reply(s.translate(c, s.engine.Do(c.verb, arg, nil)))
}

// say makes a function that always answers the same.
func say(code int, text string) func(*session, string) string {
	return func(*session, string) string { return reply(code, text) }
}

// choice makes a function for a command with one value that is supported.
func choice(name, only, text string) func(*session, string) string {
	return func(_ *session, arg string) string {
		if strings.EqualFold(strings.TrimSpace(arg), only) {
			return reply(200, text)
		}
		return reply(504, fmt.Sprintf("Only %s %s is supported.", name, only))
	}
}

// handleType takes all types that do not change bytes, and ASCII, which does not either here: what was
// sent is what is kept.
func (s *session) handleType(arg string) string {
	switch strings.ToUpper(strings.Join(strings.Fields(arg), " ")) {
	case "I", "I N", "IN", "L 8", "L8":
		return reply(200, "Switching to Binary mode.")
	case "A", "A N", "A T", "A C", "AN", "AT", "AC":
		return reply(200, "Switching to ASCII mode; bytes are kept as they are.")
	}
	return reply(504, "Only TYPE I, A and L 8 are supported.")
}

// handleAllo takes "ALLO n" and "ALLO n R m". The number of bytes is the witness that the next upload is complete.
func (s *session) handleAllo(arg string) string {
	s.declared = -1
	fields := strings.Fields(arg)
	if len(fields) != 1 && !(len(fields) == 3 && strings.EqualFold(fields[1], "R")) {
		return reply(501, "Expected ALLO and a number of bytes.")
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return reply(501, "Expected ALLO and a number of bytes.")
	}
	if n > 0 { // else it is what clients send that do not know, or that count in 32 bits
		s.declared = n
	}
	return reply(200, "ALLO command successful.")
}

// handleRest keeps the offset for the next transfer.
func (s *session) handleRest(arg string) string {
	s.offset = 0
	n, err := strconv.ParseInt(strings.TrimSpace(arg), 10, 64)
	if err != nil || n < 0 {
		return reply(501, "Expected REST and an offset.")
	}
	s.offset = n
	return reply(350, fmt.Sprintf("Restart position accepted (%d).", n))
}

func (s *session) handleOpts(arg string) string {
	fields := strings.Fields(strings.ToUpper(arg))
	switch {
	case len(fields) > 0 && (fields[0] == "UTF8" || fields[0] == "UTF-8"):
		return reply(200, "Always in UTF8 mode; names are kept byte for byte.")
	case len(fields) > 0 && fields[0] == "MLST":
		wanted := strings.Split(strings.Join(fields[1:], ""), ";")
		s.hidden = slices.DeleteFunc(slices.Clone(engine.Facts), func(f string) bool { return slices.Contains(wanted, strings.ToUpper(f)) })
		if s.engine != nil {
			s.engine.Hide(s.hidden)
		}
		return reply(200, "MLST OPTS "+s.factList(""))
	}
	return reply(501, "Only OPTS UTF8 and OPTS MLST are supported.")
}

func (s *session) handleFeat(string) string {
	features := []string{"CLNT", "EPSV", "MDTM", "MFF Modify;", "MFMT", "MLST " + s.factList("*"), "REST STREAM", "SIZE", "TVFS", "UTF8"}
	if s.srv.opts.ActiveMode {
		features = append(features, "EPRT")
	}
	if s.srv.tls != nil {
		features = append(features, "AUTH TLS", "PBSZ", "PROT")
	}
	slices.Sort(features)
	return block(211, "Features:", features, "End")
}

func (s *session) handleHelp(string) string {
	var lines []string
	line := ""
	for _, name := range slices.Sorted(maps.Keys(s.srv.verbs)) {
		if len(line) > 60 {
			lines, line = append(lines, line), ""
		}
		line += fmt.Sprintf("%-5s", name)
	}
	return block(214, "The following commands are recognized.", append(lines, line), "Help OK.")
}

// handleAnyUser begins a log-in, also in place of a former one (RFC 959, 4.1.1). Whoever is logged in need not do it again.
func (s *session) handleAnyUser(arg string) string {
	if s.account != nil && arg != "" && arg != s.account.Name {
		s.logOut()
	}
	return s.handleUser(arg)
}

// logOut ends a log-in and what it was about to do. What is said of connections (TYPE, PROT, EPSV ALL) stays.
func (s *session) logOut() {
	s.engine.Close()
	s.files.Close()
	s.account, s.files, s.user = nil, nil, ""
	s.renaming, s.offset, s.declared = "", 0, -1
	s.early = 0
	s.loggedIn.Store(false)
	s.login.Reset(s.srv.opts.LoginTimeout)
	s.log = s.clientLog()
}

// handleRein begins anew, as after connecting.
func (s *session) handleRein(string) string {
	if s.secure { // RFC 4217, 11: TLS would have to end, in the middle of a connection
		return reply(502, "REIN is not supported with TLS; send QUIT and connect anew.")
	}
	if s.account != nil {
		s.logOut()
	}
	s.closeData()
	s.user, s.epsvAll, s.hidden = "", false, nil
	return reply(220, "Service ready for new user.")
}

func (s *session) handleQuit(string) string {
	c := s.current()
	s.bye(true, 221, "Goodbye.")
	s.finish(c)
	return ""
}

// handleStat is of the server, or of a path.
func (s *session) handleStat(arg string) string {
	if arg == "" {
		return s.status(nil)
	}
	of := 0
	r := s.engine.Do("STAT", arg, func(code int, line string) {
		if of == 0 {
			of = code
			s.send(fmt.Sprintf("%d-Status follows:\r\n", code))
		}
		s.send(printable(line) + "\r\n")
	})
	switch {
	case r.Err != nil:
		return s.refused(r.Err)
	case of == 0: // an empty directory
		s.send(fmt.Sprintf("%d-Status follows:\r\n", r.Code))
	}
	return reply(r.Code, "End of status")
}

// status is the answer to STAT; c is the transfer under way, or nil.
func (s *session) status(c *command) string {
	lines := []string{fmt.Sprintf("Connected from %s for %v.", s.remote, time.Since(s.started).Round(time.Second))}
	if s.secure {
		lines = append(lines, "The control connection is encrypted.")
	}
	if c != nil {
		s.mu.Lock()
		bytes := c.bytes
		s.mu.Unlock()
		lines = append(lines, fmt.Sprintf("%s under way: %s bytes so far.", printableASCII(c.verb), grouped(bytes)))
	}
	return block(211, "Status:", lines, "End")
}

// printableASCII is for words that cannot be a name.
func printableASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// budget bounds the rate of commands: a client that is faster is slowed down.
type budget struct {
	left float64
	last time.Time
}

const (
	budgetRate  = 2000 // commands a second
	budgetBurst = 4000
	budgetPause = 10 * time.Millisecond
)

// spend reports whether one more command is within the rate.
func (b *budget) spend(now time.Time) bool {
	if b.last.IsZero() {
		b.left = budgetBurst
	} else {
		b.left = min(budgetBurst, b.left+now.Sub(b.last).Seconds()*budgetRate)
	}
	b.last = now
	b.left--
	if b.left >= 0 {
		return true
	}
	b.left = 0
	return false
}
