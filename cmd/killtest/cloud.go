package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

var targets = []string{"archive", "erp"}

// arrival is a message that an edge took, decoded.
type arrival struct {
	edge       string
	trackingID string
	dedupID    string
	at         time.Time // by the cloud's clock
	name       string
	size       int64
	sha256     string
	bulk       bool
	err        error // it could not be decoded
}

// cloud is the EchoStream that the node delivers to, with a record of all that arrived.
type cloud struct {
	*echotest.Cloud
	trigger *trigger
	sqs     *http.Server
	address string // where the node reaches SQS: through us

	power    sync.RWMutex // a power cut of the node waits for the requests under way
	decoding chan echotest.Received
	decoded  sync.WaitGroup

	mu       sync.Mutex
	arrivals map[string][]arrival // by edge, in order
	audits   map[string][]echotest.AuditRecord
	overtook map[overtaking]bool
}

// overtaking is a message that may arrive before another, on one edge: both were sent in this order in one batch, and SQS took
// only the later one.
type overtaking struct{ edge, late, early string }

func newCloud(config string, t *trigger, dir string) (*cloud, error) {
	c := &cloud{
		trigger: t, decoding: make(chan echotest.Received, 10_000), arrivals: map[string][]arrival{},
		audits: map[string][]echotest.AuditRecord{}, overtook: map[overtaking]bool{},
	}
	var err error
	c.Cloud, err = echotest.StartCloud(echotest.Options{
		Targets: targets, Tenant: echotest.Tenant{Audit: true},
		Node:       echotest.Node{Config: config, LoggingLevel: "DEBUG"},
		DropBodies: true, DiscardObjects: true, TempDir: dir, // it may be a long run
		OnMessage: func(m echotest.Received) {
			c.decoding <- m
			t.hit(accepted)
		},
		OnAudit: func(r echotest.AuditRecord) {
			c.mu.Lock()
			c.audits[r.TrackingID] = append(c.audits[r.TrackingID], r)
			c.mu.Unlock()
			t.hit(audited)
		},
	})
	if err != nil {
		return nil, err
	}
	c.decoded.Go(func() {
		for m := range c.decoding {
			c.keep(m)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.Close()
		return nil, err
	}
	c.address = "http://" + listener.Addr().String()
	c.sqs = &http.Server{Handler: http.HandlerFunc(c.serveSQS), ReadHeaderTimeout: time.Minute}
	go func() { _ = c.sqs.Serve(listener) }() // until Close
	return c, nil
}

// Close ends the cloud and waits for what is to be decoded.
func (c *cloud) Close() {
	if c.sqs != nil {
		c.sqs.Close()
	}
	c.Cloud.Close()
	close(c.decoding)
	c.decoded.Wait()
}

func (c *cloud) keep(m echotest.Received) {
	f, err := c.Decode(context.Background(), m, io.Discard)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrivals[m.Edge] = append(c.arrivals[m.Edge], arrival{
		edge: m.Edge, trackingID: m.TrackingID, dedupID: m.DedupID, at: m.Sent,
		name: f.Name, size: f.Size, sha256: f.SHA256, bulk: f.Bulk, err: err,
	})
}

// arrived counts the copies of a content on an edge so far.
func (c *cloud) arrived(edge, sha256 string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.arrivals[edge] {
		if a.sha256 == sha256 {
			n++
		}
	}
	return n
}

// serveSQS passes a request on to the cloud and notes where SQS itself breaks the order.
func (c *cloud) serveSQS(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	c.trigger.hit(sending)
	c.power.RLock()
	defer c.power.RUnlock()
	if c.trigger.isCut() {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := &recorded{ResponseWriter: w}
	c.ServeHTTP(answer, r) // may abort: then there was no answer, and nothing failed in part
	c.noteBatch(body, answer.body.Bytes())
}

// recorded keeps an answer.
type recorded struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (r *recorded) Write(b []byte) (int, error) {
	r.body.Write(b)
	return r.ResponseWriter.Write(b)
}

func (c *cloud) noteBatch(request, answer []byte) {
	var batch struct {
		QueueURL string `json:"QueueUrl"`
		Entries  []struct {
			ID                string `json:"Id"`
			MessageAttributes map[string]struct{ StringValue string }
		}
	}
	type id struct {
		ID string `json:"Id"`
	}
	var result struct{ Failed, Successful []id }
	if json.Unmarshal(request, &batch) != nil || json.Unmarshal(answer, &result) != nil || len(result.Failed) == 0 {
		return
	}
	edge := c.edgeOf(batch.QueueURL)
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, late := range batch.Entries {
		if !slices.Contains(result.Failed, id{late.ID}) {
			continue
		}
		for _, early := range batch.Entries[i+1:] {
			if slices.Contains(result.Successful, id{early.ID}) {
				c.overtook[overtaking{edge, late.MessageAttributes["trackingId"].StringValue, early.MessageAttributes["trackingId"].StringValue}] = true
			}
		}
	}
}

// edgeOf is the target whose queue has this URL.
func (c *cloud) edgeOf(queue string) string {
	for _, target := range targets {
		if c.AddEdge("", target) == queue { // it is there: this only tells its URL
			return target
		}
	}
	return ""
}

// environment is the node's.
func (c *cloud) environment(data, ftp string) []string {
	env := c.Environment()
	env["AWS_ENDPOINT_URL_SQS"] = c.address
	env["FTPNODE_DATA"] = data
	env["FTPNODE_FTP_ADDR"] = ftp
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.SortFunc(list, strings.Compare)
	return list
}
