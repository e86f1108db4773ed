package outbox

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

// tentativeItem is a finished file of which nobody has been told.
func (r *rig) tentativeItem(name string, change func(*Item)) Item {
	return r.item(name, func(item *Item) {
		sum := crc32.Checksum([]byte("content of "+name), castagnoli)
		item.Checksum = &sum
		item.Tentative = &Tentative{}
		if change != nil {
			change(item)
		}
	})
}

// same asks for what tentativeItem has made.
func (r *rig) same(name string) (id string, ok bool) {
	content := []byte("content of " + name)
	return r.Same("user/"+name, int64(len(content)), crc32.Checksum(content, castagnoli))
}

// ended is a context that has.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestAwaitDelivery(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a", "b").open().run()
		audited := make(chan struct{})
		r.cloud.onAudit = func(context.Context, []string) error { <-audited; return nil }
		e := r.take(r.tentativeItem("x", nil))[0]
		require.True(t, e.Due)
		told := make(chan error, 1)
		go func() { told <- r.Await(t.Context(), e.ID) }()
		r.eventually(func() bool { return len(r.cloud.got("a")) == 1 && len(r.cloud.got("b")) == 1 }, "not sent")
		require.ErrorIs(t, r.Await(ended(), e.ID), context.Canceled, "it is not audited")
		select {
		case err := <-told:
			t.Fatal("told before the audit", err)
		default:
		}
		close(audited)
		require.NoError(t, <-told)
		_, ok := r.same("x")
		require.False(t, ok, "its owner was told: what it sends now is a new version")
		r.empty()
		require.NoError(t, r.Await(t.Context(), e.ID), "known for a minute")
		require.ErrorIs(t, r.Await(t.Context(), "00"), fs.ErrNotExist)
		_, ok = r.same("x")
		require.False(t, ok)
	})
}

// Until the first attempt it can be withdrawn, although it is due; from then on it cannot.
func TestWithdrawBeforeTheFirstAttempt(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a").open()
		sending, up := make(chan struct{}), make(chan struct{})
		r.cloud.onSend = func(context.Context, string, []string) error { sending <- struct{}{}; <-up; return errDown }
		first := r.take(r.tentativeItem("x", nil))[0]
		require.ErrorIs(t, r.Edit([]Edit{{ID: first.ID, Name: ptr("y")}}, nil), ErrDue)
		require.NoError(t, r.Withdraw(first.ID, "kept-x"))
		require.ErrorIs(t, r.Await(t.Context(), first.ID), fs.ErrNotExist)
		content, err := readFile(r.fs, "kept-x")
		require.NoError(t, err)
		require.Equal(t, "content of x", content)

		r.run()
		second := r.take(r.tentativeItem("z", nil))[0]
		<-sending
		require.ErrorIs(t, r.Withdraw(second.ID, ""), ErrDue, "its outcome is not known")
		id, ok := r.same("z")
		require.True(t, ok)
		require.Equal(t, second.ID, id)
		_, ok = r.Same("user/z", 1, 2)
		require.False(t, ok, "another content")
		r.cloud.onSend = nil
		close(up)
		require.NoError(t, r.Await(t.Context(), second.ID))
		require.Empty(t, r.cloud.got("a")[1:], "the first one was never sent")
	})
}

func TestConfirmBeforeTheFirstAttempt(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a", "b").open()
		gone := errors.New("the client is gone")
		asked := 0
		deny := func(item *Item) {
			item.Tentative.Confirm = func() error { asked++; return gone }
		}
		entries := r.take(r.tentativeItem("1", nil), r.tentativeItem("2", deny), r.tentativeItem("3", nil))
		r.run()
		require.ErrorIs(t, r.Await(t.Context(), entries[1].ID), gone)
		require.NoError(t, r.Await(t.Context(), entries[0].ID))
		require.NoError(t, r.Await(t.Context(), entries[2].ID), "what is behind it goes")
		require.NoError(t, r.Withdraw(entries[1].ID, ""))
		r.empty()
		require.Equal(t, 1, asked)
		for _, target := range []string{"a", "b"} {
			require.Equal(t, []string{"1", "3"}, r.cloud.got(target))
		}
	})
}

