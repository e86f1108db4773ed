package echofile_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkMessage makes the message of a file: reading, hashing, base64, JSON.
func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 180 << 10} {
		b.Run(fmt.Sprint(size, "B"), func(b *testing.B) {
			content := bytes.Repeat([]byte("a;b;1;2\r\n"), size/9+1)[:size]
			e, c := entryOf("orders/2026/4711.csv", content), composerOf("auto")
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				m, err := c.Compose(context.Background(), e, opener(content), origin)
				require.NoError(b, err)
				require.Zero(b, m.Expires)
			}
		})
	}
}
