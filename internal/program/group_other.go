//go:build !unix

package program

import "os/exec"

// OwnGroup does nothing: there are no groups of processes.
func OwnGroup(*exec.Cmd) {}

// Terminate ends the command alone, at once.
func Terminate(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

// Kill ends the command alone.
func Kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
