package outbox

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// FuzzRecovery opens an outbox whose journal and loose record hold anything, each line of the journal with its right checksum
// if sums says so. It opens, or refuses what a newer program wrote and changes nothing; and the file that stands there stays, in
// outbox/ or failed/, with its bytes.
func FuzzRecovery(f *testing.F) {
	const id, content = "00112233445566778899aabbccddeeff", "content"
	const base = "0000000000000007-" + id
	line := `{"seq":7,"id":"` + id + `","name":"a.csv","size":7,"lane":"x","from":"drop/a.csv","sent":["a"]}`
	for _, journal := range []string{
		"", `{"format":1,"next":8}`, `{"format":1,"next":8}` + "\n" + line, `{"format":1}` + "\n" + line + "\n" + line,
		`{"format":2}`, `{"format":1,"next":18446744073709551615}` + "\n" + line, line, "\n\n" + line, `{"format":1}` + "\n" + line[:40],
	} {
		f.Add([]byte(journal), true, []byte(nil))
		f.Add([]byte(journal), false, []byte(line))
	}
	f.Add([]byte(nil), true, []byte(`{"format":1,"seq":7,"id":"`+id+`","name":"a.csv","failure":{"reason":"r"}}`))
	f.Add([]byte(nil), true, []byte(`{"format":9}`))
	f.Fuzz(func(t *testing.T, journal []byte, sums bool, loose []byte) {
		if sums {
			lines := bytes.Split(journal, []byte("\n"))
			for i, line := range lines {
				lines[i] = fmt.Appendf(nil, "%08x %s", crc32.Checksum(line, castagnoli), line)
			}
			journal = append(bytes.Join(lines, []byte("\n")), '\n')
		}
		defer time.AfterFunc(20*time.Second, func() { panic(fmt.Sprintf("it hangs: %q %q", journal, loose)) }).Stop()
		fsys := disktest.New(1)
		for _, dir := range []string{"drop", "outbox", "failed"} {
			require.NoError(t, disk.MkdirAll(fsys, dir, 0o700))
		}
		for name, data := range map[string]string{"outbox/0000000000000001.journal": string(journal), "outbox/" + base + ".json": string(loose), "outbox/" + base + ".data": content} {
			require.NoError(t, disk.WriteFile(fsys, name, []byte(data), 0o600))
		}
		before := fsys.Files()
		o, err := Open(Options{FS: fsys, Deliverer: newCloud("a")})
		if err != nil {
			require.ErrorIs(t, err, errNewer)
			require.Equal(t, before, fsys.Files())
			return
		}
		for range o.Entries() {
		}
		require.NoError(t, disk.WriteFile(fsys, "drop/new", []byte("new"), 0o600))
		_, errs := o.Put(context.Background(), []Item{{Path: "drop/new", Name: "new"}})
		require.NoError(t, errs[0])
		require.NoError(t, o.Close())
		files := fsys.Files()
		stands := slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(name string) bool {
			return files[name] == content && strings.HasSuffix(name, ".data")
		})
		require.True(t, stands, "%v", slices.Collect(maps.Keys(files)))
	})
}
