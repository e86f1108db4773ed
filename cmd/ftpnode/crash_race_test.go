//go:build race

package main

// underRace: the race detector makes each state ten times as slow and sees in the first of them what it sees in all, so the
// proofs try few mixtures of a shorter life.
const underRace = true
