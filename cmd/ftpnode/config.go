package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ftpnode/ftpnode/echostream/echofile"
)

// Config is the config of the node, valid throughout and with every default in place. deploy/config.schema.json says
// what each key means.
type Config struct {
	FTP     FTPConfig     `json:"ftp"`
	Files   FilesConfig   `json:"files"`
	Message MessageConfig `json:"message"`
	Bulk    BulkConfig    `json:"bulk"`
	Status  StatusConfig  `json:"status"`
}

// FTPConfig says who may log in, and how clients reach the node.
type FTPConfig struct {
	Users                    []*UserConfig `json:"users"`
	LeftOut                  []*UserConfig `json:"-"` // may not log in; what stands in their directories is still theirs
	PublicAddress            string        `json:"publicAddress"`
	PassivePorts             Ports         `json:"passivePorts"`
	TLS                      string        `json:"tls"`
	Certificate              string        `json:"certificate"`
	PrivateKey               string        `json:"privateKey"`
	IdleTimeout              Duration      `json:"idleTimeout"`
	StallTimeout             Duration      `json:"stallTimeout"`
	LoginTimeout             Duration      `json:"loginTimeout"`
	MaxConnections           int           `json:"maxConnections"`
	MaxConnectionsPerAddress int           `json:"maxConnectionsPerAddress"`
	Banner                   string        `json:"banner"`
	TrustHangups             bool          `json:"trustHangups"`
	ActiveMode               bool          `json:"activeMode"`
	CheckDataAddress         bool          `json:"checkDataAddress"`
}

// UserConfig is one user: a password or the hash of one, and a directory of their own.
type UserConfig struct {
	Name         string `json:"name"`
	Password     string `json:"password,omitempty"`
	PasswordHash string `json:"passwordHash,omitempty"`
	Directory    string `json:"directory"`
	Readable     bool   `json:"readable"`
	TrustHangups bool   `json:"trustHangups"`
}

// FilesConfig says which files are taken, when, and how much room they may use.
type FilesConfig struct {
	Ignore             []*string `json:"ignore"`
	Acknowledge        string    `json:"acknowledge"` // auto, stored or delivered
	AcknowledgeTimeout Duration  `json:"acknowledgeTimeout"`
	Settle             Duration  `json:"settle"`
	Quiet              Duration  `json:"quiet"`
	MaxSize            Size      `json:"maxSize"`
	SpoolLimit         Size      `json:"spoolLimit"`
	MinFree            Size      `json:"minFree"`
	PartialExpiry      Duration  `json:"partialExpiry"`
	MaxFiles           int       `json:"maxFiles"`
	MaxFolders         int       `json:"maxFolders"`
	MaxTotal           int       `json:"maxTotal"` // of all users together
}

// MessageConfig says how a file becomes a message.
type MessageConfig struct {
	Content      string `json:"content"` // auto, inline or bulk
	ContentField string `json:"contentField"`
	URLField     string `json:"urlField"`
	Order        string `json:"order"` // node, user or file
}

// BulkConfig says how files get into bulk data storage.
type BulkConfig struct {
	Accelerate bool `json:"accelerate"`
}

// StatusConfig says where the page with the node's status is, and who may see it.
type StatusConfig struct {
	Port     int    `json:"port"` // 0: there is none
	Password string `json:"password"`
}

// Problem is one thing that is not right with a config.
type Problem struct {
	Level    slog.Level // how much it matters: a part that does not work is an error
	Path     string     // where, as in "ftp.users[2].directory"
	Value    string     // what stands there, shortened, and never a secret
	Expected string     // what would be right
	Effect   string     // what the node does about it
}

func (p Problem) String() string {
	return fmt.Sprintf("%s is %s: expected %s; %s", p.Path, p.Value, p.Expected, p.Effect)
}

// log writes p as one line.
func (p Problem) log(log *slog.Logger) {
	attrs := []any{"path", p.Path}
	for _, a := range [][2]string{{"value", p.Value}, {"expected", p.Expected}, {"effect", p.Effect}} {
		if a[1] != "" {
			attrs = append(attrs, a[0], a[1])
		}
	}
	log.Log(context.Background(), p.Level, "the config is not right here", attrs...)
}

// parseConfig reads the node's merged config. What is not valid is left out, as told by the problems, and the rest
// stands: a bad value by its default, a bad user by none (see FTPConfig.LeftOut). The Config is always one that can run,
// even if it has no user.
func parseConfig(raw json.RawMessage) (Config, []Problem) {
	doc, problems := validate(raw)
	var config Config
	text, err := json.Marshal(doc)
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		// The schema lets through only what fits, so this is a fault of ours; not one to stop the node for.
		problems = append(problems, Problem{Level: slog.LevelError, Path: "config", Value: "not readable: " + err.Error(),
			Expected: "what config.schema.json says", Effect: "every key has its default"})
		doc, _ = validate(nil)
		text, _ = json.Marshal(doc)
		config = Config{}
		_ = json.Unmarshal(text, &config)
	}
	c := &checker{problems: problems}
	c.users(&config.FTP)
	c.ftp(&config.FTP)
	c.files(&config.Files)
	c.message(&config.Message)
	return config, c.problems
}

// checker finds what a schema cannot say.
type checker struct{ problems []Problem }

func (c *checker) add(path, value, expected, effect string) {
	c.problems = append(c.problems, Problem{Level: slog.LevelError, Path: path, Value: value, Expected: expected, Effect: effect})
}

