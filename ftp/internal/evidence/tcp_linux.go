package evidence

import (
	"net"

	"golang.org/x/sys/unix"
)

// States of the kernel's net/tcp_states.h.
const (
	stateClose     = 7
	stateCloseWait = 8
)

// look asks the kernel about a connection.
func look(c *net.TCPConn) (st status) {
	raw, err := c.SyscallConn()
	if err != nil {
		return status{}
	}
	// It fails if c was closed by this end.
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			st = status{known: true, state: info.State, acked: info.Bytes_acked, received: info.Bytes_received}
		}
	})
	return st
}

// inlineUrgent leaves urgent data in the stream. Without it the kernel takes the last urgent byte out: the line's end, if
// a client sends the whole line so.
func inlineUrgent(c *net.TCPConn) {
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
	}
}
