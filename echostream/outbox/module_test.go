package outbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/race"
)

// A bridge is a module of its own: all that the example needs must be open to it.
func TestBridgeInAModuleOfItsOwn(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	dir := t.TempDir()
	for to, from := range map[string]string{"go.mod": "go.mod", "go.sum": "go.sum", "bridge_test.go": "echostream/outbox/example_test.go"} {
		data, err := os.ReadFile(filepath.Join(root, from))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, to), data, 0o600))
	}
	for _, args := range [][]string{
		{"mod", "edit", "-module=example.org/bridge", "-require=github.com/ftpnode/ftpnode@v0.0.0", "-replace=github.com/ftpnode/ftpnode=" + root},
		slices.Concat([]string{"test", "-mod=mod"}, race.Flags(), []string{"."}),
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %v:\n%s", args, out)
	}
}
