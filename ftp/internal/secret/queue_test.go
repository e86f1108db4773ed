package secret

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func client(i int, known bool) Client {
	return Client{Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32), Known: known}
}

// gauge is a hash that needs memory and takes as long as the test wants, and counts how many of it are computed at a time.
type gauge struct {
	needs    int64
	right    string
	finish   chan struct{} // one is computed for each
	mu       sync.Mutex
	now, all int
}

func (g *gauge) memory() int64 { return g.needs }

func (g *gauge) matches(password string) bool {
	g.add(1)
	<-g.finish
	g.add(-1)
	return password == g.right
}

func (g *gauge) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now += n
	g.all += max(n, 0)
}

// bookOf has one user, "dock", whose password is "right".
func bookOf(needs, memory int64) (*Book, *gauge) {
	g := &gauge{needs: needs, right: "right", finish: make(chan struct{})}
	b, _ := New(nil, memory)
	b.users["dock"] = &user{hash: g, kind: "gauge"}
	b.kinds["gauge"] = g
	b.queue = newQueue(b.concurrent(memory))
	return b, g
}

// TestHashesFitTheBudget: a quarter of the memory, at least 64 MiB, and what is larger goes one by one. Unknown names have their turn, too.
func TestHashesFitTheBudget(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		needs, memory int64
		want          int
	}{
		{64 * mib, 256 * mib, 1},
		{32 * mib, 256 * mib, 2},
		{33 * mib, 256 * mib, 1},
		{128 * mib, 256 * mib, 1},
		{64 * mib, 512 * mib, 2},
		{64 * mib, 128 * mib, 1},
		{64 * mib, 0, 1},
		{4096, 64 * mib, 2},
		{4096, 1 << 40, 2},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.needs, c.memory), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, g := bookOf(c.needs, c.memory)
				var checks sync.WaitGroup
				const clients = 6
				for i := range clients {
					checks.Go(func() {
						got, err := b.Check(t.Context(), client(i, i%2 == 0), []string{"dock", "nobody"}[i%2], "wrong")
						require.NoError(t, err)
						require.False(t, got)
					})
				}
				for done := range clients {
					synctest.Wait()
					require.Equal(t, min(c.want, clients-done), g.now)
					g.finish <- struct{}{}
				}
				checks.Wait()
				require.Equal(t, clients, g.all)
				require.Equal(t, c.want, b.queue.free)
			})
		})
	}
}

// TestSessionsOfADeviceWaitForOneHash: once the first has been told that its password is right, the others know.
func TestSessionsOfADeviceWaitForOneHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := bookOf(leastBudget, 0)
		var checks sync.WaitGroup
		for range 10 {
			checks.Go(func() {
				got, err := b.Check(t.Context(), client(1, false), "dock", "right")
				require.NoError(t, err)
				require.True(t, got)
			})
		}
		synctest.Wait()
		g.finish <- struct{}{}
		checks.Wait()
		require.Equal(t, 1, g.all)
	})
}

func TestAClientThatGoesLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, g := bookOf(leastBudget, 0)
		results := make(chan error, 3)
		check := func(ctx context.Context, i int) {
			_, err := b.Check(ctx, client(i, false), "dock", "wrong")
			results <- err
		}
		go check(t.Context(), 1)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		go check(ctx, 2)
		synctest.Wait()
		go check(t.Context(), 3)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-results, context.Canceled)
		g.finish <- struct{}{}
		require.NoError(t, <-results)
		g.finish <- struct{}{} // of the third: the second's turn is nobody's
		require.NoError(t, <-results)
		require.Equal(t, 2, g.all)
		require.Equal(t, 1, b.queue.free)
	})
}

// TestATurnThatNobodyTakesIsPassedOn has a client go when its turn has just come.
func TestATurnThatNobodyTakesIsPassedOn(t *testing.T) {
	q := newQueue(1)
	require.NoError(t, q.enter(t.Context(), client(0, false)))
	first, err := q.wait(client(1, false))
	require.NoError(t, err)
	second, err := q.wait(client(2, true))
	require.NoError(t, err)
	q.leave()
	<-second // the known one
	q.giveUp(client(2, true), second)
	<-first
	q.leave()
	require.Equal(t, 1, q.free)
}

// TestNobodyHoldsUpOthers has guessers fill the queue before devices come.
func TestNobodyHoldsUpOthers(t *testing.T) {
	q := newQueue(1)
	require.NoError(t, q.enter(t.Context(), client(0, false)))
	turns := map[string]chan struct{}{}
	wait := func(name string, c Client) {
		turn, err := q.wait(c)
		require.NoError(t, err)
		turns[name] = turn
	}
	for i := range 3 { // that many guessers, each with all that one may have
		for j := range maxWaiting {
			wait(fmt.Sprintf("guess %d/%d", i, j), client(10+i, false))
		}
		_, err := q.wait(client(10+i, false))
		require.ErrorIs(t, err, ErrBusy)
	}
	wait("new", client(1, false))
	for i := range 5 {
		wait(fmt.Sprintf("known %d", i), client(20+i, true))
	}
	for j := range maxWaitingKnown - 1 {
		wait(fmt.Sprintf("known 0/%d", j), client(20, true))
	}
	_, err := q.wait(client(20, true))
	require.ErrorIs(t, err, ErrBusy)

	var order []string
	for len(turns) > 0 {
		q.leave()
		for name, turn := range turns {
			select {
			case <-turn:
				order = append(order, name)
				delete(turns, name)
			default:
			}
		}
	}
	require.Equal(t, []string{
		"known 0", "known 1", "known 2", "guess 0/0",
		"known 3", "known 4", "known 0/0", "guess 1/0",
		"known 0/1", "known 0/2", "known 0/3", "guess 2/0",
		"known 0/4", "known 0/5", "known 0/6", "new",
	}, order[:16])
	require.Len(t, order, 3*maxWaiting+1+5+maxWaitingKnown-1)
	q.leave()
	require.Equal(t, 1, q.free)
}
