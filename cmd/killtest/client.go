package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"time"
)

const password = "a-password-that-no-log-shows"

// tries is how often a client tries something before it gives up.
const tries = 12

// client is a device that uploads one file after the other and keeps exact books of the replies.
type client struct {
	name    string // its user, too
	address string
	random  *rand.Rand
	ledger  *ledger
	trigger *trigger
	kernel  bool // see session

	session *session
	number  int // of the last file
}

// run works until stop is closed, and gives up what it is doing when ctx ends.
func (c *client) run(ctx context.Context, stop <-chan struct{}) {
	defer c.hangUp()
	jobs := []struct {
		weight int
		do     func(context.Context)
	}{
		{10, c.upload}, {2, c.uploadWithTime}, {4, c.overwrite}, {5, c.uploadThenRename}, {3, c.renameFinished}, {3, c.appendTo},
		{4, c.resume}, {2, c.remove}, {3, c.die},
	}
	var bag []func(context.Context)
	for _, j := range jobs {
		for range j.weight {
			bag = append(bag, j.do)
		}
	}
	for ctx.Err() == nil {
		select {
		case <-stop:
			return
		default:
		}
		bag[c.random.IntN(len(bag))](ctx)
		pause(ctx, time.Duration(c.random.Int64N(int64(40*time.Millisecond))))
	}
}

// new begins a file: its name, content and entry in the ledger.
func (c *client) new(what string) (*file, []byte) {
	c.number++
	name := fmt.Sprintf("%06d.dat", c.number)
	switch c.random.IntN(8) {
	case 0:
		name = fmt.Sprintf("Gr\u00f6\u00dfe %d & more.txt", c.number)
	case 1:
		name = fmt.Sprintf("day-%d/%06d.csv", c.random.IntN(3), c.number)
	}
	return c.named(what, name)
}

func (c *client) named(what, name string) (*file, []byte) {
	what = fmt.Sprintf("%s %s #%d", c.name, what, c.number)
	return c.sized(what, name, c.anySize())
}

// anySize is mostly that of a message, sometimes that of bulk storage.
func (c *client) anySize() int {
	switch c.random.IntN(10) {
	case 0:
		return 200_000 + c.random.IntN(800_000)
	case 1, 2:
		return 4_000 + c.random.IntN(150_000)
	}
	return c.random.IntN(4_000)
}

func (c *client) sized(what, name string, size int) (*file, []byte) {
	// Two versions of one name differ in their first line, too.
	bytes := content(fmt.Sprintf("%s %s %d", what, name, c.random.Uint64()), size, c.random)
	return c.ledger.add(&file{what: what, names: []string{name}}, bytes), bytes
}

// log in, if need be; nil when ctx ends first.
func (c *client) connect(ctx context.Context) *session {
	for c.session == nil && ctx.Err() == nil {
		s, err := dial(ctx, c.address, c.name, password, c.trigger)
		if err == nil {
			c.session = s
			s.kernel = c.kernel
			break
		}
		pause(ctx, 20*time.Millisecond) // it is being started again
	}
	if ctx.Err() != nil {
		return nil
	}
	return c.session
}

func (c *client) hangUp() {
	if c.session != nil {
		c.session.close()
		c.session = nil
	}
}

// makeDirectory makes the one in which name is to stand.
func (c *client) makeDirectory(ctx context.Context, name string) {
	if path.Dir(name) == "." {
		return
	}
	if s := c.connect(ctx); s != nil {
		if _, _, err := s.command("MKD " + path.Dir(name)); err != nil { // it may be there
			c.hangUp()
		}
	}
}

// store uploads until it has read a 226, or gives up.
func (c *client) store(ctx context.Context, f *file, name string, content []byte) bool {
	for range tries {
		c.makeDirectory(ctx, name)
		s := c.connect(ctx)
		if s == nil {
			break
		}
		r, err := s.put("STOR "+name, content, -1)
		if c.note(ctx, f, r, err) {
			return true
		}
		if r.whole && r.code == 0 && c.random.IntN(4) == 0 {
			break // a client that never asks again
		}
	}
	f.leftover = append(f.leftover, name)
	return false
}

