// Package deploy holds what a tenant needs to register and run ftpnode, and hands the program the one file of it
// that both share: the JSON Schema of the node's config.
package deploy

import _ "embed"

//go:embed config.schema.json
var configSchema string

// ConfigSchema is config.schema.json: the node type's config template, by which the program validates
// the config it gets and from which it takes the defaults.
func ConfigSchema() string { return configSchema }
