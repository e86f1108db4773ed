package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// device is an FTP client for tests with many: it gives codes and errors instead of ending the test.
type device struct {
	conn *textproto.Conn
}

func dialDevice(address string) (*device, error) {
	return dialDeviceAs(address, "scanner", testPassword, time.Minute)
}

// dialDeviceAs logs a user in; all of the session must be over in time.
func dialDeviceAs(address, user, password string, within time.Duration) (*device, error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(within))
	d := &device{textproto.NewConn(conn)}
	if _, _, err := d.conn.ReadResponse(220); err != nil {
		return nil, err
	}
	for _, command := range []string{"USER " + user, "PASS " + password, "TYPE I"} {
		if code, err := d.do("%s", command); err != nil || code >= 400 {
			return nil, fmt.Errorf("%s: %d %w", command, code, err)
		}
	}
	return d, nil
}

func (d *device) do(format string, args ...any) (code int, err error) {
	if err := d.conn.PrintfLine(format, args...); err != nil {
		return 0, err
	}
	code, _, err = d.conn.ReadResponse(0)
	return code, err
}

// begin opens a data connection and gives a command. Without a data connection, code is the refusal.
func (d *device) begin(format string, args ...any) (data net.Conn, code int, err error) {
	if err := d.conn.PrintfLine("EPSV"); err != nil {
		return nil, 0, err
	}
	_, reply, err := d.conn.ReadResponse(229)
	if err != nil {
		return nil, 0, err
	}
	port, _ := strconv.Atoi(strings.Trim(reply[strings.Index(reply, "(|||"):], "(|)"))
	data, err = net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), 10*time.Second)
	if err != nil {
		return nil, 0, err
	}
	_ = data.SetDeadline(time.Now().Add(time.Minute))
	if code, err = d.do(format, args...); err != nil || code != 150 {
		data.Close()
		return nil, code, err
	}
	return data, code, nil
}

// end ends an upload and gives the code of its reply.
func (d *device) end(data net.Conn) (code int, err error) {
	if err := data.Close(); err != nil {
		return 0, err
	}
	code, _, err = d.conn.ReadResponse(0)
	return code, err
}

// put uploads and gives the code of the reply, and whether the upload could begin. A server that has had enough of it ends the
// data connection, which is no error here.
func (d *device) put(name, content string) (code int, began bool, err error) {
	data, code, err := d.begin("STOR %s", name)
	if data == nil {
		return code, false, err
	}
	_, _ = io.Copy(data, strings.NewReader(content))
	code, err = d.end(data)
	return code, true, err
}

func (d *device) close() { d.conn.Close() }

// shelf is EchoStream for tests of what comes before it: it takes what reaches it, unless it is away.
type shelf struct {
	away atomic.Bool

	mu      sync.Mutex
	arrived []string // contents
	names   []string // theirs
}

func (s *shelf) Targets() []string {
	if s.away.Load() {
		return nil
	}
	return []string{"a"}
}

func (s *shelf) Prepare(_ context.Context, _ outbox.Entry, open func() (disk.File, error)) (any, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	return string(content), err
}

func (s *shelf) Send(_ context.Context, _ string, batch []outbox.Prepared) []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range batch {
		s.arrived, s.names = append(s.arrived, p.Payload.(string)), append(s.names, p.Entry.Name)
	}
	return make([]error, len(batch))
}

func (s *shelf) Audit(_ context.Context, batch []outbox.Prepared) []error {
	return make([]error, len(batch))
}

// served is the FTP server with the drop and the outbox, on a simulated disk.
type served struct {
	*shelf
	t       *testing.T
	fs      *disktest.FS
	drop    *drop.Drop
	outbox  *outbox.Outbox
	address string
}

// slowClaims is a disk on which it takes a while to claim a file, so that clients come in between.
type slowClaims struct{ disk.FS }

func (s slowClaims) Rename(from, to string) error {
	if strings.HasPrefix(to, "outbox/") {
		<-time.After(20 * time.Millisecond)
	}
	return s.FS.Rename(from, to)
}

