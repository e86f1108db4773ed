package ftp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/ftpnode/ftpnode/ftp/internal/engine"
	"github.com/ftpnode/ftpnode/internal/control"
)

// What clients read. Rules: the code decides what a client does next (4xx: it tries again, 5xx: it does not); many
// scripts match the words, so they begin with what vsftpd says at that place (TestReplyTexts), and go on, behind a colon or a
// semicolon, with the reason or what to do; no path of the volume, no text of the library or the operating system, and no
// control characters, whatever a name holds.

var (
	errStopped     = errors.New("the server stops")
	errAborted     = errors.New("the client aborted it")
	errNotReadable = errors.New("the user may not read files")
	errUnsupported = errors.New("not supported")
	errOffset      = errors.New("offset beyond the end of the file")
	errShort       = errors.New("fewer bytes than declared")
)

// hangupError says why an upload that seemed to end well is taken as interrupted.
type hangupError string

func (e hangupError) Error() string { return string(e) }

// reply formats one for the wire; text may have several lines.
func reply(code int, text string) string {
	if !strings.Contains(text, "\n") { // as a rule
		return strconv.Itoa(code) + " " + printable(text) + "\r\n"
	}
	var b strings.Builder
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		b.WriteString(strconv.Itoa(code)) // of three digits
		if i == len(lines)-1 {
			b.WriteByte(' ')
		} else {
			b.WriteByte('-')
		}
		b.WriteString(printable(line))
		b.WriteString("\r\n")
	}
	return b.String()
}

// block formats a reply with lines that are indented, as FEAT, HELP and STAT have it.
func block(code int, first string, lines []string, last string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%03d-%s\r\n", code, printable(first))
	for _, line := range lines {
		fmt.Fprintf(&b, " %s\r\n", printable(line))
	}
	fmt.Fprintf(&b, "%03d %s\r\n", code, printable(last))
	return b.String()
}

// announce says that the transfer is about to begin.
func (s *session) announce(c *command) {
	s.send(reply(150, s.preliminary(c)))
}

func (s *session) preliminary(c *command) string {
	switch c.verb {
	case "STOU":
		return "FILE: " + c.name // RFC 1123, 4.1.2.9
	case "STOR", "APPE":
		return "Ok to send data."
	case "RETR":
		return "Opening BINARY mode data connection for " + c.arg + "."
	default:
		return "Here comes the directory listing."
	}
}

// translate puts the engine's reply to a command into our words.
func (s *session) translate(c *command, r engine.Reply) (int, string) {
	s.mu.Lock()
	err, aborted, waits := c.err, c.aborted, c.waits
	s.mu.Unlock()
	switch {
	case r.Err == nil:
		return s.success(c, r, waits)
	case aborted:
		err = errAborted
	case err == nil:
		err = r.Err
	}
	return s.refusal(c.verb, err)
}

// success is what the engine has done.
func (s *session) success(c *command, r engine.Reply, waits bool) (int, string) {
	switch c.verb {
	case "STOR", "APPE", "STOU":
		if waits {
			return 226, "Transfer complete; the file waits for its last name."
		}
		return 226, "Transfer complete."
	case "RETR":
		return 226, "Transfer complete."
	case "LIST", "NLST", "MLSD":
		return 226, "Directory send OK."
	case "MKD":
		return 257, fmt.Sprintf("%s created", quoted(s.engine.Abs(c.arg)))
	case "RMD":
		return 250, "Remove directory operation successful."
	case "DELE":
		return 250, "Delete operation successful."
	}
	return r.Code, r.Text // of SIZE and MDTM: a number
}

// refused is the reply to the command under way, which failed.
func (s *session) refused(err error) string { return reply(s.refusal(s.current().verb, err)) }

// refusal also tells the log of what must not happen.
func (s *session) refusal(verb string, err error) (int, string) {
	if errors.Is(err, engine.ErrInternal) {
		s.log.Error("panic in a command", "verb", verb, "error", err)
	}
	return refusal(verb, err)
}

// failures are how vsftpd says that a command failed. Scripts look for these words, and for those of the reason.
var failures = map[string]string{
	"CWD":  "Failed to change directory",
	"CDUP": "Failed to change directory",
	"MKD":  "Create directory operation failed",
	"RMD":  "Remove directory operation failed",
	"DELE": "Delete operation failed",
	"RNFR": "RNFR command failed",
	"RNTO": "Rename failed",
	"SIZE": "Could not get file size",
	"MDTM": "Could not get file modification time",
	"RETR": "Failed to open file",
	"STOR": "Could not create file",
	"APPE": "Could not create file",
	"STOU": "Could not create file",
}

