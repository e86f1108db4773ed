package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// callTime bounds each step of a client, but the sending of a large file.
const callTime = 60 * time.Second

// client is an FTP session that costs little: no goroutines, one buffer, no text made that is not needed.
type client struct {
	conn   net.Conn
	secure *tls.Config // nil is plain
	in     []byte      // read, not used yet
	buf    []byte
	out    []byte
}

// dial connects and logs in. With secure both connections are encrypted; data connections resume the session.
func dial(ctx context.Context, s *server) (*client, error) {
	var dialer net.Dialer
	dialing, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	conn, err := dialer.DialContext(dialing, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, buf: make([]byte, 4096)}
	context.AfterFunc(ctx, func() { conn.Close() })
	if err := c.login(s); err != nil {
		c.close()
		return nil, fmt.Errorf("logging in to %s: %w", s.name, err)
	}
	return c, nil
}

func (c *client) login(s *server) error {
	if _, err := c.reply(220); err != nil {
		return err
	}
	if s.tls {
		if _, err := c.command(234, "AUTH", "TLS"); err != nil {
			return err
		}
		// It is a server that was just started, on this machine, with a certificate of its own.
		c.secure = &tls.Config{InsecureSkipVerify: true, ServerName: "bench", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		c.conn = tls.Client(c.conn, c.secure)
	}
	if _, err := c.command(331, "USER", s.user); err != nil {
		return err
	}
	if _, err := c.command(230, "PASS", s.password); err != nil {
		return err
	}
	if s.tls {
		if _, err := c.command(200, "PBSZ", "0"); err != nil {
			return err
		}
		if _, err := c.command(200, "PROT", "P"); err != nil {
			return err
		}
	}
	if s.cwd != "" {
		if _, err := c.command(250, "CWD", s.cwd); err != nil {
			return err
		}
	}
	_, err := c.command(200, "TYPE", "I")
	return err
}

func (c *client) close() { c.conn.Close() }

// quit ends the session in good order.
func (c *client) quit() {
	_, _ = c.command(221, "QUIT", "")
	c.close()
}

// command sends a command and reads its reply. The text is good until the next call.
func (c *client) command(code int, verb, arg string) ([]byte, error) {
	if err := c.send(verb, arg); err != nil {
		return nil, err
	}
	text, err := c.reply(code)
	if err != nil && verb != "PASS" {
		err = fmt.Errorf("%s: %w", verb, err)
	}
	return text, err
}

func (c *client) send(verb, arg string) error {
	c.out = append(c.out[:0], verb...)
	if arg != "" {
		c.out = append(append(c.out, ' '), arg...)
	}
	c.out = append(c.out, "\r\n"...)
	_ = c.conn.SetDeadline(time.Now().Add(callTime))
	_, err := c.conn.Write(c.out)
	return err
}

// reply reads a whole reply, and returns its last line.
func (c *client) reply(want int) ([]byte, error) {
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		if len(line) < 4 || line[3] != ' ' {
			continue // of a reply with several lines
		}
		code, err := strconv.Atoi(string(line[:3]))
		if err != nil {
			continue
		}
		if code != want && (want != 150 || code != 125) {
			return nil, fmt.Errorf("expected %d, got %q", want, line)
		}
		return line, nil
	}
}

func (c *client) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.in, '\n'); i >= 0 {
			line := bytes.TrimSuffix(c.in[:i], []byte("\r"))
			c.in = c.in[i+1:]
			return line, nil
		}
		n := copy(c.buf, c.in)
		if n == len(c.buf) {
			return nil, errors.New("a reply's line is too long")
		}
		got, err := c.conn.Read(c.buf[n:])
		c.in = c.buf[:n+got]
		if err != nil {
			return nil, err
		}
	}
}

// transfer opens a data connection for a command.
func (c *client) transfer(verb, arg string) (net.Conn, error) {
	text, err := c.command(229, "EPSV", "")
	if err != nil {
		return nil, err
	}
	_, rest, _ := bytes.Cut(text, []byte("(|||"))
	digits, _, ok := bytes.Cut(rest, []byte("|"))
	port, err := strconv.Atoi(string(digits))
	if !ok || err != nil {
		return nil, fmt.Errorf("EPSV is answered with %q", text)
	}
	host := c.conn.RemoteAddr().(*net.TCPAddr).IP
	data, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: host, Port: port})
	if err != nil {
		return nil, err
	}
	if err = c.send(verb, arg); err == nil {
		_, err = c.reply(150)
	}
	if err != nil {
		data.Close()
		return nil, fmt.Errorf("%s %s: %w", verb, arg, err)
	}
	if c.secure == nil {
		return data, nil
	}
	return tls.Client(data, c.secure), nil
}

