package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/ftpnode/ftpnode/echostream"
)

// publicPorts is where EchoStream publishes the container's TCP ports: clients behind it know only the host's. A node
// that is not managed has none, and clients reach its ports as they are.
func publicPorts(ports []echostream.Port) map[int]int {
	var public map[int]int
	for _, p := range ports {
		if p.Protocol == "" || strings.EqualFold(p.Protocol, "tcp") {
			if public == nil {
				public = map[int]int{}
			}
			public[p.ContainerPort] = p.HostPort
		}
	}
	return public
}

// checkPorts warns of passive ports that no client can reach: its uploads would hang at random.
func checkPorts(public map[int]int, passive Ports, log *slog.Logger) {
	if len(public) == 0 {
		return
	}
	var missing []string
	for port := passive.First; port <= passive.Last; port++ {
		if public[port] == 0 {
			missing = append(missing, fmt.Sprint(port))
		}
	}
	if len(missing) > 0 {
		log.Warn("passive ports are not published: transfers that get one of them hang. Add them to the node's ports, or make ftp.passivePorts smaller",
			"missing", strings.Join(missing, ","))
	}
}
