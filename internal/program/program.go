// Package program is what the project's own command-line programs share: how they start and end, and how they run others.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

// ErrUsage is in the error of a program that was called in the wrong way; the reason has been told.
var ErrUsage = errors.New("usage")

// Main runs a program until it ends, Ctrl-C or SIGTERM, and exits: with 2 after [ErrUsage], with 1 after another error, which it
// prints, else with 0.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, ErrUsage):
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Node builds ftpnode into dir, the same from clone to clone, and returns the binary's path. It must be run within the module.
func Node(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "ftpnode")
	build := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-o", binary, "github.com/ftpnode/ftpnode/cmd/ftpnode")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building ftpnode (run it within the module, or use -node): %w\n%s", err, out)
	}
	return binary, nil
}
