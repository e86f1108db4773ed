package outbox

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// format is the version of what is written. Older ones are read, newer ones refused. Format 1 had no keys, waits and moves.
const format = 2

const (
	dataSuffix    = ".data"
	recordSuffix  = ".json"
	journalSuffix = ".journal"
)

// record is all that is known about an entry. The last one counts.
type record struct {
	Seq       uint64          `json:"seq"`
	ID        string          `json:"id"`
	Name      string          `json:"name,omitempty"`
	NameBytes []byte          `json:"nameBytes,omitempty"` // instead of Name, if that is not UTF-8
	Lane      string          `json:"lane,omitempty"`
	LaneBytes []byte          `json:"laneBytes,omitempty"`
	Key       string          `json:"key,omitempty"`
	KeyBytes  []byte          `json:"keyBytes,omitempty"`
	Size      int64           `json:"size"`
	ModTime   time.Time       `json:"modified"`
	Accepted  time.Time       `json:"accepted"`
	Checksum  *uint32         `json:"crc32c,omitempty"`
	Meta      json.RawMessage `json:"meta,omitempty"`
	Place     uint64          `json:"place,omitempty"` // in the order, if that is not Seq

	Wait  time.Duration `json:"wait,omitempty"` // nanoseconds, as it was asked for; Forever
	Until time.Time     `json:"until,omitzero"` // when it ends
	Yield bool          `json:"yield,omitempty"`

	// What becomes of the file. A record without its file is void, and with it what it says of another entry.
	From      string `json:"from,omitempty"`      // where Put found it on the volume; after a power cut it may have that name too
	Void      bool   `json:"void,omitempty"`      // Put gave up: the file stays there
	Replaces  string `json:"replaces,omitempty"`  // the id of an entry that goes, unsent
	Withdrawn bool   `json:"withdrawn,omitempty"` // by its owner: it goes, unsent
	To        string `json:"to,omitempty"`        // to this path on the volume; "": it is removed

	Tentative bool `json:"tentative,omitempty"` // nobody was told that it is accepted
	Attempted bool `json:"attempted,omitempty"` // although Tentative, it may have been sent

	Retries int       `json:"retries,omitempty"` // attempts that failed
	Acked   []string  `json:"acked,omitempty"`   // targets that have acknowledged the entry
	AckedBy []string  `json:"ackedBy,omitempty"` // their identities; none if the Deliverer tells none
	Refused []Refusal `json:"refused,omitempty"` // targets that never will
	Sent    bool      `json:"sent,omitempty"`    // to all targets; the audit is pending
	Round   int       `json:"round,omitempty"`   // how often it was taken back from failed/
}

// journalLine is a line of the journal after the header: one record, or several that count together.
type journalLine struct {
	record
	All   []record     `json:"all,omitempty"`
	Move  *moveRecord  `json:"move,omitempty"`
	Moved uint64       `json:"moved,omitempty"` // moves up to this id are done, or were given up
	Late  []lateRecord `json:"late,omitempty"`
}

// moveRecord is a Move that is to be done when its line is durable.
type moveRecord struct {
	ID   uint64 `json:"id"`
	From []byte `json:"from"`
	To   []byte `json:"to"`
}

// Refusal is a permanent error of one target.
type Refusal struct {
	Target string `json:"target"`
	Error  string `json:"error"`
}

// setAside is the record beside a file in failed/.
type setAside struct {
	Format int `json:"format"`
	record
	Failure failure `json:"failure"`
}

// failure is why an entry was set aside.
type failure struct {
	Reason   string    `json:"reason"`
	Error    string    `json:"error"`
	Time     time.Time `json:"time"`
	Attempts int       `json:"attempts"`
	damaged  bool      // the file, so that it can be sent again by whoever has it whole
}

