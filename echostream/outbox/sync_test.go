//go:build proofs

package outbox

import (
	"testing"

	"github.com/ftpnode/ftpnode/internal/disk/disktest"
)

// TestEverySync takes long: go test -tags proofs -run TestEverySync ./echostream/outbox
func TestEverySync(t *testing.T) {
	disktest.EverySync(t, disktest.Options{Seeds: 20}, crashScenario)
}
