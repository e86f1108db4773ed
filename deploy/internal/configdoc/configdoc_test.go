package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const small = `{"title": "T", "type": "object", "required": ["b"], "properties": {
  "ftp": {"type": "object", "required": ["users"], "properties": {
    "users": {"type": "array", "description": "Who.", "examples": [[{"name": "a"}]], "items": {"type": "object", "required": ["name"],
      "properties": {"name": {"type": "string", "description": "A | B.", "examples": ["x|y"]}}}},
    "passivePorts": {"type": "string", "description": "P.", "default": "4000-4001", "examples": ["5000"]}}},
  "title": {"type": "boolean", "description": "Not a keyword here.", "title": "gone", "default": false, "examples": [true]},
  "size": {"type": ["string", "integer"], "description": "S.", "default": "5GB", "examples": [7]},
  "wait": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$", "description": "W.", "default": "", "examples": ["1s"]},
  "count": {"type": "integer", "minimum": 1, "maximum": 9, "description": "C.", "default": 2, "examples": [3]},
  "how": {"enum": ["on", "off"], "description": "H.", "default": "on", "examples": ["off"]}}}`

func TestTable(t *testing.T) {
	schema, err := parse([]byte(small))
	require.NoError(t, err)
	got, err := table(schema)
	require.NoError(t, err)
	want := strings.Join([]string{
		"| Key | What it is | Values | Default | Example |",
		"|---|---|---|---|---|",
		"| `ftp.users` | Who. | list | **required** | `[{\"name\":\"a\"}]` |",
		"| `ftp.users[].name` | A \\| B. | text | **required** | `\"x\\|y\"` |",
		"| `ftp.passivePorts` | P. | text | `\"4000-4001\"` | `\"5000\"` |",
		"| `title` | Not a keyword here. | `true`, `false` | `false` | `true` |",
		"| `size` | S. | size | `\"5GB\"` | `7` |",
		"| `wait` | W. | duration | none | `\"1s\"` |",
		"| `count` | C. | 1 to 9 | `2` | `3` |",
		"| `how` | H. | `\"on\"`, `\"off\"` | `\"on\"` | `\"off\"` |",
	}, "\n") + "\n"
	assert.Equal(t, want, string(got))
}

func TestTableRefuses(t *testing.T) {
	for name, schema := range map[string]string{
		"no description": `{"properties": {"a": {"type": "string", "examples": ["x"]}}}`,
		"no example":     `{"properties": {"a": {"type": "string", "description": "A."}}}`,
		"unknown type":   `{"properties": {"a": {"type": "null", "description": "A.", "examples": [null]}}}`,
		"not a schema":   `{"properties": {"a": true}}`,
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parse([]byte(schema))
			require.NoError(t, err)
			_, err = table(o)
			assert.ErrorContains(t, err, "a: ")
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"a list": `[]`, "two values": `{} {}`, "a key twice": `{"a": 1, "a": 2}`, "no end": `{"a": [`, "nothing": ``,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse([]byte(text))
			assert.Error(t, err)
		})
	}
}

func TestInsert(t *testing.T) {
	doc := "before\n" + begin + "\nold\n" + end + "\nafter\n"
	got, err := insert([]byte(doc), []byte("new\n"))
	require.NoError(t, err)
	assert.Equal(t, "before\n"+begin+"\n\nnew\n\n"+end+"\nafter\n", string(got))
	again, err := insert(got, []byte("new\n"))
	require.NoError(t, err)
	assert.Equal(t, string(got), string(again))

	for name, doc := range map[string]string{
		"no lines":        "text\n",
		"the wrong order": end + "\n" + begin + "\n",
		"twice":           begin + "\n" + end + "\n" + begin + "\n" + end + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := insert([]byte(doc), []byte("new\n"))
			assert.ErrorContains(t, err, begin)
		})
	}
}

func TestTemplate(t *testing.T) {
	schema, err := parse([]byte(small))
	require.NoError(t, err)
	got, err := template(schema)
	require.NoError(t, err)
	assert.JSONEq(t, `{"type": "object", "required": ["b"], "properties": {
	  "ftp": {"type": "object", "required": ["users"], "properties": {
	    "users": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
	    "passivePorts": {"type": "string"}}},
	  "title": {"type": "boolean"}, "size": {"type": ["string", "integer"]},
	  "wait": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}, "count": {"type": "integer", "minimum": 1, "maximum": 9},
	  "how": {"enum": ["on", "off"]}}}`, string(got))

	schema.keys = append(schema.keys, "long")
	schema.values["long"] = strings.Repeat("x", templateLimit)
	_, err = template(schema)
	assert.ErrorContains(t, err, "4096")
}

func TestGenerate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deploy")
	require.NoError(t, os.Mkdir(dir, 0o755))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(text)
	}
	write("config.schema.json", small)
	write("CONFIG.md", begin+"\n"+end+"\n")
	assert.ErrorIs(t, generate(dir), os.ErrNotExist, "NODE_TYPE.md is missing")

	write("NODE_TYPE.md", "# Type\n")
	assert.ErrorContains(t, generate(dir), "NODE_TYPE.md: expected the lines")

	write("NODE_TYPE.md", "# Type\n"+begin+"\n"+end+"\n")
	require.NoError(t, generate(dir))
	assert.Contains(t, read("CONFIG.md"), "| `count` |")
	assert.Contains(t, read("NODE_TYPE.md"), "| `count` |")

	var variables struct {
		Readme, ConfigTemplate string
		PortRequirements       []struct{ ContainerPort int }
	}
	require.NoError(t, json.Unmarshal([]byte(read("register.variables.json")), &variables))
	assert.Equal(t, read("NODE_TYPE.md"), variables.Readme)
	assert.Equal(t, strings.TrimSpace(read("config.template.json")), variables.ConfigTemplate)
	assert.Len(t, variables.PortRequirements, 3)

	// Nothing is written when nothing changed.
	before := map[string]os.FileInfo{}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		before[e.Name()], err = e.Info()
		require.NoError(t, err)
	}
	require.NoError(t, generate(dir))
	for name, old := range before {
		now, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, old.ModTime(), now.ModTime(), name)
	}
}
