package echostream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"

	"github.com/ftpnode/ftpnode/echostream/internal/srp"
)

// ErrConfiguration is in the errors of a log-in that fails until a person changes something: a wrong password, an
// unknown user or app client, a challenge that a program cannot answer. Retry slowly: Cognito locks users out who
// fail too often. Such an error is not permanent in the sense of [IsPermanent], which is about one message; it is one that
// [NeedsOperator] reports.
var ErrConfiguration = errors.New("configuration error")

// ErrAppInactive is in the error of a log-in, besides [ErrConfiguration], that EchoStream itself refuses: the app was
// removed or is not active. The user pool has a function of EchoStream's that says so (UserLambdaValidationException);
// nothing is wrong with USER_NAME and PASSWORD.
var ErrAppInactive = fmt.Errorf("%w: EchoStream refuses the app's log-in", ErrConfiguration)

const (
	// defaultLifetime is assumed if Cognito names none: the shortest that it can be set to.
	defaultLifetime = 5 * time.Minute
	// refusedSoon is the age below which a refused token says that refreshing does not help.
	refusedSoon = time.Minute
)

// cognito is the part of Cognito's client that logging in needs.
type cognito interface {
	InitiateAuth(context.Context, *cognitoidentityprovider.InitiateAuthInput, ...func(*cognitoidentityprovider.Options)) (
		*cognitoidentityprovider.InitiateAuthOutput, error)
	RespondToAuthChallenge(context.Context, *cognitoidentityprovider.RespondToAuthChallengeInput, ...func(*cognitoidentityprovider.Options)) (
		*cognitoidentityprovider.RespondToAuthChallengeOutput, error)
}

// login keeps a valid access token. It logs in with SRP, refreshes the token before it ends, and logs in with SRP
// again when the refresh token is dead. A Cognito that hangs delays nobody before the token's end.
type login struct {
	env     Environment
	api     cognito
	timeout time.Duration // of each request
	log     *slog.Logger
	now     func() time.Time

	access  *renewed[string]
	refresh atomic.Value // a string; "" if there is none
}

func newLogin(env Environment, api cognito, timeout time.Duration, log *slog.Logger, now func() time.Time) *login {
	l := &login{env: env, api: api, timeout: timeout, log: log, now: now}
	l.access = &renewed[string]{
		what: "access token", fetch: l.authenticate, now: now, log: log,
		ahead: func(life time.Duration) time.Duration { return min(5*time.Minute, life/10) },
	}
	return l
}

// Token returns an access token that should be valid. Callers that come while there is none and a log-in is under way
// share it, and its outcome. ctx bounds the wait of this caller.
func (l *login) Token(ctx context.Context) (string, error) {
	token, err := l.access.get(ctx)
	if err != nil && ctx.Err() != nil {
		return "", fmt.Errorf("waiting for the log-in: %w", ctx.Err())
	}
	return token, err
}

// Invalidate says that the API has refused the token (HTTP 401), so that the next Token fetches another. It does
// nothing if the token is not the present one: somebody else was faster.
func (l *login) Invalidate(token string) {
	age, ok := l.access.forget(func(held string) bool { return held == token })
	if ok && age < refusedSoon {
		l.refresh.Store("")
	}
}

// tokenSet is what Cognito hands out.
type tokenSet struct {
	access, refresh string
	lifetime        time.Duration
}

// authenticate gets an access token. Each of its requests, up to three, is bounded.
func (l *login) authenticate(ctx context.Context) (access string, expires time.Time, err error) {
	got, err := l.refreshOrLogIn(ctx)
	if err == nil {
		err = ctx.Err() // nobody waits any more, and another log-in may have begun
	}
	if err != nil {
		return "", time.Time{}, err
	}
	l.refresh.Store(got.refresh)
	return got.access, l.now().Add(got.lifetime), nil
}

func (l *login) refreshOrLogIn(ctx context.Context) (tokenSet, error) {
	refresh, _ := l.refresh.Load().(string)
	if refresh == "" {
		return l.logIn(ctx)
	}
	got, err := l.refreshTokens(ctx, refresh)
	if !errors.Is(err, ErrConfiguration) {
		return got, err
	}
	// It has expired or was revoked, or the pool does not allow it. If more is wrong, SRP will tell.
	l.log.Info("The refresh token is no longer valid; logging in again", "error", err)
	l.refresh.CompareAndSwap(refresh, "")
	return l.logIn(ctx)
}

func (l *login) refreshTokens(ctx context.Context, refresh string) (tokenSet, error) {
	out, err := l.initiate(ctx, &cognitoidentityprovider.InitiateAuthInput{
		AuthFlow:       types.AuthFlowTypeRefreshTokenAuth,
		ClientId:       aws.String(l.env.ClientID),
		AuthParameters: map[string]string{"REFRESH_TOKEN": refresh},
	})
	if err != nil {
		return tokenSet{}, l.failed("InitiateAuth (refresh)", err)
	}
	got, err := l.result(out.ChallengeName, out.AuthenticationResult)
	if err != nil {
		return tokenSet{}, err
	}
	if got.refresh == "" { // Cognito sends a new one only if the pool rotates them
		got.refresh = refresh
	}
	l.log.Debug("Refreshed the access token", "user", l.env.UserName, "lifetime", got.lifetime)
	return got, nil
}

