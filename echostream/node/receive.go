package node

import (
	"context"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
)

// receiveGrace is how long handlers may go on when the node is told to stop; telling EchoStream what they have done takes up to 3 s more.
const receiveGrace = 4 * time.Second

// inbox is what the receiving part of a node goes by. One goroutine at a time offers to it.
type inbox chan *echostream.Definition

func newInbox() inbox { return make(inbox, 1) }

// offer replaces the definition that nobody has taken yet. The same one again counts, too: an edge that was gone may be back.
func (i inbox) offer(d *echostream.Definition) {
	select {
	case <-i:
	default:
	}
	i <- d
}

// receive hands what the node's sources send to the bridge, until ctx ends and its handlers have ended or had their time. outdated asks for
// the definition to be read again.
func (l *life[C]) receive(ctx context.Context, outdated func()) {
	opts := l.bridge.ReceiveOptions
	opts.Definitions, opts.Outdated = l.inbox, outdated
	if opts.Grace == 0 {
		opts.Grace = receiveGrace
	}
	err := l.client.Receive(ctx, opts, func(ctx context.Context, m echostream.ReceivedMessage) error {
		w, _ := l.front.current()
		return l.bridge.Receive(ctx, l.Node, w.config, m)
	})
	if err != nil {
		l.Log.Error("receiving has ended", "error", err)
	}
}
