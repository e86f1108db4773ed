package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// healthFile is written and removed by each health check.
const healthFile = "health"

// cloudStatus is what statusFile holds.
type cloudStatus struct {
	Cloud string    `json:"cloud"`
	Since time.Time `json:"since"`
}

// healthcheck reports whether the node of this machine answers at address, and its volume takes writes. That the cloud is out of
// reach is told, and no fault of the node's: it keeps what it takes.
func healthcheck(ctx context.Context, dir, address string, answers func(ctx context.Context, address string) error, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := errors.Join(checkAddress(ctx, address, answers), checkVolume(dir, stdout))
	if err == nil {
		fmt.Fprintln(stdout, "healthy: the node answers, and the data volume takes writes")
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

func checkVolume(dir string, stdout io.Writer) error {
	volume, err := disk.Open(dir)
	if err != nil {
		return fmt.Errorf("the data volume %s: %w", dir, err)
	}
	defer volume.Close()
	if text, err := disk.ReadFile(volume, statusFile, 64<<10); err == nil {
		var status cloudStatus
		if json.Unmarshal(text, &status) == nil {
			fmt.Fprintf(stdout, "since %s: %s\n", status.Since.Format(time.RFC3339), status.Cloud)
		}
	}
	if err := disk.WriteFile(volume, healthFile, []byte("ok\n"), 0o640); err != nil {
		return fmt.Errorf("the data volume %s takes no writes: %w", dir, err)
	}
	return volume.Remove(healthFile)
}
