package echostream

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/internal/nodelog"
)

func goodVariables() map[string]string {
	return map[string]string{
		"APPSYNC_ENDPOINT": "https://abc.appsync-api.eu-west-1.amazonaws.com/graphql",
		"CLIENT_ID":        "1h57kf5cpq17m0eml12EXAMPLE",
		"NAME":             "My Node",
		"PASSWORD":         " hunter2 with spaces ",
		"TENANT":           "Acme",
		"USER_POOL_ID":     "eu-west-1_Ab3dEf9Gh",
		"USER_NAME":        "app-user",
	}
}

func environmentOf(variables map[string]string) (Environment, error) {
	return EnvironmentFrom(func(name string) string { return variables[name] })
}

func TestEnvironmentFrom(t *testing.T) {
	got, err := environmentOf(goodVariables())
	require.NoError(t, err)
	assert.Equal(t, Environment{
		AppSyncEndpoint: "https://abc.appsync-api.eu-west-1.amazonaws.com/graphql",
		ClientID:        "1h57kf5cpq17m0eml12EXAMPLE",
		Name:            "My Node",
		Password:        " hunter2 with spaces ",
		Tenant:          "Acme",
		UserPoolID:      "eu-west-1_Ab3dEf9Gh",
		UserName:        "app-user",
	}, got)
	assert.Equal(t, "eu-west-1", got.Region())
	assert.Equal(t, "Ab3dEf9Gh", got.poolName())
}

func TestEnvironmentNodeName(t *testing.T) {
	tests := []struct{ name, node, want string }{
		{"a", "b", "a"},
		{"a", "", "a"},
		{"", "b", "b"},
	}
	for _, tt := range tests {
		variables := goodVariables()
		variables["NAME"], variables["NODE"] = tt.name, tt.node
		got, err := environmentOf(variables)
		require.NoError(t, err)
		assert.Equal(t, tt.want, got.Name)
	}
}

func TestEnvironmentNamesEveryProblem(t *testing.T) {
	_, err := environmentOf(nil)
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 7)
	for i, name := range []string{"APPSYNC_ENDPOINT", "CLIENT_ID", "NAME (or NODE)", "PASSWORD", "TENANT", "USER_POOL_ID", "USER_NAME"} {
		assert.True(t, strings.HasPrefix(lines[i], name+" is not set or empty, want "), lines[i])
	}
}

func TestEnvironmentProblems(t *testing.T) {
	tests := []struct{ variable, value, want string }{
		{"APPSYNC_ENDPOINT", "abc.example.com/graphql", `APPSYNC_ENDPOINT is "abc.example.com/graphql", want the URL`},
		{"APPSYNC_ENDPOINT", "ftp://abc.example.com/graphql", `APPSYNC_ENDPOINT is "ftp://abc.example.com/graphql", want the URL`},
		{"APPSYNC_ENDPOINT", "https:///graphql", `APPSYNC_ENDPOINT is "https:///graphql", want the URL`},
		{"APPSYNC_ENDPOINT", "https://:443/graphql", `want the URL`},
		{"APPSYNC_ENDPOINT", "https://a/graphql#x", `want the URL`},
		{"APPSYNC_ENDPOINT", "https://user:hunter2@a/graphql", `APPSYNC_ENDPOINT has a user name in it, want`},
		{"APPSYNC_ENDPOINT", "https://user:hunter2@a b/%zz", `APPSYNC_ENDPOINT is not a URL`},
		{"APPSYNC_ENDPOINT", "https://user:hunter2@a/graphql\n", `APPSYNC_ENDPOINT is "https://[redacted]@a/graphql\n", want`},
		{"CLIENT_ID", "abc\n", `CLIENT_ID is "abc\n", want`},
		{"NAME", " x", `NAME (or NODE) is " x", want`},
		{"TENANT", "a\x00b", `TENANT is "a\x00b", want`},
		{"USER_POOL_ID", "eu-west-1", `USER_POOL_ID is "eu-west-1", want a region, an underscore and a name`},
		{"USER_POOL_ID", "_Ab3", `USER_POOL_ID is "_Ab3"`},
		{"USER_POOL_ID", "eu-west-1_", `USER_POOL_ID is "eu-west-1_"`},
		{"USER_POOL_ID", "eu west_Ab3", `USER_POOL_ID is "eu west_Ab3"`},
		{"USER_POOL_ID", "evil.example.com/_Ab3", `USER_POOL_ID is "evil.example.com/_Ab3"`},
		{"USER_POOL_ID", "eu-west-1_a_b", `USER_POOL_ID is "eu-west-1_a_b"`},
		{"USER_POOL_ID", "eu-west-1_Ab3\n", `USER_POOL_ID is "eu-west-1_Ab3\n"`},
	}
	for _, tt := range tests {
		t.Run(tt.variable+"="+tt.value, func(t *testing.T) {
			variables := goodVariables()
			variables[tt.variable] = tt.value
			_, err := environmentOf(variables)
			require.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.NotContains(t, err.Error(), "\n", "one problem is one line")
		})
	}
}

func TestEnvironmentAcceptsEmulators(t *testing.T) {
	variables := maps.Clone(goodVariables())
	variables["APPSYNC_ENDPOINT"], variables["USER_POOL_ID"] = "http://127.0.0.1:8080/graphql", "local_Test1"
	got, err := environmentOf(variables)
	require.NoError(t, err)
	assert.Equal(t, "local", got.Region())
}

func TestEnvironmentDoesNotShowThePassword(t *testing.T) {
	env, err := environmentOf(goodVariables())
	require.NoError(t, err)
	var out bytes.Buffer
	for _, h := range []slog.Handler{nodelog.NewHandler(&out, nil, nil), slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "env", env, "pointer", &env, "in", struct{ E Environment }{env}, "x", env.Password)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		for _, v := range []any{env, &env, struct{ E Environment }{env}, env.Password} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	out.Write(mustJSON(t, env))
	assert.NotContains(t, out.String(), "hunter2")
	assert.NotContains(t, out.String(), "68756e74657232")
	assert.Contains(t, env.String(), "My Node")
	assert.Equal(t, slog.KindGroup, env.LogValue().Kind())
}
