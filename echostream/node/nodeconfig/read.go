package nodeconfig

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Parse validates a node's merged config and decodes it into C. check, if it is not nil, then adds what the schema cannot say, and puts it
// right in the config. The config that is returned can always run: what is not valid in raw is replaced or left out, as the problems tell.
func Parse[C any](schema *Schema, raw json.RawMessage, check func(*C, *Report)) (C, []Problem) {
	r := &Report{schema: schema, origin: map[string][]string{}, left: map[string][]map[string]any{}}
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	object, ok := doc.(map[string]any)
	if err != nil || !ok {
		r.Add(Problem{Level: slog.LevelError, Key: "config", Rule: "is not a JSON object", Effect: allDefaults})
		object = map[string]any{}
		if all, ok := standIn(schema.root).(map[string]any); ok {
			object = all
		}
	}
	r.root = object
	valid, _ := r.read(schema.root, "", "", object)
	var config C
	if err := decode(complete(schema.root, valid), &config); err != nil {
		// The schema lets through only what fits, so this is a fault of the bridge; not one to stop the node for.
		r.Add(Problem{Level: slog.LevelError, Key: "config", Rule: "cannot be read (" + err.Error() + ")", Effect: allDefaults})
		config = *new(C)
		_ = decode(complete(schema.root, standIn(schema.root)), &config)
	}
	if check != nil {
		check(&config, r)
	}
	return config, r.problems
}

func decode(value, into any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// read returns what is valid in value, or what stands in for it. element is what people call the element of a list that value is or is in, or "". ok
// is false if nothing can stand in, so that value is to be left out, with its element.
func (r *Report) read(s *jsonschema.Schema, key, element string, value any) (valid any, ok bool) {
	elements, _ := value.([]any)
	switch v := value.(type) {
	case map[string]any:
		if (s.Types == nil || isA(s, "object")) && !r.members(s, key, element, v) {
			return nil, false
		}
	case []any:
		if items := itemsOf(s); items != nil {
			value = r.elements(items, key, v)
		}
	default:
		value = r.understand(s, key, value)
	}
	for _, e := range faults(s.Validate(value)) {
		switch k := e.(type) {
		case *kind.Required, *kind.AdditionalProperties: // members has told it
		case *kind.MaxItems: // no reason to do without some of them
			r.Add(Problem{Level: slog.LevelWarn, Key: key, Rule: fmt.Sprintf("has %d elements, more than %d", k.Got, k.Want), Effect: "All of them are used"})
		case *kind.Dependency:
			instead, ok := r.reject(property(s, k.Prop), join(key, k.Prop), element, nil, "is there without "+strings.Join(k.Missing, ", "), "write both or neither")
			if !put(value.(map[string]any), k.Prop, element, instead, ok) {
				return nil, false
			}
		default:
			if rule, write := ruleOf(k, s, value); rule != isEmpty || len(elements) == 0 { // else they have been left out
				return r.reject(s, key, element, value, rule, write)
			}
		}
	}
	return value, true
}

// members reads the members of an object in place. It reports whether the object can be used.
func (r *Report) members(s *jsonschema.Schema, key, element string, object map[string]any) bool {
	maps.DeleteFunc(object, func(_ string, member any) bool { return member == nil }) // Terraform writes null for what is not set
	r.keys(s, key, object)
	usable := true
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		member, at := s.Properties[name], join(key, name)
		value, given := object[name]
		var ok bool
		switch {
		case given:
			value, ok = r.read(member, at, element, value)
		case !slices.Contains(s.Required, name):
			continue
		case element == "" && isA(member, "object"): // its own keys are missing
			value, ok = r.read(member, at, element, map[string]any{})
		default:
			value, ok = r.reject(member, at, element, nil, "is missing", asIn("write it", member.Examples))
		}
		usable = put(object, name, element, value, ok) && usable
	}
	return usable
}

// put replaces a member of an object. Without a value, ok is false, it takes it out; in an element of a list it leaves nil, and the object cannot
// be used.
func put(object map[string]any, name, element string, value any, ok bool) (usable bool) {
	object[name] = value
	if !ok && element == "" {
		delete(object, name)
	}
	return ok || element == ""
}

