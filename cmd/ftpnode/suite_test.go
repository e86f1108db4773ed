package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/ftpnode/ftpnode/echostream/node/nodetest"
)

// TestNode takes the node through what every node goes through.
func TestNode(t *testing.T) {
	t.Parallel()
	nodetest.Suite(t, func(t *testing.T) nodetest.Bridge {
		address := nodetest.Address(t)
		return nodetest.Bridge{
			Data: "FTPNODE_DATA", Config: testConfig(t, ""), Env: map[string]string{"FTPNODE_FTP_ADDR": address},
			Feed: func(ctx context.Context, _ string, item nodetest.Item) error { return storeItem(ctx, address, item) },
		}
	})
}

// storeItem uploads as a device does that wants to know whether it worked.
func storeItem(ctx context.Context, address string, item nodetest.Item) error {
	control, err := dialUntil(ctx, address)
	if err != nil {
		return err
	}
	c := textproto.NewConn(control)
	defer c.Close()
	if _, _, err := c.ReadResponse(220); err != nil {
		return err
	}
	var passive string
	for _, step := range []struct {
		command string
		code    int
	}{{"USER scanner", 331}, {"PASS " + testPassword, 230}, {"TYPE I", 200}, {"EPSV", 229}} {
		if err := c.PrintfLine("%s", step.command); err != nil {
			return err
		}
		if _, passive, err = c.ReadResponse(step.code); err != nil {
			return err
		}
	}
	_, port, _ := strings.Cut(passive, "|||")
	data, err := dialUntil(ctx, net.JoinHostPort("127.0.0.1", strings.TrimRight(port, "|).")))
	if err != nil {
		return err
	}
	defer data.Close()
	if err := c.PrintfLine("STOR %s", item.Name); err != nil {
		return err
	}
	if _, _, err := c.ReadResponse(150); err != nil {
		return err
	}
	if _, err := bytes.NewReader(item.Content).WriteTo(data); err != nil {
		return fmt.Errorf("sending data: %w", err)
	}
	if err := data.Close(); err != nil {
		return err
	}
	if _, _, err := c.ReadResponse(226); err != nil {
		return err
	}
	_ = c.PrintfLine("QUIT") // the 226 was read, whatever becomes of this
	_, _, _ = c.ReadResponse(221)
	return nil
}

func dialUntil(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	return conn, nil
}
