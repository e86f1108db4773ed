package echostream

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// layer is one of the configs that make up a node's.
type layer struct {
	kind, name string
	config     *string // JSON text, or nil
}

// mergeConfig merges JSON objects, shallowly: a key of a later layer replaces the whole value of an earlier one. No
// config, an empty text and null count as an empty object.
func mergeConfig(layers ...layer) (json.RawMessage, error) {
	merged := map[string]json.RawMessage{}
	var problems []error
	for _, l := range layers {
		text := strings.TrimSpace(value(l.config))
		if text == "" {
			continue
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			// The value stays out of the error: a config holds passwords.
			problems = append(problems, fmt.Errorf("config of %s %q: %s, expected a JSON object", l.kind, l.name, whatIs(text)))
			continue
		}
		maps.Copy(merged, object)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, &configError{err}
	}
	return json.Marshal(merged)
}

type configError struct{ error }

func (e *configError) Is(target error) bool { return target == ErrInvalidConfig }

func whatIs(text string) string {
	if !json.Valid([]byte(text)) {
		return "not valid JSON"
	}
	switch text[0] {
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	default:
		return "a number"
	}
}
