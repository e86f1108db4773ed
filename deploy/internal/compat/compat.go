// Package compat reports whether every config that was valid under an old JSON Schema is valid under a new one.
//
// It compares the two schemas key by key and never needs a config. It errs on the safe side: a change that it cannot
// judge, such as another pattern, counts as a break, so no break means that there is none. It knows
// the keywords of draft-07 that config.schema.json uses; $ref is not among them.
//
//	breaks := compat.Breaks(old, new) // of json.Unmarshal into any
//	// ["ftp.tls: the value \"off\" is no longer allowed"]
package compat

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Breaks says, sorted, what an old config could be refused for under the new schema; nothing if nothing.
func Breaks(old, new any) []string {
	var c comparison
	c.schema("", old, new)
	slices.Sort(c.breaks)
	return slices.Compact(c.breaks)
}

type comparison struct{ breaks []string }

func (c *comparison) add(path, format string, args ...any) {
	if path == "" {
		path = "(the config)"
	}
	c.breaks = append(c.breaks, path+": "+fmt.Sprintf(format, args...))
}

// explains are the keywords that no config is refused for.
var explains = []string{"$comment", "$id", "$schema", "default", "description", "examples", "title", "writeOnly", "x-otherwise", "x-strict"}

func (c *comparison) schema(path string, old, new any) {
	// A schema may also be true (anything) or false (nothing).
	if old == false || new == true {
		return
	}
	if new == false {
		c.add(path, "nothing is allowed any more")
		return
	}
	before, _ := old.(map[string]any) // of true: no keyword
	after, ok := new.(map[string]any)
	if !ok {
		c.add(path, "the schema is %v, expected an object or a boolean", new)
		return
	}
	for _, keyword := range slices.Sorted(maps.Keys(after)) {
		value := after[keyword]
		was, had := before[keyword]
		switch keyword {
		case "type":
			c.types(path, was, value, had)
		case "enum", "const":
			c.choices(path, choices(before), choices(after))
		case "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties":
			c.bound(path, keyword, was, value, had, -1)
		case "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties":
			c.bound(path, keyword, was, value, had, +1)
		case "required":
			c.required(path, was, value)
		case "dependencies":
			c.dependencies(path, was, value)
		case "items", "contains", "propertyNames":
			if keyword == "items" && (isList(was) || isList(value)) && !reflect.DeepEqual(was, value) {
				c.add(path, "items has changed")
				continue
			}
			if !had {
				was = true
			}
			c.schema(join(path, map[string]string{"items": "[]", "contains": "[some]", "propertyNames": "(its keys)"}[keyword]), was, value)
		case "uniqueItems":
			if value == true && was != true {
				c.add(path, "the items must now differ")
			}
		case "x-duration", "x-ports", "x-size": // the program's own bounds; without them there were none that JSON Schema knows
			if had && !reflect.DeepEqual(was, value) {
				c.add(path, "%s has changed to %s", keyword, text(value))
			}
		case "properties", "additionalProperties", "patternProperties":
			// Below: they say together which keys there are.
		default:
			if !slices.Contains(explains, keyword) && !(had && reflect.DeepEqual(was, value)) {
				c.add(path, "%s has changed to %s", keyword, text(value))
			}
		}
	}
	c.keys(path, before, after)
}

// keys compares what an object may hold.
func (c *comparison) keys(path string, before, after map[string]any) {
	was, _ := before["properties"].(map[string]any)
	is, _ := after["properties"].(map[string]any)
	rest, ok := before["additionalProperties"]
	if !ok {
		rest = true
	}
	newRest, ok := after["additionalProperties"]
	if !ok {
		newRest = true
	}
	if !reflect.DeepEqual(before["patternProperties"], after["patternProperties"]) {
		c.add(path, "patternProperties has changed")
	}
	for _, key := range slices.Sorted(maps.Keys(was)) {
		if _, ok := is[key]; !ok {
			c.add(join(path, key), "the key is gone")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(is)) {
		if old, ok := was[key]; ok {
			c.schema(join(path, key), old, is[key])
		} else {
			// Whoever used the key before could give it any value that rest allows.
			c.schema(join(path, key), rest, is[key])
		}
	}
	if rest != false && newRest == false {
		c.add(path, "keys other than those named are no longer allowed")
	} else {
		c.schema(join(path, "*"), rest, newRest)
	}
}

func (c *comparison) types(path string, old, new any, had bool) {
	is := list(new)
	if !had {
		c.add(path, "the type must now be %s", text(new))
		return
	}
	for _, t := range list(old) {
		if !slices.Contains(is, t) && !(t == "integer" && slices.Contains(is, any("number"))) {
			c.add(path, "the type %v is no longer allowed", t)
		}
	}
}

// choices are the values of enum or const; nil is any.
func choices(schema map[string]any) []any {
	if value, ok := schema["const"]; ok {
		return []any{value}
	}
	values, _ := schema["enum"].([]any)
	return values
}

func (c *comparison) choices(path string, old, new []any) {
	if old == nil {
		c.add(path, "only some values are allowed now: %s", text(new))
		return
	}
	for _, value := range old {
		if !slices.ContainsFunc(new, func(other any) bool { return reflect.DeepEqual(value, other) }) {
			c.add(path, "the value %s is no longer allowed", text(value))
		}
	}
}

// bound compares a limit; direction is +1 for one that is looser when it is higher, -1 for the contrary.
func (c *comparison) bound(path, keyword string, old, new any, had bool, direction float64) {
	is, ok := new.(float64)
	if !ok {
		c.add(path, "%s is %s, expected a number", keyword, text(new))
		return
	}
	was, ok := old.(float64)
	if !had || !ok {
		if direction < 0 && is == 0 && keyword != "minimum" && keyword != "exclusiveMinimum" {
			return // a length is never below 0
		}
		c.add(path, "%s is now %v", keyword, is)
		return
	}
	if (is-was)*direction < 0 {
		c.add(path, "%s is now %v, tighter than %v", keyword, is, was)
	}
}

func (c *comparison) required(path string, old, new any) {
	was := list(old)
	for _, key := range list(new) {
		if !slices.Contains(was, key) {
			c.add(join(path, fmt.Sprint(key)), "the key is now required")
		}
	}
}

func (c *comparison) dependencies(path string, old, new any) {
	was, _ := old.(map[string]any)
	is, _ := new.(map[string]any)
	for key, needs := range is {
		before, had := was[key]
		if isList(needs) && (!had || isList(before)) {
			for _, other := range list(needs) {
				if !slices.Contains(list(before), other) {
					c.add(join(path, key), "the key now needs %v", other)
				}
			}
		} else if !reflect.DeepEqual(before, needs) {
			c.add(join(path, key), "what the key needs has changed")
		}
	}
}

func isList(value any) bool { _, ok := value.([]any); return ok }

// list is a list as it is, and one value as a list of it.
func list(value any) []any {
	switch value := value.(type) {
	case nil:
		return nil
	case []any:
		return value
	}
	return []any{value}
}

func join(path, key string) string {
	return strings.TrimPrefix(path+"."+key, ".")
}

func text(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(data)
}
