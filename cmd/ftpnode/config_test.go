package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/deploy"
	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
	"github.com/ftpnode/ftpnode/internal/race"
)

const oneUser = `"users": [{"name": "scanner", "password": "hunter2hunter2"}]`

// parseConfig reads a config as the node does.
func parseConfig(raw json.RawMessage) (Config, []nodeconfig.Problem) {
	return nodeconfig.Parse(schema(), raw, bridge().Check)
}

var schema = sync.OnceValue(func() *nodeconfig.Schema {
	s, err := nodeconfig.Compile(bridge().Schema)
	if err != nil {
		panic(err)
	}
	return s
})

// lines are the problems, as they are logged behind "invalid config: ".
func lines(problems []nodeconfig.Problem) string {
	var list []string
	for _, p := range problems {
		list = append(list, p.Level.String()+" "+p.String())
	}
	return strings.Join(list, "\n")
}

func problemKeys(problems []nodeconfig.Problem) []string {
	var list []string
	for _, p := range problems {
		list = append(list, p.Key)
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
	assert.Equal(t, Config{
		FTP: FTPConfig{
			Users:        []UserConfig{{Name: "scanner", Password: "hunter2hunter2", Directory: "scanner"}},
			PassivePorts: nodeconfig.Ports{First: 30000, Last: 30009}, TLS: "optional",
			IdleTimeout: 5 * time.Minute, StallTimeout: time.Minute, LoginTimeout: time.Minute,
			MaxConnections: 200, MaxConnectionsPerAddress: 20, CheckDataAddress: true,
		},
		Files: FilesConfig{
			Ignore:      []string{"*.tmp", "*.part", "*.filepart", ".*"},
			Acknowledge: "auto", AcknowledgeTimeout: 8 * time.Second,
			Settle: time.Second, Quiet: 10 * time.Second, MaxSize: 5e9, MinFree: 1e9,
			PartialExpiry: 72 * time.Hour, MaxFiles: 1000000, MaxFolders: 10000, MaxTotal: 150000,
		},
		Message: MessageConfig{Content: "auto", ContentField: "content", URLField: "contentUrl", Order: "node"},
	}, c)
}

// Each mistake is told in one line, and changes nothing but what it names: what can mean only one thing is understood, what protects falls back to
// the strict side, and the rest to its default.
func TestMistakes(t *testing.T) {
	cases := []struct {
		name, config string
		change       func(c *Config) // of the defaults, by the mistake
		lines        string
	}{
		{"the unit is missing", `{"ftp": {` + oneUser + `, "idleTimeout": "300"}}`, nil,
			`ERROR ftp.idleTimeout is "300": the unit is missing; write "300s" or "5m". Using the default, 5m.`},
		{"the unit is missing, a number", `{"ftp": {` + oneUser + `, "idleTimeout": 300}}`, nil,
			`ERROR ftp.idleTimeout is 300: the unit is missing; write "300s" or "5m". Using the default, 5m.`},
		{"the unit is missing, milliseconds are near", `{"ftp": {` + oneUser + `}, "files": {"settle": 5000}}`, nil,
			`ERROR files.settle is 5000: the unit is missing; write "5000ms" or "1s". Using the default, 1s.`},
		{"a duration in words", `{"ftp": {` + oneUser + `, "idleTimeout": "6 Minutes"}}`, func(c *Config) { c.FTP.IdleTimeout = 6 * time.Minute },
			`WARN ftp.idleTimeout is "6 Minutes": that is not how it is written; write "6m". It is taken as that.`},
		{"a duration with blanks", `{"ftp": {` + oneUser + `, "idleTimeout": " 6 M "}}`, func(c *Config) { c.FTP.IdleTimeout = 6 * time.Minute },
			`WARN ftp.idleTimeout is " 6 M ": that is not how it is written; write "6m". It is taken as that.`},
		{"no duration", `{"ftp": {` + oneUser + `, "idleTimeout": "soon"}}`, nil,
			`ERROR ftp.idleTimeout is "soon": it is not a duration; write a number with a unit (ms, s, m, h), from 10s to 24h, as in "5m" or "1h30m". Using the default, 5m.`},
		{"a duration that is too short", `{"ftp": {` + oneUser + `, "idleTimeout": "5ms"}}`, nil,
			`ERROR ftp.idleTimeout is "5ms": it is below 10s; write a number with a unit (ms, s, m, h), from 10s to 24h, as in "5m" or "1h30m". Using the default, 5m.`},
		{"a duration that is too long", `{"ftp": {` + oneUser + `, "idleTimeout": "25h"}}`, nil,
			`ERROR ftp.idleTimeout is "25h": it is above 24h; write a number with a unit (ms, s, m, h), from 10s to 24h, as in "5m" or "1h30m". Using the default, 5m.`},
		{"an object for a duration", `{"ftp": {` + oneUser + `, "stallTimeout": {"seconds": 5}}}`, nil,
			`ERROR ftp.stallTimeout is an object: it is not a duration; write a number with a unit (ms, s, m, h), from 5s to 1h, as in "60s" or "5m". Using the default, 60s.`},
		{"no size", `{"ftp": {` + oneUser + `}, "files": {"maxSize": "5 gigs"}}`, nil,
			`ERROR files.maxSize is "5 gigs": it is not a size; write a number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), from 1B to 100GB, as in "5GB", "500MiB" or 1048576. Using the default, 5GB.`},
		{"half a unit of size", `{"ftp": {` + oneUser + `}, "files": {"maxSize": "5G"}}`, nil,
			`ERROR files.maxSize is "5G": it is not a size; write a number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), from 1B to 100GB, as in "5GB", "500MiB" or 1048576. Using the default, 5GB.`},
		{"a size in another case", `{"ftp": {` + oneUser + `}, "files": {"maxSize": "6 gb"}}`, func(c *Config) { c.Files.MaxSize = 6e9 },
			`WARN files.maxSize is "6 gb": that is not how it is written; write "6GB". It is taken as that.`},
		{"a size of nothing", `{"ftp": {` + oneUser + `}, "files": {"maxSize": "0.1B"}}`, nil,
			`ERROR files.maxSize is "0.1B": it is below 1B; write a number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), from 1B to 100GB, as in "5GB", "500MiB" or 1048576. Using the default, 5GB.`},
		{"a fraction of a byte", `{"ftp": {` + oneUser + `}, "files": {"maxSize": 1.5}}`, nil,
			`ERROR files.maxSize is 1.5: it must be a whole number or text; write it as in "5GB", "500MiB" or 1048576. Using the default, 5GB.`},
		{"a negative size", `{"ftp": {` + oneUser + `}, "files": {"minFree": -1}}`, nil,
			`ERROR files.minFree is -1: it is negative; write a number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), from 0B to 100TB, as in "1GB" or "200MB". Using the default, 1GB.`},
		{"a limit that is no size", `{"ftp": {` + oneUser + `}, "files": {"spoolLimit": "twenty"}}`, func(c *Config) { c.Files.SpoolLimit = 10e9 },
			`ERROR files.spoolLimit is "twenty": it is not a size; write a number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB, TiB), from 0B to 1000TB, as in "50GB". Using the strict side, 10GB.`},
		{"a fraction", `{"ftp": {` + oneUser + `, "maxConnections": 1.5}}`, nil,
			`ERROR ftp.maxConnections is 1.5: it must be a whole number; write a number from 1 to 10000, as in 500. Using the default, 200.`},
		{"too few", `{"ftp": {` + oneUser + `, "maxConnections": 0}}`, nil,
			`ERROR ftp.maxConnections is 0: it is less than 1; write a number from 1 to 10000, as in 500. Using the default, 200.`},
		{"too many", `{"ftp": {` + oneUser + `, "maxConnections": 1e9}}`, nil,
			`ERROR ftp.maxConnections is 1000000000: it is more than 10000; write a number from 1 to 10000, as in 500. Using the default, 200.`},
		{"a number in quotes", `{"ftp": {` + oneUser + `, "maxConnections": " 50"}}`, func(c *Config) { c.FTP.MaxConnections = 50 },
			`WARN ftp.maxConnections is " 50": it must be a number, without quotes; write 50. It is taken as that.`},
		{"a number in quotes that is too high", `{"ftp": {` + oneUser + `, "maxConnections": "99999999"}}`, nil,
			`ERROR ftp.maxConnections is 99999999: it is more than 10000; write a number from 1 to 10000, as in 500. Using the default, 200.`},
		{"no number", `{"ftp": {` + oneUser + `, "maxConnectionsPerAddress": "many"}}`, nil,
			`ERROR ftp.maxConnectionsPerAddress is "many": it must be a whole number; write a number from 1 to 10000, as in 100. Using the default, 20.`},
		{"no such choice", `{"ftp": {` + oneUser + `, "tls": "yes"}}`, func(c *Config) { c.FTP.TLS = "required" },
			`ERROR ftp.tls is "yes": there is no such choice; write "off", "optional", "required" or "implicit". Using the strict side, required.`},
		{"a choice in another case", `{"ftp": {` + oneUser + `, "tls": " Implicit "}}`, func(c *Config) { c.FTP.TLS = "implicit" },
			`WARN ftp.tls is " Implicit ": that is not how it is written; write "implicit". It is taken as that.`},
		{"true for a choice", `{"ftp": {` + oneUser + `, "tls": true}}`, func(c *Config) { c.FTP.TLS = "required" },
			`ERROR ftp.tls is true: it must be text; write it as in "required". Using the strict side, required.`},
		{"a key in another case", `{"ftp": {` + oneUser + `, "TLS": "OFF"}}`, func(c *Config) { c.FTP.TLS = "off" },
			`WARN ftp.TLS is not how this key is written; write tls. It is taken as that.
WARN ftp.tls is "OFF": that is not how it is written; write "off". It is taken as that.`},
		{"a key twice, neither time right", `{"ftp": {` + oneUser + `, "TLS": "off", "Tls": "required"}}`, func(c *Config) { c.FTP.TLS = "required" },
			`ERROR ftp.TLS is an unknown key; perhaps tls is meant. It is ignored. Using the strict side for ftp.tls, required.
ERROR ftp.Tls is an unknown key; perhaps tls is meant. It is ignored.`},
		{"a slip in the key of what protects", `{"ftp": {` + oneUser + `, "tsl": "off"}}`, func(c *Config) { c.FTP.TLS = "required" },
			`ERROR ftp.tsl is an unknown key; perhaps tls is meant. It is ignored. Using the strict side for ftp.tls, required.`},
		{"a key of another section, of what protects", `{"ftp": {` + oneUser + `}, "files": {"tls": "off"}}`, func(c *Config) { c.FTP.TLS = "required" },
			`ERROR files.tls is a key that belongs elsewhere; write it as ftp.tls. It is ignored. Using the strict side for ftp.tls, required.`},
		{"a key at the top that belongs below", `{"ftp": {` + oneUser + `}, "tls": "required"}`, nil,
			`WARN tls is a key that belongs elsewhere; write it as ftp.tls. It is ignored.`},
		{"true in quotes", `{"ftp": {` + oneUser + `, "trustHangups": "Yes"}}`, func(c *Config) { c.FTP.TrustHangups = true },
			`WARN ftp.trustHangups is "Yes": it must be true or false, without quotes; write true. It is taken as that.`},
		{"neither true nor false", `{"ftp": {` + oneUser + `, "checkDataAddress": "nein"}}`, nil,
			`ERROR ftp.checkDataAddress is "nein": it must be true or false. Using the default, true.`},
		{"neither true nor false, of what opens", `{"ftp": {` + oneUser + `, "activeMode": 1}}`, nil,
			`ERROR ftp.activeMode is 1: it must be true or false. Using the default, false.`},
		{"a range of ports that is reversed", `{"ftp": {` + oneUser + `, "passivePorts": "30009-30000"}}`, nil,
			`ERROR ftp.passivePorts is "30009-30000": the range is reversed; write "30000-30009". Using the default, 30000-30009.`},
		{"a range of ports with blanks", `{"ftp": {` + oneUser + `, "passivePorts": "40000 - 40009"}}`, func(c *Config) { c.FTP.PassivePorts = nodeconfig.Ports{First: 40000, Last: 40009} },
			`WARN ftp.passivePorts is "40000 - 40009": that is not how it is written; write "40000-40009". It is taken as that.`},
		{"a port without quotes", `{"ftp": {` + oneUser + `, "passivePorts": 40000}}`, func(c *Config) { c.FTP.PassivePorts = nodeconfig.Ports{First: 40000, Last: 40000} },
			`WARN ftp.passivePorts is 40000: that is not how it is written; write "40000". It is taken as that.`},
		{"a port above 65535", `{"ftp": {` + oneUser + `, "passivePorts": "70000"}}`, nil,
			`ERROR ftp.passivePorts is "70000": it is above 65535; write a port, or the first and the last of a range, from 1024 to 65535, as in "30000-30009" or "40000". Using the default, 30000-30009.`},
		{"a port below 1024", `{"ftp": {` + oneUser + `, "passivePorts": "1000-2000"}}`, nil,
			`ERROR ftp.passivePorts is "1000-2000": it is below 1024; write a port, or the first and the last of a range, from 1024 to 65535, as in "30000-30009" or "40000". Using the default, 30000-30009.`},
		{"no ports", `{"ftp": {` + oneUser + `, "passivePorts": "all"}}`, nil,
			`ERROR ftp.passivePorts is "all": it is not a range of ports; write a port, or the first and the last of a range, from 1024 to 65535, as in "30000-30009" or "40000". Using the default, 30000-30009.`},
		{"half an address", `{"ftp": {` + oneUser + `, "publicAddress": "192.0.2"}}`, nil,
			`ERROR ftp.publicAddress is "192.0.2": it is neither an IPv4 address nor a host name; write it as in "192.0.2.10" or "ftp.example.com". Clients are told the address on which their connection came in.`},
		{"no host name", `{"ftp": {` + oneUser + `, "publicAddress": "a..b"}}`, nil,
			`ERROR ftp.publicAddress is "a..b": it is neither an IPv4 address nor a host name; write it as in "192.0.2.10" or "ftp.example.com". Clients are told the address on which their connection came in.`},
		{"an address of IPv6", `{"ftp": {` + oneUser + `, "publicAddress": "2001:db8::1"}}`, nil,
			`ERROR ftp.publicAddress is "2001:db8::1": it must not contain ":"; write it as in "192.0.2.10" or "ftp.example.com". Clients are told the address on which their connection came in.`},
		{"an address with blanks", `{"ftp": {` + oneUser + `, "publicAddress": " 192.0.2.10"}}`, func(c *Config) { c.FTP.PublicAddress = "192.0.2.10" },
			`WARN ftp.publicAddress is " 192.0.2.10": there are blanks around it; write "192.0.2.10". It is taken as that.`},
		{"a banner of two lines", `{"ftp": {` + oneUser + `, "banner": "a\nb"}}`, nil,
			`ERROR ftp.banner is "a\nb": it must not contain "\n"; write it as in "Plant 7, drop box". It is left out.`},
		{"a long banner", `{"ftp": {` + oneUser + `, "banner": "` + strings.Repeat("x", 201) + `"}}`, nil,
			`ERROR ftp.banner is "` + strings.Repeat("x", 100) + `…": it has 201 characters, more than 200; write less. It is left out.`},
		{"a certificate alone", `{"ftp": {` + oneUser + `, "certificate": "/tls/c.pem"}}`, nil,
			`ERROR ftp.certificate is there without privateKey; write both or neither. A self-signed certificate is used.`},
		{"a key alone", `{"ftp": {` + oneUser + `, "privateKey": "-----BEGIN hunter2"}}`, nil,
			`ERROR ftp.privateKey is there without certificate; write both or neither. A self-signed certificate is used.`},
		{"half a pair empty", `{"ftp": {` + oneUser + `, "certificate": "/tls/c.pem", "privateKey": ""}}`, nil,
			`ERROR ftp.certificate is (not shown): it is without its pair; write a certificate chain and its private key, both as PEM text or as the paths of PEM files. A self-signed certificate is used.`},
		{"no certificate in the PEM", `{"ftp": {` + oneUser + `, "certificate": "-----BEGIN CERTIFICATE-----", "privateKey": "-----BEGIN KEY-----"}}`, nil,
			`ERROR ftp.certificate is (not shown): it cannot be used with ftp.privateKey (tls: failed to find any PEM data in certificate input); write a certificate chain and its private key, both as PEM text or as the paths of PEM files. A self-signed certificate is used.`},
		{"a slip in a key", `{"ftp": {` + oneUser + `, "idleTiemout": "6m"}}`, nil,
			`ERROR ftp.idleTiemout is an unknown key; perhaps idleTimeout is meant. It is ignored.`},
		{"a key with another spelling", `{"ftp": {` + oneUser + `, "idle_timeout": "6m"}}`, func(c *Config) { c.FTP.IdleTimeout = 6 * time.Minute },
			`WARN ftp.idle_timeout is not how this key is written; write idleTimeout. It is taken as that.`},
		{"a key of another section", `{"ftp": {` + oneUser + `, "settle": "6m"}}`, nil,
			`ERROR ftp.settle is a key that belongs elsewhere; write it as files.settle. It is ignored.`},
		{"a user's key outside of the users", `{"ftp": {` + oneUser + `, "password": "hunter2hunter2"}}`, nil,
			`ERROR ftp.password is a key that belongs elsewhere; write it as ftp.users[].password. It is ignored.`},
		{"a key unlike any", `{"ftp": {` + oneUser + `}, "bulk": {"colour": 1}}`, nil,
			`ERROR bulk.colour is an unknown key; the keys here are accelerate. It is ignored.`},
		{"text for a section", `{"ftp": {` + oneUser + `}, "bulk": "fast"}`, nil,
			`ERROR bulk is text: it must be an object; write it as in {"accelerate":true}. Its keys have their defaults, or are on the strict side.`},
		{"a pattern that is none", `{"ftp": {` + oneUser + `}, "files": {"ignore": ["*.tmp", 7, "*.part", "*.filepart", ".*", "[a"]}}`, nil,
			`ERROR files.ignore[1] is 7: it must be text; write it as in "*.tmp". This pattern is left out.
ERROR files.ignore[5] is "[a": a [ or a \ has no end; write it as in "*.tmp" or "[0-9]*". This pattern is left out.`},
		{"text for a list", `{"ftp": {` + oneUser + `}, "files": {"ignore": "*.uploading"}}`, nil,
			`ERROR files.ignore is text: it must be a list; write it as in ["*.tmp","~*"]. Using the default, ["*.tmp","*.part","*.filepart",".*"].`},
		{"the same field twice", `{"ftp": {` + oneUser + `}, "message": {"contentField": "a", "urlField": "a"}}`, nil,
			`ERROR message.contentField is "a": it is the same as urlField; write another one for each. Using the default, content.
ERROR message.urlField is "a": it is the same as contentField; write another one for each. Using the default, contentUrl.`},
		{"a field that the message has", `{"ftp": {` + oneUser + `}, "message": {"contentField": "name"}}`, nil,
			`ERROR message.contentField is "name": the message has this key already; write another one. Using the default, content.`},
		{"a field with a blank", `{"ftp": {` + oneUser + `}, "message": {"contentField": "a b"}}`, nil,
			`ERROR message.contentField is "a b": it must not contain " "; write it as in "content" or "data". Using the default, content.`},
		{"a field that begins with a digit", `{"ftp": {` + oneUser + `}, "message": {"contentField": "1b"}}`, nil,
			`ERROR message.contentField is "1b": it is not what is expected here (The message's key for the content itself (base64)); write it as in "content" or "data". Using the default, content.`},
		{"no such order", `{"ftp": {` + oneUser + `}, "message": {"order": "files"}}`, nil,
			`ERROR message.order is "files": there is no such choice; write "node", "user" or "file". Using the default, node.`},
		{"a page without a password", `{"ftp": {` + oneUser + `}, "status": {"port": 8443}}`, nil,
			`ERROR status.port is there without password; write both or neither. There is no status page.`},
		{"a password without a port", `{"ftp": {` + oneUser + `}, "status": {"password": "hunter2hunter2"}}`, nil,
			`ERROR status.password is there without port; write both or neither. There is no status page.`},
		{"a page on a passive port", `{"ftp": {` + oneUser + `}, "status": {"port": 30005, "password": "hunter2hunter2"}}`, func(c *Config) { c.Status.Password = "hunter2hunter2" },
			`ERROR status.port is 30005: it is one of ftp.passivePorts; write a port outside of them. There is no status page.`},
		{"a section of another spelling", `{"ftp": {` + oneUser + `}, "Files": {"settle": "5s"}}`, nil,
			`WARN Files is an unknown key; perhaps files is meant. It is ignored.`},
		{"a key for others", `{"ftp": {` + oneUser + `}, "smtp_relay": {"password": "hunter2hunter2"}}`, nil,
			`INFO smtp_relay is an unknown key. It is ignored.`},
	}
	var all []string
	for _, c := range cases {
		all = append(all, strings.Split(c.lines, "\n")...)
	}
	doc, err := os.ReadFile("../../deploy/CONFIG.md")
	require.NoError(t, err)
	shown := regexp.MustCompile(`(?m)^ *\[(ERROR|WARN)(?:ING)?\] invalid config: (.*)$`).FindAllSubmatch(doc, -1)
	assert.GreaterOrEqual(t, len(shown), 4)
	for _, line := range shown {
		assert.Contains(t, all, string(line[1])+" "+string(line[2]), "CONFIG.md")
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			want, _ := parseConfig(json.RawMessage(`{"ftp": {` + oneUser + `}}`))
			if c.change != nil {
				c.change(&want)
			}
			got, problems := parseConfig(json.RawMessage(c.config))
			assert.Equal(t, c.lines, lines(problems))
			assert.Equal(t, want, got)
			assert.NotContains(t, lines(problems), "hunter2", "no secret")
		})
	}
}

