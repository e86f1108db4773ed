//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup puts the command into a process group of its own: Ctrl-C then reaches this program alone, which passes it on once,
// to all that the command has started.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func terminate(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }

func killAll(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
