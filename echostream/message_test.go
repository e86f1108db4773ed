package echostream

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The sizes are those of the Python library (echostream-node 0.4.6), but that it counts characters where SQS counts
// bytes.
func TestMessageSize(t *testing.T) {
	zeros := strings.Repeat("0", 32)
	ones, twos := strings.Repeat("1", 32), strings.Repeat("2", 32)
	for _, test := range []struct {
		name string
		m    Message
		size int
	}{
		{"plain", Message{TrackingID: zeros, Body: "{}"}, 50},
		{"split from one", Message{TrackingID: zeros, PrevTrackingIDs: []string{ones}, Body: strings.Repeat("a", 1000)}, 1105},
		{"made from two", Message{TrackingID: zeros, PrevTrackingIDs: []string{ones, twos}, Body: "x"}, 141},
		{"bytes, not characters", Message{TrackingID: zeros, Body: "é"}, 50},
		{"the largest", Message{TrackingID: zeros, Body: strings.Repeat("a", 262096)}, MaxMessageSize},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.size, test.m.Size())
			assert.NoError(t, test.m.Validate())
			sum := len(test.m.Body)
			for name, v := range attributesOf(test.m) {
				sum += len(name) + len(*v.DataType) + len(*v.StringValue)
			}
			assert.Equal(t, sum, test.m.Size())
		})
	}
}

func TestMessageValidate(t *testing.T) {
	id := NewTrackingID()
	for _, test := range []struct {
		name, want string
		m          Message
	}{
		{"empty", "body is empty", Message{TrackingID: id}},
		{"too long", "size is 262145 bytes, expected at most 262144", Message{TrackingID: id, Body: strings.Repeat("a", 262097)}},
		{"control character", "U+0000 at byte 1", Message{TrackingID: id, Body: "a\x00"}},
		{"not a character", "U+FFFE at byte 1", Message{TrackingID: id, Body: "a\ufffe"}},
		{"not UTF-8", "byte 0xff at 2", Message{TrackingID: id, Body: "ab\xff"}},
		{"no tracking id", `tracking id is ""`, Message{Body: "a"}},
		{"space in the tracking id", `tracking id is "a b"`, Message{TrackingID: "a b", Body: "a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.ErrorContains(t, test.m.Validate(), test.want)
		})
	}
	assert.NoError(t, Message{TrackingID: id, Body: "\ufffd \t\r\n\U0001FFFE"}.Validate())
}

// Whatever stands where, among the eight bytes that are looked at together or behind them.
func TestNotXMLAtEachPlace(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for b := range 256 {
				text := []byte(strings.Repeat("x", length))
				text[at] = byte(b)
				want := -1
				if b >= utf8.RuneSelf || b < ' ' && b != '\t' && b != '\n' && b != '\r' {
					want = at
				}
				require.Equal(t, want, notXML(string(text)), "%q", text)
			}
		}
	}
}

func TestNewTrackingID(t *testing.T) {
	id := NewTrackingID()
	assert.Regexp(t, `^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$`, id)
	assert.NotEqual(t, id, NewTrackingID())
}

func TestGroupID(t *testing.T) {
	for _, test := range []struct{ name, group string }{
		{"My FTP node", "My_FTP_node"},
		{"a  b ", "a__b_"},
		{"all!of~them\\{}", "all!of~them\\{}"},
		{strings.Repeat("x", 128), strings.Repeat("x", 128)},
		{"Büro", "B_ro-96eecebccfb49c81"},
		{"Baro\x00", "Baro_-55ea5ee7e007766a"},
		{"", "-e3b0c44298fc1c14"},
		{strings.Repeat("x", 129), strings.Repeat("x", 111) + "-0ec9eb33e74510bc"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := GroupID(test.name)
			assert.Equal(t, test.group, got)
			assert.LessOrEqual(t, len(got), 128)
			assert.NotContains(t, got, " ")
		})
	}
}

func TestEscapeJSON(t *testing.T) {
	for _, test := range []struct{ name, in, out string }{
		{"nothing to do", `{"a":"é\u0000"}`, `{"a":"é\u0000"}`},
		{"not characters", "{\"a\":\"x\ufffey\uffffz\"}", `{"a":"x\ufffey\uffffz"}`},
		{"not UTF-8", "{\"a\":\"\xff\"}", `{"a":"\ufffd"}`},
		{"the replacement character is one", "\"\ufffd\ufffe\"", "\"\ufffd\\ufffe\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.out, EscapeJSON(test.in))
		})
	}
}

func TestMarshalMessage(t *testing.T) {
	text, err := MarshalMessage(map[string]string{"name": "<&>\x00\x01\x1f\x7f\u2028\ufffe\uffff\U0010FFFF"})
	require.NoError(t, err)
	assert.NoError(t, Message{TrackingID: NewTrackingID(), Body: text}.Validate())
	assert.Contains(t, text, "<&>")

	_, err = MarshalMessage(func() {})
	assert.Error(t, err)
}

func FuzzMarshalMessage(f *testing.F) {
	for _, seed := range []string{"a.csv", `a "quoted" \\ name`, "12345678\t12345678é12345678\x1f", "\x00\x1f\x7f", "\ufffe\uffff\ufffd", "\xff\xfe", "\xed\xa0\x80", "\U0001F4C4 \u2028"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		text, err := MarshalMessage(map[string]string{"name": name})
		require.NoError(t, err)
		require.NoError(t, Message{TrackingID: NewTrackingID(), Body: text + " "}.Validate())
		var back map[string]string
		require.NoError(t, json.Unmarshal([]byte(text), &back))
		alone, err := MarshalMessage(name)
		require.NoError(t, err)
		require.Equal(t, text, `{"name":`+alone+`}`)
		if utf8.ValidString(name) {
			require.Equal(t, name, back["name"])
		}
	})
}
