package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/retry"
)

// errUsage is in the errors that no later try can cure: the program was called in the wrong way.
var errUsage = errors.New("ftpnode cannot run")

// EchoStream grants a container 30 s after SIGTERM; the node takes less than 10.
const (
	drainTime = 4 * time.Second // for FTP transfers under way; the server may need up to 3 s more to cut them
	flushTime = 2 * time.Second // for requests under way
	stopTime  = 9500 * time.Millisecond
)

// run does what the arguments say: without any, it is the node, until ctx ends.
func run(ctx context.Context, getenv func(string) string, stdout io.Writer, args []string) error {
	switch strings.Join(args, " ") {
	case "":
		return runNode(ctx, getenv, stdout, defaultPace)
	case "healthcheck":
		return healthcheck(ctx, settingsFrom(getenv), stdout)
	case "version", "--version":
		fmt.Fprintln(stdout, version())
		return nil
	}
	return fmt.Errorf("%w with these arguments; usage: ftpnode [healthcheck | version]. Without an argument it runs the node, which its environment describes", errUsage)
}

// settings are those of the machine, not of the node.
type settings struct {
	dir     string // FTPNODE_DATA: the data volume
	address string // FTPNODE_FTP_ADDR: where FTP listens
}

func settingsFrom(getenv func(string) string) settings {
	return settings{
		dir:     cmp.Or(getenv("FTPNODE_DATA"), "/data"),
		address: cmp.Or(getenv("FTPNODE_FTP_ADDR"), ":2121"),
	}
}

// runNode runs the node until ctx ends. It returns an error only if the environment does not say which node it is: nothing
// but a new start can change that. All else is waited for.
func runNode(ctx context.Context, getenv func(string) string, stdout io.Writer, p pace) error {
	level := new(slog.LevelVar)
	secrets := new(echostream.Secrets)
	log := slog.New(echostream.NewLogHandler(stdout, level, echostream.WithSecrets(secrets)))
	secrets.Add(getenv("PASSWORD"))
	s := settingsFrom(getenv)
	log.Info("ftpnode starts", "version", version(), "data", s.dir, "address", s.address)

	env, err := echostream.EnvironmentFrom(getenv)
	if err != nil {
		for problem := range strings.SplitSeq(err.Error(), "\n") {
			log.Log(ctx, echostream.LevelCritical, "the environment does not say which node this is", "problem", problem)
		}
		return fmt.Errorf("%w: the environment does not say which node this is", errUsage)
	}
	client, err := echostream.New(env, echostream.Options{Log: log})
	if err != nil {
		log.Log(ctx, echostream.LevelCritical, "the AWS settings of this machine cannot be used", "error", err)
		return fmt.Errorf("%w: %w", errUsage, err)
	}

	listener, err := listen(ctx, s.address, log, p)
	if err != nil {
		return stopped(log)
	}
	defer listener.Close()
	volume, release, err := openVolume(ctx, s.dir, log, p)
	if err != nil {
		return stopped(log)
	}
	defer release()

	n, d := newNode(env, client, volume, log, level, p)
	n.outbox, err = openOutbox(ctx, n.outboxOptions(p), p)
	if err != nil {
		return stopped(log)
	}
	defer n.outbox.Close()
	n.front = &front{volume: volume, dir: s.dir, storage: findStorage(getenv, s.dir), ready: n.deliverer.ready, listener: listener, outbox: n.outbox, log: log, pace: p}
	n.serve(ctx, d)
	return stopped(log)
}

func stopped(log *slog.Logger) error {
	log.Info("ftpnode has stopped")
	return nil
}

// serve does the node's work until ctx ends. Then it stops from the front to the back, within stopTime.
func (n *node) serve(ctx context.Context, d *definitions) {
	// What goes to EchoStream goes on while the front still takes the last uploads.
	back, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()
	var group sync.WaitGroup
	group.Go(func() { d.run(back) })
	group.Go(func() {
		n.start(ctx, n.front.pace.patience)
		group.Go(func() {
			if err := n.outbox.Run(back); err != nil {
				n.log.Warn("the outbox did not stop in time", "error", err)
			}
		})
		if ctx.Err() == nil {
			n.front.run(ctx)
		}
		stopBack()
	})
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()

	<-ctx.Done()
	n.log.Info("ftpnode stops: transfers under way may end, what is not delivered is after the next start")
	n.front.listener.Close()
	deadline := time.NewTimer(stopTime)
	defer deadline.Stop()
	select {
	case <-done:
	case <-deadline.C:
		n.log.Warn("ftpnode stops although something still runs; nothing that was acknowledged is lost")
	}
}

// listen opens the FTP port. It tries until it succeeds or ctx ends.
func listen(ctx context.Context, address string, log *slog.Logger, p pace) (*net.TCPListener, error) {
	var t retry.Trouble
	for failures := 1; ; failures++ {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", address)
		if err == nil {
			t.Over(time.Now(), "the FTP port could be opened").To(log)
			return listener.(*net.TCPListener), nil
		}
		t.Hit(time.Now(), slog.LevelError, "the FTP port cannot be opened; the node waits for it", err, "address", address).To(log)
		if !retry.Sleep(ctx, retry.Backoff(failures, p.firstRetry, p.lastRetry)) {
			return nil, ctx.Err()
		}
	}
}

// openOutbox tries until it succeeds or ctx ends.
func openOutbox(ctx context.Context, opts outbox.Options, p pace) (*outbox.Outbox, error) {
	var t retry.Trouble
	for failures := 1; ; failures++ {
		o, err := outbox.Open(opts)
		if err == nil {
			t.Over(time.Now(), "the outbox could be opened").To(opts.Log)
			return o, nil
		}
		t.Hit(time.Now(), slog.LevelError, "the outbox cannot be opened; the node waits for it", err).To(opts.Log)
		if !retry.Sleep(ctx, retry.Backoff(failures, p.firstRetry, p.lastRetry)) {
			return nil, ctx.Err()
		}
	}
}
