package outagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// Network is an HTTP client that hands each request to the cloud in the same goroutine.
type Network struct {
	cloud *echotest.Cloud
	down  atomic.Bool
	// Skew is how far the machine's clock is ahead, in nanoseconds.
	Skew atomic.Int64
	// NoSQS has connections to SQS refused. Lose is how many more of its replies are lost, which the client waits for in vain.
	NoSQS atomic.Bool
	Lose  atomic.Int64
}

var errRefused = errors.New("connection refused")

// Cut cuts the network, or mends it.
func (n *Network) Cut(down bool) { n.down.Store(down) }

func (n *Network) now() time.Time { return time.Now().Add(time.Duration(n.Skew.Load())) }

// Do is that of http.Client.
func (n *Network) Do(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if n.down.Load() {
		return nil, fmt.Errorf("dial tcp %s: %w", r.URL.Host, errRefused)
	}
	sends := strings.HasSuffix(r.Header.Get("X-Amz-Target"), "SendMessageBatch")
	if sends && n.NoSQS.Load() {
		return nil, fmt.Errorf("dial tcp %s: %w", r.URL.Host, errRefused)
	}
	in := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), bytes.NewReader(body))
	in.Header, in.ContentLength = r.Header.Clone(), int64(len(body))
	if r.Host != "" {
		in.Host = r.Host
	}
	if in.Header.Get("Content-Length") == "" && len(body) > 0 {
		in.Header.Set("Content-Length", fmt.Sprint(len(body))) // some signatures have it
	}
	answer := httptest.NewRecorder()
	if !n.serve(answer, in) {
		return nil, io.ErrUnexpectedEOF
	}
	if sends && n.Lose.Add(-1) >= 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	response := answer.Result()
	response.Request = r
	return response, nil
}

// serve reports whether there was an answer.
func (n *Network) serve(w http.ResponseWriter, r *http.Request) (answered bool) {
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	n.cloud.ServeHTTP(w, r)
	return true
}
