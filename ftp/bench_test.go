package ftp

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/ftp/drop"
)

// The client of these benchmarks is in the same process: what it allocates counts.

// unlogged keeps the test's log, which holds all that is said, out of the measurement.
func unlogged(o *Options, d *drop.Options) {
	o.Log, d.Log = slog.New(slog.DiscardHandler), slog.New(slog.DiscardHandler)
}

// renew gives the client its time again: a benchmark takes longer than a test.
func (c *client) renew() { c.conn.SetDeadline(time.Now().Add(patience)) }

// tryStore uploads outside of the test's own goroutine.
func (c *client) tryStore(name string, content []byte) error {
	c.renew()
	text, err := c.try(229, "EPSV")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(text, "(|||")
	port, _, _ := strings.Cut(rest, "|")
	host, _, _ := net.SplitHostPort(c.conn.RemoteAddr().String())
	data, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return err
	}
	defer data.Close()
	if _, err := c.try(150, "STOR "+name); err != nil {
		return err
	}
	_, err = data.Write(content)
	if err = errors.Join(err, data.Close()); err != nil {
		return err
	}
	_, _, err = c.text.ReadResponse(226)
	return err
}

func (c *client) try(code int, line string) (string, error) {
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		return "", err
	}
	_, text, err := c.text.ReadResponse(code)
	return text, err
}

// BenchmarkCommand is a command and its reply, over loopback: two that the session answers, and one that the engine does.
func BenchmarkCommand(b *testing.B) {
	for _, command := range []struct {
		line string
		code int
	}{{"NOOP", 200}, {"PWD", 257}, {"SIZE missing.csv", 550}} {
		b.Run(strings.Fields(command.line)[0], func(b *testing.B) {
			c := start(b, unlogged).login(b)
			b.ReportAllocs()
			for b.Loop() {
				c.do(command.code, "%s", command.line)
				c.renew()
			}
		})
	}
}

// BenchmarkUpload is a whole upload, from EPSV to the 226.
func BenchmarkUpload(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		for _, connections := range []int{1, 8} {
			b.Run(fmt.Sprintf("%dKiB-%dconnections", size>>10, connections), func(b *testing.B) {
				n := start(b, unlogged)
				content := noise(size)
				turns := make(chan int)
				done := make(chan error, connections)
				for range connections {
					c := n.login(b)
					go func() {
						var err error
						for i := range turns {
							if err == nil {
								err = c.tryStore(fmt.Sprintf("%d.csv", i), content)
							}
						}
						done <- err
					}()
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					turns <- i
				}
				close(turns)
				for range connections {
					require.NoError(b, <-done)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
			})
		}
	}
}

// BenchmarkList reads a directory of 1,000 files that wait.
func BenchmarkList(b *testing.B) {
	const files = 1000
	n := start(b, unlogged)
	c := n.login(b)
	c.renew()
	for i := range files {
		// With its size said, an upload waits for nothing.
		c.do(200, "ALLO 4")
		require.NoError(b, c.tryStore(fmt.Sprintf("%04d.csv", i), []byte("a;b\n")))
	}
	for _, command := range []string{"NLST", "LIST", "MLSD"} {
		b.Run(command, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.renew()
				require.Equal(b, files, strings.Count(c.fetch(command), "\n"))
			}
		})
	}
}
