// Command echolocal is EchoStream on your own machine: the local cloud of package echotest, and a node run against it.
//
//	go run ./cmd/echolocal -- go run ./cmd/ftpnode
//
// starts the cloud on loopback with one ready node, runs the command after "--" with exactly the environment that
// EchoStream gives a node (plus the variables that point the AWS SDK at the local cloud), says how to drop a file, and then
// tells of each message that arrives and writes the file that it holds below received/, in a directory for each
// target. Ctrl-C ends both. Without "--" it is the cloud alone, and prints the environment to use.
//
// It is for trying out and for tests: the cloud keeps everything in memory and forgets it at the end. The
// node's data directory stays, so that what was not delivered is the next time.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	kill := make(chan struct{})
	go func() {
		<-signals
		stop()
		<-signals
		close(kill)
	}()
	err := run(ctx, kill, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, errHelp) {
		fmt.Fprintln(os.Stderr, "echolocal:", err)
	}
	os.Exit(exitCode(err))
}

// exitCode is the node's own, if it ended by itself.
func exitCode(err error) int {
	var node *exec.ExitError
	switch {
	case err == nil, errors.Is(err, errHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.As(err, &node) && node.ExitCode() > 0:
		return node.ExitCode()
	}
	return 1
}
