//go:build image

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// deviceNames are the users. The last one uploads with curl.
var deviceNames = []string{"scanner-1", "scanner-2", "scanner-3", "curl"}

// sending is a file that a device sends until it reads 226.
type sending struct {
	name    string
	acked   bool
	unknown int // uploads of it whose bytes were all sent, and whose end the device does not know: no reply, or 451
	crashed int // those of them that came to this while the program crashed
}

// fleet is devices that upload one file after the other, each until it reads 226.
type fleet struct {
	m       *machine
	ending  chan struct{}
	devices sync.WaitGroup

	mu       sync.Mutex
	news     *sync.Cond
	sent     map[string]*sending // by the content's SHA-256
	crashing bool
	attempts map[string]int // by device
	uploads  map[string]int
}

// newFleet has all devices work until stop.
func newFleet(m *machine) *fleet {
	f := &fleet{m: m, ending: make(chan struct{}), sent: map[string]*sending{}, attempts: map[string]int{}, uploads: map[string]int{}}
	f.news = sync.NewCond(&f.mu)
	for _, name := range deviceNames {
		d := &device{fleet: f, name: name, random: rand.New(rand.NewPCG(1, uint64(len(name)*256)+uint64(name[len(name)-1])))}
		f.devices.Go(d.run)
	}
	return f
}

// stop waits until each device has finished its file. The node must be well.
func (f *fleet) stop() {
	select {
	case <-f.ending:
	default:
		close(f.ending)
	}
	f.devices.Wait()
}

// awaitUploads waits until each device has uploaded a file, begun after this.
func (f *fleet) awaitUploads() { f.await(f.uploads, 2, "no upload succeeds") }

// awaitAttempts waits until each device has tried something that it began after this.
func (f *fleet) awaitAttempts() { f.await(f.attempts, 2, "no device tries anything") }

func (f *fleet) await(counts map[string]int, more int, problem string) {
	f.m.t.Helper()
	late := time.AfterFunc(patience, f.news.Broadcast)
	defer late.Stop()
	end := time.Now().Add(patience)
	f.mu.Lock()
	defer f.mu.Unlock()
	before := map[string]int{}
	for name, n := range counts {
		before[name] = n
	}
	for _, name := range deviceNames {
		for counts[name] < before[name]+more {
			require.True(f.m.t, time.Now().Before(end), "%s: %s", name, problem)
			f.news.Wait()
		}
	}
}

// unknown counts the uploads whose end no device knows.
func (f *fleet) unknown() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sent {
		n += s.unknown
	}
	return n
}

// crash notes that the program crashes, or has.
func (f *fleet) crash(now bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashing = now
}

// device is one of the fleet.
type device struct {
	fleet   *fleet
	name    string
	random  *rand.Rand
	session *textproto.Conn
}

// run uploads until the fleet ends. A device gives up a file when the test's patience is over.
func (d *device) run() {
	defer d.hangUp()
	for number := 1; ; number++ {
		select {
		case <-d.fleet.ending:
			return
		default:
		}
		size := 1 + d.random.IntN(20_000)
		if d.random.IntN(8) == 0 {
			size += 300_000 // in bulk storage
		}
		content := noise(fmt.Sprintf("%s %d", d.name, number), size)
		s := &sending{name: fmt.Sprintf("%06d.dat", number)}
		d.fleet.mu.Lock()
		d.fleet.sent[content.sum()] = s
		d.fleet.mu.Unlock()
		for end := time.Now().Add(patience); time.Now().Before(end); {
			var code int
			var whole bool
			var err error
			if d.name == "curl" {
				code, whole, err = d.curl(s.name, content.content)
			} else {
				code, whole, err = d.put(s.name, content.content)
			}
			if err != nil && !errors.As(err, new(*textproto.Error)) {
				d.hangUp()
			}
			d.note(s, code, whole)
			if s.acked {
				break
			}
			time.Sleep(time.Duration(100+d.random.IntN(200)) * time.Millisecond) // as a device waits before it tries again
		}
		if !s.acked {
			return // which awaitUploads and verify find out
		}
	}
}

func (d *device) note(s *sending, code int, whole bool) {
	f := d.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts[d.name]++
	switch {
	case code == 226:
		s.acked = true
		f.uploads[d.name]++
	case whole:
		s.unknown++
		if f.crashing {
			s.crashed++
		}
	}
	f.news.Broadcast()
}

func (d *device) hangUp() {
	if d.session != nil {
		d.session.Close()
		d.session = nil
	}
}

