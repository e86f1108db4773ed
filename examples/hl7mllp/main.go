// Command hl7mllp is an EchoStream node that takes HL7 v2 messages over MLLP and sends them as they are.
//
// A sender that reads MSA|AA may forget its message: it will arrive, once it was read so, in the order of its sender (MSH-3 and
// MSH-4). Where the node's volume does not outlive its container, AA says that EchoStream has the message. MSA|AE says that the
// message is at fault, MSA|AR that it cannot be taken now and should be sent again; both say why (HL7's original mode). Who sends a message again after a
// reply that never came may have it delivered twice, with the same control id.
//
// The node listens at HL7MLLP_ADDR, by default :2575. Certificate and key for TLS are PEM files on the volume.
package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/outbox"
)

const (
	spool     = "mllp"           // on the volume: messages on their way into the outbox
	tlsTime   = 30 * time.Second // for a sender to agree on TLS
	frameTime = time.Minute      // for a frame, once it has begun
	replyTime = 10 * time.Second // for a sender to take its reply
)

func main() {
	node.Main(node.Bridge[Config]{
		Name: "hl7mllp", MessageType: "echo.hl7", Schema: schema,
		Address: func(getenv func(string) string) string { return cmp.Or(getenv("HL7MLLP_ADDR"), ":2575") },
		Serve:   serve, Compose: compose,
		Sender: func(e outbox.Entry) string { return e.Lane },
		Waits:  func(n *node.Node, c Config) bool { return !stored(n, c) },
	})
}

// stored reports whether what is in the outbox outlives the container.
func stored(n *node.Node, c Config) bool {
	if c.Acknowledge == "auto" {
		outlives, _ := n.Stored()
		return outlives
	}
	return c.Acknowledge == "stored"
}

func serve(ctx context.Context, n *node.Node, c Config) error {
	if err := cleanSpool(n.Volume); err != nil {
		return err
	}
	listener, err := n.Listener()
	if err != nil {
		return err
	}
	defer listener.Close()
	if c.TLS.Certificate != "" {
		if listener, err = withTLS(listener, n.Volume, c); err != nil {
			return err
		}
	}
	var sessions sync.WaitGroup
	defer sessions.Wait() // a session of the last config must not meet those of the next
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	n.Log.Info("MLLP is served", "address", listener.Addr(), "tls", c.TLS.Certificate != "", "stored", stored(n, c))
	free := make(chan struct{}, c.MaxConnections)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		sessions.Go(func() {
			defer func() { <-free }()
			defer conn.Close()
			if err := session(ctx, n, c, conn); err != nil && ctx.Err() == nil {
				n.Log.Warn("a connection ended", "remoteAddress", conn.RemoteAddr(), "error", err)
			}
		})
	}
}

// cleanSpool removes what was never acknowledged. That is safe now, and would not be before the outbox was opened: what stands here and
// in the outbox may be one file with two names after a power cut, and it is for the outbox to find out.
func cleanSpool(volume disk.FS) error {
	if err := disk.MkdirAll(volume, spool, 0o700); err != nil {
		return err
	}
	left, err := volume.ReadDir(spool)
	for _, f := range left {
		err = errors.Join(err, volume.Remove(path.Join(spool, f.Name())))
	}
	return err
}

func withTLS(l net.Listener, volume disk.FS, c Config) (net.Listener, error) {
	certificate, err := disk.ReadFile(volume, c.TLS.Certificate, 1<<20)
	if err != nil {
		return nil, err
	}
	key, err := disk.ReadFile(volume, c.TLS.PrivateKey, 1<<20)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s and private key %s: %w", c.TLS.Certificate, c.TLS.PrivateKey, err)
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}), nil
}

