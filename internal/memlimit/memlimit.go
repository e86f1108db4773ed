// Package memlimit says how much memory this process may use, and keeps Go's heap within it.
//
// The kernel kills what uses more than its cgroup's limit, and a container that is killed is started again, into the same. So
// whoever can tell how much it will need asks [Bytes] first. Cgroups of both versions are read, as the kernel describes them in
// Documentation/admin-guide/cgroup-v1/memory.rst (memory.limit_in_bytes) and cgroup-v2.rst (memory.max).
//
// Limits: elsewhere than on Linux nothing is known. A limit that is changed later counts from the next call on.
package memlimit

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// Bytes is how many bytes this process may use: the smallest limit of the cgroups that it is in, and of what the machine has.
// It is 0 if nothing is known.
func Bytes() int64 { return limit(os.DirFS("/")) }

// limit is Bytes as the files in root say.
func limit(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	lower := func(n int64, err error) {
		if err == nil && n > 0 && n < least {
			least = n
		}
	}
	lower(machine(root))
	for dir, file := range groups(root) { // all of them below sys/fs/cgroup
		// A limit binds all that is below it. A container that sees itself as the top is named by its path on the
		// host, which it does not have: then the top is its own.
		for ; dir != "sys/fs"; dir = path.Dir(dir) {
			lower(number(root, path.Join(dir, file)))
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

// groups are the directories of the cgroups that limit this process's memory, with the name of the file that says how.
func groups(root fs.FS) map[string]string {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	dirs := map[string]string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		id, rest, _ := strings.Cut(line, ":")
		controllers, name, ok := strings.Cut(rest, ":")
		name = path.Clean("/" + name)
		switch {
		case !ok:
		case id == "0" && controllers == "":
			dirs[path.Join("sys/fs/cgroup", name)] = "memory.max"
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			dirs[path.Join("sys/fs/cgroup/memory", name)] = "memory.limit_in_bytes"
		}
	}
	return dirs
}

// number reads a file with a number; "max", as cgroups of version 2 say for none, is an error.
func number(root fs.FS, name string) (int64, error) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// machine is what the machine has.
func machine(root fs.FS) (int64, error) {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			n, err := strconv.ParseInt(fields[1], 10, 54)
			return n << 10, err
		}
	}
	return 0, fs.ErrNotExist
}

// Confine makes Go collect garbage before its heap reaches nine tenths of Bytes, unless GOMEMLIMIT says otherwise. By itself Go
// lets garbage grow as large as what is in use, whether there is room for that or not.
func Confine() {
	if n := Bytes(); n > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(n - n/10)
	}
}
