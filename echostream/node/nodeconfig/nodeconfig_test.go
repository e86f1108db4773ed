package nodeconfig_test

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
)

// A bridge that is not FTP's: each keyword once.
const schemaText = `{
  "$schema": "http://json-schema.org/draft-07/schema#",
  "type": "object",
  "required": ["link"],
  "additionalProperties": false,
  "properties": {
    "link": {
      "type": "object",
      "required": ["peers"],
      "additionalProperties": false,
      "dependencies": {"user": ["token"]},
      "properties": {
        "peers": {
          "type": "array", "minItems": 1, "maxItems": 3, "examples": [[{"host": "a"}]], "x-otherwise": "Nothing is received",
          "items": {
            "title": "Peer", "type": "object", "required": ["host"], "additionalProperties": false, "examples": [{"host": "a"}],
            "oneOf": [{"required": ["token"]}, {"required": ["key"]}],
            "properties": {
              "host": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^[a-z.]*$", "examples": ["a.example"]},
              "token": {"type": "string", "minLength": 4, "writeOnly": true},
              "key": {"type": "string", "writeOnly": true, "pattern": "^k-[a-z]+$", "examples": ["k-abc"]},
              "loud": {"type": "boolean", "default": false}
            }
          }
        },
        "user": {"type": "string"},
        "token": {"type": "string", "writeOnly": true},
        "wait": {"type": "string", "x-duration": ["1s", "1h"], "default": "10s", "examples": ["10s", "1m"]},
        "mode": {"type": "string", "enum": ["open", "closed", "shut"], "default": "open", "x-strict": "closed"},
        "rate": {"type": "number", "minimum": 0.5, "maximum": 4, "default": 1.5},
        "tries": {"type": "integer", "minimum": 1, "default": 3}
      }
    },
    "store": {
      "type": "object", "additionalProperties": false, "default": {},
      "properties": {
        "limit": {"type": ["string", "integer"], "x-size": ["0B", "1TB"], "default": "0B", "x-strict": "1GB"},
        "ports": {"type": "string", "x-ports": [1024, 65535], "default": "4000-4009"},
        "names": {"type": "array", "uniqueItems": true, "items": {"type": "string"}, "default": ["*"]},
        "label": {"type": "string", "default": "", "description": "What the page shows. One line.", "not": {"const": "none"}}
      }
    }
  }
}`

type config struct {
	Link struct {
		Peers []struct {
			Host  string `json:"host"`
			Token string `json:"token"`
			Key   string `json:"key"`
			Loud  bool   `json:"loud"`
		} `json:"peers"`
		User  string        `json:"user"`
		Token string        `json:"token"`
		Wait  time.Duration `json:"wait"`
		Mode  string        `json:"mode"`
		Rate  float64       `json:"rate"`
		Tries int           `json:"tries"`
	} `json:"link"`
	Store struct {
		Limit int64            `json:"limit"`
		Ports nodeconfig.Ports `json:"ports"`
		Names []string         `json:"names"`
		Label string           `json:"label"`
	} `json:"store"`
}

func compile(t testing.TB, text string) *nodeconfig.Schema {
	s, err := nodeconfig.Compile(text)
	require.NoError(t, err)
	return s
}

const peers = `"peers": [{"host": "a", "token": "secret"}]`

