// Package drop is where files arrive: uploads, the view that clients have of what they sent, and a folder for other programs.
// What is finished goes into an [outbox.Outbox].
//
// # What it promises
//
// After [Upload.Commit] has returned nil, the file is in the outbox: durable, complete, and sent once, in the order of the Commits, whatever is
// killed or restarted in between. Each version counts: an upload, or a rename, to a name that waits makes a further
// version. Until it is due (for Options.Settle, or while its name is a temporary one) its client may rename it, set its time and delete
// it, each durable before it is answered. A file that was not finished never reaches the outbox.
//
// With Options.Delivered it promises more, as the volume may go any time: after Commit has returned nil, the file has been delivered, unless its name is a temporary
// one; then that holds for the Rename, of the file or of a folder that it is in, that ends it. What was not delivered in time is removed, or, if it may be under way, joined by the same file when it is sent again.
//
// # How it keeps that
//
//	partial/open/<id>-<number>       an upload under way
//	partial/kept/<dir>/<path>        an interrupted upload, which can be resumed
//	drop/<dir>/<path>                a folder, or a file of another program
//
// A finished file has no place here: it is an entry of the outbox, whose key is its path below drop. What is not finished is only
// on the disk: Open reads the directories. These are the sync points and what each protects:
//
//   - Commit's are those of [outbox.Outbox.Put]: the file, its record, its name; so are Accept's, whose file Interrupt has synced.
//   - Interrupt syncs the file before the rename to partial/kept: what can be resumed is exactly what was received.
//     What stands in partial/open at the start is removed, as its bytes cannot be trusted: resuming behind torn bytes would
//     make a broken file, and acknowledge it.
//   - A resumed upload's rename from partial/kept to partial/open is synced, in both, before its first write, for the same reason.
//   - The removal of an interrupted upload that is begun anew is synced before the new one's first write: else the old
//     one could come back, and a client would resume the new file on the old one's bytes.
//   - A file of another program is synced before it goes into the outbox.
//   - Mkdir and the rename of a folder sync the folders above: what a client has made is there after a power cut, with the held files in it.
//
// Times set on folders, folders removed, and times set on files of other programs are not synced.
//
// # Rules
//
// A finished file is never written in place: what continues it works on a copy, which replaces it. Two
// uploads of one name at the same time: the later one supersedes the earlier one, which fails.
//
// Names are bytes in any encoding, without control characters (in UTF-8 also those of U+0080 to U+009F), of at most 255 bytes and
// at most 64 levels below the user's directory. What other programs put deeper is delivered all the same.
//
// A folder that a client made goes when it is empty (clients see nothing in it, and it holds nothing of other programs), no session stands in it, and it was not used for
// Options.FolderExpiry, or it is the one unused longest when its user makes one more than Options.MaxDirs. Whoever uses it after
// that finds it made again; which folders have gone is known until the Drop ends. A folder that was there when the Drop was opened counts as
// made by a client if it has the permissions that the node's own folders have, and as last used when it changed last, which a use touches at most once an
// hour. One that turned up later, and that no client made, is another program's, and stays.
//
// What clients see at a name is, in this order: the upload under way or interrupted, with one byte less than it
// has, so that it can be resumed and is not taken for finished; the newest version that is not due; a file of another program; the newest version that waits; and for a
// minute, in the session that uploaded it, what is gone.
//
// Other programs may put files below drop, best by renaming them from elsewhere on the volume; such a file is
// taken when it has been quiet for a time, so a writer that pauses longer sends a piece. What cannot be taken is tried again. Symlinks and special files are
// never followed and never taken. What a version before this one has finished and not yet sent stands there, too: see [Drop.TakeOver].
//
// # Example
//
//	d, err := drop.Open(drop.Options{FS: volume, Outbox: box, Describe: describe, WatchDir: "/data/drop"})
//	user, err := d.User("scanner", "scanner")
//	go d.Run(ctx)
//	session := user.Session(remote)
//	upload, err := session.Create("/a.csv", drop.Start{})
//	if _, err := io.Copy(upload, data); err != nil {
//		return upload.Interrupt(err)
//	}
//	return upload.Commit() // nil: tell the client that it is accepted
package drop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"path"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/loglimit"
)

