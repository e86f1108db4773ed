package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/contenttype"
)

// The message is a JSON object with these keys, in this order: name, contentLength, contentType,
// modificationDateTime, the content's or its URL's, metadata. What metadata holds is in [metadata].
var reservedFields = map[string]bool{
	"name": true, "contentLength": true, "contentType": true, "modificationDateTime": true, "metadata": true,
}

const dateTime = "2006-01-02T15:04:05.000Z07:00" // RFC 3339 with milliseconds

// received is what an entry of the outbox keeps about where its file came from.
type received struct {
	User          string    `json:"user"`
	RemoteAddress string    `json:"remoteAddress,omitempty"` // "" if it is not known
	Received      time.Time `json:"received"`
}

// receivedOf reads what Take wrote. A file whose record was lost, and which an operator sends all the same, has nothing of it.
func receivedOf(e outbox.Entry) (received, error) {
	var r received
	if len(e.Meta) > 0 {
		if err := json.Unmarshal(e.Meta, &r); err != nil {
			// It will not read better the next time, and what comes after it in its lane waits.
			return r, echostream.Permanent(fmt.Errorf("entry %s: its record of where the file came from cannot be read: %w", e.ID, err))
		}
	}
	if r.Received.IsZero() {
		r.Received = e.Accepted
	}
	return r, nil
}

// metadata is what only this node knows.
type metadata struct {
	User             string `json:"user"`
	RemoteAddress    string `json:"remoteAddress,omitempty"`
	ReceivedDateTime string `json:"receivedDateTime"`
	SHA256           string `json:"sha256"` // of the file, 64 hex digits
	// NameBytes is there only if the file's name is not valid UTF-8: its bytes, base64.
	NameBytes []byte `json:"nameBytes,omitempty"`
}

// facts are what the message and the audit record say of a file.
type facts struct {
	name        string // readable, see readableName
	length      int64  // bytes
	contentType string
	modified    time.Time
	metadata    metadata
}

func (f facts) modificationDateTime() string { return f.modified.UTC().Format(dateTime) }

// attributes are those of the audit record: first what echo.file's auditor takes from the message, then ours.
func (f facts) attributes() map[string]any {
	attributes := map[string]any{
		"content_length":        f.length,
		"content_type":          f.contentType,
		"modification_datetime": f.modificationDateTime(),
		"name":                  f.name,
		"user":                  f.metadata.User,
		"received_datetime":     f.metadata.ReceivedDateTime,
		"sha256":                f.metadata.SHA256,
	}
	if a := f.metadata.RemoteAddress; a != "" {
		attributes["remote_address"] = a
	}
	return attributes
}

