package echostream

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// MaxMessageSize is the greatest [Message.Size], and the greatest sum of sizes in one batch.
const MaxMessageSize = 262144

const (
	attributeTrackingID      = "trackingId"
	attributePrevTrackingIDs = "prevTrackingIds"
	attributeType            = "String"
)

// Message is a message to send.
type Message struct {
	// TrackingID names the message for EchoStream and, within five minutes, for SQS: a message that is sent
	// again under its tracking id arrives once. Fix it once, durably, before the first try. See [NewTrackingID].
	TrackingID string
	// PrevTrackingIDs are those of the messages that this one was made from. By default, none.
	PrevTrackingIDs []string
	// Body is text of the message type's format, most often JSON: 1 byte or more, valid UTF-8, of XML's characters
	// only. See [MarshalMessage].
	Body string
	// Group orders: messages of one group arrive in the order of sending. It goes through [GroupID]. By
	// default, the node's name.
	Group string
}

// NewTrackingID makes a tracking id: a random UUID as 32 hex digits.
func NewTrackingID() string {
	id := uuid.New()
	return hex.EncodeToString(id[:])
}

// Size is the message's length as SQS counts it: the bytes of the body and of its attributes' names,
// types and values.
func (m Message) Size() int {
	size := len(m.Body) + len(attributeTrackingID) + len(attributeType) + len(m.TrackingID)
	if len(m.PrevTrackingIDs) > 0 {
		size += len(attributePrevTrackingIDs) + len(attributeType) + len(m.prevTrackingIDs())
	}
	return size
}

// Validate tells why SQS would not take the message, or nil.
func (m Message) Validate() error {
	if err := validTrackingID(m.TrackingID); err != nil {
		return err
	}
	if m.Body == "" {
		return errors.New("body is empty, expected 1 byte or more")
	}
	if i := notXML(m.Body); i >= 0 {
		r, width := utf8.DecodeRuneInString(m.Body[i:])
		if r == utf8.RuneError && width == 1 {
			return fmt.Errorf("body has byte %#02x at %d, expected UTF-8", m.Body[i], i)
		}
		return fmt.Errorf("body has %U at byte %d, expected characters that XML allows", r, i)
	}
	if size := m.Size(); size > MaxMessageSize {
		return fmt.Errorf("size is %d bytes, expected at most %d", size, MaxMessageSize)
	}
	return nil
}

func validTrackingID(id string) error {
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return !inGroupID(r) }) {
		return fmt.Errorf("tracking id is %q, expected 1 to 128 letters, digits and punctuation marks of ASCII", id)
	}
	return nil
}

func (m Message) prevTrackingIDs() string {
	text, _ := json.Marshal(m.PrevTrackingIDs) // strings always marshal
	return string(text)
}

// GroupID is the SQS message group of a name: the name with each space replaced by "_", as every EchoStream node does.
//
// SQS takes 1 to 128 letters, digits and punctuation marks of ASCII. In a name that has other characters each of them
// becomes "_" too, what is too long is cut, and "-" and the first 16 hex digits of the name's SHA-256 are
// added, so that such names do not share a group.
func GroupID(name string) string {
	const most, digits = 128, 16
	foreign := name == ""
	group := strings.Map(func(r rune) rune {
		if r == ' ' {
			return '_'
		}
		if !inGroupID(r) {
			foreign = true
			return '_'
		}
		return r
	}, name)
	if !foreign && len(group) <= most {
		return group
	}
	sum := sha256.Sum256([]byte(name))
	return group[:min(len(group), most-1-digits)] + "-" + hex.EncodeToString(sum[:])[:digits]
}

func inGroupID(r rune) bool { return r > ' ' && r < 0x7f }

// MarshalMessage writes v as the JSON body of a message, with every character that XML lacks escaped: see [EscapeJSON].
// Nothing else is escaped without need ("<" stays "<"). A string with invalid UTF-8 gets U+FFFD for each bad
// byte: text in an unknown encoding has to be decoded, or carried as base64, by the caller.
func MarshalMessage(v any) (string, error) {
	if text, ok := v.(string); ok && isPlain(text) {
		return `"` + text + `"`, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", fmt.Errorf("writing a message as JSON: %w", err)
	}
	return EscapeJSON(strings.TrimSuffix(b.String(), "\n")), nil
}

// EscapeJSON makes a JSON text fit for SQS, which takes XML's characters only (#x9, #xA, #xD, #x20-#xD7FF,
// #xE000-#xFFFD, #x10000-#x10FFFF): any other one, which JSON allows inside a string, becomes its escape (U+FFFF
// becomes \uffff), so that a reader gets the same value. A byte that is not UTF-8 becomes \ufffd.
func EscapeJSON(text string) string {
	first := notXML(text)
	if first < 0 {
		return text
	}
	var b strings.Builder
	b.WriteString(text[:first])
	text = text[first:]
	for i, r := range text {
		if r == utf8.RuneError {
			if _, width := utf8.DecodeRuneInString(text[i:]); width > 1 {
				b.WriteRune(r)
				continue
			}
		}
		if r == utf8.RuneError || !inXML(r) {
			fmt.Fprintf(&b, `\u%04x`, r) // all of them are below U+10000
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// inXML reports whether r is one of XML 1.0's characters.
func inXML(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000
}

// notXML is the index of the first byte that is not UTF-8 or begins a character that XML lacks, or -1.
func notXML(text string) int {
	for i := asciiLen(text); i < len(text); {
		r, width := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && width == 1 || !inXML(r) {
			return i
		}
		i += width
		i += asciiLen(text[i:])
	}
	return -1
}

// asciiLen is how many bytes at the start of text are characters of ASCII, none of them a control character below the space.
// Almost all of a message is base64: it looks at eight at a time.
func asciiLen(text string) (n int) {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for ; len(text)-n >= 8; n += 8 {
		t := text[n : n+8]
		eight := uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 |
			uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
		// Without a carry: where no byte has its high bit, none borrows from its neighbour unless it is below the space.
		if (eight|(eight-' '*each))&high != 0 {
			break
		}
	}
	for n < len(text) && text[n] >= ' ' && text[n] < utf8.RuneSelf {
		n++
	}
	return n
}

// isPlain reports whether text is its own JSON, but for the quotes around it.
func isPlain(text string) bool {
	return asciiLen(text) == len(text) && strings.IndexByte(text, '"') < 0 && strings.IndexByte(text, '\\') < 0
}