// Open removes what was not attempted, and finishes the rest.
func TestTentativeAfterARestart(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a", "b").open()
		attempted := r.take(r.tentativeItem("x", nil))[0]
		tried := make(chan struct{})
		down := func(_ context.Context, target string, _ []string) error {
			if target == "b" {
				select {
				case tried <- struct{}{}:
				default:
				}
				return errDown
			}
			return nil
		}
		r.cloud.onSend = down
		r.run()
		<-tried
		r.eventually(func() bool { return len(r.cloud.got("a")) == 1 }, "a has it")
		r.halt()
		r.open()
		r.take(r.tentativeItem("again", nil), r.item("ordinary", nil))
		r.open()
		require.Equal(t, 2, r.Stats().Entries)
		id, ok := r.same("x")
		require.True(t, ok)
		require.Equal(t, attempted.ID, id)
		r.cloud.onSend = nil
		r.run()
		require.NoError(t, r.Await(t.Context(), attempted.ID))
		r.empty()
		require.Equal(t, []string{"x", "ordinary"}, r.cloud.got("a"))
		require.Equal(t, []string{"x", "ordinary"}, r.cloud.got("b"))
	})
}

func TestTentativeThatIsRefused(t *testing.T) {
	onEachVolume(t, func(t *testing.T, fsys disk.FS) {
		r := newRig(t, fsys, "a", "b").open()
		r.cloud.script("send a nobody", permanent("never"))
		r.cloud.script("send b nobody", permanent("never"))
		r.cloud.script("send b one", permanent("b never takes it"))
		r.cloud.script("prepare large", permanent("too large"))
		entries := r.take(r.tentativeItem("nobody", nil), r.tentativeItem("one", nil), r.tentativeItem("large", nil), r.tentativeItem("damaged", nil))
		f, err := r.fs.OpenFile(entries[3].Path, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.Write([]byte("X"))
		require.NoError(t, errors.Join(err, f.Close()))
		r.run()
		for _, e := range entries[:3] {
			require.ErrorIs(t, r.Await(t.Context(), e.ID), ErrRefused, e.Name)
		}
		err = r.Await(t.Context(), entries[3].ID)
		require.ErrorContains(t, err, "checksum")
		require.NotErrorIs(t, err, ErrRefused, "its owner has it whole")
		r.empty()
		require.Equal(t, 1, r.Stats().Failed, "what nobody took is not kept")
		require.Len(t, r.files("failed", dataSuffix), 1)
		r.eventually(func() bool { return len(r.goneList()) == 4 }, "told") // behind all else
		line := r.log.lines("File cannot be delivered and was set aside")
		require.Len(t, line, 1)
		require.Contains(t, line[0], "refused by target b")
		require.Contains(t, line[0], "takenBy=[a]")
		require.Len(t, r.log.lines("is not kept"), 3)
		require.ElementsMatch(t, []string{"failed nobody", "failed one", "failed large", "failed damaged"}, r.goneList())
	})
}

// What was delivered while nobody awaited it is known for an hour, also after a restart, and told of once.
func TestDeliveredLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "a").open().run()
		deliver := func(name string) string {
			e := r.take(r.tentativeItem(name, nil))[0]
			time.Sleep(time.Second)
			require.Zero(t, r.Stats().Entries)
			return e.ID
		}
		x, y, z := deliver("x"), deliver("y"), deliver("z")
		r.halt()
		r.crash(disktest.Nothing()).run()
		id, ok := r.same("x")
		require.True(t, ok)
		require.Equal(t, x, id)
		_, ok = r.Same("user/x", 1, 2)
		require.False(t, ok, "another content")
		require.NoError(t, r.Await(t.Context(), x))
		_, left := r.Left(x)
		require.True(t, left, "as if it had left now")
		_, ok = r.same("x")
		require.False(t, ok, "it was told of")

		r.take(r.item("other", func(item *Item) { item.Key = "user/y" }))
		time.Sleep(time.Second)
		_, ok = r.same("y")
		require.False(t, ok, "%s is not the newest version any more", y)
		r.halt()
		r.crash(disktest.Nothing()).run()
		for _, name := range []string{"x", "y"} {
			_, ok = r.same(name)
			require.False(t, ok, name)
		}
		id, ok = r.same("z")
		require.True(t, ok)
		require.Equal(t, z, id)
		time.Sleep(lateFor)
		_, ok = r.same("z")
		require.False(t, ok, "an hour is over")
	})
}

