//go:build race

package main

// underRace: the race detector makes all of it ten times as slow, and sees in a part of it what it sees in all.
const underRace = true
