package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// templateLimit is how many characters EchoStream's Terraform provider takes, of a config as well as of its schema.
const templateLimit = 4096

// explains are the keywords that no config is refused for by JSON Schema; those with x- are the program's own.
var explains = []string{"$comment", "$id", "default", "description", "examples", "title", "writeOnly",
	"x-duration", "x-otherwise", "x-ports", "x-size", "x-strict"}

// template is the schema without what explains it, in one line.
func template(schema *object) ([]byte, error) {
	text, err := compact(strip(schema))
	if err != nil {
		return nil, err
	}
	if n := len([]rune(string(text))); n > templateLimit {
		return nil, fmt.Errorf("config.template.json has %d characters, EchoStream takes %d: the schema must become simpler", n, templateLimit)
	}
	return text, nil
}

func strip(value any) any {
	switch value := value.(type) {
	case *object:
		kept := &object{values: map[string]any{}}
		for _, key := range value.keys {
			if slices.Contains(explains, key) {
				continue
			}
			child := value.values[key]
			if properties, ok := child.(*object); ok && key == "properties" {
				// Its keys are names of the config, of which one might be called "title".
				child = stripEach(properties)
			} else {
				child = strip(child)
			}
			kept.keys = append(kept.keys, key)
			kept.values[key] = child
		}
		return kept
	case []any:
		list := make([]any, len(value))
		for i, item := range value {
			list[i] = strip(item)
		}
		return list
	}
	return value
}

func stripEach(o *object) *object {
	kept := &object{keys: o.keys, values: map[string]any{}}
	for _, key := range o.keys {
		kept.values[key] = strip(o.values[key])
	}
	return kept
}

// ftpPort is the image's; a test holds it against the Dockerfile and the program.
const ftpPort = 2121

type port struct {
	ContainerPort int    `json:"containerPort"`
	Description   string `json:"description"`
	Protocol      string `json:"protocol"`
}

// variables are those of CreateManagedNodeType in register.graphql. What is the tenant's own is
// left as a word in capital letters.
func variables(schema *object, template, readme []byte) ([]byte, error) {
	ports := []port{{ftpPort, "FTP and FTPS: log-in and commands", "tcp"}}
	first, last, err := passivePorts(schema)
	if err != nil {
		return nil, err
	}
	for p := first; p <= last; p++ {
		ports = append(ports, port{p, "FTP data (passive mode): best the same host port; clients are told the one that it is mapped to", "tcp"})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err = e.Encode(map[string]any{
		"tenant":            "TENANT",
		"name":              "ftpnode-v1",
		"description":       "FTP server: every file dropped by FTP or FTPS becomes an echo.file message, unchanged",
		"imageUri":          "IMAGE_URI",
		"sendMessageType":   "echo.file",
		"configTemplate":    string(template),
		"readme":            string(readme),
		"portRequirements":  ports,
		"mountRequirements": []any{}, // the Managed App that EchoStream has released starts no node with a mount
	})
	return b.Bytes(), err
}

// passivePorts are those of the schema's default.
func passivePorts(schema *object) (first, last int, err error) {
	node := schema
	for _, key := range []string{"properties", "ftp", "properties", "passivePorts"} {
		if node = node.object(key); node == nil {
			return 0, 0, fmt.Errorf("expected the key ftp.passivePorts, with a default")
		}
	}
	from, to, _ := strings.Cut(node.text("default"), "-")
	if first, err = strconv.Atoi(from); err == nil {
		last, err = strconv.Atoi(to)
	}
	if err != nil || last < first {
		return 0, 0, fmt.Errorf("the default of ftp.passivePorts is %q, expected as in 30000-30009", node.text("default"))
	}
	return first, last, nil
}
