package compat

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func schema(t *testing.T, text string) any {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal([]byte(text), &value))
	return value
}

func TestBreaks(t *testing.T) {
	tests := []struct {
		name, old, new string
		want           []string
	}{
		{"the same", `{"type": "object", "properties": {"a": {"enum": ["x"], "minLength": 1}}}`,
			`{"type": "object", "properties": {"a": {"enum": ["x"], "minLength": 1}}}`, nil},
		{"only explained otherwise", `{"title": "A", "default": 1, "$comment": "c", "examples": [1], "$id": "i"}`,
			`{"title": "B", "description": "D", "default": 2, "$schema": "s"}`, nil},
		{"a key added", `{"additionalProperties": false, "properties": {"a": {}}}`,
			`{"additionalProperties": false, "properties": {"a": {}, "b": {"type": "string"}}}`, nil},
		{"a key added where any was allowed", `{"properties": {"a": {}}}`,
			`{"properties": {"a": {}, "b": {"type": "string"}}}`, []string{`b: the type must now be "string"`}},
		{"a key added that takes anything", `{"properties": {"a": {}}}`, `{"properties": {"a": {}, "b": {"title": "B"}}}`, nil},
		{"a key removed", `{"properties": {"a": {}, "b": {}}}`, `{"properties": {"a": {}}}`, []string{"b: the key is gone"}},
		{"a key renamed, deep down", `{"properties": {"a": {"properties": {"b": {}}}}}`,
			`{"properties": {"a": {"properties": {"c": {}}}}}`, []string{"a.b: the key is gone"}},
		{"all keys removed", `{"properties": {"a": {}}}`, `{}`, []string{"a: the key is gone"}},
		{"other keys forbidden", `{"properties": {"a": {}}}`, `{"properties": {"a": {}}, "additionalProperties": false}`,
			[]string{"(the config): keys other than those named are no longer allowed"}},
		{"other keys allowed", `{"additionalProperties": false}`, `{}`, nil},
		{"other keys bounded", `{"additionalProperties": {"type": "integer"}}`, `{"additionalProperties": {"type": "integer", "minimum": 1}}`,
			[]string{"*: minimum is now 1"}},
		{"patterns of keys", `{}`, `{"patternProperties": {"^a": {"type": "string"}}}`, []string{"(the config): patternProperties has changed"}},
		{"the program's bounds changed", `{"x-duration": ["1s", "1h"]}`, `{"x-duration": ["2s", "1h"]}`, []string{`(the config): x-duration has changed to ["2s","1h"]`}},
		{"the program's bounds given", `{"description": "From 1B to 1GB."}`, `{"x-size": ["1B", "1GB"], "x-strict": "1GB", "x-otherwise": "No limit", "writeOnly": true}`, nil},
		{"an enum narrowed", `{"enum": ["x", "y"]}`, `{"enum": ["x"]}`, []string{`(the config): the value "y" is no longer allowed`}},
		{"an enum widened", `{"enum": ["x"]}`, `{"enum": ["y", "x"]}`, nil},
		{"an enum dropped", `{"enum": ["x"]}`, `{}`, nil},
		{"an enum given", `{"type": "string"}`, `{"type": "string", "enum": ["x"]}`, []string{`(the config): only some values are allowed now: ["x"]`}},
		{"an enum made one value", `{"enum": ["x", "y"]}`, `{"const": "x"}`, []string{`(the config): the value "y" is no longer allowed`}},
		{"one value made an enum", `{"const": "x"}`, `{"enum": ["x", "y"]}`, nil},
		{"a minimum raised", `{"minimum": 1}`, `{"minimum": 2}`, []string{"(the config): minimum is now 2, tighter than 1"}},
		{"a minimum lowered", `{"minimum": 1}`, `{"minimum": 0}`, nil},
		{"a minimum of 0 given", `{}`, `{"minimum": 0}`, []string{"(the config): minimum is now 0"}},
		{"a maximum lowered", `{"maximum": 9}`, `{"maximum": 8.5}`, []string{"(the config): maximum is now 8.5, tighter than 9"}},
		{"a maximum raised", `{"maximum": 9}`, `{"maximum": 10}`, nil},
		{"a maximum dropped", `{"maximum": 9}`, `{}`, nil},
		{"an exclusive maximum given", `{}`, `{"exclusiveMaximum": 10}`, []string{"(the config): exclusiveMaximum is now 10"}},
		{"a length bounded", `{}`, `{"maxLength": 5, "minLength": 0}`, []string{"(the config): maxLength is now 5"}},
		{"a length at least 1", `{}`, `{"minLength": 1}`, []string{"(the config): minLength is now 1"}},
		{"fewer items", `{"maxItems": 5}`, `{"maxItems": 4}`, []string{"(the config): maxItems is now 4, tighter than 5"}},
		{"more properties", `{"minProperties": 1}`, `{"minProperties": 2}`, []string{"(the config): minProperties is now 2, tighter than 1"}},
		{"a bound that is no number", `{"minimum": 1}`, `{"minimum": "1"}`, []string{`(the config): minimum is "1", expected a number`}},
		{"a key newly required", `{"required": ["a"]}`, `{"required": ["a", "b"]}`, []string{"b: the key is now required"}},
		{"a key required for the first time", `{}`, `{"required": ["b"]}`, []string{"b: the key is now required"}},
		{"a key no longer required", `{"required": ["a", "b"]}`, `{"required": ["b"]}`, nil},
		{"a type gone", `{"type": ["string", "integer"]}`, `{"type": "string"}`, []string{"(the config): the type integer is no longer allowed"}},
		{"a type more", `{"type": "string"}`, `{"type": ["string", "integer"]}`, nil},
		{"whole numbers made numbers", `{"type": "integer"}`, `{"type": "number"}`, nil},
		{"numbers made whole", `{"type": "number"}`, `{"type": "integer"}`, []string{"(the config): the type number is no longer allowed"}},
		{"a pattern changed", `{"pattern": "^a"}`, `{"pattern": "^b"}`, []string{`(the config): pattern has changed to "^b"`}},
		{"a pattern given", `{}`, `{"pattern": "^b"}`, []string{`(the config): pattern has changed to "^b"`}},
		{"a pattern dropped", `{"pattern": "^a"}`, `{}`, nil},
		{"a format given", `{}`, `{"format": "uri"}`, []string{`(the config): format has changed to "uri"`}},
		{"a keyword that it does not know", `{}`, `{"if": {}, "$ref": "#/a"}`, []string{`(the config): $ref has changed to "#/a"`, `(the config): if has changed to {}`}},
		{"oneOf changed", `{"oneOf": [{"required": ["a"]}]}`, `{"oneOf": [{"required": ["b"]}]}`, []string{`(the config): oneOf has changed to [{"required":["b"]}]`}},
		{"oneOf dropped", `{"oneOf": [{"required": ["a"]}]}`, `{}`, nil},
		{"items narrowed", `{"properties": {"a": {"items": {"type": "string"}}}}`, `{"properties": {"a": {"items": {"type": "string", "maxLength": 3}}}}`,
			[]string{"a.[]: maxLength is now 3"}},
		{"items given", `{"type": "array"}`, `{"type": "array", "items": {"type": "string"}}`, []string{`[]: the type must now be "string"`}},
		{"items as a list", `{"items": {}}`, `{"items": [{}]}`, []string{"(the config): items has changed"}},
		{"keys' names bounded", `{}`, `{"propertyNames": {"maxLength": 3}}`, []string{"(its keys): maxLength is now 3"}},
		{"items must differ", `{"uniqueItems": false}`, `{"uniqueItems": true}`, []string{"(the config): the items must now differ"}},
		{"items may be the same", `{"uniqueItems": true}`, `{"uniqueItems": false}`, nil},
		{"a dependency given", `{}`, `{"dependencies": {"a": ["b"]}}`, []string{"a: the key now needs b"}},
		{"a dependency more", `{"dependencies": {"a": ["b"]}}`, `{"dependencies": {"a": ["b", "c"]}}`, []string{"a: the key now needs c"}},
		{"a dependency less", `{"dependencies": {"a": ["b", "c"]}}`, `{"dependencies": {"a": ["b"]}}`, nil},
		{"a dependency on a schema", `{"dependencies": {"a": ["b"]}}`, `{"dependencies": {"a": {"required": ["b"]}}}`, []string{"a: what the key needs has changed"}},
		{"nothing allowed", `{"properties": {"a": {}}}`, `{"properties": {"a": false}}`, []string{"a: nothing is allowed any more"}},
		{"anything allowed", `{"properties": {"a": false, "b": {"type": "string"}}}`, `{"properties": {"a": {}, "b": true}}`, nil},
		{"not a schema", `{}`, `[]`, []string{"(the config): the schema is [], expected an object or a boolean"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, Breaks(schema(t, tt.old), schema(t, tt.new)))
		})
	}
}
