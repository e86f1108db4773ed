package echostream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/internal/srp"
	"github.com/ftpnode/ftpnode/internal/nodelog"
)

// fakeCognito verifies log-ins as Cognito does, and fails when it is told to.
type fakeCognito struct {
	verifier *srp.Verifier
	now      func() time.Time

	mu         sync.Mutex
	calls      []string // the flows asked for, and "respond"
	fail       []error  // for the next calls, one each; nil lets one pass
	challenge  types.ChallengeNameType
	noTokens   bool
	expiresIn  int32
	rotate     bool
	change     func(parameters map[string]string)
	gate       chan struct{} // if set, every call waits for it or its context
	deaf       bool          // calls do not end with their context
	exchange   *srp.Exchange
	refresh    string // the refresh token that is valid
	handedOut  int
	waitErrors []error
}

const testUserID = "0b6f2a7e-user"

func newFakeCognito(env Environment, now func() time.Time) *fakeCognito {
	return &fakeCognito{
		verifier:  srp.NewVerifier(env.poolName(), testUserID, string(env.Password), []byte("sixteen bytes ok")),
		now:       now,
		expiresIn: 3600,
	}
}

func (f *fakeCognito) enter(ctx context.Context, call string) error {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	gate, ended := f.gate, ctx.Done()
	if f.deaf {
		ended = nil
	}
	var err error
	if len(f.fail) > 0 {
		err, f.fail = f.fail[0], f.fail[1:]
	}
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ended:
			f.mu.Lock()
			f.waitErrors = append(f.waitErrors, ctx.Err())
			f.mu.Unlock()
			return ctx.Err()
		}
	}
	return err
}

func (f *fakeCognito) InitiateAuth(ctx context.Context, in *cognitoidentityprovider.InitiateAuthInput, _ ...func(*cognitoidentityprovider.Options)) (
	*cognitoidentityprovider.InitiateAuthOutput, error) {
	if err := f.enter(ctx, string(in.AuthFlow)); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if aws.ToString(in.ClientId) != "1h57kf5cpq17m0eml12EXAMPLE" {
		return nil, &types.ResourceNotFoundException{Message: aws.String("no such client")}
	}
	switch in.AuthFlow {
	case types.AuthFlowTypeRefreshTokenAuth:
		if f.refresh == "" || in.AuthParameters["REFRESH_TOKEN"] != f.refresh {
			return nil, &types.NotAuthorizedException{Message: aws.String("Refresh Token has been revoked")}
		}
		r := f.tokens()
		if !f.rotate {
			r.RefreshToken = nil
		}
		return &cognitoidentityprovider.InitiateAuthOutput{AuthenticationResult: r}, nil
	case types.AuthFlowTypeUserSrpAuth:
		exchange, err := f.verifier.Challenge(rand.Reader, in.AuthParameters["SRP_A"])
		if err != nil {
			return nil, &types.InvalidParameterException{Message: aws.String(err.Error())}
		}
		f.exchange = exchange
		parameters := map[string]string{
			"USERNAME": testUserID, "USER_ID_FOR_SRP": testUserID,
			"SALT": f.verifier.Salt(), "SRP_B": exchange.B(), "SECRET_BLOCK": "c2VjcmV0IGJsb2Nr",
		}
		if f.change != nil {
			f.change(parameters)
		}
		return &cognitoidentityprovider.InitiateAuthOutput{
			ChallengeName: types.ChallengeNameTypePasswordVerifier, ChallengeParameters: parameters, Session: aws.String("session 1"),
		}, nil
	}
	return nil, fmt.Errorf("unexpected flow %q", in.AuthFlow)
}

