//go:build cgroup

package ftp

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"

	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/cgrouptest"
	"github.com/ftpnode/ftpnode/internal/memlimit"
)

// The tests here take Linux, root, and a memory controller of cgroups, of version 1 or 2, in which they may make a group:
//
//	go test -tags cgroup -run Cgroup ./ftp
//
// Each makes one of its own, which holds one process that it has started, and removes it.

const (
	inCgroup    = "FTPNODE_TEST_CGROUP" // the directory of the cgroup that the helper process enters
	argonMemory = "FTPNODE_TEST_ARGON"  // KiB
)

func argonOf(password string, kib uint32) string {
	salt, enc := []byte("0123456789abcdef"), base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=1,p=4$%s$%s", kib, enc(salt), enc(argon2.IDKey([]byte(password), salt, 1, kib, 4, 32)))
}

// TestCgroupHelper is the process in the cgroup: a server whose six users have one hash each, until its standard input ends.
func TestCgroupHelper(t *testing.T) {
	dir := os.Getenv(inCgroup)
	if dir == "" {
		return // it is no test of its own
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0))
	memlimit.Confine()
	n := start(t, func(o *Options, d *drop.Options) {
		o.Log = slog.New(slog.DiscardHandler)
		d.Log = o.Log
		o.Users = nil
		for i, hash := range strings.Split(os.Getenv(argonMemory), " ") {
			o.Users = append(o.Users, User{Name: fmt.Sprint("dock", i), PasswordHash: hash})
		}
	})
	fmt.Println("address", n.addr)
	io.Copy(io.Discard, os.Stdin)
}

// TestCgroupHashing runs a server in 256 MiB, where wrong passwords come from many addresses, and six devices log in at once.
func TestCgroupHashing(t *testing.T) {
	const container = 256 << 20
	for _, kib := range []uint32{65536, 131072} {
		t.Run(fmt.Sprint("m=", kib), func(t *testing.T) {
			const devices = 6
			hashes := make([]string, devices) // made here: the server's process is not to do more than its own
			for i := range hashes {
				hashes[i] = argonOf("pass", kib)
			}
			g := cgrouptest.New(t, container)
			server := exec.Command(os.Args[0], "-test.run=^TestCgroupHelper$")
			server.Env = append(os.Environ(), inCgroup+"="+g.Dir, argonMemory+"="+strings.Join(hashes, " "))
			stdin, err := server.StdinPipe()
			require.NoError(t, err)
			stdout, err := server.StdoutPipe()
			require.NoError(t, err)
			server.Stderr = os.Stderr
			require.NoError(t, server.Start())
			defer server.Process.Kill()
			n := &node{}
			for lines := bufio.NewScanner(stdout); n.addr == "" && lines.Scan(); {
				n.addr, _ = strings.CutPrefix(lines.Text(), "address ")
				if n.addr == lines.Text() {
					n.addr = ""
				}
			}
			require.NotEmpty(t, n.addr)
			idle := g.Peak()

			var clients sync.WaitGroup
			failures := make(chan error, 100)
			login := func(from, user, password string, want int) {
				clients.Go(func() {
					conn, err := dialFrom(from, n.addr)
					if err != nil {
						failures <- err
						return
					}
					defer conn.Close()
					c := &visitor{conn: conn, text: textproto.NewConn(conn)}
					if _, err = c.expect(220); err == nil {
						_, err = c.do(331, "USER "+user)
					}
					if err == nil {
						conn.SetDeadline(time.Now().Add(3 * patience)) // they go one by one
						_, err = fmt.Fprintf(conn, "PASS %s\r\n", password)
					}
					if err == nil {
						_, err = c.expect(want)
					}
					if err != nil {
						failures <- fmt.Errorf("%s from %s: %w", user, from, err)
					}
				})
			}
			for i := range 8 {
				login(attacker(i), []string{"dock0", "nobody"}[i%2], fmt.Sprint("wrong", i), 530)
			}
			for i := range devices {
				login(attacker(100+i), fmt.Sprint("dock", i), "pass", 230)
			}
			clients.Wait()
			close(failures)
			for err := range failures {
				t.Error(err)
			}
			most := g.Peak()
			t.Logf("idle %d MiB, at most %d MiB", idle>>20, most>>20)
			require.Less(t, most, int64(kib)<<10+48<<20, "one hash at a time, and its memory is given back")
			require.NoError(t, stdin.Close())
			require.NoError(t, server.Wait(), "it lives until it is told to end")
		})
	}
}