const dirPerm, filePerm fs.FileMode = 0o750, 0o640

// Drop is the part of a volume where files arrive. It is safe for concurrent use.
type Drop struct {
	opts    Options
	fs      disk.FS
	box     *outbox.Outbox
	log     *slog.Logger
	lines   *loglimit.Limiter // of clients
	ledger  *ledger
	names   nameLocks
	users   users
	uploads *uploads
	found   *foundFiles
	tree    *folderTree
	traces  folderTraces
	full    troubles // users with as many folders as are accepted, by directory
	watcher *watcher
	doubts  doubts
	shown   shownSizes
	repeats repeats
	held    heldLong
	stopped context.Context // ends with Run
	stop    context.CancelFunc
}

// Open recovers what the volume holds, by reading its directories, and makes those that are missing. The Drop that was opened
// on it before must not run any more; those of its uploads that have not ended by now can only fail.
func Open(opts Options) (*Drop, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("drop options: %w", err)
	}
	l := &ledger{
		fs: opts.FS, box: opts.Outbox, minFree: opts.MinFree, spoolLimit: opts.SpoolLimit,
		maxFiles: opts.MaxFiles, maxTotal: opts.MaxTotal, files: map[string]int{},
	}
	d := &Drop{
		opts: opts, fs: opts.FS, box: opts.Outbox, log: opts.Log, ledger: l,
		names:   nameLocks{names: map[string]*nameLock{}},
		uploads: newUploads(opts.FS, l),
		found:   newFoundFiles(opts.FS, l, opts.Quiet),
		tree:    newFolderTree(opts.FS),
		traces:  folderTraces{occupied: map[string]int{}, gone: map[string]bool{}, idle: map[string][]idleFolder{}},
	}
	d.lines = loglimit.New(opts.Log)
	d.stopped, d.stop = context.WithCancel(context.Background())
	d.watcher = newWatcher(d)
	for _, dir := range []string{dropDir, openDir, keptDir} {
		if err := disk.MkdirAll(d.fs, dir, dirPerm); err != nil {
			return nil, fmt.Errorf("making %s: %w", dir, err)
		}
	}
	disk.Hold(d.fs, openDir)
	switch n, err := d.uploads.removeOpen(); {
	case err != nil:
		return nil, fmt.Errorf("removing unfinished uploads: %w", err)
	case n > 0:
		d.log.Info("removed unfinished uploads that the last run left", "files", n)
	}
	if err := d.uploads.eachKept(".", func(p string, fi fs.FileInfo) { d.uploads.noteKept(p, fi.Size()) }, nil); err != nil {
		return nil, fmt.Errorf("looking for interrupted uploads: %w", err)
	}
	d.sweep()
	fi, err := d.fs.Lstat(openDir)
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", openDir, err)
	}
	d.tree.perm = fi.Mode().Perm()
	d.watcher.rescan()
	d.tree.opened()
	return d, nil
}

// Run watches and expires until ctx ends. It returns nil then.
func (d *Drop) Run(ctx context.Context) error {
	defer d.stop()
	var lines sync.WaitGroup
	defer lines.Wait()
	lines.Go(func() { d.lines.Run(ctx) })
	d.watcher.run(ctx)
	return nil
}

// TakeOver puts into the outbox at once, in their order, the files in the drop directory that have been quiet long enough: with a version before this
// one, that is where finished files waited. All users should be known. An error is about the volume as a whole, and passes;
// a single file that cannot be taken is logged, and tried again by Run.
func (d *Drop) TakeOver(ctx context.Context) error { return d.watcher.takeQuiet(ctx) }

// Usage returns what the volume holds.
func (d *Drop) Usage() Usage { return d.ledger.usage() }

