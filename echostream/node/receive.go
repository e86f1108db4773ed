package node

import (
	"context"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/internal/status"
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
		err := l.bridge.Receive(ctx, l.Node, w.config, m)
		l.received.note(m.Source, err, time.Now())
		return err
	})
	if err != nil {
		l.Log.Error("receiving has ended", "error", err)
	}
}

// received is what came from each source since the start, for the status.
type received struct {
	mu      sync.Mutex
	sources map[string]status.Incoming
}

func (r *received) note(source string, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.sources[source]
	switch {
	case err == nil:
		in.Messages, in.Last, in.Error = in.Messages+1, now, status.Trouble{}
	case in.Error.Text == "":
		in.Error = status.Trouble{Text: err.Error(), Since: now}
	default:
		in.Error.Text = err.Error()
	}
	if r.sources == nil {
		r.sources = map[string]status.Incoming{}
	}
	r.sources[source] = in
}

// of returns what came from edges.
func (r *received) of(edges []echostream.Edge) []status.Incoming {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]status.Incoming, len(edges))
	for i, edge := range edges {
		all[i] = r.sources[edge.Name]
		all[i].Name = edge.Name
	}
	return all
}