// users leaves out the users that clash with one before them or whose directory is not one, and leaves no nil. Of those that
// are left out, the ones stay in LeftOut whose directory is nobody else's.
func (c *checker) users(f *FTPConfig) {
	var good, bad []*UserConfig
	for i, u := range f.Users {
		if u == nil {
			continue // left out by validate
		}
		if u.Password == "" && u.PasswordHash == "" { // likewise
			u.Directory = cmp.Or(u.Directory, u.Name)
			bad = append(bad, u)
			continue
		}
		at := func(key string) string { return fmt.Sprintf("ftp.users[%d].%s", i, key) }
		if u.Directory == "" {
			u.Directory = u.Name
			if !cleanDirectory(u.Directory) {
				c.add(at("directory"), "missing", "a directory, since the name "+shown(u.Name)+" cannot be one", leftOut)
				continue
			}
		}
		if !cleanDirectory(u.Directory) {
			c.add(at("directory"), shown(u.Directory),
				`a path like "scanner" or "plant-7/line-2": no "..", no "/" at its ends, no part that begins with a dot`, leftOut)
			continue
		}
		if c.clash(at, u, good) {
			bad = append(bad, &UserConfig{Name: u.Name, Directory: u.Directory})
			continue
		}
		good = append(good, u)
	}
	f.Users = good
	for _, u := range bad {
		shared := slices.ContainsFunc(slices.Concat(good, f.LeftOut), func(o *UserConfig) bool { return overlap(u.Directory, o.Directory) })
		if cleanDirectory(u.Directory) && !shared {
			f.LeftOut = append(f.LeftOut, u)
		}
	}
}

func (c *checker) clash(at func(string) string, u *UserConfig, others []*UserConfig) bool {
	for _, o := range others {
		switch {
		case u.Name == o.Name:
			c.add(at("name"), shown(u.Name), "a name that no other user has", leftOut)
			return true
		case overlap(u.Directory, o.Directory):
			c.add(at("directory"), shown(u.Directory),
				fmt.Sprintf("a directory of its own, apart from %s of the user %s", shown(o.Directory), shown(o.Name)), leftOut)
			return true
		}
	}
	return false
}

func overlap(a, b string) bool { return within(a, b) || within(b, a) }

func within(inner, outer string) bool { return inner == outer || strings.HasPrefix(inner, outer+"/") }

// cleanDirectory reports whether d names a place below the drop directory in one way only.
func cleanDirectory(d string) bool {
	if !utf8.ValidString(d) || d == "" || path.IsAbs(d) || path.Clean(d) != d || strings.ContainsRune(d, '\\') {
		return false
	}
	for part := range strings.SplitSeq(d, "/") {
		// A part with a dot in front would be hidden from the watcher, "." and ".." among them.
		if strings.HasPrefix(part, ".") || len(part) > 255 {
			return false
		}
	}
	return true
}

var hostName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?$`)

func (c *checker) ftp(f *FTPConfig) {
	if a := f.PublicAddress; a != "" {
		_, err := netip.ParseAddr(a)
		onlyNumbers := strings.Trim(a, "0123456789.") == ""
		if (onlyNumbers && err != nil) || !hostName.MatchString(a) {
			c.add("ftp.publicAddress", shown(a), `an IPv4 address like "192.0.2.10" or a host name like "ftp.example.com"`,
				"clients are told the address on which their connection came in")
			f.PublicAddress = ""
		}
	}
	if (f.Certificate == "") != (f.PrivateKey == "") {
		// The schema has told it, unless one of the two is there and empty.
		c.add("ftp.certificate", "without its pair", "certificate and privateKey, both or neither", selfSigned)
		f.Certificate, f.PrivateKey = "", ""
	}
	if isPEM(f.Certificate) && isPEM(f.PrivateKey) {
		// The text of this error names the kind of trouble and nothing of the key.
		if _, err := tls.X509KeyPair([]byte(f.Certificate), []byte(f.PrivateKey)); err != nil {
			c.add("ftp.certificate", secret, "a certificate chain as PEM text with the private key that belongs to it ("+err.Error()+")", selfSigned)
			f.Certificate, f.PrivateKey = "", ""
		}
	}
}

func isPEM(s string) bool { return strings.Contains(s, "-----BEGIN ") }

func (c *checker) files(f *FilesConfig) {
	good := []*string{} // not nil: an empty list ignores nothing, none at all would be the default
	for i, pattern := range f.Ignore {
		if pattern == nil {
			continue // left out by validate
		}
		if _, err := path.Match(*pattern, "x"); err != nil {
			c.add(fmt.Sprintf("files.ignore[%d]", i), shown(*pattern), `a pattern like "*.tmp" or "~*", each [ with its ]`, "this pattern is left out")
			continue
		}
		good = append(good, pattern)
	}
	f.Ignore = good
}

func (c *checker) message(m *MessageConfig) {
	use := func(path, value, expected string) {
		c.add(path, shown(value), expected, "contentField and urlField keep their defaults")
		m.ContentField, m.URLField = schemaDefault("message", "contentField"), schemaDefault("message", "urlField")
	}
	switch {
	case echofile.IsKey(m.ContentField):
		use("message.contentField", m.ContentField, "a key that the message does not have yet")
	case echofile.IsKey(m.URLField):
		use("message.urlField", m.URLField, "a key that the message does not have yet")
	case m.ContentField == m.URLField:
		use("message.urlField", m.URLField, "another key than contentField, so that a reader need not guess which of the two it holds")
	}
}

const (
	leftOut    = "this user is left out"
	selfSigned = "a self-signed certificate is used"
	secret     = "(not shown)"
)