func (f *fakeCognito) RespondToAuthChallenge(ctx context.Context, in *cognitoidentityprovider.RespondToAuthChallengeInput, _ ...func(*cognitoidentityprovider.Options)) (
	*cognitoidentityprovider.RespondToAuthChallengeOutput, error) {
	if err := f.enter(ctx, "respond"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := in.ChallengeResponses
	at, err := srp.ParseTimestamp(r["TIMESTAMP"])
	if err == nil && !at.Equal(f.now().Truncate(time.Second)) {
		err = fmt.Errorf("TIMESTAMP %s", at)
	}
	if err == nil && (r["USERNAME"] != testUserID || aws.ToString(in.Session) != "session 1" ||
		in.ChallengeName != types.ChallengeNameTypePasswordVerifier || r["PASSWORD_CLAIM_SECRET_BLOCK"] != "c2VjcmV0IGJsb2Nr") {
		err = fmt.Errorf("unexpected answer %v", in)
	}
	if err == nil {
		err = f.exchange.Verify(r["PASSWORD_CLAIM_SECRET_BLOCK"], r["TIMESTAMP"], r["PASSWORD_CLAIM_SIGNATURE"])
	}
	if err != nil {
		return nil, &types.NotAuthorizedException{Message: aws.String("Incorrect username or password.")}
	}
	if f.challenge != "" {
		return &cognitoidentityprovider.RespondToAuthChallengeOutput{ChallengeName: f.challenge}, nil
	}
	if f.noTokens {
		return &cognitoidentityprovider.RespondToAuthChallengeOutput{}, nil
	}
	return &cognitoidentityprovider.RespondToAuthChallengeOutput{AuthenticationResult: f.tokens()}, nil
}

func (f *fakeCognito) tokens() *types.AuthenticationResultType {
	f.handedOut++
	if f.refresh == "" || f.rotate {
		f.refresh = fmt.Sprintf("refresh %d", f.handedOut)
	}
	return &types.AuthenticationResultType{
		AccessToken: aws.String(fmt.Sprintf("access %d", f.handedOut)), RefreshToken: aws.String(f.refresh), ExpiresIn: f.expiresIn,
	}
}

func (f *fakeCognito) takeCalls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (f *fakeCognito) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

var (
	bySRP     = []string{"USER_SRP_AUTH", "respond"}
	byRefresh = []string{"REFRESH_TOKEN_AUTH"}
)

// inLogin runs f in a bubble of fake time, with a login and the Cognito behind it.
func inLogin(t *testing.T, f func(t *testing.T, l *login, cognito *fakeCognito, logs *writes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		env, err := environmentOf(goodVariables())
		require.NoError(t, err)
		logs := new(writes)
		cognito := newFakeCognito(env, time.Now)
		l := newLogin(env, cognito, 30*time.Second, slog.New(nodelog.NewHandler(logs, slog.LevelDebug, nil)), time.Now)
		f(t, l, cognito, logs)
		for _, line := range logs.take() {
			assert.NotContains(t, line, "hunter2")
			assert.NotContains(t, line, "access 1")
			assert.NotContains(t, line, "refresh 1")
		}
	})
}

func requireToken(t *testing.T, l *login, want string) {
	t.Helper()
	got, err := l.Token(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// requireRenewal asks for a token at the time for a new one, which is fetched in the background.
func requireRenewal(t *testing.T, l *login, old, want string) {
	t.Helper()
	requireToken(t, l, old)
	synctest.Wait()
	requireToken(t, l, want)
}

func TestLoginRefreshesBeforeTheEnd(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		requireToken(t, l, "access 1")
		assert.Equal(t, bySRP, cognito.takeCalls())
		time.Sleep(55*time.Minute - time.Second)
		requireToken(t, l, "access 1")
		assert.Empty(t, cognito.takeCalls())
		time.Sleep(time.Second)
		requireRenewal(t, l, "access 1", "access 2")
		assert.Equal(t, byRefresh, cognito.takeCalls())
		// The refresh token is kept although Cognito did not send it again.
		time.Sleep(time.Hour)
		requireToken(t, l, "access 3")
		assert.Equal(t, byRefresh, cognito.takeCalls())
	})
}

func TestLoginTakesRotatedRefreshTokens(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		cognito.rotate = true
		for i := 1; i <= 4; i++ {
			requireToken(t, l, fmt.Sprintf("access %d", i))
			time.Sleep(time.Hour)
		}
		assert.Equal(t, []string{"USER_SRP_AUTH", "respond", "REFRESH_TOKEN_AUTH", "REFRESH_TOKEN_AUTH", "REFRESH_TOKEN_AUTH"},
			cognito.takeCalls())
	})
}

func TestLoginLifetimes(t *testing.T) {
	tests := []struct {
		expiresIn int32
		renewed   time.Duration
	}{
		{86400, 24*time.Hour - 5*time.Minute},
		{300, 270 * time.Second},
		{0, 270 * time.Second},
		{-5, 270 * time.Second},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.expiresIn), func(t *testing.T) {
			inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
				cognito.expiresIn = tt.expiresIn
				requireToken(t, l, "access 1")
				time.Sleep(tt.renewed - time.Second)
				requireToken(t, l, "access 1")
				time.Sleep(time.Second)
				requireRenewal(t, l, "access 1", "access 2")
			})
		})
	}
}

