package echofile

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/internal/contenttype"
)

// Where a [Composer] puts the content of a file.
const (
	Auto   = "auto"   // into the message where the whole of it fits, else into bulk data storage
	Inline = "inline" // into the message; a file that does not fit is a permanent error
	Bulk   = "bulk"   // into bulk data storage
)

// Composer makes echo.file messages of the files in an outbox. It is safe for concurrent use.
//
// A message is a JSON object with these keys, in this order: name, contentLength, contentType, modificationDateTime, the content's
// or its URL's, metadata. Times are RFC 3339 in UTC with milliseconds. metadata holds what the [Origin] says, then
// receivedDateTime, sha256 (64 hex digits) and, only if the file's name is not valid UTF-8, nameBytes (base64).
type Composer struct {
	// Content is Auto, Inline or Bulk. By default, Auto.
	Content string
	// ContentField is the key of content inside a message, URLField that of the URL where it is. By default, DefaultContentField
	// and DefaultURLField. They are no other key of the message: see [IsKey].
	ContentField, URLField string
	// Upload puts a file into bulk data storage, as [echostream.Bulk.Upload] does. It may be nil if Content is Inline.
	Upload func(ctx context.Context, open func() (io.ReadCloser, error)) (echostream.BulkObject, error)
	// Now is EchoStream's clock, by which the URLs of bulk data storage end: [echostream.Client.Now]. By default, time.Now.
	Now func() time.Time
}

// Origin is what only a bridge knows of a file.
type Origin struct {
	// Received is when the bridge had the whole file. By default, when the outbox took it.
	Received time.Time
	// Fields stand in metadata, in this order, and in the audit record.
	Fields []Field
}

// Field is one thing that a bridge knows of a file, such as who sent it.
type Field struct {
	Key       string // in the message's metadata, such as "remoteAddress"
	Attribute string // in the audit record, such as "remote_address". By default, it is not there
	Value     string
}

// Message is a message that is ready to be sent. Its tracking id is the entry's.
type Message struct {
	Body string
	// Attributes are those of the audit record. EchoStream makes columns of them, so that each has one type for ever, and none is
	// nested.
	Attributes map[string]any
	// Made and Expires are of the URL in Body, by EchoStream's clock. Both are zero if the content is inside.
	Made, Expires time.Time
}

// IsKey reports whether key is one that every echo.file message has, so that no content can stand under it.
func IsKey(key string) bool {
	switch key {
	case keyName, keyLength, keyType, keyModified, keyMetadata:
		return true
	}
	return false
}

// Keys are those of the messages: of the keys in one list, each has one. Beside them there is metadata, which other senders may not have.
func (c *Composer) Keys() [][]string {
	content := []string{orDefault(c.ContentField, DefaultContentField), orDefault(c.URLField, DefaultURLField)}
	return [][]string{{keyName}, {keyLength}, {keyType}, {keyModified}, content}
}

// Compose makes the message of e, whose bytes open reads from their start: with an upload to bulk data storage where it takes one. An
// error is permanent ([echostream.IsPermanent]) if the file can never be sent so; all else is transient.
func (c *Composer) Compose(ctx context.Context, e outbox.Entry, open func() (disk.File, error), from Origin) (Message, error) {
	f := factsOf(e, from)
	if c.Content != Bulk {
		m, fits, err := c.inline(f, e, open)
		if err != nil || fits {
			return m, err
		}
		if c.Content == Inline {
			return Message{}, echostream.Permanent(fmt.Errorf(
				"the file of %d bytes does not fit a message of %d bytes, and the config says message.content = inline", e.Size, echostream.MaxMessageSize))
		}
	}
	return c.bulk(ctx, f, e, open)
}

// Attributes are those of [Composer.Compose], for an audit record when the message is there no more: the file is read again.
func (c *Composer) Attributes(ctx context.Context, e outbox.Entry, open func() (disk.File, error), from Origin) (map[string]any, error) {
	f := factsOf(e, from)
	var err error
	if f.contentType, err = contentTypeOf(e, open); err != nil {
		return nil, err
	}
	file, err := open()
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", e.Name, err)
	}
	defer file.Close()
	hash := sha256.New()
	if f.length, err = io.Copy(hash, contextReader{ctx, file}); err != nil {
		return nil, fmt.Errorf("reading %q: %w", e.Name, err)
	}
	f.sha256 = hex.EncodeToString(hash.Sum(nil))
	return f.attributes(), nil
}

// maxInline is the size of the largest file that might fit a message, as base64.
var maxInline = int64(base64.StdEncoding.DecodedLen(echostream.MaxMessageSize))

// inline writes the content into the message, if it fits.
func (c *Composer) inline(f facts, e outbox.Entry, open func() (disk.File, error)) (m Message, fits bool, err error) {
	if e.Size > maxInline {
		return Message{}, false, nil
	}
	buffer := contents.Get().(*[]byte)
	defer contents.Put(buffer)
	content, err := readSmall(e, open, buffer)
	if err != nil {
		return Message{}, false, err
	}
	sum := sha256.Sum256(content)
	f.sha256 = hex.EncodeToString(sum[:])
	f.length = int64(len(content))
	f.contentType = contenttype.Of(e.Name, content)
	f.content = content
	body, err := c.body(f)
	if err != nil || size(e, body) > echostream.MaxMessageSize {
		return Message{}, false, err
	}
	return Message{Body: body, Attributes: f.attributes()}, true, nil
}

