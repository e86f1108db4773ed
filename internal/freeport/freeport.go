// Package freeport finds TCP ports for tests that must name them before they are opened.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// The kernel gives none of these to outgoing connections or listeners on port 0 (it begins at 32768), so that a
// port that is free now stays so, but for a test of another process that draws the same by chance.
const first, end = 20_000, 32_000

var (
	mu    sync.Mutex
	taken = map[int]bool{} // by tests that run
)

// Find finds n ports in a row that nobody has now, and gives the first.
func Find(n int) (int, error) {
	mu.Lock()
	defer mu.Unlock()
	return find(n)
}

func find(n int) (int, error) {
	for range 1000 {
		if port := first + rand.IntN(end-first-n); free(port, n) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("there are no %d free ports in a row between %d and %d", n, first, end)
}

// Range is Find for a test, which has them until it ends: no other call in this process gives one of them.
func Range(t testing.TB, n int) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	port, err := find(n)
	if err != nil {
		t.Fatal(err)
	}
	mark(port, n, true)
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		mark(port, n, false)
	})
	return port
}

func mark(port, n int, is bool) {
	for p := port; p < port+n; p++ {
		taken[p] = is
	}
}

func free(port, n int) bool {
	for p := port; p < port+n; p++ {
		if taken[p] {
			return false
		}
		l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(p)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
