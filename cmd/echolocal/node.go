package main

import (
	"io"
	"os/exec"
	"time"

	"github.com/ftpnode/ftpnode/internal/program"
)

// stopTime is what a node has to stop in: EchoStream's container has 30 s, ftpnode takes less than 10.
const stopTime = 15 * time.Second

// node is the command that is run as the node, with all processes that it starts.
type node struct {
	cmd   *exec.Cmd
	ended chan error // once
}

func newNode(command, env []string, out io.Writer) *node {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = env
	// A writer, not a file: then the node has not ended before its last process has, which "go run" leaves behind.
	cmd.Stdout, cmd.Stderr = out, out
	program.OwnGroup(cmd)
	return &node{cmd: cmd, ended: make(chan error, 1)}
}

func (n *node) start() error {
	if err := n.cmd.Start(); err != nil {
		return err
	}
	go func() { n.ended <- n.cmd.Wait() }()
	return nil
}

// stop asks all processes of the node to end and waits for them; after stopTime, or when kill says so, it kills them.
func (n *node) stop(kill <-chan struct{}) {
	program.Terminate(n.cmd)
	timer := time.NewTimer(stopTime)
	defer timer.Stop()
	select {
	case <-n.ended:
		return
	case <-timer.C:
	case <-kill:
	}
	program.Kill(n.cmd)
	<-n.ended
}
