//go:build powercut && linux

package main

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/powercut"
	"github.com/ftpnode/ftpnode/internal/program"
)

var (
	cuts = flag.Int("powercut.cuts", 25, "TestPowerCut: the `number` of power cuts of each file system")
	seed = flag.Uint64("powercut.seed", 0, "TestPowerCut: repeats the schedule of an earlier run (default: a new one)")
)

func TestMain(m *testing.M) { powercut.Main(m) }

// TestPowerCut is killtest on a real ext4, xfs and btrfs that lose what was not synced: the power of the node is cut at moments
// that matter, under load, and each time it is started again on what the file system recovers. It looks only at what clients read
// and what arrived.
//
// The cut is an instant for all: clients and SQS stand still before the image is cloned, so what they saw before
// it was so, and what the node still does between the clone and its end has not happened. How a cut is made, and what it keeps, package
// powercut says. In every second life somebody else syncs the machine now and then: only what a whole commit of btrfs holds
// can have two names after a cut.
func TestPowerCut(t *testing.T) {
	binary, err := program.Node(t.Context(), t.TempDir())
	require.NoError(t, err)
	o := options{node: binary, clients: 5, mode: "stored", seed: *seed}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000_000) + 1
	}
	for _, kind := range powercut.Kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Logf("repeat the schedule with -powercut.seed=%d -powercut.cuts=%d", o.seed, *cuts)
			dir := t.TempDir()
			k, err := newTest(o, dir, t.Output())
			require.NoError(t, err)
			defer func() {
				k.log.Close()
				if t.Failed() {
					to := filepath.Join(t.ArtifactDir(), "node.log")
					assert.NoError(t, os.Rename(k.log.Name(), to))
					t.Logf("-artifacts keeps %s", to)
				}
			}()
			c := &powerCut{test: k, t: t, volume: powercut.New(t, kind, k.volume)}
			c.run()
			t.Log(k.summary())
			require.Greater(t, k.verdict.acknowledged, *cuts, "else nothing was tried")
			for _, v := range k.verdict.violations {
				t.Error(v)
			}
		})
	}
}

// powerCut is a test whose node loses power instead of being killed.
type powerCut struct {
	*test
	t      *testing.T
	volume *powercut.Volume
}

func (c *powerCut) run() {
	ctx := c.t.Context()
	closeCloud := sync.OnceFunc(c.cloud.Close)
	defer closeCloud()
	defer func() {
		if p := c.node.current; p != nil {
			p.kill()
			<-p.exited
		}
	}()
	working, giveUp := context.WithCancel(ctx)
	ending := make(chan struct{})
	var clients, trouble sync.WaitGroup
	defer clients.Wait()
	defer giveUp()
	for _, name := range c.users[:c.o.clients] {
		device := &client{name: name, address: c.address, random: c.chance(name), ledger: c.ledger, trigger: c.trigger}
		clients.Go(func() { device.run(working, ending) })
	}
	troubled, endTrouble := context.WithCancel(ctx)
	defer trouble.Wait()
	defer endTrouble()
	trouble.Go(func() { c.cloud.makeTrouble(troubled, c.chance("faults")) })

	chance := c.chance("cuts")
	for i := range *cuts {
		c.live(newPlan(chance), i%2 == 1, chance.Uint64())
		c.kills++
	}

	// From now on nothing fails any more.
	endTrouble()
	trouble.Wait()
	c.cloud.ClearFaults()
	p, err := c.startReady(ctx)
	require.NoError(c.t, err)
	close(ending)
	time.AfterFunc(drainTime, giveUp)
	clients.Wait()
	c.awaitArrivals()
	if err := p.stop(); err != nil {
		c.ledger.violate("%v", err)
	}
	closeCloud() // all is decoded now
	c.verdict = evidence{
		files: c.ledger.files, edges: targets, arrivals: c.cloud.arrivals, audits: c.cloud.audits, overtook: c.cloud.overtook, ends: c.ends,
	}.verify()
	c.verdict.violations = append(append(c.verdict.violations, c.ledger.violations...), c.node.violations()...)
}

// live is one life of the node, ended by a power cut as the plan says.
func (c *powerCut) live(plan plan, syncs bool, seed uint64) {
	pulled := make(chan struct{})
	c.trigger.arm(plan, func() { close(pulled) })
	defer c.trigger.disarm()
	stop := func() {}
	if syncs {
		stop = c.syncNowAndThen(rand.New(rand.NewPCG(seed, 1)))
	}
	defer stop()
	p, err := c.node.start()
	require.NoError(c.t, err)
	if plan.at != starting {
		select {
		case <-p.ready:
		case <-p.exited:
			require.FailNow(c.t, "the node ended by itself", "%v", p.err)
		case <-time.After(readyTime):
			require.FailNow(c.t, "the node does not serve FTP after its start")
		}
	}
	select {
	case <-pulled:
		c.moments[plan.at]++
	case <-time.After(plan.limit):
		c.moments[anyTime]++
	case <-p.exited:
		require.FailNow(c.t, "the node ended by itself", "%v", p.err)
	}

	c.cloud.power.Lock()
	c.trigger.epoch.Add(1)
	c.cloud.power.Unlock()
	c.volume.Cut()
	c.ends = append(c.ends, time.Now())
	p.kill()
	<-p.exited
	stop()
	c.volume.Restore()
	c.trigger.epoch.Add(1)
}

// syncNowAndThen syncs the volume as other programs on the machine do, until stop is called, once or more.
func (c *powerCut) syncNowAndThen(chance *rand.Rand) (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := c.volume.Sync(); err != nil {
				c.ledger.violate("syncing the volume: %v", err)
				return
			}
			pause(ctx, time.Duration(chance.Int64N(int64(200*time.Millisecond))))
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

// calm is how long nothing must arrive for all to have arrived: longer than the node waits with what it finds in drop, and
// than it waits to try again.
const calm = 5 * time.Second

// awaitArrivals waits until each acknowledged file has arrived, or drainTime is over, and then until no more arrive.
func (c *powerCut) awaitArrivals() {
	deadline, last, since := time.Now().Add(drainTime), -1, time.Now()
	for time.Now().Before(deadline) {
		arrived, missing := 0, 0
		for _, edge := range targets {
			ids := map[*file][]string{}
			sums := c.cloud.sums(edge)
			for _, f := range c.ledger.files {
				if n := sums[f.sha256]; n > 0 {
					ids[f] = make([]string, n)
					arrived += n
				}
			}
			for _, f := range c.ledger.files {
				if f.acked && len(ids[f]) == 0 {
					missing++
				}
			}
		}
		if arrived != last {
			last, since = arrived, time.Now()
		}
		if missing == 0 && time.Since(since) > calm {
			return
		}
		pause(c.t.Context(), 100*time.Millisecond)
	}
}

// sums counts what has arrived on an edge, by its checksum.
func (c *cloud) sums(edge string) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sums := map[string]int{}
	for _, a := range c.arrivals[edge] {
		sums[a.sha256]++
	}
	return sums
}