// session takes the messages of one connection, one after the other. When ctx ends it is over with the message under way.
func session(ctx context.Context, n *node.Node, c Config, conn net.Conn) (err error) {
	defer func() {
		if p := recover(); p != nil { // else one sender's message would end the node, again and again
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	if secure, ok := conn.(*tls.Conn); ok {
		agreeing, cancel := context.WithTimeout(ctx, tlsTime)
		defer cancel()
		if err := secure.HandshakeContext(agreeing); err != nil {
			return err
		}
	}
	r := bufio.NewReader(conn)
	for ctx.Err() == nil {
		raw, err := readFrame(r, echostream.MaxMessageSize, func() {
			_ = conn.SetReadDeadline(time.Now().Add(frameTime))
			if ctx.Err() != nil { // it has replaced the one that ends the session
				_ = conn.SetReadDeadline(time.Now())
			}
		})
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		h, _, err := parse(raw)
		code := "AE"
		if err == nil {
			if err = take(ctx, n, c, h, raw); err == nil {
				code = "AA"
			} else {
				code = "AR"
			}
		}
		reason := ""
		if err != nil {
			reason = err.Error()
			n.Log.Warn("message refused", "remoteAddress", conn.RemoteAddr(), "code", code, "controlId", h.field(10), "error", err)
		}
		_ = conn.SetWriteDeadline(time.Now().Add(replyTime))
		if _, err := conn.Write(h.acknowledgement(code, reason, n.Now())); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Time{}) // the next one may take days
	}
	return nil
}

// take makes a message durable, or has it delivered where nothing is. After an error the sender still has it.
func take(ctx context.Context, n *node.Node, c Config, h header, raw []byte) error {
	sum := sha256.Sum256(raw)
	checksum := crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli))
	item := outbox.Item{Name: h.field(10), Lane: h.field(3) + " " + h.field(4), Checksum: &checksum}
	if !stored(n, c) {
		if err := n.Ready(); err != nil {
			return err
		}
		item.Key, item.Tentative = "sent/"+hex.EncodeToString(sum[:]), &outbox.Tentative{}
		// A sender that was refused after a time, and tries again, waits for what is under way already.
		if id, ok := n.Outbox.Same(item.Key, int64(len(raw)), checksum); ok {
			return delivered(ctx, n, c, id)
		}
	}
	item.Path = path.Join(spool, echostream.NewTrackingID())
	var err error
	if item.File, err = n.Volume.OpenFile(item.Path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return err
	}
	if err := disk.WriteAll(item.File, raw); err != nil {
		item.File.Close()
		return errors.Join(err, n.Volume.Remove(item.Path))
	}
	entries, errs := n.Outbox.Put(context.WithoutCancel(ctx), []outbox.Item{item})
	if errs[0] != nil {
		if err := n.Volume.Remove(item.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.Log.Warn("a refused message stays on the volume until the next start", "path", item.Path, "error", err)
		}
		return errs[0]
	}
	n.Log.Info("Message accepted", "trackingId", entries[0].ID, "controlId", item.Name, "sender", item.Lane, "size", len(raw))
	if item.Tentative == nil {
		return nil
	}
	return delivered(ctx, n, c, entries[0].ID)
}

// delivered waits until EchoStream has an entry. After an error it is gone, or was attempted and is found by Same when it is sent again.
func delivered(ctx context.Context, n *node.Node, c Config, id string) error {
	ctx, cancel := context.WithTimeout(ctx, c.AcknowledgeTimeout)
	defer cancel()
	err := n.Outbox.Await(ctx, id)
	if err != nil && !errors.Is(err, outbox.ErrRefused) {
		if withdrawn := n.Outbox.Withdraw(id, ""); withdrawn != nil && !errors.Is(withdrawn, outbox.ErrDue) && !errors.Is(withdrawn, fs.ErrNotExist) {
			err = errors.Join(err, withdrawn)
		}
	}
	return err
}

// compose sends the text as it came, in UTF-8.
func compose(_ context.Context, _ *node.Node, _ Config, e outbox.Entry, open func() (disk.File, error)) (node.Message, error) {
	f, err := open()
	if err != nil {
		return node.Message{}, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, echostream.MaxMessageSize))
	if err != nil {
		return node.Message{}, err
	}
	h, text, err := parse(raw)
	if err != nil {
		return node.Message{}, echostream.Permanent(err) // it was none when it came
	}
	return node.Message{Body: text, Attributes: map[string]any{
		"control_id": h.field(10), "message_type": h.field(9), "sending_application": h.field(3), "sending_facility": h.field(4),
	}}, nil
}
