package echostream

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/ftpnode/ftpnode/internal/redact"
)

// Environment is what EchoStream tells a node when it starts it.
type Environment struct {
	AppSyncEndpoint string // APPSYNC_ENDPOINT: the URL of the tenant's GraphQL API
	ClientID        string // CLIENT_ID: the app client of the Cognito user pool
	Name            string // NAME, else NODE: the node's name
	Password        Secret // PASSWORD: of the app's Cognito user
	Tenant          string // TENANT: the tenant's name
	UserPoolID      string // USER_POOL_ID, for example "us-east-1_Ab3dEf9Gh"
	UserName        string // USER_NAME: the app's Cognito user
}

// EnvironmentFrom reads the environment through getenv (os.Getenv) and checks it. The documented name of the node's
// variable is NAME; released versions of the Managed App set NODE instead, so NAME wins, else NODE is taken. The error
// holds every problem, each on its own line and beginning with the variable's name.
func EnvironmentFrom(getenv func(string) string) (Environment, error) {
	e := Environment{
		AppSyncEndpoint: getenv("APPSYNC_ENDPOINT"),
		ClientID:        getenv("CLIENT_ID"),
		Name:            getenv("NAME"),
		Password:        Secret(getenv("PASSWORD")),
		Tenant:          getenv("TENANT"),
		UserPoolID:      getenv("USER_POOL_ID"),
		UserName:        getenv("USER_NAME"),
	}
	if e.Name == "" {
		e.Name = getenv("NODE")
	}
	if err := e.Validate(); err != nil {
		return Environment{}, err
	}
	return e, nil
}

// poolID is Cognito's own pattern, with a region that can stand in a host name.
var poolID = regexp.MustCompile(`^[a-z0-9-]+_[0-9A-Za-z]+$`)

// Validate checks that everything is there and well-formed. The error holds every problem and names the variables.
func (e Environment) Validate() error {
	return errors.Join(
		e.validateEndpoint(),
		validateText("CLIENT_ID", e.ClientID, "the id of the Cognito app client"),
		validateText("NAME (or NODE)", e.Name, "the node's name"),
		e.validatePassword(),
		validateText("TENANT", e.Tenant, "the tenant's name"),
		e.validateUserPool(),
		validateText("USER_NAME", e.UserName, "the name of the app's Cognito user"),
	)
}

func (e Environment) validateEndpoint() error {
	const name, want = "APPSYNC_ENDPOINT", "the URL of the tenant's API, like https://example.com/graphql"
	if err := validateText(name, e.AppSyncEndpoint, want); err != nil {
		return err
	}
	u, err := url.Parse(e.AppSyncEndpoint)
	if err != nil {
		// A *url.Error shows the URL, and there may be a password in it.
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		return fmt.Errorf("%s is not a URL (%w), want %s", name, err, want)
	}
	switch {
	case u.User != nil:
		return fmt.Errorf("%s has a user name in it, want %s", name, want)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%s is %q, want %s", name, e.AppSyncEndpoint, want)
	case u.Hostname() == "" || u.Fragment != "":
		return fmt.Errorf("%s is %q, want %s", name, e.AppSyncEndpoint, want)
	}
	return nil
}

func (e Environment) validatePassword() error {
	if e.Password == "" {
		return missing("PASSWORD", "the password of the app's Cognito user")
	}
	return nil
}

func (e Environment) validateUserPool() error {
	const name, want = "USER_POOL_ID", "a region, an underscore and a name, like us-east-1_Ab3dEf9Gh"
	if e.UserPoolID == "" {
		return missing(name, want)
	}
	if !poolID.MatchString(e.UserPoolID) {
		return fmt.Errorf("%s is %q, want %s", name, e.UserPoolID, want)
	}
	return nil
}

// validateText refuses what gets into a variable by accident: nothing, or the end of a line.
func validateText(name, value, want string) error {
	if value == "" {
		return missing(name, want)
	}
	if strings.TrimSpace(value) != value || strings.ContainsFunc(value, unicode.IsControl) {
		return fmt.Errorf("%s is %q, want %s, without space around it and control characters in it", name, redact.Text(value), want)
	}
	return nil
}

func missing(name, want string) error {
	return fmt.Errorf("%s is not set or empty, want %s", name, want)
}

// Region is the AWS region of the tenant's user pool, for example "us-east-1".
func (e Environment) Region() string {
	region, _, _ := strings.Cut(e.UserPoolID, "_")
	return region
}

// poolName is the part of the user pool's id that takes part in the login's proof.
func (e Environment) poolName() string {
	_, name, _ := strings.Cut(e.UserPoolID, "_")
	return name
}

// String shows all but the password.
func (e Environment) String() string {
	return fmt.Sprintf("node %q of tenant %q, API %s, user %q of pool %s, client %s",
		e.Name, e.Tenant, redact.Text(e.AppSyncEndpoint), e.UserName, e.UserPoolID, e.ClientID)
}

// GoString shows all but the password.
func (e Environment) GoString() string {
	return "echostream.Environment{" + e.String() + "}"
}

// LogValue is a group of all but the password.
func (e Environment) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("node", e.Name),
		slog.String("tenant", e.Tenant),
		slog.String("endpoint", redact.Text(e.AppSyncEndpoint)),
		slog.String("user", e.UserName),
		slog.String("userPool", e.UserPoolID),
		slog.String("client", e.ClientID),
	)
}