// put is one try. code is that of the last reply, 0 if there was none; whole reports whether all bytes were sent.
func (d *device) put(name string, content []byte) (code int, whole bool, err error) {
	if d.session == nil {
		if err := d.login(); err != nil {
			return 0, false, err
		}
	}
	_, reply, err := d.command("EPSV", 229)
	if err != nil {
		return 0, false, err
	}
	_, port, _ := strings.Cut(reply, "|||")
	port, _, _ = strings.Cut(port, "|")
	data, err := d.fleet.m.dial(net.JoinHostPort(machineAddress, port))
	if err != nil {
		return 0, false, err
	}
	defer data.Close()
	_ = data.SetDeadline(time.Now().Add(deviceTime))
	if code, _, err = d.command("STOR "+name, 150); err != nil {
		return code, false, err
	}
	if _, err := data.Write(content); err != nil {
		return 0, false, err
	}
	if err := data.Close(); err != nil {
		return 0, false, err
	}
	code, _, err = d.session.ReadResponse(226)
	return code, true, err
}

// deviceTime is how long a device waits for an answer.
const deviceTime = 20 * time.Second

func (d *device) login() error {
	conn, err := d.fleet.m.dial(machineAddress + ":2121")
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Hour)) // see command
	d.session = textproto.NewConn(&timed{conn})
	if _, _, err := d.session.ReadResponse(220); err != nil {
		return err
	}
	if _, _, err := d.command("USER "+d.name, 331); err != nil {
		return err
	}
	_, _, err = d.command("PASS "+password, 230)
	return err
}

// timed waits no longer than a device does.
type timed struct{ net.Conn }

func (c *timed) Read(b []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(deviceTime))
	return c.Conn.Read(b)
}

func (d *device) command(line string, code int) (int, string, error) {
	if err := d.session.PrintfLine("%s", line); err != nil {
		return 0, "", err
	}
	return d.session.ReadResponse(code)
}

// curl is one try with curl.
func (d *device) curl(name string, content []byte) (code int, whole bool, err error) {
	f := file{name, content}
	local := filepath.Join(d.fleet.m.dir, "curl.dat")
	if err := os.WriteFile(local, f.content, 0o600); err != nil {
		return 0, false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*deviceTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", "-q", "--silent", "--show-error", "--max-time", "20", "--write-out", "%{response_code} %{size_upload}", "--user", d.name+":"+password,
		"--upload-file", local, "ftp://"+machineAddress+":2121/"+name)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, io.Discard
	d.fleet.m.inside(func() { err = cmd.Start() })
	if err != nil {
		return 0, false, err
	}
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return 0, false, err
	}
	uploaded := 0
	_, _ = fmt.Sscan(out.String(), &code, &uploaded)
	if cmd.ProcessState.Success() {
		code = 226
	} else if code < 400 { // of a command before
		code = 0
	}
	return code, uploaded == len(content), nil
}

// verify holds what arrived against what the devices know.
func (f *fleet) verify(cloud *echotest.Cloud, targets []string, mode string) {
	t := f.m.t
	t.Helper()
	ids := map[string]map[string][]string{} // of each content, by target
	for _, target := range targets {
		ids[target] = map[string][]string{}
		seen := map[string]bool{}
		for _, message := range cloud.Messages(target) {
			got, err := cloud.Decode(t.Context(), message, io.Discard)
			require.NoError(t, err)
			s := f.sent[got.SHA256]
			if assert.NotNil(t, s, "%s got %q with %d bytes, which nobody has uploaded like that", target, got.Name, got.Size) {
				assert.Equal(t, s.name, got.Name)
			}
			assert.False(t, seen[message.TrackingID], "%s got %q twice with tracking id %s", target, got.Name, message.TrackingID)
			seen[message.TrackingID] = true
			ids[target][got.SHA256] = append(ids[target][got.SHA256], message.TrackingID)
		}
	}
	audited := map[string]bool{}
	for _, record := range cloud.AuditRecords() {
		audited[record.TrackingID] = true
	}
	acknowledged, unknown, again := 0, 0, 0
	for sum, s := range f.sent {
		unknown += s.unknown
		if s.acked {
			acknowledged++
		}
		complete := false // some upload of it is at every target, and in the audit trail
		most := 0
		for _, id := range ids[targets[0]][sum] {
			complete = complete || audited[id] && !slices.ContainsFunc(targets, func(target string) bool { return !slices.Contains(ids[target][sum], id) })
		}
		for _, target := range targets {
			most = max(most, len(ids[target][sum]))
		}
		assert.True(t, s.acked, "%s was never acknowledged", s.name)
		assert.True(t, complete || !s.acked, "lost: %s was acknowledged, and has not reached all of %v and the audit trail", s.name, targets)
		may := s.unknown
		if mode == "stored" {
			may = s.crashed
		}
		assert.LessOrEqual(t, most, 1+may, "%s arrived %d times, and %d uploads of it may have arrived without a 226", s.name, most, may)
		again += max(most-1, 0)
	}
	fmt.Printf("%s: %d files acknowledged, %d uploads without a reply that says what became of them, %d files more arrived for these, under tracking ids of their own\n",
		mode, acknowledged, unknown, again)
}
