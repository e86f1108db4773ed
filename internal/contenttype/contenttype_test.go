package contenttype_test

import (
	"bytes"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/contenttype"
)

func TestSampleFiles(t *testing.T) {
	want := map[string]string{
		"100% [odd] & (copy) #1.txt":   "text/plain",
		"Prüfbericht Größe 5µm 検査.txt": "text/plain",
		"batch.zip":                    "application/zip",
		"camera.jpg":                   "image/jpeg",
		"delivery-note.pdf":            "application/pdf",
		"empty.dat":                    contenttype.Unknown,
		"every-byte.bin":               contenttype.Unknown,
		"image.dcm":                    "application/dicom",
		"measurements.csv":             "text/csv",
		"order.xml":                    "application/xml",
		"press.log":                    "text/plain",
		"result.hl7":                   "application/hl7-v2",
	}
	dir := filepath.Join("..", "..", "testdata", "files")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		require.Contains(t, want, e.Name(), "say here what its type is")
		assert.Equal(t, want[e.Name()], contenttype.Of(e.Name(), content), e.Name())
	}
	assert.Len(t, entries, len(want))
}

func TestSampleFilesWithoutExtension(t *testing.T) {
	for name, want := range map[string]string{
		"batch.zip": "application/zip", "camera.jpg": "image/jpeg", "delivery-note.pdf": "application/pdf",
		"image.dcm": "application/dicom", "press.log": "text/plain", "result.hl7": "application/hl7-v2", "order.xml": "text/xml",
	} {
		content, err := os.ReadFile(filepath.Join("..", "..", "testdata", "files", name))
		require.NoError(t, err)
		head := content[:min(len(content), contenttype.HeadSize)]
		assert.Equal(t, want, contenttype.Of("20261107-0001", head), name)
		assert.Equal(t, want, contenttype.Of("dir.pdf/.hidden", content), "the whole content of %s", name)
	}
}

func TestOf(t *testing.T) {
	isa := "ISA*00*          *00*          *ZZ*SENDER         *ZZ*RECEIVER       *261107*1605*U*00401*000000001*0*P*>~GS*PO*"
	cases := []struct{ name, head, want string }{
		{"A.CSV", "", "text/csv"},
		{"a/b.c/photo.JPeG", "", "image/jpeg"},
		{"archive.tar.gz", "", "application/gzip"},
		{".csv", "plain words", "text/plain"},
		{"noext", "", contenttype.Unknown},
		{"trailing.", "\x00\x01\x02", contenttype.Unknown},
		{"", "", contenttype.Unknown},
		{"x.pdf", "not a pdf at all", "application/pdf"},
		{"order.edi", isa, "application/edi-x12"},
		{"order", isa, "application/edi-x12"},
		{"order.edi", "UNA:+.? 'UNB+UNOC:3", "application/edifact"},
		{"order.edi", "\r\nUNB+UNOC:3+", "application/edifact"},
		{"order.edi", "ISAbella was here", "application/edi-consent"},
		{"order.edi", "", "application/edi-consent"},
		{"msg", "\x0bMSH|^~\\&|LAB", "application/hl7-v2"},
		{"data.dat", `{"a": 1}`, "application/json"},
		{"data.dat", "\x1f\x8b\x08\x00", "application/gzip"},
		{"gru\xdf\xff.txt", "", "text/plain"},
	}
	for _, c := range cases {
		assert.Equal(t, c.want, contenttype.Of(c.name, []byte(c.head)), "%q beginning with %q", c.name, c.head)
	}
}

// What follows the first HeadSize bytes plays no part, so whoever reads only those gets the same answer.
func TestOnlyTheHeadCounts(t *testing.T) {
	table := []byte(strings.Repeat("4711,12.5,ok\r\n", 400))
	require.Greater(t, len(table), contenttype.HeadSize)
	whole := append(bytes.Clone(table), bytes.Repeat([]byte{0}, 9000)...)
	assert.Equal(t, contenttype.Of("x", table[:contenttype.HeadSize]), contenttype.Of("x", whole))
}

func FuzzOf(f *testing.F) {
	f.Add("a.csv", []byte("a,b"))
	f.Add("a.edi", []byte("ISA*"))
	f.Add("", []byte{})
	f.Add("a", []byte("MSH|^~\\&|"))
	f.Fuzz(func(t *testing.T, name string, head []byte) {
		got := contenttype.Of(name, head)
		mediaType, params, err := mime.ParseMediaType(got)
		require.NoError(t, err, got)
		require.Equal(t, got, mediaType, "lower case, nothing but type/subtype")
		require.Empty(t, params)
	})
}
