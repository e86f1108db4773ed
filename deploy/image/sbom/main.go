// Command sbom prints the software bill of materials of a Go program, as CycloneDX 1.5 JSON.
//
//	go run ./deploy/image/sbom ftpnode > ftpnode.cdx.json
//
// It reads what the linker has put into the program, so it lists exactly the modules that are in it, with the checksums of
// go.sum, and the standard library. The same program gives the same text.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

type bom struct {
	BOMFormat    string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Ref        string     `json:"bom-ref"`
	Type       string     `json:"type"` // application or library
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	PURL       string     `json:"purl"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"` // in hex
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sbom PROGRAM")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(file string, w io.Writer) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return err
	}
	if info.Main.Path == "" {
		return errors.New(file + " was built without modules")
	}
	program, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	b, err := describe(info, filepath.Base(file), program)
	if err != nil {
		return err
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(b)
}

// describe lists what a program is made of.
func describe(info *debug.BuildInfo, name string, program []byte) (bom, error) {
	digest := sha256.Sum256(program)
	purl := packageURL(info.Main.Path, info.Main.Version)
	main := component{
		Ref: purl, Type: "application", Name: name, Version: info.Main.Version, PURL: purl,
		Hashes: []hash{{"SHA-256", hex.EncodeToString(digest[:])}},
	}
	for _, s := range info.Settings {
		main.Properties = append(main.Properties, property{"go:build:" + s.Key, s.Value})
	}
	std := packageURL("std", strings.TrimPrefix(info.GoVersion, "go"))
	b := bom{
		BOMFormat: "CycloneDX", SpecVersion: "1.5", Version: 1, Metadata: metadata{main},
		Components:   []component{{Ref: std, Type: "library", Name: "std", Version: info.GoVersion, PURL: std}},
		Dependencies: []dependency{{Ref: purl, DependsOn: []string{std}}},
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := component{Type: "library", Name: m.Path, Version: m.Version, PURL: packageURL(m.Path, m.Version)}
		c.Ref = c.PURL
		if m.Sum != "" {
			// "h1:": a SHA-256 over the SHA-256 of each file, in base64.
			sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
			if err != nil {
				return bom{}, fmt.Errorf("the checksum %q of %s: %w", m.Sum, m.Path, err)
			}
			c.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum)}}
		}
		b.Components = append(b.Components, c)
		b.Dependencies[0].DependsOn = append(b.Dependencies[0].DependsOn, c.Ref)
	}
	return b, nil
}

// packageURL names a Go module as https://github.com/package-url/purl-spec says.
func packageURL(path, version string) string {
	purl := "pkg:golang/" + path
	if version != "" {
		purl += "@" + strings.ReplaceAll(version, "+", "%2B")
	}
	return purl
}
