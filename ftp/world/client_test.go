//go:build world

package world

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const size = 64 << 10 // of a whole file

// upload is a client: the node's address, the end it comes to, the name, and "TLS" or "plain". What it does is over in less than a minute.
func upload(args []string) error {
	address, end, name, secure := args[0], args[1], args[2], args[3] == "TLS"
	config := &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	raw, err := net.DialTimeout("tcp", address+":2121", time.Minute)
	if err != nil {
		return err
	}
	raw.SetDeadline(time.Now().Add(time.Minute))
	conn, text := raw, textproto.NewConn(raw)
	do := func(code int, command string) (string, error) {
		if command != "" {
			if err := text.PrintfLine("%s", command); err != nil {
				return "", err
			}
		}
		_, line, err := text.ReadResponse(code)
		return line, err
	}
	steps := []struct {
		code    int
		command string
	}{{220, ""}, {331, "USER dock"}, {230, "PASS pass"}}
	for i, step := range steps {
		if _, err := do(step.code, step.command); err != nil {
			return err
		}
		if i == 0 && secure {
			if _, err := do(234, "AUTH TLS"); err != nil {
				return err
			}
			conn = tls.Client(raw, config)
			text = textproto.NewConn(conn)
		}
	}
	if secure {
		if _, err := do(200, "PROT P"); err != nil {
			return err
		}
		// An earlier upload showed that this client sends close_notify.
		if err := send(do, address, config, "habit-"+name, secure, size, true); err != nil {
			return err
		}
		if _, err := do(226, ""); err != nil {
			return err
		}
	}
	whole := strings.HasPrefix(end, "complete")
	bytes := size
	if !whole {
		bytes = rand.IntN(size)
	}
	if err := send(do, address, config, name, secure, bytes, end != "killed"); err != nil {
		return err
	}
	if whole {
		if _, err := do(226, ""); err != nil {
			fmt.Println("no 226:", err)
			os.Exit(2)
		}
	}
	switch end {
	case "killed":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "aborted":
		if secure {
			_, err = do(0, "ABOR")
			return err
		}
		c, err := raw.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		c.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("ABOR\r\n"), unix.MSG_OOB, nil) })
		text.ReadResponse(0)
		return err
	case "source broke", "complete, QUIT":
		text.PrintfLine("QUIT")
		io.Copy(io.Discard, conn)
	case "complete, closed":
		return conn.Close()
	case "complete, exit":
		os.Exit(0)
	case "complete, reset":
		raw.(*net.TCPConn).SetLinger(0)
		raw.Close()
	case "complete, holds":
		time.Sleep(settle + time.Second)
	}
	return nil
}

// send sends data, and ends it unless the process is to die.
func send(do func(int, string) (string, error), address string, config *tls.Config, name string, secure bool, bytes int, ends bool) error {
	line, err := do(229, "EPSV")
	if err != nil {
		return err
	}
	var port int
	if _, err := fmt.Sscanf(line[strings.Index(line, "(")+1:], "|||%d|)", &port); err != nil {
		return err
	}
	data, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", address, port), time.Minute)
	if err != nil {
		return err
	}
	data.SetDeadline(time.Now().Add(time.Minute))
	if secure {
		data = tls.Client(data, config)
	}
	if _, err := do(150, "STOR "+name); err != nil {
		return err
	}
	for sent := 0; sent < bytes; sent += 4096 {
		if _, err := data.Write(make([]byte, min(4096, bytes-sent))); err != nil {
			return err
		}
	}
	if ends {
		return data.Close()
	}
	return nil
}
