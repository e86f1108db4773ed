package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/internal/freeport"
)

const (
	readyTime = 20 * time.Second // for the node to serve FTP
	drainTime = 60 * time.Second // for all to be delivered once nothing fails any more
)

// test is one run.
type test struct {
	o       options
	dir     string
	out     io.Writer
	volume  string
	address string // of FTP
	log     *os.File

	trigger *trigger
	cloud   *cloud
	node    *node
	ledger  *ledger
	users   []string

	kills   int
	ends    []time.Time    // of the node
	moments map[moment]int // how many of the kills came when
	verdict *verdict
}

func newTest(o options, dir string, out io.Writer) (*test, error) {
	t := &test{
		o: o, dir: dir, out: out, volume: filepath.Join(dir, "volume"),
		trigger: &trigger{}, ledger: &ledger{}, moments: map[moment]int{}, verdict: &verdict{},
	}
	for i := range o.clients {
		t.users = append(t.users, fmt.Sprintf("device-%d", i+1))
	}
	t.users = append(t.users, "curl", "lftp")
	for _, sub := range []string{"volume", "local"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	ports, err := freeport.Find(1 + 8*len(t.users))
	if err != nil {
		return nil, err
	}
	t.address = fmt.Sprintf("127.0.0.1:%d", ports)
	if t.log, err = os.OpenFile(filepath.Join(dir, "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	if t.cloud, err = newCloud(t.config(ports+1, ports+8*len(t.users)), t.trigger, dir); err != nil {
		return nil, err
	}
	t.node = &node{
		binary: o.node, env: t.cloud.environment(t.volume, t.address), log: t.log, trigger: t.trigger,
		secrets: []string{password, t.cloud.Environment()["PASSWORD"]},
	}
	return t, nil
}

// chance is a source of randomness of its own for each who needs one, so that they do not depend on each other's pace.
func (t *test) chance(who string) *rand.Rand {
	h := uint64(14695981039346656037)
	for _, b := range []byte(who) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(t.o.seed, h))
}

// settle is as short as can be, so that much happens between two kills.
const settle = 60 * time.Millisecond

func (t *test) config(first, last int) string {
	type user struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	var users []user
	for _, name := range t.users {
		users = append(users, user{name, password})
	}
	config, _ := json.Marshal(map[string]any{
		"ftp":   map[string]any{"users": users, "tls": "optional", "passivePorts": fmt.Sprintf("%d-%d", first, last)},
		"files": map[string]any{"settle": settle.String(), "quiet": "1s", "minFree": "1MB", "acknowledge": t.o.mode, "acknowledgeTimeout": "1s"},
	})
	return string(config)
}

// run does it all. Its error says that it could not be done.
func (t *test) run(ctx context.Context) (violations []string, err error) {
	defer t.log.Close()
	closeCloud := sync.OnceFunc(t.cloud.Close)
	defer closeCloud()
	defer func() {
		if p := t.node.current; p != nil {
			p.kill()
			<-p.exited
		}
	}()

	clients, stopClients := t.startClients(ctx)
	defer stopClients(0)
	troubled, endTrouble := context.WithCancel(ctx)
	var trouble sync.WaitGroup
	trouble.Go(func() { t.cloud.makeTrouble(troubled, t.chance("faults")) })
	defer endTrouble()

	chance := t.chance("kills")
	for t.kills < t.o.kills {
		if err := t.live(ctx, newPlan(chance)); err != nil {
			return nil, err
		}
		t.kills++
		if t.kills%10 == 0 {
			fmt.Fprintf(t.out, "kills=%d files=%d arrived=%d\n", t.kills, t.ledger.started(), t.cloud.EdgeStats(targets[0]).Messages)
		}
	}

	// From now on nothing fails any more.
	endTrouble()
	trouble.Wait()
	t.cloud.ClearFaults()
	p, err := t.startReady(ctx)
	if err != nil {
		return nil, err
	}
	stopClients(drainTime)
	clients.Wait()
	if left := t.drain(ctx); len(left) > 0 {
		t.ledger.violate("still on the volume %v after all was well again: %v", drainTime, left)
	}
	if p, err = t.showLateCopy(ctx, p); err != nil {
		t.ledger.violate("the late copy cannot be shown: %v", err)
	}
	if p != nil {
		if err := p.stop(); err != nil {
			t.ledger.violate("%v", err)
		}
	}
	if left := t.leftOnVolume(true); len(left) > 0 {
		t.ledger.violate("left on the volume: %v", left)
	}
	closeCloud() // all is decoded now
	t.verdict = evidence{
		files: t.ledger.files, edges: targets, arrivals: t.cloud.arrivals, audits: t.cloud.audits, overtook: t.cloud.overtook, ends: t.ends,
	}.verify()
	return slices.Concat(t.ledger.violations, t.node.violations(), t.verdict.violations), ctx.Err()
}

// summary is the last line.
func (t *test) summary() string {
	var moments []string
	for m, n := range t.moments {
		moments = append(moments, fmt.Sprintf("%s:%d", strings.ReplaceAll(string(m), " ", "-"), n))
	}
	slices.Sort(moments)
	v := t.verdict
	return fmt.Sprintf("kills=%d files=%d acknowledged=%d delivered=%d duplicates=%d truncated=%d died-together=%d late-copies=%d overtaken=%d moments=%s",
		t.kills, len(t.ledger.files), v.acknowledged, v.delivered, v.duplicates, v.truncated, v.pieces, v.copies, len(t.cloud.overtook), strings.Join(moments, ","))
}

// startClients has all of them work. stop asks them to end what they are doing, and has them give up after a time.
func (t *test) startClients(ctx context.Context) (clients *sync.WaitGroup, stop func(within time.Duration)) {
	ctx, cancel := context.WithCancel(ctx)
	ending := make(chan struct{})
	clients = &sync.WaitGroup{}
	for _, name := range t.users[:t.o.clients] {
		c := &client{name: name, address: t.address, random: t.chance(name), ledger: t.ledger, trigger: t.trigger,
			// Where the 226 says delivered, nothing that comes behind it can undo it: a client that closes its data connection and lives on for a while has ended its file.
			kernel: t.o.mode == "delivered"}
		clients.Go(func() { c.run(ctx, ending) })
	}
	for name, command := range map[string]func(*tool, string, string) *exec.Cmd{"curl": curl, "lftp": lftp} {
		c := &tool{name: name, host: t.address, dir: filepath.Join(t.dir, "local"), random: t.chance(name), ledger: t.ledger, command: command}
		clients.Go(func() { c.run(ctx, ending) })
	}
	end := sync.OnceFunc(func() { close(ending) })
	return clients, func(within time.Duration) {
		end()
		if within == 0 {
			cancel()
			clients.Wait()
			return
		}
		time.AfterFunc(within, cancel)
	}
}

// live is one life of the node, ended as the plan says.
func (t *test) live(ctx context.Context, plan plan) error {
	pulled := make(chan struct{})
	born := make(chan struct{})
	var p *process
	t.trigger.arm(plan, func() {
		<-born
		p.kill()
		close(pulled)
	})
	defer t.trigger.disarm()
	p, err := t.node.start()
	close(born)
	if err != nil {
		return err
	}
	ready, limit := p.ready, (<-chan time.Time)(nil)
	slow := time.NewTimer(readyTime)
	defer slow.Stop()
	for {
		select {
		case <-ready:
			ready, limit = nil, time.After(plan.limit)
			continue
		case <-pulled:
			t.moments[plan.at]++
		case <-limit:
			t.moments[anyTime]++
		case <-slow.C:
			t.ledger.violate("the node does not serve FTP %v after its start", readyTime)
		case <-p.exited:
			if p.killed.Load() {
				<-pulled // it will say so in a moment
				t.moments[plan.at]++
			} else {
				t.ledger.violate("the node ended by itself: %v", p.err)
			}
		case <-ctx.Done():
		}
		t.trigger.disarm()
		p.kill()
		<-p.exited
		t.ends = append(t.ends, time.Now())
		return ctx.Err()
	}
}

// startReady starts a node that is to live.
func (t *test) startReady(ctx context.Context) (*process, error) {
	p, err := t.node.start()
	if err != nil {
		return nil, err
	}
	select {
	case <-p.ready:
		return p, nil
	case <-p.exited:
		return nil, fmt.Errorf("the node ended by itself: %w", errors.Join(p.err))
	case <-time.After(readyTime):
		return nil, fmt.Errorf("the node does not serve FTP %v after its start", readyTime)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// drain waits until nothing is left to deliver, and returns what is left if it takes too long.
func (t *test) drain(ctx context.Context) []string {
	deadline := time.Now().Add(drainTime)
	for {
		left := t.leftOnVolume(false)
		if len(left) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return left
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// held reports whether a file of the outbox is one that waits under a temporary name that its client has given up. The
// first line of a file says whose it is.
func (t *test) held(name string) bool {
	f, err := os.Open(filepath.Join(t.volume, "outbox", name))
	if err != nil {
		return false
	}
	defer f.Close()
	what, _ := bufio.NewReader(f).ReadString('\n')
	return slices.ContainsFunc(t.ledger.files, func(f *file) bool { return strings.HasPrefix(what, f.what+" ") && len(f.leftover) > 0 })
}

// leftOnVolume lists what should not be there in the end: all files but those that clients have left unfinished. With the
// node stopped, nothing at all may stand in partial that cannot be resumed.
func (t *test) leftOnVolume(stopped bool) (left []string) {
	expected := map[string]bool{}
	for _, f := range t.ledger.files {
		user, _, _ := strings.Cut(f.what, " ")
		for _, name := range f.leftover {
			expected[path.Join(user, name)] = true
		}
	}
	volume := os.DirFS(t.volume)
	for dir, leave := range map[string]func(name string) bool{
		"drop":         func(name string) bool { return expected[name] },
		"partial/kept": func(name string) bool { return expected[name] },
		"partial/open": func(string) bool { return !stopped },
		"failed":       func(string) bool { return false },
		"outbox": func(name string) bool {
			return path.Ext(name) == ".journal" || path.Base(name) == "reserve" || t.held(name)
		},
	} {
		_ = fs.WalkDir(volume, dir, func(name string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && !leave(strings.TrimPrefix(name, dir+"/")) {
				left = append(left, name)
			}
			return nil // what is gone meanwhile is gone
		})
	}
	slices.Sort(left)
	return left
}