// lines are the problems as they are logged, after the level.
func lines(problems []nodeconfig.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.Level.String() + " " + p.String() + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestDefaultsAndTypes(t *testing.T) {
	c, problems := nodeconfig.Parse[config](compile(t, schemaText), json.RawMessage(`{"link": {`+peers+`, "wait": null}, "store": {"limit": "1.5 MiB", "ports": "5000"}}`), nil)
	assert.Empty(t, problems)
	assert.Equal(t, 10*time.Second, c.Link.Wait)
	assert.Equal(t, "open", c.Link.Mode)
	assert.Equal(t, 1.5, c.Link.Rate)
	assert.Equal(t, 3, c.Link.Tries)
	assert.Equal(t, int64(1.5*(1<<20)), c.Store.Limit)
	assert.Equal(t, nodeconfig.Ports{First: 5000, Last: 5000}, c.Store.Ports)
	assert.Equal(t, []string{"*"}, c.Store.Names)
	assert.Equal(t, "secret", c.Link.Peers[0].Token)
}

func TestNoSchemaTakesAnything(t *testing.T) {
	var got map[string]any
	got, problems := nodeconfig.Parse[map[string]any](compile(t, ""), json.RawMessage(`{"a": {"b": [1, "x"]}, "c": 5e3}`), nil)
	assert.Empty(t, problems)
	assert.Equal(t, map[string]any{"a": map[string]any{"b": []any{1.0, "x"}}, "c": 5e3}, got)
	_, problems = nodeconfig.Parse[map[string]any](compile(t, ""), nil, nil)
	assert.Empty(t, problems)
}

// What FTP's schema does not have; for the rest see cmd/ftpnode.
func TestProblems(t *testing.T) {
	s := compile(t, schemaText)
	for _, c := range []struct{ name, link, store, want string }{
		{"no unit", `"wait": "90"`, ``, `ERROR link.wait is "90": the unit is missing; write "90s" or "10s". Using the default, 10s.`},
		{"a number that fits with no unit", `"wait": 99999999`, ``, `ERROR link.wait is 99999999: the unit is missing; write a number with a unit (ms, s, m, h), from 1s to 1h, as in "10s" or "1m". Using the default, 10s.`},
		{"a fraction", `"rate": 9.25`, ``, `ERROR link.rate is 9.25: it is more than 4; write a number from 0.5 to 4. Using the default, 1.5.`},
		{"one bound, no example", `"tries": 0`, ``, `ERROR link.tries is 0: it is less than 1. Using the default, 3.`},
		{"what only JSON Schema knows", ``, `"names": ["a", "a"], "label": "none"`,
			`ERROR store.label is "none": it is not what is expected here (What the page shows). It is left out.
ERROR store.names is a list: it is not what is expected here. Using the default, ["*"].`},
		{"a key that another one needs", `"user": "me"`, ``, `ERROR link.user is there without token; write both or neither. It is left out.`},
		{"a spelling that could be two", `"MODE": "open", "Mode": "shut"`, ``,
			`ERROR link.MODE is an unknown key; perhaps mode is meant. It is ignored. Using the strict side for link.mode, closed.
ERROR link.Mode is an unknown key; perhaps mode is meant. It is ignored.`},
		{"a spelling beside the right one", `"mode": "shut", "Mode": "open"`, ``, `ERROR link.Mode is an unknown key; perhaps mode is meant. It is ignored.`},
		{"a spelling of a value that is wrong too", `"Mode": " OPENED"`, ``,
			`WARN link.Mode is not how this key is written; write mode. It is taken as that.
ERROR link.mode is " OPENED": there is no such choice; write "open", "closed" or "shut". Using the strict side, closed.`},
		{"a key of another object", `"limit": "5GB"`, ``, `ERROR link.limit is a key that belongs elsewhere; write it as store.limit. It is ignored. Using the strict side for store.limit, 1GB.`},
		{"a key of a list's elements", ``, `"loud": true`, `ERROR store.loud is a key that belongs elsewhere; write it as link.peers[].loud. It is ignored.`},
		{"a secret that is understood", `"peers": [{"host": "a", "key": " k-abc "}]`, ``,
			`WARN link.peers[0].key is (not shown): there are blanks around it. It is understood all the same.`},
		{"elements", `"peers": [{"host": "a", "token": "secret", "loud": 7}, {"host": "b"}, "c:secret", {"token": "secret"}, {"host": "A", "key": "secret"}]`, ``,
			`ERROR link.peers[0].loud is 7: it must be true or false. Using the default, false.
ERROR link.peers[1] has neither token nor key; write one of them. This peer is left out.
ERROR link.peers[2] is text: it must be an object; write it as in {"host":"a"}. This peer is left out.
ERROR link.peers[3].host is missing; write it as in "a.example". This peer is left out.
ERROR link.peers[4].host is "A": it must not contain "A"; write it as in "a.example". This peer is left out.
ERROR link.peers[4].key is (not shown): it is not what is expected here; write it as in "k-abc". This peer is left out.`},
		{"more elements than there may be", `"peers": [{"host": "a", "token": "secret"}, {"host": "b", "token": "secret"}, {"host": "c", "token": "secret"}, {"host": "d", "token": "secret"}]`, ``,
			`WARN link.peers has 4 elements, more than 3. All of them are used.`},
		{"no element", `"peers": []`, ``, `ERROR link.peers is empty; write it as in [{"host":"a"}]. Nothing is received.`},
		{"a long value", `"mode": "` + strings.Repeat("x", 1000) + `"`, ``,
			`ERROR link.mode is "` + strings.Repeat("x", 100) + `…": there is no such choice; write "open", "closed" or "shut". Using the strict side, closed.`},
		{"a strange key", ``, `"a\n[b].c": 1`, `ERROR store."a\n[b].c" is an unknown key; the keys here are label, limit, names, ports. It is ignored.`},
	} {
		t.Run(c.name, func(t *testing.T) {
			link := peers + ", " + c.link
			if c.link == "" || strings.HasPrefix(c.link, `"peers"`) {
				link = cmp.Or(c.link, peers)
			}
			_, problems := nodeconfig.Parse[config](s, json.RawMessage(`{"link": {`+link+`}, "store": {`+c.store+`}}`), nil)
			assert.Equal(t, c.want, lines(problems))
		})
	}
}

// What an object would open that cannot be read stays closed.
func TestStrictSideOfWhatCannotBeRead(t *testing.T) {
	for _, raw := range []string{`{`, `[]`, `{"link": "open", "store": 7}`, `{"link": {"mode": 1}, "store": {"limit": {}}}`, `{"link": {"moed": "open"}, "store": {"limits": 0}}`} {
		c, problems := nodeconfig.Parse[config](compile(t, schemaText), json.RawMessage(raw), nil)
		assert.NotEmpty(t, problems, raw)
		assert.Equal(t, "closed", c.Link.Mode, raw)
		assert.Equal(t, int64(1e9), c.Store.Limit, raw)
		assert.Equal(t, 10*time.Second, c.Link.Wait, raw)
	}
}

// What is wrong with the whole of it leaves the defaults.
func TestConfigAsAWhole(t *testing.T) {
	s := compile(t, `{"type": "object", "maxProperties": 1, "properties": {"a": {"type": "integer", "default": 1}, "b": {"type": "integer", "default": 2, "x-strict": 3}}}`)
	c, problems := nodeconfig.Parse[map[string]int](s, json.RawMessage(`{"a": 7, "b": 8}`), nil)
	assert.Equal(t, "ERROR config is an object: it is not what is expected here. Its keys have their defaults, or are on the strict side.", lines(problems))
	assert.Equal(t, map[string]int{"a": 1, "b": 3}, c)
}

// A schema need not say that a config is an object.
func TestSchemaWithoutAType(t *testing.T) {
	s := compile(t, `{"properties": {"a": {"type": "integer", "default": 1}, "b": {"properties": {"c": {"default": "x"}}}}}`)
	for raw, want := range map[string]map[string]any{
		``: {"a": 1.0}, `[]`: {"a": 1.0, "b": map[string]any{"c": "x"}}, `{"b": {}}`: {"a": 1.0, "b": map[string]any{"c": "x"}}, `{"b": 7, "d": null, "e": 1}`: {"a": 1.0, "b": 7.0, "e": 1.0},
	} {
		c, _ := nodeconfig.Parse[map[string]any](s, json.RawMessage(raw), nil)
		assert.Equal(t, want, c, raw)
	}
}

func TestReport(t *testing.T) {
	raw := `{"link": {"peers": [{"host": "a"}, {"host": "b", "token": "secret"}, {"host": "c", "token": 7}, {"host": "d", "key": "k-abc"}], "wait": "20s"}, "store": {"ports": "5000"}}`
	c, problems := nodeconfig.Parse(compile(t, schemaText), json.RawMessage(raw), func(c *config, r *nodeconfig.Report) {
		require.Len(t, c.Link.Peers, 2)
		assert.Equal(t, "link.peers[1]", r.Item("link.peers", 0))
		assert.Equal(t, "link.peers[3]", r.Item("link.peers", 1))
		assert.Equal(t, []map[string]any{{"host": "a"}, {"host": "c", "token": nil}}, r.LeftOut("link.peers"))
		r.Reject("link.wait", &c.Link.Wait, "it does not go with the ports", "write less")
		r.Reject("store.limit", &c.Store.Limit, "it is not enough", "")
		r.Reject("link.token", &c.Link.Token, "it is known to others", "write another one")
	})
	assert.Equal(t, 10*time.Second, c.Link.Wait)
	assert.Equal(t, int64(1e9), c.Store.Limit)
	assert.Equal(t, `ERROR link.peers[0] has neither token nor key; write one of them. This peer is left out.
ERROR link.peers[2].token is (not shown): it must be text. This peer is left out.
ERROR link.wait is "20s": it does not go with the ports; write less. Using the default, 10s.
ERROR store.limit is 0: it is not enough. Using the strict side, 1GB.
ERROR link.token is (not shown): it is known to others; write another one. It is left out.`, lines(problems))
}

func TestLog(t *testing.T) {
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	nodeconfig.Problem{Level: slog.LevelWarn, Key: "a.b", Value: `"x"`, Rule: "it is wrong", Write: "write y", Effect: "Using the default, z"}.Log(log)
	nodeconfig.Problem{Level: slog.LevelError, Key: "a", Rule: "is missing", Effect: "Nothing runs"}.Log(log)
	assert.Equal(t, `level=WARN msg="invalid config: a.b is \"x\": it is wrong; write y. Using the default, z." key=a.b value=x
level=ERROR msg="invalid config: a is missing. Nothing runs." key=a
`, b.String())
}

func TestCompileRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": `{`, "no schema": `{"type": 7}`, "a bound that is none": `{"properties": {"a": {"x-duration": ["1s", "long"]}}}`,
		"a $ref": `{"properties": {"a": {"$ref": "#/definitions/a"}}}`, "one bound": `{"x-size": ["1B"]}`, "bounds that are no list": `{"x-ports": 7}`,
	} {
		_, err := nodeconfig.Compile(text)
		assert.ErrorContains(t, err, "schema", name)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "7": 7, "7B": 7, "1kB": 1000, "1KB": 1000, "2KiB": 2048, "5GB": 5e9, "1 GiB": 1 << 30, "1.5MB": 1500000, "0.5 KiB": 512,
		"8TiB": 8 << 40, "9223372036854775807": 1<<63 - 1, "0.1B": 0,
	} {
		got, err := nodeconfig.ParseSize(text)
		if assert.NoError(t, err, text) {
			assert.Equal(t, want, got, text)
		}
	}
	for _, text := range []string{"", "B", "GB", "1EB", "-1", "1e9", "0x10", "1_000", "1/2", "9223372036854775808", "9999999TiB", "1 2GB", "1iB", "five"} {
		_, err := nodeconfig.ParseSize(text)
		assert.Error(t, err, text)
	}
}

