package redact

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSecretsThatOverlap(t *testing.T) {
	secrets := new(Secrets)
	assert.Equal(t, "hunter2", secrets.Redact("hunter2"))
	secrets.Add("hunter2")
	secrets.Add("hunter2-and-more", "x-hunter2")
	assert.Equal(t, "[redacted] [redacted] [redacted]", secrets.Redact("hunter2 hunter2-and-more x-hunter2"))
	assert.Equal(t, "hunter2", (*Secrets)(nil).Redact("hunter2"))
}

// Redact leaves alone at once what holds the start of no secret.
func TestSecretsAtEachPlace(t *testing.T) {
	var s Secrets
	s.Add("pass", "quoted\"word", "sp ace")
	for secret, marked := range map[string]string{"pass": Mark, `quoted\"word`: Mark, "sp+ace": Mark, "pas": "pas", "quoted": "quoted"} {
		for n := range 10 {
			before := strings.Repeat("x", n)
			assert.Equal(t, before+marked, s.Redact(before+secret))
			assert.Equal(t, before+marked+before, s.Redact(before+secret+before))
		}
	}
}

// BenchmarkRedact looks at the texts of a line of the log.
func BenchmarkRedact(b *testing.B) {
	var s Secrets
	for i := range 10 {
		s.Add(fmt.Sprintf("a-%d-password", i), strings.Repeat(fmt.Sprint("token", i), 100))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, text := range []string{"File delivered", "trackingId", "14afcdf47b3b4697b1235920d88a6b12", "name", "f-007999.dat", "bytes", "4096", "attempts", "1", "waited", "43.678s"} {
			_ = s.Redact(text)
		}
	}
}

func TestText(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"nothing to hide: a=b?c", "nothing to hide: a=b?c"},
		{"https://example.com/x?page=1", "https://example.com/x?page=1"},
		{"/inbox/eyJhbGciOi.csv", "/inbox/eyJhbGciOi.csv"},
		{"https://h/k?versionId=1&X-Amz-Signature=ab&y=1 failed", "https://h/k?[redacted] failed"},
		{"https://h/k?x-amz-signature=ab", "https://h/k?[redacted]"},
		{"https://h/k?AWSAccessKeyId=AKIA&Signature=ab%3D&Expires=1", "https://h/k?[redacted]"},
		{`"https://h/k?X-Amz-Date=1"`, `"https://h/k?[redacted]"`},
		{`{"X-Amz-Signature": "ab", "key": "k"}`, `{"X-Amz-Signature": "[redacted]", "key": "k"}`},
		{"X-Amz-Security-Token: abc/def==", "X-Amz-Security-Token: [redacted]"},
		{"dial tcp 127.0.0.1:21: connection refused", "dial tcp 127.0.0.1:21: connection refused"},
		{"ftp://u:p@h/ and ftp://u@h/", "ftp://[redacted]@h/ and ftp://[redacted]@h/"},
		{"https://h/ mail me@example.com", "https://h/ mail me@example.com"},
		{"SignatureDoesNotMatch: try again", "SignatureDoesNotMatch: try again"},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, Text(tt.text), tt.text)
	}
}