func serve(t *testing.T, opts drop.Options) *served {
	s := &served{t: t, fs: disktest.New(1), shelf: &shelf{}}
	s.fs.SetClock(time.Now)
	fsys := disk.FS(slowClaims{s.fs})
	var err error
	s.outbox, err = outbox.Open(outbox.Options{FS: fsys, Reserve: -1, Deliverer: s.shelf, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond})
	require.NoError(t, err)
	opts.FS, opts.Outbox, opts.Describe = fsys, s.outbox, describer("node")
	s.drop, err = drop.Open(opts)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.address = listener.Addr().String()
	server, err := ftp.New(ftp.Options{Listener: listener, Backend: newMaildrop(s.drop, nil), Drain: time.Second, MaxConnectionsPerAddress: 100,
		Users: []ftp.User{{Name: "scanner", Password: testPassword}}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, s.outbox.Run(ctx)) })
	running.Go(func() { assert.NoError(t, s.drop.Run(ctx)) })
	running.Go(func() { assert.NoError(t, server.Serve(ctx)) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		assert.NoError(t, s.outbox.Close())
	})
	return s
}

func (s *served) device() *device {
	d, err := dialDevice(s.address)
	require.NoError(s.t, err)
	s.t.Cleanup(d.close)
	return d
}

func (s *served) used() int64 {
	u := s.drop.Usage()
	return u.Partial.Bytes + u.Found.Bytes + u.Waiting.Bytes
}

// empty waits until all is delivered.
func (s *served) empty() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		u := s.drop.Usage()
		return u.Found.Files == 0 && u.Waiting.Files == 0
	}, waitFor, tick)
}

func (s *shelf) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.arrived)
}

func mustPut(t *testing.T, d *device, name, content string) (code int, began bool) {
	t.Helper()
	code, began, err := d.put(name, content)
	require.NoError(t, err)
	return code, began
}

func TestMaxSizeBeforeAndDuringAnUpload(t *testing.T) {
	t.Parallel()
	s := serve(t, drop.Options{MaxSize: 100_000, MinFree: -1})
	d := s.device()
	code, err := d.do("ALLO 100001")
	require.NoError(t, err)
	if code < 400 { // what is refused here need not be refused again
		data, refusal, err := d.begin("STOR declared")
		require.NoError(t, err)
		require.Nil(t, data)
		code = refusal
	}
	require.Equal(t, 552, code)
	code, began := mustPut(t, d, "during", strings.Repeat("x", 300_000))
	require.True(t, began)
	require.Equal(t, 552, code)
	code, _ = mustPut(t, d, "fits", strings.Repeat("x", 100_000))
	require.Equal(t, 226, code)
	s.empty()
	require.Equal(t, []string{strings.Repeat("x", 100_000)}, s.list())
}

// Uploads that together are too much: what can be finished is, the rest reads 452, and the limit holds at every moment.
func TestSpoolLimitCountsParallelUploadsTogether(t *testing.T) {
	t.Parallel()
	const limit, size, parallel = 1_000_000, 300_000, 6
	s := serve(t, drop.Options{SpoolLimit: limit, MinFree: -1})
	limitsHold(t, s, size, parallel, func() bool { return s.used() <= limit })
}

func TestFreeSpaceCountsParallelUploadsTogether(t *testing.T) {
	t.Parallel()
	const size, parallel = 300_000, 6
	s := serve(t, drop.Options{MinFree: 500_000})
	s.fs.SetCapacity(1_500_000)
	limitsHold(t, s, size, parallel, func() bool {
		free, err := s.fs.Free()
		return err == nil && free >= 500_000-50_000 // the journal of the outbox comes on top
	})
}