func TestLoginAgainWhenTheRefreshTokenIsDead(t *testing.T) {
	for name, refusal := range map[string]error{
		"expired":     nil, // by the fake itself
		"not allowed": &types.InvalidParameterException{Message: aws.String("Auth flow not enabled")},
	} {
		t.Run(name, func(t *testing.T) {
			inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, logs *writes) {
				requireToken(t, l, "access 1")
				cognito.takeCalls()
				time.Sleep(time.Hour)
				cognito.set(func() {
					if refusal != nil {
						cognito.fail = []error{refusal}
					} else {
						cognito.refresh = ""
					}
				})
				requireToken(t, l, "access 2")
				assert.Equal(t, []string{"REFRESH_TOKEN_AUTH", "USER_SRP_AUTH", "respond"}, cognito.takeCalls())
				assert.Contains(t, strings.Join(logs.take(), ""), "[INFO] The refresh token is no longer valid")
			})
		})
	}
}

func TestLoginKeepsADeadRefreshTokenOut(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		requireToken(t, l, "access 1")
		time.Sleep(2 * time.Hour)
		cognito.takeCalls()
		cognito.set(func() { cognito.refresh, cognito.fail = "", []error{nil, io.ErrUnexpectedEOF} })
		_, err := l.Token(t.Context())
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.NotErrorIs(t, err, ErrConfiguration)
		requireToken(t, l, "access 2")
		assert.Equal(t, []string{"REFRESH_TOKEN_AUTH", "USER_SRP_AUTH", "USER_SRP_AUTH", "respond"}, cognito.takeCalls())
	})
}

func TestLoginUsesTheOldTokenWhileRenewingFails(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, logs *writes) {
		requireToken(t, l, "access 1")
		time.Sleep(56 * time.Minute)
		down := []error{io.EOF, io.EOF, io.EOF}
		cognito.set(func() { cognito.fail = down })
		cognito.takeCalls()
		requireRenewal(t, l, "access 1", "access 1")
		synctest.Wait() // for no other try
		assert.Equal(t, byRefresh, cognito.takeCalls())
		assert.Contains(t, strings.Join(logs.take(), ""), "[WARNING] Could not renew the access token")
		time.Sleep(30 * time.Second)
		requireRenewal(t, l, "access 1", "access 1")
		assert.Equal(t, byRefresh, cognito.takeCalls())
		time.Sleep(4 * time.Minute)
		_, err := l.Token(t.Context())
		require.ErrorIs(t, err, io.EOF, "the old one has ended")
		requireToken(t, l, "access 2")
	})
}

func TestLoginDoesNotUseAnEndedToken(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		requireToken(t, l, "access 1")
		time.Sleep(time.Hour - 10*time.Second)
		cognito.set(func() { cognito.fail = []error{io.EOF} })
		requireRenewal(t, l, "access 1", "access 1")
		time.Sleep(10 * time.Second) // less than the pause
		requireToken(t, l, "access 2")
	})
}

func TestLoginInvalidate(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		requireToken(t, l, "access 1")
		time.Sleep(10 * time.Minute)
		cognito.takeCalls()
		l.Invalidate("access 1")
		requireToken(t, l, "access 2")
		assert.Equal(t, byRefresh, cognito.takeCalls())
		// Late news of the old token changes nothing, nor does nonsense.
		l.Invalidate("access 1")
		l.Invalidate("")
		requireToken(t, l, "access 2")
		assert.Empty(t, cognito.takeCalls())
		// A token refused right after it was refreshed: refreshing does not help.
		l.Invalidate("access 2")
		requireToken(t, l, "access 3")
		assert.Equal(t, bySRP, cognito.takeCalls())
		// An invalidated token is not fallen back to.
		time.Sleep(10 * time.Minute)
		l.Invalidate("access 3")
		cognito.set(func() { cognito.fail = []error{io.EOF} })
		_, err := l.Token(t.Context())
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestLoginIsShared(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		cognito.gate = make(chan struct{})
		const callers = 50
		tokens := make(chan string, callers)
		for range callers {
			go func() {
				token, err := l.Token(t.Context())
				assert.NoError(t, err)
				tokens <- token
			}()
		}
		synctest.Wait()
		close(cognito.gate)
		for range callers {
			assert.Equal(t, "access 1", <-tokens)
		}
		assert.Equal(t, bySRP, cognito.takeCalls())
	})
}

func TestLoginFailureIsShared(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		cognito.gate = make(chan struct{})
		cognito.fail = []error{io.EOF}
		const callers = 10
		failures := make(chan error, callers)
		for range callers {
			go func() {
				_, err := l.Token(t.Context())
				failures <- err
			}()
		}
		synctest.Wait()
		close(cognito.gate)
		for range callers {
			assert.ErrorIs(t, <-failures, io.EOF)
		}
		assert.Equal(t, []string{"USER_SRP_AUTH"}, cognito.takeCalls(), "each try counts against the user")
	})
}

