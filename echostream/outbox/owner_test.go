package outbox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// owner is the world of a program that changes its entries before they are due, as ftp/drop does: what it was told, and what has arrived.
type owner struct {
	mu       sync.Mutex
	cut      func() bool
	received []Prepared

	put       []string            // in the order in which they were acknowledged; those of one group at once
	rank      map[string]int      // by content: a later one comes after all with a smaller one
	names     map[string][]string // by content: those that it may arrive with; the last one if the change to it was acknowledged
	withdrawn map[string]bool     // acknowledged, by content
	asked     map[string]bool     // to be withdrawn or replaced: it may be gone
	moved     bool                // the directory's rename was acknowledged
}

func newOwner() *owner {
	return &owner{rank: map[string]int{}, names: map[string][]string{}, withdrawn: map[string]bool{}, asked: map[string]bool{}}
}

func (w *owner) Targets() []string { return []string{"t"} }

func (w *owner) Prepare(_ context.Context, _ Entry, open func() (disk.File, error)) (any, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, 64)
	n, err := f.Read(data)
	return payload(data[:n]), err
}

func (w *owner) Send(_ context.Context, _ string, batch []Prepared) []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut() {
		return slices.Repeat([]error{errDown}, len(batch))
	}
	w.received = append(w.received, batch...)
	return make([]error, len(batch))
}

func (w *owner) Audit(_ context.Context, batch []Prepared) []error { return make([]error, len(batch)) }

func (w *owner) open(fsys *disktest.FS) (*Outbox, error) {
	w.mu.Lock()
	w.cut = fsys.IsCut
	w.mu.Unlock()
	for _, dir := range []string{"partial", "drop"} {
		if err := disk.MkdirAll(fsys, dir, 0o700); err != nil {
			return nil, err
		}
	}
	return Open(Options{FS: fsys, Deliverer: w, Batch: 2, Reserve: 1, Grace: time.Millisecond, MinBackoff: time.Microsecond, MaxBackoff: 10 * time.Microsecond})
}

// upload is one Put. rank orders it against the others.
func (w *owner) upload(fsys *disktest.FS, o *Outbox, content string, rank int, change func(*Item)) (string, error) {
	item := Item{Path: "partial/" + content, Name: content, Key: "u/" + content, Wait: Forever}
	if change != nil {
		change(&item)
	}
	f, err := createFile(fsys, item.Path, content)
	if err != nil {
		return "", err
	}
	item.File = f
	w.mu.Lock()
	w.names[content] = []string{item.Name}
	w.rank[content] = rank
	w.mu.Unlock()
	entries, errs := o.Put(context.Background(), []Item{item})
	if errs[0] == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.put = append(w.put, content)
	}
	return entries[0].ID, errs[0]
}

