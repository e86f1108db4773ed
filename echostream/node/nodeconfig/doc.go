// Package nodeconfig validates a node's config against its bridge's JSON Schema and decodes it into the bridge's own struct.
//
// A bad config never stops a node, and never opens it: what is not valid is replaced or left out, the rest is used, and each [Problem] says which
// rule was broken, what to write, and what runs instead. What can mean only one thing (a number in quotes, blanks, another case) is understood, with
// a WARNING. No text of a problem holds a secret.
//
// What stands in for a value that is not valid is the schema's x-strict, if there is one, and else its default. A value without either is left out;
// if it is in an element of a list, the element is, and the others keep working. A key that the schema does not have is ignored; if it looks like one
// with x-strict that is missing, that one is set to it.
//
// A schema may use all of JSON Schema but $ref. Its title, description, examples and default are what the problems quote. These
// keywords are added to it; other programs ignore them:
//
//	"x-duration": ["10s", "24h"]  text like "1h30m", within these bounds; time.Duration in Go
//	"x-size": ["1B", "100GB"]     text like "1.5 GiB", or a number of bytes; int64 in Go
//	"x-ports": [1024, 65535]      text like "30000-30009" or "40000"; [Ports] in Go
//	"x-strict": "required"        what runs instead of a value that cannot be understood, where the default would open something
//	"x-otherwise": "No limit"     what is done without a value, as a sentence
//	"writeOnly": true             of JSON Schema itself: a secret, never shown
//
// A bridge decodes into plain Go types:
//
//	type Config struct {
//		Directory string        `json:"directory"`
//		Quiet     time.Duration `json:"quiet"` // x-duration
//	}
//
//	config, problems := nodeconfig.Parse(schema, definition.Config, func(c *Config, r *nodeconfig.Report) {
//		if !filepath.IsAbs(c.Directory) {
//			r.Reject("directory", &c.Directory, "it is not absolute", `write it as in "/data/in"`)
//		}
//	})
package nodeconfig