// bulk puts the content into bulk storage, and its URL into the message.
func (c *Composer) bulk(ctx context.Context, f facts, e outbox.Entry, open func() (disk.File, error)) (Message, error) {
	var err error
	if f.contentType, err = contentTypeOf(e, open); err != nil {
		return Message{}, err
	}
	object, err := c.Upload(ctx, func() (io.ReadCloser, error) { return open() })
	if err != nil {
		return Message{}, err
	}
	f.length, f.sha256, f.url = object.Size, object.SHA256, object.URL
	body, err := c.body(f)
	if err != nil {
		return Message{}, err
	}
	if size(e, body) > echostream.MaxMessageSize {
		return Message{}, echostream.Permanent(fmt.Errorf("the name of %d bytes leaves no room in a message of %d", len(e.Name), echostream.MaxMessageSize))
	}
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	return Message{Body: body, Attributes: f.attributes(), Made: now(), Expires: object.Expires}, nil
}

func size(e outbox.Entry, body string) int {
	return echostream.Message{TrackingID: e.ID, Body: body}.Size()
}

func orDefault(key, byDefault string) string {
	if key == "" {
		return byDefault
	}
	return key
}

// facts are what the message and the audit record say of a file.
type facts struct {
	name        string // readable, see readableName
	nameBytes   []byte // nil if name has them all
	length      int64  // bytes
	contentType string
	modified    time.Time
	received    time.Time
	sha256      string // 64 hex digits
	fields      []Field
	content     []byte // nil if it is not inside the message, but at url
	url         string
}

// factsOf returns what is known before the file is read.
func factsOf(e outbox.Entry, from Origin) facts {
	f := facts{name: readableName(e.Name), modified: e.ModTime, received: from.Received, fields: from.Fields}
	if f.received.IsZero() {
		f.received = e.Accepted
	}
	if !utf8.ValidString(e.Name) {
		f.nameBytes = []byte(e.Name)
	}
	return f
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

const dateTime = "2006-01-02T15:04:05.000Z07:00" // RFC 3339 with milliseconds

func (f facts) modificationDateTime() string { return f.modified.UTC().Format(dateTime) }
func (f facts) receivedDateTime() string     { return f.received.UTC().Format(dateTime) }

// attributes are those of the audit record: the bridge's, then what echo.file's auditor takes from the message and what else is
// known of every file, which no bridge changes.
func (f facts) attributes() map[string]any {
	attributes := make(map[string]any, len(f.fields)+6)
	for _, field := range f.fields {
		if field.Attribute != "" {
			attributes[field.Attribute] = field.Value
		}
	}
	attributes["content_length"] = f.length
	attributes["content_type"] = f.contentType
	attributes["modification_datetime"] = f.modificationDateTime()
	attributes["name"] = f.name
	attributes["received_datetime"] = f.receivedDateTime()
	attributes["sha256"] = f.sha256
	return attributes
}

// body writes the message.
func (c *Composer) body(f facts) (string, error) {
	var metadata object
	metadata.Grow(512)
	for _, field := range f.fields {
		metadata.add(field.Key, field.Value)
	}
	metadata.add("receivedDateTime", f.receivedDateTime())
	metadata.add("sha256", f.sha256)
	if f.nameBytes != nil {
		metadata.addBase64("nameBytes", f.nameBytes)
	}
	about, err := metadata.end()
	if err != nil {
		return "", err
	}
	var body object
	body.Grow(512 + len(f.name) + base64.StdEncoding.EncodedLen(len(f.content)) + len(f.url) + len(about))
	body.add(keyName, f.name)
	body.addJSON(keyLength, strconv.FormatInt(f.length, 10))
	body.add(keyType, f.contentType)
	body.add(keyModified, f.modificationDateTime())
	if f.content != nil {
		body.addBase64(orDefault(c.ContentField, DefaultContentField), f.content)
	} else {
		body.add(orDefault(c.URLField, DefaultURLField), f.url)
	}
	body.addJSON(keyMetadata, about)
	return body.end()
}

// object writes a JSON object whose members keep their order.
type object struct {
	strings.Builder
	err error // the first
}

func (o *object) add(key, value string) {
	o.key(key)
	o.text(value)
}

func (o *object) addJSON(key, value string) {
	o.key(key)
	o.WriteString(value)
}

// addBase64 encodes right into the object: base64 is its own JSON.
func (o *object) addBase64(key string, value []byte) {
	o.key(key)
	o.WriteByte('"')
	var text [1024]byte
	for piece := range slices.Chunk(value, base64.StdEncoding.DecodedLen(len(text))) {
		o.Write(base64.StdEncoding.AppendEncode(text[:0], piece))
	}
	o.WriteByte('"')
}

func (o *object) key(key string) {
	separator := byte(',')
	if o.Len() == 0 {
		separator = '{'
	}
	o.WriteByte(separator)
	o.text(key)
	o.WriteByte(':')
}

func (o *object) text(s string) {
	text, err := echostream.MarshalMessage(s)
	if o.err == nil {
		o.err = err
	}
	o.WriteString(text)
}

func (o *object) end() (string, error) {
	o.WriteByte('}')
	return o.String(), o.err
}

// contents are buffers for the content of a file while its message is made.
var contents = sync.Pool{New: func() any { return new([]byte) }}

func readSmall(e outbox.Entry, open func() (disk.File, error), buffer *[]byte) ([]byte, error) {
	f, err := open()
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", e.Name, err)
	}
	defer f.Close()
	if *buffer == nil || int64(cap(*buffer)) < e.Size {
		*buffer = make([]byte, e.Size)
	}
	content := (*buffer)[:e.Size]
	if _, err := io.ReadFull(f, content); err != nil {
		return nil, fmt.Errorf("reading %q of %d bytes: %w", e.Name, e.Size, err)
	}
	return content, nil
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
