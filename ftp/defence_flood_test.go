package ftp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// warnings keeps only what an operator would see: a log of each command would be the growth that the tests look for.
func warnings(o *Options, d *drop.Options) *syncBuffer {
	b := &syncBuffer{}
	o.Log = slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelWarn}))
	d.Log = o.Log
	return b
}

// settled waits until the server has no session, and measures what the process holds.
func (n *node) settled(t testing.TB) footprint {
	t.Helper()
	n.login(t).do(221, "QUIT") // what is made once is made
	eventually(t, func() bool { return n.sessionCount() == 0 }, "no session is left")
	return measure(t)
}

// TestDefenceAbandonedConnections opens connections from many addresses, and leaves them in all states.
func TestDefenceAbandonedConnections(t *testing.T) {
	const kept = 2000 // at most, of those that are left open: a process has only so many descriptors
	var log *syncBuffer
	n := start(t, func(o *Options, d *drop.Options) {
		log = warnings(o, d)
		o.IdleTimeout, o.LoginTimeout = 3*time.Second, 6*time.Second
	})
	before := n.settled(t)
	good := n.neighbours(t)

	var opening sync.WaitGroup
	open, next := make(chan net.Conn, kept), make(chan int)
	errs := make(chan error, *defenceConnections)
	for range 20 {
		opening.Go(func() {
			for i := range next {
				conn, err := dialFrom(attacker(i), n.addr)
				if err != nil {
					errs <- err
					continue
				}
				if i%7 == 6 {
					conn.(*net.TCPConn).SetLinger(0)
				}
				conn.Write([]byte(abandoned[i%len(abandoned)]))
				if i%3 == 0 {
					conn.Close()
					continue
				}
				select {
				case open <- conn:
				default:
					conn.Close()
				}
			}
		})
	}
	for i := range *defenceConnections {
		next <- i
	}
	close(next)
	opening.Wait()
	good.served(3) // while all that were left open are still open
	good.leave()
	require.Empty(t, errs)

	close(open)
	for conn := range open {
		conn.Close()
	}
	eventually(t, func() bool { return n.sessionCount() == 0 }, "all sessions end")
	requireFootprint(t, before)
	require.NotContains(t, log.String(), "panic")
	n.login(t).store("after", noise(1000))
	n.requireFile(t, "after", noise(1000))
}

