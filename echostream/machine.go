package echostream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// What the machine says of AWS is read here, and not by the AWS SDK's package config: that one brings the clients of three further services, which take 2 MiB
// of the memory of each node.

// variables are AWS's variables in the environment, as the SDK's clients ask for them.
type variables struct{}

// GetIgnoreConfiguredEndpoints says whether endpoints are to be those of AWS all the same.
func (variables) GetIgnoreConfiguredEndpoints(context.Context) (ignore, found bool, err error) {
	return truth("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
}

// GetServiceBaseEndpoint is the endpoint of one service, such as "SQS".
func (variables) GetServiceBaseEndpoint(_ context.Context, service string) (url string, found bool, err error) {
	url = os.Getenv("AWS_ENDPOINT_URL_" + strings.ToUpper(strings.ReplaceAll(service, " ", "_")))
	return url, url != "", nil
}

// GetUseFIPSEndpoint says whether endpoints are to be those with FIPS.
func (variables) GetUseFIPSEndpoint(context.Context) (state aws.FIPSEndpointState, found bool, err error) {
	is, found, err := truth("AWS_USE_FIPS_ENDPOINT")
	if state = aws.FIPSEndpointStateDisabled; is {
		state = aws.FIPSEndpointStateEnabled
	}
	return state, found, err
}

// GetUseDualStackEndpoint says whether endpoints are to be those with IPv6.
func (variables) GetUseDualStackEndpoint(context.Context) (state aws.DualStackEndpointState, found bool, err error) {
	is, found, err := truth("AWS_USE_DUALSTACK_ENDPOINT")
	if state = aws.DualStackEndpointStateDisabled; is {
		state = aws.DualStackEndpointStateEnabled
	}
	return state, found, err
}

func truth(name string) (is, found bool, err error) {
	switch value := os.Getenv(name); strings.ToLower(value) {
	case "":
		return false, false, nil
	case "true":
		return true, true, nil
	case "false":
		return false, true, nil
	default:
		return false, false, fmt.Errorf("%s is %q, expected true or false", name, shorten(value))
	}
}

// machine has the credentials of the machine, from the first of these that is set up: AWS_ACCESS_KEY_ID and its kin; the role of
// AWS_WEB_IDENTITY_TOKEN_FILE; the keys of a profile in the shared files; the container's role; the instance's. They are looked for each time.
type machine struct{ cfg aws.Config }

// Retrieve implements aws.CredentialsProvider.
func (m machine) Retrieve(ctx context.Context) (aws.Credentials, error) {
	held := aws.Credentials{
		AccessKeyID: firstOf("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"), SecretAccessKey: firstOf("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"),
		SessionToken: os.Getenv("AWS_SESSION_TOKEN"), Source: "the environment",
	}
	if held.HasKeys() {
		return held, nil
	}
	if file := os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"); file != "" {
		return m.webIdentity(ctx, file)
	}
	if held, err := profile(); err != nil || held.HasKeys() {
		return held, err
	}
	if path := os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		return m.container(ctx, "http://169.254.170.2"+path)
	}
	if address := os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"); address != "" {
		if err := mayHaveKeys(ctx, address); err != nil {
			return aws.Credentials{}, fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI: %w", err)
		}
		return m.container(ctx, address)
	}
	return m.instance(ctx)
}

