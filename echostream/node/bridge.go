// Package node is the life of an EchoStream node: everything between a protocol that brings data and EchoStream that takes it.
//
// A program that is a node calls [Main] with a [Bridge], which says how data comes in (Serve) and how a message is made of it (Compose),
// or what becomes of a message that comes from EchoStream (Receive). All else is here: log-in; the node's definition, read again every ten
// minutes and kept for a start without EchoStream; its config, validated by the bridge's JSON Schema; the data volume with its lock and its
// format; the durable queue, delivery to every edge, audit records; log, status, health check, and a stop within ten seconds.
//
// What a bridge has put into [Node].Outbox reaches every target edge of the definition last read: once, in the order of its lane, whatever
// is killed, restarted, full or offline in between. Nothing is sent by a definition that was kept from before the start: an edge may
// have been drawn since, and the node may have been stopped. A node that is stopped, or has no edge, keeps what it takes.
//
// A message that Receive has returned nil for is deleted and audited. After an error it comes again, so Receive may see one twice.
//
// # Limits
//
// A volume serves one node at a time, and is locked. Delivery is at least once in one case: SQS took a message, its reply was lost, and the node
// could not try again within five minutes; the further copy has the same tracking id.
//
// # The volume
//
// At its top stand, beside what the bridge keeps there:
//
//	lock           locked while a node runs
//	format         the version of what is kept, see Bridge.Format
//	definition     the last good definition, encrypted under PASSWORD
//	status.socket  where the program's own commands ask the node
//	outbox/        what waits, see package outbox
//	failed/        what no edge will ever take
//
// # Environment and exit codes
//
// EchoStream's variables (APPSYNC_ENDPOINT, CLIENT_ID, NAME or NODE, PASSWORD, TENANT, USER_POOL_ID, USER_NAME) say which node it is,
// NAME_DATA (of the bridge's name: FTPNODE_DATA) where its volume is mounted, by default [DefaultDir].
//
// Without an argument the program is the node. The others ask the node that runs on the same volume:
//
//	healthcheck                whether it works
//	status [--json]            what waits, since when and why, and what needs help
//	retry ID… | retry --all    send failed files again
//	discard ID…                remove failed files for good
//	accept ID…                 send interrupted uploads as they are
//	version, help              about the program itself
//
// The node exits with 0 when it was told to stop, and with 2 when its environment does not say which node it is. Nothing else ends it: not
// the cloud, not the config, not the disk. A container that exits is only started again, and whoever looks for the reason would find a loop
// instead of a log line. A command exits with 0 when it was done, with 1 when not, with 2 when its arguments are wrong.
//
// # Example
//
//	node.Main(node.Bridge[Config]{Name: "watchfolder", MessageType: "echo.file", Schema: schema, Serve: watch, Compose: compose})
//
//	func watch(ctx context.Context, n *node.Node, c Config) error {
//		for path := range finished(ctx, n.Volume, c.Folder) {
//			_, errs := n.Outbox.Put(ctx, []outbox.Item{{Path: path, Name: filepath.Base(path)}})
//			…
//		}
//	}
package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// DefaultDir is where the data volume is mounted by default.
const DefaultDir = "/data"