// Late records outlive the segments that they were written to, and are bounded.
func TestLateRecordsMoveOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, disktest.New(1), "a").open().run()
		for _, name := range numbered("n", maxLate+10) {
			r.take(r.tentativeItem(name, nil))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		for range 3 {
			r.halt()
			r.open().run()
			r.take(r.item("more", nil)) // a new segment
			time.Sleep(time.Second)
		}
		require.Len(t, r.late, maxLate)
		require.LessOrEqual(t, len(r.files("outbox", journalSuffix)), 2)
		_, ok := r.same(fmt.Sprintf("n%03d", maxLate+9))
		require.True(t, ok)
		_, ok = r.same("n000")
		require.False(t, ok)
	})
}

// A Tentative Edit is durable with the first attempt only, and can be undone before it.
func TestTentativeEdit(t *testing.T) {
	r := newRig(t, disktest.New(1), "a").open()
	forever := func(item *Item) { item.Wait, item.Yield, item.Key = Forever, true, "user/x.tmp" }
	e := r.take(r.item("x", forever))[0]
	rename := func() {
		require.NoError(t, r.Edit([]Edit{{ID: e.ID, Key: ptr("user/x"), Name: ptr("new"), Wait: ptr(time.Duration(0)), Yield: ptr(false), Last: true, Tentative: &Tentative{}}}, nil))
		require.True(t, r.lookup("user/x").Due)
	}
	rename()
	_, ok := r.Lookup("user/x.tmp")
	require.False(t, ok)
	r.take(r.item("behind", nil))
	require.NoError(t, r.Revert(e.ID))
	require.False(t, r.lookup("user/x.tmp").Due)
	require.ErrorIs(t, r.Revert(e.ID), ErrDue, "there is nothing to undo")
	rename()
	r.crash(disktest.Everything())
	require.Equal(t, "x", r.lookup("user/x.tmp").Name, "it was not attempted")
	_, ok = r.Lookup("user/x")
	require.False(t, ok)
	rename()
	tried := make(chan struct{}, 1000)
	r.cloud.onSend = func(context.Context, string, []string) error { tried <- struct{}{}; return errDown }
	r.run()
	<-tried
	require.ErrorIs(t, r.Revert(e.ID), ErrDue)
	r.halt()
	r.crash(disktest.Nothing())
	require.Equal(t, "new", r.lookup("user/x").Name)
	r.cloud.onSend = nil
	r.run()
	require.NoError(t, r.Await(t.Context(), e.ID))
}

// A disk that cannot note the first attempt has none made.
func TestFirstAttemptThatCannotBeNoted(t *testing.T) {
	fsys := disktest.New(1)
	r := newRig(t, fsys, "a").open()
	e := r.take(r.tentativeItem("x", nil))[0]
	fsys.Inject(disktest.Fault{Kind: disktest.Sync, Forever: true})
	r.run()
	r.eventually(func() bool { return len(r.log.lines("Sending fails")) > 0 }, "it is told")
	require.Empty(t, r.cloud.sends("a"))
	fsys.Heal()
	require.NoError(t, r.Await(t.Context(), e.ID))
}

// Nothing more is waited for when Run has ended.
func TestAwaitEndsWithRun(t *testing.T) {
	r := newRig(t, disktest.New(1)).open().run()
	e := r.take(r.tentativeItem("x", nil))[0]
	told := make(chan error, 1)
	go func() { told <- r.Await(context.Background(), e.ID) }()
	r.stop()
	r.stop = nil
	require.ErrorIs(t, <-told, ErrStopped)
	require.NoError(t, r.Withdraw(e.ID, ""))
}

