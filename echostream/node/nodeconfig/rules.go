package nodeconfig

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// What a rule that begins with a verb says is said of the key, and any other one of its value.
const (
	isEmpty    = "is empty"
	notWritten = "that is not how it is written"
	unquoted   = ", without quotes"
	trueFalse  = "it must be true or false"
)

// understood returns what value means beyond doubt, and which rule it breaks; "" if it breaks none, or what it means is not clear.
func understood(s *jsonschema.Schema, value any) (better any, rule string) {
	given, isText := value.(string)
	trimmed := strings.TrimSpace(given)
	switch q := keywordsOf(s).quantity; {
	case q != nil && (isText || !isA(s, "integer")):
		given = fmt.Sprint(value)
		better := q.understood(given)
		if _, _, err := q.parse(better); err == nil && (better != given || !isText) {
			return better, notWritten
		}
	case !isText:
	case s.Enum != nil:
		for _, choice := range s.Enum.Values {
			if c, ok := choice.(string); ok && strings.EqualFold(c, trimmed) && !slices.Contains(s.Enum.Values, value) {
				return c, notWritten
			}
		}
	case isA(s, "boolean"):
		switch strings.ToLower(trimmed) {
		case "true", "yes", "on":
			return true, trueFalse + unquoted
		case "false", "no", "off":
			return false, trueFalse + unquoted
		}
	case isA(s, "integer"):
		if n, err := strconv.ParseInt(trimmed, 10, 64); err == nil {
			return n, "it must be a number" + unquoted
		}
	case s.Pattern != nil && !s.Pattern.MatchString(given) && s.Pattern.MatchString(trimmed):
		return trimmed, "there are blanks around it"
	}
	return nil, ""
}

// ruleOf says which rule of s a value breaks, and what to write instead.
func ruleOf(fault jsonschema.ErrorKind, s *jsonschema.Schema, value any) (rule, write string) {
	if q := keywordsOf(s).quantity; q != nil {
		if rule, write = q.fault(value, s.Examples); rule != "" {
			return rule, write
		}
	}
	write = asIn("write it", s.Examples)
	if s.Minimum != nil && s.Maximum != nil {
		write = "write a number from " + decimal(s.Minimum) + " to " + decimal(s.Maximum) + asIn(",", s.Examples)
	}
	switch k := fault.(type) {
	case *kind.Enum:
		return "there is no such choice", "write " + either(k.Want)
	case *kind.Type:
		if isA(s, "boolean") {
			return trueFalse, ""
		}
		names := make([]string, len(k.Want))
		for i, t := range k.Want {
			names[i] = articles[t]
		}
		return "it must be " + strings.Join(names, " or "), write
	case *kind.Minimum:
		return "it is less than " + decimal(k.Want), write
	case *kind.Maximum:
		return "it is more than " + decimal(k.Want), write
	case *kind.MinLength:
		return fmt.Sprintf("it is shorter than %d", k.Want), write
	case *kind.MaxLength:
		return fmt.Sprintf("it has %d characters, more than %d", k.Got, k.Want), "write less"
	case *kind.MinItems:
		return isEmpty, write
	case *kind.OneOf:
		var keys []string
		for _, one := range s.OneOf {
			keys = append(keys, one.Required...)
		}
		if len(k.Subschemas) > 0 {
			return "has more than one of " + strings.Join(keys, " and "), "write one of them only"
		}
		return "has neither " + strings.Join(keys, " nor "), "write one of them"
	case *kind.Pattern:
		for _, c := range k.Got { // one that the pattern takes neither here nor at the end
			rest := strings.ReplaceAll(k.Got, string(c), "")
			if !s.WriteOnly && s.Pattern.MatchString(rest) && !s.Pattern.MatchString(rest+string(c)) {
				return "it must not contain " + strconv.Quote(string(c)), write
			}
		}
	}
	rule = "it is not what is expected here"
	if what, _, _ := strings.Cut(s.Description, ". "); what != "" {
		rule += " (" + strings.TrimSuffix(what, ".") + ")"
	}
	return rule, write
}

