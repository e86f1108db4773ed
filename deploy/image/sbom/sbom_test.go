package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The test's own program is one. Its linker knows no modules but the main one.
func TestSBOM(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	var first, second bytes.Buffer
	require.NoError(t, run(program, &first))
	require.NoError(t, run(program, &second))
	assert.Equal(t, first.String(), second.String())
	var b bom
	require.NoError(t, json.Unmarshal(first.Bytes(), &b))
	assert.Equal(t, "CycloneDX", b.BOMFormat)
	assert.Contains(t, b.Metadata.Component.PURL, "pkg:golang/github.com/ftpnode/ftpnode")
}

func TestDescribe(t *testing.T) {
	b, err := describe(&debug.BuildInfo{
		GoVersion: "go1.26.0",
		Main:      debug.Module{Path: "example.com/node", Version: "v1.0.0+dirty"},
		Deps: []*debug.Module{
			{Path: "example.com/a", Version: "v1.2.3", Sum: "h1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
			{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/c", Version: "v2.0.0"}},
		},
		Settings: []debug.BuildSetting{{Key: "GOARCH", Value: "arm64"}},
	}, "node", []byte("program"))
	require.NoError(t, err)
	main := b.Metadata.Component
	assert.Equal(t, "pkg:golang/example.com/node@v1.0.0%2Bdirty", main.PURL)
	assert.Equal(t, []hash{{"SHA-256", "1310ca2c8932dbd118668bd97442558a3e1f546b5e15c69699dfbd6024f548d8"}}, main.Hashes)
	assert.Equal(t, []property{{"go:build:GOARCH", "arm64"}}, main.Properties)
	var purls []string
	for _, c := range b.Components {
		purls = append(purls, c.PURL)
	}
	assert.Equal(t, []string{"pkg:golang/std@1.26.0", "pkg:golang/example.com/a@v1.2.3", "pkg:golang/example.com/c@v2.0.0"}, purls)
	assert.Equal(t, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", b.Components[1].Hashes[0].Content)
	assert.Equal(t, []dependency{{main.Ref, purls}}, b.Dependencies)

	_, err = describe(&debug.BuildInfo{Deps: []*debug.Module{{Path: "example.com/a", Sum: "h1:no base64"}}}, "node", nil)
	assert.ErrorContains(t, err, "example.com/a")
}

func TestNoGoProgram(t *testing.T) { assert.Error(t, run("sbom_test.go", new(bytes.Buffer))) }