func firstOf(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

// webIdentity asks AWS's STS for the credentials of a role, for the token in a file: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html.
func (m machine) webIdentity(ctx context.Context, file string) (none aws.Credentials, err error) {
	role := os.Getenv("AWS_ROLE_ARN")
	if role == "" {
		return none, errors.New("AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not")
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return none, fmt.Errorf("AWS_WEB_IDENTITY_TOKEN_FILE: %w", err)
	}
	session := os.Getenv("AWS_ROLE_SESSION_NAME")
	if session == "" {
		session = fmt.Sprint("echostream-", time.Now().UnixNano())
	}
	form := url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"},
		"RoleArn": {role}, "RoleSessionName": {session}, "WebIdentityToken": {string(token)}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.sts(), strings.NewReader(form.Encode()))
	if err != nil {
		return none, fmt.Errorf("STS AssumeRoleWithWebIdentity: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := m.cfg.HTTPClient.Do(r)
	if err != nil {
		return none, fmt.Errorf("STS AssumeRoleWithWebIdentity: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return none, fmt.Errorf("STS AssumeRoleWithWebIdentity: %w", err)
	}
	element := func(name string) string { // of texts without any XML in them
		_, rest, _ := strings.Cut(string(answer), "<"+name+">")
		text, _, _ := strings.Cut(rest, "</"+name+">")
		return strings.TrimSpace(text)
	}
	if response.StatusCode != http.StatusOK {
		return none, &serviceError{operation: "STS AssumeRoleWithWebIdentity", status: response.StatusCode, code: element("Code"), message: shorten(element("Message"))}
	}
	expires, err := time.Parse(time.RFC3339, element("Expiration"))
	held := aws.Credentials{AccessKeyID: element("AccessKeyId"), SecretAccessKey: element("SecretAccessKey"), SessionToken: element("SessionToken"),
		CanExpire: true, Expires: expires, Source: "AWS_WEB_IDENTITY_TOKEN_FILE"}
	if err != nil || !held.HasKeys() {
		return none, errors.New("STS AssumeRoleWithWebIdentity: the answer lacks a key or the expiration")
	}
	return held, nil
}

func (m machine) sts() string {
	if ignore, _, _ := truth("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"); !ignore {
		if address := firstOf("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"); address != "" {
			return address
		}
	}
	domain := "amazonaws.com"
	if strings.HasPrefix(m.cfg.Region, "cn-") {
		domain += ".cn"
	}
	return "https://sts." + m.cfg.Region + "." + domain + "/"
}

// profile has the keys of a profile in the shared files. It is an error if the profile that is asked for has none, or has something instead of them that is
// not understood here.
func profile() (held aws.Credentials, err error) {
	name := firstOf("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
	named := name != ""
	if !named {
		name = "default"
	}
	home, _ := os.UserHomeDir()
	values := map[string]string{}
	for _, of := range []struct{ variable, file string }{{"AWS_CONFIG_FILE", "config"}, {"AWS_SHARED_CREDENTIALS_FILE", "credentials"}} { // the second wins
		path := os.Getenv(of.variable)
		if path == "" {
			path = filepath.Join(home, ".aws", of.file)
		}
		if err := readProfile(path, name, values); err != nil {
			return held, fmt.Errorf("the profile %q of AWS's shared files: %w", name, err)
		}
	}
	held = aws.Credentials{AccessKeyID: values["aws_access_key_id"], SecretAccessKey: values["aws_secret_access_key"], SessionToken: values["aws_session_token"],
		Source: "profile " + name}
	if held.HasKeys() {
		return held, nil
	}
	for _, other := range []string{"role_arn", "sso_session", "sso_start_url", "credential_process", "web_identity_token_file", "login_session"} {
		if values[other] != "" {
			return held, fmt.Errorf("the profile %q of AWS's shared files has %s; a node understands aws_access_key_id and aws_secret_access_key alone: set these, or the variables of that name", name, other)
		}
	}
	if named {
		return held, fmt.Errorf("AWS's shared files have no keys (aws_access_key_id, aws_secret_access_key) for the profile %q", name)
	}
	return held, nil
}

// readProfile adds the values of one section of a file, which need not be there.
func readProfile(path, name string, values map[string]string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	in := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if section, ok := strings.CutPrefix(line, "["); ok {
			section, _, _ = strings.Cut(section, "]")
			words := strings.Fields(section)
			in = len(words) == 1 && words[0] == name || len(words) == 2 && words[0] == "profile" && words[1] == name
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && in {
			values[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
		}
	}
	return lines.Err()
}

// mayHaveKeys is an error for an address that credentials must not be asked from: AWS's agents are on this machine, or are asked by HTTPS.
func mayHaveKeys(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("it is %q, expected a URL", shorten(address))
	}
	if u.Scheme == "https" {
		return nil
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return err
	}
	for _, a := range addresses {
		switch a = a.Unmap(); {
		case a.IsLoopback(), a == netip.MustParseAddr("169.254.170.2"), a == netip.MustParseAddr("169.254.170.23"), a == netip.MustParseAddr("fd00:ec2::23"):
		default:
			return fmt.Errorf("%s is %s, expected this machine or AWS's agent, or https", u.Hostname(), a)
		}
	}
	return nil
}

func (m machine) container(ctx context.Context, address string) (aws.Credentials, error) {
	return endpointcreds.New(address, func(o *endpointcreds.Options) {
		o.AuthorizationToken = os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		if file := os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				token, err := os.ReadFile(file)
				if err != nil {
					err = fmt.Errorf("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", err)
				}
				return string(token), err
			})
		}
		o.Retryer = aws.NopRetryer{}
	}).Retrieve(ctx)
}

func (m machine) instance(ctx context.Context) (aws.Credentials, error) {
	disabled, _, err := truth("AWS_EC2_METADATA_DISABLED")
	if err != nil {
		return aws.Credentials{}, err
	}
	old, _, err := truth("AWS_EC2_METADATA_V1_DISABLED")
	if err != nil {
		return aws.Credentials{}, err
	}
	var mode imds.EndpointModeState
	if err := mode.SetFromString(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")); err != nil {
		return aws.Credentials{}, fmt.Errorf("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE: %w", err)
	}
	client := imds.NewFromConfig(m.cfg, func(o *imds.Options) {
		if disabled {
			o.ClientEnableState = imds.ClientDisabled
		}
		if old {
			o.EnableFallback = aws.FalseTernary
		}
		o.Endpoint, o.EndpointMode = os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), mode
	})
	return ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }).Retrieve(ctx)
}
