package deploy

// The config tables in the docs, the config template and the variables of register.graphql all come from
// config.schema.json and NODE_TYPE.md.
//go:generate go run ./internal/configdoc