// store uploads, and returns once it has read the 226. from gives the content in pieces, and nil at its end.
func (c *client) store(name string, from func() []byte) error {
	data, err := c.transfer("STOR", name)
	if err != nil {
		return err
	}
	for piece := from(); piece != nil; piece = from() {
		_ = data.SetDeadline(time.Now().Add(callTime))
		if _, err := data.Write(piece); err != nil {
			data.Close()
			return fmt.Errorf("STOR %s: %w", name, err)
		}
	}
	if err := hangUp(data); err != nil {
		return fmt.Errorf("STOR %s: %w", name, err)
	}
	_ = c.conn.SetDeadline(time.Now().Add(5 * callTime)) // the sync of a large file
	if _, err := c.reply(226); err != nil {
		return fmt.Errorf("STOR %s: %w", name, err)
	}
	return nil
}

// hangUp ends an upload's data. With TLS the server's session tickets are read first: a socket that is closed with something unread
// ends by RST, which takes what was sent along.
func hangUp(data net.Conn) error {
	encrypted, ok := data.(*tls.Conn)
	if !ok {
		return data.Close()
	}
	_ = data.SetDeadline(time.Now().Add(callTime))
	err := errors.Join(encrypted.CloseWrite(), encrypted.NetConn().(*net.TCPConn).CloseWrite())
	_, _ = io.Copy(io.Discard, data) // vsftpd may end without a close_notify
	_ = data.Close()
	return err
}

// size asks how long a file is.
func (c *client) size(name string) (int64, error) {
	text, err := c.command(213, "SIZE", name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(text[4:])), 10, 64)
}

// names counts the files that NLST lists; all of ours end in .dat, and pure-ftpd lists the directory itself and its parent, too.
func (c *client) names() (int, error) {
	data, err := c.transfer("NLST", "")
	if err != nil {
		return 0, err
	}
	defer data.Close()
	_ = data.SetDeadline(time.Now().Add(2 * callTime))
	n, lines := 0, bufio.NewScanner(data)
	for lines.Scan() {
		if bytes.HasSuffix(lines.Bytes(), []byte(".dat")) {
			n++
		}
	}
	if err := lines.Err(); err != nil {
		return n, err
	}
	data.Close()
	_, err = c.reply(226)
	return n, err
}

// content is what the file of a name holds: bytes by chance, the same each time. It gives them in pieces of 1 MiB at most, in one
// buffer. A larger file repeats its first MiB, which is beyond what gzip looks back: it does not get smaller.
func content(name string, size int64) func() []byte {
	h := fnv.New64a()
	_, _ = io.WriteString(h, name)
	random := rand.NewPCG(h.Sum64(), 226)
	piece := make([]byte, min(size, 1<<20)+8)
	for i := 0; i+8 <= len(piece); i += 8 {
		binary.LittleEndian.PutUint64(piece[i:], random.Uint64())
	}
	return func() []byte {
		if size == 0 {
			return nil
		}
		p := piece[:min(size, 1<<20)]
		size -= int64(len(p))
		return p
	}
}

// load is many files over several connections.
type load struct {
	connections int
	size        int64
	files       int           // at most
	limit       time.Duration // of the sending
}

// loaded is what became of a load.
type loaded struct {
	names   []string // whose 226 was read
	began   time.Time
	took    time.Duration // to the last 226
	counted int           // names, without the first of each connection, which goes before the time begins
	cpu     time.Duration // of the server meanwhile
	cpuAt   time.Duration // of the server when it began, for those who count further
	client  time.Duration // CPU of this process meanwhile
	peak    int64         // memory of the server at most so far, in bytes
}

// upload runs a load. Log-ins, and a first file over each connection, go before the time begins.
func (l load) upload(ctx context.Context, s *server) (done loaded, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clients := make([]*client, l.connections)
	defer func() {
		var ending sync.WaitGroup
		for _, c := range clients {
			if c != nil {
				ending.Go(c.quit)
			}
		}
		ending.Wait()
	}()
	for i := range clients {
		if clients[i], err = dial(ctx, s); err != nil {
			return done, err
		}
		name := fmt.Sprintf("first-%03d.dat", i)
		if err = clients[i].store(name, content(name, l.size)); err != nil {
			return done, err
		}
		done.names = append(done.names, name)
	}
	if done.cpuAt, err = s.cpu(); err != nil {
		return done, err
	}
	mine := ownCPU()
	var next atomic.Int64
	var mu sync.Mutex
	var sending sync.WaitGroup
	done.began = time.Now()
	for _, c := range clients {
		sending.Go(func() {
			var names []string
			for ctx.Err() == nil && time.Since(done.began) < l.limit {
				n := next.Add(1)
				if n > int64(l.files) {
					break
				}
				name := fmt.Sprintf("file-%06d.dat", n)
				if err := c.store(name, content(name, l.size)); err != nil {
					cancel(err)
					return
				}
				names = append(names, name)
			}
			mu.Lock()
			defer mu.Unlock()
			done.names = append(done.names, names...)
		})
	}
	sending.Wait()
	done.took = time.Since(done.began)
	done.client = ownCPU() - mine
	done.counted = len(done.names) - l.connections
	if err := context.Cause(ctx); err != nil {
		return done, fmt.Errorf("uploading to %s: %w", s.name, err)
	}
	now, err := s.cpu() // the sessions are still there: those that end take theirs along
	if err != nil {
		return done, err
	}
	done.cpu = now - done.cpuAt
	_, done.peak, err = s.memory()
	return done, err
}
