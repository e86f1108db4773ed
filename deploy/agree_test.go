package deploy_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2"
	gqlast "github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator/rules"
	"go.yaml.in/yaml/v3"

	"github.com/ftpnode/ftpnode/deploy"
	"github.com/ftpnode/ftpnode/deploy/internal/compat"
	"github.com/ftpnode/ftpnode/echostream/node"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}

func decode(t *testing.T, text string) any {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal([]byte(text), &value))
	return value
}

// schemaErrors holds a config against a schema in a file.
func schemaErrors(t *testing.T, file string, config any) string {
	t.Helper()
	tree, err := jsonschema.UnmarshalJSON(strings.NewReader(readFile(t, file)))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("mem:schema.json", tree))
	schema, err := compiler.Compile("mem:schema.json")
	require.NoError(t, err)
	if err := schema.Validate(config); err != nil {
		return err.Error()
	}
	return ""
}

// ports are the FTP port and then the passive ones, data is where the volume is mounted.
type facts struct {
	ports []int
	data  string
}

func span(t *testing.T, text string) []int {
	t.Helper()
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		to = from
	}
	first, err := strconv.Atoi(from)
	require.NoError(t, err, text)
	last, err := strconv.Atoi(to)
	require.NoError(t, err, text)
	require.LessOrEqual(t, first, last)
	var all []int
	for p := first; p <= last; p++ {
		all = append(all, p)
	}
	return all
}

// Ports and volume stand in many places; each is held against the program and its schema.
func TestPortsAndMountsAgree(t *testing.T) {
	want := program(t)
	for name, read := range map[string]func(*testing.T) facts{
		"Dockerfile": dockerfile, "compose.yaml": compose, "Terraform, the node type": terraformType,
		"Terraform, the node": terraformNode, "register.variables.json": variables,
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, want, read(t)) })
	}
	t.Run("NODE_TYPE.md", func(t *testing.T) {
		text := readFile(t, "NODE_TYPE.md")
		for _, what := range []string{"`/data`", "`2121`", "`30000` to `30009`"} {
			assert.Contains(t, text, what)
		}
	})
}

// program is what the program does without any setting: the defaults of its variables and of the schema.
func program(t *testing.T) facts {
	t.Helper()
	name := filepath.Join("..", "cmd", "ftpnode", "main.go")
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	require.NoError(t, err)
	defaults := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool { // cmp.Or(getenv("NAME"), "default")
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		inner, ok := call.Args[0].(*ast.CallExpr)
		value, isText := call.Args[1].(*ast.BasicLit)
		if !ok || !isText || len(inner.Args) != 1 {
			return true
		}
		if variable, ok := inner.Args[0].(*ast.BasicLit); ok {
			key, err := strconv.Unquote(variable.Value)
			require.NoError(t, err)
			defaults[key], err = strconv.Unquote(value.Value)
			require.NoError(t, err)
		}
		return true
	})
	require.Contains(t, defaults, "FTPNODE_FTP_ADDR", "%s no longer says its default as cmp.Or(getenv(…), …)", name)

	passive := decode(t, deploy.ConfigSchema())
	for _, key := range []string{"properties", "ftp", "properties", "passivePorts", "default"} {
		object, ok := passive.(map[string]any)
		require.True(t, ok, key)
		passive = object[key]
	}
	return facts{
		append(span(t, strings.TrimPrefix(defaults["FTPNODE_FTP_ADDR"], ":")), span(t, passive.(string))...),
		node.DefaultDir,
	}
}

func dockerfile(t *testing.T) facts {
	t.Helper()
	text := readFile(t, filepath.Join("..", "Dockerfile"))
	text = text[strings.LastIndex(text, "\nFROM "):] // the last stage is the image
	expose := regexp.MustCompile(`(?m)^EXPOSE (.+)$`).FindAllStringSubmatch(text, -1)
	require.Len(t, expose, 1)
	var f facts
	for _, ports := range strings.Fields(expose[0][1]) {
		f.ports = append(f.ports, span(t, ports)...)
	}
	volume := regexp.MustCompile(`(?m)^VOLUME (.+)$`).FindAllStringSubmatch(text, -1)
	require.Len(t, volume, 1)
	f.data = volume[0][1]
	return f
}

