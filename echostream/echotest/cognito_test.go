package echotest_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/internal/srp"
)

// code is the error code that an AWS SDK sees.
func code(t *testing.T, err error) string {
	t.Helper()
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	return api.ErrorCode()
}

func TestLogin(t *testing.T) {
	_, n := start(t, echotest.Options{})
	result := n.tokens()
	assert.EqualValues(t, 3600, result.ExpiresIn)
	assert.NotEmpty(t, *result.RefreshToken)
	parts := strings.Split(*result.AccessToken, ".")
	require.Len(t, parts, 3)
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var claims map[string]any
	require.NoError(t, json.Unmarshal(payload, &claims))
	assert.Equal(t, "access", claims["token_use"])
	assert.Equal(t, "https://cognito-idp.us-east-1.amazonaws.com/"+n.env["USER_POOL_ID"], claims["iss"])
}

func TestLoginIsRefused(t *testing.T) {
	// The cloud's clock stands at a quarter past four in the afternoon of a day with one digit, far from the machine's:
	// what is written in another way than the canonical one is then really different.
	afternoon := time.Date(2031, time.September, 5, 16, 15, 9, 0, time.UTC)
	tests := []struct {
		name   string
		change func(responses map[string]string, password *string, now *time.Time)
		ok     bool
	}{
		{"right", func(map[string]string, *string, *time.Time) {}, true},
		{"user name instead of the id", nil, true},
		{"password", func(_ map[string]string, p *string, _ *time.Time) { *p += "x" }, false},
		{"leading zero", func(r map[string]string, _ *string, _ *time.Time) { r["rewrite"] = "Mon Jan 02 15:04:05 UTC 2006" }, false},
		{"padded day", func(r map[string]string, _ *string, _ *time.Time) { r["rewrite"] = "Mon Jan _2 15:04:05 UTC 2006" }, false},
		{"12-hour clock", func(_ map[string]string, _ *string, now *time.Time) { *now = now.Add(-12 * time.Hour) }, false},
		{"12-hour clock without its zero", func(r map[string]string, _ *string, _ *time.Time) { r["rewrite"] = "Mon Jan 2 3:04:05 UTC 2006" }, false},
		{"weekday", func(r map[string]string, _ *string, _ *time.Time) { r["rewrite"] = "Sat Jan 2 15:04:05 UTC 2006" }, false},
		{"other zone", func(r map[string]string, _ *string, _ *time.Time) { r["rewrite"] = "Mon Jan 2 15:04:05 GMT 2006" }, false},
		{"clock six minutes off", func(_ map[string]string, _ *string, now *time.Time) { *now = now.Add(6 * time.Minute) }, false},
		{"timestamp that was not signed", func(r map[string]string, _ *string, now *time.Time) {
			*now = now.Add(time.Second)
			r["rewrite"] = "Mon Jan 2 15:04:09 UTC 2006"
		}, false},
		{"other user", func(r map[string]string, _ *string, _ *time.Time) { r["USERNAME"] = "someone" }, false},
		{"unknown secret block", func(r map[string]string, _ *string, _ *time.Time) { r["PASSWORD_CLAIM_SECRET_BLOCK"] = "AAAA" }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, n := start(t, echotest.Options{Now: func() time.Time { return afternoon }})
			_, err := n.login(func(r map[string]string, password *string, now *time.Time) {
				*now = afternoon
				if tt.change == nil {
					r["USERNAME"] = n.env["USER_NAME"]
					return
				}
				tt.change(r, password, now)
			})
			if tt.ok {
				require.NoError(t, err)
				return
			}
			require.Equal(t, "NotAuthorizedException", code(t, err))
			assert.ErrorContains(t, err, "Incorrect username or password.")
			assert.Equal(t, 1, c.Requests(echotest.Cognito, "RespondToAuthChallenge"))
		})
	}
}

