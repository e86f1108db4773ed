package main

import (
	"log/slog"
	"path"

	"github.com/ftpnode/ftpnode/echostream"
)

// checkMounts warns of a data volume that does not outlive its container: the Managed App removes a container together
// with its volumes that have no name when the node, its config or its image changes, and with them what waits there.
func checkMounts(mounts []echostream.Mount, dataDir string, log *slog.Logger) {
	for _, m := range mounts {
		if m.Source == "" && path.Clean(m.Target) == path.Clean(dataDir) {
			log.Warn("the data volume has no name: what waits on it is lost when EchoStream replaces the container. Give the node's mount a source",
				"target", m.Target)
		}
	}
}
