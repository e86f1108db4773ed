package ftp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Probe returns nil if a server at the address says that it is ready: with a greeting of 220, in plain text or over implicit TLS.
func Probe(ctx context.Context, address string) error {
	greeting, err := greetingOf(ctx, address, false)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		greeting, err = greetingOf(ctx, address, true) // silence: implicit TLS, where the client speaks first
	}
	if err != nil {
		return fmt.Errorf("FTP at %s does not answer: %w", address, err)
	}
	if !strings.HasPrefix(greeting, "220") {
		return fmt.Errorf("FTP at %s answers %q, expected 220", address, strings.TrimSpace(greeting))
	}
	return nil
}

func greetingOf(ctx context.Context, address string, implicit bool) (string, error) {
	dialer := net.Dialer{Timeout: 3 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	if implicit {
		// It is this machine that is asked, and nothing is told to it.
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"ftp"}})
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 1024)).ReadString('\n')
	if err == nil {
		_, _ = io.WriteString(conn, "QUIT\r\n")
	}
	return line, err
}
