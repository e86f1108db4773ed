// Package house tests which package may import which: each is a room with one interface, and knows only what is below it.
package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/ftpnode/ftpnode/"

// Rooms are packages with all that is below them, but for rooms of their own. Every room may import internal, and what is below itself.
var mayImport = map[string][]string{
	"cmd/ftpnode":              {"deploy", "ftp", "ftp/drop", "echostream", "echostream/disk", "echostream/outbox", "echostream/node", "echostream/echofile"},
	"cmd":                      {"echostream/echotest", "echostream/disk", "echostream/outbox"}, // programs to test with; bench fills an outbox
	"ftp":                      {"echostream/disk"},
	"ftp/drop":                 {"echostream/disk", "echostream/outbox"},
	"echostream":               {},
	"echostream/disk":          {},
	"echostream/outbox":        {"echostream/disk"},
	"echostream/node":          {"echostream", "echostream/disk", "echostream/outbox"},
	"echostream/echofile":      {"echostream", "echostream/disk", "echostream/outbox"},
	"internal":                 {"echostream/disk"},
	"internal/outagetest":      {"echostream", "echostream/node", "echostream/echotest", "echostream/disk/disktest"},
	"deploy":                   {},
	"docs":                     {},
	"echostream/interop":       {},
	"echostream/echotest":      {"echostream"},                                                                                       // the wire's own packages, below internal
	"echostream/node/nodetest": {"echostream/echotest", "echostream", "echostream/disk", "echostream/echofile", "echostream/outbox"}, // a source, too
	"echostream/disk/disktest": {"echostream/disk"},
}

// testsMayImport is what the tests of a room may import besides: the rooms that its tests join, and what is made for tests.
var testsMayImport = map[string][]string{
	"cmd":                {"echostream"},
	"ftp":                {"ftp/drop", "echostream/outbox"}, // the server over the maildrop, as the node has it
	"deploy":             {"echostream/node"},               // whose defaults the docs repeat
	"echostream/node":    {"echostream/echofile"},
	"echostream/interop": {"echostream", "echostream/echofile"},
	"internal":           {"echostream"},
}

// forTests are rooms that only tests, and programs for tests, import.
var forTests = []string{"echostream/echotest", "echostream/disk/disktest", "echostream/node/nodetest", "internal/outagetest"}

// tags are those of all files.
const tags = "cgroup,image,interop,matrix,nat,proofs,powercut,world"

type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func list(t *testing.T) (packages []listed) {
	t.Helper()
	command := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "-tags", tags, module+"...")
	out, err := command.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		t.Fatalf("go list: %s", failed.Stderr)
	}
	require.NoError(t, err)
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else {
			require.NoError(t, err)
		}
		packages = append(packages, p)
	}
}

// roomOf is the room of a package, the innermost one.
func roomOf(importPath string) (room string, ok bool) {
	path, ok := strings.CutPrefix(importPath, module)
	if !ok {
		return "", false
	}
	for r := range mayImport {
		if (path == r || strings.HasPrefix(path, r+"/")) && len(r) > len(room) {
			room = r
		}
	}
	return room, true
}

// arrow reports whether a package of one room may import one of another.
func arrow(from, to string, test bool) bool {
	allowed := slices.Concat(mayImport[from], []string{from, "internal"})
	if test {
		allowed = slices.Concat(allowed, testsMayImport[from], forTests)
	}
	return slices.Contains(allowed, to)
}

func TestWhoMayImportWhom(t *testing.T) {
	packages := list(t)
	require.Greater(t, len(packages), 30)
	for _, p := range packages {
		from, ok := roomOf(p.ImportPath)
		require.True(t, ok)
		require.NotEmpty(t, from, "%s is in no room: say in mayImport what it may import", p.ImportPath)
		for _, imports := range []struct {
			paths []string
			test  bool
		}{{p.Imports, false}, {slices.Concat(p.TestImports, p.XTestImports), true}} {
			for _, path := range imports.paths {
				if to, ours := roomOf(path); ours {
					assert.True(t, arrow(from, to, imports.test), "%s imports %s (test: %t)", p.ImportPath, path, imports.test)
				}
			}
		}
	}
}

// What the test is for cannot slip in by a slip in the test.
func TestArrows(t *testing.T) {
	for _, c := range []struct {
		from, to string
		test, ok bool
	}{
		{"ftp", "echostream/disk", false, true},
		{"ftp", "ftp/drop", false, false},
		{"ftp", "ftp/drop", true, true},
		{"ftp", "echostream", false, false},
		{"ftp/drop", "echostream", false, false},
		{"ftp/drop", "ftp", false, false},
		{"echostream/outbox", "echostream", false, false},
		{"echostream/outbox", "echostream", true, false},
		{"echostream/outbox", "echostream/disk/disktest", false, false},
		{"echostream/outbox", "echostream/disk/disktest", true, true},
		{"echostream", "echostream/disk", false, false},
		{"echostream/node", "ftp", true, false},
		{"echostream/node", "echostream/echofile", false, false},
		{"cmd/ftpnode", "echostream/node", false, true},
		{"cmd/ftpnode", "echostream/echotest", false, false},
		{"internal", "echostream", false, false},
	} {
		assert.Equal(t, c.ok, arrow(c.from, c.to, c.test), "%+v", c)
	}
	for path, room := range map[string]string{
		"ftp": "ftp", "ftp/internal/evidence": "ftp", "ftp/drop": "ftp/drop", "echostream/internal/srp": "echostream",
		"echostream/disk/disktest": "echostream/disk/disktest", "cmd/ftpnode": "cmd/ftpnode", "cmd/ftpnode/internal/copybackend": "cmd/ftpnode", "cmd/bench": "cmd",
	} {
		got, ok := roomOf(module + path)
		assert.True(t, ok)
		assert.Equal(t, room, got)
	}
	_, ours := roomOf("github.com/stretchr/testify/assert")
	assert.False(t, ours)
}
