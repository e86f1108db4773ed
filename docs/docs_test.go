// Package docs tests the repository's documentation: what it quotes is what the programs have.
package docs

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = ".."

// files are those of the repository whose name ends so, by path from its root.
func files(t *testing.T, ending string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "node_modules"):
			return fs.SkipDir
		case entry.Type().IsRegular() && strings.HasSuffix(path, ending):
			text, err := os.ReadFile(path)
			found[strings.TrimPrefix(path, root+"/")] = string(text)
			return err
		}
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}

// source is all of the programs' Go code but its tests.
func source(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for name, text := range files(t, ".go") {
		if !strings.HasSuffix(name, "_test.go") {
			all.WriteString(text)
		}
	}
	return all.String()
}

// missing calls report for each match of expr's first group in the docs that has fails.
func missing(t *testing.T, expr string, atLeast int, has func(doc, match string) bool) {
	t.Helper()
	pattern := regexp.MustCompile(expr)
	found := 0
	for name, text := range files(t, ".md") {
		for _, match := range pattern.FindAllStringSubmatch(text, -1) {
			found++
			if !has(name, match[1]) {
				t.Errorf("%s: %q is not there", name, match[1])
			}
		}
	}
	assert.GreaterOrEqual(t, found, atLeast, "the docs have such quotes")
}

// Files that the docs link to exist.
func TestLinks(t *testing.T) {
	missing(t, `\]\(([^)#:]+)(?:#[^)]*)?\)`, 20, func(doc, link string) bool {
		_, err := os.Stat(filepath.Join(root, filepath.Dir(doc), link))
		return err == nil
	})
}

// What the docs say to look for in the log, in two words or more, is what the program logs or answers.
func TestLogLines(t *testing.T) {
	code := source(t)
	missing(t, "`([A-Za-z]+(?: [a-z]+)+)`", 30, func(_, phrase string) bool {
		return phrase == "ftpnode has stopped" || phrase == "go generate" || strings.HasPrefix(phrase, "docker ") || strings.Contains(code, phrase)
	})
}

// Keys of the config that the docs name are in the schema.
func TestConfigKeys(t *testing.T) {
	var schema map[string]any
	require.NoError(t, json.Unmarshal([]byte(files(t, "config.schema.json")["deploy/config.schema.json"]), &schema))
	missing(t, "`((?:ftp|files|message|bulk|status)\\.[a-zA-Z.\\[\\]]+)`", 50, func(_, key string) bool {
		if key == "ftp.exe" {
			return true
		}
		node := schema
		for part := range strings.SplitSeq(key, ".") {
			name, item := strings.CutSuffix(part, "[]")
			properties, _ := node["properties"].(map[string]any)
			node, _ = properties[name].(map[string]any)
			if item {
				node, _ = node["items"].(map[string]any)
			}
		}
		return node != nil
	})
}

// Packages, programs and scripts that the docs run are there.
func TestCommands(t *testing.T) {
	missing(t, `(?m)(?:go (?:run|test|build|vet) (?:-[^ \n]+ )*|[^/.\w])(\./[a-z][\w/.-]*)`, 10, func(_, path string) bool {
		_, err := os.Stat(filepath.Join(root, strings.TrimSuffix(path, "...")))
		return err == nil
	})
	missing(t, "`((?:\\.ci|deploy/image)/[a-z.]+)[^`]*`", 3, func(_, path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	})
}

// Options of the programs that the docs show are defined.
func TestOptions(t *testing.T) {
	code := source(t)
	missing(t, "`--([a-z]+)[ `]", 4, func(_, option string) bool {
		return option == "push" || strings.Contains(code, `"`+option+`"`) // push is docker's
	})
}
