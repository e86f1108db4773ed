package echotest

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/internal/srp"
)

const (
	cognitoTarget = "AWSCognitoIdentityProviderService."
	// refreshOperation is what an InitiateAuth with REFRESH_TOKEN_AUTH is counted as.
	refreshOperation = "RefreshToken"
	// challengeLifetime is how long a challenge can be answered.
	challengeLifetime = 3 * time.Minute
	maxRequest        = 4 << 20 // bytes of a request that is not an upload
)

// cognito is a user pool with one client that allows USER_SRP_AUTH and REFRESH_TOKEN_AUTH.
type cognito struct {
	clock    *Clock
	region   string
	poolID   string
	clientID string
	access   time.Duration
	refresh  time.Duration

	mu         sync.Mutex
	users      map[string]*user       // by name
	exchanges  map[string]*exchange   // by SECRET_BLOCK
	tokens     map[string]accessToken // by the token
	refreshes  map[string]refreshToken
	inactive   map[string]bool // apps whose users may not log in
	challenge  string          // what follows a right password; "" is the tokens
	lastPruned time.Time
}

type user struct {
	name     string
	app      string
	sub      string
	password string
	verifier *srp.Verifier
}

type exchange struct {
	user    *user // nil: there is no such user
	srp     *srp.Exchange
	expires time.Time
}

type accessToken struct {
	user    *user
	expires time.Time
}

type refreshToken struct {
	user    *user
	expires time.Time
}

func newCognito(clock *Clock, opts Options) *cognito {
	region := opts.Tenant.Region
	return &cognito{
		clock:     clock,
		region:    region,
		poolID:    cmp.Or(opts.UserPoolID, region+"_"+randomHex(5)[:9]),
		clientID:  cmp.Or(opts.ClientID, randomHex(13)),
		access:    opts.AccessTokenLifetime,
		refresh:   opts.RefreshTokenLifetime,
		users:     make(map[string]*user),
		exchanges: make(map[string]*exchange),
		tokens:    make(map[string]accessToken),
		refreshes: make(map[string]refreshToken),
		inactive:  make(map[string]bool),
	}
}

func (p *cognito) poolName() string { return p.poolID[strings.IndexByte(p.poolID, '_')+1:] }

func (p *cognito) issuer() string {
	return "https://cognito-idp." + p.region + ".amazonaws.com/" + p.poolID
}

func (p *cognito) setUser(name, password, app string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.users[name]; u != nil && u.password == password && u.app == app {
		return
	}
	// A user signs in by an alias; the name under which the pool keeps it is another.
	sub := randomID()
	if u := p.users[name]; u != nil {
		sub = u.sub
	}
	p.users[name] = &user{
		name: name, app: app, sub: sub, password: password,
		verifier: srp.NewVerifier(p.poolName(), sub, password, randomBytes(16)),
	}
}

func (p *cognito) setInactive(app string, inactive bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inactive[app] = inactive
}

// SetChallenge makes Cognito ask for more after a right password, as it does of a user whose account is not set up for
// programs: "NEW_PASSWORD_REQUIRED", "SOFTWARE_TOKEN_MFA" or any other challenge's name. "" ends that.
func (c *Cloud) SetChallenge(name string) {
	c.cognito.mu.Lock()
	defer c.cognito.mu.Unlock()
	c.cognito.challenge = name
}

// SetPassword changes the password of an app's user ("" is the app of the cloud's first node). Tokens stay valid.
func (c *Cloud) SetPassword(app, password string) {
	if app == "" {
		app = c.opts.App.Name
	}
	c.UpdateApp(app, func(a *App) { a.Password = password })
}

// RevokeTokens ends all access tokens, and all refresh tokens too, now.
func (c *Cloud) RevokeTokens() {
	c.ExpireAccessTokens()
	c.cognito.mu.Lock()
	defer c.cognito.mu.Unlock()
	clear(c.cognito.refreshes)
}

// ExpireAccessTokens ends all access tokens now; refresh tokens stay valid.
func (c *Cloud) ExpireAccessTokens() {
	c.cognito.mu.Lock()
	defer c.cognito.mu.Unlock()
	clear(c.cognito.tokens)
}

// cognitoError is an error of Cognito's, as its protocol (AWS JSON 1.1) names it.
type cognitoError struct {
	code, message string
	status        int // By default, 400.
}

var errCredentials = &cognitoError{code: "NotAuthorizedException", message: "Incorrect username or password."}

