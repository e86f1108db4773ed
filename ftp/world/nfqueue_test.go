//go:build world

package world

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Of linux/netfilter/nfnetlink.h and nfnetlink_queue.h.
const (
	subsysQueue  = 3 << 8
	msgPacket    = 0
	msgVerdict   = 1
	msgConfig    = 2
	attrHeader   = 1 // NFQA_PACKET_HDR, of packets
	attrVerdict  = 2 // NFQA_VERDICT_HDR
	attrCommand  = 1 // NFQA_CFG_CMD
	attrParams   = 2 // NFQA_CFG_PARAMS
	commandBind  = 1
	copyMeta     = 1
	verdictTake  = 1 // NF_ACCEPT
	netlinkBytes = 1 << 20
)

// delay holds each packet of a netfilter queue of the thread's network namespace for a time, in order, until ctx ends.
func delay(ctx context.Context, queue uint16, by time.Duration) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("NFQUEUE: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, netlinkBytes); err != nil {
		return fmt.Errorf("NFQUEUE: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1); err != nil {
		return fmt.Errorf("NFQUEUE: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("NFQUEUE: %w", err)
	}
	family := make([]byte, 2)
	binary.BigEndian.PutUint16(family, unix.AF_INET)
	if err := request(fd, queue, msgConfig, attrCommand, append([]byte{commandBind, 0}, family...)); err != nil {
		return err
	}
	if err := request(fd, queue, msgConfig, attrParams, []byte{0, 0, 0, 0, copyMeta}); err != nil {
		return err
	}
	type packet struct {
		id  uint32
		due time.Time
	}
	packets := make(chan packet, 100_000)
	go func() {
		defer unix.Close(fd)
		for {
			select {
			case p := <-packets:
				time.Sleep(time.Until(p.due))
				verdict := binary.BigEndian.AppendUint32(nil, verdictTake)
				_ = request(fd, queue, msgVerdict, attrVerdict, binary.BigEndian.AppendUint32(verdict, p.id))
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		buffer := make([]byte, 1<<16)
		for ctx.Err() == nil {
			n, _, err := unix.Recvfrom(fd, buffer, 0)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
			now := time.Now()
			for b := buffer[:max(n, 0)]; len(b) >= unix.SizeofNlMsghdr; {
				size, kind := int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint16(b[4:])
				if size < unix.SizeofNlMsghdr || size > len(b) {
					break
				}
				if kind == subsysQueue|msgPacket {
					if id, ok := packetID(b[unix.SizeofNlMsghdr+4 : size]); ok {
						packets <- packet{id, now.Add(by)}
					}
				}
				b = b[min((size+3)&^3, len(b)):]
			}
		}
	}()
	return nil
}

// request sends a message with one attribute; netfilter answers only to what fails, which the tests see by packets that hang.
func request(fd int, queue uint16, kind, attr uint16, value []byte) error {
	size := unix.SizeofNlMsghdr + 4 + 4 + len(value)
	b := binary.NativeEndian.AppendUint32(nil, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, subsysQueue|kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence, port
	b = append(b, unix.AF_UNSPEC, 0)  // family, version
	b = binary.BigEndian.AppendUint16(b, queue)
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, attr)
	b = append(b, value...)
	b = append(b, make([]byte, (4-len(value)%4)%4)...)
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("NFQUEUE: %w", err)
	}
	return nil
}

func packetID(attrs []byte) (uint32, bool) {
	for len(attrs) >= 4 {
		size, kind := int(binary.NativeEndian.Uint16(attrs)), binary.NativeEndian.Uint16(attrs[2:])&0x3fff
		if size < 4 || size > len(attrs) {
			return 0, false
		}
		if kind == attrHeader && size >= 8 {
			return binary.BigEndian.Uint32(attrs[4:]), true
		}
		attrs = attrs[min((size+3)&^3, len(attrs)):]
	}
	return 0, false
}