// logIn is the flow USER_SRP_AUTH.
func (l *login) logIn(ctx context.Context) (tokenSet, error) {
	client, err := srp.NewClient(rand.Reader)
	if err != nil {
		return tokenSet{}, err
	}
	out, err := l.initiate(ctx, &cognitoidentityprovider.InitiateAuthInput{
		AuthFlow:       types.AuthFlowTypeUserSrpAuth,
		ClientId:       aws.String(l.env.ClientID),
		AuthParameters: map[string]string{"USERNAME": l.env.UserName, "SRP_A": client.A()},
	})
	if err != nil {
		return tokenSet{}, l.failed("InitiateAuth", err)
	}
	if out.ChallengeName != types.ChallengeNameTypePasswordVerifier {
		return l.result(out.ChallengeName, out.AuthenticationResult)
	}
	parameters := out.ChallengeParameters
	userID := parameters["USER_ID_FOR_SRP"]
	proof, err := client.Prove(l.env.poolName(), string(l.env.Password), srp.Challenge{
		UserID:      userID,
		Salt:        parameters["SALT"],
		B:           parameters["SRP_B"],
		SecretBlock: parameters["SECRET_BLOCK"],
	}, l.now())
	if err != nil {
		return tokenSet{}, fmt.Errorf("%s: Cognito's challenge: %w", l.what(), err)
	}
	// USER_NAME may be an alias, such as a mail address; the answer must name the user as the challenge does.
	userName := parameters["USERNAME"]
	if userName == "" {
		userName = userID
	}
	answer, err := l.respond(ctx, &cognitoidentityprovider.RespondToAuthChallengeInput{
		ChallengeName: types.ChallengeNameTypePasswordVerifier,
		ClientId:      aws.String(l.env.ClientID),
		Session:       out.Session,
		ChallengeResponses: map[string]string{
			"USERNAME":                    userName,
			"PASSWORD_CLAIM_SECRET_BLOCK": parameters["SECRET_BLOCK"],
			"PASSWORD_CLAIM_SIGNATURE":    proof.Signature,
			"TIMESTAMP":                   proof.Timestamp,
		},
	})
	if err != nil {
		return tokenSet{}, l.failed("RespondToAuthChallenge", err)
	}
	got, err := l.result(answer.ChallengeName, answer.AuthenticationResult)
	if err != nil {
		return tokenSet{}, err
	}
	l.log.Info("Logged in", "user", l.env.UserName, "userPool", l.env.UserPoolID, "lifetime", got.lifetime)
	return got, nil
}

func (l *login) initiate(ctx context.Context, in *cognitoidentityprovider.InitiateAuthInput) (*cognitoidentityprovider.InitiateAuthOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return l.api.InitiateAuth(ctx, in)
}

func (l *login) respond(ctx context.Context, in *cognitoidentityprovider.RespondToAuthChallengeInput) (*cognitoidentityprovider.RespondToAuthChallengeOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return l.api.RespondToAuthChallenge(ctx, in)
}

// result takes the tokens out of an answer that should hold them.
func (l *login) result(challenge types.ChallengeNameType, r *types.AuthenticationResultType) (tokenSet, error) {
	if challenge != "" {
		err := fmt.Errorf("%s: Cognito asks for %q, which a node cannot answer", l.what(), string(challenge))
		hint := "see to it that the user needs no more than its password"
		if challenge == types.ChallengeNameTypeNewPasswordRequired {
			hint = "set a permanent password for the user, and PASSWORD to it"
		}
		return tokenSet{}, &operatorError{err, hint, ErrConfiguration}
	}
	if r == nil || aws.ToString(r.AccessToken) == "" {
		return tokenSet{}, fmt.Errorf("%s: Cognito's answer holds neither an access token nor a challenge", l.what())
	}
	lifetime := time.Duration(r.ExpiresIn) * time.Second
	if lifetime <= 0 {
		lifetime = defaultLifetime
	}
	return tokenSet{access: *r.AccessToken, refresh: aws.ToString(r.RefreshToken), lifetime: lifetime}, nil
}

func (l *login) what() string {
	return fmt.Sprintf("logging in as %q to user pool %s", l.env.UserName, l.env.UserPoolID)
}

// failed says what a failed request means.
func (l *login) failed(operation string, err error) error {
	err = fmt.Errorf("%s: %w", l.what(), awsError(operation, err))
	code := errorCode(err)
	if code == "UserLambdaValidationException" {
		return &operatorError{err, "EchoStream refuses this app: it was removed, or is not active; look at the app in EchoStream", ErrAppInactive}
	}
	if hint := configurationHint(code); hint != "" {
		return &operatorError{err, hint, ErrConfiguration}
	}
	var answer *serviceError
	if errors.As(err, &answer) && !retryLater(answer.status, code) && answer.status != 0 {
		return withHint(err, "check USER_POOL_ID and CLIENT_ID, and "+onTheWay)
	}
	return err
}

// configurationHint is what to check after an error that retrying does not cure, or "".
func configurationHint(code string) string {
	switch code {
	case "NotAuthorizedException", "UserNotFoundException":
		return "check USER_NAME and PASSWORD"
	case "PasswordResetRequiredException":
		return "set a permanent password for the user, and PASSWORD to it"
	case "UserNotConfirmedException":
		return "confirm the user in the user pool"
	case "ResourceNotFoundException":
		return "check CLIENT_ID and USER_POOL_ID"
	case "InvalidParameterException", "InvalidUserPoolConfigurationException":
		return "check CLIENT_ID, and that this app client allows USER_SRP_AUTH and has no secret"
	}
	return ""
}
