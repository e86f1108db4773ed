//go:build race

// Package race says whether the race detector is on: it makes all ten times as slow, and sees in a part of a long test what it sees in all.
package race

// Enabled reports whether this program was built with it.
const Enabled = true
