package echotest

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func randomHex(n int) string { return hex.EncodeToString(randomBytes(n)) }

func randomPassword() string { return "Pw1!" + base64.RawURLEncoding.EncodeToString(randomBytes(18)) }

func randomSecret(n int) string { return base64.StdEncoding.EncodeToString(randomBytes(n)) }

// randomID is an AWS request or message id: a UUIDv4.
func randomID() string {
	b := randomBytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var s [36]byte
	hex.Encode(s[:8], b[:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}
