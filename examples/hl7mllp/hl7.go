package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ftpnode/ftpnode/echostream"
)

// The frame of the Minimal Lower Layer Protocol, release 1: a message between start and end, carriage return.
const (
	start          = 0x0b
	end            = 0x1c
	carriageReturn = '\r'
)

// readFrame reads the next frame's content, of which only the first max+1 bytes are kept; what stands between frames is skipped. began is
// called when a frame begins.
func readFrame(r *bufio.Reader, max int, began func()) ([]byte, error) {
	for {
		if b, err := r.ReadByte(); err != nil {
			return nil, err // also io.EOF: the sender is done
		} else if b == start {
			break
		}
	}
	began()
	var content []byte
	for {
		b, err := r.ReadByte()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if b == end {
			return content, nil // the carriage return is skipped before the next one
		}
		if len(content) <= max {
			content = append(content, b)
		}
	}
}

// header is the MSH segment of a message.
type header struct {
	separator string
	fields    []string // from "MSH" on
}

// field is MSH-n, for n from 2 on; "" if it is not there.
func (h header) field(n int) string {
	if n-1 < len(h.fields) {
		return h.fields[n-1]
	}
	return ""
}

// parse reads the header of a message and its text. Its error says what is no HL7 in it, or what EchoStream cannot take; the header is
// read as far as it goes.
func parse(raw []byte) (h header, text string, err error) {
	h = header{separator: "|", fields: []string{"MSH", `^~\&`}}
	segment, _, _ := bytes.Cut(raw, []byte{carriageReturn})
	if !bytes.HasPrefix(segment, []byte("MSH")) || len(segment) < 8 || segment[3] >= utf8.RuneSelf {
		return h, "", fmt.Errorf("this is no HL7 message: it begins with %.12q, expected MSH and its delimiters", raw)
	}
	h.separator = string(segment[3])
	h.fields = strings.Split(string(segment), h.separator)
	switch set := h.field(18); {
	case strings.HasPrefix(set, "8859/1"):
		runes := make([]rune, len(raw))
		for i, b := range raw {
			runes[i] = rune(b)
		}
		text = string(runes)
	case !utf8.Valid(raw):
		return h, "", fmt.Errorf("the text is not UTF-8, and MSH-18 says %q, expected UNICODE UTF-8 or 8859/1", set)
	default:
		text = string(raw)
	}
	if h.field(9) == "" || h.field(10) == "" {
		return h, "", fmt.Errorf("MSH-9 (message type) is %q and MSH-10 (control id) is %q, expected both", h.field(9), h.field(10))
	}
	// The tracking id is still to come; they are all of the same length.
	if err := (echostream.Message{TrackingID: echostream.NewTrackingID(), Body: text}).Validate(); err != nil {
		return h, "", err
	}
	return h, text, nil
}

// acknowledgement is the reply to a message: code is AA (accepted), AE (the message is at fault) or AR (not now: send it again).
func (h header) acknowledgement(code, reason string, now time.Time) []byte {
	plain := strings.NewReplacer(h.separator, " ", "\r", " ", "\n", " ", "^", " ", "~", " ", `\`, " ", "&", " ")
	stamp := now.UTC().Format("20060102150405")
	id := fmt.Sprintf("%s%06d", stamp, now.Nanosecond()/1000) // 20 characters, the most that MSH-10 takes
	_, trigger, _ := strings.Cut(h.field(9), h.component())
	msh := []string{"MSH", h.field(2), h.field(5), h.field(6), h.field(3), h.field(4), stamp + "+0000", "", "ACK", id, "P", h.field(12)}
	if trigger != "" {
		msh[8] += h.component() + trigger
	}
	if p := h.field(11); p != "" {
		msh[10] = p
	}
	msa := []string{"MSA", code, h.field(10)}
	if reason != "" {
		msa = append(msa, plain.Replace(reason))
	}
	var b bytes.Buffer
	b.WriteByte(start)
	b.WriteString(strings.Join(msh, h.separator) + "\r" + strings.Join(msa, h.separator) + "\r")
	b.WriteByte(end)
	b.WriteByte(carriageReturn)
	return b.Bytes()
}

// component is what separates the parts of a field.
func (h header) component() string {
	if s := h.field(2); s != "" {
		return s[:1]
	}
	return "^"
}
