package main

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
				p, err := c.compose(context.Background(), e, opener(content))
				require.NoError(b, err)
				require.False(b, p.bulk)
			}
		})
	}
}

// BenchmarkAttributes makes what an audit record says of a file.
func BenchmarkAttributes(b *testing.B) {
	content := []byte("a;b\r\n1;2\r\n")
	p, err := composerOf("auto").compose(context.Background(), entryOf("4711.csv", content), opener(content))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		require.Len(b, p.facts.attributes(), 8)
	}
}
