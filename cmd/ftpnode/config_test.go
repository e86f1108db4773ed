package main

import (
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const oneUser = `"users": [{"name": "scanner", "password": "hunter2hunter2"}]`

func paths(problems []Problem) []string {
	var list []string
	for _, p := range problems {
		list = append(list, p.Path)
	}
	return list
}

func names(c Config) []string {
	list := []string{}
	for _, u := range c.FTP.Users {
		list = append(list, u.Name)
	}
	return list
}

func TestDefaults(t *testing.T) {
	c, problems := parseConfig(json.RawMessage(`{"ftp": {` + oneUser + `}}`))
	require.Empty(t, problems)
	ignore := c.Files.Ignore
	c.Files.Ignore = nil
	assert.Equal(t, Config{
		FTP: FTPConfig{
			Users:        []*UserConfig{{Name: "scanner", Password: "hunter2hunter2", Directory: "scanner"}},
			PassivePorts: Ports{30000, 30009}, TLS: "optional",
			IdleTimeout: Duration(5 * time.Minute), StallTimeout: Duration(time.Minute), LoginTimeout: Duration(time.Minute),
			MaxConnections: 200, MaxConnectionsPerAddress: 20, CheckDataAddress: true,
		},
		Files: FilesConfig{
			Acknowledge: "auto", AcknowledgeTimeout: Duration(8 * time.Second),
			Settle: Duration(time.Second), Quiet: Duration(10 * time.Second), MaxSize: 5e9, MinFree: 1e9,
			PartialExpiry: Duration(72 * time.Hour), MaxFiles: 1000000, MaxFolders: 10000, MaxTotal: 150000,
		},
		Message: MessageConfig{Content: "auto", ContentField: "content", URLField: "contentUrl", Order: "node"},
	}, c)
	var patterns []string
	for _, p := range ignore {
		patterns = append(patterns, *p)
	}
	assert.Equal(t, []string{"*.tmp", "*.part", "*.filepart", ".*"}, patterns)
}

// Each problem leaves out what it names and nothing else.
func TestBadParts(t *testing.T) {
	def, _ := parseConfig(json.RawMessage(`{"ftp": {` + oneUser + `}}`))
	cases := []struct{ name, config, path, text string }{
		{"duration in words", `{"ftp": {` + oneUser + `, "idleTimeout": "5 minutes"}}`, "ftp.idleTimeout", `"5 minutes": expected as in "5m", "1h30m" (How long a session without a command or a transfer is kept. From 10s to 24h); "5m" is used`},
		{"duration too short", `{"ftp": {` + oneUser + `, "idleTimeout": "5ms"}}`, "ftp.idleTimeout", `From 10s to 24h`},
		{"duration beyond int64", `{"ftp": {` + oneUser + `, "idleTimeout": "99999999999h"}}`, "ftp.idleTimeout", `"5m" is used`},
		{"number for a duration", `{"ftp": {` + oneUser + `, "idleTimeout": 300}}`, "ftp.idleTimeout", `300: expected text, as in "5m"`},
		{"size", `{"ftp": {` + oneUser + `}, "files": {"maxSize": "5 gigs"}}`, "files.maxSize", `"5 gigs": expected as in "5GB"`},
		{"size of nothing", `{"ftp": {` + oneUser + `}, "files": {"maxSize": "0.1B"}}`, "files.maxSize", `From 1B to 100GB`},
		{"negative size", `{"ftp": {` + oneUser + `}, "files": {"minFree": -1}}`, "files.minFree", `at least 0`},
		{"part of a number", `{"ftp": {` + oneUser + `, "maxConnections": 1.5}}`, "ftp.maxConnections", `1.5: expected a whole number`},
		{"too few", `{"ftp": {` + oneUser + `, "maxConnections": 0}}`, "ftp.maxConnections", `0: expected at least 1`},
		{"too many", `{"ftp": {` + oneUser + `, "maxConnections": 1e9}}`, "ftp.maxConnections", `expected at most 10000`},
		{"enum", `{"ftp": {` + oneUser + `, "tls": "yes"}}`, "ftp.tls", `"yes": expected one of "off", "optional", "required", "implicit"; "optional" is used`},
		{"boolean", `{"ftp": {` + oneUser + `, "trustHangups": "true"}}`, "ftp.trustHangups", `"true": expected true or false`},
		{"ports the wrong way", `{"ftp": {` + oneUser + `, "passivePorts": "30009-30000"}}`, "ftp.passivePorts", `"30009-30000": expected as in "30000-30009"`},
		{"port too high", `{"ftp": {` + oneUser + `, "passivePorts": "70000"}}`, "ftp.passivePorts", `From 1024 to 65535`},
		{"port too low", `{"ftp": {` + oneUser + `, "passivePorts": "1000-2000"}}`, "ftp.passivePorts", `From 1024 to 65535`},
		{"address", `{"ftp": {` + oneUser + `, "publicAddress": "192.0.2"}}`, "ftp.publicAddress", `"192.0.2": expected an IPv4 address`},
		{"host name", `{"ftp": {` + oneUser + `, "publicAddress": "a..b"}}`, "ftp.publicAddress", `a host name`},
		{"address of IPv6", `{"ftp": {` + oneUser + `, "publicAddress": "2001:db8::1"}}`, "ftp.publicAddress", `IPv4`},
		{"banner of two lines", `{"ftp": {` + oneUser + `, "banner": "a\nb"}}`, "ftp.banner", `"a\nb": expected as in "Plant 7, drop box"`},
		{"certificate alone", `{"ftp": {` + oneUser + `, "certificate": "/tls/c.pem"}}`, "ftp.certificate", `there without privateKey`},
		{"key alone", `{"ftp": {` + oneUser + `, "privateKey": "-----BEGIN k"}}`, "ftp.privateKey", `there without certificate`},
		{"half a pair empty", `{"ftp": {` + oneUser + `, "certificate": "/tls/c.pem", "privateKey": ""}}`, "ftp.certificate", `both or neither`},
		{"no certificate in the PEM", `{"ftp": {` + oneUser + `, "certificate": "-----BEGIN CERTIFICATE-----", "privateKey": "-----BEGIN KEY-----"}}`, "ftp.certificate", `a self-signed certificate is used`},
		{"unknown key, swapped letters", `{"ftp": {` + oneUser + `, "idleTiemout": "5m"}}`, "ftp.idleTiemout", `an unknown key: expected "idleTimeout"?; it is ignored`},
		{"unknown key, case", `{"ftp": {` + oneUser + `}, "files": {"MaxSize": "5m"}}`, "files.MaxSize", `"maxSize"?`},
		{"unknown key, unlike any", `{"ftp": {` + oneUser + `}, "bulk": {"colour": 1}}`, "bulk.colour", `one of accelerate`},
		{"strange unknown key", `{"ftp": {` + oneUser + `}, "bulk": {"a\nb.c": 1}}`, `bulk."a\nb.c"`, `unknown`},
		{"section that is none", `{"ftp": {` + oneUser + `}, "files": "fast"}`, "files", `text: expected an object`},
		{"null is as good as nothing", `{"ftp": {` + oneUser + `, "banner": null}, "files": null}`, "", ""},
		{"pattern", `{"ftp": {` + oneUser + `}, "files": {"ignore": ["*.tmp", "[a", "*.part", "*.filepart", ".*"]}}`, "files.ignore[1]", `"[a"`},
		{"pattern that is none", `{"ftp": {` + oneUser + `}, "files": {"ignore": ["*.tmp", 7, "*.part", "*.filepart", ".*"]}}`, "files.ignore[1]", `7: expected text`},
		{"fields the same", `{"ftp": {` + oneUser + `}, "message": {"contentField": "a", "urlField": "a"}}`, "message.urlField", `another key`},
		{"field taken", `{"ftp": {` + oneUser + `}, "message": {"contentField": "name"}}`, "message.contentField", `"name"`},
		{"field no key", `{"ftp": {` + oneUser + `}, "message": {"contentField": "a b"}}`, "message.contentField", `as in "content", "data"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, problems := parseConfig(json.RawMessage(c.config))
			if c.path == "" {
				assert.Empty(t, problems)
			} else if assert.Len(t, problems, 1, "%v", problems) {
				assert.Equal(t, c.path, problems[0].Path)
				assert.Contains(t, problems[0].String(), c.text)
				assert.Equal(t, slog.LevelError, problems[0].Level)
			}
			assert.Equal(t, def, got, "all else is as it was")
		})
	}
}

func TestBadUsers(t *testing.T) {
	const good = `{"name": "good", "password": "hunter2hunter2"}`
	bcrypt := "$2y$10$" + strings.Repeat("a", 53)
	cases := []struct{ name, user, path, text string }{
		{"no password", `{"name": "a"}`, "ftp.users[1]", "without password and passwordHash"},
		{"two passwords", `{"name": "a", "password": "hunter2hunter2", "passwordHash": "` + bcrypt + `"}`, "ftp.users[1]", "exactly one of them"},
		{"no name", `{"password": "hunter2hunter2"}`, "ftp.users[1].name", `missing: expected as in "scanner"`},
		{"empty name", `{"name": "", "password": "hunter2hunter2"}`, "ftp.users[1].name", `""`},
		{"line break in the name", `{"name": "a\nb", "password": "hunter2hunter2"}`, "ftp.users[1].name", `"a\nb"`},
		{"text for a user", `"scanner:hunter2hunter2"`, "ftp.users[1]", "text: expected an object"},
		{"null for a user", `null`, "ftp.users[1]", "a null: expected an object"},
		{"number for a password", `{"name": "a", "password": 123456}`, "ftp.users[1].password", "(not shown)"},
		{"empty password", `{"name": "a", "password": ""}`, "ftp.users[1].password", "(not shown)"},
		{"hash of another kind", `{"name": "a", "passwordHash": "5f4dcc3b5aa765d61d8327deb882cf99"}`, "ftp.users[1].passwordHash", "(not shown): expected as in"},
		{"name taken", `{"name": "good", "password": "x", "directory": "b"}`, "ftp.users[1].name", "no other user has"},
		{"directory taken", `{"name": "a", "password": "x", "directory": "good"}`, "ftp.users[1].directory", `apart from "good" of the user "good"`},
		{"directory inside another", `{"name": "a", "password": "x", "directory": "good/sub"}`, "ftp.users[1].directory", "apart from"},
		{"directory that leaves", `{"name": "a", "password": "x", "directory": "../b"}`, "ftp.users[1].directory", `"../b"`},
		{"absolute directory", `{"name": "a", "password": "x", "directory": "/b"}`, "ftp.users[1].directory", `"/b"`},
		{"directory not clean", `{"name": "a", "password": "x", "directory": "b//c/"}`, "ftp.users[1].directory", `"b//c/"`},
		{"hidden directory", `{"name": "a", "password": "x", "directory": "b/.c"}`, "ftp.users[1].directory", `"b/.c"`},
		{"name that is no directory", `{"name": "a/../b", "password": "x"}`, "ftp.users[1].directory", `the name "a/../b" cannot be one`},
		{"readable", `{"name": "a", "password": "x", "readable": 1}`, "ftp.users[1].readable", "true or false"},
		{"wrong key for the password", `{"name": "a", "pasword": "hunter2hunter2"}`, "ftp.users[1]", "without password"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, order := range []struct{ users, path string }{
				{good + "," + c.user, c.path},
				{good + "," + c.user + `, {"name": "z", "passwordHash": "` + bcrypt + `"}`, c.path},
			} {
				got, problems := parseConfig(json.RawMessage(`{"ftp": {"users": [` + order.users + `]}}`))
				require.Contains(t, paths(problems), order.path, "%v", problems)
				i := slices.Index(paths(problems), order.path)
				assert.Contains(t, problems[i].String(), c.text)
				assert.Contains(t, problems[i].String(), "this user is left out")
				assert.NotContains(t, names(got), "a")
				assert.Contains(t, names(got), "good")
				for _, p := range problems {
					assert.NotContains(t, p.String(), "hunter2", "no secret")
					assert.NotContains(t, p.String(), "5f4dcc3b", "no secret")
					assert.NotContains(t, p.String(), "123456", "no secret")
				}
			}
		})
	}
}

// A user who is left out keeps the directory, if what is wrong leaves no doubt whose it is.
func TestLeftOutUsersKeepTheirDirectories(t *testing.T) {
	const press = `"name": "press", "directory": "plant-7/press"`
	for user, kept := range map[string]string{
		`{` + press + `}`:                                                        "press plant-7/press",
		`{"name": "press"}`:                                                      "press press",
		`{` + press + `, "passwordHash": "$2y$"}`:                                "press plant-7/press",
		`{` + press + `, "passwordHash": "x", "readable": "yes"}`:                "press plant-7/press",
		`{` + press + `, "password": "x", "readable": "yes"}`:                    "press plant-7/press",
		`{` + press + `, "pasword": "x"}`:                                        "press plant-7/press",
		`{"name": "good", "password": "x", "directory": "other"}`:                "good other",
		`{"name": 7, "password": "x", "directory": "plant-7"}`:                   "",
		`{"name": "press", "password": "", "directory": 7}`:                      "",
		`{"name": "press", "password": "", "directory": "../x"}`:                 "",
		`{"name": "press", "password": "", "directory": "good/x"}`:               "",
		`{"name": "press", "password": "x", "directory": "good"}`:                "",
		`{` + press + `, "passwordHash": "x"}, {` + press + `, "password": ""}`:  "press plant-7/press",
		`{` + press + `, "passwordHash": "x"}, {` + press + `, "password": "x"}`: "", // and the other one may log in
	} {
		got, _ := parseConfig(json.RawMessage(`{"ftp": {"users": [{"name": "good", "password": "hunter2hunter2"}, ` + user + `]}}`))
		var left []string
		for _, u := range got.FTP.LeftOut {
			left = append(left, u.Name+" "+u.Directory)
		}
		assert.Equal(t, kept, strings.Join(left, ", "), user)
		assert.Contains(t, names(got), "good", user)
	}
}

// Whatever the config is: a problem says why nobody can log in, and the node can run.
func TestNoUser(t *testing.T) {
	for _, config := range []string{
		``, `{}`, `null`, `[]`, `"x"`, `{`, `{"ftp": {}}`, `{"ftp": []}`, `{"ftp": {"users": []}}`, `{"ftp": {"users": {"name": "a"}}}`,
		`{"ftp": {"users": [{}]}}`, `{"ftp": {"users": [null, 1]}}`, `{"ftp": null}`,
	} {
		got, problems := parseConfig(json.RawMessage(config))
		assert.Empty(t, got.FTP.Users, config)
		assert.NotEmpty(t, problems, config)
		assert.Equal(t, Ports{30000, 30009}, got.FTP.PassivePorts, config)
		assert.Equal(t, slog.LevelError, problems[0].Level, config)
	}
	_, problems := parseConfig(nil)
	require.Len(t, problems, 1)
	assert.Equal(t, "ftp.users", problems[0].Path)
	assert.Contains(t, problems[0].String(), "FTP refuses all log-ins")
}

// The config is merged from the tenant's, the app's and the node's: what is meant for others is no fault.
func TestOtherKeysAtTheTop(t *testing.T) {
	_, problems := parseConfig(json.RawMessage(`{"ftp": {` + oneUser + `}, "smtp_relay": {"password": "hunter2hunter2"}, "file": {}}`))
	require.Equal(t, []string{"file", "smtp_relay"}, paths(problems))
	assert.Equal(t, slog.LevelWarn, problems[0].Level)
	assert.Equal(t, `"files"?`, problems[0].Expected)
	assert.Equal(t, slog.LevelInfo, problems[1].Level)
	assert.NotContains(t, problems[1].String(), "hunter2")
}

func TestManyProblemsAtOnce(t *testing.T) {
	got, problems := parseConfig(json.RawMessage(`{"ftp": {"users": [{"name": "a"}, {"name": "b", "password": "x"}], "tls": 1, "x": 1},
		"files": {"settle": "soon", "quiet": "20s"}, "message": {"order": "user"}}`))
	assert.ElementsMatch(t, []string{"ftp.users[0]", "ftp.tls", "ftp.x", "files.settle"}, paths(problems))
	assert.Equal(t, []string{"b"}, names(got))
	assert.Equal(t, Duration(20*time.Second), got.Files.Quiet)
	assert.Equal(t, Duration(time.Second), got.Files.Settle)
	assert.Equal(t, "user", got.Message.Order)
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "7": 7, "7B": 7, "1kB": 1000, "1KB": 1000, "2KiB": 2048, "5GB": 5e9, "1 GiB": 1 << 30, "1.5MB": 1500000, "0.5 KiB": 512,
		"8TiB": 8 << 40, "9223372036854775807": 1<<63 - 1, "0.1B": 0,
	} {
		got, err := parseSize(text)
		if assert.NoError(t, err, text) {
			assert.Equal(t, want, got, text)
		}
	}
	for _, text := range []string{"", "B", "GB", "1EB", "-1", "1e9", "0x10", "1_000", "1/2", "9223372036854775808", "9999999TiB", "1 2GB", "1iB", "five"} {
		_, err := parseSize(text)
		assert.Error(t, err, text)
	}
}

// The bounds that the program checks are the ones that the schema's readers see, and the defaults keep them.
func TestQuantitiesAreDescribed(t *testing.T) {
	s := loadSchema()
	for p, q := range quantities {
		node := s.node(strings.Split(p, "."))
		require.NotNil(t, node, p)
		assert.Contains(t, node["description"], "From "+q.least+" to "+q.most+".", p)
		assert.True(t, q.holds(node["default"].(string)), p)
		for _, value := range []string{q.least, q.most} {
			assert.True(t, q.holds(value), "%s: %s", p, value)
		}
	}
	walk(nil, s.tree, func(loc []string, node map[string]any) {
		pattern, _ := node["pattern"].(string)
		if strings.Contains(pattern, "(ms|s|m|h)") || strings.Contains(pattern, "iB)") || strings.HasPrefix(pattern, "^[0-9]{4,5}") {
			assert.Contains(t, quantities, strings.Join(loc, "."))
		}
	})
}

// Whoever reads the schema in EchoStream's console finds every key explained, and every example is valid.
func TestSchemaIsComplete(t *testing.T) {
	s := loadSchema()
	assert.Equal(t, "http://json-schema.org/draft-07/schema#", s.tree["$schema"])
	noDefault := map[string]bool{"ftp": true, "ftp.users": true, "ftp.users.[]": true, "ftp.users.[].name": true, "ftp.users.[].password": true,
		"ftp.users.[].passwordHash": true, "ftp.users.[].directory": true, "files.ignore.[]": true, "status.password": true}
	var seen []string
	walk(nil, s.tree, func(loc []string, node map[string]any) {
		p := strings.Join(loc, ".")
		seen = append(seen, p)
		for _, keyword := range []string{"title", "description", "examples", "type"} {
			assert.NotEmpty(t, node[keyword], "%s of %s", keyword, p)
		}
		_, has := node["default"]
		assert.Equal(t, !noDefault[p] && p != "", has, "default of %s", p)
		if node["type"] == "object" {
			assert.Equal(t, false, node["additionalProperties"], p)
		}
		for _, example := range append(node["examples"].([]any), node["default"]) {
			if example != nil && len(loc) > 0 && !slices.Contains(loc, "[]") {
				if len(loc) == 2 && loc[0] == "status" { // both or neither
					pair := map[string]any{"port": 8443, "password": "a long one"}
					pair[loc[1]] = example
					loc, example = loc[:1], pair
				}
				_, problems := parseConfig(with(t, loc, example))
				for _, problem := range problems {
					assert.NotEqual(t, p, problem.Path, "%v", problem)
				}
			}
		}
	})
	assert.Greater(t, len(seen), 30)
}

func walk(loc []string, node map[string]any, visit func([]string, map[string]any)) {
	visit(loc, node)
	for _, key := range slices.Sorted(maps.Keys(properties(node))) {
		walk(child(loc, key), properties(node)[key].(map[string]any), visit)
	}
	if items, ok := node["items"].(map[string]any); ok {
		walk(child(loc, "[]"), items, visit)
	}
}

// with is a config that has a value at one place.
func with(t *testing.T, loc []string, value any) json.RawMessage {
	for _, key := range slices.Backward(loc) {
		value = map[string]any{key: value}
	}
	if f, ok := value.(map[string]any)["ftp"].(map[string]any); ok && (f["certificate"] != nil || f["privateKey"] != nil) {
		f["certificate"], f["privateKey"] = "/tls/a.pem", "/tls/b.pem" // a pair, always
	}
	b, err := json.Marshal(value)
	require.NoError(t, err)
	return b
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"ftp": {` + oneUser + `, "idleTimeout": "1h30m", "maxConnections": 1.0e1}, "files": {"maxSize": 12, "ignore": ["*"]}}`))
	f.Add([]byte(`{"ftp": {"users": [{"name": "a"}, null, 1, {"name": "b", "password": 1}], "certificate": "x"}}`))
	f.Add([]byte(`{"ftp": {"maxConnections": 1.0000000000000000000000000000000000000000}, "message": {"contentField": "urlField"}}`))
	f.Add([]byte(`{"files": {"minFree": "99999999999999999999TB", "ignore": [[], "["]}, "bulk": 1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, problems := parseConfig(raw)
		if len(c.FTP.Users) == 0 {
			require.NotEmpty(t, problems, "something says why nobody can log in")
		}
		require.Contains(t, []string{"off", "optional", "required", "implicit"}, c.FTP.TLS)
		require.Positive(t, c.FTP.MaxConnections)
		require.Positive(t, c.Files.MaxSize)
		require.NotEqual(t, c.Message.ContentField, c.Message.URLField)
		for _, u := range c.FTP.Users {
			require.True(t, cleanDirectory(u.Directory))
			require.NotEqual(t, u.Password == "", u.PasswordHash == "")
		}
	})
}