// elements reads the elements of a list, and returns those that can be used.
func (r *Report) elements(items *jsonschema.Schema, key string, list []any) []any {
	kept := []any{}
	for i, element := range list {
		at := fmt.Sprintf("%s[%d]", key, i)
		if valid, ok := r.read(items, at, noun(items), element); ok {
			kept, r.origin[key] = append(kept, valid), append(r.origin[key], at)
		} else if object, isObject := element.(map[string]any); isObject {
			r.left[key] = append(r.left[key], object)
		}
	}
	return kept
}

// keys deals with the keys of an object that the schema does not have. The merged config holds those of the tenant and the app too, which are meant for
// others: at the top nothing is put right, and only a key that looks like a slip is worth a warning.
func (r *Report) keys(s *jsonschema.Schema, key string, object map[string]any) {
	known, given := slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(maps.Keys(object))
	alike := map[string]int{}
	for _, name := range given {
		alike[folded(name)]++
	}
	for _, name := range given {
		if s.Properties[name] != nil || s.AdditionalProperties != false {
			continue
		}
		value := object[name]
		delete(object, name)
		p := Problem{Level: slog.LevelError, Key: join(key, name), Rule: "is an unknown key", Effect: "It is ignored"}
		near, place := nearest(name, known), elsewhere(r.schema.root, name, key != "")
		switch same := near != "" && folded(near) == folded(name); {
		case same && key != "" && alike[folded(name)] == 1:
			object[near] = value
			p.Level, p.Rule, p.Write, p.Effect = slog.LevelWarn, "is not how this key is written", "write "+near, "It is taken as that"
		case place != "" && !same:
			p.Rule, p.Write = "is a key that belongs elsewhere", "write it as "+place
		case near != "":
			p.Write, place = "perhaps "+near+" is meant", join(key, near)
		case key != "":
			p.Write = "the keys here are " + strings.Join(known, ", ")
		}
		switch {
		case key == "" && place == "":
			p.Level = slog.LevelInfo
		case key == "":
			p.Level = slog.LevelWarn
		case p.Level == slog.LevelError:
			p.Effect += r.guard(place)
		}
		r.Add(p)
	}
}

// guard sets what protects something to the strict side, if it is not there: somebody meant to set it, and wrote another key. It says so.
func (r *Report) guard(key string) string {
	strict := keywordsOf(r.schema.at(key)).strict
	if strict == nil {
		return ""
	}
	object, path := r.root, strings.Split(key, ".")
	for _, part := range path[:len(path)-1] {
		if object[part] == nil {
			object[part] = map[string]any{}
		}
		object, _ = object[part].(map[string]any)
	}
	name := path[len(path)-1]
	if object == nil || object[name] != nil {
		return ""
	}
	object[name] = strict
	return ". Using the strict side for " + key + ", " + plain(strict)
}

// understand returns value with what is written in another way than the schema wants, and can mean only one thing, put right, and warns of it.
func (r *Report) understand(s *jsonschema.Schema, key string, value any) any {
	if n, ok := value.(json.Number); ok {
		if f, err := n.Float64(); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			value = int64(f) // it may be written as 1.0 or 1e3
		}
	}
	better, rule := understood(s, value)
	if rule == "" {
		return value
	}
	p := Problem{Level: slog.LevelWarn, Key: key, Value: shown(s, value), Rule: rule, Effect: "It is understood all the same"}
	if !s.WriteOnly {
		p.Write, p.Effect = "write "+text(better), "It is taken as that"
	}
	r.Add(p)
	return better
}

// reject tells which rule the value at key breaks, and returns what stands in for it: see read.
func (r *Report) reject(s *jsonschema.Schema, key, element string, value any, rule, write string) (instead any, ok bool) {
	instead = standIn(s)
	p := Problem{Level: slog.LevelError, Key: cmp.Or(key, "config"), Rule: rule, Write: write, Effect: effect(s, instead)}
	if verb, _, _ := strings.Cut(rule, " "); verb != "is" && verb != "has" {
		p.Value = shown(s, value)
	}
	ok = instead != nil
	if element != "" && (!ok || strings.HasSuffix(key, "]")) {
		ok, p.Effect = false, "This "+element+" is left out"
	}
	r.Add(p)
	return instead, ok
}
