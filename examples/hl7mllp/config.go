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
	TLS struct {
		Certificate string `json:"certificate"` // a path on the volume; "" for no TLS
		PrivateKey  string `json:"privateKey"`
	} `json:"tls"`
	MaxConnections     int           `json:"maxConnections"`
	Acknowledge        string        `json:"acknowledge"` // auto, stored or delivered
	AcknowledgeTimeout time.Duration `json:"acknowledgeTimeout"`
}
