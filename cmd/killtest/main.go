// Command killtest proves what 226 means the hard way: it runs the real ftpnode, has several clients upload to it at once
// while the cloud behind it fails in every way that it knows, kills the node (SIGKILL) at moments that matter, starts it again
// on the same volume, and in the end compares what the clients were told with what arrived.
//
//	go run ./cmd/killtest -kills 100
//	go run ./cmd/killtest -kills 100 -acknowledge delivered
//
// It holds the node to this:
//
//   - every file whose 226 was read arrived on every edge, once, byte for byte (one that its client replaced or deleted
//     before it was taken may be missing);
//   - a file whose reply was lost arrived at most once for each time that it was sent whole; a piece of a file never did;
//   - with -acknowledge delivered, so did one that was answered 451, at most once, however often its client sent it again;
//   - files arrived in the order in which they were finished, as far as the clients know it. Where SQS itself took only a part of
//     a batch, the rest of that batch comes late, and nothing else does;
//   - a file has one tracking id, on all edges, in all copies and in the audit; each is audited;
//   - in the end nothing is left on the volume but what clients left unfinished;
//   - each line of the log begins with its level, and none shows a secret.
//
// A second copy is allowed in one case only: SQS took a message, its reply was lost, and the node could not send it again
// within SQS's five minutes. No run takes so long by the cloud's clock, so none is allowed; at its end, killtest
// moves that clock by force and shows the second copy, which has the same tracking id.
//
// All chance comes from -seed: the files, what clients do, the faults, the moments of the kills. What happens at the same time is up
// to the machine, so a seed repeats a schedule and not each of its races.
//
// It exits with 1 if the node broke a promise, says which, and keeps the volume and the log. SIGKILL loses nothing that the
// node wrote: what a power cut does to unsynced data is proved elsewhere, by the crash tests of ftp/drop and echostream/outbox,
// and by TestPowerCut on real file systems (root; go test -tags powercut -run PowerCut ./cmd/killtest).
// All traffic is on loopback. curl and lftp must be installed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"time"

	"github.com/ftpnode/ftpnode/internal/program"
)

func main() {
	program.Main("killtest", run)
}

// options are those of the command line.
type options struct {
	kills   int
	seed    uint64
	clients int
	mode    string // files.acknowledge
	node    string // the binary
	dir     string // "" is a new temporary directory
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("killtest", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&o.kills, "kills", 100, "how often the node is killed")
	flags.Uint64Var(&o.seed, "seed", 0, "repeats the schedule of an earlier run (default: a new one)")
	flags.IntVar(&o.clients, "clients", 4, "how many clients upload at once, beside curl and lftp")
	flags.StringVar(&o.mode, "acknowledge", "stored", "what 226 means to the node: stored or delivered (files.acknowledge)")
	flags.StringVar(&o.node, "node", "", "the ftpnode `binary` (default: built from ./cmd/ftpnode)")
	flags.StringVar(&o.dir, "dir", "", "an empty `directory` for the volume and the log (default: a temporary one, removed after success)")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return o, err
	case err != nil:
		return o, fmt.Errorf("%w: %w", program.ErrUsage, err)
	}
	problem := ""
	switch {
	case flags.NArg() > 0:
		problem = fmt.Sprintf("%q is no option", flags.Arg(0))
	case o.kills < 0:
		problem = fmt.Sprintf("-kills is %d, expected 0 or more", o.kills)
	case o.mode != "stored" && o.mode != "delivered":
		problem = fmt.Sprintf("-acknowledge is %q, expected stored or delivered", o.mode)
	case o.clients < 1 || o.clients > 100:
		problem = fmt.Sprintf("-clients is %d, expected 1 to 100", o.clients)
	}
	if problem != "" {
		fmt.Fprintln(stderr, problem)
		return o, fmt.Errorf("%w: %s", program.ErrUsage, problem)
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000_000) + 1
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	for _, client := range []string{"curl", "lftp"} {
		if _, err := exec.LookPath(client); err != nil {
			return fmt.Errorf("this client must be installed: %w", err)
		}
	}
	dir, temporary := o.dir, o.dir == ""
	if temporary {
		if dir, err = os.MkdirTemp("", "killtest-"); err != nil {
			return err
		}
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	} else if found, err := os.ReadDir(dir); err != nil || len(found) > 0 {
		return fmt.Errorf("-dir is %q, expected an empty directory (%d files, %v)", dir, len(found), err)
	}
	if o.node == "" {
		if o.node, err = program.Node(ctx, dir); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "seed=%d kills=%d acknowledge=%s dir=%s\n", o.seed, o.kills, o.mode, dir)
	began := time.Now()
	t, err := newTest(o, dir, stdout)
	if err != nil {
		return err
	}
	violations, err := t.run(ctx)
	if err != nil {
		return fmt.Errorf("it could not be run to its end (the volume and the log are in %s): %w", dir, err)
	}
	for _, v := range violations {
		fmt.Fprintln(stdout, "VIOLATION:", v)
	}
	fmt.Fprintf(stdout, "%s seconds=%.0f\n", t.summary(), time.Since(began).Seconds())
	if len(violations) > 0 {
		return fmt.Errorf("%d violations; repeat the schedule with -seed %d -kills %d; the volume and the log are in %s",
			len(violations), o.seed, o.kills, dir)
	}
	if temporary {
		return os.RemoveAll(dir)
	}
	return nil
}
