// Package statustest is a node for tests of its status.
package statustest

import (
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/internal/status"
)

// Node is a status.Source with a state that tests set. A file that is retried waits, and one that is accepted too.
type Node struct {
	mu      sync.Mutex
	report  status.Report
	waiting []status.File
}

// Morning is the time of New's reports.
var Morning = time.Date(2026, 3, 9, 9, 26, 30, 0, time.UTC)

// New is a node all of whose files are delivered.
func New() *Node {
	n := &Node{report: status.Report{
		Program: "ftpnode", Node: "plant-7", Tenant: "acme", Version: "v1.4.0", Since: Morning.Add(-26 * time.Hour), At: Morning, Acknowledge: "stored", Sends: true,
		Cloud:   status.Cloud{Read: Morning.Add(-3 * time.Minute)},
		Targets: []status.Target{{Name: "archive", LastAcknowledged: Morning.Add(-13 * time.Second)}, {Name: "erp", LastAcknowledged: Morning.Add(-14 * time.Second)}},
		Disk:    status.Disk{Dir: "/data", Free: 31_400_000_000},
		Bridge: status.Bridge{Senders: []status.Sender{
			{Name: "scanner", LastLogin: Morning.Add(-15 * time.Second), LastUpload: Morning.Add(-14 * time.Second), From: "192.0.2.31"},
			{Name: "press-2"},
		}},
		Sent: status.Sent{Files: 1204, Bytes: 3_911_000_000},
	}}
	for i, name := range []string{"delivery-note-20391.pdf", "press-2026-03-09.csv", "camera-4_000871.jpg", "delivery-note-20390.pdf"} {
		at := Morning.Add(-time.Duration(14+57*i) * time.Second)
		n.report.Recent = append(n.report.Recent, status.File{
			ID: id(0xa1 + i), Name: name, Bytes: int64(48_211 * (i*7 + 1)), User: "scanner", Accepted: at, Delivered: at.Add(640 * time.Millisecond),
		})
	}
	return n
}

func id(n int) string { return fmt.Sprintf("%02x5e8d33f0b24cf9a4d1c07be96f%04x", n&0xff, n) }

// Set changes the facts.
func (n *Node) Set(change func(*status.Report)) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.report)
	return n
}

// Wait has so many files wait, the first since 09:14:02, five seconds apart.
func (n *Node) Wait(files int, errText string) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range files {
		f := status.File{ID: id(0x10 + i), Name: fmt.Sprintf("camera-4_%06d.jpg", 872+i), Bytes: 281_004 + int64(i)*977, User: "scanner",
			Accepted: Morning.Add(-12*time.Minute - 28*time.Second + time.Duration(i)*5*time.Second)}
		if i == 0 {
			f.Attempts, f.Error, f.Next = 5, errText, Morning.Add(41*time.Second)
		}
		n.wait(f)
	}
	return n
}

func (n *Node) wait(f status.File) {
	n.waiting = append(n.waiting, f)
	w := &n.report.Waiting
	w.Files, w.Bytes, w.Oldest = w.Files+1, w.Bytes+f.Bytes, &n.waiting[0]
	for i := range n.report.Targets {
		t := &n.report.Targets[i]
		t.Files, t.Bytes, t.Oldest = t.Files+1, t.Bytes+f.Bytes, &n.waiting[0]
	}
}

// Fail sets a file aside.
func (n *Node) Fail(name, reason string) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.report.Failed = append(n.report.Failed, status.Failed{
		File:   status.File{ID: id(0xf0 + len(n.report.Failed)), Name: name, Bytes: 1_204_331, User: "scanner", Accepted: Morning.Add(-2 * time.Hour)},
		Reason: reason, Since: Morning.Add(-2*time.Hour + 3*time.Second),
	})
	return n
}

// Report implements status.Source.
func (n *Node) Report() status.Report {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.report
	r.Failed, r.Targets, r.Recent = slices.Clone(r.Failed), slices.Clone(r.Targets), slices.Clone(r.Recent)
	return r
}

// Find implements status.Source.
func (n *Node) Find(text string, limit int) (found []status.File) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.waiting {
		if f.Matches(text) && len(found) < limit {
			found = append(found, f)
		}
	}
	return found
}

// Retry implements status.Source.
func (n *Node) Retry(id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	f, err := n.take(id)
	if err == nil {
		n.report.Retried = n.report.At
		n.wait(f.File)
	}
	return err
}

// Discard implements status.Source.
func (n *Node) Discard(id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, err := n.take(id)
	return err
}

func (n *Node) take(id string) (status.Failed, error) {
	i := slices.IndexFunc(n.report.Failed, func(f status.Failed) bool { return f.ID == id })
	if i < 0 {
		return status.Failed{}, fmt.Errorf("no failed file has the id %q: %w", id, fs.ErrNotExist)
	}
	f := n.report.Failed[i]
	n.report.Failed = slices.Delete(slices.Clone(n.report.Failed), i, i+1)
	return f, nil
}

// Accept implements status.Source.
func (n *Node) Accept(id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := &n.report.Bridge.Interrupted
	i := slices.IndexFunc(*list, func(u status.Interrupted) bool { return u.ID == id })
	if i < 0 {
		return fmt.Errorf("no interrupted upload has the id %q: %w", id, fs.ErrNotExist)
	}
	u := (*list)[i]
	*list = slices.Delete(slices.Clone(*list), i, i+1)
	n.wait(status.File{ID: u.ID, Name: u.Name, Bytes: u.Bytes, User: u.User, Accepted: n.report.At})
	return nil
}