func compose(t *testing.T) facts {
	t.Helper()
	var file struct {
		Services map[string]struct {
			Ports, Volumes []string
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(readFile(t, "compose.yaml")), &file))
	node, ok := file.Services["ftpnode"]
	require.True(t, ok)
	var f facts
	for _, mapping := range node.Ports { // 127.0.0.1:HOST:CONTAINER
		parts := strings.Split(mapping, ":")
		require.Len(t, parts, 3, mapping)
		assert.Equal(t, "127.0.0.1", parts[0], "a demo is not for the network")
		assert.Equal(t, parts[1], parts[2], mapping)
		f.ports = append(f.ports, span(t, parts[2])...)
	}
	require.Len(t, node.Volumes, 1)
	_, f.data, _ = strings.Cut(node.Volumes[0], ":")
	return f
}

func terraformType(t *testing.T) facts {
	t.Helper()
	m, err := readModule("terraform")
	require.NoError(t, err)
	const resource = "echostream_managed_node_type.this"
	values := map[string]any{"image_uri": image, "data_mount": true}
	return gather(t, m.attribute(t, resource, "port_requirements", values), m.attribute(t, resource, "mount_requirements", values), "container_port")
}

func terraformNode(t *testing.T) facts {
	t.Helper()
	m, err := readModule("terraform")
	require.NoError(t, err)
	const resource = "echostream_managed_node.this"
	values := map[string]any{"image_uri": image, "data_mount": true, "node": map[string]any{"name": "plant-7-ftp"}}
	ports := m.attribute(t, resource, "ports", values)
	for _, p := range ports.([]any) {
		assert.Equal(t, p.(map[string]any)["container_port"], p.(map[string]any)["host_port"])
	}
	return gather(t, ports, m.attribute(t, resource, "mounts", values), "container_port")
}

func variables(t *testing.T) facts {
	t.Helper()
	v := decode(t, readFile(t, "register.variables.json")).(map[string]any)
	text := readFile(t, "register.graphql")
	_, requirement, ok := strings.Cut(text, "| .mountRequirements = [")
	require.True(t, ok, "register.graphql no longer tells how to ask for a mount")
	_, target, _ := strings.Cut(requirement, `target: "`)
	target, _, _ = strings.Cut(target, `"`)
	require.Contains(t, text, `"target": "`+target+`"`, "that of the node")
	require.Empty(t, v["mountRequirements"])
	return gather(t, v["portRequirements"], []any{map[string]any{"target": target}}, "containerPort")
}

func gather(t *testing.T, ports, mounts any, key string) facts {
	t.Helper()
	var f facts
	for _, p := range ports.([]any) {
		assert.Equal(t, "tcp", p.(map[string]any)["protocol"])
		f.ports = append(f.ports, int(p.(map[string]any)[key].(float64)))
	}
	require.Len(t, mounts, 1)
	f.data = mounts.([]any)[0].(map[string]any)["target"].(string)
	return f
}

// Both ways to register say the same.
func TestRegistrationsAgree(t *testing.T) {
	v := decode(t, readFile(t, "register.variables.json")).(map[string]any)
	m, err := readModule("terraform")
	require.NoError(t, err)
	const resource = "echostream_managed_node_type.this"
	values := map[string]any{"image_uri": image, "data_mount": false}
	for attribute, variable := range map[string]string{"name": "name", "description": "description", "readme": "readme", "send_message_type": "sendMessageType"} {
		assert.Equal(t, m.attribute(t, resource, attribute, values), v[variable], attribute)
	}
	assert.JSONEq(t, m.attribute(t, resource, "config_template", values).(string), v["configTemplate"].(string))
	for attribute, variable := range map[string]string{"port_requirements": "portRequirements", "mount_requirements": "mountRequirements"} {
		snake, err := json.Marshal(m.attribute(t, resource, attribute, values))
		require.NoError(t, err)
		assert.Equal(t, decode(t, strings.ReplaceAll(string(snake), "container_port", "containerPort")), v[variable], attribute)
	}
}

// register.graphql is held against the part of EchoStream's public schema that it uses.
func TestRegisterGraphQL(t *testing.T) {
	schema, err := gqlparser.LoadSchema(&gqlast.Source{Name: "echostream.graphql", Input: readFile(t, filepath.Join("testdata", "echostream.graphql"))})
	require.NoError(t, err)
	document, errs := gqlparser.LoadQueryWithRules(schema, readFile(t, "register.graphql"), rules.NewDefaultRules())
	require.Empty(t, errs)

	v := decode(t, readFile(t, "register.variables.json")).(map[string]any)
	operation := document.Operations.ForName("CreateNodeType")
	require.NotNil(t, operation)
	var declared []string
	for _, d := range operation.VariableDefinitions {
		declared = append(declared, d.Variable)
		assert.Contains(t, v, d.Variable, "register.variables.json leaves it out")
	}
	for name := range v {
		assert.Contains(t, declared, name)
	}
}

