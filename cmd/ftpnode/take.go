package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"net/netip"
	"path"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// describer returns what the outbox has to know of a file; order is message.order.
func describer(order string) func(drop.File) (lane string, meta json.RawMessage) {
	return func(f drop.File) (lane string, meta json.RawMessage) {
		from := received{User: f.User, RemoteAddress: addressText(f.RemoteAddr), Received: f.Received}
		meta, err := json.Marshal(from)
		if err != nil { // a year beyond 9999
			from.Received = from.Received.UTC().AddDate(9999-from.Received.Year(), 0, 0)
			meta, _ = json.Marshal(from)
		}
		return laneOf(order, f.User, f.Name), meta
	}
}

// keyOf returns by what clients find a file that a version without keys has put into the outbox: its path below drop, by the
// definition that was kept on the volume.
func keyOf(volume disk.FS, env echostream.Environment, log *slog.Logger) func(outbox.Entry) string {
	directories := map[string]string{}
	definition, err := echostream.LoadDefinition(volume, definitionFile, env)
	switch {
	case err == nil:
		config, _ := parseConfig(definition.Config)
		for _, u := range config.FTP.Users {
			directories[u.Name] = u.Directory
		}
	case !errors.Is(err, fs.ErrNotExist):
		log.Warn("the kept definition cannot be read: files that wait are not shown to clients whose directory has another name than they have", "error", err)
	}
	return func(e outbox.Entry) string {
		from, err := receivedOf(e)
		if err != nil {
			log.Error("a waiting file cannot be shown to clients", "trackingId", e.ID, "error", err)
			return ""
		}
		directory, ok := directories[from.User]
		if !ok {
			directory = from.User
		}
		return path.Join(directory, e.Name)
	}
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
