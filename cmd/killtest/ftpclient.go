package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// callTime bounds each step of a client.
const callTime = 15 * time.Second

// session is a log-in that knows exactly which replies it has read.
type session struct {
	conn    net.Conn
	replies *bufio.Reader
	trigger *trigger
	epoch   int64 // of the trigger, in which it connected
	kernel  bool  // when its client dies, connections are closed in the order in which a kernel does that
}

// errPowerCut is the end of all connections when the node's power is cut.
var errPowerCut = errors.New("the node's power was cut")

// dial connects and logs in.
func dial(ctx context.Context, address, user, password string, t *trigger) (*session, error) {
	epoch := t.epoch.Load()
	if t.isCut() {
		return nil, errPowerCut
	}
	dialer := net.Dialer{Timeout: callTime}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, replies: bufio.NewReader(conn), trigger: t, epoch: epoch}
	_ = conn.SetDeadline(time.Now().Add(callTime))
	if _, _, err = s.reply(); err == nil {
		_, _, err = s.command("USER " + user)
	}
	if err == nil {
		var code int
		if code, _, err = s.command("PASS " + password); err == nil && code != 230 {
			err = fmt.Errorf("the log-in is answered with %d", code)
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// command sends a line and reads the reply.
func (s *session) command(line string) (code int, text string, err error) {
	if err := s.send(line); err != nil {
		return 0, "", err
	}
	return s.reply()
}

func (s *session) send(line string) error {
	_ = s.conn.SetDeadline(time.Now().Add(callTime))
	_, err := s.conn.Write([]byte(line + "\r\n"))
	return err
}

// reply reads a whole reply: one that is cut off was not read.
func (s *session) reply() (code int, text string, err error) {
	_ = s.conn.SetDeadline(time.Now().Add(callTime))
	for {
		line, err := s.replies.ReadString('\n')
		if err != nil {
			return 0, "", err
		}
		text += line
		if s.epoch != s.trigger.epoch.Load() {
			return 0, "", errPowerCut
		}
		if len(line) > 3 && line[3] == ' ' {
			if code, err := strconv.Atoi(line[:3]); err == nil {
				return code, strings.TrimSpace(text), nil
			}
		}
	}
}

func (s *session) close() { s.conn.Close() }

// result is what a client knows of an upload.
type result struct {
	code  int       // the last reply that was read whole; 0 if the connection ended before it
	whole bool      // all bytes were sent: the node may have finished the file
	from  time.Time // before the end of the data
	to    time.Time // it was finished between from and to, if code is 226
	lived bool      // it was to die, and on a busy machine its data had ended long before its connection did
}

// errCut is the end that a client made on purpose.
var errCut = errors.New("the client was to die here")

// put sends content by a command such as "STOR a". With a cut of 0 or more it sends so many bytes and then ends all
// its connections, as a client does that is killed.
func (s *session) put(command string, content []byte, cut int) (r result, err error) {
	code, text, err := s.command("EPSV")
	if err != nil {
		return r, err
	}
	from, to := strings.Index(text, "|||"), strings.LastIndex(text, "|")
	if code != 229 || from < 0 || to < from+3 {
		r.code = code
		return r, nil
	}
	host, _, _ := net.SplitHostPort(s.conn.RemoteAddr().String())
	if err := s.send(command); err != nil {
		return r, err
	}
	data, err := net.DialTimeout("tcp", net.JoinHostPort(host, text[from+3:to]), callTime)
	if err != nil {
		// A command that is refused has its data connection closed; the reply tells.
		r.code, _, err = s.reply()
		return r, err
	}
	defer data.Close()
	_ = data.SetDeadline(time.Now().Add(callTime))
	r.whole = len(content) == 0
	if code, _, err = s.reply(); err != nil {
		return r, err
	}
	if code != 150 && code != 125 {
		r.code, r.whole = code, false
		return r, nil
	}
	rest := content
	if cut >= 0 {
		rest = content[:min(cut, len(content))]
	}
	for len(rest) > 0 {
		n, err := data.Write(rest[:min(len(rest), 8<<10)])
		if err != nil {
			break // the reply tells why, if there is one
		}
		if rest = rest[n:]; len(rest) > 0 {
			s.trigger.hit(uploading)
		}
	}
	if cut >= 0 {
		r.whole = cut >= len(content) && len(rest) == 0
		if len(rest) == 0 {
			r.from = time.Now()
		}
		if s.kernel {
			s.close() // the descriptor that was opened first
		}
		data.Close()
		s.close()
		r.lived = !r.from.IsZero() && time.Since(r.from) > settle/2
		return r, errCut
	}
	r.whole = len(rest) == 0
	r.from = time.Now()
	data.Close()
	s.trigger.hit(sent)
	r.code, _, err = s.reply()
	r.to = time.Now()
	if r.code == 226 {
		s.trigger.hit(replied)
	}
	return r, err
}

// size asks for a file's size; -1 if there is none.
func (s *session) size(name string) (int64, error) {
	code, text, err := s.command("SIZE " + name)
	if err != nil {
		return 0, err
	}
	if code != 213 {
		return -1, nil
	}
	return strconv.ParseInt(strings.TrimSpace(text[4:]), 10, 64)
}
