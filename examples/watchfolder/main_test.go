package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ftpnode/ftpnode/echostream/node/nodetest"
)

func TestMain(m *testing.M) { nodetest.Main(m, main) }

func TestNode(t *testing.T) {
	t.Parallel()
	nodetest.Suite(t, func(*testing.T) nodetest.Bridge {
		return nodetest.Bridge{Data: "WATCHFOLDER_DATA", Config: `{"quiet": "20ms"}`, Feed: place}
	})
}

// place puts a file into the folder as a careful program does.
func place(_ context.Context, dir string, item nodetest.Item) error {
	in := filepath.Join(dir, folder)
	if err := os.MkdirAll(in, 0o777); err != nil {
		return err
	}
	temporary := filepath.Join(in, "."+item.Name)
	if err := os.WriteFile(temporary, item.Content, 0o666); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(in, item.Name))
}