// header is the first line of a journal segment. Its first key and the framing of the line stay the same in
// all formats to come.
type header struct {
	Format int          `json:"format"`
	Next   uint64       `json:"next"`            // no sequence number below this one is given again
	Moved  uint64       `json:"moved,omitempty"` // moves up to this id are done
	Late   []lateRecord `json:"late,omitempty"`  // all that still count
}

// errNewer is for what a newer program wrote.
var errNewer = errors.New("run the newer program; nothing was changed")

func newerError(name string, found int) error {
	return fmt.Errorf("%s has format %d, and this program knows formats up to %d: %w", name, found, format, errNewer)
}

// textOrBytes keeps text that is not UTF-8 from being mangled in JSON.
func textOrBytes(s string) (string, []byte) {
	if utf8.ValidString(s) {
		return s, nil
	}
	return "", []byte(s)
}

// jsonTime brings t into what JSON can hold: a file whose time is odd must not be stuck.
func jsonTime(t time.Time) time.Time {
	t = t.UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return time.Unix(0, 0).UTC()
	}
	return t
}

func (r *record) name() string { return bytesOrText(r.Name, r.NameBytes) }
func (r *record) lane() string { return bytesOrText(r.Lane, r.LaneBytes) }
func (r *record) key() string  { return bytesOrText(r.Key, r.KeyBytes) }

func bytesOrText(text string, bytes []byte) string {
	if bytes != nil {
		return string(bytes)
	}
	return text
}

// baseName is what the names of an entry's files begin with.
func baseName(seq uint64, id string) string {
	var digits [20]byte
	number := strconv.AppendUint(digits[:0], seq, 10)
	return "0000000000000000"[:max(16-len(number), 0)] + string(number) + "-" + id
}

type trackingID [16]byte

func (id trackingID) String() string { return hex.EncodeToString(id[:]) }

func parseID(s string) (id trackingID, ok bool) {
	if len(s) != hex.EncodedLen(len(id)) {
		return id, false
	}
	var text [2 * len(id)]byte
	copy(text[:], s)
	_, err := hex.Decode(id[:], text[:])
	hex.Encode(text[:], id[:])
	return id, err == nil && string(text[:]) == s
}

// parseBase is the inverse of baseName.
func parseBase(base string) (seq uint64, id trackingID, ok bool) {
	digits, hexID, _ := strings.Cut(base, "-")
	seq, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, id, false
	}
	id, ok = parseID(hexID)
	return seq, id, ok && (len(digits) == 16 || len(digits) > 16 && digits[0] != '0')
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged is the error for a line that is torn or was changed.
var errDamaged = errors.New("the line is damaged")

// encodeLine adds v as a line of the journal: 8 hex digits of the CRC-32C of the JSON, a space, the
// JSON, a line feed. The checksum tells a line that a power cut has torn.
func encodeLine(to *bytes.Buffer, v any) error {
	start := to.Len()
	to.WriteString("00000000 ")
	if err := json.NewEncoder(to).Encode(v); err != nil {
		to.Truncate(start)
		return err
	}
	line := to.Bytes()[start:]
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.Checksum(line[9:len(line)-1], castagnoli))
	hex.Encode(line, sum[:])
	return nil
}

// lineJSON is the JSON of a line, with or without its line feed.
func lineJSON(line []byte) ([]byte, error) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) < 10 || line[8] != ' ' {
		return nil, errDamaged
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], line[:8]); err != nil {
		return nil, errDamaged
	}
	data := line[9:]
	if crc32.Checksum(data, castagnoli) != binary.BigEndian.Uint32(sum[:]) {
		return nil, errDamaged
	}
	return data, nil
}

// decodeSetAside reads a record from failed/.
func decodeSetAside(name string, data []byte) (setAside, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return setAside{}, fmt.Errorf("reading the record %s: %w", name, err)
	}
	if version.Format > format {
		return setAside{}, newerError(name, version.Format)
	}
	var r setAside
	if err := json.Unmarshal(data, &r); err != nil {
		return setAside{}, fmt.Errorf("reading the record %s: %w", name, err)
	}
	return r, nil
}
