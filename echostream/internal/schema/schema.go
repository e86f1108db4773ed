// Package schema holds the part of EchoStream's GraphQL schema that a node uses, as text. The client's
// operations are compiled against it and echotest validates queries with it, so the two cannot drift apart.
package schema

import _ "embed"

// Text is the schema in the GraphQL schema definition language.
//
//go:embed schema.graphql
var Text string
