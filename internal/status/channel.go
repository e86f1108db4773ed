package status

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// socketName is the channel's, in the node's data directory.
const socketName = "status.socket"

// Listen opens the channel of the node whose data are in dir: a Unix socket of mode 0600. The caller holds the lock of dir, so a socket
// that stands there is a dead node's. Where the volume takes no sockets (some shares of a host do not), it is in a directory of
// its own in memory (/dev/shm), which is the container's as well.
func Listen(dir string) (net.Listener, error) {
	l, err := listenIn(dir)
	if err == nil {
		return l, nil
	}
	if other, errOther := sharedMemory(dir, true); errOther == nil {
		if l, errOther := listenIn(other); errOther == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("opening the channel for status in %s: %w", dir, err)
}

func listenIn(dir string) (net.Listener, error) {
	address, done, err := shortPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(address); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // its path may be short for this call only
	if err := os.Chmod(address, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return listener{l, filepath.Join(dir, socketName)}, nil
}

// listener removes its socket.
type listener struct {
	net.Listener
	path string
}

func (l listener) Close() error {
	os.Remove(l.path) // if it stays, the next node removes it
	return l.Listener.Close()
}

func dial(ctx context.Context, dir string) (net.Conn, error) {
	conn, err := dialIn(ctx, dir)
	if err == nil {
		return conn, nil
	}
	if other, errOther := sharedMemory(dir, false); errOther == nil {
		if conn, errOther := dialIn(ctx, other); errOther == nil {
			return conn, nil
		}
	}
	return nil, err
}

func dialIn(ctx context.Context, dir string) (net.Conn, error) {
	address, done, err := shortPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", address)
}

// maxAddress is how long the path of a Unix socket may be: 108 bytes on Linux, 104 on others, with their zero.
const maxAddress = 103

// shortPath is a path of the socket in dir that fits into its address. It holds until done is called.
func shortPath(dir string) (address string, done func(), err error) {
	if address = filepath.Join(dir, socketName); len(address) <= maxAddress {
		return address, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), socketName), func() { f.Close() }, nil
}

// sharedMemory is the directory in memory that stands in for dir. It must be this user's alone: anybody may make one of its name.
func sharedMemory(dir string, make bool) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	other := fmt.Sprintf("/dev/shm/echostream-node-%x", sha256.Sum256([]byte(dir)))
	if make {
		if err := os.Mkdir(other, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return other, ownedAlone(other)
}

// Serve answers on the channel until ctx ends.
func Serve(ctx context.Context, l net.Listener, source Source) error {
	server := &http.Server{Handler: channel{source}.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// channel is the node's side.
type channel struct{ source Source }

func (c channel) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /report", func(w http.ResponseWriter, _ *http.Request) {
		r := ReportOf(c.source)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r)
	})
	for path, act := range map[string]func(string) error{
		"/retry": c.source.Retry, "/discard": c.source.Discard, "/accept": c.source.Accept,
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, req *http.Request) {
			if err := act(req.URL.Query().Get("id")); err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
			}
		})
	}
	return mux
}

// ReportOf is source's report, judged.
func ReportOf(source Source) Report {
	r := source.Report()
	r.Judge()
	return r
}

// ErrNoNode says that no node answers on the channel.
var ErrNoNode = errors.New("the running node cannot be asked")

// Client asks the node whose data are in a directory.
type Client struct{ http http.Client }

// NewClient makes a client for the node whose data are in dir.
func NewClient(dir string) *Client {
	return &Client{http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) },
		},
	}}
}

// Report is the node's report, judged.
func (c *Client) Report(ctx context.Context) (Report, error) {
	var r Report
	body, err := c.do(ctx, http.MethodGet, "/report")
	if err == nil {
		err = json.Unmarshal(body, &r)
	}
	return r, err
}

// Retry, Discard and Accept do what those of Source do.
func (c *Client) Retry(ctx context.Context, id string) error   { return c.act(ctx, "/retry", id) }
func (c *Client) Discard(ctx context.Context, id string) error { return c.act(ctx, "/discard", id) }
func (c *Client) Accept(ctx context.Context, id string) error  { return c.act(ctx, "/accept", id) }

func (c *Client) act(ctx context.Context, path, id string) error {
	_, err := c.do(ctx, http.MethodPost, path+"?id="+url.QueryEscape(id))
	return err
}

func (c *Client) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(req)
	if err != nil {
		if e := new(url.Error); errors.As(err, &e) {
			err = e.Err // without an address that means nothing to people
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("none runs there: %w", err)
		}
		return nil, fmt.Errorf("%w: %w", ErrNoNode, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoNode, err)
	case response.StatusCode != http.StatusOK:
		return nil, errors.New(strings.TrimSpace(string(body)))
	}
	return bytes.TrimSpace(body), nil
}
