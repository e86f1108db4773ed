package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// store keeps the files that arrive below one directory. Names come from messages: whatever they are, nothing is
// written outside of it (os.Root), and nothing that is there is written over.
type store struct {
	dir  string
	root *os.Root
}

func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &store{dir: dir, root: root}, nil
}

func (s *store) close() { s.root.Close() }

// temporary is where a file is written until its name is known to be its own.
const temporary = ".arriving"

// keep writes what decode gives into a file of that target's directory, and says which.
func (s *store) keep(target string, decode func(io.Writer) (echotest.File, error)) (file echotest.File, kept string, err error) {
	_ = s.root.Remove(temporary) // of a run that was killed
	f, err := s.root.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return file, "", err
	}
	defer s.root.Remove(temporary)
	file, err = decode(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return file, "", err
	}
	kept, err = s.place(path.Join(safeName(target), safePath(file.Name)))
	return file, kept, err
}

// place gives the temporary file its name, with a number if there is one of that name already.
func (s *store) place(name string) (string, error) {
	if err := s.root.MkdirAll(path.Dir(name), 0o750); err != nil {
		return "", err
	}
	ext := path.Ext(name)
	if ext == path.Base(name) {
		ext = "" // a hidden file
	}
	for n := 1; n < 100000; n++ {
		candidate := name
		if n > 1 {
			candidate = fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(name, ext), n, ext)
		}
		err := s.root.Link(temporary, candidate) // unlike a rename, it never replaces
		if !errors.Is(err, fs.ErrExist) {
			return path.Join(s.dir, candidate), err
		}
	}
	return "", fmt.Errorf("there are too many files named %q", name)
}

// safePath makes a relative path of a name in which nothing leads upwards.
func safePath(name string) string {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." && part != ".." {
			parts = append(parts, safeName(part))
		}
	}
	if len(parts) == 0 {
		return "unnamed"
	}
	return path.Join(parts...)
}

// safeName makes one element of a path that every file system takes and every terminal shows.
func safeName(part string) string {
	part = strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == utf8.RuneError || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, part)
	for len(part) > 200 { // room for a number
		_, width := utf8.DecodeLastRuneInString(part)
		part = part[:len(part)-width]
	}
	if part == "" || part == "." || part == ".." || part == temporary {
		return "_" + part
	}
	return part
}
