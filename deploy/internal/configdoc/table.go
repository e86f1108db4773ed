package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	begin = "<!-- config:begin -->"
	end   = "<!-- config:end -->"
)

// insert puts the table between the two lines that mark its place.
func insert(doc, table []byte) ([]byte, error) {
	from, to := bytes.Index(doc, []byte(begin+"\n")), bytes.Index(doc, []byte(end+"\n"))
	if from < 0 || to < from {
		return nil, fmt.Errorf("expected the lines %s and %s, in this order", begin, end)
	}
	if bytes.Count(doc, []byte(begin)) != 1 || bytes.Count(doc, []byte(end)) != 1 {
		return nil, fmt.Errorf("expected the lines %s and %s once each", begin, end)
	}
	return slices.Concat(doc[:from+len(begin)+1], []byte("\n"), table, []byte("\n"), doc[to:]), nil
}

// table is the schema's keys as a Markdown table: those with a value of their own, in the order of the schema.
func table(schema *object) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("| Key | What it is | Values | Default | Example |\n|---|---|---|---|---|\n")
	if err := rows(&b, schema, ""); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func rows(b *bytes.Buffer, parent *object, path string) error {
	properties := parent.object("properties")
	if properties == nil {
		return nil
	}
	required, _ := parent.values["required"].([]any)
	for _, name := range properties.keys {
		key := strings.TrimPrefix(path+"."+name, ".")
		node := properties.object(name)
		if node == nil {
			return fmt.Errorf("%s: expected an object", key)
		}
		if node.object("properties") != nil {
			if err := rows(b, node, key); err != nil {
				return err
			}
			continue
		}
		if err := row(b, node, key, slices.Contains(required, any(name))); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if items := node.object("items"); items != nil {
			if err := rows(b, items, key+"[]"); err != nil {
				return err
			}
		}
	}
	return nil
}

func row(b *bytes.Buffer, node *object, key string, required bool) error {
	if node.text("description") == "" {
		return errors.New("expected a description")
	}
	values, err := values(node)
	if err != nil {
		return err
	}
	standard := "none"
	if value, ok := node.values["default"]; ok && value != "" {
		if standard, err = code(value); err != nil {
			return err
		}
	}
	if required {
		standard = "**required**"
	}
	examples, _ := node.values["examples"].([]any)
	if len(examples) == 0 {
		return errors.New("expected an example")
	}
	example, err := code(examples[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", key, cell(node.text("description")), values, standard, example)
	return nil
}

// values says what a key takes.
func values(node *object) (string, error) {
	if choices, ok := node.values["enum"].([]any); ok {
		var texts []string
		for _, choice := range choices {
			text, err := code(choice)
			if err != nil {
				return "", err
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, ", "), nil
	}
	least, most := node.values["minimum"], node.values["maximum"]
	switch kind := node.values["type"].(type) {
	case []any:
		// The only key of two kinds is a size: text with a unit, or the number of bytes.
		if slices.Equal(kind, []any{"string", "integer"}) {
			return "size", nil
		}
	case string:
		switch {
		case kind == "boolean":
			return "`true`, `false`", nil
		case kind == "integer" && least != nil && most != nil:
			return fmt.Sprintf("%v to %v", least, most), nil
		case kind == "integer":
			return "whole number", nil
		case kind == "array":
			return "list", nil
		case kind == "string" && strings.Contains(node.text("pattern"), "(ms|s|m|h)"):
			return "duration", nil
		case kind == "string":
			return "text", nil
		}
	}
	return "", fmt.Errorf("the type is %v, expected one that the table has a word for", node.values["type"])
}

// code is a value as it stands in the config.
func code(value any) (string, error) {
	text, err := compact(value)
	if err != nil {
		return "", err
	}
	return cell("`" + string(text) + "`"), nil
}

// cell escapes what would end a cell of the table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}