// note keeps the books of an upload, and reports whether it was acknowledged.
func (c *client) note(ctx context.Context, f *file, r result, err error) bool {
	if err != nil {
		c.hangUp()
	}
	switch {
	case r.code == 226:
		f.wholes++
		f.acked, f.from, f.to = true, r.from, r.to
		if !r.whole {
			c.ledger.violate("%v: 226 although not all of it was sent", f)
		}
		return true
	case r.code == 0 && r.whole:
		f.wholes++
	case r.code == 451 && r.whole:
		f.late = true
		pause(ctx, 30*time.Millisecond)
	case r.code != 0:
		pause(ctx, 30*time.Millisecond) // refused
	}
	return false
}

func (c *client) upload(ctx context.Context) {
	f, content := c.new("upload")
	c.store(ctx, f, f.names[0], content)
}

func (c *client) uploadWithTime(ctx context.Context) {
	f, content := c.new("upload with MFMT")
	if !c.store(ctx, f, f.names[0], content) {
		return
	}
	if _, _, err := c.session.command("MFMT 20190203040506 " + f.names[0]); err != nil {
		c.hangUp()
	}
}

// overwrite uploads a name over and over, as cameras do.
func (c *client) overwrite(ctx context.Context) {
	name := fmt.Sprintf("camera-%d.jpg", c.random.IntN(3)) // and again by a later call
	c.number++
	for range 2 + c.random.IntN(3) {
		f, content := c.named("overwrite", name)
		c.store(ctx, f, name, content)
		pause(ctx, time.Duration(c.random.Int64N(int64(100*time.Millisecond))))
	}
}

// uploadThenRename publishes a file by renaming it from a temporary name, of which nothing may ever arrive.
func (c *client) uploadThenRename(ctx context.Context) {
	f, content := c.new("upload, rename")
	temporary := f.names[0] + ".tmp"
	c.publish(ctx, f, temporary, c.store(ctx, f, temporary, content))
}

// publish renames a temporary file; there reports whether it is known to be there.
func (c *client) publish(ctx context.Context, f *file, temporary string, there bool) {
	never, once := 0, 1
	f.acked, f.once, f.from, f.to = false, &never, time.Time{}, time.Time{}
	if !there {
		return
	}
	asked := false // there is a rename whose reply was not read
	for range tries {
		s := c.connect(ctx)
		if s == nil {
			break
		}
		code, _, err := s.command("RNFR " + temporary)
		if err != nil {
			c.hangUp()
			continue
		}
		if code != 350 {
			if asked { // then it was renamed
				f.acked = !f.late
				return
			}
			c.ledger.violate("%v: %q is not there (%d) after its 226", f, temporary, code)
			return
		}
		from := time.Now()
		f.once = &once
		if err = s.send("RNTO " + f.names[0]); err == nil {
			s.trigger.hit(renaming)
			code, _, err = s.reply()
		}
		switch {
		case err != nil:
			asked = true
			c.hangUp()
		case code == 250:
			f.acked = true
			if !asked {
				f.from, f.to = from, time.Now()
			}
			return
		default:
			if code == 451 { // it may be under way
				f.late, asked = true, true
			}
			pause(ctx, 30*time.Millisecond)
		}
	}
	f.leftover = append(f.leftover, temporary)
}

// renameFinished renames a file that may be taken at any moment.
func (c *client) renameFinished(ctx context.Context) {
	f, content := c.new("rename of finished")
	old := f.names[0]
	if !c.store(ctx, f, old, content) {
		return
	}
	once := f.wholes == 1
	renamed := fmt.Sprintf("renamed-%06d.dat", c.number)
	code, _, err := c.session.command("RNFR " + old)
	if err == nil && code == 350 {
		f.names = append(f.names, renamed)
		if err = c.session.send("RNTO " + renamed); err == nil {
			c.trigger.hit(renaming)
			code, _, err = c.session.reply()
		}
		switch {
		case err != nil || !once:
		case code == 250:
			f.names = []string{renamed}
		default:
			f.names = []string{old}
		}
	}
	if err != nil {
		c.hangUp()
	}
}

