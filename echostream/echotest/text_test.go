package echotest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// A text is what encoding/json makes of it.
func FuzzText(f *testing.F) {
	for _, seed := range []string{`"a"`, `"{\"name\":\"a.csv\"}"`, `"\\\/\"\\"`, `"\u00e9\n\ud83d\udcc4 é"`, `null`, `1`, `""`, "\"\xff\"", `"a\"\ud800"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		var want struct{ A string }
		var got struct{ A text }
		in := []byte(`{"A":` + value + `}`)
		err := json.Unmarshal(in, &want)
		require.Equal(t, err == nil, json.Unmarshal(in, &got) == nil)
		if err == nil {
			require.Equal(t, want.A, string(got.A))
		}
	})
}
