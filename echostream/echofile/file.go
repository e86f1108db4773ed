package echofile

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/internal/redact"
)

// The keys of an echo.file message. Those of the content are the default of a [Reader]: EchoStream does not publish them.
const (
	keyName             = "name"
	keyLength           = "contentLength"
	keyType             = "contentType"
	keyModified         = "modificationDateTime"
	keyMetadata         = "metadata"
	DefaultContentField = "content"
	DefaultURLField     = "contentUrl"
)

// Reader reads echo.file messages. The zero value works. It is safe for concurrent use.
type Reader struct {
	// ContentField is the key of content inside a message, URLField that of the URL where it is. Under either both are
	// recognised. By default, DefaultContentField and DefaultURLField.
	ContentField, URLField string
	// HTTPClient fetches what is in bulk data storage. It must leave the content's encoding alone when it was asked for
	// explicitly, as net/http does. By default, one that keeps connections, honours the machine's proxies, and tells no other
	// host the URL when it is redirected.
	HTTPClient aws.HTTPClient
	// StallTimeout ends a try that makes no progress. By default, 60 s. There is no limit on the whole.
	StallTimeout time.Duration
	// Tries is how many tries in a row may fail without a byte of progress before a read fails. By default, 5.
	Tries int
}

// File is what an echo.file message says of a file. It does not print the URL of the content.
type File struct {
	// Name is what the sender calls the file. It is text from elsewhere: not a path, not safe, perhaps empty.
	Name string
	// NameBytes is the name where it is not UTF-8, from metadata.nameBytes. By default, nil.
	NameBytes []byte
	// Length is that of the content in bytes; -1 if the message does not say.
	Length int64
	// ContentType is a MIME type, or "".
	ContentType string
	// Modified is zero if the message does not say, or in a way that is not ISO 8601.
	Modified time.Time
	// SHA256 is that of the content, 64 hex digits, from metadata.sha256; "" if the message does not say.
	SHA256 string
	// Metadata is the message's metadata as it stands; nil if there is none.
	Metadata json.RawMessage
	// Bulk says that the content is in bulk data storage and has to be fetched.
	Bulk bool

	content string    // base64, or the URL
	ends    time.Time // of the URL, as far as the message tells; or zero
	reader  *Reader
}

// String describes the file without its content.
func (f *File) String() string {
	return fmt.Sprintf("file %q of %d bytes", f.Name, f.Length)
}

// GoString is String, as a type's.
func (f *File) GoString() string { return "&echofile.File{" + f.String() + "}" }

// Format writes String, whatever the verb is.
func (f *File) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, f.String()) }

// LogValue shows what the file is known by, and neither content nor URL.
func (f *File) LogValue() slog.Value {
	return slog.GroupValue(slog.String("name", f.Name), slog.Int64("length", f.Length), slog.String("contentType", f.ContentType),
		slog.String("sha256", f.SHA256), slog.Bool("bulk", f.Bulk))
}

// File reads what m says of a file, and fetches nothing. Every error is permanent ([echostream.IsPermanent]): m is no echo.file
// message, or its content cannot be found under the Reader's keys. What else a message lacks, or has of another kind, is left out.
func (r *Reader) File(m echostream.ReceivedMessage) (*File, error) {
	f, err := r.file(m)
	if err != nil {
		return nil, echostream.Permanent(fmt.Errorf("message %s is no echo.file message: %w", m.TrackingID, err))
	}
	return f, nil
}

func (r *Reader) file(m echostream.ReceivedMessage) (*File, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal([]byte(m.Body), &keys); err != nil || keys == nil {
		return nil, errors.New("it is not a JSON object") // what json says may quote it
	}
	f := &File{Length: -1, reader: r, Metadata: keys[keyMetadata]}
	text := func(key string) string {
		var s string
		_ = json.Unmarshal(keys[key], &s)
		return s
	}
	f.Name, f.ContentType = text(keyName), text(keyType)
	f.Modified = parseTime(text(keyModified))
	var length *int64
	if json.Unmarshal(keys[keyLength], &length) == nil && length != nil && *length >= 0 {
		f.Length = *length
	}
	var metadata struct {
		SHA256    any `json:"sha256"`
		NameBytes any `json:"nameBytes"`
	}
	_ = json.Unmarshal(f.Metadata, &metadata)
	if sum, ok := metadata.SHA256.(string); ok && len(sum) == 64 {
		f.SHA256 = strings.ToLower(sum)
	}
	if name, ok := metadata.NameBytes.(string); ok {
		f.NameBytes, _ = base64.StdEncoding.DecodeString(name)
	}
	return f, f.find(r, keys, m.Sent)
}

