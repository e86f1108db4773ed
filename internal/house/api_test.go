package house

import (
	"bytes"
	"flag"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/api anew: the public API has changed on purpose")

// public are the packages that programs in other modules use.
var public = []string{
	"echostream", "echostream/disk", "echostream/disk/disktest", "echostream/echofile", "echostream/echotest", "echostream/node",
	"echostream/node/nodeconfig", "echostream/node/nodetest", "echostream/outbox",
}

// What other modules can name of these packages is in testdata/api, so that a change of it is seen, and meant.
func TestPublicAPI(t *testing.T) {
	for _, p := range public {
		t.Run(p, func(t *testing.T) {
			golden := filepath.Join("testdata", "api", strings.ReplaceAll(p, "/", "_")+".txt")
			got := api(t, p)
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), got,
				"the public API of %s has changed: if that is meant, say so in CHANGELOG.md and run go test ./internal/house -run TestPublicAPI -update", p)
		})
	}
}

// api lists the exported declarations of a package as it is on Linux, without comments.
func api(t *testing.T, dir string) string {
	t.Helper()
	platform := build.Default
	platform.GOOS, platform.GOARCH, platform.BuildTags = "linux", "amd64", nil
	found, err := platform.ImportDir(filepath.Join("..", "..", filepath.FromSlash(dir)), 0)
	require.NoError(t, err)
	positions := token.NewFileSet()
	var files []*ast.File
	for _, name := range append(found.GoFiles, found.CgoFiles...) {
		f, err := parser.ParseFile(positions, filepath.Join(found.Dir, name), nil, 0) // no comments
		require.NoError(t, err)
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(positions, files, module+dir)
	require.NoError(t, err)
	var out bytes.Buffer
	out.WriteString("package " + p.Name + "\n")
	declare := func(d ast.Decl) {
		var text bytes.Buffer
		require.NoError(t, printer.Fprint(&text, positions, d))
		out.WriteString("\n")
		for line := range strings.Lines(text.String()) {
			if body := strings.TrimLeft(line, "\t"); strings.TrimSpace(body) != "" { // where blank lines and columns are is for the comments to say
				out.WriteString(line[:len(line)-len(body)] + strings.Join(strings.Fields(body), " ") + "\n")
			}
		}
	}
	values := func(all []*doc.Value) {
		for _, v := range all {
			declare(v.Decl)
		}
	}
	functions := func(all []*doc.Func) {
		for _, f := range all {
			f.Decl.Body = nil
			declare(f.Decl)
		}
	}
	values(p.Consts)
	values(p.Vars)
	functions(p.Funcs)
	for _, named := range p.Types {
		declare(named.Decl)
		values(named.Consts)
		values(named.Vars)
		functions(named.Funcs)
		functions(named.Methods)
	}
	return out.String()
}

// What the list leaves out, it leaves out on purpose.
func TestPublicPackages(t *testing.T) {
	var found []string
	for _, p := range list(t) {
		path, ok := strings.CutPrefix(p.ImportPath, module)
		if ok && strings.HasPrefix(path, "echostream") && !strings.Contains(path, "internal") && path != "echostream/interop" {
			found = append(found, path)
		}
	}
	assert.ElementsMatch(t, public, found)
}
