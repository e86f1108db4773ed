package node

import (
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
