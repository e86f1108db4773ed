package page

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const docFile = "../../../docs/status.md"

// What docs/status.md shows is what the programs print. UPDATE=1 writes it there.
func TestDoc(t *testing.T) {
	text, err := os.ReadFile("../testdata/status.txt")
	require.NoError(t, err)
	var metrics strings.Builder
	metrics.WriteString("| Metric | What it is |\n|---|---|\n")
	for _, m := range all {
		fmt.Fprintf(&metrics, "| `%s%s` | %s |\n", prefix, m.name, m.help)
	}
	doc, err := os.ReadFile(docFile)
	require.NoError(t, err)
	want := replaced(t, replaced(t, string(doc), "status", "```\n"+string(text)+"```\n"), "metrics", metrics.String())
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(docFile, []byte(want), 0o644))
	}
	assert.Equal(t, want, string(doc), "UPDATE=1 writes it")
}

// replaced is doc with another text between the marks of a name.
func replaced(t *testing.T, doc, name, text string) string {
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	before, rest, ok := strings.Cut(doc, begin)
	_, after, ok2 := strings.Cut(rest, end)
	require.True(t, ok && ok2, "%s has the marks of %s", docFile, name)
	return before + begin + text + end + after
}