func TestBadUsers(t *testing.T) {
	const good = `{"name": "good", "password": "hunter2hunter2"}`
	bcrypt := "$2y$10$" + strings.Repeat("a", 53)
	cases := []struct{ name, user, lines string }{
		{"no password", `{"name": "a"}`, `ftp.users[1] has neither password nor passwordHash; write one of them`},
		{"two passwords", `{"name": "a", "password": "hunter2hunter2", "passwordHash": "` + bcrypt + `"}`, `ftp.users[1] has more than one of password and passwordHash; write one of them only`},
		{"no name", `{"password": "hunter2hunter2"}`, `ftp.users[1].name is missing; write it as in "scanner" or "plant-7"`},
		{"empty name", `{"name": "", "password": "hunter2hunter2"}`, `ftp.users[1].name is "": it is shorter than 1; write it as in "scanner" or "plant-7"`},
		{"line break in the name", `{"name": "a\nb", "password": "hunter2hunter2"}`, `ftp.users[1].name is "a\nb": it must not contain "\n"; write it as in "scanner" or "plant-7"`},
		{"text for a user", `"scanner:hunter2hunter2"`, `ftp.users[1] is text: it must be an object; write it as in {"name":"scanner","password":"a long one"}`},
		{"null for a user", `null`, `ftp.users[1] is null: it must be an object; write it as in {"name":"scanner","password":"a long one"}`},
		{"number for a password", `{"name": "a", "password": 123456}`, `ftp.users[1].password is (not shown): it must be text; write it as in "a long one"`},
		{"empty password", `{"name": "a", "password": ""}`, `ftp.users[1].password is (not shown): it is shorter than 1; write it as in "a long one"`},
		{"hash of another kind", `{"name": "a", "passwordHash": "5f4dcc3b5aa765d61d8327deb882cf99"}`,
			`ftp.users[1].passwordHash is (not shown): it is not what is expected here (The password's hash: bcrypt ($2y$…, as htpasswd -B prints it) or argon2id ($argon2id$…)); write it as in "$2y$10$abcdefghijklmnopqrstuuC4vKhKZ5dGkfr/1ZAMb4I4kUg1ohyZy"`},
		{"name taken", `{"name": "good", "password": "x", "directory": "b"}`, `ftp.users[1].name is "good": another user has this name; write one that no other user has`},
		{"directory taken", `{"name": "a", "password": "x", "directory": "good"}`, `ftp.users[1].directory is "good": the user "good" has "good"; write a directory of its own`},
		{"directory inside another", `{"name": "a", "password": "x", "directory": "good/sub"}`, `ftp.users[1].directory is "good/sub": the user "good" has "good"; write a directory of its own`},
		{"directory that leaves", `{"name": "a", "password": "x", "directory": "../b"}`, notClean("../b")},
		{"absolute directory", `{"name": "a", "password": "x", "directory": "/b"}`, notClean("/b")},
		{"directory not clean", `{"name": "a", "password": "x", "directory": "b//c/"}`, notClean("b//c/")},
		{"hidden directory", `{"name": "a", "password": "x", "directory": "b/.c"}`, notClean("b/.c")},
		{"long directory", `{"name": "a", "password": "x", "directory": "` + strings.Repeat("b", 256) + `"}`,
			`ftp.users[1].directory is "` + strings.Repeat("b", 100) + `…": it has 256 characters, more than 255; write less`},
		{"backslash in the directory", `{"name": "a", "password": "x", "directory": "b\\c"}`, `ftp.users[1].directory is "b\\c": it must not contain "\\"; write it as in "scanner" or "plant-7/line-2"`},
		{"name that is no directory", `{"name": "a/../b", "password": "x"}`, `ftp.users[1].directory is missing, and the name "a/../b" cannot be one; write it as in "scanner"`},
		{"number for a directory", `{"name": "a", "password": "x", "directory": 7}`, `ftp.users[1].directory is 7: it must be text; write it as in "scanner" or "plant-7/line-2"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, more := range []string{"", `, {"name": "z", "passwordHash": "` + bcrypt + `"}`} {
				got, problems := parseConfig(json.RawMessage(`{"ftp": {"users": [` + good + "," + c.user + more + `]}}`))
				assert.Equal(t, "ERROR "+c.lines+". This user is left out.", lines(problems))
				want := []string{"good"}
				if more != "" {
					want = append(want, "z")
				}
				assert.Equal(t, want, names(got))
			}
		})
	}
}

func notClean(directory string) string {
	return fmt.Sprintf(`ftp.users[1].directory is %q: it must have no "..", no "/" at its ends and no part that begins with a dot; write it as in "scanner" or "plant-7/line-2"`, directory)
}

// What is optional of a user, and has a safe default, keeps nobody out.
func TestUsersThatStay(t *testing.T) {
	for user, want := range map[string]string{
		`"readable": 1`:       "ERROR ftp.users[0].readable is 1: it must be true or false. Using the default, false.",
		`"readable": "yes"`:   "WARN ftp.users[0].readable is \"yes\": it must be true or false, without quotes; write true. It is taken as that.",
		`"pasword": "hunter"`: "ERROR ftp.users[0].pasword is an unknown key; perhaps password is meant. It is ignored.",
		`"tls": "hunter"`:     "ERROR ftp.users[0].tls is a key that belongs elsewhere; write it as ftp.tls. It is ignored. Using the strict side for ftp.tls, required.",
		`"PASSWORD": null`:    "",
	} {
		got, problems := parseConfig(json.RawMessage(`{"ftp": {"users": [{"name": "a", "password": "hunter2hunter2", ` + user + `}]}}`))
		assert.Equal(t, want, lines(problems), user)
		require.Equal(t, []string{"a"}, names(got), user)
		assert.Equal(t, strings.Contains(user, "yes"), got.FTP.Users[0].Readable, user)
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
		`{` + press + `, "passwordHash": "x", "readable": 7}`:                    "press plant-7/press",
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
		assert.Equal(t, nodeconfig.Ports{First: 30000, Last: 30009}, got.FTP.PassivePorts, config)
		assert.Equal(t, slog.LevelError, problems[0].Level, config)
	}
	_, problems := parseConfig(nil)
	assert.Equal(t, `ERROR ftp.users is missing; write it as in [{"name":"scanner","password":"a long one"}]. FTP refuses all log-ins until the node's config has a user.`, lines(problems))
}

// The config is merged from the tenant's, the app's and the node's: what is meant for others is no fault, and is not put right.
func TestOtherKeysAtTheTop(t *testing.T) {
	got, problems := parseConfig(json.RawMessage(`{"ftp": {` + oneUser + `}, "smtp_relay": {"password": "hunter2hunter2"}, "file": {}, "Message": {"order": "user"}, "name": "x"}`))
	assert.Equal(t, `WARN Message is an unknown key; perhaps message is meant. It is ignored.
WARN file is an unknown key; perhaps files is meant. It is ignored.
INFO name is an unknown key. It is ignored.
INFO smtp_relay is an unknown key. It is ignored.`, lines(problems))
	assert.Equal(t, "node", got.Message.Order)
}

func TestManyProblemsAtOnce(t *testing.T) {
	got, problems := parseConfig(json.RawMessage(`{"ftp": {"users": [{"name": "a"}, {"name": "b", "password": "x"}], "tls": 1, "x": 1},
		"files": {"settle": "soon", "quiet": "20s"}, "message": {"order": "user"}}`))
	assert.ElementsMatch(t, []string{"ftp.users[0]", "ftp.tls", "ftp.x", "files.settle"}, problemKeys(problems))
	assert.Equal(t, []string{"b"}, names(got))
	assert.Equal(t, 20*time.Second, got.Files.Quiet)
	assert.Equal(t, time.Second, got.Files.Settle)
	assert.Equal(t, "user", got.Message.Order)
}

// schemaTree is the schema as it stands in the file.
func schemaTree(t testing.TB) map[string]any {
	var tree map[string]any
	require.NoError(t, json.Unmarshal([]byte(deploy.ConfigSchema()), &tree))
	return tree
}

// The bounds that the program checks are the ones that the schema's readers see, and what stands in keeps them.
func TestQuantitiesAreDescribed(t *testing.T) {
	bounded := 0
	walk(nil, schemaTree(t), func(loc []string, node map[string]any) {
		p := strings.Join(loc, ".")
		var bounds []any
		for _, keyword := range []string{"x-duration", "x-size", "x-ports"} {
			if b, ok := node[keyword].([]any); ok {
				bounds = b
			}
		}
		pattern, _ := node["pattern"].(string)
		is := strings.Contains(pattern, "(ms|s|m|h)") || strings.Contains(pattern, "iB)") || strings.HasPrefix(pattern, "^[0-9]{4,5}")
		require.Equal(t, is, bounds != nil, p)
		if !is {
			return
		}
		bounded++
		assert.Contains(t, node["description"], fmt.Sprintf("From %v to %v.", bounds[0], bounds[1]), p)
		for _, value := range append(bounds, node["default"], node["x-strict"]) {
			if value != nil {
				_, problems := parseConfig(with(t, loc, fmt.Sprint(value)))
				assert.NotContains(t, problemKeys(problems), p, "%v", value)
			}
		}
	})
	assert.Equal(t, 11, bounded)
}

// Whoever reads the schema in EchoStream's console finds every key explained, and every example is valid.
func TestSchemaIsComplete(t *testing.T) {
	tree := schemaTree(t)
	assert.Equal(t, "http://json-schema.org/draft-07/schema#", tree["$schema"])
	noDefault := map[string]bool{"ftp": true, "ftp.users": true, "ftp.users.[]": true, "ftp.users.[].name": true, "ftp.users.[].password": true,
		"ftp.users.[].passwordHash": true, "ftp.users.[].directory": true, "files.ignore.[]": true, "status.password": true}
	var seen []string
	walk(nil, tree, func(loc []string, node map[string]any) {
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
					assert.NotEqual(t, p, problem.Key, "%v", problem)
				}
			}
		}
	})
	assert.Greater(t, len(seen), 30)
}

