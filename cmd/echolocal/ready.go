package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"net/url"
	"time"

	"github.com/ftpnode/ftpnode/internal/retry"
)

// login is how the config lets somebody in.
type login struct {
	user, password string // "" if the config has no password as it is typed
	tls            string // as ftp.tls of the config
}

// loginOf finds the first user with a password in a config.
func loginOf(config string) login {
	var c struct {
		FTP struct {
			Users []struct{ Name, Password string }
			TLS   string
		}
	}
	if json.Unmarshal([]byte(config), &c) != nil {
		return login{} // the node says what is wrong with it
	}
	l := login{tls: c.FTP.TLS}
	for _, u := range c.FTP.Users {
		if u.Password != "" {
			l.user, l.password = u.Name, u.Password
			break
		}
	}
	return l
}

// errRefused is wait's error for a user that the node does not let in.
var errRefused = errors.New("the log-in is refused")

// wait waits until the node lets the user in; without one, until it answers. A refusal is taken for good after a few
// seconds, and before the node bans this address.
func (l login) wait(ctx context.Context, address string) error {
	const refusals = 5
	for refused := 0; ; {
		err := l.try(ctx, address)
		pause := 100 * time.Millisecond
		if answer := (*textproto.Error)(nil); errors.As(err, &answer) && answer.Code == 530 {
			if refused++; refused == refusals {
				return errRefused
			}
			pause = time.Second
		}
		if err == nil || !retry.Sleep(ctx, pause) {
			return errors.Join(err, ctx.Err())
		}
	}
}

func (l login) try(ctx context.Context, address string) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	config := &tls.Config{InsecureSkipVerify: true} // it is the node that was just started, on this machine
	if l.tls == "implicit" {
		conn = tls.Client(conn, config)
	}
	text := textproto.NewConn(conn)
	if _, _, err := text.ReadResponse(220); err != nil || l.user == "" {
		return err
	}
	if l.tls == "required" {
		if err := do(text, 234, "AUTH TLS"); err != nil {
			return err
		}
		conn = tls.Client(conn, config)
		text = textproto.NewConn(conn)
	}
	if err := do(text, 331, "USER "+l.user); err != nil {
		return err
	}
	if err := do(text, 230, "PASS "+l.password); err != nil {
		return err
	}
	return do(text, 221, "QUIT")
}

func do(text *textproto.Conn, code int, command string) error {
	if _, err := text.Cmd("%s", command); err != nil {
		return err
	}
	_, _, err := text.ReadResponse(code)
	return err
}

// hint says how to drop a file.
func (l login) hint(o options, err error) string {
	greeting := "Ready."
	if err != nil {
		greeting = fmt.Sprintf("The node does not let the user %q in; its log says why.", l.user)
	}
	user, scheme, flags := "USER:PASSWORD", "ftp", ""
	if l.user != "" {
		user = l.user + ":" + l.password
	}
	switch l.tls {
	case "required":
		flags = "--ssl-reqd --insecure "
	case "implicit":
		scheme, flags = "ftps", "--insecure "
	}
	target := url.URL{Scheme: scheme, Host: reachable(o.ftp), Path: "/"}
	return fmt.Sprintf(`
%s Drop a file, for example with

  curl %s--user %s --upload-file README.md %s

and find it again below %s. Ctrl-C ends it.

`, greeting, flags, shellQuote(user), target.String(), o.received)
}
