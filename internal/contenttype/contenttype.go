// Package contenttype tells the media type of a file from its name and its first bytes.
//
// The same file has the same type on every machine: nothing is read from the host (no mime.types, no
// registry). The extension decides first, from a table of what sites drop; then the content; and what neither
// tells is "application/octet-stream". The type is only ever "type/subtype": no charset, since a
// charset told from the first bytes would be a guess about the rest.
//
// It does not tell whether a file is what its extension says, nor does it look inside archives.
//
//	contenttype.Of("orders/4711.CSV", head)   // "text/csv"
//	contenttype.Of("scan0001", head)          // "application/pdf", if it begins with %PDF-
package contenttype

import (
	"bytes"
	"path"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// Unknown is the type of what is not known.
const Unknown = "application/octet-stream"

// HeadSize is how many of a file's first bytes are enough for [Of]: as many as the detection by content reads.
const HeadSize = 4096

// Of gives the media type of a file that has this name (a path with "/" will do) and begins with head: its first
// [HeadSize] bytes, or all of it if it is shorter.
func Of(name string, head []byte) string {
	// A dot at the start hides a file, it does not begin an extension.
	base := strings.TrimLeft(path.Base(name), ".")
	ext := strings.ToLower(strings.TrimPrefix(path.Ext(base), "."))
	if interchange[ext] {
		return edi(head)
	}
	if t, ok := byExtension[ext]; ok {
		return t
	}
	return byContent(head)
}

func byContent(head []byte) string {
	if len(head) == 0 {
		return Unknown
	}
	switch {
	case isHL7(head):
		return hl7
	case isEDI(head):
		return edi(head)
	}
	t, _, _ := strings.Cut(mimetype.Detect(head[:min(len(head), HeadSize)]).String(), ";")
	return t
}

// isHL7 tells a message, a batch or a file of HL7 v2: the segment's name, then the field separator, which
// is "|" everywhere in the field. A byte of MLLP framing may stand before it.
func isHL7(head []byte) bool {
	head = bytes.TrimPrefix(head, []byte{0x0b})
	return hasAnyPrefix(head, "MSH|^", "BHS|^", "FHS|^")
}

func isEDI(head []byte) bool { return edi(head) != ediUnknown }

// edi tells the standards of electronic data interchange apart by their first segment (RFC 1767 names the types).
func edi(head []byte) string {
	head = bytes.TrimLeft(head, "\r\n\t ")
	switch {
	case bytes.HasPrefix(head, []byte("ISA")) && len(head) > 105 && head[3] == head[103]:
		return "application/edi-x12" // ISA has fixed lengths: its separator is its 4th and its 104th byte
	case hasAnyPrefix(head, "UNA:+", "UNB+"):
		return "application/edifact"
	}
	return ediUnknown
}

func hasAnyPrefix(b []byte, prefixes ...string) bool {
	for _, p := range prefixes {
		if bytes.HasPrefix(b, []byte(p)) {
			return true
		}
	}
	return false
}
