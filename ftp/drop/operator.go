package drop

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// Interrupted is an upload that broke off. Its client can resume it. An operator who knows that it is whole can accept it.
type Interrupted struct {
	ID         string // for Accept: 16 hex digits, others once the upload has changed
	User, Name string // as in File
	Size       int64  // bytes that are kept
	Since      time.Time
	Until      time.Time // then it is removed

	path string // below drop
}

// Interrupted lists the interrupted uploads, oldest first. It reads directories of the volume.
func (d *Drop) Interrupted() ([]Interrupted, error) {
	var list []Interrupted
	err := d.uploads.eachKept(".", func(p string, fi fs.FileInfo) {
		user, name := d.users.owner(p)
		since := disk.ChangeTime(fi)
		list = append(list, Interrupted{keptID(p, fi), user, name, fi.Size(), since, since.Add(d.opts.PartialExpiry), p})
	}, nil)
	slices.SortFunc(list, func(a, b Interrupted) int { return a.Since.Compare(b.Since) })
	return list, err
}

// keptID identifies an interrupted upload as it is: resumed and interrupted again, it has another one.
func keptID(p string, fi fs.FileInfo) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", fi.Size(), disk.ChangeTime(fi).UnixNano(), p))
	return hex.EncodeToString(sum[:8])
}

// Accept puts an interrupted upload into the outbox, as if its client had finished it: when it returns nil, the file is durable there. One
// with a temporary name is held until it is renamed. The error wraps fs.ErrNotExist if there is no such upload any more.
func (d *Drop) Accept(id string) error {
	list, err := d.Interrupted()
	i := slices.IndexFunc(list, func(one Interrupted) bool { return one.ID == id })
	if i >= 0 {
		return named(list[i].Name, d.accept(list[i]))
	}
	if err == nil {
		err = fs.ErrNotExist
	}
	return fmt.Errorf("interrupted upload %s: %w", id, err)
}

func (d *Drop) accept(one Interrupted) error {
	defer d.names.lock(one.path)()
	_, fi, err := d.uploads.at(one.path)
	if err != nil {
		return err
	}
	if fi == nil || keptID(one.path, fi) != one.ID {
		return fs.ErrNotExist // resumed or removed meanwhile
	}
	item := d.item(File{User: one.User, Name: one.Name, Received: one.Since}, one.path, d.temporary(one.path))
	item.Path = kept(one.path)
	if e, ok := d.box.Lookup(one.path); ok && held(e) {
		item.Replaces = e.ID
	}
	e, err := d.putOne(item)
	if err != nil {
		return err
	}
	d.uploads.forgetKept(one.path)
	d.ledger.addPartial(one.path, -1, -e.Size)
	d.log.Info("an interrupted upload was accepted by an operator", "trackingId", e.ID, "user", one.User, "name", one.Name, "bytes", e.Size)
	d.accepted(one.User, netip.Addr{}, e)
	return nil
}

// Uploading is an upload under way.
type Uploading struct {
	User, Name string // as in File
	Size       int64  // bytes so far
	Since      time.Time
	RemoteAddr netip.Addr
}

// Uploading lists the uploads under way, oldest first.
func (d *Drop) Uploading() []Uploading {
	var list []Uploading
	for _, u := range d.uploads.in(".", true) {
		list = append(list, Uploading{u.s.u.name, u.name(), u.Size(), u.began, u.s.remote})
	}
	slices.SortFunc(list, func(a, b Uploading) int { return a.Since.Compare(b.Since) })
	return list
}
