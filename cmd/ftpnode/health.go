package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// healthFile is written and removed by each health check.
const healthFile = "health"

// healthcheck reports whether the node of this machine accepts FTP and its volume takes writes. That the cloud is out of
// reach is told, and no fault of the node's: it keeps what it takes.
func healthcheck(ctx context.Context, s settings, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := errors.Join(checkFTP(ctx, s.address), checkVolume(s.dir, stdout))
	if err == nil {
		fmt.Fprintln(stdout, "healthy: FTP answers, and the data volume takes writes")
	}
	return err
}

func checkFTP(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("FTPNODE_FTP_ADDR is %q, expected a host and a port: %w", address, err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "localhost"
	}
	address = net.JoinHostPort(host, port)
	greeting, err := greet(ctx, address, false)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		greeting, err = greet(ctx, address, true) // silence: implicit TLS, where the client speaks first
	}
	if err != nil {
		return fmt.Errorf("FTP at %s does not answer: %w", address, err)
	}
	if !strings.HasPrefix(greeting, "220") {
		return fmt.Errorf("FTP at %s answers %q, expected 220", address, strings.TrimSpace(greeting))
	}
	return nil
}

func greet(ctx context.Context, address string, implicit bool) (string, error) {
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

func checkVolume(dir string, stdout io.Writer) error {
	volume, err := disk.Open(dir)
	if err != nil {
		return fmt.Errorf("the data volume %s: %w", dir, err)
	}
	defer volume.Close()
	if text, err := readFile(volume, statusFile, 64<<10); err == nil {
		var status struct {
			Cloud string    `json:"cloud"`
			Since time.Time `json:"since"`
		}
		if json.Unmarshal([]byte(text), &status) == nil {
			fmt.Fprintf(stdout, "since %s: %s\n", status.Since.Format(time.RFC3339), status.Cloud)
		}
	}
	if err := disk.WriteFile(volume, healthFile, []byte("ok\n"), 0o640); err != nil {
		return fmt.Errorf("the data volume %s takes no writes: %w", dir, err)
	}
	return volume.Remove(healthFile)
}
