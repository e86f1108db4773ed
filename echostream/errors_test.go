package echostream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/stretchr/testify/assert"
)

func TestPermanent(t *testing.T) {
	cause := errors.New("too large")
	assert.NoError(t, Permanent(nil))
	assert.False(t, IsPermanent(nil))
	assert.False(t, IsPermanent(cause))
	err := fmt.Errorf("uploading: %w", Permanent(cause))
	assert.True(t, IsPermanent(err))
	assert.ErrorIs(t, err, cause)
	assert.EqualError(t, err, "uploading: too large")
}

func TestWithoutURLs(t *testing.T) {
	const secret = "https://bucket.s3.amazonaws.com/key?X-Amz-Signature=abc"
	for _, test := range []struct {
		name, want string
		err        error
	}{
		{"as net/http wraps it", "connection refused", &url.Error{Op: "Put", URL: secret, Err: errors.New("connection refused")}},
		{"deep down", "sending: request failed, connection refused; done",
			fmt.Errorf("sending: %w; done", fmt.Errorf("request failed, %w", &url.Error{Op: "Put", URL: secret, Err: errors.New("connection refused")}))},
		{"joined", "a\nb", errors.Join(&url.Error{Op: "Put", URL: secret, Err: errors.New("a")}, &url.Error{Op: "Get", URL: secret, Err: errors.New("b")})},
		{"in the text", "bad redirect to https://bucket.s3.amazonaws.com/key?...", errors.New("bad redirect to " + secret)},
		{"a proxy's password", `invalid proxy address "http://...@proxy:3128"`, errors.New(`invalid proxy address "http://user:pa55@proxy:3128"`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			assert.EqualError(t, withoutURLs(test.err), test.want)
		})
	}
	assert.NoError(t, withoutURLs(nil))
	err := withoutURLs(fmt.Errorf("x: %w", &url.Error{Op: "Put", URL: secret, Err: context.DeadlineExceeded}))
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	var u *url.Error
	assert.False(t, errors.As(err, &u))
}

func TestAWSErrorKeepsOperationCodeAndMessage(t *testing.T) {
	err := awsError("SQS SendMessageBatch", fmt.Errorf("operation error SQS: RequestID: 1, %w",
		&smithy.GenericAPIError{Code: "AccessDenied", Message: "no"}))
	assert.EqualError(t, err, "SQS SendMessageBatch: AccessDenied: no")
	assert.Equal(t, "AccessDenied", errorCode(fmt.Errorf("x: %w", err)))
	assert.Empty(t, errorCode(errors.New("x")))

	for _, code := range []string{"SignatureDoesNotMatch", "InvalidSignatureException"} {
		err = awsError("SQS SendMessageBatch", &smithy.GenericAPIError{Code: code, Message: "It should have been 'x-amz-security-token:secret'"})
		assert.EqualError(t, err, "SQS SendMessageBatch: "+code)
	}
	err = awsError("SQS SendMessageBatch", &smithy.GenericAPIError{Code: "X", Message: "first\nsecret"})
	assert.EqualError(t, err, "SQS SendMessageBatch: X: first")
}

func TestSDKLogger(t *testing.T) {
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	sdkLogger(log).Logf(logging.Warn, "odd answer of %s", "https://b.example.com/k?X-Amz-Signature=secret")
	assert.Contains(t, b.String(), "level=DEBUG")
	assert.Contains(t, b.String(), "odd answer of https://b.example.com/k?...")
	assert.NotContains(t, b.String(), "secret")
}
