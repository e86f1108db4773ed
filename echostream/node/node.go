package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// Node is what a bridge gets of the node that it is part of. It is safe for concurrent use.
type Node struct {
	// Name is the node's name in EchoStream.
	Name string
	// Outbox takes what is to be delivered.
	Outbox *outbox.Outbox
	// Log writes EchoStream's lines: "[INFO] message key=value". The key of a cause is "error".
	Log *slog.Logger
	// Volume is the data volume. The bridge may keep what it likes there, but for the names that the package comment lists.
	Volume disk.FS
	// Dir is where Volume is mounted on this machine; "" if it is none of this machine's (see [Options].Volume).
	Dir string

	client    *echostream.Client
	deliverer *deliverer
	storage   storage
	format    int
	stopping  context.Context
	listener  *net.TCPListener

	definition atomic.Pointer[echostream.Definition]

	mu    sync.Mutex
	bulks map[bool]*Bulk // by whether they accelerate
}

// Definition is the node's, as it was read last or kept; nil as long as none is known.
func (n *Node) Definition() *echostream.Definition { return n.definition.Load() }

// Now is the time by EchoStream's clock, whatever the machine's is set to: see [echostream.Client.Now].
func (n *Node) Now() time.Time { return n.client.Now() }

// Stopping returns the context of the node's life: it ends when the node is told to stop. That of Serve ends also when the config changes.
func (n *Node) Stopping() context.Context { return n.stopping }

// Ready returns why nothing can be delivered now, as far as that is known: no definition yet, stopped, no edge, or the error of the last
// call to EchoStream. It is nil if all is well.
func (n *Node) Ready() error { return n.deliverer.ready() }

// Stored reports whether the data volume outlives the container, and says why it is so. If it does not, what waits is lost when EchoStream
// replaces the container: a bridge whose devices keep their data until it is safe makes them wait until it is delivered
// ([outbox.Outbox.Await]), and says so by Bridge.Waits. It is found out once, at the start.
func (n *Node) Stored() (stored bool, why string) { return n.storage.outlives, n.storage.why }

// Ports is where EchoStream publishes the container's TCP ports on its host, which is what devices know. It is nil for a node that is not
// managed: its ports are known as they are.
func (n *Node) Ports() map[int]int {
	if d := n.Definition(); d != nil {
		return publicPorts(d.Ports)
	}
	return nil
}

// Listener returns a listener at Bridge.Address, to be closed by its user. The port itself stays open until the node stops.
func (n *Node) Listener() (net.Listener, error) {
	if n.listener == nil {
		return nil, errors.New("the bridge has no Address")
	}
	file, err := n.listener.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return net.FileListener(file)
}

// Outdated reports whether the volume has an earlier format than Bridge.Format, or none.
func (n *Node) Outdated() bool {
	found, err := readFormat(n.Volume, n.format)
	return err != nil || found != n.format
}

// TakenOver gives the volume Bridge.Format: all that an earlier version has left was taken over.
func (n *Node) TakenOver() error {
	if !n.Outdated() {
		return nil
	}
	return writeFormat(n.Volume, n.format)
}

// Bulk is bulk data storage, for what does not fit a message. Accelerated, uploads take S3's acceleration endpoint, for nodes that are far
// from the tenant's region.
func (n *Node) Bulk(accelerate bool) *Bulk {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.bulks[accelerate]
	if b == nil {
		b = &Bulk{bulk: n.client.NewBulk(echostream.BulkOptions{Accelerate: accelerate}), came: n.deliverer.came}
		if n.bulks == nil {
			n.bulks = map[bool]*Bulk{}
		}
		n.bulks[accelerate] = b
	}
	return b
}

// Bulk uploads to bulk data storage, and has [Node.Ready] know how that went.
type Bulk struct {
	bulk *echostream.Bulk
	came func(error)
}

// Upload is that of [echostream.Bulk].
func (b *Bulk) Upload(ctx context.Context, open func() (io.ReadCloser, error)) (echostream.BulkObject, error) {
	object, err := b.bulk.Upload(ctx, open)
	if ctx.Err() == nil {
		b.came(err)
	}
	return object, err
}
