package echotest_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
)

// Every answer has the cloud's time in it, whatever it says and whichever service gives it.
func TestAnswersTellTheTime(t *testing.T) {
	c, n := start(t, echotest.Options{})
	c.Clock().Advance(-8 * 24 * time.Hour)
	for _, url := range []string{
		n.env["APPSYNC_ENDPOINT"], n.env["AWS_ENDPOINT_URL_S3"] + "/bulk-data/x", c.URL() + "/audit/acme/ftp-app/ftp-node", c.URL() + "/nothing",
		n.env["AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER"] + "/x/.well-known/jwks.json",
	} {
		r, err := http.NewRequestWithContext(n.ctx, http.MethodPost, url, bytes.NewReader(nil))
		require.NoError(t, err)
		_, _, header := n.do(r)
		date, err := http.ParseTime(header.Get("Date"))
		require.NoError(t, err, url)
		assert.WithinDuration(t, c.Clock().Now(), date, time.Minute, url)
	}
}

// It is the cloud's time that counts, as it is with AWS.
func TestClientsThatAreLateOrEarly(t *testing.T) {
	for _, off := range []time.Duration{-6 * time.Minute, 6 * time.Minute, -8 * 24 * time.Hour, 8 * 24 * time.Hour} {
		c, n := start(t, echotest.Options{})
		queue, creds := n.queues()["target"], n.credentials()
		n.now = func() time.Time { return time.Now().Add(off) }
		client := n.sqsWith(creds)
		_, err := client.SendMessage(n.ctx, send(queue, "x", "1", "g"))
		require.Equal(t, "SignatureDoesNotMatch", code(t, err), off)
		assert.ErrorContains(t, err, "Signature expired or not yet current")
		_, err = n.login(nil)
		require.Equal(t, "NotAuthorizedException", code(t, err), off)
		// What is wrong is the difference alone.
		c.Clock().Advance(off)
		_, err = n.login(nil)
		require.NoError(t, err)
		if off < time.Hour {
			_, err = client.SendMessage(n.ctx, send(queue, "x", "1", "g"))
			require.NoError(t, err)
		}
	}
}

func TestInactiveAppsDoNotLogIn(t *testing.T) {
	c, n := start(t, echotest.Options{App: echotest.App{Name: "app", Inactive: true}})
	_, err := n.login(nil)
	require.Equal(t, "UserLambdaValidationException", code(t, err))
	c.UpdateApp("app", func(a *echotest.App) { a.Inactive = false })
	token := n.tokens()
	c.UpdateApp("app", func(a *echotest.App) { a.Inactive = true })
	_, err = n.refresh(*token.RefreshToken)
	require.NoError(t, err, "who is logged in stays so")
}