// find finds the content.
func (f *File) find(r *Reader, keys map[string]json.RawMessage, sent time.Time) error {
	fields := []string{r.contentField()}
	if u := r.urlField(); u != fields[0] {
		fields = append(fields, u)
	}
	found := 0
	for _, key := range fields {
		raw, ok := keys[key]
		if !ok || string(bytes.TrimSpace(raw)) == "null" {
			continue
		}
		found++
		if json.Unmarshal(raw, &f.content) != nil {
			return fmt.Errorf("%q is no string", key)
		}
	}
	if found != 1 {
		return fmt.Errorf("it has %d of the keys %q, expected one", found, fields)
	}
	if !strings.HasPrefix(f.content, "http://") && !strings.HasPrefix(f.content, "https://") {
		return nil // base64 has no colon
	}
	f.Bulk = true
	u, err := url.Parse(f.content)
	if err != nil || u.Host == "" {
		return errors.New("the URL of its content is not one")
	}
	if !sent.IsZero() {
		f.ends = sent.Add(objectLife)
	}
	if end := urlEnds(u); !end.IsZero() && (f.ends.IsZero() || end.Before(f.ends)) {
		f.ends = end
	}
	return nil
}

// Open opens the content. Read gives io.EOF only if all of it was read and is what the message says, by length and SHA-256: what
// was read before is not to be used until then. Memory does not grow with the size. A download that breaks off is resumed where
// it broke off.
//
// An error of Open or Read is permanent ([echostream.IsPermanent]) if a further try is of no use: the content is not what the
// message says, its encoding is unknown or broken, or the URL or the object has ended, after seven days at the latest. Everything
// else is transient. No error holds the URL. ctx bounds the whole; the caller closes.
func (f *File) Open(ctx context.Context) (io.ReadCloser, error) {
	if !f.Bulk {
		decoder := base64.NewDecoder(base64.StdEncoding, strings.NewReader(f.content))
		return &content{file: f, r: decoder, hash: newHash(f.SHA256)}, nil
	}
	d := newDownload(ctx, f)
	r, err := d.open()
	if err != nil {
		d.Close()
		return nil, f.wrap(err)
	}
	return &content{file: f, r: r, closer: d, hash: newHash(f.SHA256)}, nil
}

// wrap says what it is about. Nothing of the URL is left in it.
func (f *File) wrap(err error) error {
	return &fileError{f.redact(fmt.Sprintf("reading the content of %s: %s", f, err)), err}
}

// fileError answers errors.Is and IsPermanent by its cause, and does not hand it out: its text may hold the URL.
type fileError struct {
	text  string
	cause error
}

func (e *fileError) Error() string        { return e.text }
func (e *fileError) Is(target error) bool { return errors.Is(e.cause, target) }
func (e *fileError) Permanent() bool      { return echostream.IsPermanent(e.cause) }

func (f *File) redact(text string) string {
	if !f.Bulk {
		return text
	}
	var secrets redact.Secrets
	secrets.Add(f.content)
	if u, err := url.Parse(f.content); err == nil {
		secrets.Add(u.String(), u.RawQuery, u.RequestURI(), u.Path)
	}
	return secrets.Redact(text)
}

func (r *Reader) contentField() string {
	if r.ContentField == "" {
		return DefaultContentField
	}
	return r.ContentField
}

func (r *Reader) urlField() string {
	if r.URLField == "" {
		return DefaultURLField
	}
	return r.URLField
}

// parseTime reads ISO 8601 as senders write it: with or without fractions and zone (then it is UTC).
func parseTime(text string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t
		}
	}
	return time.Time{}
}

// defaultClient goes to wherever storage redirects. A redirect must not tell the URL to another host.
var defaultClient = &http.Client{
	CheckRedirect: func(r *http.Request, via []*http.Request) error {
		r.Header.Del("Referer")
		if len(via) >= 5 {
			return errors.New("redirected too often")
		}
		return nil
	},
}