func TestRightLayoutIsAccepted(t *testing.T) {
	// The rewriting of the test above is not what makes it fail.
	afternoon := time.Date(2031, time.September, 5, 16, 15, 9, 0, time.UTC)
	_, n := start(t, echotest.Options{Now: func() time.Time { return afternoon }})
	_, err := n.login(func(r map[string]string, _ *string, now *time.Time) {
		*now = afternoon
		r["rewrite"] = "Mon Jan 2 15:04:05 UTC 2006"
	})
	require.NoError(t, err)
}

func TestChallengeHasOneAnswer(t *testing.T) {
	_, n := start(t, echotest.Options{})
	var used map[string]string
	_, err := n.login(func(r map[string]string, _ *string, _ *time.Time) { used = r })
	require.NoError(t, err)
	_, err = n.cognito().RespondToAuthChallenge(n.ctx, &cognitoidentityprovider.RespondToAuthChallengeInput{
		ChallengeName: types.ChallengeNameTypePasswordVerifier, ClientId: aws.String(n.env["CLIENT_ID"]), ChallengeResponses: used,
	})
	require.Equal(t, "NotAuthorizedException", code(t, err))
}

func TestUnknownUserIsChallengedAndRefused(t *testing.T) {
	_, n := start(t, echotest.Options{})
	n.env["USER_NAME"] = "nobody"
	_, err := n.login(nil)
	require.Equal(t, "NotAuthorizedException", code(t, err))
}

func TestInitiateAuthIsRefused(t *testing.T) {
	_, n := start(t, echotest.Options{})
	a, err := srp.NewClient(rand.Reader)
	require.NoError(t, err)
	good := func() *cognitoidentityprovider.InitiateAuthInput {
		return &cognitoidentityprovider.InitiateAuthInput{
			AuthFlow: types.AuthFlowTypeUserSrpAuth, ClientId: aws.String(n.env["CLIENT_ID"]),
			AuthParameters: map[string]string{"USERNAME": n.env["USER_NAME"], "SRP_A": a.A()},
		}
	}
	tests := map[string]struct {
		change func(*cognitoidentityprovider.InitiateAuthInput)
		code   string
	}{
		"client":        {func(in *cognitoidentityprovider.InitiateAuthInput) { in.ClientId = aws.String("other") }, "ResourceNotFoundException"},
		"password flow": {func(in *cognitoidentityprovider.InitiateAuthInput) { in.AuthFlow = types.AuthFlowTypeUserPasswordAuth }, "InvalidParameterException"},
		"no user":       {func(in *cognitoidentityprovider.InitiateAuthInput) { delete(in.AuthParameters, "USERNAME") }, "InvalidParameterException"},
		"no A":          {func(in *cognitoidentityprovider.InitiateAuthInput) { delete(in.AuthParameters, "SRP_A") }, "InvalidParameterException"},
		"A is 0":        {func(in *cognitoidentityprovider.InitiateAuthInput) { in.AuthParameters["SRP_A"] = "0" }, "NotAuthorizedException"},
	}
	_, err = n.cognito().InitiateAuth(n.ctx, good())
	require.NoError(t, err)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := good()
			tt.change(in)
			_, err := n.cognito().InitiateAuth(n.ctx, in)
			require.Equal(t, tt.code, code(t, err))
		})
	}
}

func TestTokensEnd(t *testing.T) {
	c, n := start(t, echotest.Options{AccessTokenLifetime: time.Hour, RefreshTokenLifetime: 24 * time.Hour})
	first := n.tokens()
	ask := func(token *string) int { return n.graphql(*token, `{ __typename }`, nil).Status }
	require.Equal(t, http.StatusOK, ask(first.AccessToken))

	c.Clock().Advance(59 * time.Minute)
	require.Equal(t, http.StatusOK, ask(first.AccessToken))
	c.Clock().Advance(2 * time.Minute)
	require.Equal(t, http.StatusUnauthorized, ask(first.AccessToken))

	second, err := n.refresh(*first.RefreshToken)
	require.NoError(t, err)
	assert.Nil(t, second.RefreshToken)
	require.Equal(t, http.StatusOK, ask(second.AccessToken))

	c.ExpireAccessTokens()
	require.Equal(t, http.StatusUnauthorized, ask(second.AccessToken))
	_, err = n.refresh(*first.RefreshToken)
	require.NoError(t, err)

	c.Clock().Advance(24 * time.Hour)
	_, err = n.refresh(*first.RefreshToken)
	require.Equal(t, "NotAuthorizedException", code(t, err))
	require.ErrorContains(t, err, "expired")

	again := n.tokens()
	c.RevokeTokens()
	require.Equal(t, http.StatusUnauthorized, ask(again.AccessToken))
	_, err = n.refresh(*again.RefreshToken)
	require.ErrorContains(t, err, "revoked")
	_, err = n.refresh("made up")
	require.Equal(t, "NotAuthorizedException", code(t, err))
}