// sender is the world of a client that is told only what was delivered, and sends again what it was not told of.
type sender struct {
	awaited  bool // the late one, in some life, by a client that waits
	mu       sync.Mutex
	fs       *disktest.FS
	sent     map[string]string   // by content: the last id of a call of Send
	received map[string][]string // by target: ids
	content  map[string]string   // by id
	told     map[string]bool     // by name: delivered
	gone     map[string]bool     // by id: told by Gone
	up       map[string]bool     // b takes it
	patient  bool                // the client waits for everything
	changed  chan struct{}
}

func newSender() *sender {
	return &sender{sent: map[string]string{}, received: map[string][]string{}, content: map[string]string{}, told: map[string]bool{},
		gone: map[string]bool{}, up: map[string]bool{}, changed: make(chan struct{}, 1)}
}

func (w *sender) Targets() []string { return []string{"a", "b"} }

func (w *sender) Prepare(_ context.Context, e Entry, open func() (disk.File, error)) (any, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, e.Size)
	_, err = f.Read(data)
	return payload(data), err
}

func (w *sender) Send(_ context.Context, target string, batch []Prepared) []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.notify()
	if w.fs.IsCut() {
		return slices.Repeat([]error{errDown}, len(batch))
	}
	results := make([]error, len(batch))
	for i, p := range batch {
		content := string(p.Payload.(payload))
		w.sent[content], w.content[p.Entry.ID] = p.Entry.ID, content
		if target == "b" && !w.up[content] {
			results[i] = errDown
			continue
		}
		w.received[target] = append(w.received[target], p.Entry.ID)
	}
	return results
}

func (w *sender) notify() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *sender) Audit(_ context.Context, batch []Prepared) []error { return make([]error, len(batch)) }

func (w *sender) open(fsys *disktest.FS) (*Outbox, error) {
	w.mu.Lock()
	w.fs = fsys
	w.mu.Unlock()
	if err := disk.MkdirAll(fsys, "drop", 0o700); err != nil {
		return nil, err
	}
	return Open(Options{FS: fsys, Deliverer: w, Reserve: 1, Grace: time.Millisecond, MinBackoff: 50 * time.Microsecond, MaxBackoff: 200 * time.Microsecond,
		Gone: func(e Entry, why Gone) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.gone[e.ID] = true
			w.notify()
		}})
}

