package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/memlimit"
	"github.com/ftpnode/ftpnode/internal/nodelog"
	"github.com/ftpnode/ftpnode/internal/redact"
	"github.com/ftpnode/ftpnode/internal/retry"
	"github.com/ftpnode/ftpnode/internal/status"
)

// ErrUsage is in the errors that no later try can cure: the program was called in the wrong way, or its environment does not say which
// node it is.
var ErrUsage = errors.New("it cannot run")

// EchoStream grants a container 30 s after SIGTERM; the node takes less than 10.
const (
	serveTime = 7 * time.Second // for the bridge
	flushTime = 2 * time.Second // for requests under way, once the bridge has returned or had its time
	stopTime  = 9500 * time.Millisecond
)

// startTime is how long after the definition is known the bridge has started, too.
const startTime = time.Second

// Options of Run. The zero value is the machine that the program is on.
type Options struct {
	// Getenv reads the environment. By default, os.Getenv.
	Getenv func(string) string
	// Stdout takes the log, and what commands print. By default, os.Stdout.
	Stdout io.Writer
	// Args are the program's arguments. By default, none.
	Args []string

	// Volume is the data volume, for tests on a simulated disk: it is not locked and has no directory on this machine. By default, the
	// one that the environment says.
	Volume disk.FS
	// Client is how EchoStream is reached, its Log apart. The zero value works.
	Client echostream.Options
	// Pace is how often things are tried. The zero value has the defaults.
	Pace Pace
}

// Main runs the program: the node, until SIGTERM or SIGINT ends it within 10 seconds, a second one at once; or what its arguments say. It
// keeps Go's heap within the container's memory, and does not return.
func Main[C any](b Bridge[C]) {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-signals
		stop()
		<-signals
		os.Exit(128 + int(syscall.SIGTERM)) // as the first process of a container, it would not be killed by the signal itself
	}()
	memlimit.Confine()
	err := Run(ctx, b, Options{Args: os.Args[1:]})
	if err != nil {
		fmt.Fprintf(os.Stderr, "[ERROR] %v\n", err)
	}
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrUsage):
		return 2
	}
	return 1
}

// Run does what the arguments say: without any, it is the node, until ctx ends. Of the node's own errors there is only [ErrUsage]; all
// else is waited for.
func Run[C any](ctx context.Context, b Bridge[C], opts Options) error {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.Stdout == nil {
		opts.Stdout = os.Stdout
	}
	opts.Pace = opts.Pace.withDefaults()
	b.Version, b.Format = versionOf(b.Version), max(b.Format, 1)
	m := machineOf(b, opts)
	command := ""
	if len(opts.Args) > 0 {
		command = opts.Args[0]
	}
	switch {
	case len(opts.Args) == 0:
		return run(ctx, b, opts, m)
	case slices.Contains(status.Commands, command):
		err := status.Command(ctx, m.dir, opts.Args, opts.Stdout)
		if errors.Is(err, status.ErrUsage) {
			return fmt.Errorf("%w: %w", ErrUsage, err)
		}
		return err
	case len(opts.Args) > 1:
	case command == "healthcheck":
		return healthcheck(ctx, m.dir, m.address, b.Health, opts.Stdout)
	case command == "version" || command == "--version":
		fmt.Fprintln(opts.Stdout, b.Version)
		return nil
	case command == "help" || command == "-h" || command == "--help":
		_, err := fmt.Fprintf(opts.Stdout, help, b.Name, m.variable, DefaultDir)
		return err
	}
	return fmt.Errorf("%w with these arguments; usage: %s [healthcheck | %s | version]. Without an argument it runs the node, which its environment describes",
		ErrUsage, b.Name, status.Usage)
}

