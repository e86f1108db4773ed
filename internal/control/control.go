// Package control knows the control characters of texts that may be in any encoding.
package control

import (
	"unicode"
	"unicode/utf8"
)

// Func returns a predicate for the control characters of a text: in one that is UTF-8 as a whole, these are also U+0080 to U+009F; in
// one that is not, the same bytes are letters (of Latin-1, GBK, ...).
func Func(text string) func(rune) bool {
	if utf8.ValidString(text) {
		return unicode.IsControl
	}
	return func(r rune) bool { return r < ' ' || r == 0x7f }
}
