package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

const (
	healsAfter = 15 * time.Minute // a faulty disk
	quietTime  = 10 * time.Second // the drop's default for files that it found at the start
	expiry     = 3 * time.Hour    // of interrupted uploads
)

// world is what outlives a crash beside the disk: the clients, and EchoStream. The node in it is the real one but for FTP and
// HTTP: drop, outbox and deliverer on one simulated volume.
type world struct {
	client client
	// retry is the outbox's shortest and longest pause. Its length is left to chance, so that only the shortest one lets
	// operations come in one order.
	retry, longest time.Duration
	// faulty: the disk fails, for a while. What fails at the start is tried again, as the node does.
	faulty bool
	// delivered is how long clients wait for their files to be delivered. By default, they do not.
	delivered time.Duration

	mu      sync.Mutex
	fs      *disktest.FS // of this life
	lives   int
	edges   map[string]*edge
	audited map[string]bool // by tracking id
	bDown   int             // so many more calls of Send to b fail
	aLost   int             // the reply to the so-manieth next Send to a is lost
	noAudit int             // so many more calls of Audit fail
	wrong   []error
}

// edge is a queue: what has reached it, in order.
type edge struct {
	ids      []string
	contents []string
}

func (e *edge) has(id string) bool { return slices.Contains(e.ids, id) }

// place is where a content stands, or -1.
func (e *edge) place(content string) int { return slices.Index(e.contents, content) }

func newWorld() *world {
	w := &world{retry: 1, longest: 1, edges: map[string]*edge{"a": {}, "b": {}}, audited: map[string]bool{},
		bDown: 2, aLost: 2, noAudit: 1}
	w.client.files = map[string]*sent{}
	return w
}

func (w *world) disk() *disktest.FS {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fs
}

// Each call takes its own odd time, so that no two end in the same moment and the node's operations come in one order.
var callTimes = map[string]time.Duration{"a": 1000137, "b": 1300411, "audit": 1700853}

// call waits as long as a call takes, and reports whether somebody is there to hear the answer.
func (w *world) call(ctx context.Context, what string) bool {
	timer := time.NewTimer(callTimes[what]) // fake time
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return !w.disk().IsCut()
	}
}

var errAway = errors.New("EchoStream is away")

