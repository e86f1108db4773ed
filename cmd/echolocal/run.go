package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// run runs the cloud, and the node if there is one, until ctx ends or the node does. kill ends a node that takes its time.
func run(ctx context.Context, kill <-chan struct{}, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	out := &lines{w: stdout}
	store, err := openStore(o.received)
	if err != nil {
		return fmt.Errorf("the directory for what arrives: %w", err)
	}
	defer store.close()

	counts := newTally(o.faults)
	arrivals, ended := make(chan echotest.Received, 256), make(chan struct{})
	cloud, err := echotest.StartCloud(echotest.Options{
		Address: o.listen, Host: o.host, Targets: o.targets,
		UserPoolID: os.Getenv("USER_POOL_ID"), ClientID: os.Getenv("CLIENT_ID"),
		Tenant: echotest.Tenant{Name: os.Getenv("TENANT"), Audit: o.audit},
		App:    echotest.App{UserName: os.Getenv("USER_NAME"), Password: os.Getenv("PASSWORD")},
		Node:   echotest.Node{Name: nodeName(), Config: o.config, Stopped: o.stopped, LoggingLevel: o.level},
		// The bodies go to the store, and would fill the memory in a long run. A receiver needs them.
		DropBodies: o.receiver == "",
		OnMessage: func(m echotest.Received) {
			counts.count(&counts.messages)
			select {
			case arrivals <- m:
			case <-ended: // Stop has not waited any longer, and the sender gets no reply
			}
		},
		OnDuplicate: func(m echotest.Received) {
			counts.count(&counts.suppressed)
			out.printf("suppressed  %s  trackingId=%s  SQS had it already\n", m.Edge, m.TrackingID)
		},
		OnFault: func(f echotest.Fault, s echotest.Service, operation string) {
			if hits, say := counts.hit(f); say {
				out.printf("fault  %s  hits %s %s  (%d so far)\n", f, s, operation, hits)
			}
		},
		OnAudit: func(r echotest.AuditRecord) {
			counts.count(&counts.audited)
			out.printf("audited  %s  %v\n", r.TrackingID, r.Attributes["name"])
		},
	})
	if err != nil {
		return err
	}
	for _, f := range o.faults {
		cloud.Fault(f)
	}
	if o.receiver != "" {
		cloud.SetNode(echotest.Node{Name: o.receiver, ReceiveMessageType: echotest.EchoFile().Name})
	}
	defer cloud.Close()
	var writing sync.WaitGroup
	writing.Go(func() {
		for m := range upTo(ended, arrivals) {
			out.printf("%s\n", arrived(cloud, store, counts, m))
		}
	})
	defer func() {
		// The node was told that these have arrived: they are written as long as the cloud has what they refer to.
		cloud.Stop()
		close(ended)
		writing.Wait()
		out.printf("%s", counts)
	}()

	if len(o.command) == 0 {
		out.printf("%s", alone(cloud, o))
		<-ctx.Done()
		return nil
	}
	return runNode(ctx, kill, o, cloud, out)
}

// upTo returns what arrives, and after the end what is left.
func upTo(ended <-chan struct{}, arrivals <-chan echotest.Received) iter.Seq[echotest.Received] {
	return func(yield func(echotest.Received) bool) {
		for {
			select {
			case m := <-arrivals:
				if !yield(m) {
					return
				}
				continue
			case <-ended:
			}
			select {
			case m := <-arrivals:
				if !yield(m) {
					return
				}
			default:
				return
			}
		}
	}
}

// arrived keeps what a message holds, and says so in one line. A message that is no file is shown as it is.
func arrived(cloud *echotest.Cloud, store *store, counts *tally, m echotest.Received) string {
	file, kept, err := store.keep(m.Edge, func(w io.Writer) (echotest.File, error) {
		return cloud.Decode(context.Background(), m, w)
	})
	switch {
	case errors.Is(err, echotest.ErrNoFile):
		return fmt.Sprintf("arrived  %s  trackingId=%s  %d bytes  %s", m.Edge, m.TrackingID, len(m.Body), shown(m.Body))
	case err != nil:
		return fmt.Sprintf("arrived  %s  trackingId=%s  and could not be kept: %v", m.Edge, m.TrackingID, err)
	}
	where := "inline"
	if file.Bulk {
		where = "bulk"
	}
	line := fmt.Sprintf("arrived  %s  %q  %d bytes  %s  sha256=%s  -> %s", m.Edge, file.Name, file.Size, where, file.SHA256, kept)
	if !counts.file(file) {
		line += "  NOT what the message says of it"
	}
	return line
}

