package ftp

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// How hard the defence tests attack. By default, so that the tests of a developer take a few seconds; in CI at full size:
//
//	go test ./ftp -run Defence -defence.connections=10000 -defence.slowloris=200 -defence.sessions=500
//
// Sessions with random commands are told apart by their seed, which a failure names.
var (
	defenceConnections = flag.Int("defence.connections", 500, "how many `connections` are opened and abandoned")
	defenceSlowloris   = flag.Int("defence.slowloris", 30, "how many `clients` are as slow as they can be")
	defenceSessions    = flag.Int("defence.sessions", 20, "how many `sessions` send random commands")
	defenceSeed        = flag.Uint64("defence.seed", 1, "the first session's `seed`")
)

// attacker is one of 62,500 addresses of loopback.
func attacker(i int) string { return fmt.Sprintf("127.1.%d.%d", i/250%250, i%250+1) }

// dialFrom connects from an address of loopback.
func dialFrom(local, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: patience}
	conn, err := d.Dial("tcp", to)
	if err == nil {
		conn.SetDeadline(time.Now().Add(patience))
	}
	return conn, err
}

// visitor is a client for other goroutines than the test's: it returns errors.
type visitor struct {
	local string
	conn  net.Conn
	text  *textproto.Conn
}

// visit connects and logs in.
func (n *node) visit(local, user string) (*visitor, error) {
	conn, err := dialFrom(local, n.addr)
	if err != nil {
		return nil, err
	}
	v := &visitor{local: local, conn: conn, text: textproto.NewConn(conn)}
	if _, err = v.expect(220); err == nil {
		_, err = v.do(331, "USER "+user)
	}
	if err == nil {
		_, err = v.do(230, "PASS pass")
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return v, nil
}

// insist logs in as dock, and tries again when it is told to try later.
func (n *node) insist(local string) (*visitor, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; {
		v, err := n.visit(local, "dock")
		if !tryLater(err) || time.Now().After(deadline) {
			return v, err
		}
		<-tick.C
	}
}

func tryLater(err error) bool {
	var refusal *textproto.Error
	return errors.As(err, &refusal) && refusal.Code == 421
}

func (v *visitor) expect(code int) (string, error) {
	_, text, err := v.text.ReadResponse(code)
	return text, err
}

func (v *visitor) do(code int, command string) (string, error) {
	v.conn.SetDeadline(time.Now().Add(patience))
	if err := v.text.PrintfLine("%s", command); err != nil {
		return "", err
	}
	return v.expect(code)
}

// begin begins an upload.
func (v *visitor) begin(name string) (net.Conn, error) {
	text, err := v.do(229, "EPSV")
	if err != nil {
		return nil, err
	}
	port := strings.Trim(text[strings.Index(text, "(")+1:], "|)")
	host, _, _ := net.SplitHostPort(v.conn.RemoteAddr().String())
	data, err := dialFrom(v.local, net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	if _, err := v.do(150, "STOR "+name); err != nil {
		data.Close()
		return nil, err
	}
	return data, nil
}

func (v *visitor) store(name string, content []byte) error {
	data, err := v.begin(name)
	if err != nil {
		return err
	}
	if _, err := data.Write(content); err != nil {
		data.Close()
		return err
	}
	data.Close()
	_, err = v.expect(226)
	return err
}

// neighbours are two good clients, who upload for as long as others attack: one in the session that it has, one in a new
// session for each file, for which it tries again when it is told to try later.
type neighbours struct {
	t       testing.TB
	n       *node
	stop    chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	files   map[string]int // that each has uploaded
	refused int            // sessions
	errs    []error
}

const (
	stayer   = "127.0.0.1"
	newcomer = "127.0.0.2"
)

func (n *node) neighbours(t testing.TB) *neighbours {
	t.Helper()
	b := &neighbours{t: t, n: n, stop: make(chan struct{}), files: make(map[string]int)}
	v, err := n.visit(stayer, "dock")
	require.NoError(t, err)
	b.running.Go(func() {
		defer v.conn.Close()
		b.upload(stayer, func() (*visitor, error) { return v, nil }, func(*visitor) {})
	})
	b.running.Go(func() {
		b.upload(newcomer, func() (*visitor, error) { return n.visit(newcomer, "dock") }, func(v *visitor) { v.conn.Close() })
	})
	t.Cleanup(b.end)
	return b
}

func (b *neighbours) upload(who string, session func() (*visitor, error), after func(*visitor)) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-b.stop:
			return
		case <-tick.C:
		}
		v, err := session()
		if tryLater(err) {
			b.mu.Lock()
			b.refused++
			b.mu.Unlock()
			continue
		}
		if err == nil {
			err = v.store(neighbourFile(who, i), noise(1000+i))
			after(v)
		}
		b.mu.Lock()
		if err != nil {
			b.errs = append(b.errs, fmt.Errorf("%s, file %d: %w", who, i, err))
			b.mu.Unlock()
			return
		}
		i++
		b.files[who] = i
		b.mu.Unlock()
	}
}

func neighbourFile(who string, i int) string { return fmt.Sprintf("%s-%d", who, i) }

// served waits until each has uploaded more files than it had when it was called.
func (b *neighbours) served(more int) {
	b.t.Helper()
	count := func() (int, int, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.files[stayer], b.files[newcomer], errors.Join(b.errs...)
	}
	first, second, _ := count()
	eventually(b.t, func() bool {
		a, b, err := count()
		return err != nil || a >= first+more && b >= second+more
	}, "others are served meanwhile")
	_, _, err := count()
	require.NoError(b.t, err)
}

func (b *neighbours) end() {
	select {
	case <-b.stop:
	default:
		close(b.stop)
	}
	b.running.Wait()
}

// leave ends them, and holds what they have got: a 226 for each file, and the file.
func (b *neighbours) leave() {
	b.t.Helper()
	b.end()
	require.NoError(b.t, errors.Join(b.errs...))
	for _, who := range []string{stayer, newcomer} {
		require.NotZero(b.t, b.files[who], "%s uploads nothing", who)
		for i := range b.files[who] {
			b.n.requireFile(b.t, neighbourFile(who, i), noise(1000+i))
		}
	}
	b.t.Logf("uploaded meanwhile: %v; sessions that were refused and tried again: %d", b.files, b.refused)
}

// footprint is what the process holds.
type footprint struct {
	goroutines, descriptors int
	heap                    uint64
}

func measure(t testing.TB) footprint {
	t.Helper()
	runtime.GC()
	runtime.GC() // what the first leaves in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, err := os.ReadDir("/dev/fd")
	require.NoError(t, err)
	return footprint{goroutines: runtime.NumGoroutine(), descriptors: len(open), heap: m.HeapAlloc}
}

// requireFootprint waits until the process holds hardly more than it held. The disk may have opened directories that it keeps open.
func requireFootprint(t testing.TB, before footprint) {
	t.Helper()
	const slack = 4 << 20 // bytes
	var now footprint
	require.Eventually(t, func() bool {
		now = measure(t)
		return now.goroutines <= before.goroutines+2 && now.descriptors <= before.descriptors+8 && now.heap <= before.heap+slack
	}, patience, 50*time.Millisecond, "the process holds more than before")
	t.Logf("before %+v, after %+v", before, now)
}
