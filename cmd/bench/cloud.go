package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/internal/program"
)

// cloudArgument makes this program the cloud: it is a process of its own, so that its CPU and memory are nobody else's. It reads
// one cloudOptions and then questions from stdin, and answers each on stdout, all in JSON. It ends with its stdin.
const cloudArgument = "cloud"

type cloudOptions struct {
	Targets []string
	Config  string
	// CountOnly keeps nothing of what arrives. By default, messages and objects are kept, and can be verified.
	CountOnly bool
}

type question struct {
	// Wait waits until each edge has that many messages, Seconds at most.
	Wait    int
	Seconds float64
	// Verify holds the messages of each edge against the names: each once, with the content of its name.
	Verify []string
	Size   int64 // of each file
	// Arrivals asks when each file was at the last of its edges.
	Arrivals bool
}

type answer struct {
	Environment map[string]string // the first answer
	KeysURL     string            // where Cognito's keys are, for the Python way
	Count       int               // at the edge that has least
	First, Last time.Time         // when the first message arrived, and the last: where Wait is set, the one that was waited for
	Arrivals    map[string]time.Time
	Problem     string
}

func serveCloud(in io.Reader, out io.Writer) error {
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	var o cloudOptions
	if err := questions.Decode(&o); err != nil {
		return err
	}
	c, err := echotest.StartCloud(echotest.Options{
		Targets: o.Targets, Node: echotest.Node{Config: o.Config}, DropBodies: o.CountOnly, DiscardObjects: true,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	first := answer{Environment: c.Environment()}
	first.KeysURL = fmt.Sprintf("%s/%s/.well-known/jwks.json", c.URL(), first.Environment["USER_POOL_ID"])
	if err := answers.Encode(first); err != nil {
		return err
	}
	for {
		var q question
		if err := questions.Decode(&q); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(answerTo(c, o, q)); err != nil {
			return err
		}
	}
}

func answerTo(c *echotest.Cloud, o cloudOptions, q question) (a answer) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(q.Seconds*float64(time.Second)))
	defer cancel()
	for i, edge := range o.Targets {
		if q.Wait > 0 {
			if _, err := c.WaitMessages(ctx, edge, q.Wait); err != nil {
				a.Problem = err.Error()
			}
		}
		if n := c.EdgeStats(edge).Messages; i == 0 || n < a.Count {
			a.Count = n
		}
	}
	for _, edge := range o.Targets {
		messages := c.Messages(edge)
		if n := len(messages); n > 0 {
			if last := messages[min(n, max(q.Wait, 1))-1].Sent; last.After(a.Last) {
				a.Last = last
			}
			if first := messages[0].Sent; a.First.IsZero() || first.Before(a.First) {
				a.First = first
			}
		}
		if q.Verify == nil && !q.Arrivals {
			continue
		}
		if a.Arrivals == nil {
			a.Arrivals = map[string]time.Time{}
		}
		missing := map[string]bool{}
		for _, name := range q.Verify {
			missing[name] = true
		}
		for _, m := range messages {
			f, err := c.Decode(context.Background(), m, io.Discard)
			switch {
			case err != nil:
				a.Problem = err.Error()
			case q.Verify != nil && !missing[f.Name]:
				a.Problem = fmt.Sprintf("%s arrived at %s a second time, or was never acknowledged", f.Name, edge)
			case q.Verify != nil && f.SHA256 != checksum(f.Name, q.Size):
				a.Problem = fmt.Sprintf("%s arrived at %s with other bytes", f.Name, edge)
			}
			delete(missing, f.Name)
			if m.Sent.After(a.Arrivals[f.Name]) {
				a.Arrivals[f.Name] = m.Sent
			}
		}
		for name := range missing {
			a.Problem = fmt.Sprintf("%d files, %s for one, did not arrive at %s", len(missing), name, edge)
			break
		}
	}
	return a
}

// checksum is the SHA-256 of a name's content.
func checksum(name string, size int64) string {
	h, from := sha256.New(), content(name, size)
	for piece := from(); piece != nil; piece = from() {
		h.Write(piece)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// cloud is that process, as bench sees it.
type cloud struct {
	first   answer
	mu      sync.Mutex
	send    *json.Encoder
	receive *json.Decoder
	stdin   io.Closer
	cmd     *exec.Cmd
}

func (b *bench) startCloud(o cloudOptions) (*cloud, error) {
	c := &cloud{cmd: exec.Command(b.self, cloudArgument)}
	c.cmd.Stderr = b.log
	program.OwnGroup(c.cmd)
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.stdin, c.send, c.receive = stdin, json.NewEncoder(stdin), json.NewDecoder(stdout)
	if err := errors.Join(c.send.Encode(o), c.receive.Decode(&c.first)); err != nil {
		c.stop()
		return nil, fmt.Errorf("starting the cloud: %w", err)
	}
	return c, nil
}

// ask fails if the cloud is gone, or says that something is wrong.
func (c *cloud) ask(ctx context.Context, q question) (a answer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = c.cmd.Process.Kill() }) // it may have long to wait
	defer stop()
	if err := errors.Join(c.send.Encode(q), c.receive.Decode(&a)); err != nil {
		return a, fmt.Errorf("asking the cloud: %w", err)
	}
	if a.Problem != "" {
		err = errors.New(a.Problem)
	}
	return a, err
}

func (c *cloud) stop() {
	c.stdin.Close()
	stop := time.AfterFunc(stopTime, func() { _ = c.cmd.Process.Kill() })
	defer stop.Stop()
	_ = c.cmd.Wait()
}