// abandoned is what clients say before they are not heard of any more.
var abandoned = []string{
	"",
	"USER do",
	"USER dock\r\nPASS pass\r\n",
	"USER dock\r\nPASS pass\r\nEPSV\r\n",
	"USER dock\r\nPASS pass\r\nEPSV\r\nSTOR abandoned\r\n",
	"USER dock\r\nPASS pass\r\nPASV\r\nLIST\r\n",
	"AUTH TLS\r\n",
	"\x16\x03\x01\x02\x00\x01",
	"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}

// TestDefenceSlowloris has clients that are as slow as they can be: those that do nothing useful are ended, those that
// upload a byte now and then are served like anyone else.
func TestDefenceSlowloris(t *testing.T) {
	const drip = 100 * time.Millisecond
	var log *syncBuffer
	n := start(t, func(o *Options, d *drop.Options) {
		log = warnings(o, d)
		o.StallTimeout, o.IdleTimeout, o.LoginTimeout = 5*time.Second, 5*time.Second, 5*time.Second
	})
	before := n.settled(t)
	good := n.neighbours(t)

	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	defer end()
	// drips sends a byte now and then, until the other side ends it or the test does.
	drips := func(conn net.Conn, b byte) (sent int) {
		tick := time.NewTicker(drip)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return sent
			case <-tick.C:
			}
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Write([]byte{b}); err != nil {
				return sent
			}
			sent++
		}
	}
	// ended reads until the server hangs up.
	ended := func(conn net.Conn) error {
		conn.SetDeadline(time.Now().Add(patience))
		_, err := io.Copy(io.Discard, conn)
		if netErr := net.Error(nil); errors.As(err, &netErr) && netErr.Timeout() {
			return fmt.Errorf("the server does not hang up: %w", err)
		}
		return nil
	}
	uploads := make(chan int, *defenceSlowloris) // bytes of each slow upload; -1 if there is none
	kinds := []func(i int) error{
		func(i int) error { // does not get as far as a name
			conn, err := dialFrom(attacker(i), n.addr)
			if err != nil {
				return err
			}
			defer conn.Close()
			go drips(conn, 'U')
			return ended(conn)
		},
		func(i int) error { // logs in, and does not get as far as a command
			v, err := n.insist(attacker(i))
			if err != nil {
				return err
			}
			defer v.conn.Close()
			go drips(v.conn, 'N')
			return ended(v.conn)
		},
		func(i int) error { // begins an upload, and stops
			v, err := n.insist(attacker(i))
			if err != nil {
				return err
			}
			defer v.conn.Close()
			data, err := v.begin(fmt.Sprint("stalled-", i))
			if err != nil {
				return err
			}
			defer data.Close()
			if _, err := data.Write([]byte("x")); err != nil {
				return err
			}
			_, err = v.expect(426)
			return err
		},
		func(i int) error { // sends commands, and reads no reply
			v, err := n.insist(attacker(i))
			if err != nil {
				return err
			}
			defer v.conn.Close()
			v.conn.(*net.TCPConn).SetReadBuffer(4096)
			go func() {
				<-stop
				v.conn.Close()
			}()
			for {
				v.conn.SetWriteDeadline(time.Now().Add(patience))
				if _, err := v.conn.Write(bytes.Repeat([]byte("HELP\r\n"), 100)); err != nil {
					return nil
				}
			}
		},
		func(i int) error { // uploads, slowly
			v, err := n.insist(attacker(i))
			if err != nil {
				return err
			}
			defer v.conn.Close()
			data, err := v.begin(fmt.Sprint("slow-", i))
			if err != nil {
				return err
			}
			sent := drips(data, 'x')
			data.Close()
			if _, err := v.expect(226); err != nil {
				return fmt.Errorf("after %d bytes: %w", sent, err)
			}
			uploads <- sent
			return nil
		},
	}
	errs := make(chan error, *defenceSlowloris)
	var running, hopeless sync.WaitGroup
	slow := 0
	for i := range *defenceSlowloris {
		kind := i % len(kinds)
		if kind == 3 && i >= 10*len(kinds) {
			kind = 4 // a few that are busy are enough: the machine is others', too
		}
		slow += map[bool]int{true: 1}[kind == 4]
		attack := func() {
			if err := kinds[kind](i); err != nil {
				errs <- fmt.Errorf("client %d of kind %d: %w", i, kind, err)
			}
		}
		if kind < 3 {
			hopeless.Go(attack)
		} else {
			running.Go(attack)
		}
	}
	hopeless.Wait() // the limits have ended them
	good.served(3)
	end()
	running.Wait()
	good.leave()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	close(uploads)
	require.Len(t, uploads, slow)
	for sent := range uploads {
		require.NotZero(t, sent)
	}
	for i := range *defenceSlowloris {
		n.requireNoFile(t, fmt.Sprint("stalled-", i))
		if i%len(kinds) == 4 {
			require.FileExists(t, n.stored("dock", fmt.Sprint("slow-", i)))
		}
	}
	eventually(t, func() bool { return n.sessionCount() == 0 }, "all sessions end")
	requireFootprint(t, before)
	require.NotContains(t, log.String(), "panic")
}

// TestDefenceSlotsHeldBeforeLogin has clients who never log in hold all the connections there may be: they make room.
func TestDefenceSlotsHeldBeforeLogin(t *testing.T) {
	n := start(t, func(o *Options, d *drop.Options) {
		warnings(o, d)
		o.MaxConnections = *defenceSlowloris
	})
	before := n.settled(t)
	var held []net.Conn
	for i := range *defenceSlowloris {
		conn, err := dialFrom(attacker(i), n.addr)
		require.NoError(t, err)
		defer conn.Close()
		conn.Write([]byte("USER"))
		held = append(held, conn)
	}
	eventually(t, func() bool { return n.sessionCount() == *defenceSlowloris }, "all are taken")
	v, err := n.insist(stayer)
	require.NoError(t, err)
	defer v.conn.Close()
	for i := range 3 {
		require.NoError(t, v.store(fmt.Sprint("file-", i), noise(1000)))
		n.requireFile(t, fmt.Sprint("file-", i), noise(1000))
	}
	require.Greater(t, n.sessionCount(), *defenceSlowloris/2, "only as many as needed were ended")
	v.conn.Close()
	for _, conn := range held {
		conn.Close()
	}
	eventually(t, func() bool { return n.sessionCount() == 0 }, "all sessions end")
	requireFootprint(t, before)
}

