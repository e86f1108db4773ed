package nodetest

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// test is one thing that a node goes through.
type test struct {
	name  string
	small bool // on a small volume of its own
	run   func(t *testing.T, r *Rig)
}

// sending are for nodes that send, receiving for those that receive.
var sending, receiving = []test{
	{"Delivers", false, delivers},
	{"Restart", false, restart},
	{"StartWithoutCloud", false, startWithoutCloud},
	{"Outages", false, outages},
	{"Faults", false, faults},
	{"FaultsInBatches", false, faultsInBatches},
	{"Killed", false, killed},
	{"Stopped", false, stopped},
	{"Edges", false, edges},
	{"WrongPassword", false, wrongPassword},
	{"FullVolume", true, fullVolume},
	{"ReadOnlyVolume", true, readOnlyVolume},
}, []test{
	{"Delivers", false, delivers},
	{"Restart", false, restart},
	{"StartWithoutCloud", false, startWithoutCloud},
	{"Outages", false, outages},
	{"Faults", false, faultsReceiving},
	{"Killed", false, killed},
	{"Stopped", false, stopped},
	{"Edges", false, edgesReceiving},
	{"WrongPassword", false, wrongPassword},
	{"FullVolume", true, fullVolumeReceiving},
	{"ReadOnlyVolume", true, readOnlyVolume},
}

// Suite takes the node through all of it, each case with a new bridge, cloud and volume. They run side by side, as they mostly wait.
func Suite(t *testing.T, bridge func(t *testing.T) Bridge) {
	cases := sending
	if bridge(t).Received != nil {
		cases = receiving
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if !c.small {
				c.run(t, New(t, bridge(t)))
				return
			}
			dir := SmallVolume(t)
			c.run(t, newRig(t, bridge(t), dir))
		})
	}
}

func delivers(t *testing.T, r *Rig) {
	r.Start()
	r.Feed(6)
	r.Delivered()
	assert.True(t, r.Healthy(), "a node that works")
	r.Stop()
	r.checkLog()
}

// What waits over a restart arrives as if there had been none.
func restart(t *testing.T, r *Rig) {
	r.Start()
	r.Feed(2)
	r.Delivered()
	r.Cloud.Off(echotest.SQS)
	for range 3 {
		r.Feed(3)
		r.Restart()
	}
	assert.Equal(t, 2, r.count())
	r.Cloud.On(echotest.SQS)
	r.Delivered()
}

// A node that was told once what it is needs no cloud to take what devices bring.
func startWithoutCloud(_ *testing.T, r *Rig) {
	r.Start()
	r.Feed(2)
	r.Delivered()
	r.Stop()
	for _, s := range echotest.Services() {
		r.Cloud.Off(s)
	}
	r.Start()
	r.Feed(3)
	for _, s := range echotest.Services() {
		r.Cloud.On(s)
	}
	r.Delivered()
}

// Each service goes away while items come.
func outages(_ *testing.T, r *Rig) {
	r.Start()
	r.Feed(1)
	for _, s := range echotest.Services() {
		r.Cloud.Off(s)
		r.Feed(3)
		r.Cloud.On(s)
	}
	r.Delivered()
}

// faultKinds are faults after which a message is sent again, or its reply has told of it.
var faultKinds = []echotest.Fault{
	{Service: echotest.SQS, Kind: echotest.ReplyLost, Every: 3, Count: 3},
	{Service: echotest.SQS, Kind: echotest.Throttled, Every: 4, Count: 2},
	{Service: echotest.SQS, Kind: echotest.ServerError, Every: 5, Count: 2},
	{Service: echotest.SQS, Kind: echotest.KMS, After: 3, Count: 1},
	{Service: echotest.SQS, Kind: echotest.ExpiredCredentials, After: 5, Count: 1},
	{Service: echotest.S3, Kind: echotest.Down, Count: 1},
	{Service: echotest.S3, Kind: echotest.ReplyLost, After: 1, Count: 1},
	{Service: echotest.S3, Kind: echotest.ExpiredURL, After: 2, Count: 1},
	{Service: echotest.AppSync, Kind: echotest.ExpiredToken, Every: 2, Count: 2},
	{Service: echotest.AppSync, Kind: echotest.ServerError, After: 1, Count: 1},
	{Service: echotest.Audit, Kind: echotest.ReplyLost, Count: 1},
	{Service: echotest.Audit, Kind: echotest.ServerError, After: 1, Count: 2},
	{Service: echotest.Cognito, Kind: echotest.Throttled, Count: 1},
}

func faults(_ *testing.T, r *Rig) {
	for _, f := range faultKinds {
		r.Cloud.Fault(f)
	}
	r.Start()
	r.Feed(12)
	r.Delivered()
}

// SQS fails entries out of the middle of batches: they come, too, and nothing comes twice.
func faultsInBatches(_ *testing.T, r *Rig) {
	r.inBatch = true
	r.Start()
	r.Feed(1)
	r.Delivered()
	r.Cloud.Off(echotest.SQS)
	r.Feed(12)
	r.Cloud.Fault(echotest.Fault{Service: echotest.SQS, Operation: "SendMessageBatch", Kind: echotest.Partial, Entries: []int{0, 2, 3}, Count: 4})
	r.Cloud.On(echotest.SQS)
	r.Delivered()
}

