//go:build !linux

package nodetest

import "testing"

func SmallVolume(t *testing.T) string {
	t.Skip("a volume that is full or read-only is made on Linux")
	return ""
}

func remount(*testing.T, string, bool) {}
