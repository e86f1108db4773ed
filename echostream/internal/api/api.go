// Package api holds the GraphQL operations that a node sends to EchoStream: the .graphql files here, and
// generated.go, the typed functions that genqlient compiles from them against ../schema.
package api

//go:generate go tool -modfile=../../../tools/go.mod genqlient
