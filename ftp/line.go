package ftp

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Telnet's own bytes (RFC 854), which may stand in front of a command.
const (
	telnetIAC     = 0xFF
	telnetWill    = 0xFB // the first of those with an option: WILL, WON'T, DO, DON'T
	telnetCommand = 0xF0 // the first command
)

// commandLine is a line as the client means it: without its end and what Telnet and blanks are in front, and with a space behind the
// verb, whatever blank the client has put there.
//
// It is all that is known of a line, to the log as well, so what follows PASS is a password here, whatever stands in between, or nothing.
func commandLine(line []byte) string {
	line = bytes.TrimRight(line, "\r\n")
	for len(line) > 0 {
		switch b := line[0]; {
		case b == telnetIAC && len(line) > 2 && line[1] >= telnetWill && line[1] != telnetIAC:
			line = line[3:]
		case b == telnetIAC && len(line) > 1 && line[1] >= telnetCommand:
			line = line[2:]
		case b >= telnetCommand, b == ' ', b == '\t', b == '\v', b == '\f', b == 0:
			line = line[1:]
		default:
			return withSpace(string(line))
		}
	}
	return ""
}

// withSpace puts a space behind the verb.
func withSpace(text string) string {
	end := strings.IndexFunc(text, blank)
	for _, secret := range []string{"PASS", "ACCT"} {
		if len(text) > len(secret) && strings.EqualFold(text[:len(secret)], secret) {
			end = len(secret)
		}
	}
	if end < 0 {
		return text
	}
	verb, rest := text[:end], text[end:]
	if r, n := utf8.DecodeRuneInString(rest); blank(r) {
		rest = rest[n:]
	}
	return verb + " " + rest
}

// blank reports whether r is one that stands within a line.
func blank(r rune) bool { return r == '\t' || r == '\v' || r == '\f' || unicode.Is(unicode.Zs, r) }
