package main

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// taker takes finished files from the drop directory into the outbox.
type taker struct {
	outbox *outbox.Outbox
	fs     disk.FS
	order  string // message.order
	log    *slog.Logger
}

var (
	_ drop.Taker  = taker{}
	_ drop.Opener = taker{}
)

// Take implements drop.Taker.
func (t taker) Take(ctx context.Context, files []drop.File) (ids []string, errs []error) {
	items := make([]outbox.Item, len(files))
	for i, f := range files {
		meta, err := json.Marshal(received{User: f.User, RemoteAddress: addressText(f.RemoteAddr), Received: f.Received})
		if err != nil { // a year beyond 9999
			meta, _ = json.Marshal(received{User: f.User, RemoteAddress: addressText(f.RemoteAddr)})
		}
		items[i] = outbox.Item{Path: f.Path, Name: f.Name, Lane: laneOf(t.order, f.User, f.Name), Meta: meta}
	}
	entries, errs := t.outbox.Put(ctx, items)
	ids = make([]string, len(files))
	for i, e := range entries {
		if errs[i] != nil {
			continue
		}
		ids[i] = e.ID
		t.log.Info("File accepted", "trackingId", e.ID, "user", files[i].User, "name", e.Name, "bytes", e.Size, "remote", addressText(files[i].RemoteAddr))
	}
	return ids, errs
}

// Waiting implements drop.Taker.
func (t taker) Waiting() iter.Seq2[string, drop.File] {
	return func(yield func(string, drop.File) bool) {
		for e := range t.outbox.Entries() {
			from, err := receivedOf(e)
			if err != nil {
				t.log.Error("a waiting file cannot be shown to clients", "trackingId", e.ID, "error", err)
				continue
			}
			address, _ := netip.ParseAddr(from.RemoteAddress)
			file := drop.File{User: from.User, Name: e.Name, Path: e.Path, Size: e.Size, ModTime: e.ModTime,
				Received: from.Received, RemoteAddr: address}
			if !yield(e.ID, file) {
				return
			}
		}
	}
}

// Open implements drop.Opener: readable users may fetch what waits. It looks through all that waits, which is quick enough
// for what people do by hand.
func (t taker) Open(id string) (disk.File, error) {
	for e := range t.outbox.Entries() {
		if e.ID == id {
			return t.fs.OpenFile(e.Path, os.O_RDONLY, 0)
		}
	}
	return nil, fmt.Errorf("file %s: %w", id, fs.ErrNotExist)
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// fileLanes is how many lanes there are for order = file: enough to keep the senders busy, and few enough for
// batches to fill up.
const fileLanes = 16

// laneOf puts files that must keep their order into one lane. Lanes are also the groups of their messages: see groupOf.
func laneOf(order, user, name string) string {
	switch order {
	case "user":
		return "user " + user
	case "file":
		return fmt.Sprintf("file %d", crc32.ChecksumIEEE([]byte(user+"/"+name))%fileLanes)
	}
	return ""
}

// groupOf is the message group of a lane: SQS keeps the order within a group, and blocks the rest of it while one of its messages
// is worked on. "" is the node's own group.
func groupOf(node, lane string) string {
	if lane == "" {
		return ""
	}
	return node + " " + lane
}

// dropHolder tells the drop of now which files are gone. There is none for a moment when a new config has it opened anew.
type dropHolder struct {
	mu     sync.Mutex
	drop   *drop.Drop
	missed []string // gone while there was none
}

// gone tells that a taken file has left the outbox.
func (h *dropHolder) gone(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.drop == nil {
		h.missed = append(h.missed, id)
		return
	}
	h.drop.Gone(id)
}

// open opens a drop. What leaves the outbox while it reads what waits there is told to it afterwards.
func (h *dropHolder) open(opts drop.Options) (*drop.Drop, error) {
	h.close()
	d, err := drop.Open(opts)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop = d
	for _, id := range h.missed {
		d.Gone(id)
	}
	h.missed = nil
	return d, nil
}

// close forgets the drop.
func (h *dropHolder) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop, h.missed = nil, nil
}
