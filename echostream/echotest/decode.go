package echotest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// File is what a file message (echo.file) holds.
type File struct {
	Name                 string
	ContentLength        int64 // as the message says
	ContentType          string
	ModificationDateTime string
	Metadata             json.RawMessage
	Bulk                 bool   // by URL, not inside the message
	Size                 int64  // bytes of the content, counted
	SHA256               string // of the content, in hex
}

// ErrNoFile is in the error of [Cloud.Decode] for a message that is no file message.
var ErrNoFile = errors.New("no file message")

// Decode reads a file message and writes its content to w as a stream: inside the message in base64, or behind the
// URL, decoded as its Content-Encoding says. It takes the same little memory for any size. A URL of this cloud is
// checked as a GET of it would be, but no fault is in the way; any other is fetched, until ctx ends.
//
// With Options.DiscardObjects nothing is written for a URL, but Size and SHA256 are told.
func (c *Cloud) Decode(ctx context.Context, m Received, w io.Writer) (File, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal([]byte(m.Body), &keys); err != nil {
		return File{}, fmt.Errorf("echotest: message %s: %w: not a JSON object: %w", m.TrackingID, ErrNoFile, err)
	}
	var f File
	var content, address *string
	for key, v := range map[string]any{
		"name": &f.Name, "contentLength": &f.ContentLength, "contentType": &f.ContentType,
		"modificationDateTime": &f.ModificationDateTime,
		c.opts.ContentKey:      &content, c.opts.URLKey: &address,
	} {
		raw, ok := keys[key]
		if !ok {
			if key == c.opts.ContentKey || key == c.opts.URLKey {
				continue
			}
			return f, fmt.Errorf("echotest: message %s: %w: it has no %q", m.TrackingID, ErrNoFile, key)
		}
		if err := json.Unmarshal(raw, v); err != nil {
			return f, fmt.Errorf("echotest: message %s: %w: %q: %w", m.TrackingID, ErrNoFile, key, err)
		}
	}
	f.Metadata = keys["metadata"]
	if (content == nil) == (address == nil) {
		return f, fmt.Errorf("echotest: message %s: %w: expected one of %q and %q", m.TrackingID, ErrNoFile, c.opts.ContentKey, c.opts.URLKey)
	}
	f.Bulk = address != nil
	h := sha256.New()
	var err error
	if content != nil {
		f.Size, err = io.Copy(io.MultiWriter(w, h), base64.NewDecoder(base64.StdEncoding, strings.NewReader(*content)))
		f.SHA256 = hexSum(h)
	} else {
		f.Size, f.SHA256, err = c.fetch(ctx, *address, w)
	}
	if err != nil {
		return f, fmt.Errorf("echotest: message %s: content: %w", m.TrackingID, err)
	}
	return f, nil
}

// fetch reads what is behind a URL. Errors do not show the URL: whoever has it has the content.
func (c *Cloud) fetch(ctx context.Context, address string, w io.Writer) (size int64, sum string, err error) {
	h := sha256.New()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, "", fmt.Errorf("the URL is not well formed")
	}
	if key, ok := strings.CutPrefix(r.URL.Path, "/"+bucket+"/"); ok && r.URL.Host == hostOf(c.url(S3)) {
		r.RequestURI = ""
		if err := c.verifyURL(r); err != nil {
			return 0, "", err
		}
		o, ok := c.storage.get(key)
		if !ok {
			return 0, "", fmt.Errorf("there is no such object (any more)")
		}
		if o.file == "" {
			return o.contentSize, o.contentSHA, o.contentErr
		}
		file, err := o.open()
		if err != nil {
			return 0, "", err
		}
		defer file.Close()
		size, err = decodeTo(io.MultiWriter(w, h), o.encoding, file)
		return size, hexSum(h), err
	}
	r.Header.Set("Accept-Encoding", "gzip") // so that net/http leaves it to us
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		if u, ok := err.(*url.Error); ok {
			err = u.Err
		}
		return 0, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, "", fmt.Errorf("the URL answers %s", resp.Status)
	}
	size, err = decodeTo(io.MultiWriter(w, h), resp.Header.Get("Content-Encoding"), resp.Body)
	return size, hexSum(h), err
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
