package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

// received is what an entry of the outbox keeps about where its file came from.
type received struct {
	User          string    `json:"user"`
	RemoteAddress string    `json:"remoteAddress,omitempty"` // "" if it is not known
	Received      time.Time `json:"received"`
}

// receivedOf reads what Take wrote. A file whose record was lost, and which an operator sends all the same, has nothing of it.
func receivedOf(e outbox.Entry) (received, error) {
	var r received
	if len(e.Meta) > 0 {
		if err := json.Unmarshal(e.Meta, &r); err != nil {
			// It will not read better the next time, and what comes after it in its lane waits.
			return r, echostream.Permanent(fmt.Errorf("entry %s: its record of where the file came from cannot be read: %w", e.ID, err))
		}
	}
	return r, nil
}

// originOf is what only this node knows of a file, for its message and its audit record.
func originOf(e outbox.Entry) (echofile.Origin, error) {
	r, err := receivedOf(e)
	if err != nil {
		return echofile.Origin{}, err
	}
	from := echofile.Origin{Received: r.Received, Fields: []echofile.Field{{Key: "user", Attribute: "user", Value: r.User}}}
	if r.RemoteAddress != "" {
		from.Fields = append(from.Fields, echofile.Field{Key: "remoteAddress", Attribute: "remote_address", Value: r.RemoteAddress})
	}
	return from, nil
}

func composer(n *node.Node, c Config) *echofile.Composer {
	return &echofile.Composer{
		Content: c.Message.Content, ContentField: c.Message.ContentField, URLField: c.Message.URLField,
		Upload: n.Bulk(c.Bulk.Accelerate).Upload, Now: n.Now,
	}
}

// compose makes the message of a file.
func compose(ctx context.Context, n *node.Node, c Config, e outbox.Entry, open func() (disk.File, error)) (node.Message, error) {
	from, err := originOf(e)
	if err != nil {
		return node.Message{}, err
	}
	m, err := composer(n, c).Compose(ctx, e, open, from)
	return node.Message(m), err
}

// attributes are those of a file's audit record.
func attributes(ctx context.Context, n *node.Node, c Config, e outbox.Entry, open func() (disk.File, error)) (map[string]any, error) {
	from, err := originOf(e)
	if err != nil {
		return nil, err
	}
	return composer(n, c).Attributes(ctx, e, open, from)
}

// keys are those of a message, which has its content or the URL of it.
func keys(c Config) node.Keys {
	return node.Keys{
		Each:     (&echofile.Composer{ContentField: c.Message.ContentField, URLField: c.Message.URLField}).Keys(),
		Optional: []string{"metadata"},
		Advice:   "look at the config's message.contentField and message.urlField",
	}
}
