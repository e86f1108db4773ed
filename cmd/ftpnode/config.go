package main

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ftpnode/ftpnode/echostream/echofile"
	"github.com/ftpnode/ftpnode/echostream/node/nodeconfig"
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
	Users                    []UserConfig     `json:"users"`
	LeftOut                  []UserConfig     `json:"-"` // may not log in; what stands in their directories is still theirs
	PublicAddress            string           `json:"publicAddress"`
	PassivePorts             nodeconfig.Ports `json:"passivePorts"`
	TLS                      string           `json:"tls"`
	Certificate              string           `json:"certificate"`
	PrivateKey               string           `json:"privateKey"`
	IdleTimeout              time.Duration    `json:"idleTimeout"`
	StallTimeout             time.Duration    `json:"stallTimeout"`
	LoginTimeout             time.Duration    `json:"loginTimeout"`
	MaxConnections           int              `json:"maxConnections"`
	MaxConnectionsPerAddress int              `json:"maxConnectionsPerAddress"`
	Banner                   string           `json:"banner"`
	TrustHangups             bool             `json:"trustHangups"`
	ActiveMode               bool             `json:"activeMode"`
	CheckDataAddress         bool             `json:"checkDataAddress"`
}

// UserConfig is one user: a password or the hash of one, and a directory of their own.
type UserConfig struct {
	Name         string `json:"name"`
	Password     string `json:"password"`
	PasswordHash string `json:"passwordHash"`
	Directory    string `json:"directory"`
	Readable     bool   `json:"readable"`
	TrustHangups bool   `json:"trustHangups"`
}