// Bridge is one protocol's part of a node. C is its config, a struct. A bridge sends, receives, or does both: Name is required;
// MessageType, Serve and Compose of one that sends; Receive of one that receives.
//
// Its functions get the config as it was decoded, valid and with every default in place, and must not change it. They are called from
// several goroutines at once.
type Bridge[C any] struct {
	// Name is the program's name, in its log, its usage and its variables: "ftpnode".
	Name string
	// Version names the build. By default, the module's version or the commit it was built from.
	Version string
	// MessageType is what the node sends, such as "echo.file".
	MessageType string
	// Schema is the JSON Schema of the config, with the keywords of package nodeconfig, by which it is validated and gets its defaults. By
	// default, any config is taken as it is.
	Schema string
	// Check puts right in a config what no schema can say, and reports it. It does no I/O. By default, there is nothing.
	Check func(c *C, r *nodeconfig.Report)

	// Address is where the bridge listens for TCP, host and port: [Node.Listener]. The port is opened before all else, stays open while
	// Serve is called again, and is what the health check connects to. By default, the bridge does not listen.
	Address func(getenv func(string) string) string
	// Health speaks with the bridge at Address: nil if it answers as it should. By default, a connection is enough.
	Health func(ctx context.Context, address string) error

	// Format is the version of what the bridge keeps on the volume. A volume of a later format is left alone: the node waits. One of
	// an earlier format keeps it until the bridge has called [Node.TakenOver]. By default, 1.
	Format int

	// Serve takes what devices send, and puts it into n.Outbox: it is acknowledged when [outbox.Outbox.Put] returns. It
	// returns nil soon after its context ended, within 7 s: because the node stops, or the config or the published ports
	// changed and it is called again. An error is logged, and Serve called again after a pause. It is called first when
	// the definition is known, be it the kept one.
	Serve func(ctx context.Context, n *Node, c C) error
	// Refuse is called in place of Serve while no definition is known, with a config of defaults: it tells devices to come back
	// later. By default, nothing is served then.
	Refuse func(ctx context.Context, n *Node, c C) error
	// Waits reports whether devices are kept waiting until EchoStream has their message, see [Node.Stored]. Then the definition is read
	// every 5 s while nothing can be sent. By default, none is.
	Waits func(n *Node, c C) bool

	// Compose makes the message of an entry; open reads its bytes from their start. It may be called more than once for an
	// entry. An error that is permanent ([echostream.Permanent]) has the entry set aside in failed/; any other is tried again.
	Compose func(ctx context.Context, n *Node, c C, e outbox.Entry, open func() (disk.File, error)) (Message, error)
	// Attributes makes those of an entry's audit record when its message is there no more, as after a restart. By default, Compose does.
	Attributes func(ctx context.Context, n *Node, c C, e outbox.Entry, open func() (disk.File, error)) (map[string]any, error)
	// Keys are those of the messages, if they are JSON objects: they are held against the sample of the node's message type. By
	// default, nothing is compared.
	Keys func(c C) Keys

	// Devices tells what devices do, for the status; the node adds why all are refused when it knows, and its address. By default, nothing is told.
	Devices func(n *Node, c C) Devices
	// Sender names the device or user that an entry came from, for the status. By default, it is not told.
	Sender func(e outbox.Entry) string
	// Accept sends an interrupted upload that was whole, by the ID of its Interrupted. An error that wraps fs.ErrNotExist says that there is none. By
	// default, none can be accepted.
	Accept func(n *Node, id string) error
	// Page is where the status is shown in a browser. By default, nowhere.
	Page func(c C) Page

	// KeyOf gives the key of an entry that a version without keys has put into the outbox, by the config of the kept definition (see
	// [outbox.Options]). By default, it has none.
	KeyOf func(log *slog.Logger, c C, e outbox.Entry) string

	// Receive handles a message from one of the node's sources: see [echostream.Handler]. After nil it does not come again, so
	// what must not be lost is durable then. ctx ends a few seconds after the node was told to stop.
	Receive func(ctx context.Context, n *Node, c C, m echostream.ReceivedMessage) error
	// ReceiveOptions are those of Receive. The node itself sets Definitions and Outdated, and a Grace of 4 s by default.
	ReceiveOptions echostream.ReceiveOptions
}

// Message is what Compose makes of an entry. Its tracking id is the entry's, and its group the entry's lane.
type Message struct {
	Body string
	// Attributes are those of the audit record. EchoStream makes columns of them, so that each has one type for ever, and none is nested.
	Attributes map[string]any
	// Made and Expires are of the URL in Body, by EchoStream's clock ([Node.Now]). The message is made anew when less than half of the
	// time between is left, as its readers may need days. By default, there is no URL in it.
	Made, Expires time.Time
}

// Keys are those of a bridge's messages.
type Keys struct {
	Each     [][]string // of the keys in one list, a message has one
	Optional []string   // a message has them, and a sample need not
	Advice   string     // what to look at if a sample has others, such as a key of the config
}
