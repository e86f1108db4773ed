package ftp

import (
	"fmt"
	"net/netip"
	"sync"
)

// declarations remembers uploads that ended short of what ALLO had declared. ALLO only reserves (RFC 959), but most clients declare the
// very size, so that a shorter file is a sign of a broken upload, and is refused. A client that sends the same file
// once more, and ends it at the same byte, declares too much: that upload is whole, and what the client declares is
// no sign of anything from then on, until the program ends. Its zero value is ready.
type declarations struct {
	mu    sync.Mutex
	short map[declaration]ending
	vague map[peer]bool // they declare too much
}

// peer is a user at an address.
type peer struct {
	user   string
	remote netip.Addr
}

// declaration is what a client declared for a file.
type declaration struct {
	peer
	name string
	size int64
}

// ending is how an upload ended.
type ending struct {
	size int64
	sum  uint32 // of its bytes
}

const maxDeclarations = 1000 // remembered at a time, of each kind

// counts reports whether what the client declares for the file is a sign of its size, as far as is known when the upload begins.
func (d *declarations) counts(of declaration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, short := d.short[of]
	return !short && !d.vague[of.peer]
}

// whole reports whether an upload that ended short of its declaration is whole all the same, and whether that is new of the client. With
// more as false it added nothing to what was there, so that its own bytes are not to be compared.
func (d *declarations) whole(of declaration, end ending, more bool) (whole, news bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.vague[of.peer] {
		return true, false
	}
	former, again := d.short[of]
	if again && former.size == end.size && (!more || former.sum == end.sum) {
		if len(d.vague) >= maxDeclarations || d.vague == nil {
			d.vague = make(map[peer]bool)
		}
		d.vague[of.peer] = true
		delete(d.short, of)
		return true, true
	}
	if len(d.short) >= maxDeclarations || d.short == nil {
		d.short = make(map[declaration]ending)
	}
	d.short[of] = end
	return false, false
}

// declaration is what the client declared for the upload.
func (s *session) declaration(c *command, name string) declaration {
	return declaration{peer{s.account.Name, s.remote}, name, c.declared}
}

// short says that the upload, which ended well, is shorter than declared, or nil.
func (u *upload) short() error {
	size, declared := u.file.Size(), u.c.declared
	if size >= declared {
		return nil
	}
	of := u.s.declaration(u.c, u.name)
	whole, news := u.s.srv.declarations.whole(of, ending{size, u.sum}, u.c.bytes > 0 || !u.resumed)
	if news {
		u.c.log.Warn("the client declares more than its files have (ALLO): it sent the same file again, and as short; its declarations count no more",
			"file", loggable(u.c.arg), "declared", declared, "bytes", size)
	}
	if whole {
		return nil
	}
	return fmt.Errorf("%w: ALLO declared %d bytes, and %d came; the same file once more counts as whole", errShort, declared, size)
}
