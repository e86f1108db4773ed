package echostream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// bridge is a small one: it sends readings of a thermometer, with a photo each, to every target of its node.
type bridge struct {
	client *echostream.Client
	bulk   *echostream.Bulk
	node   *echostream.Definition
}

func newBridge(ctx context.Context, getenv func(string) string, opts echostream.Options) (*bridge, error) {
	env, err := echostream.EnvironmentFrom(getenv)
	if err != nil {
		return nil, err
	}
	client, err := echostream.New(env, opts)
	if err != nil {
		return nil, err
	}
	node, err := client.Definition(ctx)
	if err != nil {
		return nil, err
	}
	return &bridge{client, client.NewBulk(echostream.BulkOptions{}), node}, nil
}

// send tries once. The caller keeps the tracking id and calls again for a transient error, as long as it takes.
func (b *bridge) send(ctx context.Context, trackingID string, degrees float64, photo []byte) error {
	stored, err := b.bulk.Upload(ctx, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(photo)), nil })
	if err != nil {
		return err
	}
	body, err := echostream.MarshalMessage(map[string]any{"degrees": degrees, "photo": stored.URL})
	if err != nil {
		return echostream.Permanent(err)
	}
	messages := []echostream.Message{{TrackingID: trackingID, Body: body}}
	for _, target := range b.node.Targets {
		err := b.client.Send(ctx, b.node, target.Queue, messages)[0]
		if errors.Is(err, echostream.ErrEdgeGone) {
			// The tenant's edges changed: go on with the new ones next time.
			if node, nodeErr := b.client.Definition(ctx); nodeErr == nil {
				b.node = node
			}
		}
		if err != nil {
			return fmt.Errorf("to %s: %w", target.Name, err)
		}
	}
	if !b.node.Audit {
		return nil
	}
	return b.client.Audit(ctx, b.node, b.node.SendMessageType.Name, []echostream.AuditRecord{{
		TrackingID: trackingID, DateTime: time.Now(), Attributes: map[string]any{"degrees": degrees},
	}})[0]
}

func Example() {
	// A node in its container passes os.Getenv and no options; here the cloud is in this process.
	cloud := echotest.NewCloud(echotest.Options{
		Tenant:  echotest.Tenant{Audit: true},
		Targets: []string{"archive", "alarm"},
	})
	defer cloud.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	environment := cloud.Environment()
	b, err := newBridge(ctx, func(name string) string { return environment[name] }, echostream.Options{
		AWS: []func(*config.LoadOptions) error{config.WithBaseEndpoint(cloud.URL())},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(b.node)
	if err := b.send(ctx, echostream.NewTrackingID(), 21.5, make([]byte, 1_000_000)); err != nil {
		fmt.Println(err)
		return
	}
	for _, target := range b.node.Targets {
		fmt.Println(target.Name, len(cloud.Messages(target.Name)))
	}
	fmt.Println("audited", len(cloud.AuditRecords()))
	// Output:
	// node "ftp-node" of tenant "acme"
	// alarm 1
	// archive 1
	// audited 1
}
