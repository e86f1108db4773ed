package race

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// Flags are those of the go command with which a test builds or tests other packages: as it was built itself, so that go's cache has most of it.
func Flags() []string {
	if Enabled {
		return []string{"-race"}
	}
	return nil
}

// QuickExit has the programs that a test starts, which Build has built, end at once: by default, the race detector has each sleep for a second first.
func QuickExit(t interface{ Setenv(key, value string) }) {
	t.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
}

// Build builds the program of a package into dir, with Flags, and returns the binary's path.
func Build(dir, pkg string) (string, error) {
	binary := filepath.Join(dir, path.Base(pkg))
	args := append([]string{"build", "-buildvcs=false", "-ldflags=-s -w", "-o", binary}, Flags()...)
	if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}
