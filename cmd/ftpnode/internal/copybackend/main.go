// Command copybackend copies the drop's adapter into the tests of packages that cannot import it: main cannot be imported at all,
// and what imports ftp cannot be imported by tests inside of ftp. It is run by go generate in cmd/ftpnode.
package main

import (
	"bytes"
	"go/format"
	"log"
	"os"
	"path/filepath"
	"regexp"
)

const source = "backend.go"

var (
	generate = regexp.MustCompile(`(?m)^// The FTP server's tests.*\n//go:generate .*\n\n`)
	imported = regexp.MustCompile(`(?m)^\t"github.com/ftpnode/ftpnode/ftp"\n`)
	prefix   = regexp.MustCompile(`\bftp\.`)
)

func main() {
	log.SetFlags(0)
	text, err := os.ReadFile(source)
	if err != nil {
		log.Fatal(err)
	}
	for _, dir := range []string{"ftp", "ftp/matrix", "ftp/world"} {
		if err := os.WriteFile(filepath.Join("../..", dir, "maildrop_test.go"), copied(text, filepath.Base(dir)), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// copied is the adapter as a part of the package.
func copied(text []byte, pkg string) []byte {
	text = generate.ReplaceAll(text, nil)
	head := "// Code generated from cmd/ftpnode/" + source + " by copybackend. DO NOT EDIT.\n\n"
	switch pkg {
	case "ftp":
		text = prefix.ReplaceAll(imported.ReplaceAll(text, nil), nil)
	default:
		head += "//go:build " + pkg + "\n\n"
	}
	text = bytes.Replace(text, []byte("package main\n"), []byte("package "+pkg+"\n"), 1)
	formatted, err := format.Source(append([]byte(head), text...))
	if err != nil {
		log.Fatal(err)
	}
	return formatted
}
