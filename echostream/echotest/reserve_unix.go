//go:build unix

package echotest

import (
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// reserve binds an address without listening: it refuses connections, and nobody else gets it. nil if that fails.
func reserve(address string) io.Closer {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil
	}
	var sa unix.Sockaddr
	family := unix.AF_INET6
	if ip := a.IP.To4(); ip != nil {
		family = unix.AF_INET
		sa = &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}
	} else {
		v6 := &unix.SockaddrInet6{Port: a.Port}
		copy(v6.Addr[:], a.IP.To16())
		sa = v6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), address)
	// Go's listeners set it too; both must for a port with connections in TIME_WAIT.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err := unix.Bind(fd, sa); err != nil {
		f.Close()
		return nil
	}
	return f
}