func TestLoginOutlivesItsFirstCaller(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		cognito.gate = make(chan struct{})
		first, cancel := context.WithCancel(t.Context())
		failure, token := make(chan error), make(chan string)
		go func() {
			_, err := l.Token(first)
			failure <- err
		}()
		synctest.Wait()
		go func() {
			got, err := l.Token(t.Context())
			assert.NoError(t, err)
			token <- got
		}()
		synctest.Wait()
		cancel()
		assert.ErrorIs(t, <-failure, context.Canceled)
		close(cognito.gate)
		assert.Equal(t, "access 1", <-token)
		assert.Equal(t, bySRP, cognito.takeCalls())
	})
}

func TestLoginEndsWithItsLastCaller(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		cognito.gate = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Token(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		cognito.mu.Lock()
		assert.Equal(t, []error{context.Canceled}, cognito.waitErrors)
		cognito.mu.Unlock()
		_, err = l.Token(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		close(cognito.gate)
		requireToken(t, l, "access 1")
	})
}

// An abandoned log-in that ends after all must not get in the way of the one that followed it.
func TestLoginIgnoresAnAbandonedOne(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		first, second := make(chan struct{}), make(chan struct{})
		cognito.deaf, cognito.gate, cognito.fail = true, first, []error{io.EOF}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Token(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		cognito.set(func() { cognito.gate = second })
		tokens := make(chan string)
		call := func() {
			got, err := l.Token(t.Context())
			assert.NoError(t, err)
			tokens <- got
		}
		go call()
		synctest.Wait()
		close(first) // the abandoned one fails only now
		synctest.Wait()
		go call()
		synctest.Wait()
		close(second)
		assert.Equal(t, "access 1", <-tokens)
		assert.Equal(t, "access 1", <-tokens)
		assert.Equal(t, []string{"USER_SRP_AUTH", "USER_SRP_AUTH", "respond"}, cognito.takeCalls())
	})
}

func TestLoginBoundsEachRequest(t *testing.T) {
	for _, passes := range []int{0, 1} {
		inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
			cognito.gate = make(chan struct{})
			go func() {
				for range passes {
					cognito.gate <- struct{}{}
				}
			}()
			start := time.Now()
			_, err := l.Token(context.Background())
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, 30*time.Second, time.Since(start)) // fake time
			assert.Len(t, cognito.takeCalls(), passes+1)
			close(cognito.gate)
			requireToken(t, l, "access 1")
		})
	}
}

// A Cognito that hangs delays nobody as long as the token is valid, and a renewal does not end with who began it.
func TestLoginRenewsInTheBackground(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		requireToken(t, l, "access 1")
		time.Sleep(56 * time.Minute)
		cognito.takeCalls()
		gate := make(chan struct{})
		cognito.set(func() { cognito.gate = gate })
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		for range 3 {
			got, err := l.Token(ctx)
			require.NoError(t, err)
			assert.Equal(t, "access 1", got)
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		assert.Zero(t, time.Since(start)) // fake time
		assert.Empty(t, cognito.waitErrors)
		close(gate)
		synctest.Wait()
		requireToken(t, l, "access 2")
		assert.Equal(t, byRefresh, cognito.takeCalls())
	})
}

func TestLoginThatHangsIsTriedAgain(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, logs *writes) {
		requireToken(t, l, "access 1")
		time.Sleep(56 * time.Minute)
		cognito.takeCalls()
		cognito.set(func() { cognito.gate = make(chan struct{}) })
		requireToken(t, l, "access 1")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		assert.Contains(t, strings.Join(logs.take(), ""), "[WARNING] Could not renew the access token")
		time.Sleep(renewPause - time.Second)
		requireRenewal(t, l, "access 1", "access 1")
		assert.Equal(t, byRefresh, cognito.takeCalls(), "it pauses")
		time.Sleep(time.Second)
		cognito.set(func() { cognito.gate = nil })
		requireRenewal(t, l, "access 1", "access 2")
	})
}

// Who needs a token while its renewal is under way waits for that one; it goes on when the wait is over.
func TestLoginRenewalOutlivesItsWaiters(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		requireToken(t, l, "access 1")
		time.Sleep(time.Hour - time.Second)
		cognito.takeCalls()
		gate := make(chan struct{})
		cognito.set(func() { cognito.gate = gate })
		requireToken(t, l, "access 1")
		time.Sleep(time.Second) // the token's end
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := l.Token(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		assert.Empty(t, cognito.waitErrors)
		close(gate)
		requireToken(t, l, "access 2")
		assert.Equal(t, byRefresh, cognito.takeCalls())
	})
}

func TestLoginConfigurationErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(l *login, cognito *fakeCognito)
		want   []string
	}{
		{"wrong password", func(l *login, _ *fakeCognito) { l.env.Password = "hunter2 is wrong" },
			[]string{`"app-user"`, "eu-west-1_Ab3dEf9Gh", "NotAuthorizedException: Incorrect username or password.", "check USER_NAME and PASSWORD"}},
		{"wrong client", func(l *login, _ *fakeCognito) { l.env.ClientID = "other" },
			[]string{"ResourceNotFoundException", "check CLIENT_ID and USER_POOL_ID"}},
		{"inactive app", func(_ *login, f *fakeCognito) {
			f.fail = []error{&types.UserLambdaValidationException{Message: aws.String("PreAuthentication failed with error inactive.")}}
		}, []string{"UserLambdaValidationException: PreAuthentication failed with error inactive.",
			"EchoStream refuses this app: it was removed, or is not active"}},
		{"unknown user", func(_ *login, f *fakeCognito) { f.fail = []error{&types.UserNotFoundException{}} },
			[]string{"UserNotFoundException", "check USER_NAME"}},
		{"not confirmed", func(_ *login, f *fakeCognito) { f.fail = []error{&types.UserNotConfirmedException{}} },
			[]string{"confirm the user"}},
		{"reset required", func(_ *login, f *fakeCognito) { f.fail = []error{nil, &types.PasswordResetRequiredException{}} },
			[]string{"set a permanent password"}},
		{"flow not allowed", func(_ *login, f *fakeCognito) { f.fail = []error{&types.InvalidParameterException{}} },
			[]string{"allows USER_SRP_AUTH"}},
		{"new password", func(_ *login, f *fakeCognito) { f.challenge = types.ChallengeNameTypeNewPasswordRequired },
			[]string{`"NEW_PASSWORD_REQUIRED"`, "set a permanent password"}},
		{"second factor", func(_ *login, f *fakeCognito) { f.challenge = types.ChallengeNameTypeSoftwareTokenMfa },
			[]string{`"SOFTWARE_TOKEN_MFA"`, "no more than its password"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
				tt.change(l, cognito)
				token, err := l.Token(t.Context())
				require.ErrorIs(t, err, ErrConfiguration)
				assert.Empty(t, token)
				assert.False(t, IsPermanent(err), "it must not set messages aside")
				assert.True(t, NeedsOperator(err))
				for _, want := range tt.want {
					assert.ErrorContains(t, err, want)
				}
				assert.NotContains(t, err.Error(), "hunter2")
			})
		})
	}
}

func TestLoginTransientErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(cognito *fakeCognito)
		want   string
	}{
		{"throttled", func(f *fakeCognito) { f.fail = []error{&types.TooManyRequestsException{}} }, "TooManyRequestsException"},
		{"broken", func(f *fakeCognito) { f.fail = []error{nil, &types.InternalErrorException{}} }, "InternalErrorException"},
		{"unknown code", func(f *fakeCognito) { f.fail = []error{&smithy.GenericAPIError{Code: "Strange"}} }, "Strange"},
		{"network", func(f *fakeCognito) { f.fail = []error{errors.New("connection refused")} }, "connection refused"},
		{"no tokens", func(f *fakeCognito) { f.noTokens = true }, "neither an access token nor a challenge"},
		{"B is 0", func(f *fakeCognito) { f.change = func(p map[string]string) { p["SRP_B"] = "0" } }, "SRP_B is 0 mod N"},
		{"no salt", func(f *fakeCognito) { f.change = func(p map[string]string) { delete(p, "SALT") } }, "SALT is empty"},
		{"bad block", func(f *fakeCognito) { f.change = func(p map[string]string) { p["SECRET_BLOCK"] = "%" } }, "SECRET_BLOCK is not base64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
				tt.change(cognito)
				_, err := l.Token(t.Context())
				require.ErrorContains(t, err, tt.want)
				require.NotErrorIs(t, err, ErrConfiguration)
				cognito.set(func() { cognito.noTokens, cognito.change = false, nil })
				requireToken(t, l, "access 1")
			})
		})
	}
}

func TestLoginNamesTheUserAsTheChallengeDoes(t *testing.T) {
	inLogin(t, func(t *testing.T, l *login, cognito *fakeCognito, _ *writes) {
		l.env.UserName = "alias@example.com"
		cognito.change = func(p map[string]string) { delete(p, "USERNAME") }
		requireToken(t, l, "access 1")
	})
}