// Send implements cloud. After an error what follows in the batch is not taken.
func (w *world) Send(ctx context.Context, _ *echostream.Definition, queue string, messages []echostream.Message) []error {
	errs := slices.Repeat([]error{errAway}, len(messages))
	if !w.call(ctx, queue) {
		return errs
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if queue == "b" && w.bDown > 0 {
		w.bDown--
		return errs
	}
	lost := false
	if queue == "a" {
		w.aLost--
		lost = w.aLost == 0
	}
	for i, m := range messages {
		content, err := w.contentOf(m)
		if err != nil {
			w.wrong = append(w.wrong, err)
		}
		if strings.HasPrefix(content, refusedByAll) || queue == "b" && strings.HasPrefix(content, refusedByB) {
			errs[i] = echostream.Permanent(errors.New("never"))
			continue
		}
		w.arrived(queue, m.TrackingID, content)
		errs[i] = nil
	}
	if lost {
		return slices.Repeat([]error{errAway}, len(messages))
	}
	return errs
}

// arrived notes a message. One that is there already is dropped, as SQS does with deduplication ids.
func (w *world) arrived(queue, id, content string) {
	e := w.edges[queue]
	if i := slices.Index(e.ids, id); i >= 0 {
		if e.contents[i] != content {
			w.wrong = append(w.wrong, fmt.Errorf("%s was sent to %s with two contents", id, queue))
		}
		return
	}
	e.ids, e.contents = append(e.ids, id), append(e.contents, content)
}

// contentOf reads a message, and tells what is wrong with it.
func (w *world) contentOf(m echostream.Message) (string, error) {
	var body struct {
		Name                 string    `json:"name"`
		ContentLength        int       `json:"contentLength"`
		ModificationDateTime time.Time `json:"modificationDateTime"`
		Content              []byte    `json:"content"`
		Metadata             metadata  `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(m.Body), &body); err != nil {
		return "", err
	}
	content := string(body.Content)
	f := w.client.files[content]
	switch {
	case f == nil:
		return content, fmt.Errorf("%s was sent with bytes that nobody has uploaded: %.20q... (%d bytes)", body.Name, content, len(content))
	case !slices.Contains(f.names, "/"+body.Name):
		return content, fmt.Errorf("%s was sent as %s", f.names, body.Name)
	case body.ContentLength != len(content) || body.Metadata.User != "u" || body.Metadata.SHA256 != sum(content):
		return content, fmt.Errorf("%s was sent with a wrong length, user or checksum: %+v", body.Name, body.Metadata)
	case "/"+body.Name == renamedTo && !w.fs.IsCut() && w.unbroken() && !body.ModificationDateTime.Equal(mfmt):
		return content, fmt.Errorf("%s was sent with the time %v", body.Name, body.ModificationDateTime)
	}
	return content, nil
}

// unbroken reports whether this is the first life, with a sound disk; w.mu is held.
func (w *world) unbroken() bool { return !w.faulty && w.lives == 1 }

// Audit implements cloud.
func (w *world) Audit(ctx context.Context, _ *echostream.Definition, _ string, records []echostream.AuditRecord) []error {
	if !w.call(ctx, "audit") {
		return slices.Repeat([]error{errAway}, len(records))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noAudit > 0 {
		w.noAudit--
		return slices.Repeat([]error{errAway}, len(records))
	}
	for _, r := range records {
		for name, e := range w.edges {
			if !e.has(r.TrackingID) {
				w.wrong = append(w.wrong, fmt.Errorf("%v was audited before it reached %s", r.Attributes["name"], name))
			}
		}
		w.audited[r.TrackingID] = true
	}
	return make([]error, len(records))
}

// Now implements node.Cloud.
func (w *world) Now() time.Time { return time.Now() }

// idsOf lists the tracking ids with which a content was sent to any edge; w.mu is held.
func (w *world) idsOf(content string) (ids []string) {
	for _, e := range w.edges {
		for i, c := range e.contents {
			if c == content && !slices.Contains(ids, e.ids[i]) {
				ids = append(ids, e.ids[i])
			}
		}
	}
	return ids
}

// live runs a node on the disk while the client does its work. It ends when that is done and all is delivered, or when the
// power is cut, and leaves nothing running.
func (w *world) live(fsys *disktest.FS, work func(s *drop.Session) error) error {
	w.mu.Lock()
	w.fs = fsys
	w.lives++
	w.mu.Unlock()
	if fsys.IsCut() {
		return disktest.ErrCrashed
	}
	// A round time: the records on the disk have the same length in each world.
	time.Sleep(time.Until(time.Now().Add(time.Hour).Truncate(time.Hour))) // fake time
	if w.faulty {
		heal := time.AfterFunc(healsAfter, fsys.Heal)
		defer heal.Stop()
	}
	for {
		n, err := w.start(fsys)
		if err == nil {
			return errors.Join(n.live(work), n.stop())
		}
		if !w.faulty || fsys.IsCut() {
			return err
		}
		time.Sleep(time.Second) // fake time
	}
}

// nodeLife is one run of the node.
type nodeLife struct {
	w       *world
	cancel  func()
	ctx     context.Context
	box     *outbox.Outbox
	drop    *drop.Drop
	session *drop.Session
	running sync.WaitGroup
	errs    [2]error
}

func (w *world) start(fsys *disktest.FS) (*nodeLife, error) {
	n := &nodeLife{w: w}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	fsys.OnCut(n.cancel)
	definition := &echostream.Definition{Name: "node", Audit: true, Targets: []echostream.Edge{{Name: "a", Queue: "a"}, {Name: "b", Queue: "b"}}}
	d := node.NewDeliverer(w, definition, bridge(), fileMessages)
	var err error
	n.box, err = outbox.Open(outbox.Options{
		FS: fsys, Reserve: -1, Deliverer: d, Batch: 3, MinBackoff: w.retry, MaxBackoff: w.longest, Grace: 10 * w.retry,
	})
	if err != nil {
		n.cancel()
		return nil, err
	}
	n.drop, err = drop.Open(drop.Options{
		FS: fsys, Outbox: n.box, Describe: describer("node"), MinFree: -1,
		PartialExpiry: expiry, Rescan: expiry / 2, Delivered: w.delivered,
	})
	var user *drop.UserDir
	if err == nil {
		user, err = n.drop.User("u", "u")
	}
	if err != nil {
		n.cancel()
		return nil, errors.Join(err, n.box.Close())
	}
	n.session = user.Session(netip.MustParseAddr("192.0.2.7"))
	n.running.Go(func() { n.errs[0] = n.box.Run(n.ctx) })
	n.running.Go(func() { n.errs[1] = n.drop.Run(n.ctx) })
	return n, nil
}

func (n *nodeLife) live(work func(s *drop.Session) error) error {
	err := work(n.session)
	deadline := time.Now().Add(24 * time.Hour)
	for !n.delivered() && n.ctx.Err() == nil {
		if time.Now().After(deadline) {
			stuck := fmt.Errorf("the node is stuck: %+v, %+v", n.box.Stats(), n.drop.Usage())
			n.w.mu.Lock()
			n.w.wrong = append(n.w.wrong, stuck)
			n.w.mu.Unlock()
			return errors.Join(err, stuck)
		}
		time.Sleep(time.Second) // fake time
	}
	return err
}

func (n *nodeLife) delivered() bool {
	for e := range n.box.Entries() {
		if !e.Yield {
			return false
		}
	}
	return n.drop.Usage().Found.Files == 0
}

func (n *nodeLife) stop() error {
	n.cancel()
	n.running.Wait()
	return errors.Join(n.errs[0], n.errs[1], n.box.Close())
}

// setAside reads failed/: the contents by tracking id.
func setAside(fsys *disktest.FS) (map[string]string, error) {
	files := fsys.Files()
	aside := map[string]string{}
	for name, content := range files {
		base, isData := strings.CutSuffix(name, ".data")
		if !strings.HasPrefix(name, "failed/") || !isData {
			continue
		}
		var record struct{ ID, Name string }
		if err := json.Unmarshal([]byte(files[base+".json"]), &record); err != nil || record.Name == "" {
			return nil, fmt.Errorf("%s has no good record: %q", name, files[base+".json"])
		}
		aside[record.ID] = content
	}
	return aside, nil
}

func sum(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}
