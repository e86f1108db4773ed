package nodetest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/internal/awsenv"
	"github.com/ftpnode/ftpnode/internal/freeport"
)

// asNode is set in a process that is to be the node.
const asNode = "NODETEST_AS_NODE"

// Main is for TestMain: it runs the tests of m or, in a process that a [Rig] has started, program, the bridge's main. It does not
// return. What a developer has configured for AWS is kept out of both.
func Main(m *testing.M, program func()) {
	if os.Getenv(asNode) != "" {
		program()
		os.Exit(0)
	}
	awsenv.Clear()
	os.Exit(m.Run())
}

// Address is one on loopback, host and port, that stays free for as long as the node is down: Bridge.Feed can come back to it.
func Address(t testing.TB) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(freeport.Range(t, 1)))
}

// Item is what a device hands over.
type Item struct {
	Name    string
	Content []byte
}

func (i Item) String() string { return fmt.Sprintf("%s (%d bytes)", i.Name, len(i.Content)) }

// Bridge is the node under test: one that sends what devices bring it, if Feed is set, or one that receives, if Received is. Data and one
// of the two are required.
type Bridge struct {
	// Data names the variable that says where the node's volume is, such as "FTPNODE_DATA".
	Data string
	// Config is the node's config, a JSON object. By default, {}.
	Config string
	// Env are further variables, beside EchoStream's.
	Env map[string]string
	// MessageType is what the node sends or receives. By default, echo.file.
	MessageType echotest.MessageType

	// Feed hands an item to the node, whose volume is dir, and returns nil when the node has acknowledged it. After an error the same
	// item is handed over again, as a device would. ctx ends after 30 s. The items of one test come one after the other.
	Feed func(ctx context.Context, dir string, item Item) error
	// Received lists what the node, whose volume is dir, has made of what it has received: one item for each message.
	Received func(dir string) ([]Item, error)
	// Item makes the n-th item, like no other one; a large one is too large for a message, where that can be. By default, it is a
	// file of 100 or of 300,000 bytes.
	Item func(n int, large bool) Item
	// Read gives what was fed, of a message that arrived. A name may be left out. By default, it reads echo.file.
	Read func(ctx context.Context, cloud *echotest.Cloud, m echotest.Received) (Item, error)
	// Kills is how many times the node is killed under load. By default, 10.
	Kills int
}

func (b Bridge) withDefaults() Bridge {
	if b.Config == "" {
		b.Config = "{}"
	}
	if b.MessageType.Name == "" {
		b.MessageType = echotest.EchoFile()
	}
	if b.Item == nil {
		b.Item = file
	}
	if b.Read == nil {
		b.Read = readFile
	}
	if b.Kills == 0 {
		b.Kills = 10
	}
	return b
}

// file is an item that is a file.
func file(n int, large bool) Item {
	size, kind := 100, "txt"
	if large {
		size, kind = 300_000, "bin"
	}
	content := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(content)
	return Item{Name: fmt.Sprintf("item-%05d.%s", n, kind), Content: content}
}

func readFile(ctx context.Context, cloud *echotest.Cloud, m echotest.Received) (Item, error) {
	var content bytes.Buffer
	f, err := cloud.Decode(ctx, m, &content)
	return Item{Name: f.Name, Content: content.Bytes()}, err
}