// The template is the schema: nothing that is valid under one is refused by the other.
func TestTemplateIsTheSchema(t *testing.T) {
	schema, template := decode(t, deploy.ConfigSchema()), decode(t, readFile(t, "config.template.json"))
	assert.Empty(t, compat.Breaks(schema, template))
	assert.Empty(t, compat.Breaks(template, schema))
}

// A node keeps its config over an update of its image: each schema that was ever released is held against
// this one. Before a release, copy config.schema.json to testdata/schema/v<N>.json; never change one that is there.
func TestOldConfigsStayValid(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("testdata", "schema", "v*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, names)
	current := decode(t, deploy.ConfigSchema())
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			old := decode(t, readFile(t, name))
			assert.Empty(t, compat.Breaks(old, current))
			sameBounds(t, "", old, current)
		})
	}
	configs, err := filepath.Glob(filepath.Join("testdata", "config", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, configs)
	for _, name := range configs {
		t.Run(filepath.Base(name), func(t *testing.T) {
			config := decode(t, readFile(t, name))
			assert.Empty(t, schemaErrors(t, "config.schema.json", config))
			assert.Empty(t, schemaErrors(t, "config.template.json", config))
		})
	}
}

// sameBounds holds what an older schema says of bounds, in words only at first, against those that the program checks.
func sameBounds(t *testing.T, path string, old, current any) {
	before, is := old.(map[string]any), current.(map[string]any)
	for _, keyword := range []string{"x-duration", "x-size", "x-ports"} {
		if bounds, ok := is[keyword].([]any); ok {
			assert.Contains(t, before["description"], fmt.Sprintf("From %v to %v.", bounds[0], bounds[1]), path)
		}
	}
	properties, _ := before["properties"].(map[string]any)
	for key, member := range properties {
		sameBounds(t, path+"."+key, member, is["properties"].(map[string]any)[key])
	}
}

// What the docs show as configs are valid ones, the demo's too.
func TestConfigsInDocs(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```json\n(.*?)\n *```")
	found := 0
	for _, name := range []string{"CONFIG.md", "NODE_TYPE.md", "README.md"} {
		for _, block := range blocks.FindAllStringSubmatch(readFile(t, name), -1) {
			found++
			assert.Empty(t, schemaErrors(t, "config.schema.json", decode(t, block[1])), "%s: %s", name, block[1])
		}
	}
	assert.GreaterOrEqual(t, found, 3)
	assert.Empty(t, schemaErrors(t, "config.schema.json", decode(t, readFile(t, "compose.config.json"))))
}

// EchoStream shows NODE_TYPE.md without the files beside it.
func TestNodeTypeHasNoLinks(t *testing.T) {
	assert.NotRegexp(t, `\]\(([^)#:]+)\)`, readFile(t, "NODE_TYPE.md"))
}

// compose.yaml passes what EchoStream passes: the seven variables, the cloud knowing the same.
func TestComposeEnvironment(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			Command     []string
			Hostname    string
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(readFile(t, "compose.yaml")), &file))
	node, cloud := file.Services["ftpnode"], file.Services["echolocal"]
	assert.Empty(t, node.Command, "EchoStream passes no arguments")
	for _, name := range []string{"CLIENT_ID", "NODE", "PASSWORD", "TENANT", "USER_NAME", "USER_POOL_ID"} {
		assert.NotEmpty(t, node.Environment[name], name)
		assert.Equal(t, node.Environment[name], cloud.Environment[name], name)
	}
	assert.Equal(t, node.Environment["NODE"], node.Hostname)
	listen := cloud.Command[slices.Index(cloud.Command, "-listen")+1]
	endpoint := fmt.Sprintf("http://echolocal:%s", strings.TrimPrefix(listen, "0.0.0.0:"))
	assert.Equal(t, endpoint+"/graphql", node.Environment["APPSYNC_ENDPOINT"])
	assert.Equal(t, endpoint, node.Environment["AWS_ENDPOINT_URL"])
}
