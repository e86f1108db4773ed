package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

var (
	errUsage = errors.New("usage")
	errHelp  = errors.New("help was asked for")
)

// options are those of the command line.
type options struct {
	targets  []string
	receiver string // one of targets; "" is none
	audit    bool
	stopped  bool
	config   string // JSON
	level    string // the node's logging level; "" is none
	faults   []echotest.Fault
	received string // directory
	data     string // directory
	listen   string
	host     string
	ftp      string
	command  []string // the node's; none is the cloud alone
}

// defaultConfig has one ready user.
const defaultConfig = `{"ftp": {"users": [{"name": "demo", "password": "demo", "directory": "demo"}]}, "files": {"minFree": "100MB"}}`

const usage = `usage: echolocal [options] [-- command of a node]

EchoStream on your own machine: a local cloud, and a node run against it.

  echolocal -- go run ./cmd/ftpnode      the cloud and a node
  echolocal                              the cloud alone; prints the environment for a node

Who the node is, it makes up, or takes from CLIENT_ID, NODE, PASSWORD, TENANT, USER_NAME and USER_POOL_ID
where they are set, so that a node started apart from it can know them in advance.

Options:
`

// parseOptions reads the command line. stderr gets the help and what is wrong.
func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("echolocal", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	targets := flags.String("targets", "1", "how many `target`s the node sends to, or their names with commas between; 0 is none")
	flags.StringVar(&o.receiver, "receiver", "", "the `name` of a further target that is a node too: prints the environment for it, whatever it is written in; what is sent stays in memory until it takes it")
	flags.BoolVar(&o.audit, "audit", false, "the tenant audits: the node sends an audit record for each message")
	flags.BoolVar(&o.stopped, "stopped", false, "the node is stopped: it takes files and sends nothing")
	config := flags.String("config", "", "the node's config: a JSON `file` (by default, one user \"demo\" with the password \"demo\")")
	passive := flags.String("passive", "", "the `ports` for data connections, as in 30010-30019: sets ftp.passivePorts of the config, for a second node on this machine")
	flags.Func("log-level", "the node's logging `level`: debug, info, warning or error (by default, info)", func(s string) error {
		o.level = strings.ToUpper(s)
		if !slices.Contains([]string{"DEBUG", "INFO", "WARNING", "ERROR"}, o.level) {
			return errors.New("expected debug, info, warning or error")
		}
		return nil
	})
	flags.Func("fault", "what goes wrong, as in sqs:down:for=1m or s3:slow:delay=2s: SERVICE[/OPERATION]:KIND[:OPTIONS] (go doc echotest.ParseFault lists them); may be given more than once", func(s string) error {
		f, err := echotest.ParseFault(s)
		o.faults = append(o.faults, f)
		return err
	})
	flags.StringVar(&o.received, "received", "received", "the `directory` for the files that arrive")
	flags.StringVar(&o.data, "data", "data", "the node's data `directory`; it stays")
	flags.StringVar(&o.listen, "listen", "127.0.0.1:0", "the `address` of the cloud")
	flags.StringVar(&o.host, "host", "", "the `host` in the cloud's URLs, if it is not that of -listen")
	flags.StringVar(&o.ftp, "ftp", "127.0.0.1:2121", "the `address` on which the node serves FTP")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return o, errHelp
	case err != nil:
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	o.command = flags.Args()
	if len(o.command) > 0 && !slices.Contains(args, "--") {
		return o, fmt.Errorf("%w: %q is no option; the node's command comes after --", errUsage, o.command[0])
	}
	var err error
	if o.targets, err = targetNames(*targets); err != nil {
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	if o.receiver != "" {
		if o.receiver == nodeName() || slices.Contains(o.targets, o.receiver) {
			return o, fmt.Errorf("%w: -receiver is %q, expected a name that no other node has", errUsage, o.receiver)
		}
		o.targets = append(o.targets, o.receiver)
	}
	if o.config, err = readConfig(*config, *passive); err != nil {
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	for _, dir := range []*string{&o.received, &o.data} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return o, err
		}
	}
	return o, nil
}

// targetNames reads "2" as target-1 and target-2, and anything else as names.
func targetNames(s string) ([]string, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 0 || n > 100 {
			return nil, fmt.Errorf("-targets is %d, expected 0 to 100, or names", n)
		}
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("target-%d", i+1)
		}
		return names, nil
	}
	names := strings.Split(s, ",")
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
		if names[i] == "" || slices.Contains(names[:i], names[i]) {
			return nil, fmt.Errorf("-targets is %q, expected a number, or names that differ with commas between", s)
		}
	}
	return names, nil
}

// readConfig reads a config; passive, if it is not "", replaces its passive ports.
func readConfig(file, passive string) (string, error) {
	text := []byte(defaultConfig)
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil {
			return "", fmt.Errorf("-config: %w", err)
		}
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		return "", fmt.Errorf("-config %s%s: expected a JSON object: %w", file, position(text, err), err)
	}
	if passive == "" {
		return string(text), nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // each number stays as it is written
	if err := decoder.Decode(&object); err != nil {
		return "", fmt.Errorf("-config %s: %w", file, err)
	}
	ftp, ok := object["ftp"].(map[string]any)
	if !ok {
		return "", fmt.Errorf("-config %s: expected an object \"ftp\", whose passivePorts -passive can set", file)
	}
	ftp["passivePorts"] = passive
	text, err := json.Marshal(object)
	return string(text), err
}

// position says where in a text a JSON error is, as ":LINE:COLUMN".
func position(text []byte, err error) string {
	var offset int64
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	default:
		return ""
	}
	before := string(text[:max(0, min(offset, int64(len(text)))-1)])
	return fmt.Sprintf(":%d:%d", strings.Count(before, "\n")+1, utf8.RuneCountInString(before[strings.LastIndex(before, "\n")+1:])+1)
}