// until waits for a condition, or for the power cut.
func (w *sender) until(ctx context.Context, condition func() bool) error {
	for {
		w.mu.Lock()
		ok := condition()
		w.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-w.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// item makes the file of a name. Its temporary name has a dot in front.
func (w *sender) item(fsys *disktest.FS, name string) (Item, error) {
	content := contentOf(name)
	sum := crc32.Checksum([]byte(content), castagnoli)
	item := Item{Path: "drop/" + name, Name: name, Key: "user/" + name, Checksum: &sum, Tentative: &Tentative{}}
	if _, err := fsys.Lstat(item.Path); err == nil {
		if err := fsys.Remove(item.Path); err != nil {
			return item, err
		}
	}
	return item, writeFile(fsys, item.Path, content)
}

// send sends a file as a client does: it joins the one that it was not told of.
func (w *sender) send(ctx context.Context, o *Outbox, fsys *disktest.FS, name string, renamed bool) error {
	content := contentOf(name)
	id, ok := o.Same("user/"+name, int64(len(content)), crc32.Checksum([]byte(content), castagnoli))
	if !ok {
		item, err := w.item(fsys, name)
		if err != nil {
			return err
		}
		if renamed {
			item.Key, item.Name, item.Wait, item.Yield, item.Tentative = "user/."+name, "."+name, Forever, true, nil
		}
		entries, errs := o.Put(context.Background(), []Item{item})
		if errs[0] != nil {
			return errs[0]
		}
		id = entries[0].ID
		if renamed {
			err := o.Edit([]Edit{{ID: id, Key: ptr("user/" + name), Name: &name, Wait: ptr(time.Duration(0)), Yield: ptr(false), Last: true, Tentative: &Tentative{}}}, nil)
			if err != nil {
				return err
			}
		}
	}
	if name == "late" && !w.patient { // its client does not wait
		if err := w.until(ctx, func() bool { return w.sent[content] != "" }); err != nil {
			return err
		}
		if err := o.Await(ended(), id); err == nil {
			return errors.New("told before b has it")
		}
		w.mu.Lock()
		w.up[content] = true
		w.mu.Unlock()
		return w.until(ctx, func() bool { return w.gone[id] })
	}
	w.mu.Lock()
	w.up[content] = true
	w.awaited = w.awaited || name == "late"
	w.mu.Unlock()
	if err := o.Await(ctx, id); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told[name] = true
	return nil
}

func (w *sender) live(fsys *disktest.FS, look func(o *Outbox) error) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	fsys.OnCut(cancel)
	o, err := w.open(fsys)
	if err != nil {
		return err
	}
	if err := look(o); err != nil {
		return errors.Join(err, o.Close())
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- o.Run(running) }()
	defer func() { stop(); err = errors.Join(err, <-done, o.Close()) }()
	for _, name := range []string{"one", "two", "late"} {
		if !w.told[name] {
			if err := w.send(ctx, o, fsys, name, name == "two"); err != nil {
				return err
			}
		}
	}
	// What was not told of, and is held, is its client's; the rest goes.
	return w.until(ctx, func() bool {
		for e := range o.Entries() {
			if e.Due {
				return false
			}
		}
		return true
	})
}

// again is every life after a crash.
func (w *sender) again(fsys *disktest.FS) error {
	w.patient = true
	return w.live(fsys, func(o *Outbox) error {
		var wrong []error
		for content, id := range w.sent {
			k, _ := parseID(id)
			e := o.entries[k]
			complete := slices.Contains(w.received["a"], id) && slices.Contains(w.received["b"], id)
			if e == nil && !complete {
				wrong = append(wrong, fmt.Errorf("%.12q was sent as %s, and was not finished", content, id))
			}
			name := map[string]string{contentOf("one"): "one", contentOf("two"): "two", contentOf("late"): "late"}[content]
			// A process that was telling its client, and died of it, counts as having told: the client may send it once more.
			if w.gone[id] && name == "late" && !w.told["late"] && !w.awaited {
				if same, ok := o.Same("user/late", int64(len(content)), crc32.Checksum([]byte(content), castagnoli)); !ok || same != id {
					wrong = append(wrong, fmt.Errorf("late was delivered as %s, and that is not known: %s", id, same))
				}
			}
		}
		return errors.Join(wrong...)
	})
}

func (w *sender) check(fsys *disktest.FS) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var wrong []error
	for name := range w.told {
		for target, ids := range w.received {
			if !slices.ContainsFunc(ids, func(id string) bool { return w.content[id] == contentOf(name) }) {
				wrong = append(wrong, fmt.Errorf("%s was told to be delivered, and %s has not got it", name, target))
			}
		}
	}
	return errors.Join(wrong...)
}

func tentativeScenario() disktest.Scenario {
	w := newSender()
	return disktest.Scenario{
		Run:     func(fsys *disktest.FS) error { return w.live(fsys, func(*Outbox) error { return nil }) },
		Recover: w.again, Check: w.check,
	}
}

func TestEveryCrashOfTheTentative(t *testing.T) {
	disktest.EveryCrash(t, disktest.Options{Seeds: 3, Setup: twoNames}, tentativeScenario)
}

func TestEveryFaultOfTheTentative(t *testing.T) {
	disktest.EveryFault(t, disktest.Options{Setup: twoNames}, func() disktest.Scenario {
		w := newSender()
		return disktest.Scenario{
			Run: func(fsys *disktest.FS) error {
				timer := time.AfterFunc(5*time.Millisecond, fsys.Heal) // it must go on by itself
				defer timer.Stop()
				return w.live(fsys, func(*Outbox) error { return nil })
			},
			Recover: w.again, Check: w.check,
		}
	})
}

// A header with many late records is long, and read all the same.
func TestLongHeader(t *testing.T) {
	r := newRig(t, disktest.New(1), "t").open()
	for _, name := range numbered("f", 200) {
		l := lateOf("user/" + name)
		l.ID, l.At = strings.Repeat("0", 29)+name[1:], time.Now()
		r.noteLate(l)
	}
	r.put("x")
	r.run().empty()
	for range 2 {
		given := r.lastSeq
		r.open()
		require.Len(t, r.late, 200)
		require.Equal(t, given, r.lastSeq, "no number is given twice")
	}
}