// FilesConfig says which files are taken, when, and how much room they may use.
type FilesConfig struct {
	Ignore             []string      `json:"ignore"`
	Acknowledge        string        `json:"acknowledge"` // auto, stored or delivered
	AcknowledgeTimeout time.Duration `json:"acknowledgeTimeout"`
	Settle             time.Duration `json:"settle"`
	Quiet              time.Duration `json:"quiet"`
	MaxSize            int64         `json:"maxSize"` // bytes, as the next two
	SpoolLimit         int64         `json:"spoolLimit"`
	MinFree            int64         `json:"minFree"`
	PartialExpiry      time.Duration `json:"partialExpiry"`
	MaxFiles           int           `json:"maxFiles"`
	MaxFolders         int           `json:"maxFolders"`
	MaxTotal           int           `json:"maxTotal"` // of all users together
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

// checkConfig finds what a schema cannot say.
func checkConfig(c *Config, r *nodeconfig.Report) {
	checkUsers(&c.FTP, r)
	if a := c.FTP.PublicAddress; a != "" && !isHost(a) {
		r.Reject("ftp.publicAddress", &c.FTP.PublicAddress, "it is neither an IPv4 address nor a host name", `write it as in "192.0.2.10" or "ftp.example.com"`)
	}
	checkCertificate(&c.FTP, r)
	ignore := []string{} // not nil: an empty list ignores nothing, none at all would be the default
	for i, pattern := range c.Files.Ignore {
		if _, err := path.Match(pattern, "x"); err != nil {
			r.Add(nodeconfig.Problem{Level: slog.LevelError, Key: r.Item("files.ignore", i), Value: strconv.Quote(pattern),
				Rule: "a [ or a \\ has no end", Write: `write it as in "*.tmp" or "[0-9]*"`, Effect: "This pattern is left out"})
			continue
		}
		ignore = append(ignore, pattern)
	}
	c.Files.Ignore = ignore
	checkFields(&c.Message, r)
	if p := c.FTP.PassivePorts; c.Status.Port > 0 && c.Status.Port >= p.First && c.Status.Port <= p.Last {
		r.Reject("status.port", &c.Status.Port, "it is one of ftp.passivePorts", "write a port outside of them")
	}
}

// checkUsers leaves out the users that clash with one before them or whose directory is not one. Of those that are left out, the ones stay in LeftOut
// whose directory is known and nobody else's.
func checkUsers(f *FTPConfig, r *nodeconfig.Report) {
	var good, bad []UserConfig
	for i, u := range f.Users {
		key, value, directory := r.Item("ftp.users", i)+".directory", strconv.Quote(u.Directory), u.Directory
		u.Directory = cmp.Or(directory, u.Name)
		rule, write := "", "write a directory of its own"
		clash := slices.IndexFunc(good, func(o UserConfig) bool { return o.Name == u.Name || overlap(o.Directory, u.Directory) })
		switch {
		case !cleanDirectory(u.Directory) && directory == "":
			value, rule, write = "", "is missing, and the name "+strconv.Quote(u.Name)+" cannot be one", `write it as in "scanner"`
		case !cleanDirectory(u.Directory):
			rule, write = `it must have no "..", no "/" at its ends and no part that begins with a dot`, `write it as in "scanner" or "plant-7/line-2"`
		case clash >= 0 && good[clash].Name == u.Name:
			key, value, rule, write = r.Item("ftp.users", i)+".name", strconv.Quote(u.Name), "another user has this name", "write one that no other user has"
		case clash >= 0:
			value, rule = strconv.Quote(u.Directory), fmt.Sprintf("the user %q has %q", good[clash].Name, good[clash].Directory)
		default:
			good = append(good, u)
			continue
		}
		r.Add(nodeconfig.Problem{Level: slog.LevelError, Key: key, Value: value, Rule: rule, Write: write, Effect: "This user is left out"})
		bad = append(bad, UserConfig{Name: u.Name, Directory: u.Directory})
	}
	for _, u := range r.LeftOut("ftp.users") {
		name, _ := u["name"].(string)
		directory, _ := u["directory"].(string)
		if _, given := u["directory"]; !given {
			directory = name
		}
		bad = append(bad, UserConfig{Name: name, Directory: directory})
	}
	f.Users = good
	for _, u := range bad {
		shared := slices.ContainsFunc(slices.Concat(good, f.LeftOut), func(o UserConfig) bool { return overlap(u.Directory, o.Directory) })
		if u.Name != "" && cleanDirectory(u.Directory) && !shared {
			f.LeftOut = append(f.LeftOut, u)
		}
	}
}

// overlap reports whether one directory is the other or within it.
func overlap(a, b string) bool {
	return strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/")
}

// cleanDirectory reports whether d names a place below the drop directory in one way only, and one that the watcher sees.
func cleanDirectory(d string) bool {
	return fs.ValidPath(d) && !strings.Contains(d, `\`) && !slices.ContainsFunc(strings.Split(d, "/"), func(part string) bool {
		return part[0] == '.' || len(part) > 255
	})
}

var hostName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?$`)

// isHost reports whether a is an IPv4 address or a host name.
func isHost(a string) bool {
	_, err := netip.ParseAddr(a)
	onlyNumbers := strings.Trim(a, "0123456789.") == ""
	return hostName.MatchString(a) && !(onlyNumbers && err != nil)
}

// checkCertificate leaves out a certificate that does not go with its key. Files are the server's to look at.
func checkCertificate(f *FTPConfig, r *nodeconfig.Report) {
	rule, write := "", "write a certificate chain and its private key, both as PEM text or as the paths of PEM files"
	isPEM := func(s string) bool { return strings.Contains(s, "-----BEGIN ") }
	switch {
	case (f.Certificate == "") != (f.PrivateKey == ""):
		rule = "it is without its pair"
	case isPEM(f.Certificate) && isPEM(f.PrivateKey):
		// The text of this error names the kind of trouble and nothing of the key.
		if _, err := tls.X509KeyPair([]byte(f.Certificate), []byte(f.PrivateKey)); err != nil {
			rule = "it cannot be used with ftp.privateKey (" + err.Error() + ")"
		}
	}
	if rule != "" {
		r.Reject("ftp.certificate", &f.Certificate, rule, write)
		f.PrivateKey = ""
	}
}

// checkFields sees to it that a reader need not guess which of two things a key of the message holds.
func checkFields(m *MessageConfig, r *nodeconfig.Report) {
	const content, url = "message.contentField", "message.urlField"
	if echofile.IsKey(m.ContentField) {
		r.Reject(content, &m.ContentField, "the message has this key already", "write another one")
	}
	if echofile.IsKey(m.URLField) {
		r.Reject(url, &m.URLField, "the message has this key already", "write another one")
	}
	if m.ContentField == m.URLField {
		r.Reject(content, &m.ContentField, "it is the same as urlField", "write another one for each")
		r.Reject(url, &m.URLField, "it is the same as contentField", "write another one for each")
	}
}
