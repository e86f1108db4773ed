// Package redact blots out what is secret: by its form, and by its value. It is the second line of defence behind code that does not show
// secrets.
package redact

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Mark stands for what must not be shown.
const Mark = "[redacted]"

// minSecret is the length of the shortest secret that [Secrets] looks for: shorter ones stand in ordinary
// words and numbers by chance, and blotting those out would show the secret rather than hide it.
const minSecret = 4

// Secrets is a set of values that must not appear in logs, as the second line of defence behind code that does not
// log them. Its zero value is ready for use, by several goroutines at once.
type Secrets struct {
	mu       sync.RWMutex
	forms    []string // every value in every form in which it may be met
	replacer *strings.Replacer
	starts   *starts // of the forms
}

// Add puts values into the set. Values of under 4 bytes are left out. A value is also recognised as it stands in
// quoted strings, in JSON and in URLs.
func (s *Secrets) Add(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := len(s.forms)
	for _, v := range values {
		if len(v) < minSecret {
			continue
		}
		for _, form := range forms(v) {
			if !slices.Contains(s.forms, form) {
				s.forms = append(s.forms, form)
			}
		}
	}
	if len(s.forms) == known {
		return
	}
	// The longest first: where one secret begins another, the longer one must go as a whole.
	slices.SortStableFunc(s.forms, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(s.forms))
	begin := new(starts)
	for _, form := range s.forms {
		pairs = append(pairs, form, Mark)
		begin.add(form)
	}
	s.starts = begin
	s.replacer = strings.NewReplacer(pairs...)
}

func forms(v string) []string {
	quoted, ascii := strconv.Quote(v), strconv.QuoteToASCII(v)
	return []string{
		v,
		quoted[1 : len(quoted)-1],
		ascii[1 : len(ascii)-1],
		jsonEscape(v),
		url.QueryEscape(v),
		url.PathEscape(v),
	}
}

func jsonEscape(v string) string {
	b, err := json.Marshal(v) // of a string: cannot fail
	if err != nil || len(b) < 2 {
		return v
	}
	return string(b[1 : len(b)-1])
}

// Redact returns text with "[redacted]" in the place of every value of the set.
func (s *Secrets) Redact(text string) string {
	if s == nil {
		return text
	}
	s.mu.RLock()
	replacer, starts := s.replacer, s.starts
	s.mu.RUnlock()
	if replacer == nil || !starts.in(text) {
		return text
	}
	return replacer.Replace(text)
}

// starts is a set of the first minSecret bytes of forms, by their hash: almost no text holds one, and Replace copies each.
type starts [1 << startBits / 64]uint64

const startBits = 12

func (s *starts) add(form string) {
	h := startHash(form)
	s[h/64] |= 1 << (h % 64)
}

// in reports whether a form may stand in text.
func (s *starts) in(text string) bool {
	for ; len(text) >= minSecret; text = text[1:] {
		if h := startHash(text); s[h/64]&(1<<(h%64)) != 0 {
			return true
		}
	}
	return false
}

func startHash(text string) uint32 {
	start := uint32(text[0]) | uint32(text[1])<<8 | uint32(text[2])<<16 | uint32(text[3])<<24
	return start * 2654435761 >> (32 - startBits) // Knuth's multiplicative hashing
}

var (
	// The query of a presigned URL is as good as a password, whichever of its parameters stands first.
	signedQuery = regexp.MustCompile(`(?i)\?[^\s"'<>\\]*(?:X-Amz-|Signature=)[^\s"'<>\\]*`)
	// The same parameters without the URL around them, or in the fields of a POST policy.
	signedField = regexp.MustCompile(
		`(?i)\b(X-Amz-(?:Signature|Security-Token|Credential)|AWSAccessKeyId|Signature)(["']?\s*[=:]\s*["']?)[^\s"'<>&,;]+`)
	// Cognito's tokens: three (JWS) or five (JWE) parts of base64url, the first a JSON object.
	webToken = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){2,4}`)
	userinfo = regexp.MustCompile(`://[^\s/@"'<>]*@`)
)

// Text blots out what is secret by its form: queries of presigned URLs, Cognito's tokens, and user names and
// passwords in URLs.
func Text(text string) string {
	// Most texts hold none of it, and a plain search is far cheaper than the expressions.
	lower := text
	if strings.ContainsAny(text, "?=:") {
		lower = strings.ToLower(text)
	}
	if strings.Contains(lower, "x-amz-") || strings.Contains(lower, "signature") || strings.Contains(lower, "awsaccesskeyid") {
		text = signedQuery.ReplaceAllString(text, "?"+Mark)
		text = signedField.ReplaceAllString(text, "${1}${2}"+Mark)
	}
	if strings.Contains(text, "eyJ") {
		text = webToken.ReplaceAllString(text, Mark)
	}
	if strings.Contains(text, "://") && strings.Contains(text, "@") {
		text = userinfo.ReplaceAllString(text, "://"+Mark+"@")
	}
	return text
}
