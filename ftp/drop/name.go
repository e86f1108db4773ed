package drop

import (
	"fmt"
	"path"
	"strings"

	"github.com/ftpnode/ftpnode/internal/control"
)

// Where things stand on the volume. The directory of uploads under way is flat and its names are ours,
// so that nothing that a client does can make two uploads meet on one file.
const (
	dropDir    = "drop"         // folders, and files of other programs: drop/<user's directory>/<path>
	partialDir = "partial"      // all that is not finished:
	openDir    = "partial/open" // uploads under way, never trusted after a restart
	keptDir    = "partial/kept" // interrupted uploads, synced: kept/<user's directory>/<path>
)

const (
	maxName = 255  // bytes of one path element, as file systems have it
	maxPath = 4000 // bytes of a path below drop: PATH_MAX less what stands before it
	// maxDepth is how many elements a path has: each is looked at for each operation, under one lock for all users, and to reach
	// it those above it are walked again.
	maxDepth = 64
)

// clean makes a client's name, absolute or relative to the user's top, into a path below the top; "." is the
// top. It is confined: ".." at the top is the top.
//
// Names are bytes; no encoding is expected of them. Control characters are refused: they would be echoed
// in replies and listings, where a line break in a name forges a reply.
func clean(name string) (string, error) {
	p := path.Clean("/" + name)[1:]
	if p == "" {
		return ".", nil
	}
	return p, checkPath(p)
}

// checkPath checks a clean relative path.
func checkPath(p string) error {
	if len(p) > maxPath {
		return fmt.Errorf("%w: the path has %d bytes, at most %d are accepted", ErrName, len(p), maxPath)
	}
	if depth := strings.Count(p, "/") + 1; depth > maxDepth {
		return fmt.Errorf("%w: the path has %d levels, at most %d are accepted", ErrName, depth, maxDepth)
	}
	for element := range strings.SplitSeq(p, "/") {
		if len(element) > maxName {
			return fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrName, len(element), maxName)
		}
		if strings.ContainsFunc(element, control.Func(element)) {
			return fmt.Errorf("%w: %q holds a control character", ErrName, p)
		}
	}
	return nil
}

// ignored reports whether name is a temporary one, or of a file in a directory with one (as rsync and lftp make them). In a user's
// directory it is that below it: how that is called is none of the clients' doing.
func ignored(patterns []string, name string) bool {
	for element := range strings.SplitSeq(name, "/") {
		for _, pattern := range patterns {
			if ok, _ := path.Match(pattern, element); ok { // the patterns were checked
				return true
			}
		}
	}
	return false
}

// below reports whether p is dir or stands in it.
func below(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir) && p[len(dir)] == '/'
}

// keysBelow are the paths in m that are p or below it.
func keysBelow[V any](m map[string]V, p string) (paths []string) {
	for q := range m {
		if below(q, p) {
			paths = append(paths, q)
		}
	}
	return paths
}

// top is the first element of p: the directory over which files and directories are counted.
func top(p string) string {
	first, _, _ := strings.Cut(p, "/")
	return first
}

// ancestors lists the directories that p stands in, the top one first, without ".".
func ancestors(p string) []string {
	var dirs []string
	for i := range len(p) {
		if p[i] == '/' {
			dirs = append(dirs, p[:i])
		}
	}
	return dirs
}