func walk(loc []string, node map[string]any, visit func([]string, map[string]any)) {
	visit(loc, node)
	child := func(key string) []string { return append(slices.Clone(loc), key) }
	properties, _ := node["properties"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		walk(child(key), properties[key].(map[string]any), visit)
	}
	if items, ok := node["items"].(map[string]any); ok {
		walk(child("[]"), items, visit)
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
	if f, ok := value.(map[string]any)["status"].(map[string]any); ok && len(f) == 1 {
		f["port"], f["password"] = cmp.Or(f["port"], any(8443)), cmp.Or(f["password"], any("a long one"))
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
		require.NotContains(t, lines(problems), "hunter2", "no secret")
		for _, u := range c.FTP.Users {
			require.True(t, cleanDirectory(u.Directory))
			require.NotEqual(t, u.Password == "", u.PasswordHash == "")
		}
	})
}

// slips are what people do to a value, or to a key: it means the same, or cannot be understood.
var (
	valueSlips = []func(any) any{
		func(v any) any { return []any{v} },
		func(v any) any { return map[string]any{"value": v} },
		func(v any) any { return true },
		func(v any) any { return -1.5 },
		func(v any) any { return "nonsense" },
		func(v any) any { return "" },
		func(v any) any { return []any{} },
		func(v any) any { return textOf(v, func(s string) string { return " " + s + "\n" }) },
		func(v any) any { return textOf(v, strings.ToUpper) },
		func(v any) any { return textOf(v, func(s string) string { return s + s }) },
	}
	keySlips = []func(string) string{
		strings.ToUpper,
		func(k string) string { return strings.ToUpper(k[:1]) + k[1:] },
		func(k string) string { return k[1:] },
		func(k string) string { return k[:len(k)-1] },
		func(k string) string { return k + k[len(k)-1:] },
		func(k string) string { return k[:1] + "_" + k[1:] },
		func(k string) string { return k[1:2] + k[:1] + k[2:] },
	}
)