func createFile(fsys disk.FS, name, content string) (disk.File, error) {
	f, err := fsys.OpenFile(name, flagsNew, 0o600)
	if err != nil {
		return nil, err
	}
	if err := disk.WriteAll(f, []byte(content)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// rename is an Edit of a name that may or may not count until it is acknowledged.
func (w *owner) rename(o *Outbox, content, id, name string, edit Edit, move *Move) error {
	w.names[content] = append(w.names[content], name)
	edit.ID, edit.Name = id, &name
	err := o.Edit([]Edit{edit}, move)
	if err == nil {
		w.names[content] = []string{name}
	}
	return err
}

// work is what clients do. It goes on after an error, as clients do.
func (w *owner) work(fsys *disktest.FS, o *Outbox) error {
	var errs []error
	try := func(err error) bool { errs = append(errs, err); return err == nil }
	// A temporary name, renamed when another is there already: it takes the last place.
	temp, err := w.upload(fsys, o, "temp", 3, func(i *Item) { i.Name, i.Yield = "temp.part", true })
	isTemp := try(err)
	_, err = w.upload(fsys, o, "early", 1, nil)
	try(err)
	if isTemp && !try(w.rename(o, "temp", temp, "temp.csv", Edit{Key: ptr("u/temp.csv"), Last: true, Yield: ptr(false)}, nil)) {
		w.rank["temp"] = 0 // it may stand at either place
	}
	// Three at once: two of them may be of one group.
	var all sync.WaitGroup
	results := make([]error, 3)
	for i, content := range []string{"left", "middle", "right"} {
		all.Go(func() { _, results[i] = w.upload(fsys, o, content, 4, nil) })
	}
	all.Wait()
	try(errors.Join(results...))
	// A folder that is renamed.
	if err := disk.MkdirAll(fsys, "drop/d", 0o700); try(err) {
		id, err := w.upload(fsys, o, "inside", 5, func(i *Item) { i.Name, i.Key = "d/inside", "u/d/inside" })
		if try(err) {
			w.moved = try(w.rename(o, "inside", id, "e/inside", Edit{Key: ptr("u/e/inside")}, &Move{"drop/d", "drop/e"}))
		}
	}
	// One that is withdrawn, one that is taken back, and one that is replaced.
	for _, content := range []string{"deleted", "broken"} {
		to := ""
		if content == "broken" {
			to = "drop/again"
		}
		id, err := w.upload(fsys, o, content, 6, nil)
		if try(err) {
			w.asked[content] = true
			w.withdrawn[content] = try(o.Withdraw(id, to))
		}
	}
	id, err := w.upload(fsys, o, "short", 7, nil)
	if try(err) {
		w.asked["short"] = true
		_, err = w.upload(fsys, o, "longer", 7, func(i *Item) { i.Key, i.Replaces = "u/short", id })
		w.withdrawn["short"] = try(err)
	}
	return errors.Join(errs...)
}

// first is the life that crashes; it delivers, too.
func (w *owner) first(fsys *disktest.FS) error {
	o, err := w.open(fsys)
	if err != nil {
		return err
	}
	if err := errors.Join(w.work(fsys, o), o.Close()); err != nil {
		return err
	}
	return w.deliver(fsys)
}

// deliver makes all due, and sends it.
func (w *owner) deliver(fsys *disktest.FS) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fsys.OnCut(cancel)
	o, err := w.open(fsys)
	if err != nil {
		return err
	}
	var edits []Edit
	for e := range o.Entries() {
		if !e.Due {
			edits = append(edits, Edit{ID: e.ID, Wait: ptr(time.Duration(0))})
		}
	}
	if len(edits) > 0 {
		err = o.Edit(edits, nil)
	}
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	for end := time.Now().Add(20 * time.Second); err == nil && o.Stats().Entries > 0 && ctx.Err() == nil; {
		if time.Sleep(20 * time.Microsecond); time.Now().After(end) {
			err = fmt.Errorf("stuck: %+v", o.Stats())
		}
	}
	cancel()
	return errors.Join(err, <-done, o.Close())
}

// check says which promise is broken.
func (w *owner) check(fsys *disktest.FS) error {
	var wrong []error
	wrongf := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	var order []string
	ids := map[string]string{}
	for _, p := range w.received {
		content := string(p.Payload.(payload))
		if id, again := ids[content]; again {
			if id != p.Entry.ID {
				wrongf("%s arrived with two ids", content)
			}
			continue // the power was cut before it was noted
		}
		ids[content] = p.Entry.ID
		order = append(order, content)
		if w.withdrawn[content] {
			wrongf("%s arrived although it was withdrawn or replaced", content)
		}
		if !slices.Contains(w.names[content], p.Entry.Name) {
			wrongf("%s arrived as %s, expected one of %v", content, p.Entry.Name, w.names[content])
		}
	}
	for _, content := range w.put {
		if ids[content] == "" && !w.asked[content] {
			wrongf("%s was acknowledged and never arrived", content)
		}
	}
	if ids["short"] != "" && ids["longer"] != "" {
		wrongf("both arrived: the replaced one and what replaces it")
	}
	if slices.Contains(w.put, "short") && ids["short"] == "" && ids["longer"] == "" {
		wrongf("neither arrived: the replaced one or what replaces it")
	}
	last := ""
	for _, content := range order {
		if w.rank[content] == 0 {
			continue
		}
		if last != "" && w.rank[content] < w.rank[last] {
			wrongf("%s arrived after %s: %v", content, last, order)
		}
		last = content
	}
	files := fsys.Files()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		dir, base := path.Dir(name), path.Base(name)
		switch {
		case strings.HasSuffix(name, "/"), dir == "outbox" && (base == reserveName || path.Ext(name) == journalSuffix):
		case dir == "partial" && ids[base] == "" && !slices.Contains(w.put, base) && (base != "broken" || files["drop/again"] == ""):
		case name == "drop/again" && ids["broken"] == "":
		default:
			wrongf("%s is left", name)
		}
	}
	if _, err := fsys.Lstat("drop/d"); w.moved && err == nil {
		wrongf("drop/d is there after its rename was acknowledged")
	}
	if _, err := fsys.Lstat("drop/e"); w.moved && err != nil {
		wrongf("drop/e is not there after the rename to it was acknowledged")
	}
	if w.withdrawn["broken"] && files["drop/again"] != "broken" {
		wrongf("what was taken back is lost")
	}
	return errors.Join(wrong...)
}

func ownerScenario() disktest.Scenario {
	w := newOwner()
	return disktest.Scenario{Run: w.first, Recover: w.deliver, Check: w.check}
}

func TestEveryCrashOfAnOwner(t *testing.T) {
	disktest.EveryCrash(t, disktest.Options{Seeds: 10, Setup: twoNames}, ownerScenario)
}

func TestEveryFaultOfAnOwner(t *testing.T) {
	disktest.EveryFault(t, disktest.Options{Setup: twoNames}, func() disktest.Scenario {
		w := newOwner()
		return disktest.Scenario{Recover: w.deliver, Check: w.check, Run: func(fsys *disktest.FS) error {
			o, err := w.open(fsys)
			if err == nil {
				err = errors.Join(w.work(fsys, o), o.Close())
			}
			fsys.Heal() // faults of the delivery are those of TestEveryFault
			return errors.Join(err, w.deliver(fsys))
		}}
	})
}
