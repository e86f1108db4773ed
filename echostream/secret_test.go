package echostream

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSecretDoesNotShow(t *testing.T) {
	s := Secret("hunter2")
	holder := struct {
		S Secret
		P *Secret
		L []Secret
		M map[string]Secret
	}{s, &s, []Secret{s}, map[string]Secret{"k": s}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10s", "%T %[1]v"} {
		for _, v := range []any{s, &s, holder, &holder} {
			text := fmt.Sprintf(verb, v)
			assert.NotContains(t, text, "hunter2", verb)
			assert.NotContains(t, strings.ToLower(text), "68756e74", verb)
		}
	}
	assert.NotContains(t, string(mustJSON(t, holder)), "hunter2")
	assert.Equal(t, "hunter2", string(s))
	assert.Empty(t, Secret("").String())
	assert.Equal(t, "[redacted]", fmt.Sprint(s))
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}
