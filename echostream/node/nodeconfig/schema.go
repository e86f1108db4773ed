package nodeconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Schema is a bridge's JSON Schema, compiled. It is never changed, so several goroutines may use it.
type Schema struct{ root *jsonschema.Schema }

// Compile compiles a JSON Schema. By default, without a text, it takes any config.
func Compile(text string) (*Schema, error) {
	if text == "" {
		text = "{}"
	}
	if strings.Contains(text, `"$ref"`) { // its defaults would not be found
		return nil, errors.New(`the config's schema has a "$ref", expected it to be written out`)
	}
	tree, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("the config's schema is not JSON: %w", err)
	}
	const url = "mem:config.schema.json"
	c := jsonschema.NewCompiler()
	c.AssertVocabs()
	c.RegisterVocabulary(&jsonschema.Vocabulary{URL: "mem:nodeconfig", Compile: compileKeywords})
	if err := c.AddResource(url, tree); err != nil {
		return nil, fmt.Errorf("the config's schema: %w", err)
	}
	root, err := c.Compile(url)
	if err != nil {
		return nil, fmt.Errorf("the config's schema: %w", err)
	}
	return &Schema{root}, nil
}

// keywords are those that this package adds to JSON Schema: see the package comment.
type keywords struct {
	quantity  *quantity
	strict    any
	otherwise string
}

func compileKeywords(_ *jsonschema.CompilerContext, object map[string]any) (jsonschema.SchemaExt, error) {
	k := &keywords{strict: object["x-strict"]}
	k.otherwise, _ = object["x-otherwise"].(string)
	for keyword, u := range units {
		if bounds, ok := object[keyword]; ok {
			var err error
			if k.quantity, err = newQuantity(u, bounds); err != nil {
				return nil, fmt.Errorf("%s: %w", keyword, err)
			}
		}
	}
	return k, nil
}

// Validate finds what is no quantity; ruleOf says why.
func (k *keywords) Validate(ctx *jsonschema.ValidatorContext, value any) {
	if k.quantity != nil {
		if rule, _ := k.quantity.fault(value, nil); rule != "" {
			ctx.AddError(&kind.Format{Got: value, Want: k.quantity.what})
		}
	}
}

func keywordsOf(s *jsonschema.Schema) *keywords {
	for _, e := range s.Extensions {
		if k, ok := e.(*keywords); ok {
			return k
		}
	}
	return &keywords{}
}

// at returns the schema of the value at key, which is in no list.
func (s *Schema) at(key string) *jsonschema.Schema {
	at := s.root
	for part := range strings.SplitSeq(key, ".") {
		at = property(at, part)
	}
	return at
}

// property returns the schema of a member of an object; one that takes anything if none is known.
func property(s *jsonschema.Schema, name string) *jsonschema.Schema {
	if member := s.Properties[name]; member != nil {
		return member
	}
	return &jsonschema.Schema{}
}

// itemsOf returns the schema of each element; nil if s is not one of a list.
func itemsOf(s *jsonschema.Schema) *jsonschema.Schema {
	if items, ok := s.Items.(*jsonschema.Schema); ok {
		return items
	}
	return s.Items2020
}

// standIn returns what stands in for a value that cannot be understood: the strict side, or else the default; nil if s has neither.
func standIn(s *jsonschema.Schema) any {
	switch strict := keywordsOf(s).strict; {
	case strict != nil:
		return strict
	case isA(s, "object"):
		object := map[string]any{}
		for key, member := range s.Properties {
			if value := standIn(member); value != nil {
				object[key] = value
			}
		}
		return object
	case s.Default != nil:
		return *s.Default
	case isA(s, "array"):
		return []any{}
	}
	return nil
}

// complete returns value with the defaults in what it lacks, and each quantity as Go's types read it from JSON.
func complete(s *jsonschema.Schema, value any) any {
	if value == nil && s.Default != nil {
		value = *s.Default
	}
	if q := keywordsOf(s).quantity; q != nil && value != nil {
		return q.native(value)
	}
	switch value := value.(type) {
	case map[string]any:
		object := maps.Clone(value)
		for key, member := range s.Properties {
			if m := complete(member, value[key]); m != nil {
				object[key] = m
			}
		}
		return object
	case []any:
		list := slices.Clone(value)
		for i := range list {
			if items := itemsOf(s); items != nil {
				list[i] = complete(items, list[i])
			}
		}
		return list
	}
	return value
}

// isA reports whether s says that its values are of a type.
func isA(s *jsonschema.Schema, jsonType string) bool {
	if s.Types == nil {
		return jsonType == "object" && len(s.Properties) > 0
	}
	return slices.Contains(s.Types.ToStrings(), jsonType)
}

// text writes a value as the config would.
func text(value any) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
