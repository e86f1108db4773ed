// Command configdoc makes everything that follows from deploy/config.schema.json. It is run in deploy/ by go generate.
//
//   - The config table in each of the docs, between the lines <!-- config:begin --> and <!-- config:end -->.
//   - config.template.json, the schema as it is registered: EchoStream's Terraform provider takes at most 4,096
//     characters, so all that explains (titles, descriptions, examples, defaults) is left out.
//   - register.variables.json, the variables of CreateManagedNodeType in register.graphql.
//
// The same schema gives the same bytes on every machine. A doc without the two lines is an error.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// docs have the table: one for those who have the repository, one for those who have only the node type.
var docs = []string{"CONFIG.md", "NODE_TYPE.md"}

func main() {
	if err := generate("."); err != nil {
		fmt.Fprintln(os.Stderr, "configdoc:", err)
		os.Exit(1)
	}
}

// generate writes all that is out of date in the directory dir.
func generate(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "config.schema.json"))
	if err != nil {
		return err
	}
	schema, err := parse(text)
	if err != nil {
		return fmt.Errorf("config.schema.json: %w", err)
	}
	table, err := table(schema)
	if err != nil {
		return fmt.Errorf("config.schema.json: %w", err)
	}
	for _, name := range docs {
		doc, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		changed, err := insert(doc, table)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := update(filepath.Join(dir, name), changed); err != nil {
			return err
		}
	}
	template, err := template(schema)
	if err != nil {
		return err
	}
	if err := update(filepath.Join(dir, "config.template.json"), append(template, '\n')); err != nil {
		return err
	}
	// The node type's README has its table by now.
	readme, err := os.ReadFile(filepath.Join(dir, "NODE_TYPE.md"))
	if err != nil {
		return err
	}
	variables, err := variables(schema, template, readme)
	if err != nil {
		return err
	}
	return update(filepath.Join(dir, "register.variables.json"), variables)
}

// update leaves a file alone that holds data already.
func update(name string, data []byte) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return os.WriteFile(name, data, 0o644)
}
