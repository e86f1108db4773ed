package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// sent is a file as the client that sends it knows it.
type sent struct {
	names []string // under which it may arrive, the last one being what the client wants
	begun int      // how often: what was not acknowledged may have been finished all the same
	acked int      // its place among the 226; 0: none was read
	void  bool     // deleted or replaced, or begun to be: it may arrive, or not
	dead  bool     // it was acknowledged that it is deleted or replaced: it must not arrive
}

// client is all that uploads, over the restarts of the node. What it sends is told apart by its content.
type client struct {
	files map[string]*sent
	acks  int
	// goOn is the interrupted upload that is to be resumed, by name and content; started: its 150 was read.
	goOn    struct{ name, content string }
	started bool
}

// The contents that EchoStream treats in a way of its own begin with these.
const (
	refusedByB   = "refused by b"
	refusedByAll = "refused by all"
)

var errHungUp = errors.New("the client hung up")

// text makes a content of some sectors.
func text(name string) string { return strings.Repeat(name+" ", 1+1100/len(name)) }

// send uploads content, or what of it is not there yet, and notes the 226.
func (c *client) send(s *drop.Session, name, content string, w drop.Start) error {
	if w.Offset == 0 && !w.Append && strings.HasSuffix(name, ".tmp") {
		c.replaces(name)
	}
	f := c.files[content]
	if f == nil {
		f = &sent{}
		c.files[content] = f
	}
	f.names, f.void = []string{name}, false
	f.begun++
	u, err := s.Create(name, w)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk([]byte(content[u.Size():]), 700) { // several writes, each of more than a sector
		if _, err := u.Write(piece); err != nil {
			return errors.Join(err, u.Interrupt(err))
		}
	}
	if err := u.Commit(); err != nil {
		return err
	}
	c.acks++
	f.acked = c.acks
	return nil
}

// replaces notes that what has the name may be gone from now on, and returns it.
func (c *client) replaces(name string) (files []*sent) {
	for _, f := range c.files {
		if f.names[len(f.names)-1] == name {
			f.void = true
			files = append(files, f)
		}
	}
	return files
}

// appends sends what is missing of content to a finished file.
func (c *client) appends(s *drop.Session, name, content string) error {
	replaced := c.replaces(name)
	if err := c.send(s, name, content, drop.Start{Append: true}); err != nil {
		return err
	}
	for _, f := range replaced {
		f.dead = true
	}
	return nil
}

// part begins an upload and hangs up.
func (c *client) part(s *drop.Session, name, content string, size int) error {
	c.goOn.name, c.goOn.content, c.started = name, content, false
	u, err := s.Create(name, drop.Start{})
	if err != nil {
		return err
	}
	c.started = true
	if _, err := u.Write([]byte(content[:size])); err != nil {
		return errors.Join(err, u.Interrupt(err))
	}
	return u.Interrupt(errHungUp)
}

// resume goes on with what was interrupted, as SIZE tells.
func (c *client) resume(s *drop.Session) error {
	info, err := s.Stat(c.goOn.name)
	if err != nil || info.Size() == 0 || !c.started {
		return c.send(s, c.goOn.name, c.goOn.content, drop.Start{})
	}
	return c.send(s, c.goOn.name, c.goOn.content, drop.Start{Offset: min(info.Size(), int64(len(c.goOn.content)))})
}

// mayResume reports whether there is something to resume, that was not finished before its 226 could be read.
func (c *client) mayResume(s *drop.Session) bool {
	if c.goOn.name == "" {
		return false
	}
	if f := c.files[c.goOn.content]; f == nil {
		return true
	} else if f.acked > 0 {
		return false
	}
	info, err := s.Stat(c.goOn.name)
	return err == nil && (!c.started || info.Size() < int64(len(c.goOn.content)))
}

func (c *client) rename(s *drop.Session, content, to string) error {
	f := c.files[content]
	if f == nil || f.acked == 0 {
		return nil // as a client that was not told that its upload is complete
	}
	from := f.names[len(f.names)-1]
	f.names = append(f.names, to)
	if err := s.Rename(from, to); err != nil {
		return err
	}
	f.names = f.names[len(f.names)-1:]
	return nil
}

func (c *client) remove(s *drop.Session, content string) error {
	f := c.files[content]
	if f == nil || f.acked == 0 {
		return nil
	}
	f.void = true
	if err := s.Remove(f.names[0]); err != nil {
		return err
	}
	f.dead = true
	return nil
}

// ordered reports whether the file's place in the order is that of its 226. One that was renamed was finished later.
func (f *sent) ordered() bool {
	return f.acked > 0 && !f.void && len(f.names) == 1 && f.names[0] != renamedTo
}

// waits reports whether the file has to stay where it is: its name is still a temporary one.
func (f *sent) mayWait() bool { return strings.HasSuffix(f.names[0], ".tmp") }

const (
	renamedTo = "/in/c"
	abandoned = "/abandoned" // interrupted, and never resumed
)

var mfmt = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

