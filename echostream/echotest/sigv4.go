package echotest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// AWS Signature Version 4, written from its specification and on its own: what the AWS SDK signs is checked by other
// code than what signed it.

const (
	algorithm       = "AWS4-HMAC-SHA256"
	amzDateLayout   = "20060102T150405Z"
	unsignedPayload = "UNSIGNED-PAYLOAD"
)

// authError is a refused signature, with the code that SQS (AWS query) and S3 give it.
type authError struct {
	code, message string
}

func (e *authError) Error() string { return e.code + ": " + e.message }

var (
	errMissingAuth   = &authError{"MissingAuthenticationToken", "Request is missing Authentication Token"}
	errIncomplete    = &authError{"IncompleteSignature", "The Authorization header or query is not as Signature Version 4 wants it."}
	errUnknownKey    = &authError{"InvalidClientTokenId", "The security token included in the request is invalid."}
	errExpiredToken  = &authError{"ExpiredToken", "The security token included in the request is expired"}
	errBadSignature  = &authError{"SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method."}
	errClock         = &authError{"SignatureDoesNotMatch", "Signature expired or not yet current: the difference between the request time and the current time is too large."}
	errWrongScope    = &authError{"SignatureDoesNotMatch", "Credential should be scoped to a valid region and service."}
	errRequestExpiry = &authError{"AccessDenied", "Request has expired"}
)

// signature is what a request says of its own.
type signature struct {
	key, day, region, service string
	date                      time.Time
	amzDate                   string
	signedHeaders             []string
	signature                 string
}

// verifyHeader checks a request that is signed in its Authorization header.
func (c *Cloud) verifyHeader(r *http.Request, body []byte, service, region string) (vended, *authError) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return vended{}, errMissingAuth
	}
	s, ok := parseAuthorization(header)
	if !ok {
		return vended{}, errIncomplete
	}
	s.amzDate = r.Header.Get("X-Amz-Date")
	var err error
	if s.date, err = time.Parse(amzDateLayout, s.amzDate); err != nil || !strings.HasPrefix(s.amzDate, s.day) {
		return vended{}, errIncomplete
	}
	v, aerr := c.known(s, r.Header.Get("X-Amz-Security-Token"), service, region)
	if aerr != nil {
		return vended{}, aerr
	}
	if !c.clock.agrees(s.date) {
		return vended{}, errClock
	}
	// Host must be signed, and so must every x-amz- header.
	if !slices.Contains(s.signedHeaders, "host") {
		return vended{}, errBadSignature
	}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(s.signedHeaders, name) && name != "x-amz-target" {
			return vended{}, errBadSignature
		}
	}
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" && h != payload {
		return vended{}, errBadSignature
	}
	// Every service but S3 escapes the path once more.
	if !s.matches(v.SecretAccessKey, r, escapeAgain(r.URL.EscapedPath()), r.URL.Query(), payload) {
		return vended{}, errBadSignature
	}
	return v, nil
}

// known finds the signature's credentials, and checks their session token, expiry and scope.
func (c *Cloud) known(s signature, token, service, region string) (vended, *authError) {
	v, ok := c.credentials.get(s.key)
	switch {
	case !ok || v.SessionToken != token:
		return vended{}, errUnknownKey
	case v.CanExpire && !c.clock.Now().Before(v.Expires):
		return vended{}, errExpiredToken
	case s.service != service || s.region != region:
		return vended{}, errWrongScope
	}
	return v, nil
}

// parseAuthorization reads AWS4-HMAC-SHA256 Credential=.../..., SignedHeaders=a;b, Signature=hex.
func parseAuthorization(header string) (signature, bool) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return signature{}, false
	}
	fields := make(map[string]string)
	for _, f := range strings.Split(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	return newSignature(fields["Credential"], fields["SignedHeaders"], fields["Signature"])
}

func newSignature(credential, signedHeaders, sig string) (signature, bool) {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 || scope[4] != "aws4_request" || signedHeaders == "" || sig == "" {
		return signature{}, false
	}
	return signature{
		key: scope[0], day: scope[1], region: scope[2], service: scope[3],
		signedHeaders: strings.Split(signedHeaders, ";"), signature: sig,
	}, true
}

// matches computes the signature anew.
func (s signature) matches(secret string, r *http.Request, path string, query url.Values, payload string) bool {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + canonicalQuery(query) + "\n")
	for _, name := range s.signedHeaders {
		b.WriteString(name + ":" + signedHeader(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.signedHeaders, ";") + "\n" + payload)
	return hmac.Equal([]byte(s.of(secret, b.String())), []byte(s.signature))
}

// of is the signature of a canonical request.
func (s signature) of(secret, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	scope := strings.Join([]string{s.day, s.region, s.service, "aws4_request"}, "/")
	return s.sign(secret, algorithm+"\n"+s.amzDate+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
}

// sign is the signature of a text.
func (s signature) sign(secret, text string) string {
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.day, s.region, s.service, "aws4_request"} {
		key = hmacSHA256(key, part)
	}
	return hex.EncodeToString(hmacSHA256(key, text))
}

func hmacSHA256(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func signedHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

func canonicalQuery(query url.Values) string {
	var pairs []string
	for k, values := range query {
		for _, v := range values {
			pairs = append(pairs, escape(k)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape is percent-encoding as Signature Version 4 wants it: all but the unreserved characters.
func escape(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch ch := s[i]; {
		case ch >= 'A' && ch <= 'Z', ch >= 'a' && ch <= 'z', ch >= '0' && ch <= '9', ch == '-', ch == '_', ch == '.', ch == '~':
			b.WriteByte(ch)
		default:
			b.Write([]byte{'%', hexDigits[ch>>4], hexDigits[ch&15]})
		}
	}
	return b.String()
}

// escapeAgain escapes an escaped path once more, but its slashes.
func escapeAgain(path string) string {
	if path == "" {
		return "/"
	}
	return strings.ReplaceAll(escape(path), "%2F", "/")
}
