package main

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/netip"
	"path"

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

// keyOf returns by what clients find a file that a version without keys has put into the outbox: its path below drop.
func keyOf(log *slog.Logger, c Config, e outbox.Entry) string {
	from, err := receivedOf(e)
	if err != nil {
		log.Error("a waiting file cannot be shown to clients", "trackingId", e.ID, "error", err)
		return ""
	}
	directory := from.User
	for _, u := range c.FTP.Users {
		if u.Name == from.User {
			directory = u.Directory
		}
	}
	return path.Join(directory, e.Name)
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

// laneOf puts files that must keep their order into one lane.
func laneOf(order, user, name string) string {
	switch order {
	case "user":
		return "user " + user
	case "file":
		return fmt.Sprintf("file %d", crc32.ChecksumIEEE([]byte(user+"/"+name))%fileLanes)
	}
	return ""
}