// firstLife is the client's work, step by step, over several deliveries.
func (w *world) firstLife(s *drop.Session) error {
	c := &w.client
	pause := func(d time.Duration) func() error {
		return func() error { time.Sleep(d); return nil } // fake time
	}
	settle := pause(1500 * time.Millisecond)
	put := func(name, content string) func() error {
		return func() error { return c.send(s, name, content, drop.Start{}) }
	}
	steps := []func() error{
		// A directory, and an order in which all arrives, though b is down at first and a's reply is lost.
		func() error { return s.Mkdir("/in") },
		put("/in/a", text("first")),
		put("/b", text("second")),
		settle,
		// While that is delivered: a temporary name, overwriting, deleting, a time that the client sets.
		put("/c.tmp", text("temporary")),
		put("/b", text("overwritten")),
		put("/b", text("overwriting")),
		func() error { return c.rename(s, text("temporary"), renamedTo) },
		func() error { return s.Chtimes(renamedTo, mfmt) },
		put("/x", text("deleted")),
		func() error { return c.remove(s, text("deleted")) },
		put("/d", refusedByB+text(" d")),
		settle,
		// Interrupted, begun anew with another content, interrupted, and resumed by REST.
		func() error { return c.part(s, "/g", text("version 1"), 900) },
		func() error { return c.part(s, "/g", text("version 2"), 100) },
		func() error { return c.resume(s) },
		put("/e", refusedByAll+text(" e")),
		// Appended to before it is taken.
		put("/f", "head "+text("appended")),
		func() error { return c.appends(s, "/f", "head "+text("appended")+"tail") },
		func() error {
			n := int64(len(text("declared")))
			return c.send(s, "/k", text("declared"), drop.Start{Declared: n})
		},
		settle,
		// Never resumed, and gone one day.
		func() error {
			before, started := c.goOn, c.started
			defer func() { c.goOn, c.started = before, started }()
			return c.part(s, abandoned, text("abandoned"), 600)
		},
		pause(2 * expiry),
		put("/l", text("last")),
		settle,
		pause(time.Minute),
		// Left behind in the middle.
		func() error { return c.part(s, "/h", text("version 3"), 700) },
		func() error { return c.part(s, "/h", text("version 4"), 100) },
	}
	var errs []error
	for _, step := range steps {
		if w.disk().IsCut() {
			break
		}
		errs = append(errs, step())
	}
	if w.faulty {
		w.disk().Heal()
		if err := put("/after", text("after the trouble"))(); err != nil {
			w.wrongf("the disk works again, and the node does not: %w", err)
		}
	}
	return errors.Join(errs...)
}

func (w *world) wrongf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Errorf(format, args...))
}

// laterLife goes on where the one before was cut off.
func (w *world) laterLife(s *drop.Session) error {
	// What waits goes first, so that the operations come in one order and a seed finds again what it found.
	time.Sleep(quietTime + 10*time.Second) // fake time
	var err error
	if w.client.mayResume(s) {
		err = w.client.resume(s)
	}
	time.Sleep(quietTime + 2*expiry) // fake time
	return err
}

// check holds what has arrived against what was sent.
func (w *world) check(fsys *disktest.FS) error {
	if fsys.IsCut() {
		return nil // the next life will tell
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	errs := slices.Clone(w.wrong)
	wrongf := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	aside, err := setAside(fsys)
	if err != nil {
		return err
	}
	for content, f := range w.client.files {
		ids := w.idsOf(content)
		name := f.names[len(f.names)-1]
		for _, id := range ids {
			if f.dead {
				wrongf("%s was sent after it was deleted or replaced", name)
			}
			refused := strings.HasPrefix(content, refusedByB)
			switch a, b := w.edges["a"].has(id), w.edges["b"].has(id); {
			case refused && w.delivered > 0: // its client was told; what a has taken stays there
			case refused && (!a || aside[id] != content):
				wrongf("%s: a %t, set aside %t", name, a, aside[id] == content)
			case !refused && (!a || !b || !w.audited[id]):
				wrongf("%s: a %t, b %t, audited %t", name, a, b, w.audited[id])
			}
		}
		copies := len(ids)
		if strings.HasPrefix(content, refusedByAll) {
			for _, kept := range aside {
				if kept == content {
					copies++
				}
			}
		}
		switch {
		case copies > f.begun:
			wrongf("%s arrived %d times, with the tracking ids %v, and was sent %d times", name, copies, ids, f.begun)
		case copies == 0 && f.acked > 0 && !f.void && !(f.mayWait() && inOutbox(fsys, content)):
			wrongf("%s is lost: %.20q", name, content)
		}
		for other, g := range w.client.files {
			if !f.ordered() || !g.ordered() || f.acked >= g.acked {
				continue
			}
			if w.delivered > 0 && g.begun > 1 { // an earlier upload of it may have arrived
				continue
			}
			for edge, e := range w.edges {
				if first, second := e.place(content), e.place(other); first >= 0 && second >= 0 && second < first {
					wrongf("%s reached %s before %s", g.names, edge, f.names)
				}
			}
		}
	}
	for id, content := range aside {
		if !strings.HasPrefix(content, "refused") {
			wrongf("%s was set aside: %.20q", id, content)
		}
	}
	for name := range fsys.Files() {
		if w.left(name) {
			wrongf("%s is left", name)
		}
	}
	return errors.Join(errs...)
}

// inOutbox reports whether the content waits in the outbox.
func inOutbox(fsys *disktest.FS, content string) bool {
	for name, c := range fsys.Files() {
		if strings.HasPrefix(name, "outbox/") && c == content {
			return true
		}
	}
	return false
}

// left reports whether a file should not be there once all is delivered.
func (w *world) left(name string) bool {
	switch {
	case strings.HasSuffix(name, "/"), strings.HasPrefix(name, "failed/"):
		return false
	case strings.HasPrefix(name, "outbox/"):
		content, _ := w.fs.ReadFile(name)
		f := w.client.files[string(content)]
		return !strings.HasSuffix(name, ".journal") && (f == nil || !f.mayWait()) // the rename of a temporary name was not acknowledged
	}
	return !strings.HasPrefix(name, "partial/kept/u/") || name == "partial/kept/u"+abandoned
}