func TestScriptedChallenges(t *testing.T) {
	c, n := start(t, echotest.Options{})
	for _, name := range []types.ChallengeNameType{types.ChallengeNameTypeNewPasswordRequired, types.ChallengeNameTypeSoftwareTokenMfa} {
		c.SetChallenge(string(name))
		out, err := n.login(nil)
		require.NoError(t, err)
		assert.Equal(t, name, out.ChallengeName)
		assert.Nil(t, out.AuthenticationResult)
	}
	_, err := n.login(func(_ map[string]string, p *string, _ *time.Time) { *p = "wrong" })
	require.Equal(t, "NotAuthorizedException", code(t, err), "the password comes first")
	c.SetChallenge("")
	n.tokens()
}

func TestPasswordChanges(t *testing.T) {
	c, n := start(t, echotest.Options{})
	n.tokens()
	c.SetPassword("", "another")
	_, err := n.login(nil)
	require.Equal(t, "NotAuthorizedException", code(t, err))
	assert.Equal(t, "another", c.Environment()["PASSWORD"])
	n.env = c.Environment()
	n.tokens()
}

func TestPasswordsAreNotTheSame(t *testing.T) {
	a, _ := start(t, echotest.Options{})
	b, _ := start(t, echotest.Options{})
	assert.NotEqual(t, a.Environment()["PASSWORD"], b.Environment()["PASSWORD"])
	assert.GreaterOrEqual(t, len(a.Environment()["PASSWORD"]), 20)
}

func TestKeySet(t *testing.T) {
	c, n := start(t, echotest.Options{})
	r, err := http.NewRequestWithContext(n.ctx, http.MethodGet, c.URL()+"/"+n.env["USER_POOL_ID"]+"/.well-known/jwks.json", nil)
	require.NoError(t, err)
	status, body, _ := n.do(r)
	assert.Equal(t, http.StatusOK, status)
	assert.JSONEq(t, string(c.KeySet()), body)
}

func TestCognitoFaults(t *testing.T) {
	c, n := start(t, echotest.Options{})
	for kind, want := range map[echotest.FaultKind]string{
		echotest.ServerError: "InternalErrorException",
		echotest.Throttled:   "TooManyRequestsException",
	} {
		c.Fault(echotest.Fault{Service: echotest.Cognito, Kind: kind, Count: 1})
		_, err := n.login(nil)
		require.Equal(t, want, code(t, err))
	}
	c.Fault(echotest.Fault{Service: echotest.Cognito, Kind: echotest.ExpiredToken, Count: 1})
	tokens := n.tokens() // is no attempt to refresh
	_, err := n.refresh(*tokens.RefreshToken)
	require.Equal(t, "NotAuthorizedException", code(t, err))
	_, err = n.refresh(*tokens.RefreshToken)
	require.NoError(t, err)
	assert.Equal(t, 2, c.Requests(echotest.Cognito, "RefreshToken"))
	assert.Equal(t, 3, c.Requests(echotest.Cognito, "InitiateAuth"))
	c.Fault(echotest.Fault{Service: echotest.Cognito, Kind: echotest.ReplyLost, Count: 1})
	_, err = n.login(nil)
	require.ErrorIs(t, err, io.EOF)
}
