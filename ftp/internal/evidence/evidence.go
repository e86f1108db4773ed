// Package evidence reports whether the client of an FTP server has read a 226.
//
// When a client is killed, its kernel closes both connections as if the client had: a piece of a file looks like a
// whole one. The server sends the 226 as soon as the file is durable, without waiting for a sign of life, and
// the control connection shows afterwards who was there. A [Witness] watches control connections; each acknowledged
// upload gets exactly one verdict:
//
//   - read: the 226 is acknowledged by TCP, and then came a command or a FIN, or the connection still lives when the
//     settle time is over. A Linux socket that is closed with the 226 unread ends by RST, never by FIN.
//   - interrupted: a QUIT or ABOR came that does not acknowledge the 226; or a FIN that does not, and then a RST.
//   - doubtful: a RST without a FIN before the 226 counted as read. A client died with the 226 unread, or a program ended
//     right after it had read it, as on Windows and on lwIP.
//
// What is seen before the 226 is told by [Upload.Broken] instead.
//
// # Where the facts come from
//
// Linux counts the acknowledged bytes of a connection in tcpi_bytes_acked (TCP_INFO, offset 120, tcp(7) and linux/tcp.h).
// For an accepted connection it starts at 0: the SYN is not counted (for one that was dialled it starts at 1; both
// measured by TestCounterStartsAtZero). So the 226 is acknowledged when the counter has reached the number of raw
// bytes that were written up to its last one, those of TLS included. The server's own FIN counts one more.
// The counter survives a RST, and the acknowledgement in a RST is not counted.
//
// The kernel takes a segment's acknowledgement before its data; so what the counter says right after a read is what the
// client's kernel had when it sent those bytes. But a segment that was lost is sent again with the newest
// acknowledgement: a QUIT that was lost once may seem to have been sent after the 226.
//
// After a RST the first write or read returns ECONNRESET, the next read EOF, which looks like a FIN; after a FIN and a
// RST the reads return EOF and the first write EPIPE. So the first failed write says which it was.
//
// # Limits
//
// A relay that ends TCP answers for its client. On systems whose counter does not count (gVisor, all but Linux)
// only what is seen before the 226 counts; each 226 is taken as read then.
package evidence

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

// Verdict is told what became of one acknowledged upload. Exactly one of its methods is called, once, from the
// goroutine that reads the connection or from a timer, while nothing is locked. The reader waits for it: the
// client's next command is not seen before the verdict is in.
type Verdict interface {
	Read()                     // the client has read the 226, or it counts as if
	Interrupted(reason string) // the upload is proved to be interrupted
	Doubtful(reason string)    // a reset, which proves nothing
}

// Options of a Witness.
type Options struct {
	// Settle is how long after its 226 a client that only keeps its connection counts as having read it. By default,
	// it does as soon as the 226 is acknowledged.
	Settle time.Duration
	// Stall is how long a 226 waits when nothing at all comes from its client; then it counts as read. By default, a minute.
	Stall time.Duration
	// Log gets the warnings. By default, nothing is logged.
	Log *slog.Logger
}

// Witness watches the control connections of a server. Its methods can be called by several goroutines.
type Witness struct {
	opts      Options
	habits    habits
	noCounter sync.Once
	look      func(*net.TCPConn) status // for tests

	mu      sync.Mutex
	closed  bool
	waiting map[*Conn]struct{} // those with a 226 that has no verdict
}

// New returns a Witness that has seen nothing.
func New(o Options) *Witness {
	if o.Stall <= 0 {
		o.Stall = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Witness{opts: o, look: look, waiting: make(map[*Conn]struct{}), habits: habits{log: o.Log}}
}

// Close ends the watching: what has no verdict yet counts as read, as it does after a restart. It is called when the
// server has ended its sessions.
func (w *Witness) Close() {
	w.mu.Lock()
	w.closed = true
	var conns []*Conn
	for c := range w.waiting {
		conns = append(conns, c)
	}
	w.mu.Unlock()
	for _, c := range conns {
		c.giveUp()
	}
}

// await notes whether c has a 226 without a verdict.
func (w *Witness) await(c *Conn, waits bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if waits {
		w.waiting[c] = struct{}{}
	} else {
		delete(w.waiting, c)
	}
}

func (w *Witness) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}