// slipped are the keys that slips are made in.
var slipped = map[string]bool{
	"ftp": true, "files": true, "status": true, "tls": true, "maxConnections": true, "idleTimeout": true, "checkDataAddress": true, "activeMode": true, "passivePorts": true,
	"users": true, "name": true, "password": true, "passwordHash": true, "directory": true, "readable": true, "spoolLimit": true, "ignore": true, "maxSize": true, "port": true,
}

func textOf(v any, change func(string) string) any {
	if s, ok := v.(string); ok {
		return change(s)
	}
	return fmt.Sprint(v)
}

// slip changes what stands somewhere in value, as the bytes of choices say.
func slip(value any, choices *[]byte) any {
	next := func(n int) int {
		if len(*choices) == 0 || n == 0 {
			return 0
		}
		c := int((*choices)[0]) % n
		*choices = (*choices)[1:]
		return c
	}
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 || next(8) == 7 {
			break
		}
		key := slices.Sorted(maps.Keys(v))[next(len(v))]
		if !slipped[key] || next(3) > 0 { // one slip in a key is all that can be made out
			v[key] = slip(v[key], choices)
			return v
		}
		member := v[key]
		delete(v, key)
		v[keySlips[next(len(keySlips))](key)] = member
		return v
	case []any:
		if len(v) == 0 || next(4) == 3 {
			break
		}
		i := next(len(v))
		v[i] = slip(v[i], choices)
		return v
	}
	return valueSlips[next(len(valueSlips))](value)
}

