// Command ftpnode is an EchoStream node that takes files by FTP and sends them as echo.file messages.
//
// Once a client has read 226, the file will reach every target edge: byte for byte, once, in order, whatever is killed,
// restarted, full or offline in between.
//
// It takes no arguments. Its environment says which node it is (APPSYNC_ENDPOINT, CLIENT_ID, NAME or NODE, PASSWORD, TENANT,
// USER_POOL_ID, USER_NAME), where its data volume is (FTPNODE_DATA, by default /data) and where FTP listens
// (FTPNODE_FTP_ADDR, by default :2121); EchoStream gives it the rest, as deploy/config.schema.json describes it. With
// "healthcheck" it tells whether the node of this machine works, with "version" which one it is.
//
// SIGTERM and SIGINT end it within 10 seconds, a second one at once. It exits with 0 when it was told to stop, 2 when it
// cannot know which node it is, 1 when the health check failed. Nothing else ends it: not the cloud, not the
// config, not the disk; a container that exits is only started again, and whoever looks for the reason
// would find a loop instead of a log line.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/ftpnode/ftpnode/internal/memlimit"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-signals
		stop()
		<-signals
		os.Exit(exitKilled) // as the first process of a container, it would not be killed by the signal itself
	}()
	memlimit.Confine()
	err := run(ctx, os.Getenv, os.Stdout, os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "[ERROR] %v\n", err)
	}
	os.Exit(exitCode(err))
}

const exitKilled = 128 + int(syscall.SIGTERM)

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	return 1
}
