package hangup

import "golang.org/x/sys/unix"

// tcpEstablished is TCP_ESTABLISHED of the kernel's net/tcp_states.h.
const tcpEstablished = 1

func established(fd uintptr) bool {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == tcpEstablished
}