// Whatever stands in a config: it can be decoded, what protects is never open, unless the config says so, and no secret is told.
func FuzzParse(f *testing.F) {
	s := compile(f, schemaText)
	f.Add([]byte(`{"link": {` + peers + `, "mode": "open", "rate": 1e0}, "store": {"limit": 12, "names": ["*"]}}`))
	f.Add([]byte(`{"link": {"peers": [{"token": "secret", "Token": "secret"}, "secret", ["secret"]], "Mode": "Open", "mdoe": 1}, "Store": null}`))
	f.Add([]byte(`{"link": {"token": "secret", "tries": 1e300, "wait": "9s"}, "store": {"limit": "0", "ports": 1e4}, "link.mode": "open"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, problems := nodeconfig.Parse[config](s, raw, nil)
		require.Contains(t, []string{"open", "closed", "shut"}, c.Link.Mode)
		require.GreaterOrEqual(t, c.Link.Wait, time.Second)
		require.Positive(t, c.Link.Tries)
		for _, p := range c.Link.Peers {
			require.NotEmpty(t, p.Host)
			require.NotEqual(t, p.Token == "", p.Key == "")
		}
		for _, p := range problems {
			require.NotEmpty(t, p.Key)
			require.NotEmpty(t, p.Rule)
			require.NotEmpty(t, p.Effect)
		}
	})
}
