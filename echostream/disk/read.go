package disk

import (
	"io"
	"os"
)

// ReadFile reads a small file whole, or its first most bytes.
func ReadFile(fsys FS, name string, most int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only: nothing can get lost
	return io.ReadAll(io.LimitReader(f, most))
}
