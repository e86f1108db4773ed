package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/ftpnode/ftpnode/deploy"
)

// configSchema is deploy/config.schema.json, compiled and as a tree; neither is ever changed.
type configSchema struct {
	compiled *jsonschema.Schema
	tree     map[string]any
}

var loadSchema = sync.OnceValue(func() configSchema {
	tree, err := jsonschema.UnmarshalJSON(strings.NewReader(deploy.ConfigSchema()))
	if err != nil {
		panic("the embedded config.schema.json: " + err.Error())
	}
	const url = "mem:config.schema.json"
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(url, tree); err != nil {
		panic("the embedded config.schema.json: " + err.Error())
	}
	return configSchema{compiled: compiler.MustCompile(url), tree: tree.(map[string]any)}
})

// validate reads a config and holds it against the schema. The document it gives is valid: what was wrong is gone,
// every default is in place, and a null stands where an element of a list was wrong. Of a user that was wrong, name and
// directory may be left, without a password.
func validate(raw json.RawMessage) (map[string]any, []Problem) {
	v := &validation{schema: loadSchema(), seen: map[string]bool{}}
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	object, ok := doc.(map[string]any)
	if err != nil || !ok {
		v.add(nil, "not a JSON object", "a JSON object", "every key has its default")
		object = map[string]any{}
	}
	v.doc = normalise(object).(map[string]any)
	v.given = clone(v.doc)
	var failed *jsonschema.ValidationError
	if errors.As(v.schema.compiled.Validate(v.doc), &failed) {
		for _, e := range leaves(failed) {
			v.fault(e)
		}
	}
	v.quantities()
	for key := range v.doc {
		if v.schema.node([]string{key}) == nil {
			delete(v.doc, key)
		}
	}
	if _, ok := v.doc["ftp"]; !ok {
		v.doc["ftp"] = map[string]any{"users": []any{}}
	}
	fillDefaults(v.schema.tree, v.doc)
	return v.doc, v.problems
}

// normalise drops null members (Terraform writes them for what is not set) and makes whole numbers int64.
func normalise(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for k, member := range value {
			if member == nil {
				delete(value, k)
				continue
			}
			value[k] = normalise(member)
		}
	case []any:
		for i := range value {
			value[i] = normalise(value[i])
		}
	case json.Number:
		if len(value) > 30 {
			return value // an exponent is not worth the work
		}
		if r, ok := new(big.Rat).SetString(string(value)); ok && r.IsInt() && r.Num().IsInt64() {
			return r.Num().Int64()
		}
	}
	return value
}

// validation is one config being validated.
type validation struct {
	schema   configSchema
	doc      map[string]any // what is left of it
	given    any            // as it came
	problems []Problem
	seen     map[string]bool // paths that have their problem already
}

// add tells of the value at loc, once.
func (v *validation) add(loc []string, value, expected, effect string) {
	v.addLevel(slog.LevelError, loc, value, expected, effect)
}

func (v *validation) addLevel(level slog.Level, loc []string, value, expected, effect string) {
	p := dotted(loc)
	if v.seen[p] {
		return
	}
	v.seen[p] = true
	v.problems = append(v.problems, Problem{Level: level, Path: p, Value: value, Expected: expected, Effect: effect})
}

// leaves are the errors that say something, in the order of the config's paths.
func leaves(e *jsonschema.ValidationError) []*jsonschema.ValidationError {
	_, oneOf := e.ErrorKind.(*kind.OneOf)
	if len(e.Causes) == 0 || oneOf {
		return []*jsonschema.ValidationError{e}
	}
	var all []*jsonschema.ValidationError
	for _, c := range e.Causes {
		all = append(all, leaves(c)...)
	}
	slices.SortStableFunc(all, func(a, b *jsonschema.ValidationError) int {
		return slices.Compare(a.InstanceLocation, b.InstanceLocation)
	})
	return all
}

// fault tells of one error of the schema, and takes what is wrong out of the document.
func (v *validation) fault(e *jsonschema.ValidationError) {
	loc := e.InstanceLocation
	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		slices.Sort(k.Properties)
		for _, key := range k.Properties {
			v.unknown(loc, key)
		}
	case *kind.Required:
		for _, key := range k.Missing {
			v.missing(loc, key)
		}
	case *kind.OneOf:
		value := "without password and passwordHash"
		if len(k.Subschemas) > 0 {
			value = "with password and passwordHash"
		}
		v.add(loc, value, "password or passwordHash, exactly one of them", v.drop(loc))
	case *kind.Dependency:
		at := child(loc, k.Prop)
		v.add(at, "there without "+strings.Join(k.Missing, ", "), "certificate and privateKey, both or neither", v.drop(at))
	case *kind.MinItems:
		v.add(loc, "an empty list", "at least one user, "+v.example(loc), noLogin)
	case *kind.MaxItems:
		v.add(loc, fmt.Sprintf("a list of %d", k.Got), fmt.Sprintf("at most %d", k.Want), "all of them are used")
	case *kind.Enum:
		v.add(loc, v.shown(loc), "one of "+list(k.Want), v.drop(loc))
	case *kind.Type:
		value := v.shown(loc)
		if !slices.ContainsFunc(k.Want, func(t string) bool { return t != "object" && t != "array" }) {
			value = article(k.Got) // text where an object should be may be a password
		}
		v.add(loc, value, typeNames(k.Want)+", "+v.example(loc), v.drop(loc))
	case *kind.Minimum:
		v.add(loc, v.shown(loc), "at least "+k.Want.RatString()+", "+v.example(loc), v.drop(loc))
	case *kind.Maximum:
		v.add(loc, v.shown(loc), "at most "+k.Want.RatString()+", "+v.example(loc), v.drop(loc))
	default: // a pattern, a length
		v.add(loc, v.shown(loc), v.expected(loc), v.drop(loc))
	}
}