// failed is the reply 550 to a command, with the reason.
func failed(verb, reason string) (int, string) {
	if what := failures[verb]; what != "" {
		return 550, what + ": " + reason
	}
	return 550, reason
}

// broken says that a transfer broke. What a client sent can be resumed.
func broken(verb string) string {
	if isUpload(verb) {
		return "Failure reading network stream" + andKept
	}
	return "Failure writing network stream."
}

const andKept = "; what came so far is kept and can be resumed."

// refusal is the one place that says how errors are told to clients.
func refusal(verb string, err error) (int, string) {
	is := func(target error) bool { return errors.Is(err, target) }
	ending := "." // of a transfer
	if isUpload(verb) {
		ending = andKept
	}
	var hangup hangupError
	var network net.Error
	var answer *Error
	switch {
	case is(errAborted):
		return 426, "Transfer aborted" + ending
	case is(errStopped):
		return 426, "Transfer aborted: the server stops" + ending
	case is(engine.ErrInternal):
		return 451, "Internal error; try again later."
	case is(errNoTLS):
		return 425, "Failed to establish connection: TLS did not begin on the data connection, as PROT P demands."
	case errors.As(err, &hangup):
		return 426, "Interrupted: " + hangup.Error() + "."
	case is(engine.ErrNoPort):
		return 425, "No data connection can be opened now; try again later."
	case is(engine.ErrNoData):
		return 425, "Failed to establish connection: the data connection did not come; check that the passive ports can be reached."
	case errors.As(err, &answer) && answer.Code == 550:
		return failed(verb, answer.Text)
	case errors.As(err, &answer):
		return answer.Code, answer.Text
	case is(errOffset):
		return 554, "The offset is beyond what was received; ask SIZE."
	case is(errShort):
		return 426, "The file is shorter than declared" + andKept
	case is(errNotReadable):
		return failed(verb, "Files cannot be read here, only sent.")
	case is(errUnsupported):
		return 504, "That is not supported."
	case is(fs.ErrNotExist):
		return failed(verb, "No such file or directory.")
	case is(syscall.ENOTEMPTY):
		return failed(verb, "Directory not empty.")
	case is(syscall.ENOTDIR):
		return failed(verb, "Not a directory.")
	case is(syscall.EISDIR):
		return failed(verb, "It is a directory.")
	case is(fs.ErrExist):
		return failed(verb, "There is a file or directory of that name.")
	case is(syscall.ENAMETOOLONG):
		return 553, "This name is too long."
	case is(syscall.ELOOP), is(fs.ErrPermission):
		return failed(verb, "Permission denied.")
	case is(os.ErrDeadlineExceeded):
		return 426, "Nothing came for too long" + ending
	case errors.As(err, &network), is(net.ErrClosed), is(engine.ErrBroken):
		return 426, broken(verb)
	default:
		return 451, "Trouble on the server; try again later."
	}
}

// isTransfer reports whether the verb opens a data connection.
func isTransfer(verb string) bool {
	switch verb {
	case "RETR", "LIST", "NLST", "MLSD":
		return true
	}
	return isUpload(verb)
}

func isUpload(verb string) bool { return verb == "STOR" || verb == "APPE" || verb == "STOU" }

// printable replaces control characters, which could forge lines of a reply or steer a terminal.
func printable(text string) string {
	isControl := control.Func(text)
	if !strings.ContainsFunc(text, isControl) {
		return text
	}
	clean := []byte(text)
	for i, r := range text {
		if isControl(r) {
			for j := range utf8.RuneLen(r) {
				clean[i+j] = '?'
			}
		}
	}
	return string(clean)
}

// quoted is a path in a reply, its quotes doubled (RFC 959, appendix II).
func quoted(path string) string { return `"` + strings.ReplaceAll(path, `"`, `""`) + `"` }

// loggable is a text of a client for the log: as it is if that is plain, else quoted in ASCII.
func loggable(text string) string {
	for i := range len(text) {
		if b := text[i]; b < ' ' || b > '~' || b == '"' || b == '\\' {
			return strconv.QuoteToASCII(text)
		}
	}
	return text
}

// grouped is a number with commas.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
