package main

import (
	_ "embed"
	"time"
)

// schema describes the node's config: node validates by it, and a node type in EchoStream is registered with it.
//
//go:embed config.schema.json
var schema string

// Config is the node's config, valid throughout and with every default in place.
type Config struct {
	Quiet time.Duration `json:"quiet"` // how long a file was left alone when it is finished
}
