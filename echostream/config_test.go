package echostream

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMergeConfig(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, test := range []struct {
		name              string
		tenant, app, node *string
		want              string
	}{
		{"nothing", nil, nil, nil, `{}`},
		{"empty and null", text(""), text(" null "), text("{}"), `{}`},
		{"later layers win", text(`{"a":1,"b":1,"c":1}`), text(`{"b":2,"c":2}`), text(`{"c":3}`), `{"a":1,"b":2,"c":3}`},
		{"the whole value", text(`{"a":{"x":1,"y":2}}`), nil, text(`{"a":{"x":3}}`), `{"a":{"x":3}}`},
		{"a null value replaces too", text(`{"a":1}`), nil, text(`{"a":null}`), `{"a":null}`},
		{"numbers stay as they are", text(`{"a":12345678901234567890.10}`), nil, nil, `{"a":12345678901234567890.10}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := mergeConfig(layer{"tenant", "t", test.tenant}, layer{"app", "a", test.app}, layer{"node", "n", test.node})
			require.NoError(t, err)
			assert.Equal(t, test.want, string(got))
		})
	}
	_, err := mergeConfig(layer{"tenant", "acme", text(`["pa55"]`)}, layer{"app", "a", text(`"pa55"`)},
		layer{"node", "n", text(`{"password":"pa55"`)}, layer{"node", "m", text("7")})
	assert.ErrorIs(t, err, ErrInvalidConfig)
	assert.EqualError(t, err, "config of tenant \"acme\": an array, expected a JSON object\n"+
		"config of app \"a\": a string, expected a JSON object\n"+
		"config of node \"n\": not valid JSON, expected a JSON object\n"+
		"config of node \"m\": a number, expected a JSON object")
}