// limitsHold sends parallel files, of which three at most fit at once, in pieces side by side.
func limitsHold(t *testing.T, s *served, size, parallel int, holds func() bool) {
	s.away.Store(true)
	s.outbox.Wake()
	devices := make([]*device, parallel)
	data := make([]net.Conn, parallel)
	for i := range devices {
		devices[i] = s.device()
		conn, code, err := devices[i].begin("STOR %d", i)
		require.NoError(t, err)
		require.Equal(t, 150, code, "there is room for each of them alone")
		data[i] = conn
	}
	for range 30 {
		for i, conn := range data {
			_, _ = conn.Write([]byte(strings.Repeat(fmt.Sprint(i), size/30))) // the server may have had enough
		}
		require.True(t, holds())
	}
	var finished []string
	codes := map[int]int{}
	for i, d := range devices {
		code, err := d.end(data[i])
		require.NoError(t, err)
		if codes[code]++; code == 226 {
			finished = append(finished, strings.Repeat(fmt.Sprint(i), size))
		}
	}
	require.True(t, holds())
	assert.Equal(t, parallel, codes[226]+codes[452], "%v", codes)
	assert.NotZero(t, codes[452], "during the upload")
	var code int
	var began bool
	for i := range 10 {
		refusal, err := devices[0].do("ALLO %d", size)
		require.NoError(t, err)
		if refusal == 452 {
			code, began = refusal, false
			break
		}
		if code, began = mustPut(t, devices[0], fmt.Sprintf("more %d", i), strings.Repeat("m", size)); !began {
			break
		} else if code == 226 {
			finished = append(finished, strings.Repeat("m", size))
		}
	}
	assert.Equal(t, 452, code)
	assert.False(t, began, "before the upload, as it is full now")
	require.True(t, holds())

	// Interrupted uploads stay until they are resumed, deleted or expire: their clients make the room.
	s.away.Store(false)
	s.outbox.Wake()
	s.empty()
	assert.ElementsMatch(t, finished, s.list())
	for i := range devices {
		_, err := devices[0].do("DELE %d", i)
		require.NoError(t, err)
	}
	for i := range 10 {
		_, err := devices[0].do("DELE more %d", i)
		require.NoError(t, err)
	}
	code, _ = mustPut(t, devices[0], "after", "there is room again")
	require.Equal(t, 226, code)
	s.empty()
	assert.Contains(t, s.list(), "there is room again")
}

// A day of outage at full inflow: it ends in refusals, and what was acknowledged arrives in order, once.
func TestOutageAtFullInflow(t *testing.T) {
	t.Parallel()
	config := strings.Replace(testConfig(t, ""), `"settle": "10ms"`, `"settle": "10ms", "spoolLimit": "600KB"`, 1)
	config = strings.Replace(config, `"passivePorts"`, `"maxConnectionsPerAddress": 20, "passivePorts"`, 1)
	r := newRig(t, echotest.Options{Targets: []string{"a", "b"}, Tenant: echotest.Tenant{Audit: true}, Node: echotest.Node{Config: config}}).start()
	for _, service := range []echotest.Service{echotest.SQS, echotest.S3, echotest.Audit} {
		r.cloud.Off(service)
	}
	const clients, refusals = 3, 3 // each goes on until it has read that many
	acked := make([][]string, clients)
	errs := make([]error, clients)
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() { acked[c], errs[c] = flood(r.address(), c, refusals) })
	}
	all.Wait()
	var total []string
	for c := range clients {
		require.NoError(t, errs[c])
		total = append(total, acked[c]...)
	}
	require.Greater(t, len(total), 20, "it is a flood")
	for _, service := range echotest.Services() {
		r.cloud.On(service)
	}
	for _, edge := range []string{"a", "b"} {
		r.arrived(edge, len(total))
	}
	r.settled(len(total))
	for _, edge := range []string{"a", "b"} {
		names := r.names(edge)
		require.ElementsMatch(t, total, names, "each once")
		for c := range clients {
			mine := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, fmt.Sprintf("c%d-", c)) })
			assert.Equal(t, acked[c], mine, "in order")
		}
	}
	r.login().store("after.bin", []byte("there is room again"))
	r.arrived("a", len(total)+1)
}

// flood uploads files until so many were refused, and gives the names of those that were acknowledged.
func flood(address string, client, refusals int) (acked []string, err error) {
	d, err := dialDevice(address)
	if err != nil {
		return nil, err
	}
	defer d.close()
	for i := 0; refusals > 0; i++ {
		name := fmt.Sprintf("c%d-%04d.bin", client, i)
		code, _, err := d.put(name, strings.Repeat(name, 1500))
		switch {
		case err != nil:
			return acked, err
		case code == 226:
			acked = append(acked, name)
		case code == 452:
			refusals--
			if _, err := d.do("DELE %s", name); err != nil { // the piece that is kept, so that others may find room
				return acked, err
			}
		default:
			return acked, fmt.Errorf("%s: %d", name, code)
		}
	}
	return acked, nil
}

// change is what a client did to a name: between two ticks of a clock that all share.
type change struct {
	name, content string // content: "" for a deletion
	began, ended  int64
	acked         bool
}