// shown is a message's body for a terminal: as it is, but for control characters, and at most 2,000 bytes of it.
func shown(body string) string {
	const most = 2000
	rest := ""
	if len(body) > most {
		body, rest = strings.ToValidUTF8(body[:most], ""), "..."
	}
	if strings.ContainsFunc(body, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(body) + rest
	}
	return body + rest
}

// alone is what the cloud without a node says.
func alone(cloud *echotest.Cloud, o options) string {
	var b strings.Builder
	b.WriteString("# EchoStream is up. The environment of the node:\n")
	if os.Getenv("NAME") != "" {
		b.WriteString("unset NAME\n") // it would win over NODE
	}
	b.WriteString(exports(environment(cloud, o)))
	b.WriteString(receiver(cloud, o))
	fmt.Fprintf(&b, "# What arrives is written below %s. Ctrl-C ends it.\n", o.received)
	return b.String()
}

// receiver is what the other node has to know, if there is one.
func receiver(cloud *echotest.Cloud, o options) string {
	if o.receiver == "" {
		return ""
	}
	env := cloud.EnvironmentOf(o.receiver)
	env["COGNITO_JWKS"] = string(cloud.KeySet()) // for EchoStream's Python library, which would ask Cognito itself
	return fmt.Sprintf("# The environment of %s, which receives:\n%s", o.receiver, exports(env))
}

func exports(env map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "export %s=%s\n", name, shellQuote(env[name]))
	}
	return b.String()
}

// nodeName is what the node is called.
func nodeName() string { return cmp.Or(os.Getenv("NODE"), "ftp-node") }

// environment is the node's.
func environment(cloud *echotest.Cloud, o options) map[string]string {
	env := cloud.Environment()
	env["FTPNODE_DATA"] = o.data
	env["FTPNODE_FTP_ADDR"] = o.ftp
	return env
}

// runNode runs the node until ctx ends or it ends by itself.
func runNode(ctx context.Context, kill <-chan struct{}, o options, cloud *echotest.Cloud, out *lines) error {
	if err := os.MkdirAll(o.data, 0o750); err != nil {
		return fmt.Errorf("the node's data directory: %w", err)
	}
	if err := free(o.ftp); err != nil {
		return err
	}
	out.printf("%s", receiver(cloud, o))
	out.printf("EchoStream is up; the node sends to: %s. Starting the node: %s\n", orNone(o.targets), strings.Join(o.command, " "))
	node := newNode(o.command, inherited(environment(cloud, o)), out)
	if err := node.start(); err != nil {
		return fmt.Errorf("starting the node: %w", err)
	}
	greeted, stopGreeting := context.WithCancel(ctx)
	var hints sync.WaitGroup
	hints.Go(func() {
		l := loginOf(o.config)
		if err := l.wait(greeted, reachable(o.ftp)); err == nil || errors.Is(err, errRefused) {
			out.printf("%s", l.hint(o, err))
		}
	})
	defer hints.Wait()
	defer stopGreeting()

	select {
	case err := <-node.ended:
		if err == nil {
			err = errors.New("it ended by itself")
		}
		return fmt.Errorf("the node: %w", err)
	case <-ctx.Done():
	}
	node.stop(kill)
	return nil
}

// free reports whether nobody listens on the FTP address: else what answers there would be taken for the node.
func free(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("the node cannot serve FTP on %s: %w; for a second node beside the first: "+
			"-ftp 127.0.0.1:2122 -passive 30010-30019 -data data2 -received received2", address, err)
	}
	return listener.Close()
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

// inherited is this process's environment with the node's variables. Of the former nothing is left that could mean
// another cloud or node (Windows Subsystem for Linux sets NAME, for one).
func inherited(env map[string]string) []string {
	foreign := []string{"APPSYNC_ENDPOINT", "CLIENT_ID", "NAME", "NODE", "PASSWORD", "TENANT", "USER_POOL_ID", "USER_NAME"}
	var list []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !slices.Contains(foreign, name) && !strings.HasPrefix(name, "AWS_") && !strings.HasPrefix(name, "FTPNODE_") {
			list = append(list, pair)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// reachable is an address that can be connected to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// shellQuote quotes a word for a POSIX shell, if it needs it.
func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+=,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// lines writes whole lines, its own and the node's, so that they do not mix.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) printf(format string, args ...any) {
	_, _ = io.WriteString(l, fmt.Sprintf(format, args...)) // there is nobody to tell
}

// Write writes text that ends with a line.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
