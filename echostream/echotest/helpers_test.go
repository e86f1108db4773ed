package echotest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider"
	"github.com/aws/aws-sdk-go-v2/service/cognitoidentityprovider/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/internal/srp"
)

// node is a client of the cloud that goes the same way as a node: SDK clients, nothing of the package under test.
type node struct {
	t   testing.TB
	env map[string]string
	ctx context.Context
	now func() time.Time // its clock, which is the cloud's
}

func start(t testing.TB, opts echotest.Options) (*echotest.Cloud, *node) {
	t.Helper()
	opts.TempDir = t.TempDir()
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	}
	c := echotest.NewCloud(opts)
	t.Cleanup(c.Close)
	return c, newNode(t, c, c.Environment())
}

func newNode(t testing.TB, c *echotest.Cloud, env map[string]string) *node {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return &node{t: t, env: env, ctx: ctx, now: c.Clock().Now}
}

func (n *node) cognito() *cognitoidentityprovider.Client {
	return cognitoidentityprovider.New(cognitoidentityprovider.Options{
		BaseEndpoint: aws.String(n.env["AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER"]),
		Region:       "us-east-1",
		Retryer:      aws.NopRetryer{},
		HTTPClient:   &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
}

func (n *node) poolName() string { return n.env["USER_POOL_ID"][len("us-east-1_"):] }

// login answers the SRP challenge; change may spoil the answer.
func (n *node) login(change func(responses map[string]string, password *string, now *time.Time)) (*cognitoidentityprovider.RespondToAuthChallengeOutput, error) {
	client, err := srp.NewClient(rand.Reader)
	require.NoError(n.t, err)
	c := n.cognito()
	out, err := c.InitiateAuth(n.ctx, &cognitoidentityprovider.InitiateAuthInput{
		AuthFlow: types.AuthFlowTypeUserSrpAuth, ClientId: aws.String(n.env["CLIENT_ID"]),
		AuthParameters: map[string]string{"USERNAME": n.env["USER_NAME"], "SRP_A": client.A()},
	})
	if err != nil {
		return nil, err
	}
	require.Equal(n.t, types.ChallengeNameTypePasswordVerifier, out.ChallengeName)
	p := out.ChallengeParameters
	password, now := n.env["PASSWORD"], n.now()
	responses := map[string]string{"USERNAME": p["USER_ID_FOR_SRP"], "PASSWORD_CLAIM_SECRET_BLOCK": p["SECRET_BLOCK"]}
	if change != nil {
		change(responses, &password, &now)
	}
	proof, err := client.Prove(n.poolName(), password, srp.Challenge{
		UserID: p["USER_ID_FOR_SRP"], Salt: p["SALT"], B: p["SRP_B"], SecretBlock: p["SECRET_BLOCK"],
	}, now)
	require.NoError(n.t, err)
	responses["PASSWORD_CLAIM_SIGNATURE"], responses["TIMESTAMP"] = proof.Signature, proof.Timestamp
	if f := responses["rewrite"]; f != "" {
		delete(responses, "rewrite")
		responses["TIMESTAMP"] = now.UTC().Format(f)
	}
	return c.RespondToAuthChallenge(n.ctx, &cognitoidentityprovider.RespondToAuthChallengeInput{
		ChallengeName: types.ChallengeNameTypePasswordVerifier, ClientId: aws.String(n.env["CLIENT_ID"]), ChallengeResponses: responses,
	})
}

func (n *node) tokens() *types.AuthenticationResultType {
	out, err := n.login(nil)
	require.NoError(n.t, err)
	require.NotNil(n.t, out.AuthenticationResult)
	return out.AuthenticationResult
}

func (n *node) refresh(token string) (*types.AuthenticationResultType, error) {
	out, err := n.cognito().InitiateAuth(n.ctx, &cognitoidentityprovider.InitiateAuthInput{
		AuthFlow: types.AuthFlowTypeRefreshTokenAuth, ClientId: aws.String(n.env["CLIENT_ID"]),
		AuthParameters: map[string]string{"REFRESH_TOKEN": token},
	})
	if err != nil {
		return nil, err
	}
	return out.AuthenticationResult, nil
}

// answer is what the API answers.
type answer struct {
	Status int
	Data   map[string]any
	Errors []struct {
		Message, ErrorType string
		Path               []any
	}
}

func (n *node) graphql(authorization, query string, variables map[string]any) answer {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	require.NoError(n.t, err)
	return n.graphqlRaw(authorization, body)
}

func (n *node) graphqlRaw(authorization string, body []byte) answer {
	r, err := http.NewRequestWithContext(n.ctx, http.MethodPost, n.env["APPSYNC_ENDPOINT"], bytes.NewReader(body))
	require.NoError(n.t, err)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	status, text, _ := n.do(r)
	a := answer{Status: status}
	require.NoError(n.t, json.Unmarshal([]byte(text), &a), text)
	return a
}

func (n *node) do(r *http.Request) (status int, body string, header http.Header) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(r)
	require.NoError(n.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(n.t, err)
	return resp.StatusCode, string(text), resp.Header
}

// query runs a query that must succeed.
func (n *node) query(token, query string, variables map[string]any) map[string]any {
	a := n.graphql(token, query, variables)
	require.Equal(n.t, http.StatusOK, a.Status)
	require.Empty(n.t, a.Errors)
	return a.Data
}

const credentialsQuery = `query($app: String!, $tenant: String!, $duration: Int) {
	GetApp(name: $app, tenant: $tenant) { ... on ManagedApp { GetAwsCredentials(duration: $duration) {
		accessKeyId secretAccessKey sessionToken expiration } } } }`

func (n *node) credentials() aws.Credentials { return n.credentialsOf("ftp-app", "ManagedApp") }

func (n *node) credentialsOf(app, kind string) aws.Credentials {
	data := n.query(*n.tokens().AccessToken, strings.Replace(credentialsQuery, "ManagedApp", kind, 1), map[string]any{"app": app, "tenant": "acme"})
	v := data["GetApp"].(map[string]any)["GetAwsCredentials"].(map[string]any)
	expires, err := time.Parse(time.RFC3339, v["expiration"].(string))
	require.NoError(n.t, err)
	return aws.Credentials{
		AccessKeyID: v["accessKeyId"].(string), SecretAccessKey: v["secretAccessKey"].(string),
		SessionToken: v["sessionToken"].(string), Expires: expires,
	}
}

func (n *node) queues() map[string]string {
	data := n.query(*n.tokens().AccessToken, `query($name: String!, $tenant: String!) { GetNode(name: $name, tenant: $tenant) {
		... on ManagedNode { sendEdges { queue target { name } } } } }`, map[string]any{"name": n.env["NODE"], "tenant": "acme"})
	out := make(map[string]string)
	edges, _ := data["GetNode"].(map[string]any)["sendEdges"].([]any)
	for _, e := range edges {
		edge := e.(map[string]any)
		out[edge["target"].(map[string]any)["name"].(string)] = edge["queue"].(string)
	}
	return out
}

// sqs is a client of SQS with vended credentials.
func (n *node) sqs() *sqs.Client { return n.sqsWith(n.credentials()) }

func (n *node) sqsWith(creds aws.Credentials) *sqs.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	n.t.Cleanup(transport.CloseIdleConnections)
	return sqs.New(sqs.Options{
		BaseEndpoint: aws.String(n.env["AWS_ENDPOINT_URL_SQS"]), Region: "us-east-1", Retryer: aws.NopRetryer{},
		Credentials:  credentials.StaticCredentialsProvider{Value: creds},
		HTTPClient:   &http.Client{Transport: transport},
		HTTPSignerV4: clockSigner{v4.NewSigner(), n.now},
	})
}

// clockSigner signs at the node's time.
type clockSigner struct {
	signer *v4.Signer
	now    func() time.Time
}

func (s clockSigner) SignHTTP(ctx context.Context, creds aws.Credentials, r *http.Request, payloadHash, service, region string, _ time.Time, opts ...func(*v4.SignerOptions)) error {
	return s.signer.SignHTTP(ctx, creds, r, payloadHash, service, region, s.now(), opts...)
}

func send(queue, body, dedup, group string) *sqs.SendMessageInput {
	in := &sqs.SendMessageInput{QueueUrl: &queue, MessageBody: &body, MessageGroupId: &group}
	if dedup != "" {
		in.MessageDeduplicationId = &dedup
		in.MessageAttributes = map[string]sqstypes.MessageAttributeValue{"trackingId": {DataType: aws.String("String"), StringValue: &dedup}}
	}
	return in
}

func staticCredentials(creds aws.Credentials) aws.CredentialsProvider {
	return credentials.StaticCredentialsProvider{Value: creds}
}
