package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/ftpnode/ftpnode/internal/status"
)

// healthcheck reports whether the node of this machine answers at address, and does its work, as it says itself. That the cloud is out of
// reach is told, and no fault of the node's: it keeps what it takes.
func healthcheck(ctx context.Context, dir, address string, answers func(ctx context.Context, address string) error, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	report, err := status.NewClient(dir).Report(ctx)
	if err == nil {
		fmt.Fprintln(stdout, report.Line())
		for _, problem := range report.Health.Problems {
			err = errors.Join(err, errors.New(problem))
		}
	}
	if err = errors.Join(err, checkAddress(ctx, address, answers)); err == nil {
		fmt.Fprintln(stdout, "healthy: the node answers, and does its work")
	}
	return err
}

func checkAddress(ctx context.Context, address string, answers func(ctx context.Context, address string) error) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("the address is %q, expected a host and a port: %w", address, err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "localhost"
	}
	if answers == nil {
		answers = connect
	}
	return answers(ctx, net.JoinHostPort(host, port))
}

func connect(ctx context.Context, address string) error {
	dialer := net.Dialer{Timeout: 3 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("the node at %s does not answer: %w", address, err)
	}
	return conn.Close()
}
