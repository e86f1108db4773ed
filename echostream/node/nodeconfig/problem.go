package nodeconfig

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
)

// Problem is one thing that is wrong with a config. Its texts are parts of one sentence: see String. None of them holds a secret.
type Problem struct {
	Level  slog.Level // ERROR; WARNING if the value was understood all the same; INFO for what is probably meant for others
	Key    string     // the path of the value, as in "ftp.users[2].directory"
	Value  string     // what stands there, as JSON and shortened; "(not shown)" for a secret, "" if there is no value to speak of
	Rule   string     // the rule that was broken: "the unit is missing"; with no Value, what is said of Key: "is missing"
	Write  string     // what to write instead, or ""
	Effect string     // what runs instead
}

// String returns the problem as people read it:
//
//	ftp.idleTimeout is "300": the unit is missing; write "300s" or "5m". Using the default, 5m.
func (p Problem) String() string {
	s := p.Key + " "
	if p.Value != "" {
		s += "is " + p.Value + ": "
	}
	s += p.Rule
	if p.Write != "" {
		s += "; " + p.Write
	}
	return s + ". " + p.Effect + "."
}

// Log writes the problem as one line, which begins with "invalid config: ".
func (p Problem) Log(log *slog.Logger) {
	attrs := []any{"key", p.Key}
	if v, err := strconv.Unquote(p.Value); err == nil {
		attrs = append(attrs, "value", v)
	} else if p.Value != "" {
		attrs = append(attrs, "value", p.Value)
	}
	log.Log(context.Background(), p.Level, "invalid config: "+p.String(), attrs...)
}

// Report collects the problems of one config. A bridge's check adds to it what no schema can say.
type Report struct {
	schema   *Schema
	root     map[string]any // the config
	problems []Problem
	origin   map[string][]string         // the keys of the elements that are left of a list
	left     map[string][]map[string]any // the elements that are not
}

// Add adds a problem, unless its key has one that matters as much.
func (r *Report) Add(p Problem) {
	i := slices.IndexFunc(r.problems, func(o Problem) bool { return o.Key == p.Key })
	if i < 0 {
		r.problems = append(r.problems, p)
	} else if r.problems[i].Level < p.Level { // it was understood, and is wrong all the same
		r.problems[i] = p
	}
}

// Reject adds a problem of the value at key, which is in no list, and sets field, which points to where it was decoded, to what stands in for it:
// the schema's x-strict or default. rule completes "KEY is VALUE: …"; write is what to write instead.
func (r *Report) Reject(key string, field any, rule, write string) {
	s := r.schema.at(key)
	into := reflect.ValueOf(field).Elem()
	value := into.Interface()
	if q, ok := value.(fmt.Stringer); ok { // a quantity, as the config would write it
		value = q.String()
	}
	instead, _ := r.reject(s, key, "", value, rule, write)
	into.SetZero()
	_ = decode(complete(s, instead), field) // which could be decoded before
}

// Item returns the key of the i-th element that is left of a list, by its place in the config: "files.ignore[3]". Those that are not valid have been
// taken out.
func (r *Report) Item(list string, i int) string {
	if origin := r.origin[list]; i < len(origin) {
		return origin[i]
	}
	return fmt.Sprintf("%s[%d]", list, i) // of the default
}

// LeftOut returns the objects that were taken out of a list since they are not valid. What is not valid in them is nil.
func (r *Report) LeftOut(list string) []map[string]any { return r.left[list] }
