package status

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ErrUsage is in the errors of a command that was called in the wrong way.
var ErrUsage = errors.New("wrong arguments")

// Usage names the commands, for a program's own usage.
const Usage = "status [--json] | retry ID… | retry --all | discard ID… | accept ID…"

// Commands are the first arguments that Command takes.
var Commands = []string{"status", "retry", "discard", "accept"}

// Command asks the running node whose data are in dir, or has it do something: args are as in Usage.
func Command(ctx context.Context, dir string, args []string, w io.Writer) error {
	node := NewClient(dir)
	if len(args) == 0 || !slices.Contains(Commands, args[0]) {
		return fmt.Errorf("%w; usage: %s", ErrUsage, Usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var asJSON, all bool
	switch args[0] {
	case "status":
		flags.BoolVar(&asJSON, "json", false, "")
	case "retry":
		flags.BoolVar(&all, "all", false, "")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return fmt.Errorf("%w: %w; usage: %s", ErrUsage, err, Usage)
	}
	ids := flags.Args()
	if isStatus := args[0] == "status"; isStatus != (len(ids) == 0) && !all || all && len(ids) > 0 {
		return fmt.Errorf("%w; usage: %s", ErrUsage, Usage)
	}
	r, err := node.Report(ctx)
	if err != nil {
		return err
	}
	if all {
		if len(r.Failed) == 0 {
			fmt.Fprintln(w, "No file failed: there is nothing to send again")
		}
		for _, f := range r.Failed {
			ids = append(ids, f.ID)
		}
	}
	switch args[0] {
	case "status":
		if asJSON {
			encoder := json.NewEncoder(w)
			encoder.SetIndent("", "  ")
			return encoder.Encode(r)
		}
		return r.Text(w)
	case "retry":
		return each(ids, w, "Sent again", func(id string) error { return node.Retry(ctx, id) }, r.nameOf)
	case "discard":
		return each(ids, w, "Discarded", func(id string) error { return node.Discard(ctx, id) }, r.nameOf)
	default:
		return each(ids, w, "Accepted", func(id string) error { return node.Accept(ctx, id) }, r.nameOf)
	}
}

// each does one thing to all ids, says so for each, and goes on when one fails.
func each(ids []string, w io.Writer, done string, act func(string) error, nameOf func(string) string) error {
	var errs []error
	for _, id := range ids {
		if err := act(id); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", Visible(id), err))
			continue
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%s: %s %s", done, Visible(id), Visible(nameOf(id))), " "))
	}
	return errors.Join(errs...)
}

// nameOf is the name of a file that failed or was interrupted.
func (r *Report) nameOf(id string) string {
	for _, f := range r.Failed {
		if f.ID == id {
			return f.Name
		}
	}
	for _, u := range r.Bridge.Interrupted {
		if u.ID == id {
			return u.Name
		}
	}
	return ""
}