// TestDefenceRandomCommands sends commands made by chance, over real connections, with data connections, before and after
// the login. See FuzzCommands, too.
func TestDefenceRandomCommands(t *testing.T) {
	var log *syncBuffer
	n := start(t, func(o *Options, d *drop.Options) {
		log = warnings(o, d)
		o.StallTimeout = 300 * time.Millisecond
		o.ActiveMode = true
		o.guard.Failures, o.guard.UserFailures = 1<<40, 1<<40
		o.guard.MaxDelay = time.Millisecond
		d.MaxDirs, d.MaxFiles = 1000, 100_000
		o.Users = append(o.Users, User{Name: "victim", Password: "pass"})
	})
	before := n.settled(t)
	verbs := slices.Sorted(func(yield func(string) bool) {
		for v := range n.verbs {
			if !yield(v) {
				return
			}
		}
	})
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "outside"), []byte("outside"), 0o600))
	require.NoError(t, os.Symlink(n.dir, filepath.Join(n.dir, "drop", "victim", "up")))
	outside := func() (found []string) {
		for _, pattern := range []string{"*", "drop/*", "drop/dock/*"} {
			names, err := filepath.Glob(filepath.Join(n.dir, pattern))
			require.NoError(t, err)
			found = append(found, names...)
		}
		return slices.DeleteFunc(found, func(name string) bool { return strings.Contains(name, "127.0.0.") }) // the neighbours'
	}
	was := outside()
	good := n.neighbours(t)

	errs := make(chan error, *defenceSessions)
	var running sync.WaitGroup
	next := make(chan uint64)
	for range 8 {
		running.Go(func() {
			for seed := range next {
				if err := n.chatter(verbs, seed); err != nil {
					errs <- fmt.Errorf("-defence.sessions=1 -defence.seed=%d: %w", seed, err)
				}
			}
		})
	}
	for i := range *defenceSessions {
		next <- *defenceSeed + uint64(i)
	}
	close(next)
	running.Wait()
	good.served(1)
	good.leave()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	eventually(t, func() bool { return n.sessionCount() == 0 }, "all sessions end")
	require.Equal(t, was, outside(), "nothing changes outside of the user's directory")
	require.NotContains(t, log.String(), "panic")
	requireFootprint(t, before)
}

// chatter is one session of random commands, as the user "victim".
func (n *node) chatter(verbs []string, seed uint64) error {
	const commands = 60
	random := rand.New(rand.NewPCG(seed, 0))
	conn, err := dialFrom(attacker(int(seed)), n.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	ports, read := make(chan string, 1000), make(chan error, 1)
	go func() { read <- checkReplies(conn, ports) }()
	fmt.Fprintf(conn, "USER victim\r\n")
	if random.IntN(4) > 0 {
		fmt.Fprintf(conn, "PASS pass\r\n")
	}
	for range commands {
		line := randomCommand(random, verbs)
		if strings.HasPrefix(line, "AUTH") {
			continue // it makes the rest of the dialogue TLS's, or ends it
		}
		if _, err := io.WriteString(conn, line); err != nil {
			break // the server has had enough
		}
		select {
		case port := <-ports: // somebody comes to it, with some bytes
			if random.IntN(2) == 0 {
				if data, err := dialFrom(attacker(int(seed)), net.JoinHostPort("127.0.0.1", port)); err == nil {
					data.Write(make([]byte, random.IntN(10_000)))
					data.Close()
				}
			}
		default:
		}
	}
	io.WriteString(conn, "\r\nQUIT\r\n")
	conn.(*net.TCPConn).CloseWrite()
	return <-read
}

// checkReplies reads replies until the server hangs up.
func checkReplies(conn net.Conn, ports chan<- string) error {
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("a reply with control characters: %q", line)
		}
		if _, port, ok := strings.Cut(line, "(|||"); ok && strings.HasPrefix(line, "229") {
			select {
			case ports <- strings.TrimRight(port, "|)"):
			default:
			}
		}
	}
	if netErr := net.Error(nil); errors.As(lines.Err(), &netErr) && netErr.Timeout() {
		return fmt.Errorf("the session does not end: %w", netErr)
	}
	return nil
}

func randomCommand(random *rand.Rand, verbs []string) string {
	pick := func(words ...string) string { return words[random.IntN(len(words))] }
	junk := func(n int) string {
		b := make([]byte, random.IntN(n))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return string(b)
	}
	arg := pick("", "a", "b/c", "/", "..", "../../outside", "up/outside", "up/new", "/up", "-al", "*", "[", "1", "-1", "9223372036854775807",
		"20200101000000 a", "127,0,0,1,200,200", "192,0,2,1,200,200", "|1|127.0.0.1|51400|", "|2|::1|51400|", "CHMOD 644", "CHMOD 644 a", "UTIME",
		"ALL", "1", "2", "P", "C", "I", "A", "E", strings.Repeat("x", random.IntN(5000)), junk(40))
	line := pick(verbs...)
	if random.IntN(10) == 0 {
		line = junk(20)
	}
	if random.IntN(10) > 0 {
		line += " " + arg
	}
	return line + pick("\r\n", "\r\n", "\r\n", "\n", "\r", "")
}
