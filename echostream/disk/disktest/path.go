package disktest

import (
	"io/fs"
	"path"
	"strings"
	"syscall"
)

// maxName is the longest name of a file in bytes, as on most file systems.
const maxName = 255

// clean is the shortest form of a name.
func clean(name string) string { return path.Clean(name) }

// find walks to name. n is nil if only its last part is missing; at.dir is nil if name is the top.
func (v *volume) find(name string) (at slot, n *inode, err error) {
	if name == "" {
		return slot{}, nil, syscall.ENOENT
	}
	if strings.HasPrefix(name, "/") {
		return slot{}, nil, fs.ErrInvalid
	}
	if strings.ContainsRune(name, 0) {
		return slot{}, nil, syscall.EINVAL
	}
	n = v.root
	at.name = "."
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case n == nil:
			if part == "" { // a slash at the end
				continue
			}
			return slot{}, nil, syscall.ENOENT
		case !n.isDir():
			return slot{}, nil, syscall.ENOTDIR
		case part == "" || part == ".":
		case part == "..":
			if n = n.parent; n == nil {
				return slot{}, nil, fs.ErrInvalid // leaves the tree
			}
			at = slot{name: "."}
		case len(part) > maxName:
			return slot{}, nil, syscall.ENAMETOOLONG
		default:
			at = slot{dir: n, name: part}
			n = n.names[part]
		}
	}
	return at, n, nil
}

func (v *volume) findDir(name string) (*inode, error) {
	_, n, err := v.find(name)
	switch {
	case err != nil:
		return nil, err
	case n == nil:
		return nil, syscall.ENOENT
	case !n.isDir():
		return nil, syscall.ENOTDIR
	}
	return n, nil
}
