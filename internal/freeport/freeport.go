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
	taken = map[int]bool{} // by tests that run, or by Find
)

// Find finds n ports in a row that nobody has, and gives the first. No other call in this process gives one of them.
func Find(n int) (int, error) {
	mu.Lock()
	defer mu.Unlock()
	for range 1000 {
		port := first + rand.IntN(end-first-n)
		if !free(port, n) {
			continue
		}
		for p := port; p < port+n; p++ {
			taken[p] = true
		}
		return port, nil
	}
	return 0, fmt.Errorf("there are no %d free ports in a row between %d and %d", n, first, end)
}

// Range is Find for a test, which has them until it ends.
func Range(t testing.TB, n int) int {
	t.Helper()
	port, err := Find(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		for p := port; p < port+n; p++ {
			delete(taken, p)
		}
	})
	return port
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
