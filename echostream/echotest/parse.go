package echotest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
)

// ParseFault reads a fault as a person writes it on a command line:
//
//	fault   = service [ "/" operation ] ":" kind [ ":" option { "," option } ]
//	service = "cognito" | "appsync" | "sqs" | "s3" | "audit" | "*"
//	kind    = "down" | "slow" | "error" | "throttled" | "partial" | "reply-lost" | "reply-cut" |
//	          "expired-token" | "expired-credentials" | "expired-url" | "kms" | "edge-removed" | "denied"
//	option  = name "=" value
//
// operation is as in AWS or in the API: SendMessageBatch, PutObject, GetNode... (see Cloud.Requests). The options:
//
//	after=N    the first N attempts pass
//	every=N    each N-th of the rest is hit
//	count=N    it ends after N hits
//	for=D      it ends after a time, like 30s or 5m
//	p=0.25     each is hit with this probability
//	seed=N     of the random numbers for p
//	edge=NAME  only this target
//	delay=D    of slow (1s)
//	status=N   of error (503): 400 to 599
//	entries=0+2  of partial: which entries of the batch fail, from 0 (each second one)
//	field=TYPE.NAME  of denied: the only field of the API that is kept back
//
// For example "sqs:reply-lost:count=3,every=10", "s3/PutObject:slow:delay=2s", "*:down:for=1m".
func ParseFault(s string) (Fault, error) {
	fail := func(format string, args ...any) (Fault, error) {
		return Fault{}, fmt.Errorf("fault %q: %s", s, fmt.Sprintf(format, args...))
	}
	parts := strings.SplitN(s, ":", 3)
	if len(parts) < 2 {
		return fail(`want service:kind, for example "sqs:down"`)
	}
	var f Fault
	service, op, _ := strings.Cut(parts[0], "/")
	if service != "*" {
		f.Service = Service(service)
	}
	if service == "" {
		return fail("no service, want one of %s or * before the colon", listed(Services()))
	}
	f.Operation = op
	f.Kind = FaultKind(parts[1])
	if len(parts) == 3 {
		for _, option := range strings.Split(parts[2], ",") {
			name, value, ok := strings.Cut(option, "=")
			if !ok {
				return fail("option %q: want name=value", option)
			}
			if err := f.setOption(name, value); err != nil {
				return fail("option %s: %v", name, err)
			}
		}
	}
	if err := f.check(); err != nil {
		return fail("%v", err)
	}
	return f, nil
}

func (f *Fault) setOption(name, value string) (err error) {
	count := func(v *int) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a whole number from 1", value)
		}
		*v = n
		return nil
	}
	duration := func(v *time.Duration) error {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return fmt.Errorf(`%q is not a time like "2s" or "5m"`, value)
		}
		*v = d
		return nil
	}
	switch name {
	case "after":
		return count(&f.After)
	case "every":
		return count(&f.Every)
	case "count":
		return count(&f.Count)
	case "status":
		return count(&f.Status)
	case "for":
		return duration(&f.For)
	case "delay":
		return duration(&f.Delay)
	case "edge":
		f.Edge = value
	case "field":
		f.Field = value
	case "p":
		if f.Probability, err = strconv.ParseFloat(value, 64); err != nil || !(f.Probability > 0 && f.Probability <= 1) {
			return fmt.Errorf("%q is not a probability above 0 and up to 1", value)
		}
	case "seed":
		if f.Seed, err = strconv.ParseUint(value, 10, 64); err != nil {
			return fmt.Errorf("%q is not a whole number from 0", value)
		}
	case "entries":
		for _, e := range strings.Split(value, "+") {
			n, err := strconv.Atoi(e)
			if err != nil || n < 0 || n > 9 {
				return fmt.Errorf(`%q is not a list of numbers 0 to 9 like "0+2"`, value)
			}
			f.Entries = append(f.Entries, n)
		}
	default:
		return fmt.Errorf("there is no such option, want one of after, every, count, for, p, seed, edge, delay, status, entries, field")
	}
	return nil
}

func (f Fault) check() error {
	if f.Service != "" && !slices.Contains(Services(), f.Service) {
		return fmt.Errorf("no service %q, want one of %s or *", f.Service, listed(Services()))
	}
	i := slices.IndexFunc(faultKinds, func(k struct {
		kind     FaultKind
		services []Service
	}) bool {
		return k.kind == f.Kind
	})
	if i < 0 {
		var kinds []FaultKind
		for _, k := range faultKinds {
			kinds = append(kinds, k.kind)
		}
		return fmt.Errorf("no kind %q, want one of %s", f.Kind, listed(kinds))
	}
	if f.Service != "" && !f.possible(f.Service) {
		return fmt.Errorf("%s cannot happen to %s, only to %s", f.Kind, f.Service, listed(faultKinds[i].services))
	}
	switch {
	case f.Delay != 0 && f.Kind != Slow:
		return fmt.Errorf("delay is an option of %s only", Slow)
	case f.Status != 0 && f.Kind != ServerError:
		return fmt.Errorf("status is an option of %s only", ServerError)
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("status %d is not from 400 to 599", f.Status)
	case f.Entries != nil && f.Kind != Partial:
		return fmt.Errorf("entries is an option of %s only", Partial)
	case f.Edge != "" && f.Service != SQS:
		return fmt.Errorf("edge is an option of %s only", SQS)
	case f.Field != "" && (f.Service != AppSync || f.Kind != Denied):
		return fmt.Errorf("field is an option of %s:%s only", AppSync, Denied)
	case f.Field != "" && !hasField(f.Field):
		return fmt.Errorf(`no field %q, want one like "MessageType.auditor"`, f.Field)
	case f.After < 0 || f.Every < 0 || f.Count < 0 || f.For < 0 || f.Delay < 0:
		return fmt.Errorf("a count or a time is negative")
	case f.Probability < 0 || f.Probability > 1:
		return fmt.Errorf("probability %v is not from 0 to 1", f.Probability)
	}
	return nil
}

// hasField reports whether the API has a field, given as TYPE.NAME.
func hasField(name string) bool {
	kind, field, _ := strings.Cut(name, ".")
	def := loadSchema().Types[kind]
	return def != nil && def.Kind == ast.Object && def.Fields.ForName(field) != nil
}

// String writes the fault as ParseFault reads it.
func (f Fault) String() string {
	var b strings.Builder
	if f.Service == "" {
		b.WriteByte('*')
	}
	b.WriteString(string(f.Service))
	if f.Operation != "" {
		b.WriteString("/" + f.Operation)
	}
	b.WriteString(":" + string(f.Kind))
	sep := ":"
	option := func(name string, set bool, value any) {
		if set {
			fmt.Fprintf(&b, "%s%s=%v", sep, name, value)
			sep = ","
		}
	}
	option("after", f.After != 0, f.After)
	option("every", f.Every != 0, f.Every)
	option("count", f.Count != 0, f.Count)
	option("for", f.For != 0, f.For)
	option("p", f.Probability != 0, f.Probability)
	option("seed", f.Seed != 0, f.Seed)
	option("edge", f.Edge != "", f.Edge)
	option("delay", f.Delay != 0, f.Delay)
	option("status", f.Status != 0, f.Status)
	entries := make([]string, len(f.Entries))
	for i, e := range f.Entries {
		entries[i] = strconv.Itoa(e)
	}
	option("entries", f.Entries != nil, strings.Join(entries, "+"))
	option("field", f.Field != "", f.Field)
	return b.String()
}

func listed[S ~string](names []S) string {
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	return strings.Join(s, ", ")
}
