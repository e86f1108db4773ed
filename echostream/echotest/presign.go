package echotest

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	maxExpiresIn  = 7 * 24 * time.Hour // the longest that Signature Version 4 allows
	defaultUpload = 1800 * time.Second
)

// clockSigner presigns with the s3 package's own signers, at the cloud's time.
type clockSigner struct {
	now    func() time.Time
	signer *v4.Signer
}

// PresignHTTP implements s3.HTTPPresignerV4.
func (p clockSigner) PresignHTTP(ctx context.Context, creds aws.Credentials, r *http.Request, payloadHash, service, region string, _ time.Time, optFns ...func(*v4.SignerOptions)) (string, http.Header, error) {
	return p.signer.PresignHTTP(ctx, creds, r, payloadHash, service, region, p.now(), optFns...)
}

func (c *Cloud) presigner() *s3.PresignClient {
	client := s3.New(s3.Options{
		BaseEndpoint:               aws.String(c.url(S3)),
		Credentials:                awscredentials.StaticCredentialsProvider{Value: c.storage.signer},
		Region:                     c.opts.Tenant.Region,
		UsePathStyle:               true,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return s3.NewPresignClient(client, func(o *s3.PresignOptions) {
		o.Presigner = clockSigner{c.clock.Now, signer}
	})
}

// bulkDataStorage resolves GetBulkDataStorage. The acceleration endpoint is the same place: what is asked for is only
// counted (Cloud.Requests' operation AccelerateBulkDataStorage).
func (c *Cloud) bulkDataStorage(args map[string]any) (any, error) {
	count, expiresIn, encoding := int64(1), int64(defaultUpload/time.Second), "gzip"
	if n, ok := integer(args["count"]); ok {
		count = n
	}
	if n, ok := integer(args["expiresIn"]); ok {
		expiresIn = n
	}
	if e, ok := args["contentEncoding"].(string); ok {
		encoding = e
	}
	if count < 1 || count > 100 {
		return nil, &apiError{"BadRequest", fmt.Sprintf("count must be from 1 to 100, not %d", count)}
	}
	lifetime := time.Duration(expiresIn) * time.Second
	if lifetime <= 0 || lifetime > maxExpiresIn {
		return nil, &apiError{"BadRequest", fmt.Sprintf("expiresIn must be from 1 to 604800, not %d", expiresIn)}
	}
	if args["useAccelerationEndpoint"] == true {
		c.requests.add(AppSync, "AccelerateBulkDataStorage")
	}
	presigner := c.presigner()
	out := make([]any, count)
	for i := range out {
		o, err := c.uploadPlace(presigner, encoding, lifetime)
		if err != nil {
			return nil, err
		}
		out[i] = o
	}
	return out, nil
}

func (c *Cloud) uploadPlace(p *s3.PresignClient, encoding string, lifetime time.Duration) (object, error) {
	ctx := context.Background() // nothing is sent
	key := c.tenant.Name + "/" + randomHex(16)
	expires := c.clock.Now().Add(lifetime)
	put, err := p.PresignPutObject(ctx, &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: &key, ContentEncoding: &encoding,
	}, s3.WithPresignExpires(lifetime))
	if err != nil {
		return object{}, err
	}
	get, err := p.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key}, s3.WithPresignExpires(maxExpiresIn))
	if err != nil {
		return object{}, err
	}
	post, err := p.PresignPostObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: &key}, func(o *s3.PresignPostOptions) {
		// The package counts from the machine's time.
		o.Expires = time.Until(expires)
		o.Conditions = []any{
			map[string]string{"Content-Encoding": encoding},
			[]any{"content-length-range", 0, maxObject},
		}
	})
	if err != nil {
		return object{}, err
	}
	post.Values["Content-Encoding"] = encoding
	fields, _ := json.Marshal(post.Values)
	headers := make(map[string]string)
	for name, values := range put.SignedHeader {
		if !strings.EqualFold(name, "Host") {
			headers[name] = strings.Join(values, ",")
		}
	}
	headerJSON, _ := json.Marshal(headers)
	return object{"BulkDataStorage", map[string]any{
		"expiration":    expires.Unix(),
		"presignedGet":  get.URL,
		"presignedPost": object{"PresignedPost", map[string]any{"fields": string(fields), "url": post.URL}},
		"presignedPut":  object{"PresignedPut", map[string]any{"headers": string(headerJSON), "url": put.URL}},
	}}, nil
}

