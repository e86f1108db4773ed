package echotest

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// The limits of SQS. MaxMessageSize is also that of a whole batch.
const (
	MaxMessageSize = 262144
	maxBatch       = 10
	maxAttributes  = 10
)

// sqsMessage is a message as a sender gives it.
type sqsMessage struct {
	body       string
	attributes map[string]attribute
	groupID    string
	dedupID    string
}

// attribute is a message attribute on the wire.
type attribute struct {
	DataType    string
	StringValue *string `json:",omitempty"`
	BinaryValue []byte  `json:",omitempty"`
}

// value is the bytes of an attribute's value.
func (a attribute) value() string {
	if a.StringValue != nil {
		return *a.StringValue
	}
	return string(a.BinaryValue)
}

// size is what SQS counts: the body, and each attribute's name, type and value, in bytes.
func (m sqsMessage) size() int {
	n := len(m.body)
	for name, a := range m.attributes {
		n += len(name) + len(a.DataType) + len(a.value())
	}
	return n
}

// sqsError is an error of SQS: the name of its shape, or "" for one without, and its code of the AWS query protocol.
type sqsError struct {
	shape   string // in com.amazonaws.sqs
	code    string
	message string
	status  int // By default, 400.
}

var (
	idPattern        = regexp.MustCompile("^[a-zA-Z0-9!\"#$%&'()*+,./:;<=>?@[\\\\\\]^_`{|}~-]{1,128}$")
	attributePattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,256}$`)
	typePattern      = regexp.MustCompile(`^(String|Number|Binary)(\..*)?$`)
)

// check refuses what SQS refuses of a message, but its size in a batch.
func (m sqsMessage) check() *sqsError {
	if m.body == "" {
		return missing("MessageBody")
	}
	if i := notXML(m.body); i >= 0 {
		return &sqsError{shape: "InvalidMessageContents", code: "InvalidMessageContents",
			message: "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"}
	}
	if len(m.attributes) > maxAttributes {
		return invalid(fmt.Sprintf("Number of message attributes [%d] exceeds the allowed maximum [%d].", len(m.attributes), maxAttributes))
	}
	for _, name := range slices.Sorted(maps.Keys(m.attributes)) {
		if err := m.attributes[name].check(name); err != nil {
			return err
		}
	}
	if m.groupID == "" {
		return missing("MessageGroupId")
	}
	for name, id := range map[string]string{"MessageGroupId": m.groupID, "MessageDeduplicationId": m.dedupID} {
		if id != "" && !idPattern.MatchString(id) {
			return invalid(fmt.Sprintf("%s can only include alphanumeric and punctuation characters. 1 to 128 in length", name))
		}
	}
	if m.size() > MaxMessageSize {
		return invalid(fmt.Sprintf("One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", MaxMessageSize))
	}
	return nil
}

func (a attribute) check(name string) *sqsError {
	lower := strings.ToLower(name)
	switch {
	case !attributePattern.MatchString(name), strings.HasPrefix(lower, "aws."), strings.HasPrefix(lower, "amazon."),
		strings.HasPrefix(name, "."), strings.HasSuffix(name, "."), strings.Contains(name, ".."):
		return invalid(fmt.Sprintf("The message attribute name '%s' is invalid.", name))
	case a.DataType == "":
		return invalid(fmt.Sprintf("The message attribute '%s' must contain non-empty message attribute type.", name))
	case !typePattern.MatchString(a.DataType):
		return invalid(fmt.Sprintf("The message attribute '%s' has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.", name))
	case strings.HasPrefix(a.DataType, "Binary") != (a.StringValue == nil), a.value() == "":
		return invalid(fmt.Sprintf("The message attribute '%s' must contain non-empty message attribute value for message attribute type '%s'.", name, a.DataType))
	case notXML(a.value()) >= 0 && a.StringValue != nil:
		return invalid(fmt.Sprintf("The message attribute '%s' has characters that are no XML.", name))
	}
	return nil
}

func missing(name string) *sqsError {
	return &sqsError{code: "MissingParameter", message: "The request must contain the parameter " + name + "."}
}

func invalid(message string) *sqsError {
	return &sqsError{code: "InvalidParameterValue", message: message}
}

// notXML is the index of the first character that XML does not have, or -1.
func notXML(s string) int {
	ascii := 0 // almost all of a message is
	for ascii < len(s) && s[ascii] >= ' ' && s[ascii] < utf8.RuneSelf {
		ascii++
	}
	i := strings.IndexFunc(s[ascii:], func(r rune) bool {
		return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r > 0xD7FF && r < 0xE000 || r == 0xFFFE || r == 0xFFFF
	})
	if i < 0 {
		return -1
	}
	return ascii + i
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// attributesMD5 is the digest that SQS gives of attributes, "" for none.
func attributesMD5(attributes map[string]attribute) string {
	if len(attributes) == 0 {
		return ""
	}
	h := md5.New()
	put := func(s string) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		put(name)
		put(a.DataType)
		if a.StringValue != nil {
			h.Write([]byte{1})
		} else {
			h.Write([]byte{2})
		}
		put(a.value())
	}
	return hex.EncodeToString(h.Sum(nil))
}
