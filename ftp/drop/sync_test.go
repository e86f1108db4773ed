//go:build proofs

package drop

import (
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// Each sync is needed, and so is its place before the rename or unlink that follows it.
func TestEverySync(t *testing.T) {
	opts := crashOptions()
	opts.Seeds = 2
	opts.Harmless = map[string]string{
		"rename in drop.(*Session).resume ahead of syncdir in drop.(*Drop).User via disk.MkdirAll":  "two different things",
		"unlink in drop.(*Drop).removeKept ahead of syncdir in drop.(*Drop).User via disk.MkdirAll": "two different things",
		"unlink in drop.(*Drop).clearOpen ahead of syncdir in drop.Open via disk.MkdirAll":          "two different things",
		"unlink in drop.(*Drop).remove ahead of syncdir in drop.(*dirSyncs).sync":                   "the deleted file need not be durable before",
		"without syncdir in drop.(*Drop).User via disk.MkdirAll":                                    "Commit syncs it again; this is for other programs, which may sync only what they put there",
		"without syncdir in drop.Open via disk.MkdirAll":                                            "User syncs drop again, and what is lost with partial was not acknowledged",
	}
	synctest.Test(t, func(t *testing.T) { disktest.EverySync(t, opts, newLife) })
}

// The syncs of directories are all in one place, for EverySync. What each of its uses protects:
func TestEveryUseOfDirSync(t *testing.T) {
	for use, dir := range map[string]string{
		"the upload's directory, after Commit":             "drop/u",
		"the one above it, by User and after Commit":       "drop",
		"the parent, after Mkdir":                          "drop/u/d",
		"the new directory, after a rename":                "drop/u/renamed",
		"the directory, after a removal":                   "drop/u/deleted",
		"partial/open, before a resumed upload is written": openDir,
		"partial/kept, when an interrupted upload is void": keptDir + "/u",
	} {
		t.Run(use, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mutant := &mutant{TB: t}
				done := make(chan struct{})
				go func() {
					defer close(done)
					opts := crashOptions()
					opts.Seeds = 16 // few of them show it; the first one ends the search
					if strings.HasPrefix(dir, partialDir) {
						opts.Seeds = 40 // fewer still, of a shorter life
					}
					disktest.EveryCrash(mutant, opts, func() disktest.Scenario {
						l := &life{files: map[string]*sent{}}
						run := l.runNamespace
						if strings.HasPrefix(dir, partialDir) {
							run = l.runResumed
						}
						return l.scenario(func(fsys *disktest.FS) error {
							fsys.DropSync(func(op disktest.Op) bool { return op.Kind == disktest.SyncDir && op.Path == dir })
							return run(fsys)
						})
					})
				}()
				<-done
				require.True(t, mutant.failed, "no crash shows that this sync is missing")
			})
		})
	}
}

// mutant notes that a test fails, as it should, and ends it at the first failure.
type mutant struct {
	testing.TB
	failed bool
}

func (m *mutant) Helper()             {}
func (m *mutant) Logf(string, ...any) {}
func (m *mutant) Errorf(string, ...any) {
	m.failed = true
	runtime.Goexit()
}
func (m *mutant) Fatalf(format string, args ...any) {
	m.TB.Errorf(format, args...) // the scenario itself is broken
	runtime.Goexit()
}