// Clients that overwrite, rename onto and delete the same names while the node takes and removes files: each
// acknowledged content arrives exactly once, unless a deletion of its name came in between.
func TestTakingNeverRacesClients(t *testing.T) {
	t.Parallel()
	s := serve(t, drop.Options{Settle: time.Millisecond, MinFree: -1})
	const clients, rounds = 6, 20
	var clock atomic.Int64
	changes := make([][]change, clients)
	errs := make([]error, clients)
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() { changes[c], errs[c] = contend(s.address, c, rounds, &clock) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	s.empty()
	s.mu.Lock()
	defer s.mu.Unlock()
	byContent := map[string]change{}
	for _, ch := range slices.Concat(changes...) {
		if ch.content != "" {
			byContent[ch.content] = ch
		}
	}
	arrived := map[string]int{}
	for i, content := range s.arrived {
		ch, known := byContent[content]
		require.True(t, known, "%s arrived with bytes that nobody sent: %.30q", s.names[i], content)
		assert.Equal(t, ch.name, s.names[i])
		arrived[content]++
		assert.Equal(t, 1, arrived[content], "%.30q arrived twice", content)
		for _, gone := range slices.Concat(changes...) {
			deleted := gone.name == ch.name && gone.content == "" && gone.acked && gone.began > ch.ended
			assert.False(t, deleted && !slices.ContainsFunc(slices.Concat(changes...), func(other change) bool {
				return other.name == ch.name && other != ch && other != gone && other.ended > ch.began && other.began < gone.ended
			}), "%.30q arrived though it was deleted", content)
		}
	}
	lost := maps.Clone(byContent)
	maps.DeleteFunc(lost, func(content string, ch change) bool {
		return !ch.acked || arrived[content] > 0 || slices.ContainsFunc(slices.Concat(changes...), func(other change) bool {
			return other.name == ch.name && other.content == "" && other.acked && other.ended > ch.began
		})
	})
	assert.Empty(t, lost)
	t.Logf("%d contents, %d arrived", len(byContent), len(arrived))
	assert.Greater(t, len(arrived), clients)
	files := s.fs.Files()
	maps.DeleteFunc(files, func(name, _ string) bool {
		return strings.HasSuffix(name, "/") || !strings.HasPrefix(name, "drop/") || strings.HasSuffix(name, ".tmp")
	})
	assert.Empty(t, files)
}

// contend is one client's rounds.
func contend(address string, client, rounds int, clock *atomic.Int64) (changes []change, err error) {
	d, err := dialDevice(address)
	if err != nil {
		return nil, err
	}
	defer d.close()
	chance := rand.New(rand.NewPCG(7, uint64(client)))
	for round := range rounds {
		ch := change{name: []string{"one", "two"}[chance.IntN(2)], began: clock.Add(1)}
		content := strings.Repeat(fmt.Sprintf("client %d round %d ", client, round), 1+chance.IntN(100))
		var code int
		switch chance.IntN(5) {
		case 0:
			code, err = d.do("DELE %s", ch.name)
		case 1, 2:
			ch.content = content
			code, _, err = d.put(ch.name, content)
		default:
			ch.content = content
			code, err = d.putAndRename(fmt.Sprintf("%d.tmp", client), ch.name, content)
		}
		ch.ended, ch.acked = clock.Add(1), code == 226 || code == 250
		changes = append(changes, ch)
		if err != nil || !slices.Contains([]int{226, 250, 426, 450, 550}, code) {
			return changes, fmt.Errorf("client %d, round %d: %d %w", client, round, code, err)
		}
	}
	return changes, nil
}

// putAndRename uploads under a temporary name, and tries to rename it for a while, as cameras do.
func (d *device) putAndRename(temporary, name, content string) (code int, err error) {
	if code, _, err = d.put(temporary, content); err != nil || code != 226 {
		return code, err
	}
	for range 50 {
		if code, err = d.do("RNFR %s", temporary); err != nil || code != 350 {
			return code, err
		}
		if code, err = d.do("RNTO %s", name); err != nil || code != 450 {
			return code, err
		}
	}
	_, err = d.do("DELE %s", temporary) // given up
	return code, err
}

var _ outbox.Deliverer = (*shelf)(nil)