// User makes dir below the drop directory, if need be, and returns it as the user's. dir is one clean path
// element or a clean relative path. Users may share a directory, or have one inside another's. If it cannot be made now, it is
// the user's all the same: what turns up in it is taken as theirs, and User can be called again. Held files in it whose names
// are no longer temporary ones (see Options.Ignore) are held no more.
func (d *Drop) User(name, dir string) (*UserDir, error) {
	if p, err := clean(dir); err != nil || p != dir || dir == "." {
		return nil, fmt.Errorf("user %q: directory %q: expected a clean relative path (%w)", name, dir, ErrName)
	}
	u := d.users.add(d, name, dir)
	err := disk.MkdirAll(d.fs, path.Join(dropDir, dir), dirPerm)
	if err == nil {
		d.tree.addAll(dir)
		err = d.release(u)
	}
	if err != nil {
		return nil, fmt.Errorf("user %q: directory %q: %w", name, dir, err)
	}
	d.watcher.wakeUp() // what looked temporary may not be any more
	return u, nil
}

// release has what is held in u's directory sent, as far as its name is not a temporary one any more.
func (d *Drop) release(u *UserDir) error {
	defer d.names.lockAll()()
	var edits []outbox.Edit
	for _, e := range d.box.Held() { // all that wait may be 200,000
		if !held(e) || !below(e.Key, u.dir) || d.temporary(e.Key) {
			continue
		}
		wait, yield := d.wait(false)
		edits = append(edits, outbox.Edit{ID: e.ID, Wait: &wait, Yield: &yield, Last: true})
		d.log.Info("a file is held no more: its name is not a temporary one by now", "trackingId", e.ID, "name", e.Name)
	}
	if len(edits) == 0 {
		return nil
	}
	return d.box.Edit(edits, nil)
}

// wait is how a file with a temporary name, or with another, waits in the outbox.
func (d *Drop) wait(temporary bool) (wait time.Duration, yield bool) {
	if temporary {
		return outbox.Forever, true
	}
	return d.opts.Settle, false
}

// item is an item for the outbox of the file f, whose path below drop is p.
func (d *Drop) item(f File, p string, temporary bool) outbox.Item {
	lane, meta := d.opts.Describe(f)
	wait, yield := d.wait(temporary)
	return outbox.Item{Name: f.Name, Key: p, Lane: lane, Meta: meta, Wait: wait, Yield: yield}
}

// putOne puts one item into the outbox.
func (d *Drop) putOne(item outbox.Item) (outbox.Entry, error) {
	entries, errs := d.box.Put(context.Background(), []outbox.Item{item})
	return entries[0], errs[0]
}

// accepted logs that e will be sent, unless it is held.
func (d *Drop) accepted(user string, remote netip.Addr, e outbox.Entry) {
	level, text := slog.LevelInfo, "File accepted"
	if held(e) {
		level, text = slog.LevelDebug, "File held until it is renamed"
	}
	attrs := []any{"trackingId", e.ID, "user", user, "name", e.Name, "bytes", e.Size}
	if remote.IsValid() {
		attrs = append(attrs, "remote", remote)
	}
	d.log.Log(context.Background(), level, text, attrs...)
}

// sweep removes interrupted uploads that nobody has resumed in time.
func (d *Drop) sweep() {
	warn := func(p string, err error) {
		user, name := d.users.owner(p)
		d.lines.Logger(netip.Prefix{}).Warn("cannot remove an interrupted upload", "user", user, "name", name, "error", named(name, err))
	}
	err := d.uploads.eachKept(".", func(p string, _ fs.FileInfo) {
		switch fi, err := d.uploads.expireKept(p, d.opts.PartialExpiry); {
		case err != nil:
			warn(p, err)
		case fi != nil:
			user, name := d.users.owner(p)
			d.lines.Logger(netip.Prefix{}).Info("removed an interrupted upload that was not resumed", "user", user, "name", name, "bytes", fi.Size(), "after", d.opts.PartialExpiry)
		}
	}, d.uploads.removeKeptDir)
	if err != nil {
		warn(".", err)
	}
}

// asDue returns ErrDue for the error of an entry that cannot be changed any more, or has left; else err.
func asDue(err error) error {
	if errors.Is(err, outbox.ErrDue) || errors.Is(err, fs.ErrNotExist) {
		return ErrDue
	}
	return err
}