// presignedQuery reads the signature of a presigned URL.
func presignedQuery(r *http.Request) (s signature, lifetime time.Duration, ok bool) {
	q := r.URL.Query()
	if q.Get("X-Amz-Algorithm") != algorithm {
		return signature{}, 0, false
	}
	s, ok = newSignature(q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature"))
	if !ok {
		return signature{}, 0, false
	}
	s.amzDate = q.Get("X-Amz-Date")
	seconds, err := time.ParseDuration(q.Get("X-Amz-Expires") + "s")
	if err != nil || seconds <= 0 || seconds > maxExpiresIn {
		return signature{}, 0, false
	}
	s.date, err = time.Parse(amzDateLayout, s.amzDate)
	return s, seconds, err == nil
}

// verifyURL checks a request to a presigned URL: by the cloud's clock alone.
func (c *Cloud) verifyURL(r *http.Request) *authError {
	if r.URL.RawQuery == "" {
		return &authError{"AccessDenied", "Access Denied"}
	}
	s, lifetime, ok := presignedQuery(r)
	if !ok {
		return &authError{"AuthorizationQueryParametersError", "The query is not that of a presigned URL."}
	}
	signer := c.storage.signer
	if s.key != signer.AccessKeyID {
		return &authError{"InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."}
	}
	if s.service != "s3" || s.region != c.opts.Tenant.Region {
		return errWrongScope
	}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(s.signedHeaders, name) {
			return &authError{"AccessDenied", "There were headers present in the request which were not signed"}
		}
	}
	query := r.URL.Query()
	query.Del("X-Amz-Signature")
	if !s.matches(signer.SecretAccessKey, r, r.URL.EscapedPath(), query, unsignedPayload) {
		return errBadSignature
	}
	if !c.clock.Now().Before(s.date.Add(lifetime)) {
		return errRequestExpiry
	}
	return nil
}

// verifyPolicy checks the fields of a presigned POST, whose names are in lower case, and tells how
// large the file may be.
func (c *Cloud) verifyPolicy(fields map[string]string) (minSize, maxSize int64, err *authError) {
	invalid := func(why string) (int64, int64, *authError) {
		return 0, 0, &authError{"AccessDenied", "Invalid according to Policy: " + why}
	}
	credential := strings.Split(fields["x-amz-credential"], "/")
	if fields["x-amz-algorithm"] != algorithm || len(credential) != 5 || fields["policy"] == "" {
		return 0, 0, &authError{"AccessDenied", "Bucket POST must contain a field named 'AWSAccessKeyId' or the fields of Signature Version 4."}
	}
	signer := c.storage.signer
	s := signature{key: credential[0], day: credential[1], region: credential[2], service: credential[3]}
	if s.key != signer.AccessKeyID {
		return 0, 0, &authError{"InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."}
	}
	if !hmac.Equal([]byte(s.sign(signer.SecretAccessKey, fields["policy"])), []byte(fields["x-amz-signature"])) {
		return 0, 0, errBadSignature
	}
	text, derr := base64.StdEncoding.DecodeString(fields["policy"])
	var policy struct {
		Expiration time.Time `json:"expiration"`
		Conditions []any     `json:"conditions"`
	}
	if derr != nil || json.Unmarshal(text, &policy) != nil {
		return 0, 0, &authError{"InvalidPolicyDocument", "The content of the form does not meet the conditions specified in the policy document."}
	}
	if !c.clock.Now().Before(policy.Expiration) {
		return invalid("Policy expired.")
	}
	maxSize = maxObject
	left := maps.Clone(fields)
	for _, name := range []string{"policy", "x-amz-signature", "file", "bucket"} {
		delete(left, name)
	}
	for _, condition := range policy.Conditions {
		var op, name, want string
		switch v := condition.(type) {
		case map[string]any:
			for k, x := range v {
				op, name, want = "eq", k, fmt.Sprint(x)
			}
		case []any:
			if len(v) != 3 {
				return invalid("Policy Condition is malformed")
			}
			op = fmt.Sprint(v[0])
			if op == "content-length-range" {
				low, _ := v[1].(float64)
				high, _ := v[2].(float64)
				minSize, maxSize = int64(low), int64(high)
				continue
			}
			name, want = strings.TrimPrefix(fmt.Sprint(v[1]), "$"), fmt.Sprint(v[2])
		}
		name = strings.ToLower(name)
		got := fields[name]
		if name == "bucket" {
			got = bucket
		}
		if op == "eq" && got != want || op == "starts-with" && !strings.HasPrefix(got, want) {
			return invalid(fmt.Sprintf("Policy Condition failed: [%q, %q]", op, "$"+name))
		}
		delete(left, name)
	}
	for name := range left {
		if !strings.HasPrefix(name, "x-ignore-") {
			return invalid("Extra input fields: " + name)
		}
	}
	return minSize, maxSize, nil
}
