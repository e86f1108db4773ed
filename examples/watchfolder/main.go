// Command watchfolder is an EchoStream node that sends the files that appear in the folder in/ of its volume, in the order in which they
// were finished. It is the smallest bridge there is: what a node does beside its protocol is package node.
//
// A file is finished when nothing has changed it for "quiet" of the node's config (10 s). A name that begins with a dot is never taken: a
// careful program writes ".name.tmp" and renames it at the end. Once a file is gone from the folder it will arrive, byte for byte, once and
// in order. A program that then goes on writing to it is too late.
package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

const folder = "in" // on the volume, since a file moves from here into the outbox

func main() {
	node.Main(node.Bridge[Config]{
		Name: "watchfolder", MessageType: "echo.file", Schema: schema, Serve: watch, Compose: compose, Attributes: attributes,
		Keys: func(Config) node.Keys {
			return node.Keys{Each: new(echofile.Composer).Keys(), Optional: []string{"metadata"}}
		},
	})
}

// watch takes what is finished until ctx ends. After an error it is called again.
func watch(ctx context.Context, n *node.Node, c Config) error {
	if err := disk.MkdirAll(n.Volume, folder, 0o777); err != nil {
		return err
	}
	for look := time.NewTicker(min(c.Quiet, time.Second)); ; {
		if err := take(ctx, n, c.Quiet); err != nil {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// take puts finished files into the outbox, up to 100 at once.
func take(ctx context.Context, n *node.Node, quiet time.Duration) error {
	before := time.Now().Add(-quiet)
	entries, err := n.Volume.ReadDir(folder)
	if err != nil {
		return err
	}
	var finished []fs.FileInfo
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && info.Name()[0] != '.' && disk.ChangeTime(info).Before(before) {
			finished = append(finished, info)
		}
	}
	slices.SortStableFunc(finished, func(a, b fs.FileInfo) int { return disk.ChangeTime(a).Compare(disk.ChangeTime(b)) })
	var items []outbox.Item
	for _, info := range finished[:min(100, len(finished))] {
		item := outbox.Item{Path: path.Join(folder, info.Name()), Name: info.Name()}
		if item.File, err = n.Volume.OpenFile(item.Path, os.O_RDONLY, 0); err != nil {
			break // later ones must not overtake it
		}
		items = append(items, item)
	}
	taken, errs := n.Outbox.Put(ctx, items) // durable when it returns
	for i, e := range taken {
		if errs[i] == nil {
			n.Log.Info("File accepted", "trackingId", e.ID, "name", e.Name, "size", e.Size)
		}
	}
	return errors.Join(append(errs, err)...)
}

func compose(ctx context.Context, n *node.Node, _ Config, e outbox.Entry, open func() (disk.File, error)) (node.Message, error) {
	m, err := composer(n).Compose(ctx, e, open, echofile.Origin{})
	return node.Message(m), err
}

func attributes(ctx context.Context, n *node.Node, _ Config, e outbox.Entry, open func() (disk.File, error)) (map[string]any, error) {
	return composer(n).Attributes(ctx, e, open, echofile.Origin{})
}

func composer(n *node.Node) *echofile.Composer {
	return &echofile.Composer{Upload: n.Bulk(false).Upload, Now: n.Now}
}