// appendTo adds to a file under a temporary name, then publishes it.
func (c *client) appendTo(ctx context.Context) {
	f, content := c.new("append")
	temporary := f.names[0] + ".part"
	at := int64(len(content) / 2)
	there := c.store(ctx, f, temporary, content[:at])
	f.wholes = 0 // it was the first half
	if there {
		there = c.appendRest(ctx, f, temporary, content, at)
	}
	c.publish(ctx, f, temporary, there)
}

func (c *client) appendRest(ctx context.Context, f *file, name string, content []byte, at int64) bool {
	for range tries {
		s := c.connect(ctx)
		if s == nil {
			break
		}
		size, err := s.size(name)
		switch {
		case err != nil:
			c.hangUp()
			continue
		case size == int64(len(content)):
			f.wholes = 1 // the reply of the APPE before was lost
			return true
		case size != at:
			c.ledger.violate("%v: %q has %d bytes after its 226, expected %d or, with what was appended, %d", f, name, size, at, len(content))
			return false
		}
		r, err := s.put("APPE "+name, content[at:], -1)
		if c.note(ctx, f, r, err) {
			return true
		}
	}
	f.leftover = append(f.leftover, name)
	return false
}

// resume dies in the middle of an upload and goes on with it, as SIZE says.
func (c *client) resume(ctx context.Context) {
	c.number++
	name := fmt.Sprintf("resumed-%06d.bin", c.number)
	f, content := c.sized(fmt.Sprintf("%s resume #%d", c.name, c.number), name, 50_000+c.random.IntN(600_000))
	if s := c.connect(ctx); s != nil {
		f.content, f.cut = content, 1+c.random.IntN(len(content)-1)
		r, _ := s.put("STOR "+name, content, f.cut)
		f.dies(r)
		c.hangUp()
	}
	for range tries {
		s := c.connect(ctx)
		if s == nil {
			break
		}
		size, err := s.size(name)
		if err == nil && size > 0 {
			_, _, err = s.command(fmt.Sprintf("REST %d", size))
		}
		if err != nil {
			c.hangUp()
			continue
		}
		if size > int64(len(content)) {
			c.ledger.violate("%v: SIZE says %d", f, size)
			break
		}
		r, err := s.put("STOR "+name, content[max(size, 0):], -1)
		if c.note(ctx, f, r, err) {
			return
		}
	}
	f.leftover = append(f.leftover, name)
}

// remove deletes a file right after it was uploaded, if the node lets it.
func (c *client) remove(ctx context.Context) {
	f, content := c.new("delete")
	if !c.store(ctx, f, f.names[0], content) {
		return
	}
	code, _, err := c.session.command("DELE " + f.names[0])
	switch {
	case err != nil:
		f.acked = false // it may be gone
		c.hangUp()
	case code == 250:
		f.acked = false
		less := f.wholes - 1
		f.once = &less
	}
}

// die is killed in the middle of an upload, or after it and before the reply.
func (c *client) die(ctx context.Context) {
	f, content := c.new("dead client")
	f.leftover = append(f.leftover, f.names[0])
	c.makeDirectory(ctx, f.names[0])
	s := c.connect(ctx)
	if s == nil {
		return
	}
	cut := c.random.IntN(len(content))
	if c.random.IntN(4) == 0 {
		cut = len(content)
	}
	f.content, f.cut = content, cut
	r, err := s.put("STOR "+f.names[0], content, cut)
	f.dies(r)
	if r.whole && errors.Is(err, errCut) {
		f.wholes++
	}
	c.hangUp()
}
