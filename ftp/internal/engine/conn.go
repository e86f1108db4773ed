package engine

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxLine is how long a command can be: the library's buffer has 4,096 bytes.
const maxLine = 4090

// here is what the library takes for the address of everybody.
var here = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}

// conn is the control connection as the library sees it: plain text, one command at a time.
type conn struct {
	commands chan string
	pending  []byte // of a command, not read yet
	reply    func(line)

	mu      sync.Mutex // a transfer replies in its own goroutine
	written []byte     // of a line, not complete yet
	replies parser
}

func newConn() *conn { return &conn{commands: make(chan string, 1)} }

// Read gives the library the next command; it calls it in one goroutine.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.pending) == 0 {
		command, ok := <-c.commands
		if !ok {
			return 0, io.EOF
		}
		c.pending = append(append(c.pending[:0], command...), "\r\n"...)
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// Write takes the library's replies, in pieces.
func (c *conn) Write(p []byte) (int, error) {
	for _, l := range c.lines(p) {
		c.reply(l)
	}
	return len(p), nil
}

// lines are those that p completes.
func (c *conn) lines(p []byte) (lines []line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written = append(c.written, p...)
	for {
		text, rest, ok := bytes.Cut(c.written, []byte("\n"))
		if !ok {
			return lines
		}
		lines = append(lines, c.replies.parse(string(bytes.TrimRight(text, "\r"))))
		c.written = append(c.written[:0], rest...)
	}
}

func (c *conn) Close() error                     { return nil }
func (c *conn) LocalAddr() net.Addr              { return here }
func (c *conn) RemoteAddr() net.Addr             { return here }
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// line is one of a reply.
type line struct {
	kind kind
	code int
	text string
}

type kind int

const (
	other kind = iota // a preliminary reply (1xx), or the first line of several
	part              // of several lines, neither the first nor the last
	final             // the last one
)

// parser finds out where replies of several lines end. Its zero value is ready.
type parser struct{ open string } // the code of the one that has begun

func (p *parser) parse(text string) line {
	code, rest := "", ""
	n := 0
	if len(text) >= 3 {
		if v, err := strconv.Atoi(text[:3]); err == nil && v >= 100 {
			code, rest, n = text[:3], text[3:], v
		}
	}
	ends := code != "" && (rest == "" || rest[0] == ' ')
	switch {
	case p.open != "" && code == p.open && ends:
		p.open = ""
		return line{final, n, ""}
	case p.open != "":
		of, _ := strconv.Atoi(p.open)
		// A directory's entries in the answer to STAT.
		if entry, ok := strings.CutPrefix(text, " %s"); ok {
			text = " " + entry
		}
		return line{part, of, text}
	case ends && n >= 200:
		return line{final, n, strings.TrimPrefix(rest, " ")}
	case code != "" && !ends && rest[0] == '-':
		p.open = code
	}
	return line{kind: other}
}
