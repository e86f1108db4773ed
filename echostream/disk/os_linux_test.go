package disk

import (
	"testing"

	"golang.org/x/sys/unix"
)

// WithoutOpenat2 runs test on a system that does not know the call.
func WithoutOpenat2(t *testing.T, test func(t *testing.T)) {
	known := openat2
	defer func() { openat2 = known }()
	for name, errno := range map[string]error{"unknown": unix.ENOSYS, "forbidden": unix.EPERM} {
		openat2 = func(int, string, *unix.OpenHow) (int, error) { return 0, errno }
		t.Run(name, test)
	}
}
