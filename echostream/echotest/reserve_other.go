//go:build !unix

package echotest

import "io"

// reserve cannot keep a port here.
func reserve(string) io.Closer { return nil }