// readableName makes a file's name fit for JSON. A valid UTF-8 name stays as it is. In any other, each byte that is not
// part of a valid character becomes "%" and two hex digits, so that names stay apart and can be read; to get the
// very bytes back, a reader takes metadata.nameBytes.
func readableName(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	var b strings.Builder
	for i, r := range name {
		if r == utf8.RuneError {
			if _, width := utf8.DecodeRuneInString(name[i:]); width == 1 {
				fmt.Fprintf(&b, "%%%02X", name[i])
				continue
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

// body writes the message. key is that of content: base64, or a URL.
func (f facts) body(key, content string) (string, error) {
	var b strings.Builder
	b.Grow(len(content) + 1024)
	b.WriteByte('{')
	for i, member := range []struct {
		key   string
		value any
	}{
		{"name", f.name}, {"contentLength", f.length}, {"contentType", f.contentType},
		{"modificationDateTime", f.modificationDateTime()}, {key, content}, {"metadata", f.metadata},
	} {
		value, err := echostream.MarshalMessage(member.value)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + member.key + `":`) // the schema keeps keys to what needs no escape
		b.WriteString(value)
	}
	b.WriteByte('}')
	return b.String(), nil
}

// payload is a message ready for sending.
type payload struct {
	echostream.Message
	facts         facts
	bulk          bool
	made, expires time.Time // of the URL in it, by EchoStream's clock
}

// composer makes messages of files.
type composer struct {
	config MessageConfig
	group  string           // of the messages; "" is the node's
	now    func() time.Time // EchoStream's clock
	// upload puts a file into bulk storage. open reads it from its start.
	upload func(ctx context.Context, open func() (io.ReadCloser, error)) (echostream.BulkObject, error)
}

// maxInline is the size of the largest file that might fit a message, as base64.
var maxInline = int64(base64.StdEncoding.DecodedLen(echostream.MaxMessageSize))

// compose makes the message of an entry: inline if config and size allow it, else with an upload to bulk storage.
func (c composer) compose(ctx context.Context, e outbox.Entry, open func() (disk.File, error)) (*payload, error) {
	from, err := receivedOf(e)
	if err != nil {
		return nil, err
	}
	p := &payload{
		Message: echostream.Message{TrackingID: e.ID, Group: c.group},
		facts:   facts{name: readableName(e.Name), modified: e.ModTime, metadata: from.metadata(e.Name)},
	}
	if c.config.Content != "bulk" {
		fits, err := c.inline(p, e, open)
		if err != nil || fits {
			return p, err
		}
		if c.config.Content == "inline" {
			return nil, echostream.Permanent(fmt.Errorf(
				"the file of %d bytes does not fit a message of %d bytes, and the config says message.content = inline", e.Size, echostream.MaxMessageSize))
		}
	}
	return p, c.bulk(ctx, p, e, open)
}

func (r received) metadata(name string) metadata {
	m := metadata{User: r.User, RemoteAddress: r.RemoteAddress, ReceivedDateTime: r.Received.UTC().Format(dateTime)}
	if !utf8.ValidString(name) {
		m.NameBytes = []byte(name)
	}
	return m
}

// inline writes the content into the message, if it fits.
func (c composer) inline(p *payload, e outbox.Entry, open func() (disk.File, error)) (fits bool, err error) {
	if e.Size > maxInline {
		return false, nil
	}
	content, err := readSmall(e, open)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(content)
	p.facts.metadata.SHA256 = hex.EncodeToString(sum[:])
	p.facts.length = int64(len(content))
	p.facts.contentType = contenttype.Of(e.Name, content)
	p.Body, err = p.facts.body(c.config.ContentField, base64.StdEncoding.EncodeToString(content))
	return p.Size() <= echostream.MaxMessageSize, err
}

func readSmall(e outbox.Entry, open func() (disk.File, error)) ([]byte, error) {
	f, err := open()
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", e.Name, err)
	}
	defer f.Close()
	content := make([]byte, e.Size)
	if _, err := io.ReadFull(f, content); err != nil {
		return nil, fmt.Errorf("reading %q of %d bytes: %w", e.Name, e.Size, err)
	}
	return content, nil
}

// bulk puts the content into bulk storage, and its URL into the message.
func (c composer) bulk(ctx context.Context, p *payload, e outbox.Entry, open func() (disk.File, error)) error {
	var err error
	if p.facts.contentType, err = contentTypeOf(e, open); err != nil {
		return err
	}
	object, err := c.upload(ctx, func() (io.ReadCloser, error) { return open() })
	if err != nil {
		return err
	}
	p.bulk, p.made, p.expires = true, c.now(), object.Expires
	p.facts.length = object.Size
	p.facts.metadata.SHA256 = object.SHA256
	p.Body, err = p.facts.body(c.config.URLField, object.URL)
	if err == nil && p.Size() > echostream.MaxMessageSize {
		err = echostream.Permanent(fmt.Errorf("the name of %d bytes leaves no room in a message of %d", len(e.Name), echostream.MaxMessageSize))
	}
	return err
}

func contentTypeOf(e outbox.Entry, open func() (disk.File, error)) (string, error) {
	f, err := open()
	if err != nil {
		return "", fmt.Errorf("reading %q: %w", e.Name, err)
	}
	defer f.Close()
	head := make([]byte, contenttype.HeadSize)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", fmt.Errorf("reading %q: %w", e.Name, err)
	}
	return contenttype.Of(e.Name, head[:n]), nil
}

// factsOf finds out anew what an entry's payload knew: for an audit record after a restart.
func factsOf(ctx context.Context, e outbox.Entry, open func() (disk.File, error)) (facts, error) {
	from, err := receivedOf(e)
	if err != nil {
		return facts{}, err
	}
	f := facts{name: readableName(e.Name), modified: e.ModTime, metadata: from.metadata(e.Name)}
	if f.contentType, err = contentTypeOf(e, open); err != nil {
		return f, err
	}
	file, err := open()
	if err != nil {
		return f, fmt.Errorf("reading %q: %w", e.Name, err)
	}
	defer file.Close()
	hash := sha256.New()
	if f.length, err = io.Copy(hash, contextReader{ctx, file}); err != nil {
		return f, fmt.Errorf("reading %q: %w", e.Name, err)
	}
	f.metadata.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return f, nil
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
