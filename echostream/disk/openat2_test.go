//go:build linux

package disk_test

import (
	"testing"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

func TestWithoutOpenat2(t *testing.T) {
	disk.WithoutOpenat2(t, func(t *testing.T) {
		t.Run("conformance", TestOSConformance)
		t.Run("held", TestHeldConformance)
		t.Run("symlinks", TestOSSymlinksDoNotLeadOut)
	})
}
