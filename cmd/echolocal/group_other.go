//go:build !unix

package main

import "os/exec"

// Elsewhere there are no groups of processes: the command alone is ended, at once.

func ownGroup(*exec.Cmd) {}

func terminate(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func killAll(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
