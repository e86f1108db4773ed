package echotest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
)

// maxForm bounds the fields of a POST, as S3 does.
const maxForm = 20 << 10

// s3Error is an error of S3.
type s3Error struct {
	status        int
	code, message string
}

func (e *authError) s3() *s3Error { return &s3Error{http.StatusForbidden, e.code, e.message} }

func (e *s3Error) write(w http.ResponseWriter, key string) {
	type body struct {
		XMLName   xml.Name `xml:"Error"`
		Code      string
		Message   string
		Key       string `xml:",omitempty"`
		RequestID string `xml:"RequestId"`
		HostID    string `xml:"HostId"`
	}
	text, _ := xml.Marshal(body{Code: e.code, Message: e.message, Key: key, RequestID: strings.ToUpper(randomHex(8)), HostID: randomSecret(48)})
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(e.status)
	_, _ = w.Write(append([]byte(xml.Header), text...))
}

func (c *Cloud) serveS3(w http.ResponseWriter, r *http.Request) {
	op := map[string]string{
		http.MethodPut: "PutObject", http.MethodPost: "PostObject", http.MethodGet: "GetObject", http.MethodHead: "HeadObject",
	}[r.Method]
	if op == "" {
		op = r.Method
	}
	key := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/"+bucket), "/")
	c.handle(w, r, S3, op, "", func(w http.ResponseWriter, e effect) {
		w.Header().Set("Date", c.clock.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("X-Amz-Request-Id", strings.ToUpper(randomHex(8)))
		err := refuseS3(e)
		if err == nil {
			switch r.Method {
			case http.MethodPut:
				err = c.putObject(w, r, key)
			case http.MethodPost:
				err = c.postObject(w, r)
			case http.MethodGet, http.MethodHead:
				err = c.getObject(w, r, key)
			default:
				err = &s3Error{http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource."}
			}
		}
		if err != nil {
			// A client that is still sending shall read the answer, not a broken pipe. One that asked first does not send.
			if r.Header.Get("Expect") == "" {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			err.write(w, key)
		}
	})
}

func refuseS3(e effect) *s3Error {
	switch e.refuse {
	case ServerError:
		code, message := "InternalError", "We encountered an internal error. Please try again."
		if e.status == http.StatusServiceUnavailable {
			code, message = "ServiceUnavailable", "Service is unable to handle request."
		}
		return &s3Error{e.status, code, message}
	case Throttled:
		return &s3Error{http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate."}
	case ExpiredURL:
		return errRequestExpiry.s3()
	case Denied:
		return &s3Error{http.StatusForbidden, "AccessDenied", "Access Denied"}
	}
	return nil
}

// checkLength wants a Content-Length, as S3 does.
func checkLength(r *http.Request) *s3Error {
	switch {
	case len(r.TransferEncoding) > 0:
		return &s3Error{http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented: Transfer-Encoding"}
	case r.ContentLength < 0 || r.ContentLength == 0 && r.Header.Get("Content-Length") == "":
		return &s3Error{http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header."}
	}
	return nil
}

func errTooLarge() *s3Error {
	return &s3Error{http.StatusBadRequest, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"}
}

func (c *Cloud) putObject(w http.ResponseWriter, r *http.Request, key string) *s3Error {
	if err := checkLength(r); err != nil {
		return err
	}
	if err := c.verifyURL(r); err != nil {
		return err.s3()
	}
	if r.ContentLength > maxObject {
		return errTooLarge()
	}
	o, err := c.storage.receive(key, r.Header.Get("Content-Encoding"), r.Body)
	if err != nil {
		return cutUpload(err)
	}
	c.storage.put(o)
	w.Header().Set("Etag", o.etag)
	w.WriteHeader(http.StatusOK)
	return nil
}

// cutUpload is an upload whose connection ended, or that could not be stored.
func cutUpload(err error) *s3Error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return &s3Error{http.StatusBadRequest, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header"}
	}
	return &s3Error{http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again."}
}

func (c *Cloud) postObject(w http.ResponseWriter, r *http.Request) *s3Error {
	if err := checkLength(r); err != nil {
		return err
	}
	malformed := func(message string) *s3Error {
		return &s3Error{http.StatusBadRequest, "MalformedPOSTRequest", message}
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		return &s3Error{http.StatusPreconditionFailed, "PreconditionFailed", "Bucket POST must be of the enclosure-type multipart/form-data"}
	}
	form := multipart.NewReader(r.Body, params["boundary"])
	fields, total := make(map[string]string), 0
	for {
		part, err := form.NextPart()
		if err != nil {
			return malformed("POST requires exactly one file upload per request.")
		}
		name := strings.ToLower(part.FormName())
		if name == "file" {
			return c.postFile(w, fields, part)
		}
		text, err := io.ReadAll(io.LimitReader(part, maxForm))
		if total += len(text); err != nil || total >= maxForm {
			return &s3Error{http.StatusBadRequest, "MaxPostPreDataLengthExceeded", "Your POST request fields preceding the upload file were too large."}
		}
		if _, ok := fields[name]; ok {
			return malformed(fmt.Sprintf("The field %q is there twice.", name))
		}
		fields[name] = string(text)
	}
}

// postFile takes the file of a form, whose fields have all been read: S3 ignores what comes after it.
func (c *Cloud) postFile(w http.ResponseWriter, fields map[string]string, file io.Reader) *s3Error {
	minSize, maxSize, aerr := c.verifyPolicy(fields)
	if aerr != nil {
		return aerr.s3()
	}
	if fields["key"] == "" {
		return &s3Error{http.StatusBadRequest, "InvalidArgument", "Bucket POST must contain a field named 'key'."}
	}
	o, err := c.storage.receive(fields["key"], fields["content-encoding"], io.LimitReader(file, maxSize+1))
	switch {
	case err != nil:
		return cutUpload(err)
	case o.size > maxSize:
		c.storage.drop(o)
		return errTooLarge()
	case o.size < minSize:
		c.storage.drop(o)
		return &s3Error{http.StatusBadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"}
	}
	c.storage.put(o)
	w.Header().Set("Etag", o.etag)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *Cloud) getObject(w http.ResponseWriter, r *http.Request, key string) *s3Error {
	if err := c.verifyURL(r); err != nil {
		return err.s3()
	}
	missing := &s3Error{http.StatusNotFound, "NoSuchKey", "The specified key does not exist."}
	o, ok := c.storage.get(key)
	if !ok {
		return missing
	}
	f, err := o.open()
	if err != nil {
		return missing
	}
	defer f.Close()
	if o.encoding != "" {
		w.Header().Set("Content-Encoding", o.encoding)
	}
	w.Header().Set("Content-Type", "binary/octet-stream")
	w.Header().Set("Etag", o.etag)
	w.Header().Set("Content-Length", strconv.FormatInt(o.size, 10))
	http.ServeContent(w, r, "", o.at.UTC(), f) // knows Range, If-Match and their kin
	return nil
}