// help takes the program's name, the variable that names the volume, and its default.
const help = `usage: %s [command]

Without a command it is the node that its environment describes. The commands ask the node that runs on the volume %s (by default %s):

  status               what waits, since when and why, and what needs help
  status --json        the same for programs
  retry ID…            send failed files again; retry --all: all of them
  discard ID…          remove failed files for good
  accept ID…           send interrupted uploads as they are
  healthcheck          whether the node does its work, as Docker asks
  version              which version this program is
`

// machine is what the environment says of the machine, not of the node.
type machine struct {
	dir      string // the data volume
	variable string // that says so
	address  string // where the bridge listens, or ""
}

func machineOf[C any](b Bridge[C], opts Options) machine {
	m := machine{variable: strings.ToUpper(strings.ReplaceAll(b.Name, "-", "_")) + "_DATA"}
	if opts.Volume == nil {
		m.dir = cmp.Or(opts.Getenv(m.variable), DefaultDir)
	}
	if b.Address != nil {
		m.address = b.Address(opts.Getenv)
	}
	return m
}

// run runs the node until ctx ends.
func run[C any](ctx context.Context, b Bridge[C], opts Options, m machine) error {
	level := new(slog.LevelVar)
	secrets := new(redact.Secrets)
	log := slog.New(nodelog.NewHandler(opts.Stdout, level, secrets))
	secrets.Add(opts.Getenv("PASSWORD"))
	log.Info(b.Name+" starts", "version", b.Version, "data", m.dir, "address", m.address)

	env, err := echostream.EnvironmentFrom(opts.Getenv)
	if err != nil {
		for problem := range strings.SplitSeq(err.Error(), "\n") {
			log.Log(ctx, nodelog.LevelCritical, "the environment does not say which node this is", "error", problem)
		}
		return fmt.Errorf("%w: the environment does not say which node this is", ErrUsage)
	}
	opts.Client.Log = log
	client, err := echostream.New(env, opts.Client)
	if err != nil {
		log.Log(ctx, nodelog.LevelCritical, "the AWS settings of this machine cannot be used", "error", err)
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}

	schema, err := nodeconfig.Compile(b.Schema)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	n := &Node{Name: env.Name, Log: log, Volume: opts.Volume, Dir: m.dir, client: client, format: b.Format, stopping: ctx}
	n.storage = findStorage(opts.Getenv, m.variable, m.dir)
	if opts.Volume != nil {
		n.storage = storage{outlives: true, why: "the volume is given"}
	}
	l := &life[C]{Node: n, bridge: b, schema: schema, env: env, level: level, pace: opts.Pace, secrets: secrets, known: make(chan struct{}), failed: make(chan struct{}), inbox: newInbox()}
	l.front = &front[C]{node: n, bridge: b, pace: opts.Pace}
	l.report = &reporter[C]{life: l, version: b.Version, since: time.Now()}
	l.site = &site{node: n, source: l.report, secret: opts.Getenv("PASSWORD"), pace: opts.Pace, changed: make(chan struct{})}
	release, err := l.open(ctx, m)
	if err != nil || l.run(ctx) {
		defer release()
	} // else something still uses what is open; it goes with the process
	var left []any
	if n.Outbox != nil {
		left = []any{"waiting", n.Outbox.Stats().Entries}
	}
	log.Info(b.Name+" has stopped", left...)
	return nil
}