func (c *Cloud) serveCognito(w http.ResponseWriter, r *http.Request, op string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	name := op
	if op == "InitiateAuth" && isRefresh(body) {
		name = refreshOperation
	}
	c.handle(w, r, Cognito, name, "", func(w http.ResponseWriter, e effect) {
		out, cerr := c.cognito.answer(r, op, body, e)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("X-Amzn-Requestid", randomID())
		if cerr == nil {
			writeJSON(w, http.StatusOK, out)
			return
		}
		status := cerr.status
		if status == 0 {
			status = http.StatusBadRequest
		}
		w.Header().Set("X-Amzn-Errortype", cerr.code+":")
		w.Header().Set("X-Amzn-Errormessage", cerr.message)
		writeJSON(w, status, map[string]string{"__type": cerr.code, "message": cerr.message})
	})
}

func isRefresh(body []byte) bool {
	var in struct{ AuthFlow string }
	return json.Unmarshal(body, &in) == nil && strings.HasPrefix(in.AuthFlow, "REFRESH_TOKEN")
}

func (p *cognito) answer(r *http.Request, op string, body []byte, e effect) (any, *cognitoError) {
	switch e.refuse {
	case ServerError:
		return nil, &cognitoError{"InternalErrorException", "Something went wrong", e.status}
	case Throttled:
		return nil, &cognitoError{code: "TooManyRequestsException", message: "Rate exceeded"}
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/x-amz-json-1.1" {
		return nil, &cognitoError{code: "SerializationException", message: "Content-Type is " + ct}
	}
	var in struct {
		AuthFlow           string
		ClientID           string `json:"ClientId"`
		AuthParameters     map[string]string
		ChallengeName      string
		ChallengeResponses map[string]string
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, &cognitoError{code: "SerializationException", message: "The body is not the operation's JSON"}
	}
	if op != "InitiateAuth" && op != "RespondToAuthChallenge" {
		return nil, &cognitoError{code: "UnknownOperationException", message: "No operation " + op}
	}
	if in.ClientID != p.clientID {
		return nil, &cognitoError{code: "ResourceNotFoundException", message: "User pool client " + in.ClientID + " does not exist."}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prune()
	if op == "RespondToAuthChallenge" {
		return p.respond(in.ChallengeName, in.ChallengeResponses)
	}
	switch in.AuthFlow {
	case "USER_SRP_AUTH":
		return p.initiate(in.AuthParameters)
	case "REFRESH_TOKEN_AUTH", "REFRESH_TOKEN":
		if e.refuse == ExpiredToken {
			return nil, &cognitoError{code: "NotAuthorizedException", message: "Refresh Token has expired"}
		}
		return p.renew(in.AuthParameters["REFRESH_TOKEN"])
	case "USER_PASSWORD_AUTH", "CUSTOM_AUTH", "USER_AUTH":
		return nil, &cognitoError{code: "InvalidParameterException", message: in.AuthFlow + " flow not enabled for this client"}
	default:
		return nil, &cognitoError{code: "InvalidParameterException", message: "Unknown auth flow"}
	}
}

func (p *cognito) initiate(in map[string]string) (any, *cognitoError) {
	name := in["USERNAME"]
	if name == "" {
		return nil, &cognitoError{code: "InvalidParameterException", message: "Missing required parameter USERNAME"}
	}
	if in["SRP_A"] == "" {
		return nil, &cognitoError{code: "InvalidParameterException", message: "Missing required parameter SRP_A"}
	}
	u := p.users[name]
	if u != nil && p.inactive[u.app] {
		return nil, &cognitoError{code: "UserLambdaValidationException", message: "PreAuthentication failed with error the app is not active."}
	}
	verifier := (*srp.Verifier)(nil)
	if u != nil {
		verifier = u.verifier
	} else {
		// Who does not exist is challenged too: an answer does not tell which names exist.
		verifier = srp.NewVerifier(p.poolName(), name, randomPassword(), randomBytes(16))
	}
	x, err := verifier.Challenge(rand.Reader, in["SRP_A"])
	if err != nil {
		return nil, errCredentials
	}
	block := base64.StdEncoding.EncodeToString(randomBytes(600))
	p.exchanges[block] = &exchange{user: u, srp: x, expires: p.clock.Now().Add(challengeLifetime)}
	return map[string]any{
		"ChallengeName": "PASSWORD_VERIFIER",
		"ChallengeParameters": map[string]string{
			"SALT":            verifier.Salt(),
			"SRP_B":           x.B(),
			"SECRET_BLOCK":    block,
			"USERNAME":        verifier.UserID(),
			"USER_ID_FOR_SRP": verifier.UserID(),
		},
	}, nil
}

func (p *cognito) respond(challenge string, in map[string]string) (any, *cognitoError) {
	if challenge != "PASSWORD_VERIFIER" {
		return nil, &cognitoError{code: "InvalidParameterException", message: "No challenge " + challenge + " is open"}
	}
	for _, name := range []string{"USERNAME", "PASSWORD_CLAIM_SECRET_BLOCK", "PASSWORD_CLAIM_SIGNATURE", "TIMESTAMP"} {
		if in[name] == "" {
			return nil, &cognitoError{code: "InvalidParameterException", message: "Missing required parameter " + name}
		}
	}
	block := in["PASSWORD_CLAIM_SECRET_BLOCK"]
	x, ok := p.exchanges[block]
	if !ok || !p.clock.Now().Before(x.expires) {
		return nil, errCredentials
	}
	delete(p.exchanges, block) // one answer each
	if x.user == nil || in["USERNAME"] != x.user.name && in["USERNAME"] != x.user.sub {
		return nil, errCredentials
	}
	// A 12-hour clock's afternoon is written well, but half a day off.
	at, err := srp.ParseTimestamp(in["TIMESTAMP"])
	if err != nil || !p.clock.agrees(at) {
		return nil, errCredentials
	}
	if x.srp.Verify(block, in["TIMESTAMP"], in["PASSWORD_CLAIM_SIGNATURE"]) != nil {
		return nil, errCredentials
	}
	if p.challenge != "" {
		return map[string]any{
			"ChallengeName":       p.challenge,
			"ChallengeParameters": map[string]string{"USER_ID_FOR_SRP": x.user.sub},
			"Session":             randomSecret(96),
		}, nil
	}
	out := p.issue(x.user)
	refresh := base64.RawURLEncoding.EncodeToString(randomBytes(180))
	p.refreshes[refresh] = refreshToken{user: x.user, expires: p.clock.Now().Add(p.refresh)}
	out["RefreshToken"] = refresh
	return map[string]any{"AuthenticationResult": out, "ChallengeParameters": map[string]string{}}, nil
}

func (p *cognito) renew(token string) (any, *cognitoError) {
	t, ok := p.refreshes[token]
	switch {
	case !ok:
		return nil, &cognitoError{code: "NotAuthorizedException", message: "Refresh Token has been revoked"}
	case !p.clock.Now().Before(t.expires):
		return nil, &cognitoError{code: "NotAuthorizedException", message: "Refresh Token has expired"}
	}
	return map[string]any{"AuthenticationResult": p.issue(t.user), "ChallengeParameters": map[string]string{}}, nil
}

// issue makes an access and an id token. The caller holds p.mu.
func (p *cognito) issue(u *user) map[string]any {
	now := p.clock.Now()
	claims := map[string]any{
		"sub": u.sub, "iss": p.issuer(), "auth_time": now.Unix(), "iat": now.Unix(),
		"exp": now.Add(p.access).Unix(), "jti": randomID(), "origin_jti": randomID(), "event_id": randomID(),
	}
	access, id := maps.Clone(claims), maps.Clone(claims)
	maps.Copy(access, map[string]any{
		"token_use": "access", "client_id": p.clientID, "username": u.sub, "scope": "aws.cognito.signin.user.admin",
	})
	maps.Copy(id, map[string]any{"token_use": "id", "aud": p.clientID, "cognito:username": u.sub})
	token := signToken(access)
	p.tokens[token] = accessToken{user: u, expires: now.Add(p.access)}
	return map[string]any{
		"AccessToken": token, "IdToken": signToken(id), "ExpiresIn": int(p.access / time.Second), "TokenType": "Bearer",
	}
}

// check tells whose access token it is.
func (p *cognito) check(token string) (*user, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.tokens[token]
	if !ok || !p.clock.Now().Before(t.expires) {
		return nil, false
	}
	return t.user, true
}

// prune forgets, now and then, what has expired. The caller holds p.mu.
func (p *cognito) prune() {
	now := p.clock.Now()
	if now.Sub(p.lastPruned).Abs() < time.Minute {
		return
	}
	p.lastPruned = now
	maps.DeleteFunc(p.exchanges, func(_ string, x *exchange) bool { return now.After(x.expires) })
	maps.DeleteFunc(p.tokens, func(_ string, t accessToken) bool { return now.After(t.expires) })
}