// faults are the errors of a value itself, not of what is in it.
func faults(err error) []jsonschema.ErrorKind {
	e, _ := err.(*jsonschema.ValidationError)
	if e == nil || len(e.InstanceLocation) > 0 {
		return nil
	}
	if d, ok := e.ErrorKind.(*kind.DependentRequired); ok { // what other drafts call it
		return []jsonschema.ErrorKind{(*kind.Dependency)(d)}
	}
	if _, oneOf := e.ErrorKind.(*kind.OneOf); oneOf || len(e.Causes) == 0 {
		return []jsonschema.ErrorKind{e.ErrorKind}
	}
	var all []jsonschema.ErrorKind
	for _, c := range e.Causes {
		all = append(all, faults(c)...)
	}
	return all
}

// effect says what stands in for a value of s.
func effect(s *jsonschema.Schema, instead any) string {
	k := keywordsOf(s)
	_, isObject := instead.(map[string]any)
	list, isList := instead.([]any)
	empty := instead == nil || instead == any("") || isList && len(list) == 0
	switch {
	case k.otherwise != "":
		return k.otherwise
	case empty:
		return "It is left out"
	case isObject:
		return allDefaults
	case k.strict != nil:
		return "Using the strict side, " + plain(instead)
	}
	return "Using the default, " + plain(instead)
}

const allDefaults = "Its keys have their defaults, or are on the strict side"

// shown returns a value for a log line: at most 100 characters, and nothing that may be secret. Text where an object or a list belongs may be a password.
func shown(s *jsonschema.Schema, value any) string {
	given, isText := value.(string)
	_, isObject := value.(map[string]any)
	_, isList := value.([]any)
	switch {
	case isObject:
		return articles["object"]
	case isList:
		return articles["array"]
	case isText && (isA(s, "object") || isA(s, "array")):
		return articles["string"]
	case s.WriteOnly:
		return "(not shown)"
	case isText:
		return strconv.Quote(shorten(given))
	}
	return shorten(text(value))
}

func shorten(s string) string {
	const most = 100
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// folded is a key without what people get wrong in it.
func folded(key string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(key))
}

// nearest returns the known key that key was most likely meant to be, or "" if none is near.
func nearest(key string, known []string) string {
	best, least := "", 4
	for _, k := range known {
		if len(key) > 64 {
			break // no key of a schema is as long; the text of a stranger must not cost time
		}
		if d := levenshtein.ComputeDistance(folded(key), folded(k)); d < least && d <= (min(len(key), len(k))+1)/2 {
			best, least = k, d
		}
	}
	return best
}

// elsewhere returns the first place in the schema where key stands below the top, as in "ftp.tls", or ""; in lists only if lists is true.
func elsewhere(s *jsonschema.Schema, key string, lists bool) string {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		member := s.Properties[name]
		if items := itemsOf(member); items != nil && lists {
			name, member = name+"[]", items
		}
		for inner := range member.Properties {
			if folded(inner) == folded(key) {
				return name + "." + inner
			}
		}
		if place := elsewhere(member, key, lists); place != "" {
			return name + "." + place
		}
	}
	return ""
}

// asIn shows the examples of a schema, if it has any, after a text.
func asIn(after string, examples []any) string {
	if len(examples) == 0 {
		return ""
	}
	return after + " as in " + either(examples)
}

func decimal(r *big.Rat) string {
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// either writes values as JSON: "a", "b" or "c".
func either(values []any) string {
	parts := make([]string, len(values))
	for i, value := range values {
		parts[i] = text(value)
	}
	if n := len(parts); n > 1 {
		return strings.Join(parts[:n-1], ", ") + " or " + parts[n-1]
	}
	return strings.Join(parts, "")
}

// plain writes a value without quotes.
func plain(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	return text(value)
}

// noun is what people call a value of s.
func noun(s *jsonschema.Schema) string {
	if s.Title == "" {
		return "element"
	}
	return strings.ToLower(s.Title)
}

// join writes a path as people do: ftp.users[0].name.
func join(key, name string) string {
	if quoted := strconv.Quote(shorten(name)); len(quoted) != len(name)+2 || name == "" || strings.ContainsAny(name, " .[]") {
		name = quoted
	}
	if key == "" {
		return name
	}
	return key + "." + name
}

var articles = map[string]string{
	"object": "an object", "array": "a list", "integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "text", "null": "null",
}