// No slip opens what a config closes, keeps the node from running, or tells a password. The race detector has nothing to see here, and
// gets a tenth of them; .ci/run tries all.
func TestSlips(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	slips := 3000
	if race.Enabled {
		slips /= 10
	}
	for i := range slips {
		choices := make([]byte, 1+i%40)
		for i := range choices {
			choices[i] = byte(random.Uint32())
		}
		requireClosed(t, choices, uint8(i))
	}
}

func FuzzSlips(f *testing.F) {
	f.Add([]byte("0123456789"), uint8(2))
	f.Fuzz(requireClosed)
}

func requireClosed(t *testing.T, choices []byte, mode uint8) {
	modes := []string{"off", "optional", "required", "implicit"}
	strength := map[string]int{"off": 0, "optional": 1, "required": 2, "implicit": 2}
	want := modes[int(mode)%len(modes)]
	var doc any = map[string]any{
		"ftp": map[string]any{
			"tls": want, "maxConnections": 7.0, "idleTimeout": "30s", "checkDataAddress": true, "activeMode": false, "passivePorts": "40000-40009",
			"users": []any{
				map[string]any{"name": "scanner", "password": "hunter2hunter2", "directory": "plant-7"},
				map[string]any{"name": "press", "passwordHash": "$2y$10$hunter2" + strings.Repeat("a", 46), "readable": false},
			},
		},
		"files":  map[string]any{"spoolLimit": "20GB", "ignore": []any{"*.uploading"}, "maxSize": 1e6},
		"status": map[string]any{"port": 8443.0, "password": "hunter2hunter2"},
	}
	for range 1 + len(choices)/16 {
		doc = slip(doc, &choices)
	}
	config, _ := doc.(map[string]any)
	raw, err := json.Marshal(doc)
	require.NoError(t, err)
	c, problems := parseConfig(raw)
	text := string(raw) + "\n" + lines(problems)
	if ftp, ok := config["ftp"].(map[string]any); ok {
		if _, ok := ftp["users"].([]any); ok { // else nobody can log in
			require.GreaterOrEqual(t, strength[c.FTP.TLS], strength[want], text)
		}
		require.True(t, c.FTP.CheckDataAddress, text)
		require.LessOrEqual(t, c.FTP.IdleTimeout, 5*time.Minute, text)
	}
	require.Positive(t, c.FTP.MaxConnections, text)
	require.LessOrEqual(t, c.FTP.MaxConnections, 200, text)
	if files, ok := config["files"].(map[string]any); config["files"] != nil && (!ok || len(files) == 3) {
		require.Positive(t, c.Files.SpoolLimit, text)
	}
	for _, u := range c.FTP.Users {
		require.NotEqual(t, u.Password == "", u.PasswordHash == "", text)
	}
	require.NotContains(t, strings.ToLower(lines(problems)), "hunter2", text)
	require.False(t, strings.ContainsFunc(strings.ReplaceAll(lines(problems), "\n", ""), unicode.IsControl), text)
}