const noLogin = "FTP refuses all log-ins until the node's config has a user"

func (v *validation) missing(loc []string, key string) {
	at := child(loc, key)
	switch {
	case len(loc) == 0:
		v.add(child(at, "users"), "missing", "at least one user, "+v.example(child(at, "users")), noLogin)
	case isUser(loc):
		v.add(at, "missing", v.expected(at), v.drop(loc))
	default:
		v.add(at, "missing", "at least one user, "+v.example(at), noLogin)
	}
}

// unknown tells of a key that the schema does not have. The merged config holds the keys of the tenant and the app too, which
// are meant for others: at the top, only a key that looks like a slip is worth a warning.
func (v *validation) unknown(loc []string, key string) {
	at := child(loc, key)
	known := slices.Sorted(maps.Keys(properties(v.schema.node(loc))))
	expected := "one of " + strings.Join(known, ", ")
	hint := nearest(key, known)
	if hint != "" {
		expected = strconv.Quote(hint) + "?"
	}
	level := slog.LevelError
	if len(loc) == 0 {
		level = slog.LevelInfo
		if hint != "" {
			level = slog.LevelWarn
		}
	}
	v.addLevel(level, at, "an unknown key", expected, "it is ignored")
	v.remove(at)
}

// drop takes the value at loc out, with its user if it belongs to one, and says what that leads to.
func (v *validation) drop(loc []string) string {
	switch {
	case len(loc) >= 3 && isUser(loc[:3]):
		v.leaveOut(loc)
		return leftOut
	case len(loc) == 3 && loc[1] == "ignore":
		v.remove(loc)
		return "this pattern is left out"
	}
	v.remove(loc)
	if slices.Equal(loc, []string{"ftp"}) || slices.Equal(loc, []string{"ftp", "users"}) {
		return noLogin
	}
	switch d := v.schema.node(loc)["default"].(type) {
	case map[string]any:
		return "every key of it has its default"
	case string:
		if d == "" {
			return "it is left out"
		}
		return strconv.Quote(d) + " is used"
	case []any:
		return list(d) + " are used"
	default:
		return fmt.Sprint(d) + " is used"
	}
}

// leaveOut takes from a user what is needed to log in, and all of it if loc is in what says whose directory is whose: the
// files that stand there were acknowledged, and are to be delivered under the right name.
func (v *validation) leaveOut(loc []string) {
	user, _ := lookup(v.doc, loc[:3]).(map[string]any)
	maps.DeleteFunc(user, func(key string, _ any) bool { return key != "name" && key != "directory" })
	if user["name"] == nil || len(loc) > 3 && user[loc[3]] != nil {
		v.remove(loc[:3])
	}
}

// remove takes out a member, or puts null in the place of an element, so that the others keep their places.
func (v *validation) remove(loc []string) {
	switch parent := lookup(v.doc, loc[:len(loc)-1]).(type) {
	case map[string]any:
		delete(parent, loc[len(loc)-1])
	case []any:
		if i, err := strconv.Atoi(loc[len(loc)-1]); err == nil && i < len(parent) {
			parent[i] = nil
		}
	}
}

// quantity bounds a duration, a size or a range of ports: what no JSON Schema can say.
type quantity struct{ kind, least, most string }

var quantities = map[string]quantity{
	"ftp.passivePorts":         {"ports", "1024", "65535"},
	"ftp.idleTimeout":          {"duration", "10s", "24h"},
	"ftp.stallTimeout":         {"duration", "5s", "1h"},
	"ftp.loginTimeout":         {"duration", "1s", "10m"},
	"files.acknowledgeTimeout": {"duration", "1s", "10m"},
	"files.settle":             {"duration", "0s", "1h"},
	"files.quiet":              {"duration", "1s", "24h"},
	"files.maxSize":            {"size", "1B", "100GB"},
	"files.spoolLimit":         {"size", "0B", "1000TB"},
	"files.minFree":            {"size", "0B", "100TB"},
	"files.partialExpiry":      {"duration", "1m", "8760h"},
}

