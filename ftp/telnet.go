package ftp

import "strings"

// telnet undoes what a client that follows Telnet makes of 0xFF in names. Its zero value is ready.
type telnet struct {
	bare bool // the client sends 0xFF as it is
}

// single is the line with each 0xFF once if the client doubles it, as Telnet demands (RFC 854; RFC 959, 3) and lftp does. Most clients do not: one
// that sends an odd number of them in a row does not, from then on.
func (t *telnet) single(line string) string {
	const both, one = "\xff\xff", "\xff"
	if strings.Contains(strings.ReplaceAll(line, both, ""), one) {
		t.bare = true
	}
	if t.bare {
		return line
	}
	return strings.ReplaceAll(line, both, one)
}
