// Command filedrop is an EchoStream node that receives files and puts each into a folder, the opposite of ftpnode.
//
// A file appears in files/ of the volume under its name at once and whole, and is durable before EchoStream is told that it was
// received. The folders in its name are kept; what no file system takes, or would take for something else, is replaced by "_". A message
// that comes twice is written once. A file whose name is taken replaces what has it or, by the config, is kept beside it as "name (2).txt".
// While the volume is full, or fails, the message is held, and nothing overtakes it.
//
// A crash in the middle of a message that never comes again leaves a hidden file, ".filedrop-" and its id, that nobody misses.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/node"
)

const (
	folder = "files" // on the volume
	seen   = "seen"  // notes of what was received, by message
	// forget is how long a note is kept: longer than any queue keeps a message.
	forget  = 15 * 24 * time.Hour
	partial = ".filedrop-" // begins the name of an unfinished file, which stands where it will be
)

func main() {
	node.Main(node.Bridge[Config]{Name: "filedrop", Schema: schema, Serve: forgetOld, Receive: receive})
}

var reader = &echofile.Reader{}

// receive stores the file of one message. It does not return before the file is stored, the message is at fault, or ctx ends.
func receive(ctx context.Context, n *node.Node, c Config, m echostream.ReceivedMessage) error {
	file, err := reader.File(m)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(m.Source + "\x00" + m.ID)) // not the tracking id: it may come by several edges
	d := &drop{volume: n.Volume, keepBoth: c.Existing == "keepBoth", id: hex.EncodeToString(sum[:16])}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		name, err := d.store(ctx, file)
		var trouble *volumeError
		if err == nil && name != "" {
			n.Log.Info("File received", "trackingId", m.TrackingID, "source", m.Source, "name", file.Name, "as", name)
		}
		if !errors.As(err, &trouble) {
			return err
		}
		n.Log.Error("a file cannot be stored; retrying", "trackingId", m.TrackingID, "name", file.Name, "error", err)
		select {
		case <-time.After(pause): // and hold the message: to hand it back would use up its receives
		case <-ctx.Done():
			return err
		}
	}
}

// volumeError is an error of the volume. It is no fault of the message.
type volumeError struct{ error }

func (e *volumeError) Unwrap() error { return e.error }

func onVolume(err error) error {
	if err == nil {
		return nil
	}
	return &volumeError{err}
}

// drop stores the file of one message. Its steps, each durable before the next: the bytes, under a name that tells the message; the note
// that they are whole; the file's own name. So if there is a note, the bytes have their name unless they still have the first one.
type drop struct {
	volume   disk.FS
	keepBoth bool
	id       string // of the message
}

// naming has one message at a time look for a free name and take it.
var naming sync.Mutex

// store returns where the file stands; "" if it was stored before.
func (d *drop) store(ctx context.Context, file *echofile.File) (string, error) {
	name := safeName(file.Name)
	dir := path.Join(folder, path.Dir(name))
	temporary, note := path.Join(dir, partial+d.id), path.Join(seen, d.id)
	if err := errors.Join(disk.MkdirAll(d.volume, dir, 0o777), disk.MkdirAll(d.volume, seen, 0o700)); errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist) {
		return "", echostream.Permanent(fmt.Errorf("a file has the name of the folder %q: %w", dir, err))
	} else if err != nil {
		return "", onVolume(err)
	}
	switch _, err := d.volume.Lstat(note); {
	case errors.Is(err, fs.ErrNotExist):
		if err := d.fetch(ctx, file, temporary); err != nil {
			return "", err
		}
		if err := disk.WriteFile(d.volume, note, []byte(name+"\n"), 0o600); err != nil {
			return "", onVolume(err)
		}
	case err != nil:
		return "", onVolume(err)
	}
	naming.Lock()
	defer naming.Unlock()
	name = path.Join(folder, name)
	if d.keepBoth {
		var err error
		if name, err = d.free(name); err != nil {
			return "", onVolume(err)
		}
	}
	switch err := d.volume.Rename(temporary, name); {
	case errors.Is(err, fs.ErrNotExist):
		return "", onVolume(d.volume.SyncDir(dir)) // it was done, perhaps by a process that was killed then
	case errors.Is(err, fs.ErrExist):
		return "", echostream.Permanent(fmt.Errorf("a folder has the name of the file %q: %w", name, err))
	case err != nil:
		return "", onVolume(err)
	}
	return name, onVolume(d.volume.SyncDir(dir))
}

// fetch writes the content to a file and makes it durable.
func (d *drop) fetch(ctx context.Context, file *echofile.File, name string) (err error) {
	content, err := file.Open(ctx)
	if err != nil {
		return err
	}
	defer content.Close()
	f, err := d.volume.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return onVolume(err)
	}
	defer func() {
		err = errors.Join(err, onVolume(f.Close()))
		if err != nil { // it would take room that others need
			_ = d.volume.Remove(name)
		}
	}()
	if _, err := io.Copy(writer{f}, content); err != nil { // to its io.EOF: it is whole, and what the message says
		return err
	}
	if !file.Modified.IsZero() {
		if err := d.volume.Chtimes(name, file.Modified); err != nil {
			return onVolume(err)
		}
	}
	return onVolume(f.Sync())
}

// writer tells errors of the volume from those of the content.
type writer struct{ disk.File }

func (w writer) Write(b []byte) (int, error) {
	n, err := w.File.Write(b)
	return n, onVolume(err)
}

// free returns name, or the first of "name (2).txt" and so on that nothing has.
func (d *drop) free(name string) (string, error) {
	extension := path.Ext(name)
	for candidate, n := name, 2; ; n++ {
		if _, err := d.volume.Lstat(candidate); errors.Is(err, fs.ErrNotExist) {
			return candidate, nil
		} else if err != nil {
			return "", err
		}
		candidate = fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(name, extension), n, extension)
	}
}

// safeName makes a relative path of a name from elsewhere that any file system takes, also one that is shared with Windows, and that
// leads nowhere else. It keeps the folders in it.
func safeName(name string) string {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		part = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || strings.ContainsRune(`\:*?"<>|`, r) || r == utf8.RuneError {
				return '_'
			}
			return r
		}, part)
		if strings.HasPrefix(part, ".") { // hidden, or a way out
			part = "_" + part[1:]
		}
		if trimmed := strings.TrimRight(part, " ."); trimmed != part {
			part = trimmed + "_"
		}
		if len(part) > 200 {
			sum := sha256.Sum256([]byte(part))
			extension := path.Ext(part)
			if len(extension) > 20 {
				extension = ""
			}
			part = strings.ToValidUTF8(part[:150], "") + "-" + hex.EncodeToString(sum[:8]) + extension
		}
		if part != "" && len(parts) < 20 {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "_"
	}
	return path.Join(parts...)
}

// forgetOld removes notes of messages that will not come again, now and each day.
func forgetOld(ctx context.Context, n *node.Node, _ Config) error {
	for {
		notes, err := n.Volume.ReadDir(seen)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, note := range notes {
			if info, err := note.Info(); err == nil && time.Since(info.ModTime()) > forget {
				if err := n.Volume.Remove(path.Join(seen, note.Name())); err != nil {
					return err
				}
			}
		}
		select {
		case <-time.After(24 * time.Hour):
		case <-ctx.Done():
			return nil
		}
	}
}