// killed kills the node again and again while items come and replies are lost.
func killed(t *testing.T, r *Rig) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	r.Cloud.Fault(echotest.Fault{Service: echotest.SQS, Kind: echotest.ReplyLost, Every: 5})
	r.Cloud.Fault(echotest.Fault{Service: echotest.Audit, Kind: echotest.ReplyLost, Every: 5})

	ctx, cancel := context.WithTimeout(t.Context(), 10*waitFor)
	defer cancel()
	enough := make(chan struct{})
	var device sync.WaitGroup
	var feedErr error
	device.Go(func() { feedErr = r.load(ctx, enough) })
	for range r.bridge.Kills {
		r.Start()
		count := []func() int{r.acked, r.count}[chance.IntN(2)]
		began, more := count(), 1+chance.IntN(6)
		require.Eventually(t, func() bool { return count() >= began+more }, waitFor, time.Millisecond, "%s", r.log)
		r.Kill()
		if r.sources != nil {
			r.Cloud.Clock().Advance(visibility) // what it held comes again
		}
	}
	r.Cloud.ClearFaults()
	r.Start()
	close(enough)
	device.Wait()
	require.NoError(t, feedErr)
	r.Delivered()
}

// load hands over one item after the other until it is enough. It does not go far ahead of what arrives.
func (r *Rig) load(ctx context.Context, enough <-chan struct{}) error {
	pause := time.NewTicker(tick)
	defer pause.Stop()
	for {
		select {
		case <-enough:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
		if r.acked() > r.count()+30 {
			continue
		}
		if err := r.feed(ctx); err != nil {
			return err
		}
	}
}

// A stopped node keeps what it takes.
func stopped(t *testing.T, r *Rig) {
	r.Start()
	r.Feed(1)
	r.Delivered()
	r.Cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = true })
	r.Restart()
	r.WaitLog("[WARNING]", "stopped in EchoStream")
	r.Feed(3)
	r.Stop() // then nothing more comes
	assert.Equal(t, 1, r.count())
	r.Cloud.UpdateNode("", func(n *echotest.Node) { n.Stopped = false })
	r.Start()
	r.Delivered()
}

// Edges come and go, with and without EchoStream's restart.
func edges(t *testing.T, r *Rig) {
	r.Start()
	r.Feed(2)
	r.Delivered()

	r.Cloud.AddEdge("", "late")
	r.goesTo("archive", "erp", "late")
	r.Restart()
	r.Feed(2)
	r.Delivered()

	r.Cloud.RemoveEdge("erp") // and nobody tells the node
	r.goesTo("archive", "late")
	r.Feed(2)
	r.Delivered()

	r.Cloud.RemoveEdge("archive")
	r.Cloud.RemoveEdge("late")
	r.Restart()
	r.goesTo("archive", "erp") // what waits goes to the edges of then
	r.Feed(2)
	r.Stop()
	assert.Equal(t, 4, r.Cloud.EdgeStats("late").Messages, "a node without edges sends nothing")
	r.Cloud.AddEdge("", "archive")
	r.Cloud.AddEdge("", "erp")
	r.Start()
	r.Delivered()
}

// Nobody can log in any more: what was taken stays, and a person is told.
func wrongPassword(_ *testing.T, r *Rig) {
	r.Start()
	r.Feed(1)
	r.Delivered()
	r.Stop()
	r.Cloud.SetPassword("", "another-password")
	r.Start()
	r.Feed(3)
	r.WaitLog("[ERROR]", "log-in")
	r.Cloud.SetPassword("", r.env["PASSWORD"])
	r.Restart()
	r.Delivered()
}

// A full volume refuses what comes, and still drains.
func fullVolume(t *testing.T, r *Rig) {
	r.Start()
	r.Feed(1)
	r.Delivered()
	r.Cloud.Off(echotest.SQS)
	r.Feed(3)
	r.Stop()
	r.ballast()
	r.Cloud.On(echotest.SQS)
	r.Start() // takes no room
	r.Delivered()

	f := r.next()
	var err error
	for n := 0; err == nil; n++ {
		require.Less(t, n, 500, "a full volume takes everything")
		r.ballast()
		if err = r.try(t.Context(), f); err == nil { // of what there was in reserve
			f = r.next()
		}
	}
	r.removeBallast()
	r.again(f)
	r.Feed(2)
	r.Delivered()
}

// again hands f over until it is acknowledged.
func (r *Rig) again(f *fed) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.try(r.t.Context(), f) == nil }, waitFor, tick, "%s\n%s", f, r.log)
}

// A volume that takes no writes is waited for; the node lives, and says what it waits for.
func readOnlyVolume(t *testing.T, r *Rig) {
	r.Start()
	r.Cloud.Off(echotest.SQS)
	r.Feed(2)
	r.Stop()
	remount(t, r.Dir, true)
	r.Start()
	r.WaitLog("[ERROR]", "read-only file system")
	assert.False(t, r.Healthy(), "a node that can keep nothing")
	remount(t, r.Dir, false)
	r.Cloud.On(echotest.SQS)
	r.Feed(1)
	r.Delivered()
}
