package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/race"
)

// The bridge in new-bridge.md is what a reader gets who copies it: it compiles, and its own tests pass.
func TestNewBridge(t *testing.T) {
	page, err := os.ReadFile("new-bridge.md")
	require.NoError(t, err)
	dir := t.TempDir()
	files := regexp.MustCompile("(?m)^`([A-Za-z._]+)`\n\n```([a-z]+)\n((?s:.*?))^```$").FindAllStringSubmatch(string(page), -1)
	languages := map[string]string{}
	for _, f := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, f[1]), []byte(f[3]), 0o600))
		languages[f[1]] = f[2]
	}
	blocks := regexp.MustCompile("(?m)^```([a-z]+)$").FindAllStringSubmatch(string(page), -1)
	shell := 0
	for _, b := range blocks {
		if b[1] == "sh" {
			shell++
		}
	}
	require.Len(t, blocks, len(files)+shell, "every block but the commands is a file with a name")
	require.Equal(t, map[string]string{
		"go.mod": "mod", "config.schema.json": "json", "main.go": "go", "serve.go": "go", "compose.go": "go", "main_test.go": "go", "Dockerfile": "dockerfile",
	}, languages)

	top, err := filepath.Abs(root)
	require.NoError(t, err)
	run := func(name string, args ...string) string {
		c := exec.Command(name, args...)
		c.Dir = dir
		c.Env = append(os.Environ(), "GOFLAGS=-mod=mod -buildvcs=false") // a folder of its own, whatever the caller's flags
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s %s:\n%s", name, strings.Join(args, " "), out)
		return string(out)
	}
	run("go", "mod", "edit", "-replace", "github.com/ftpnode/ftpnode="+top)
	sums, err := os.ReadFile(filepath.Join(root, "examples", "watchfolder", "go.sum"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600))
	run("go", "mod", "tidy")
	assert.Empty(t, run("gofmt", "-l", "."), "the page's code is formatted")
	race.QuickExit(t)
	run("go", slices.Concat([]string{"vet"}, race.Flags(), []string{"./..."})...)
	run("go", slices.Concat([]string{"test", "-count=1", "-run", "TestNode/(Delivers|Killed|Stopped)$"}, race.Flags(), []string{"./..."})...)

	// Who reads the other example's Dockerfile and this one finds the same steps.
	text, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	require.NoError(t, err)
	other, err := os.ReadFile(filepath.Join(root, "examples", "hl7mllp", "Dockerfile"))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "COPY") || strings.HasPrefix(line, "USER") || strings.HasPrefix(line, "VOLUME") || strings.HasPrefix(line, "ENTRYPOINT") {
			assert.Contains(t, string(other), strings.ReplaceAll(line, "lines", "hl7mllp"))
		}
	}
}

// The commands in new-bridge.md are ones that a shell can read.
func TestNewBridgeCommands(t *testing.T) {
	page, err := os.ReadFile("new-bridge.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?m)^```sh\n((?s:.*?))^```$").FindAllStringSubmatch(string(page), -1)
	require.GreaterOrEqual(t, len(blocks), 2)
	for _, b := range blocks {
		c := exec.Command("bash", "-n")
		c.Stdin = strings.NewReader(b[1])
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}
