// Package hangup tells if the other end of a TCP connection has hung up, without reading from it.
//
// The kernel knows as soon as the FIN or RST is in, even while bytes that came before wait to be read;
// a program that reads knows only after them. On systems other than Linux nothing is told: there the
// caller must rely on reading.
package hangup

import "net"

// Detected tells if the connection is known to be anything but fully open: half closed by the other end,
// reset, or closed by this end.
func Detected(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	open := true
	if err := raw.Control(func(fd uintptr) { open = established(fd) }); err != nil {
		return true // closed by this end
	}
	return !open
}