func (q quantity) holds(value string) bool {
	parse := parseSize
	switch q.kind {
	case "ports":
		_, err := parsePorts(value)
		return err == nil
	case "duration":
		parse = func(s string) (int64, error) { d, err := time.ParseDuration(s); return int64(d), err }
	}
	v, err := parse(value)
	least, errLeast := parse(q.least)
	most, errMost := parse(q.most)
	return errors.Join(err, errLeast, errMost) == nil && least <= v && v <= most
}

func (v *validation) quantities() {
	for _, p := range slices.Sorted(maps.Keys(quantities)) {
		loc := strings.Split(p, ".")
		value := lookup(v.doc, loc)
		if value == nil || quantities[p].holds(fmt.Sprint(value)) {
			continue
		}
		v.add(loc, v.shown(loc), v.expected(loc), v.drop(loc))
	}
}

// fillDefaults puts the schema's defaults where the document has nothing.
func fillDefaults(schema map[string]any, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, s := range properties(schema) {
			s := s.(map[string]any)
			if d, ok := s["default"]; ok && value[key] == nil {
				value[key] = clone(d)
			}
			fillDefaults(s, value[key])
		}
	case []any:
		items, _ := schema["items"].(map[string]any)
		for _, element := range value {
			fillDefaults(items, element)
		}
	}
}

func clone(value any) any {
	switch value := value.(type) {
	case map[string]any:
		c := make(map[string]any, len(value))
		for k, member := range value {
			c[k] = clone(member)
		}
		return c
	case []any:
		c := make([]any, len(value))
		for i := range value {
			c[i] = clone(value[i])
		}
		return c
	}
	return value
}

// node is the schema of the value at loc, or nil.
func (s configSchema) node(loc []string) map[string]any {
	n := s.tree
	for _, part := range loc {
		if items, ok := n["items"].(map[string]any); ok {
			n = items
			continue
		}
		n, _ = properties(n)[part].(map[string]any)
	}
	return n
}

// schemaDefault is the default text of a key.
func schemaDefault(loc ...string) string {
	s, _ := loadSchema().node(loc)["default"].(string)
	return s
}

func properties(schema map[string]any) map[string]any {
	p, _ := schema["properties"].(map[string]any)
	return p
}

// expected says what would be right at loc: an example, and the schema's words.
func (v *validation) expected(loc []string) string {
	description, _ := v.schema.node(loc)["description"].(string)
	return v.example(loc) + " (" + strings.TrimSuffix(description, ".") + ")"
}

func (v *validation) example(loc []string) string {
	examples, _ := v.schema.node(loc)["examples"].([]any)
	return "as in " + list(examples)
}

// list writes values as JSON, with commas.
func list(values []any) string {
	parts := make([]string, len(values))
	for i, value := range values {
		b, _ := json.Marshal(value)
		parts[i] = string(b)
	}
	return strings.Join(parts, ", ")
}

// shown is the value at loc for a log line: shortened, and nothing of what may be secret.
func (v *validation) shown(loc []string) string {
	switch loc[len(loc)-1] {
	case "password", "passwordHash", "privateKey", "certificate":
		return secret
	}
	switch value := lookup(v.given, loc).(type) {
	case nil:
		return "null"
	case map[string]any:
		return article("object")
	case []any:
		return article("array")
	case string:
		return shown(value)
	default:
		return fmt.Sprint(value)
	}
}

// shown quotes a text and shortens it.
func shown(s string) string {
	const most = 100
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return strconv.Quote(s)
}

func lookup(doc any, loc []string) any {
	for _, part := range loc {
		switch d := doc.(type) {
		case map[string]any:
			doc = d[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(d) {
				return nil
			}
			doc = d[i]
		default:
			return nil
		}
	}
	return doc
}

func isUser(loc []string) bool {
	return len(loc) == 3 && loc[0] == "ftp" && loc[1] == "users"
}

func child(loc []string, key string) []string { return append(slices.Clone(loc), key) }

// dotted writes a path as people do: ftp.users[0].name.
func dotted(loc []string) string {
	var b strings.Builder
	for i, part := range loc {
		switch _, err := strconv.Atoi(part); {
		case err == nil && i > 0:
			b.WriteString("[" + part + "]")
			continue
		case i > 0:
			b.WriteByte('.')
		}
		if strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r == '.' || r == '"' || r > '~' }) || len(part) > 100 {
			part = shown(part)
		}
		b.WriteString(part)
	}
	return b.String()
}

func typeNames(types []string) string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = article(t)
	}
	return strings.Join(names, " or ")
}

func article(jsonType string) string {
	switch jsonType {
	case "object":
		return "an object"
	case "array":
		return "a list"
	case "integer":
		return "a whole number"
	case "boolean":
		return "true or false"
	case "string":
		return "text"
	}
	return "a " + jsonType
}
