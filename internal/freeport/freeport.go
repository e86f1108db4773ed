// Package freeport finds TCP ports for tests that must name them before they are opened.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The kernel gives none of these to outgoing connections or listeners on port 0 (it begins at 32768), so that a
// port that is free now stays so, but for another test that draws the same by chance.
const first, end = 20_000, 32_000

// Find finds n ports in a row that nobody has, and gives the first.
func Find(n int) (int, error) {
	for range 1000 {
		port := first + rand.IntN(end-first-n)
		if free(port, n) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("there are no %d free ports in a row between %d and %d", n, first, end)
}

// Range is Find for a test.
func Range(t testing.TB, n int) int {
	t.Helper()
	port, err := Find(n)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func free(port, n int) bool {
	for p := port; p < port+n; p++ {
		l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(p)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