// open opens the port, the volume and the outbox. It tries until it succeeds or ctx ends. release closes what is open.
func (l *life[C]) open(ctx context.Context, m machine) (release func(), err error) {
	var opened []func()
	release = func() {
		for i := len(opened) - 1; i >= 0; i-- {
			opened[i]()
		}
	}
	until := func(fails, works string, try func() error, args ...any) {
		if err == nil {
			loop := retry.Loop{
				Log: l.Log, Fails: retry.Fails(slog.LevelError, fails), Works: works, Args: args, First: l.pace.FirstRetry, Last: l.pace.LastRetry,
			}
			err = loop.Until(ctx, try)
		}
	}
	if m.address != "" {
		until("the port cannot be opened; the node waits for it", "the port could be opened", func() error {
			listener, err := net.Listen("tcp", m.address)
			if err == nil {
				l.listener = listener.(*net.TCPListener)
				opened = append(opened, func() { listener.Close() })
			}
			return err
		}, "address", m.address)
	}
	until("the data volume cannot be used; the node waits for it", "the data volume can be used now", func() error {
		if l.Volume != nil {
			return checkFormat(l.Volume, l.format)
		}
		volume, unlock, err := openVolume(m.dir, l.format)
		if err == nil {
			l.Volume, opened = volume, append(opened, unlock)
		}
		return err
	}, "directory", m.dir)
	until("the outbox cannot be opened; the node waits for it", "the outbox could be opened", func() error {
		l.deliverer = &deliverer{cloud: l.client}
		box, err := outbox.Open(outbox.Options{
			FS: l.Volume, Deliverer: l.deliverer, Log: l.Log, Grace: flushTime,
			MinBackoff: l.pace.FirstRetry, MaxBackoff: l.pace.SlowRetry, KeyOf: l.keyOf(), Gone: l.report.gone,
		})
		if err == nil {
			l.Outbox = box
			opened = append(opened, func() { box.Close() })
		}
		return err
	})
	return release, err
}

// answer answers the program's own commands until ctx ends.
func (l *life[C]) answer(ctx context.Context) {
	if l.Dir == "" {
		return
	}
	loop := retry.Loop{
		Log: l.Log, Fails: retry.Fails(slog.LevelWarn, "the node cannot be asked for its status, nor for its health; retrying"), Works: "the node can be asked for its status again",
		First: l.pace.FirstRetry, Last: l.pace.LastRetry,
	}
	_ = loop.Until(ctx, func() error {
		channel, err := status.Listen(l.Dir)
		if err != nil {
			return err
		}
		return status.Serve(ctx, channel, l.report)
	})
}

// run does the node's work until ctx ends. Then it stops from the front to the back, within stopTime, and reports whether all has ended.
func (l *life[C]) run(ctx context.Context) (ended bool) {
	d := &definitions{
		read: l.client.Definition, got: l.got, failed: l.missed, waits: l.deliverer.waits, idle: l.idle,
		log: l.Log, pace: l.pace, again: make(chan struct{}, 1),
	}
	l.deliverer.outdated = d.readAgain
	// What goes to EchoStream goes on while the front still takes the last of what comes in.
	back, stopBack := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBack()
	var group sync.WaitGroup
	group.Go(func() { d.run(back) })
	group.Go(func() { l.answer(back) })
	group.Go(func() { l.site.run(back) })
	group.Go(func() {
		l.start(ctx)
		// What a start leaves behind is more than a node at rest needs. Go would keep that memory for later.
		defer time.AfterFunc(startTime, debug.FreeOSMemory).Stop()
		if l.bridge.Compose != nil {
			group.Go(func() { l.sayWaiting(back) })
			group.Go(func() {
				if err := l.Outbox.Run(back); err != nil {
					l.Log.Warn("the outbox did not stop in time", "error", err)
				}
			})
		}
		if ctx.Err() == nil {
			var front sync.WaitGroup
			if l.bridge.Receive != nil {
				front.Go(func() { l.receive(ctx, d.readAgain) })
			}
			l.front.run(ctx)
			front.Wait()
		}
		stopBack()
	})
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()

	<-ctx.Done()
	l.Log.Info(l.bridge.Name + " stops: what is under way may finish; what waits is delivered after the next start")
	if l.listener != nil {
		l.listener.Close()
	}
	defer time.AfterFunc(serveTime, stopBack).Stop()
	deadline := time.NewTimer(stopTime)
	defer deadline.Stop()
	select {
	case <-done:
		return true
	case <-deadline.C:
		l.Log.Warn(l.bridge.Name + " stops although something still runs; nothing that was acknowledged is lost")
		return false
	}
}
